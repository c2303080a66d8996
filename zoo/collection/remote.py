"""Sources on object stores: s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, hf://datasets/NAME/SET.

The libraries of fsspec speak with them, and ask again, after growing pauses, where that may help.
No picture is written to the disk. An address is text that anybody may have written: only stores of
:data:`PROTOCOLS` are opened, each by itself, and a name in a store is never a path of this machine.

Importing it imports nothing heavy.
"""

import contextlib
import functools
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any, BinaryIO, TypeGuard

from zoo.collection import s3
from zoo.errors import CollectionError, ImageError, InputError, ZooError
from zoo.files import path_text
from zoo.optional import optional

__all__ = [
    "asking", "checked", "fetched", "in_order", "is_address", "is_url", "listed", "opened", "read",
    "require", "why_unreachable",
]  # fmt: skip

PROTOCOLS = {
    "s3": ("s3fs", "s3", "s3://BUCKET/FOLDER"),
    "gs": ("gcsfs", "gs", "gs://BUCKET/FOLDER"),
    "hf": ("fsspec", "s3", "hf://datasets/NAME/SET"),  # the Hub's client is there, and brings it
}
"""Of each store the library that speaks with it, the extra that brings it, and its addresses."""
BLOCK = 8 << 20
"""Bytes of an archive that are asked for at once."""
_BUCKET = r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}"
_PLACES = {"s3": _BUCKET, "gs": _BUCKET, "hf": r"datasets/[\w.-]+/[\w.-]+(@[\w.-]+)?"}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(//|:)|(file|local):", re.IGNORECASE)
_NET = ("aiobotocore", "aiohttp", "asyncio", "botocore", "gcsfs", "google", "httpx",
        "huggingface_hub", "httpcore", "requests", "s3fs", "urllib3")  # fmt: skip
"""Packages whose errors say that a store does not answer, or not as it should."""


def is_url(text: str | os.PathLike[str]) -> bool:
    """Whether this is an address, of whatever kind, and no path of this machine."""
    return isinstance(text, str) and _URL.match(text) is not None


def is_address(source: str | os.PathLike[str]) -> TypeGuard[str]:
    """Whether a user means an address by this: there is no file or folder of that name here."""
    return is_url(source) and not os.path.lexists(source)


def checked(url: str) -> str:
    """The address as a collection keeps it.

    Raises:
        InputError: it is of no store that is read.
    """
    protocol, _, place = url.partition("://")
    protocol, place = protocol.lower(), place.rstrip("/")
    allowed = _PLACES.get(protocol)
    if "::" in url or allowed is None or not re.fullmatch(rf"{allowed}(/[^\0-\x1f\x7f]*)?", place):
        raise InputError(
            f"{path_text(url[:200])!r} is no address that is read; expected one of "
            f"{', '.join(example for *_, example in PROTOCOLS.values())}, one store alone (no "
            "::). What lies on this machine is named by its path alone"
        )
    return f"{protocol}://{place}"


@contextlib.contextmanager
def asking(url: str, what: str = "read") -> Iterator[None]:
    """Make of what a library says of a store one message; ``what`` could not be done there.

    Raises:
        CollectionError: the store does not answer, or refuses.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ZooError) or not _of_the_net(error):
            raise
        raise CollectionError(
            f"{path_text(url)} cannot be {what}: {_why(error)}.\nLook at the address, the network "
            "and your credentials, and type the same again; what was done is kept"
        ) from error


def require(url: str) -> None:
    """Ask a store for one thing only.

    Raises:
        CollectionError: it does not answer, or refuses.
        ImageError: there is nothing at this address.
        MissingDependency: the library that speaks with it is not installed.
    """
    if next(iter(listed(url)), None) is None:
        raise ImageError(f"{url}: there is nothing in this store by that name")


def listed(url: str) -> Iterator[tuple[str, int, int]]:
    """What lies at an address: names below it, bytes, and times (ns), in no order.

    The part of a time below a second tells of the content, where the store knows a digest or
    version of it: stores say whole seconds. An address of a single file has one, without a name.

    Raises: as :func:`require`; what is not there has nothing.
    """
    protocol, root = _parts(checked(url))
    store = _store(protocol)
    with asking(url):
        found = 0
        for name, facts in (s3.pages if protocol == "s3" else _walked)(store, root):
            found += 1
            size = _size(facts)
            if size or not (name == "" or name.endswith("/")):  # what some tools write for a folder
                yield name, size, _time(facts)
        if not found and "/" in root:
            with contextlib.suppress(FileNotFoundError):
                facts = s3.head(store, root) if protocol == "s3" else store.info(root)
                if facts.get("type", "file") == "file":
                    yield "", _size(facts), _time(facts)


def _walked(store: Any, root: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All files of another store below ``root``, a folder at a time."""
    if not store.exists(root):
        return
    for folder, _, files in store.walk(root, detail=True, on_error="raise"):
        below = folder.strip("/").removeprefix(root).strip("/")
        for name, facts in files.items():
            if name:  # else ``root`` itself is a file
                yield f"{below}/{name}" if below else name, facts


def _size(facts: dict[str, Any]) -> int:
    return int(facts.get("size") or facts.get("Size") or 0)


def _time(facts: dict[str, Any]) -> int:
    found = (facts.get(key) for key in ("LastModified", "last_modified", "updated", "mtime"))
    when = next((each for each in found if each), 0)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    seconds = int(when.timestamp() if isinstance(when, datetime) else when)
    tags = (facts.get(key) for key in ("ETag", "etag", "blob_id", "generation"))
    tag = next((str(each) for each in tags if each), "")
    part = int.from_bytes(blake2b(tag.encode(), digest_size=8).digest()) % 10**9 if tag else 0
    return seconds * 10**9 + part


def fetched(paths: Sequence[str]) -> dict[str, bytes | str]:
    """The bytes of some files of stores, asked for at once; or the reason why there are none.

    Raises:
        CollectionError: not one of them can be had, and the store itself does not answer.
    """
    found: dict[str, bytes | str] = {}
    for protocol in {path.partition("://")[0] for path in paths}:
        some = [path for path in paths if path.startswith(f"{protocol}://")]
        found.update(_fetched(protocol, some))
    return found


def _fetched(protocol: str, paths: list[str]) -> dict[str, bytes | str]:
    store = _store(protocol)
    plain = [_parts(path)[1] for path in paths]
    if protocol == "s3":
        got = s3.fetched(store, plain)
    else:
        whole = [None] * len(plain)
        got = store.cat_ranges(plain, whole, whole, on_error="return")
    failed = [each for each in got if isinstance(each, BaseException)]
    for error in failed:
        if not _of_the_net(error):
            raise error
    if len(failed) == len(got) and any(map(_is_of_all, failed)):
        _refuse_silence(store, protocol, paths[0])
    return {
        path: f"cannot be read: {_why(each)}" if isinstance(each, BaseException) else bytes(each)
        for path, each in zip(paths, got, strict=True)
    }


def _is_of_all(error: BaseException) -> bool:
    """Whether it may be the store that fails, and not what was asked for."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return "expired" in str(error).lower()
    return True


def _refuse_silence(store: Any, protocol: str, path: str) -> None:
    """Raises: CollectionError: the store answers nothing any more."""
    root = _parts(path)[1]
    with asking(path):
        if protocol == "s3":
            s3.answers(store, root)
        else:
            store.info(root.rpartition("/")[0])


def read(path: str) -> bytes:
    """The bytes of a file of a store.

    Raises:
        OSError: it cannot be read; ``strerror`` says why.
    """
    found = fetched([path])[path]
    if isinstance(found, str):
        raise OSError(0, found.removeprefix("cannot be read: "), path)
    return found


def opened(path: str) -> BinaryIO:
    """A file of a store, to be read in parts as they are needed."""
    protocol, plain = _parts(path)
    store = _store(protocol)
    if protocol == "s3":
        return io.BufferedReader(s3.Stored(store, plain), BLOCK)
    file: BinaryIO = store.open(plain, "rb", block_size=BLOCK)
    return file


def why_unreachable(error: BaseException) -> str:
    """Why a store failed; empty if the error is not of a store."""
    return _why(error) if _of_the_net(error) else ""


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the order that a local folder's have: its own files before those of its folders."""

    def key(name: str) -> str:
        *folders, last = name.split("/")
        return "".join(f"\1{folder}\0" for folder in folders) + f"\0{last}"

    return sorted(names, key=key)


# -- the libraries ---------------------------------------------------------------------------------


def _parts(url: str) -> tuple[str, str]:
    protocol, _, place = url.partition("://")
    return protocol, place


def _store(protocol: str) -> Any:
    return _made(protocol, os.getpid())  # their threads do not outlive a fork


@functools.lru_cache(8)
def _made(protocol: str, process: int) -> Any:
    if protocol == "s3":
        return s3.connected()
    module, extra, _ = PROTOCOLS[protocol]
    optional(module, module, extra)
    fsspec = optional("fsspec", "fsspec", extra)
    # Not what this process knew before: the store may have changed since.
    return fsspec.filesystem(protocol, skip_instance_cache=True, use_listings_cache=False)


def _of_the_net(error: BaseException) -> bool:
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _NET


def _why(error: BaseException) -> str:
    """What a library says, as one sentence."""
    said = " ".join(str(getattr(error, "strerror", None) or error).split())[:300]
    said = path_text(said).rstrip(".") or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return f"there is nothing by that name ({said})"
    if isinstance(error, PermissionError):
        return f"access is refused ({said})"
    if type(error).__name__ == "NoCredentialsError":
        return (
            "no credentials are known (set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or of a "
            "public bucket FSSPEC_S3_ANON=true)"
        )
    return said
