"""Searches the Hub for weights of the zoo, and reads what a repository says of its weights."""

import os
from typing import TYPE_CHECKING, Any

from zoo.errors import CorruptWeights, InputError
from zoo.files import openable, refuse_placeholder
from zoo.folder import CARD, CONFIG, METRICS, TENSORS, weights_record
from zoo.hub.cache import snapshot
from zoo.hub.client import api, check_names, with_retries
from zoo.hub.errors import hub_errors
from zoo.hub.fetching import FetchedWeights, get_config, get_file, read, sizes_of
from zoo.hub.foreign import LIBRARIES
from zoo.hub.revisions import ask, commit_of

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo


def peek(repo: str, revision: str | None = None, *, token: str | None = None) -> FetchedWeights:
    """The folder of one commit with config.json, metrics.json and the card, without the tensors.

    Raises: as :func:`fetch`.
    """
    check_names(repo, revision)
    commit, listing = commit_of(repo, revision, token)
    folder = snapshot(repo, commit.sha)
    if not commit.cached:
        listing = listing or ask(repo, commit.sha, token)
        sizes = sizes_of(repo, listing)
        config = get_config(repo, commit.sha, sizes, listing, token)
        wanted = [name for name in (METRICS, CARD) if name in sizes]
    else:
        get_file(repo, commit.sha, CONFIG, token)
        config = read(repo, commit.sha)
        wanted = [name for name in (METRICS, CARD) if os.path.lexists(folder / name)]
    for name in wanted:
        get_file(repo, commit.sha, name, token)
    return FetchedWeights(folder, commit.sha, revision, config)


def describe(repo: str, revision: str | None = None, *, token: str | None = None) -> dict[str, Any]:
    """What a repository says of its weights; the tensors are not fetched.

    Returns:
        ``repo``, ``commit``, ``config`` (config.json), ``metrics`` (a list of records),
        ``card`` (its Markdown) and ``tensors`` (name to ``dtype`` and ``shape``, from the header of
        the safetensors file). All of it is what the repository says, and nobody checked it.

    Raises: as :func:`fetch`.
    """
    fetched = peek(repo, revision, token=token)
    folder = fetched.folder
    record = weights_record(folder, "hub", fetched.config)
    card = folder / CARD
    return {
        "repo": repo,
        "commit": fetched.commit,
        "config": dict(fetched.config.facts),
        "metrics": [metric.to_dict() for metric in record.metrics],
        "card": card.read_text("utf-8", "replace") if card.is_file() else "",
        "tensors": _header(repo, fetched, token),
    }


def search(
    words: str = "",
    *,
    author: str | None = None,
    library: str | None = None,
    limit: int = 20,
    token: str | None = None,
) -> list[dict[str, Any]]:
    """Repositories on the Hub that say they are the zoo's, the most downloaded first.

    Args:
        library: those of another library instead, one of :data:`LIBRARIES`.

    Returns:
        For each ``name`` (``hf-hub:org/name``), ``repo``, ``commit``, ``tags`` (of its card: the
        family and the model are among them), ``datasets``, ``licence``, ``downloads``, ``likes``,
        ``modified`` (a date), ``private``, ``gated`` and ``figures`` (of its model-index).

    Raises:
        InputError: the zoo has no names for that library.
        HubUnreachable, HubBusy, AccessDenied: the Hub does not answer.
    """
    if library is not None and library not in LIBRARIES:
        raise InputError(
            f"the zoo loads nothing of {library!r:.80}; libraries: {', '.join(LIBRARIES)}"
        )
    form = "hf-hub:{}" if library is None else LIBRARIES[library]
    with hub_errors():
        found = list(
            api(token).list_models(
                search=words or None,
                author=author,
                filter=library or "latentzoo",
                sort="downloads",
                limit=limit,
                full=True,
                cardData=True,
            )
        )
        return [_found(model, form) for model in found]


def _header(repo: str, fetched: FetchedWeights, token: str | None) -> dict[str, dict[str, Any]]:
    """Names, dtypes and shapes of the tensors; only the header of the file is fetched."""
    path = fetched.folder / TENSORS
    if not path.exists():
        head = with_retries(
            lambda: api(token).parse_safetensors_file_metadata(
                repo, TENSORS, revision=fetched.commit
            ),
            repo,
            fetched.commit,
        )
        return {k: {"dtype": t.dtype, "shape": list(t.shape)} for k, t in head.tensors.items()}
    from safetensors import SafetensorError, safe_open

    refuse_placeholder(path, CorruptWeights)
    try:
        with openable(path) as name, safe_open(name, "np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: {"dtype": part.get_dtype(), "shape": list(part.get_shape())}
                for name, part in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise CorruptWeights(f"{path} is not a valid safetensors file: {error}") from None


def _found(model: "ModelInfo", form: str) -> dict[str, Any]:
    card = model.card_data
    results = getattr(card, "eval_results", None) or ()
    return {
        "name": form.format(model.id),
        "repo": str(model.id),
        "commit": model.sha,
        "tags": [str(tag) for tag in getattr(card, "tags", None) or model.tags or ()],
        "datasets": _texts(getattr(card, "datasets", None)),
        "licence": getattr(card, "license", None),
        "downloads": model.downloads,
        "likes": model.likes,
        "modified": model.last_modified and f"{model.last_modified:%Y-%m-%d}",
        "private": bool(model.private),
        "gated": bool(model.gated),
        "figures": [
            {
                "name": str(r.metric_type),
                "title": str(r.metric_name or r.metric_type),
                "value": r.metric_value,
                "dataset": str(r.dataset_name),
            }
            for r in results
        ],
    }


def _texts(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else [str(value)] if value else []
