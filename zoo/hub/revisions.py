"""Resolves a branch, a tag or a commit to a full commit sha, once, before any file is fetched."""

import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from zoo.errors import HubBusy, HubError, HubUnreachable, StaleWeights
from zoo.folder import CONFIG, TENSORS
from zoo.hub.cache import is_whole, remembered, snapshot
from zoo.hub.client import api, check_names, with_retries
from zoo.names import is_commit

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo


class Commit(NamedTuple):
    """A commit, its date if the Hub was asked, and whether it is in the cache."""

    sha: str
    date: datetime | None
    cached: bool


def resolve(repo: str, revision: str | None = None, *, token: str | None = None) -> Commit:
    """The commit that ``revision`` (a branch, a tag, or a commit; ``main`` by default) is.

    A full commit sha is itself, without a request. When the Hub cannot be reached, the commit that
    the revision was last fetched at is taken, with a :class:`zoo.errors.StaleWeights` warning.

    Raises:
        RepositoryNotFound, RevisionNotFound, AccessDenied: what the Hub says.
        HubUnreachable, HubBusy: it does not answer, and nothing is in the cache.
    """
    check_names(repo, revision)
    if is_commit(revision):
        return Commit(revision, None, is_whole(snapshot(repo, revision)))
    return newest(repo, revision, token)[0]


def commit_of(
    repo: str, revision: str | None, token: str | None, names: Sequence[str] = (CONFIG, TENSORS)
) -> tuple[Commit, "ModelInfo | None"]:
    if is_commit(revision):
        return resolve(repo, revision), None
    return newest(repo, revision, token, names)


def newest(
    repo: str, revision: str | None, token: str | None, names: Sequence[str] = (CONFIG, TENSORS)
) -> tuple[Commit, "ModelInfo | None"]:
    """The commit of a branch or a tag and the Hub's listing of it, or of the cache without one.

    ``names``: the files that the cache has to have for that.
    """
    try:
        listing = ask(repo, revision, token)
    except (HubUnreachable, HubBusy) as error:
        sha = remembered(repo, revision, names)
        if sha is None:
            raise
        fetched = datetime.fromtimestamp((snapshot(repo, sha) / names[0]).lstat().st_mtime)
        warnings.warn(
            f"the newest commit could not be asked for: {str(error).splitlines()[0]}\n"
            f"Taken from the cache: hf-hub:{repo}@{sha}, which was fetched on "
            f"{fetched:%Y-%m-%d}; {revision or 'main'} may have moved since",
            StaleWeights,
            stacklevel=6,  # whoever calls zoo.load
        )
        return Commit(sha, None, True), None
    sha = str(listing.sha)  # a commit, as was looked at
    return Commit(sha, listing.last_modified, is_whole(snapshot(repo, sha))), listing


def ask(repo: str, revision: str | None, token: str | None) -> "ModelInfo":
    """What the Hub has of a revision: its commit, and its files with their sizes. One request."""
    from huggingface_hub import constants

    named = revision or "main"  # without a name some mirrors do not know which is meant
    listing = with_retries(
        lambda: api(token).model_info(
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
