"""Translates the exceptions of the Hub's client to the zoo's errors, with what to type next."""

import contextlib
import errno
import re
from collections.abc import Iterator
from typing import Any

from zoo.errors import (
    AccessDenied,
    HubBusy,
    HubError,
    HubUnreachable,
    InvalidName,
    PublishConflict,
    RepositoryNotFound,
    RevisionNotFound,
    WeightsNotFound,
    ZooError,
)
from zoo.hub.cache import cache_folder

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
        return InvalidName(f"{what}: {clean(invalid)}")
    if first(hf.LocalTokenNotFoundError):
        return AccessDenied(f"{what} needs a token.\nType: hf auth login, or set HF_TOKEN")
    # That of the HTTP library which the client uses, httpx or another.
    lost = first(hf.HTTPError, ConnectionError, TimeoutError)
    disk = (e for e in chain if isinstance(e, OSError) and e.errno in _FULL + _FORBIDDEN)
    full = next(disk, None)
    if full and not lost:
        place = clean(getattr(full, "filename", None) or cache_folder(), 300)
        return HubError(
            f"{what}: {place} cannot be written: {full.strerror}.\n"
            + ("Free some space there, or set" if full.errno in _FULL else "Set")
            + " HF_HOME to a folder on another disk"
        )
    if lost or first(hf.LocalEntryNotFoundError):
        reason = clean(lost or error) or type(lost).__name__
        return HubUnreachable(
            f"{what}: {host()} cannot be reached ({reason}).\n"
            "Check the connection, the proxy and HF_ENDPOINT, and try again"
        )
    if isinstance(error, OSError) and not isinstance(error, hf.FileMetadataError):
        return HubUnreachable(
            f"{what}: the download broke off ({clean(error)}).\nTry again; nothing is kept of it"
        )
    # What is no JSON is no answer of a Hub: the page of a proxy, or of a network's login.
    kind = HubUnreachable if isinstance(error, ValueError) else HubError
    return kind(
        f"{what}: the answer of {host()} makes no sense ({type(error).__name__}, "
        f"{clean(error)}).\nIf HF_ENDPOINT or a proxy is set, check that the Hub is behind it"
    )


def _refused(error: Any, repo: str | None, revision: str | None) -> ZooError:
    """The error for an answer with a status of failure."""
    from huggingface_hub import errors as hf

    what = f"hf-hub:{repo}" if repo else "the Hub"
    status = error.response.status_code
    said = clean(error.response.headers.get("X-Error-Message") or error.server_message or "")
    said = f": {said}" if said else ""
    if isinstance(error, hf.GatedRepoError):
        return AccessDenied(
            f"{what} is gated: its owner lets in who asks. Ask at {host()}/{repo or ''}, "
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
            f"Its revisions: {host()}/{repo or ''}/commits/main"
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
        seconds = retry_after(error.response)
        return HubBusy(
            f"{what}: the Hub has had too many requests from here.\nTry again "
            + (f"in {seconds} seconds" if seconds else "later")
        )
    if status >= 500 or status == 408:
        return HubUnreachable(
            f"{what}: {host()} fails with status {status}{said}.\nTry again in some minutes; "
            "https://status.huggingface.co says whether it is known"
        )
    return HubError(f"{what}: the Hub refused this with status {status}{said}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(20):  # the chain of another library's exceptions could be circular
        if error is None or isinstance(error, ZooError):  # an earlier error of the zoo was handled
            return
        yield error
        error = error.__cause__ or error.__context__


def retry_after(response: Any) -> int | None:
    """Seconds that an answer asks to wait, by either of the headers that the Hub uses."""
    found = re.fullmatch(r"\s*(\d{1,7})\s*", response.headers.get("Retry-After", "")) or re.search(
        r";\s*r=0\s*;\s*t=(\d{1,7})", response.headers.get("RateLimit", "")
    )
    return int(found[1]) if found else None


def host() -> str:
    """The Hub's address, without a name and password that may be in it."""
    from urllib.parse import urlsplit

    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def clean(text: object, most: int = 200) -> str:
    """What a server said, on one line and without control characters."""
    line = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "?" for c in line[:most])
