"""Fetches a commit's files into the cache of the Hub's client, and checks each of them.

The tensors are fetched last: a snapshot that has them is complete.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import (
    CorruptWeights,
    HubBusy,
    HubError,
    HubUnreachable,
    InvalidConfig,
    UnsafeWeights,
    WeightsNotFound,
)
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
)
from zoo.hub.cache import (
    file_sha256,
    is_intact,
    is_whole,
    promised_digest,
    remember,
    remembered,
    repo_folder,
    snapshot,
)
from zoo.hub.client import api, check_names, say, with_retries
from zoo.hub.errors import clean, hub_errors
from zoo.hub.foreign import foreign, is_ours
from zoo.hub.revisions import ask, commit_of
from zoo.names import is_commit

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo


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
    check_names(repo, revision)
    commit, listing = commit_of(repo, revision, token)
    folder = snapshot(repo, commit.sha)
    if not commit.cached:
        listing = listing or ask(repo, commit.sha, token)
        config = _download(repo, commit.sha, listing, sha256, token, accept)
    elif verify or not is_intact(folder / CONFIG):
        config = _mend(repo, commit.sha, token)
    else:
        config = read(repo, commit.sha)
    _refuse_others(config, sha256)
    if not is_commit(revision) and listing is not None:
        remember(repo, revision, commit.sha)
        say(
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

    They are what the Hub has: each is checked against the sha that its blob is named by, and
    fetched again once if it is damaged. A pinned commit whose files are cached needs no request.

    Raises: as :func:`resolve`, and
        WeightsNotFound: the commit has no such file.
        UnsafeWeights: one of the names is a pickle's.
        CorruptWeights: the bytes are not those that were promised, twice.
    """
    check_names(repo, revision)
    names = tuple(names)
    if pickles := [name for name in names if name.lower().endswith(PICKLES)]:
        raise UnsafeWeights(f"{pickles[0]!r:.200} may be a pickle, which the zoo never reads")
    commit, listing = commit_of(repo, revision, token, names)
    for name in names:
        get_file(repo, commit.sha, name, token)
    if listing is not None:
        remember(repo, revision, commit.sha)
        say(f"hf-hub:{repo}@{revision or 'main'} is commit {commit.sha}")
    return Fetched(snapshot(repo, commit.sha), commit.sha, revision)


def fetch_first(
    repo: str,
    choices: Sequence[Sequence[str]],
    revision: str | None = None,
    *,
    token: str | None = None,
) -> tuple[Fetched, tuple[str, ...]]:
    """The first of ``choices`` whose files are all in a commit, fetched; and which that was.

    For plugins that load what is not the zoo's, and lies in one of several ways. Of a pinned commit
    a choice that is cached is taken without a request.

    Raises: as :func:`fetch_files`, and
        WeightsNotFound: the commit has none of them.
        UnsafeWeights: it has a pickle in their place.
    """
    check_names(repo, revision)
    sha = revision if is_commit(revision) else None
    if sha is not None:
        for names in choices:
            if is_whole(snapshot(repo, sha), names):
                return fetch_files(repo, names, sha, token=token), tuple(names)
    try:
        listing = ask(repo, revision, token)
    except (HubUnreachable, HubBusy):
        for names in choices if sha is None else ():
            if remembered(repo, revision, names):  # says itself that it may be an old commit
                return fetch_files(repo, names, revision, token=token), tuple(names)
        raise
    commit, there = str(listing.sha), sizes_of(repo, listing).keys()
    for names in choices:
        if there >= set(names):
            fetched = fetch_files(repo, names, commit, token=token)
            if sha is None:
                remember(repo, revision, commit)
                say(f"hf-hub:{repo}@{revision or 'main'} is commit {commit}")
            return Fetched(fetched.folder, commit, revision), tuple(names)
    raise _none_of(repo, commit, choices, sorted(there))


def _none_of(
    repo: str, sha: str, choices: Sequence[Sequence[str]], there: Sequence[str]
) -> WeightsNotFound | UnsafeWeights:
    """The error for a commit that has none of the choices; a pickle in their place is named."""
    wanted = " or ".join(dict.fromkeys(names[0] for names in choices))
    places = {name.rpartition("/")[0] for names in choices for name in names}
    pickles = [name for name in there if name.lower().endswith(PICKLES)]
    beside = [name for name in pickles if name.rpartition("/")[0] in places]
    if beside and ".safetensors" in wanted:
        return UnsafeWeights(
            f"hf-hub:{repo}@{sha} has no {wanted}, and {beside[0]!r:.200} is a pickle or may be "
            "one: reading it could run any code, and the zoo never does"
        )
    return WeightsNotFound(f"hf-hub:{repo}@{sha} has no {wanted}")


def _download(
    repo: str,
    sha: str,
    listing: "ModelInfo",
    sha256: str | None,
    token: str | None,
    accept: Callable[[FolderConfig], object],
) -> FolderConfig:
    """Fetch the files of a weights folder that a commit has, the smallest first."""
    sizes = sizes_of(repo, listing)
    config = get_config(repo, sha, sizes, listing, token)
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
        (f.lfs.sha256 for f in listing.siblings or () if f.rfilename == TENSORS and f.lfs), None
    )
    for what, got, expected in (
        ("size", sizes[TENSORS], config.size),
        ("sha256", stored, config.sha256),
    ):
        if got is not None and got != expected:
            raise CorruptWeights(
                f"hf-hub:{repo}@{sha}: {TENSORS} has the {what} {clean(got, 80)} on the Hub, its "
                f"config.json says {expected!s:.80}. Nothing was fetched; its owner should publish "
                "it again"
            )
    for name in (METRICS, CARD, VECTORS, TENSORS):
        if name in sizes:
            get_file(repo, sha, name, token)
    return _mend(repo, sha, token, config)


def get_config(
    repo: str, sha: str, sizes: Mapping[str, Any], listing: "ModelInfo", token: str | None
) -> FolderConfig:
    if CONFIG not in sizes:
        raise foreign(repo, listing)
    get_file(repo, sha, CONFIG, token)
    return read(repo, sha, listing)


def get_file(repo: str, sha: str, name: str, token: str | None) -> None:
    """Fetch one file, and once more if its bytes do not have the digest in the blob's name."""
    path = snapshot(repo, sha) / name
    damaged = os.path.lexists(path) and not is_intact(path)
    if damaged:
        _drop(path, repo)
    elif path.exists():
        return
    for _ in range(2):
        try:
            with_retries(
                lambda: api(token).hf_hub_download(repo, name, revision=sha),
                repo,
                sha,
                reconnect=True,
            )
        except HubError as error:
            if not damaged:
                raise
            raise type(error)(
                f"{name} of hf-hub:{repo}@{sha} was damaged in the cache, its sha256 another than "
                f"the Hub's. It was dropped, and could not be fetched again:\n{error}"
            ) from error
        if is_intact(path):
            return
        _drop(path, repo)
    raise CorruptWeights(
        f"{name} of hf-hub:{repo}@{sha} arrived damaged, twice: its sha256 is another than the "
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
    folder, claimed = snapshot(repo, sha), ""
    for again in (True, False):
        for name in FILES:
            if os.path.lexists(folder / name):
                get_file(repo, sha, name, token)
        config = config or read(repo, sha)
        promised = promised_digest(folder / TENSORS)
        got = promised if promised and len(promised) == 64 else file_sha256(folder / TENSORS)
        claimed = config.sha256
        if got == claimed:
            return config
        if not again or promised is not None:
            break
        # Without links neither file has a digest in its name, so either may be the damaged one.
        for name in (TENSORS, CONFIG):
            _drop(folder / name, repo)
            get_file(repo, sha, name, token)
        config = None
    raise CorruptWeights(
        f"hf-hub:{repo}@{sha}: {TENSORS} has sha256 {got}, its config.json says {claimed}. "
        "It was not damaged on the way: its owner should publish it again. Nothing was loaded"
    )


def read(repo: str, sha: str, listing: "ModelInfo | None" = None) -> FolderConfig:
    """The checked config.json of a snapshot.

    Raises:
        WeightsNotFound: it is the config of something else.
        InvalidConfig: what it says is not of the kinds that a config has.
    """
    facts = read_json(snapshot(repo, sha) / CONFIG)
    if not is_ours(facts):
        raise foreign(repo, listing, facts)
    return parse_config(facts, f"{CONFIG} of hf-hub:{repo}@{sha}")


def _refuse_others(config: FolderConfig, sha256: str | None) -> None:
    """Raises: CorruptWeights: the tensors have another sha256 than the plugin's record."""
    if sha256 is not None and config.sha256 != sha256:
        raise CorruptWeights(
            f"{config.where} says that the tensors have sha256 {config.sha256}, the "
            f"plugin's record says {sha256}: these are other weights. Nothing was loaded"
        )


def sizes_of(repo: str, listing: "ModelInfo") -> dict[str, int | None]:
    """Every file of a commit with its size, if the Hub says it.

    Raises:
        InvalidConfig: a file of a weights folder is larger than it may be.
        HubError: the Hub's list has sizes that are no numbers.
    """
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


def _drop(path: Path, repo: str) -> None:
    """Take a damaged file out of the cache, so that nobody else loads it either."""
    try:
        blob = path.parent / os.readlink(path)
    except OSError:
        blob = path
    with hub_errors(repo):
        # A link of the user's own may lead anywhere: what is not the cache's is not removed.
        if blob == path or Path(os.path.normpath(blob)).parent == repo_folder(repo) / "blobs":
            blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
