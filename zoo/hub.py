"""Weights on the Hugging Face Hub: found, fetched into the cache of the Hub's client, and checked.

A revision is resolved to a commit once, and all files are those of that commit. The cache is the
client's own (huggingface_hub), so that there is one on a machine::

    models--org--name/refs/main             the commit that the branch was seen at
                      snapshots/<commit>/   the files, as links to
                      blobs/<sha>           their bytes, called by sha256 (LFS) or by git's sha1

What a pinned and cached commit needs is read here, without a request and without the client, whose
import takes longer than loading a small model. The tensors are fetched last: a snapshot that has
them is whole. Nothing that comes from the Hub is trusted: it is never run, only the files of a
weights folder are fetched, and none larger than it may be.
"""

import contextlib
import errno
import hashlib
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from zoo.errors import (
    AccessDenied,
    CorruptWeights,
    HubBusy,
    HubError,
    HubUnreachable,
    InvalidConfig,
    InvalidName,
    PublishConflict,
    RepositoryNotFound,
    RevisionNotFound,
    StaleWeights,
    UnsafeWeights,
    WeightsNotFound,
    ZooError,
)
from zoo.files import openable, refuse_placeholder, write_atomically
from zoo.folder import (
    CARD,
    CONFIG,
    FILES,
    LIMITS,
    METRICS,
    PICKLES,
    TENSORS,
    VECTORS,
    FolderConfig,
    parse_config,
    read_json,
    weights_record,
)
from zoo.installing import install_command
from zoo.names import is_commit, is_repo, is_revision

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

_T = TypeVar("_T")

PAUSES = (1, 3)
"""Seconds between the tries when the Hub itself fails; a Retry-After may make them longer, up to
:data:`PATIENCE`."""
PATIENCE = 15


class Commit(NamedTuple):
    """What a revision is: a commit, its date if the Hub was asked, whether it is in the cache."""

    sha: str
    date: datetime | None
    cached: bool


class Fetched(NamedTuple):
    """Files of a commit in the cache, the commit, and the revision that was asked for."""

    folder: Path
    commit: str
    requested: str | None


class FetchedWeights(NamedTuple):
    """The same of a weights folder, with its config.json as it was read and checked."""

    folder: Path
    commit: str
    requested: str | None
    config: FolderConfig


def resolve(repo: str, revision: str | None = None, *, token: str | None = None) -> Commit:
    """The commit that ``revision`` (a branch, a tag, or a commit; ``main`` by default) is.

    A full commit sha is itself, without a request. When the Hub cannot be reached, the commit that
    the revision was last fetched at is taken, with a :class:`zoo.errors.StaleWeights` warning.

    Raises:
        RepositoryNotFound, RevisionNotFound, AccessDenied: what the Hub says.
        HubUnreachable, HubBusy: it says nothing, and nothing is in the cache.
    """
    _check_names(repo, revision)
    if is_commit(revision):
        return Commit(revision, None, _is_whole(_snapshot(repo, revision)))
    return _newest(repo, revision, token)[0]


def fetch(
    repo: str,
    revision: str | None = None,
    *,
    sha256: str | None = None,
    token: str | None = None,
    verify: bool = True,
    accept: Callable[[FolderConfig], object] = lambda config: None,
) -> FetchedWeights:
    """The weights folder of one commit, fetched unless it is in the cache.

    A file whose bytes are not those that the Hub, config.json or the record promise is dropped and
    fetched again once.

    Args:
        repo: ``org/name``.
        revision: a branch, a tag, or a full commit sha, which needs no request once it is cached.
        sha256: of the tensors, as the plugin's record has it.
        token: instead of the one that the client finds (``HF_TOKEN``, ``hf auth login``).
        verify: read all files that were in the cache already; loading verifies the tensors itself.
        accept: is given the config before any tensors are fetched, and may raise.

    Raises: as :func:`resolve`, and
        WeightsNotFound: the repository is not one of the zoo; the text says what it looks like.
        UnsafeWeights: it has a pickle.
        InvalidConfig: its config.json is not what it should be.
        CorruptWeights: the bytes are not those that were promised, twice.
        HubError: the cache cannot be written, or the Hub's answer makes no sense.
    """
    _check_names(repo, revision)
    commit, listing = _commit(repo, revision, token)
    folder = _snapshot(repo, commit.sha)
    if not commit.cached:
        listing = listing or _ask(repo, commit.sha, token)
        config = _download(repo, commit.sha, listing, sha256, token, accept)
    elif verify or not _is_intact(folder / CONFIG):
        config = _mend(repo, commit.sha, token)
    else:
        config = _read(repo, commit.sha)
    _refuse_others(config, sha256)
    if not is_commit(revision) and listing is not None:
        _remember(repo, revision, commit.sha)
        _say(
            f"hf-hub:{repo}@{revision or 'main'} is commit {commit.sha}"
            + (f" of {commit.date:%Y-%m-%d}" if commit.date else "")
            + f". To stay with it: hf-hub:{repo}@{commit.sha}"
        )
    return FetchedWeights(folder, commit.sha, revision, config)


def fetch_files(
    repo: str,
    names: Iterable[str],
    revision: str | None = None,
    *,
    token: str | None = None,
) -> Fetched:
    """Files of one commit of any repository, for plugins that load what is not the zoo's.

    They are what the Hub has: each is checked against the sha that its blob is called by, and
    fetched again once if it is damaged. A pinned commit whose files are cached needs no request.

    Raises: as :func:`resolve`, and
        WeightsNotFound: the commit has no such file.
        UnsafeWeights: one of the names is a pickle's.
        CorruptWeights: the bytes are not those that were promised, twice.
    """
    _check_names(repo, revision)
    names = tuple(names)
    if pickles := [name for name in names if name.lower().endswith(PICKLES)]:
        raise UnsafeWeights(f"{pickles[0]!r:.200} may be a pickle, which the zoo never reads")
    commit, listing = _commit(repo, revision, token)
    for name in names:
        _get(repo, commit.sha, name, token)
    if listing is not None:
        _remember(repo, revision, commit.sha)
        _say(f"hf-hub:{repo}@{revision or 'main'} is commit {commit.sha}")
    return Fetched(_snapshot(repo, commit.sha), commit.sha, revision)


def peek(repo: str, revision: str | None = None, *, token: str | None = None) -> FetchedWeights:
    """The folder of one commit with config.json, metrics.json and the card, without the tensors.

    Raises: as :func:`fetch`.
    """
    _check_names(repo, revision)
    commit, listing = _commit(repo, revision, token)
    folder = _snapshot(repo, commit.sha)
    if not commit.cached:
        listing = listing or _ask(repo, commit.sha, token)
        sizes = _sizes(repo, listing)
        config = _get_config(repo, commit.sha, sizes, listing, token)
        wanted = [name for name in (METRICS, CARD) if name in sizes]
    else:
        _get(repo, commit.sha, CONFIG, token)
        config = _read(repo, commit.sha)
        wanted = [name for name in (METRICS, CARD) if os.path.lexists(folder / name)]
    for name in wanted:
        _get(repo, commit.sha, name, token)
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
    words: str = "", *, author: str | None = None, limit: int = 20, token: str | None = None
) -> list[dict[str, Any]]:
    """Repositories on the Hub that say they are the zoo's, the most downloaded first.

    Returns:
        For each ``name`` (``hf-hub:org/name``), ``repo``, ``commit``, ``tags`` (of its card: the
        family and the model are among them), ``datasets``, ``licence``, ``downloads``, ``likes``,
        ``modified`` (a date), ``private``, ``gated`` and ``figures`` (of its model-index).

    Raises:
        HubUnreachable, HubBusy, AccessDenied: the Hub does not answer.
    """
    with hub_errors():
        found = list(
            _api(token).list_models(
                search=words or None,
                author=author,
                filter="latentzoo",
                sort="downloads",
                limit=limit,
                full=True,
                cardData=True,
            )
        )
        return [_found(model) for model in found]


def cache_folder() -> Path:
    """Where the Hub's client keeps what it fetched: its own rules, without importing it."""
    if client := sys.modules.get("huggingface_hub.constants"):
        return Path(client.HF_HUB_CACHE)
    base = os.getenv("XDG_CACHE_HOME", os.path.join(os.path.expanduser("~"), ".cache"))
    home = _expanded(os.getenv("HF_HOME", os.path.join(base, "huggingface")))
    legacy = os.getenv("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    return Path(_expanded(os.getenv("HF_HUB_CACHE", legacy)))


# -- which commit --------------------------------------------------------------------------------


def _commit(
    repo: str, revision: str | None, token: str | None
) -> tuple[Commit, "ModelInfo | None"]:
    if is_commit(revision):
        return resolve(repo, revision), None
    return _newest(repo, revision, token)


def _newest(
    repo: str, revision: str | None, token: str | None
) -> tuple[Commit, "ModelInfo | None"]:
    """The commit of a branch or a tag and the Hub's listing of it, or of the cache without one."""
    try:
        listing = _ask(repo, revision, token)
    except (HubUnreachable, HubBusy) as error:
        sha = _remembered(repo, revision)
        if sha is None:
            raise
        fetched = datetime.fromtimestamp((_snapshot(repo, sha) / CONFIG).lstat().st_mtime)
        warnings.warn(
            f"the newest commit could not be asked for: {str(error).splitlines()[0]}\n"
            f"Taken from the cache: hf-hub:{repo}@{sha}, which was fetched on "
            f"{fetched:%Y-%m-%d}; {revision or 'main'} may have moved since",
            StaleWeights,
            stacklevel=6,  # whoever calls zoo.load
        )
        return Commit(sha, None, True), None
    whole = _is_whole(_snapshot(repo, listing.sha))
    return Commit(listing.sha, listing.last_modified, whole), listing


def _ask(repo: str, revision: str | None, token: str | None) -> "ModelInfo":
    """What the Hub has of a revision: its commit, and its files with their sizes. One request."""
    from huggingface_hub import constants

    named = revision or "main"  # without a name some mirrors do not know which is meant
    listing = _tried(
        lambda: _api(token).model_info(
            repo, revision=named, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        ),
        repo,
        revision,
    )
    asked = revision if is_commit(revision) else listing.sha
    if not is_commit(listing.sha) or listing.sha != asked:
        raise HubError(
            f"the Hub says that {repo}@{revision or 'main'} is the commit {listing.sha!r:.100}, "
            + ("which is another" if is_commit(revision) else "expected 40 hexadecimal digits")
        )
    return listing


def _remember(repo: str, revision: str | None, sha: str) -> None:
    """Write down what a revision is, where the client does; only for what is fetched whole."""
    path = _repo_folder(repo) / "refs" / (revision or "main")
    with contextlib.suppress(OSError):  # a cache that is read-only serves all the same
        if not path.is_file() or path.read_text() != sha:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, sha.encode())


def _remembered(repo: str, revision: str | None) -> str | None:
    try:
        sha = (_repo_folder(repo) / "refs" / (revision or "main")).read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return sha if is_commit(sha) and _is_whole(_snapshot(repo, sha)) else None


# -- files ---------------------------------------------------------------------------------------


def _download(
    repo: str,
    sha: str,
    listing: "ModelInfo",
    sha256: str | None,
    token: str | None,
    accept: Callable[[FolderConfig], object],
) -> FolderConfig:
    """Fetch what a commit has of a weights folder, from what costs least to the tensors."""
    sizes = _sizes(repo, listing)
    config = _get_config(repo, sha, sizes, listing, token)
    for path in sorted(sizes):
        if path.lower().endswith(PICKLES):
            raise UnsafeWeights(
                f"hf-hub:{repo}@{sha} has {path!r:.200}, which is a pickle or may be one: reading "
                "it could run any code. Nothing was loaded. If you trust the rest, ask its owner "
                "to take that file out"
            )
    _refuse_others(config, sha256)
    accept(config)
    if TENSORS not in sizes:
        raise WeightsNotFound(f"hf-hub:{repo}@{sha} has no {TENSORS}")
    stored = next(
        (f.lfs.sha256 for f in listing.siblings if f.rfilename == TENSORS and f.lfs), None
    )
    for what, got, expected in (
        ("size", sizes[TENSORS], config.size),
        ("sha256", stored, config.sha256),
    ):
        if got is not None and got != expected:
            raise CorruptWeights(
                f"hf-hub:{repo}@{sha}: {TENSORS} has the {what} {_clean(got, 80)} on the Hub, its "
                f"config.json says {expected!s:.80}. Nothing was fetched; its owner should publish "
                "it again"
            )
    for name in (METRICS, CARD, VECTORS, TENSORS):
        if name in sizes:
            _get(repo, sha, name, token)
    return _mend(repo, sha, token, config)


def _get_config(
    repo: str, sha: str, sizes: Mapping[str, Any], listing: "ModelInfo", token: str | None
) -> FolderConfig:
    if CONFIG not in sizes:
        raise _foreign(repo, listing)
    _get(repo, sha, CONFIG, token)
    return _read(repo, sha, listing)


def _get(repo: str, sha: str, name: str, token: str | None) -> None:
    """Have one file, fetched again once if its bytes are not those that its name promises."""
    path = _snapshot(repo, sha) / name
    damaged = os.path.lexists(path) and not _is_intact(path)
    if damaged:
        _drop(path, repo)
    elif path.exists():
        return
    for _ in range(2):
        try:
            _tried(lambda: _api(token).hf_hub_download(repo, name, revision=sha), repo, sha)
        except HubError as error:
            if not damaged:
                raise
            raise type(error)(
                f"{name} of hf-hub:{repo}@{sha} was damaged in the cache, its sha256 another than "
                f"the Hub's. It was dropped, and could not be fetched again:\n{error}"
            ) from error
        if _is_intact(path):
            return
        _drop(path, repo)
    raise CorruptWeights(
        f"{name} of hf-hub:{repo}@{sha} came damaged, twice: its sha256 is another than the "
        "Hub says. Something on the way changes them. Nothing was loaded; try again from another "
        "network"
    )


def _mend(
    repo: str, sha: str, token: str | None, config: FolderConfig | None = None
) -> FolderConfig:
    """Check every file of a snapshot, and fetch again what is damaged; its config.

    ``config``: if it was read already, from a file that was whole.

    Raises:
        CorruptWeights: the commit itself is not consistent.
    """
    folder = _snapshot(repo, sha)
    for again in (True, False):
        for name in FILES:
            if os.path.lexists(folder / name):
                _get(repo, sha, name, token)
        config = config or _read(repo, sha)
        name = _promise_of_name(folder / TENSORS)
        got = name if name and len(name) == 64 else _sha256(folder / TENSORS)
        if got == config.sha256:
            return config
        if again and name is None:
            # Where there are no links, only the two together can tell; either may be the bad one.
            _drop(folder / TENSORS, repo)
            _drop(folder / CONFIG, repo)
            _get(repo, sha, CONFIG, token)
            _get(repo, sha, TENSORS, token)
            config = None
            continue
        break
    raise CorruptWeights(
        f"hf-hub:{repo}@{sha}: {TENSORS} has sha256 {got}, its config.json says {config.sha256}. "
        "It was not damaged on the way: its owner should publish it again. Nothing was loaded"
    )


def _read(repo: str, sha: str, listing: "ModelInfo | None" = None) -> FolderConfig:
    """The checked config.json of a snapshot.

    Raises:
        WeightsNotFound: it is the config of something else.
        InvalidConfig: what it says is not of the kinds that a config has.
    """
    facts = read_json(_snapshot(repo, sha) / CONFIG)
    if not _is_ours(facts):
        raise _foreign(repo, listing, facts)
    return parse_config(facts, f"{CONFIG} of hf-hub:{repo}@{sha}")


def _refuse_others(config: FolderConfig, sha256: str | None) -> None:
    """Raises: CorruptWeights: the tensors have another sha256 than the plugin's record."""
    if sha256 is not None and config.sha256 != sha256:
        raise CorruptWeights(
            f"{config.where} says that the tensors have sha256 {config.sha256}, the "
            f"plugin's record says {sha256}: these are other weights. Nothing was loaded"
        )


def _sizes(repo: str, listing: "ModelInfo") -> dict[str, int | None]:
    """Every file of a commit with its size, if the Hub says it; none of ours over its limit."""
    sizes = {str(file.rfilename): file.size for file in listing.siblings or ()}
    if any(type(size) not in (int, type(None)) for size in sizes.values()):
        raise HubError(f"hf-hub:{repo}: the Hub's list of its files has sizes that are no numbers")
    for name, most in LIMITS.items():
        size = sizes.get(name)
        if size is not None and size > most:
            raise InvalidConfig(
                f"hf-hub:{repo}: {name} has {size:,} bytes, expected at most {most:,}. Nothing was "
                "fetched"
            )
    return sizes


def _is_ours(config: Mapping[str, Any]) -> bool:
    return {"api_version", "model", "config"} <= config.keys()


def _foreign(
    repo: str, listing: "ModelInfo | None", config: Mapping[str, Any] | None = None
) -> ZooError:
    """The error for a repository that is not the zoo's: what it looks like, and what loads it."""
    files = {str(f.rfilename) for f in listing.siblings or ()} if listing else set()
    library = (listing and listing.library_name) or _library(files, config or {})
    ways = {
        "timm": f"zoo.load('timm:hf-hub:{repo}') ({install_command('latentzoo-timm')})",
        "transformers": f"transformers.AutoModel.from_pretrained({repo!r})",
        "diffusers": f"diffusers.DiffusionPipeline.from_pretrained({repo!r})",
        "sentence-transformers": f"sentence_transformers.SentenceTransformer({repo!r})",
    }
    lines = [
        f"hf-hub:{repo} has no weights of the zoo: "
        + ("its config.json is of something else" if CONFIG in files or config else
           "it has no config.json")
    ]  # fmt: skip
    if library in ways:
        lines.append(f"It looks like a repository of {library}. Try: {ways[library]}")
    elif library and library != "latentzoo":
        lines.append(f"It says that it is a repository of {_clean(library, 50)}")
    elif pickles := sorted(f for f in files if f.lower().endswith(PICKLES)):
        return UnsafeWeights(
            f"{lines[0]}, and it has {pickles[0]!r:.200}, which is a pickle or may be one: reading "
            "it could run any code, and the zoo never does"
        )
    elif files:
        lines.append(f"It has: {_clean(', '.join(sorted(files)), 300)}")
    return WeightsNotFound("\n".join(lines))


def _library(files: set[str], config: Mapping[str, Any]) -> str | None:
    if "model_index.json" in files or "_diffusers_version" in config:
        return "diffusers"
    if "modules.json" in files:
        return "sentence-transformers"
    if "pretrained_cfg" in config or "architecture" in config:
        return "timm"
    return "transformers" if {"model_type", "architectures"} & config.keys() else None


def _header(repo: str, fetched: Fetched, token: str | None) -> dict[str, dict[str, Any]]:
    """Names, dtypes and shapes of the tensors, by a request for the head of the file."""
    path = fetched.folder / TENSORS
    if not path.exists():
        head = _tried(
            lambda: _api(token).parse_safetensors_file_metadata(
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


def _found(model: "ModelInfo") -> dict[str, Any]:
    card = model.card_data
    results = getattr(card, "eval_results", None) or ()
    return {
        "name": f"hf-hub:{model.id}",
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


# -- the cache -----------------------------------------------------------------------------------


def _repo_folder(repo: str) -> Path:
    return cache_folder() / f"models--{repo.replace('/', '--')}"


def _snapshot(repo: str, sha: str) -> Path:
    return _repo_folder(repo) / "snapshots" / sha


def _is_whole(folder: Path) -> bool:
    return (folder / TENSORS).exists() and (folder / CONFIG).exists()


def _promise_of_name(path: Path) -> str | None:
    """The sha256 or git sha1 that a file's blob is called by; None where there are no links."""
    try:
        name = Path(os.readlink(path)).name  # one step: a blob may be a link to a store itself
    except OSError:
        return None
    return name if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", name) else None


def _is_intact(path: Path) -> bool:
    """Whether the bytes are those that the blob's name promises, if it promises anything."""
    name = _promise_of_name(path)
    if name is None:
        return path.exists()
    try:
        return name == (_sha256(path) if len(name) == 64 else _git_sha1(path))
    except FileNotFoundError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_sha1(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _drop(path: Path, repo: str) -> None:
    """Take a damaged file out of the cache, so that nobody else loads it either."""
    try:
        blob = path.parent / os.readlink(path)
    except OSError:
        blob = path
    with hub_errors(repo):
        # A link of the user's own may lead anywhere: what is not the cache's is not removed.
        if blob == path or Path(os.path.normpath(blob)).parent == _repo_folder(repo) / "blobs":
            blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


# -- the client ----------------------------------------------------------------------------------


def _api(token: str | None) -> "HfApi":
    from huggingface_hub import HfApi

    import zoo

    return HfApi(token=token, library_name="latentzoo", library_version=zoo.__version__)


def _check_names(repo: str, revision: str | None) -> None:
    if not is_repo(repo):
        raise InvalidName(f"expected a repository on the Hub, org/name, got {repo!r:.120}")
    if revision is not None and not is_revision(revision):
        raise InvalidName(f"expected a branch, a tag or a commit of {repo}, got {revision!r:.120}")


def _tried(call: Callable[[], _T], repo: str, revision: str | None) -> _T:
    """What ``call`` of the client returns, after a pause or two when the Hub itself fails."""
    with hub_errors(repo, revision), _watched():
        for pause in PAUSES:
            try:
                return call()
            except Exception as error:
                wait = _wait(error, pause)
                if wait is None:
                    raise
            time.sleep(wait)
        return call()


def _wait(error: Exception, pause: float) -> float | None:
    """Seconds until a request that ended so is worth another try, or None if it is not."""
    from huggingface_hub.errors import HfHubHTTPError

    if not isinstance(error, HfHubHTTPError):
        broken = type(error).__name__ in ("RemoteProtocolError", "ReadError")
        short = type(error) is OSError and error.errno is None  # fewer bytes than announced
        return pause if broken or short else None
    if error.response.status_code not in (408, 429, 500, 502, 503, 504):
        return None
    asked = _retry_after(error.response)
    return pause if asked is None else asked if asked <= PATIENCE else None


_WATCHING = threading.Lock()


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Look at every answer before the client does, which trusts it too far.

    It waits as long as it is asked to, an hour too; this gives up instead. And it calls a file in
    the cache by the ETag as it came, so that ``../../x`` would be written outside. One thread at a
    time, since the session of the client is one for all.
    """
    from huggingface_hub import close_session, get_session
    from huggingface_hub.utils import _http, hf_raise_for_status

    def look(response: Any) -> None:
        if response.status_code == 429 and (_retry_after(response) or 0) > PATIENCE:
            response.read()
            hf_raise_for_status(response)
        for header in ("ETag", "X-Linked-Etag", "X-Repo-Commit"):
            value = response.headers.get(header, "")
            if response.request.method == "HEAD" and not re.fullmatch(r'(W/)?"?[\w-]*"?', value):
                raise HubError(
                    f"{_host()} answers with the {header} {value!r:.100}, which is no name of a "
                    "file. Nothing was written.\nCheck HF_ENDPOINT and the proxy"
                )

    def make_watched() -> Any:
        made = make()
        made.event_hooks["response"].append(look)
        return made

    with _WATCHING:
        make, client = _http._GLOBAL_CLIENT_FACTORY, get_session()
        client.event_hooks["response"].append(look)
        # After a refused connection the client makes a new session, which is to be watched too.
        _http._GLOBAL_CLIENT_FACTORY = make_watched
        try:
            yield
        finally:
            _http._GLOBAL_CLIENT_FACTORY = make
            client.event_hooks["response"].remove(look)
            if get_session() is not client:
                close_session()


def _retry_after(response: Any) -> int | None:
    """Seconds that an answer asks to wait, by either of the headers that the Hub uses."""
    found = re.fullmatch(r"\s*(\d{1,7})\s*", response.headers.get("Retry-After", "")) or re.search(
        r";\s*r=0\s*;\s*t=(\d{1,7})", response.headers.get("RateLimit", "")
    )
    return int(found[1]) if found else None


def _say(text: str) -> None:
    import logging

    logging.getLogger("zoo").info(text)


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))


def _clean(text: object, most: int = 200) -> str:
    """What a server said, on one line and without control characters."""
    line = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "?" for c in line[:most])


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def hub_errors(repo: str | None = None, revision: str | None = None) -> Iterator[None]:
    """Turn whatever the Hub's client raises inside into the zoo's errors, chained.

    ``repo`` and ``revision`` are what it was asked for, for the texts.
    """
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        raise _translated(error, repo, revision) from error


def _translated(error: Exception, repo: str | None, revision: str | None) -> ZooError:
    from huggingface_hub import errors as hf

    chain = list(_chain(error))

    def first(*kinds: type[BaseException]) -> Any:
        return next((e for e in chain if isinstance(e, kinds)), None)

    what = f"hf-hub:{repo}" + (f"@{revision}" if revision else "") if repo else "the Hub"
    if answered := first(hf.HfHubHTTPError):
        return _refused(answered, repo, revision)
    if first(hf.OfflineModeIsEnabled):
        return HubUnreachable(
            f"{what}: the Hub was not asked, for HF_HUB_OFFLINE is set.\n"
            "Unset it, or name a commit that is in the cache"
        )
    if invalid := first(hf.HFValidationError):
        return InvalidName(f"{what}: {_clean(invalid)}")
    if first(hf.LocalTokenNotFoundError):
        return AccessDenied(f"{what} needs a token.\nType: hf auth login, or set HF_TOKEN")
    lost = first(hf.HTTPError, ConnectionError, TimeoutError)
    full = next((e for e in chain if getattr(e, "errno", None) in _FULL + _FORBIDDEN), None)
    if full and not lost:
        place = _clean(getattr(full, "filename", None) or cache_folder(), 300)
        return HubError(
            f"{what}: {place} cannot be written: {full.strerror}.\n"
            + ("Free some space there, or set" if full.errno in _FULL else "Set")
            + " HF_HOME to a folder on another disk"
        )
    if lost or first(hf.LocalEntryNotFoundError):
        reason = _clean(lost or error) or type(lost).__name__
        return HubUnreachable(
            f"{what}: {_host()} cannot be reached ({reason}).\n"
            "Check the connection, the proxy and HF_ENDPOINT, and try again"
        )
    if isinstance(error, OSError) and not isinstance(error, hf.FileMetadataError):
        return HubUnreachable(
            f"{what}: the download broke off ({_clean(error)}).\nTry again; nothing is kept of it"
        )
    # What is no JSON is no answer of a Hub: the page of a proxy, or of a network's login.
    kind = HubUnreachable if isinstance(error, ValueError) else HubError
    return kind(
        f"{what}: the answer of {_host()} makes no sense ({type(error).__name__}, "
        f"{_clean(error)}).\nIf HF_ENDPOINT or a proxy is set, check that the Hub is behind it"
    )


def _refused(error: Any, repo: str | None, revision: str | None) -> ZooError:
    """The error for an answer with a status of failure."""
    from huggingface_hub import errors as hf

    what = f"hf-hub:{repo}" if repo else "the Hub"
    status = error.response.status_code
    said = _clean(error.response.headers.get("X-Error-Message") or error.server_message or "")
    said = f": {said}" if said else ""
    if isinstance(error, hf.GatedRepoError):
        return AccessDenied(
            f"{what} is gated: its owner lets in who asks. Ask at {_host()}/{repo or ''}, "
            "then type: hf auth login"
        )
    if isinstance(error, hf.RepositoryNotFoundError):
        return RepositoryNotFound(
            f"{what}: the Hub has no such repository, or it is private and you are not let in.\n"
            "Check the name; for a private one type: hf auth login, or set HF_TOKEN"
        )
    if isinstance(error, hf.RevisionNotFoundError):
        return RevisionNotFound(
            f"{what} has no branch, tag or commit {revision or 'main'!r:.100}.\n"
            f"Its revisions: {_host()}/{repo or ''}/commits/main"
        )
    if isinstance(error, hf.EntryNotFoundError):
        return WeightsNotFound(f"{what}: the Hub does not have the file{said}")
    if status == 401:
        return AccessDenied(
            f"{what}: the Hub does not accept your token{said}.\n"
            "Type: hf auth login, or set HF_TOKEN to one that is valid"
        )
    if status == 403:
        return AccessDenied(
            f"{what}: your token does not allow this{said}.\n"
            "Type: hf auth login, with a token that has the right to it"
        )
    if status == 404:
        return RepositoryNotFound(f"{what} is not there{said}. Check the name")
    if status in (409, 412):
        return PublishConflict(
            f"{what} has changed meanwhile, or has this already{said}. Nothing was changed"
        )
    if status == 429:
        seconds = _retry_after(error.response)
        return HubBusy(
            f"{what}: the Hub has had too many requests from here.\nTry again "
            + (f"in {seconds} seconds" if seconds else "later")
        )
    if status >= 500 or status == 408:
        return HubUnreachable(
            f"{what}: {_host()} fails with status {status}{said}.\nTry again in some minutes; "
            "https://status.huggingface.co says whether it is known"
        )
    return HubError(f"{what}: the Hub refused this with status {status}{said}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(20):  # somebody else's exceptions could go in a circle
        if error is None or isinstance(error, ZooError):  # ours is what was done about before
            return
        yield error
        error = error.__cause__ or error.__context__


def _host() -> str:
    """The Hub's address, without a name and password that may be in it."""
    from urllib.parse import urlsplit

    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
