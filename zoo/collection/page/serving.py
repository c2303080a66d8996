"""The page from a server on this machine, which keeps what is clicked.

Only who knows the address can ask, and only from the page itself: a token is part of the address,
and requests that come by way of another site, or under another host's name, are refused. Pictures
are had by number only, so that no path comes from outside.
"""

import asyncio
import json
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Protocol

import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr

from zoo.collection.decisions import Decision, valid_name
from zoo.collection.page import tiles
from zoo.collection.page.data import (
    Alike,
    PageData,
    alike_json,
    changing_json,
    neighbours_json,
    to_json,
)
from zoo.collection.page.static import SHARD, asset, served_page
from zoo.errors import CollectionError, FileError, ImageError, InputError, ZooError

__all__ = ["Decided", "Live", "application", "new_token", "server"]

BODY = 32 << 20
"""Bytes of a request: a picture to search by, or the numbers of some million pictures."""
SLOW = 30.0
"""Seconds that a request's next part is waited for."""
PATIENCE = 10.0
"""Seconds until the page is told that names have not settled yet."""
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "trusted-types zoo; require-trusted-types-for 'script'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
Kind = Literal["name", "unname", "merge", "split", "not_duplicate", "keep_both"]


class Decided(BaseModel):
    """A decision as the page sends it: about pictures, by their numbers."""

    kind: Kind
    pictures: Annotated[list[Annotated[StrictInt, Field(ge=0)]], Field(min_length=1)]
    value: StrictBool | StrictInt | StrictStr | None = None
    group: StrictInt | None = None

    def kept(self, hashes: Sequence[str]) -> Decision:
        """The same by content, which outlives all numbers. Raises: InputError."""
        value = valid_name(self.value) if isinstance(self.value, str) else self.value
        return Decision(self.kind, tuple(hashes[i] for i in self.pictures), value, self.group)


class Decisions(BaseModel):
    """Some decisions, which are kept all or not at all."""

    decisions: Annotated[list[Decided], Field(min_length=1, max_length=1000)]


class Words(BaseModel):
    """What is searched for."""

    words: Annotated[StrictStr, Field(min_length=1, max_length=500)]


class Live(Protocol):
    """What the server serves: a collection, and what can be asked of it. Used by many threads."""

    @property
    def words(self) -> bool:
        """Whether :meth:`find_words` has an answer."""

    @property
    def pictures(self) -> bool:
        """Whether :meth:`find_picture` has an answer."""

    @property
    def data(self) -> PageData: ...

    def thumbnail(self, number: int) -> bytes | None: ...

    def picture(self, number: int) -> bytes:
        """A picture as WebP, as large as a screen. Raises: ImageError, OSError."""

    def decide(self, decisions: list[Decided]) -> PageData:
        """Keep decisions; when this returns, they are on the disk."""

    @property
    def settled(self) -> bool:
        """Whether all that follows from the decisions is known."""

    def changed(self, seconds: float) -> PageData:
        """What is known once :attr:`settled`, or so many seconds later."""

    def alike(self, threshold: float) -> Alike:
        """The pictures whose features are at least so similar, but for known duplicates."""

    def find_words(self, words: str) -> list[tuple[int, float]]: ...

    def find_picture(self, data: bytes) -> list[tuple[int, float]]: ...


class _Shown:
    """What the page is told: all, or of very many pictures what is seen first. Used by many
    threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: tiles.Parts | None = None

    def parts(self, data: PageData) -> tiles.Parts:
        """The parts of what is known now, or was known when they were last asked for."""
        with self._lock:
            if self._parts is None or self._parts.data is not data:
                self._parts = tiles.Parts(data, self._parts)
            return self._parts

    def all(self, data: PageData) -> dict[str, Any]:
        return self.parts(data).first if tiles.is_tiled(data) else to_json(data)

    def changing(self, data: PageData) -> dict[str, Any]:
        """What a decision may have changed."""
        return self.all(data) if tiles.is_tiled(data) else changing_json(data)


def new_token() -> str:
    """What makes an address one that nobody guesses."""
    return secrets.token_urlsafe(24)


def application(live: Live, token: str, hosts: Callable[[str], bool]) -> "Guard":
    """The server's application.

    Args:
        token: the first part of every path.
        hosts: whether a request may be for a host of this name (the header's, with its port).
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    deciding, shown = threading.Lock(), _Shown()
    if tiles.is_tiled(live.data):
        shown.all(live.data)  # which takes seconds

    def check(number: int) -> int:
        if not 0 <= number < len(live.data):
            raise HTTPException(404, "there is no picture of this number")
        return number

    @app.exception_handler(ZooError)
    def _mistake(request: Request, error: ZooError) -> Response:
        status = 400 if isinstance(error, InputError | ImageError) else 500
        return _json({"detail": str(error)}, status)

    @app.exception_handler(OSError)
    def _system(request: Request, error: OSError) -> Response:
        return _json({"detail": f"not kept: {error.strerror or error}"}, 500)

    @app.get("/")
    def _page() -> Response:
        return Response(served_page(), media_type="text/html")

    @app.get("/page.css")
    def _style() -> Response:
        return Response(asset("page.css"), media_type="text/css")

    @app.get("/page.js")
    def _script() -> Response:
        return Response(asset("page.js"), media_type="text/javascript")

    @app.get("/licenses")
    def _licenses() -> Response:
        return Response(asset("LICENSES.txt"), media_type="text/plain")

    @app.get("/collection")
    def _collection() -> Response:
        can = {"words": live.words, "pictures": live.pictures}
        return _json(shown.all(live.data) | {"can": can})

    @app.get("/part/{name}")
    def _part(name: str) -> Response:
        part = shown.parts(live.data).others.get(name) if tiles.is_tiled(live.data) else None
        if part is None:
            raise HTTPException(404, "there is no such part of the page")
        return _json(part())

    @app.get("/thumbnail/{number}")
    def _thumbnail(number: int) -> Response:
        data = live.thumbnail(check(number))
        if data is None:
            raise HTTPException(404, "this picture has no thumbnail")
        return _webp(data)

    @app.get("/picture/{number}")
    def _picture(number: int) -> Response:
        try:
            return _webp(live.picture(check(number)))
        except (CollectionError, ImageError, OSError) as error:
            raise HTTPException(404, f"this picture cannot be read: {error}") from None

    @app.get("/neighbours/{chunk}")
    def _neighbours(chunk: int) -> Response:
        start = check(chunk * SHARD)
        return _json(neighbours_json(live.data, start, start + SHARD))

    @app.get("/alike")
    def _alike(threshold: Annotated[float, Query(ge=-1, le=1)]) -> Response:
        return _json(alike_json(live.alike(threshold)))

    @app.post("/decide")
    def _decide(wanted: Decisions) -> Response:
        for decision in wanted.decisions:
            check(max(decision.pictures))
        with deciding:
            decided = live.decide(wanted.decisions)
            return _json(shown.changing(decided) | {"settled": live.settled})

    @app.get("/changed")
    def _changed() -> Response:
        return _json(shown.changing(live.changed(PATIENCE)) | {"settled": live.settled})

    @app.post("/find/words")
    def _words(wanted: Words) -> Response:
        return _json({"found": live.find_words(wanted.words)})

    @app.post("/find/picture")
    async def _like(request: Request) -> Response:
        data = await request.body()
        return _json({"found": await asyncio.to_thread(live.find_picture, data)})

    return Guard(app, token, hosts)


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value, allow_nan=False), status, media_type="application/json")


def _webp(data: bytes) -> Response:
    # A token is of one run, and so are the numbers.
    headers = {"cache-control": "private, max-age=86400, immutable"}
    return Response(data, media_type="image/webp", headers=headers)


class Refused(HTTPException):
    """A request that is not answered, with the status that says why."""


class Guard:
    """What each request passes before the application sees it, and each answer after."""

    def __init__(self, app: FastAPI, token: str, hosts: Callable[[str], bool]):
        self.app, self.token, self.hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no websockets; the connection is closed
        started = False

        async def answer(message: Scope) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = _guarded(message.get("headers", []))
            await send(message)

        try:
            inner = self._checked(scope)
            await self.app(inner, _bounded(scope, receive), answer)
        except Refused as error:
            if not started:
                await _json({"detail": error.detail}, error.status_code)(scope, receive, answer)

    def _checked(self, scope: Scope) -> Scope:
        """The request as the application sees it, without the token. Raises: Refused."""
        headers = [(name.decode("latin-1"), v.decode("latin-1")) for name, v in scope["headers"]]
        host = [value for name, value in headers if name == "host"]
        if len(host) != 1 or not self.hosts(host[0]):
            raise Refused(421, "this server has another name; open the address that it printed")
        prefix = f"/{self.token}/".encode()
        path = scope["raw_path"] or scope["path"].encode()
        if not secrets.compare_digest(path[: len(prefix)], prefix):
            raise Refused(403, "open the address that zoo browse printed, the whole of it")
        for name, value in headers:
            foreign = name == "sec-fetch-site" and value not in ("same-origin", "none")
            if foreign or (name == "origin" and value != f"http://{host[0]}"):
                raise Refused(403, "this comes from another site")
        if scope["method"] == "POST":
            kind = dict(headers).get("content-type", "").partition(";")[0].strip().lower()
            if kind not in ("application/json", "application/octet-stream"):
                raise Refused(415, "expected application/json or application/octet-stream")
        elif scope["method"] not in ("GET", "HEAD"):
            raise Refused(405, "expected GET or POST")
        rest = scope["path"][len(prefix) - 1 :]
        return {**scope, "path": rest, "raw_path": path[len(prefix) - 1 :]}


def _guarded(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers with those that all answers have; nothing is kept by a browser unless it says so."""
    own = {name.lower() for name, _ in headers}
    more = HEADERS | ({} if b"cache-control" in own else {"cache-control": "no-store"})
    return [*headers, *((name.encode(), value.encode()) for name, value in more.items())]


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """``receive``, which gives up on a body that is too large or too slow. Raises: Refused."""
    said = [value for name, value in scope["headers"] if name == b"content-length"]
    left = BODY
    if any(not value.isdigit() or int(value) > BODY for value in said):
        raise Refused(413, f"at most {BODY >> 20} MB")

    async def bounded() -> Scope:
        nonlocal left
        try:
            message = await asyncio.wait_for(receive(), SLOW)
        except TimeoutError:
            raise Refused(408, "this takes too long") from None
        left -= len(message.get("body", b""))
        if left < 0:
            raise Refused(413, f"at most {BODY >> 20} MB")
        return message

    return bounded


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return ip_address(host).is_loopback


def host_check(host: str, port: int) -> Callable[[str], bool]:
    """Whether a request's Host is this server's.

    Names are refused that anybody can let lead to this machine: of a server for the whole network,
    only numbers and the machine's own name are its names.
    """
    own = {f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", f"{_bracketed(host)}:{port}"}
    if is_loopback(host):
        return lambda name: name.lower() in own
    own |= {f"{socket.gethostname().lower()}:{port}"}

    def fits(name: str) -> bool:
        address, _, number = name.rpartition(":")
        try:
            ip_address(address.strip("[]"))
        except ValueError:
            return name.lower() in own
        return number == str(port)

    return fits


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def listening(host: str, port: int) -> socket.socket:
    """A socket that takes requests; ``port`` 0 for any that is free.

    Raises:
        InputError: ``host`` is not a number, such as 127.0.0.1.
        FileError: it cannot be had.
    """
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise InputError(
            f"--host takes an address of this machine in numbers, such as 127.0.0.1, got {host!r}"
        ) from None
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise FileError(
            f"nothing can listen at {host}, port {port}: {error.strerror}. Choose another --port, "
            "or leave it out for any that is free"
        ) from None


def server(live: Live, listener: socket.socket, token: str) -> uvicorn.Server:
    """The server, not yet running."""
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        application(live, token, host_check(host, port)),
        http="h11",  # its limits are set below
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=16 << 10,
        limit_concurrency=128,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def address(listener: socket.socket, token: str) -> str:
    """What a person opens."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{_bracketed(shown)}:{port}/{token}/"
