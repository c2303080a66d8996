"""Requests to the Hub by its own client (huggingface_hub), watched and tried again."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.errors import HubError, InvalidName
from zoo.hub.errors import host, hub_errors, retry_after
from zoo.names import is_repo, is_revision

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_T = TypeVar("_T")


PAUSES = (1, 3)
"""Seconds between the tries when the Hub itself fails; a Retry-After may make them longer, up to
:data:`PATIENCE`."""


PATIENCE = 15


def api(token: str | None) -> "HfApi":
    from huggingface_hub import HfApi

    import zoo

    return HfApi(token=token, library_name="latentzoo", library_version=zoo.__version__)


def check_names(repo: str, revision: str | None) -> None:
    if not is_repo(repo):
        raise InvalidName(f"expected a repository on the Hub, org/name, got {repo!r:.120}")
    if revision is not None and not is_revision(revision):
        raise InvalidName(f"expected a branch, a tag or a commit of {repo}, got {revision!r:.120}")


def with_retries(
    call: Callable[[], _T], repo: str, revision: str | None, *, reconnect: bool = False
) -> _T:
    """The result of ``call``, which is tried again after a pause when the Hub itself fails.

    ``reconnect``: try again when no connection can be made, too.
    """
    with hub_errors(repo, revision):
        for pause in PAUSES:
            try:
                with _watched():
                    return call()
            except Exception as error:
                wait = _wait(error, pause)
                if reconnect and type(error) is ConnectionError:
                    wait = pause
                if wait is None:
                    raise
            time.sleep(wait)
        with _watched():
            return call()


def _wait(error: Exception, pause: float) -> float | None:
    """Seconds to wait before a request that failed like this is tried again; None for never."""
    from huggingface_hub.errors import HfHubHTTPError

    if not isinstance(error, HfHubHTTPError):
        broken = type(error).__name__ in ("RemoteProtocolError", "ReadError")
        short = type(error) is OSError and error.errno is None  # fewer bytes than announced
        return pause if broken or short else None
    if error.response.status_code not in (408, 429, 500, 502, 503, 504):
        return None
    asked = retry_after(error.response)
    return pause if asked is None else asked if asked <= PATIENCE else None


_HOOKING = threading.Lock()


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Check every answer to this thread before the client uses it, which trusts answers too far.

    The client waits as long as the server asks, even an hour; this gives up instead. And the client
    names a file in the cache after the ETag that it received, so that ``../../x`` would be written
    outside of the cache. All threads share one session, so the hooks leave the requests of other
    threads alone. Each try hooks the current session, since another thread may have closed the last
    one meanwhile.
    """
    from huggingface_hub import get_session

    thread = threading.get_ident()

    def before(request: Any) -> None:
        if threading.get_ident() == thread:
            request.extensions = {**request.extensions, "trace": _trace}

    def after(response: Any) -> None:
        if threading.get_ident() == thread:
            _check_answer(response)

    session = get_session()
    _hook(session, lambda hooks, event: [*hooks, {"request": before, "response": after}[event]])
    try:
        yield
    finally:
        _hook(session, lambda hooks, event: [h for h in hooks if h not in (before, after)])


def _hook(session: Any, change: Callable[[list[Any], str], list[Any]]) -> None:
    """Change a session's hooks: to new lists, since others may be going through the old ones."""
    with _HOOKING:
        session.event_hooks = {e: change(hooks, e) for e, hooks in session.event_hooks.items()}


def _trace(event: str, info: dict[str, Any]) -> None:
    """Raise when there is no connection, before the client opens a new session without our hooks.

    The ``trace`` extension of a request is called with each of its events; the client, which opens
    that session when it sees a ConnectError, does not know this one.
    """
    error = info.get("exception")
    if type(error).__name__ == "ConnectError":
        raise ConnectionError(str(error)) from error


def _check_answer(response: Any) -> None:
    from huggingface_hub.utils import hf_raise_for_status

    if response.status_code == 429 and (retry_after(response) or 0) > PATIENCE:
        response.read()
        hf_raise_for_status(response)
    if response.request.method != "HEAD":
        return
    for header in ("ETag", "X-Linked-Etag", "X-Repo-Commit"):
        value = response.headers.get(header, "")
        if not re.fullmatch(r'(W/)?"?[\w-]*"?', value):
            raise HubError(
                f"{host()} answers with the {header} {value!r:.100}, which is no name of a file. "
                "Nothing was written.\nCheck HF_ENDPOINT and the proxy"
            )


def say(text: str) -> None:
    import logging

    logging.getLogger("zoo").info(text)
