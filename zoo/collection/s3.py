"""Files of S3's protocol, by their keys as they are, with bounded waiting.

s3fs knows the credentials and connects. How it reads a file is not used: it takes "?versionId=" in
a key for a version, asks for the size of each file first, and repeats what botocore repeats too,
so that a server which does not answer is waited for many minutes.

Importing it imports nothing heavy.
"""

import asyncio
import io
from collections.abc import Iterator, Sequence
from typing import Any

from zoo.optional import optional

__all__ = [
    "Stored", "answers", "connected", "delete", "fetched", "got", "head", "is_other", "pages",
    "put",
]  # fmt: skip

ATTEMPTS = 4
"""How often each thing is asked for, with pauses that grow to some seconds, before it fails."""
CONNECT_WITHIN = 5
"""Seconds that a server has to take a connection."""
SILENCE = 15
"""Seconds without a byte after which an attempt has failed."""
LONGEST = 300
"""Seconds for a file, or a part of an archive, with all attempts."""
AT_ONCE = 32
"""Connections of this process."""


def connected() -> Any:
    """The store that the environment and the files of AWS say, or their defaults.

    Raises:
        MissingDependency: s3fs is not installed.
    """
    optional("s3fs", "s3fs", "s3")
    fsspec = optional("fsspec", "fsspec", "s3")
    ours = {
        "connect_timeout": CONNECT_WITHIN,
        "read_timeout": SILENCE,
        "max_pool_connections": AT_ONCE,
        "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
    }
    theirs = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    # Not what this process knew before: the store may have changed since.
    store = fsspec.filesystem(
        "s3", skip_instance_cache=True, use_listings_cache=False, config_kwargs={**ours, **theirs}
    )
    store.retries = 1  # botocore repeats
    return store


def pages(store: Any, root: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All keys below ``BUCKET/FOLDER``, a thousand at a time: s3fs would keep them all."""
    bucket, _, prefix = root.partition("/")
    prefix += "/" if prefix else ""
    more: dict[str, str] = {}
    while True:
        page = store.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        for facts in page.get("Contents", ()):
            yield facts["Key"].removeprefix(prefix), facts
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def head(store: Any, path: str) -> dict[str, Any]:
    """What is known of the file at ``BUCKET/KEY``: size, time, digest."""
    bucket, _, key = path.partition("/")
    facts: dict[str, Any] = store.call_s3("head_object", Bucket=bucket, Key=key)
    return {**facts, "Size": facts["ContentLength"]}


def answers(store: Any, path: str) -> None:
    """Ask the bucket of ``BUCKET/KEY`` for one key; raises what its library raises."""
    store.call_s3("list_objects_v2", Bucket=path.partition("/")[0], MaxKeys=1)


def fetched(store: Any, paths: Sequence[str]) -> list[bytes | BaseException]:
    """The bytes of each file, or why there are none; asked for all at once."""

    async def all_of_them() -> list[bytes | BaseException]:
        return await asyncio.gather(
            *(_within(_bytes(store, path)) for path in paths), return_exceptions=True
        )

    found: list[bytes | BaseException] = _run(store, all_of_them)
    return found


def got(store: Any, path: str) -> tuple[bytes, str]:
    """A file's bytes, and the ETag that they have. Raises what its library raises."""
    tag = head(store, path)["ETag"]
    data: bytes = _run(store, lambda: _within(_bytes(store, path, IfMatch=tag)))
    return data, tag


def put(store: Any, path: str, data: bytes, **more: str) -> str:
    """Write a file, at once; its ETag. Raises what its library raises."""
    bucket, _, key = path.partition("/")
    tag: str = store.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **more)["ETag"]
    return tag


def is_other(error: BaseException | None) -> bool:
    """Whether a file was not written since another is there than was said."""
    answer = getattr(getattr(error, "__cause__", None), "response", {})
    return answer.get("ResponseMetadata", {}).get("HTTPStatusCode") in (409, 412)


def delete(store: Any, path: str) -> None:
    """Remove a file."""
    bucket, _, key = path.partition("/")
    store.call_s3("delete_object", Bucket=bucket, Key=key)


class Stored(io.RawIOBase):
    """A file of a store that is read in parts; one that changes meanwhile cannot be read on."""

    def __init__(self, store: Any, path: str):
        self._store, self._path, self._at = store, path, 0
        facts = head(store, path)
        self._size, self._tag = facts["Size"], facts["ETag"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        part = {"Range": f"bytes={self._at}-{end - 1}", "IfMatch": self._tag}
        data = _run(self._store, lambda: _within(_bytes(self._store, self._path, **part)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _run(store: Any, call: Any) -> Any:
    """Wait for what runs in the thread of fsspec's event loop."""
    return optional("fsspec.asyn", "fsspec", "s3").sync(store.loop, call)


async def _within(coroutine: Any) -> bytes:
    """Raises: TimeoutError: it takes too long, whatever is repeated below."""
    try:
        found: bytes = await asyncio.wait_for(coroutine, LONGEST)
    except TimeoutError as error:
        if str(error):  # a library's, which says more
            raise
        raise TimeoutError(f"not there after {LONGEST} seconds") from None
    return found


async def _bytes(store: Any, path: str, **more: str) -> bytes:
    """A file's bytes; an answer that is cut off is asked for again, as botocore does requests."""
    net = optional("aiohttp", "aiohttp", "s3").ClientError
    request = optional("botocore.exceptions", "botocore", "s3").BotoCoreError
    bucket, _, key = path.partition("/")
    attempt = 1
    while True:
        answer = await store._call_s3("get_object", Bucket=bucket, Key=key, **more)
        try:
            data: bytes = await answer["Body"].read()
            return data
        except (net, request, OSError):
            if attempt >= ATTEMPTS:
                raise
        finally:
            answer["Body"].close()
        await asyncio.sleep(0.2 * 2**attempt)
        attempt += 1
