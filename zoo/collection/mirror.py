"""A collection on a store of S3's protocol: its objects there, and a folder of this machine.

::

    collection.json                            written last, at once, and only if no other machine
                                               wrote it meanwhile; it names all other objects
    pictures-00000.parquet.0123456789abcdef    a file by its name and the beginning of its sha256

No object is ever written over by another content, so that a crash at any moment, or a second
machine, leaves the old collection or the new one. What works on a collection works on a folder: of
each state of the collection there is one in the cache of this machine, which shares with the others
the files that are the same. An update works on a further one, that it goes on with after a crash.

Importing it imports nothing heavy.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from zoo.boundary import cache_folder, user_path
from zoo.collection import remote, s3
from zoo.collection.store import (
    MANIFEST,
    WEIGHTS,
    Store,
    features_name,
    pictures_name,
    small_name,
)
from zoo.errors import CollectionError, InputError
from zoo.files import path_text, write_atomically, write_json
from zoo.locks import Lock, Locked

__all__ = ["opened", "refuse_stored", "writing"]

_T = TypeVar("_T")
_NAME = re.compile(
    rf"(pictures-\d{{5}}\.parquet|(features|small)-\d{{5}}\.npy|{WEIGHTS}(/\w[\w.-]*)+)"
)
"""Of files that a collection on a store has: a manifest is text that anybody may have written."""
_NONE = "none"
"""The state of a collection that is not there."""


def refuse_stored(folder: str | os.PathLike[str]) -> None:
    """Keep what a person says out of a cache, where the next update would leave it behind.

    Raises:
        InputError: ``folder`` is an address, or what this machine's cache has of one.
    """
    if remote.is_address(folder) or Path(folder).absolute().parent.parent == _cache():
        text = path_text(folder)
        raise InputError(
            f"{text}: what this keeps needs a folder of your own, and takes no address; zoo index, "
            "zoo group, zoo odd and zoo find do. To have a collection as a folder, copy it in "
            f"Python: shutil.copytree(zoo.Collection({text!r}).folder, 'index')"
        )


def opened(url: str) -> Path:
    """A folder with the collection as it is there now; what this machine has is not fetched.

    Raises:
        CollectionError: there is none, it is damaged, or the store does not answer.
        InputError: the address is of another kind of store.
    """
    return _twice(_Place(_checked(url)).folder)


@contextlib.contextmanager
def writing(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to bring up to date: of an address one of this machine, which is then stored there.

    Raises: as :func:`opened`, and CollectionError: another command, or machine, writes there.
    """
    if not remote.is_address(folder):
        yield user_path(folder, "the folder of the collection")
        return
    url = str(folder)
    place = _Place(_checked(url))
    with place.locked():
        before = _twice(place.begun)
        yield place.work
        place.store(before)


def _twice(call: Callable[[], _T]) -> _T:
    """Again where the collection was written anew meanwhile: what the old one named is gone."""
    try:
        return call()
    except _Gone:
        return call()


class _Gone(CollectionError):
    """A manifest names an object that is not there."""


def _checked(url: str) -> str:
    if not url.lower().startswith("s3://"):
        raise InputError(
            f"{url!r}: a collection lies in a folder of this machine, or at s3://BUCKET/FOLDER"
        )
    return remote.checked(url)


@dataclass
class _State:
    """What a manifest on a store says, and its ETag; nothing yet has neither."""

    tag: str = _NONE
    said: Any = None

    @cached_property
    def files(self) -> dict[str, str]:
        """The sha256 of each file. Raises: CollectionError."""
        if self.tag == _NONE:
            return {}
        found: Any = self.said.get("files") if isinstance(self.said, dict) else None
        fits = isinstance(found, dict) and all(
            _NAME.fullmatch(name) and re.fullmatch("[0-9a-f]{64}", str(digest))
            for name, digest in found.items()
        )
        if not fits:
            raise CollectionError(
                f"its {MANIFEST} names no files as zoo index does that writes to a store. Where it "
                "is the copy of a folder, fetch it with the store's own tools"
            )
        return {**found}

    @property
    def objects(self) -> set[str]:
        return {_object(name, digest) for name, digest in self.files.items()}


class _Place:
    """An address, and what this machine has of it."""

    def __init__(self, url: str):
        self.url = url
        self.root = url.removeprefix("s3://")
        key = hashlib.sha256(f"{os.getenv('AWS_ENDPOINT_URL', '')} {url}".encode()).hexdigest()[:16]
        self.cache = _cache() / key
        self.work = self.cache / "work"

    @cached_property
    def _store(self) -> Any:
        return s3.connected()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        self.cache.mkdir(parents=True, exist_ok=True)
        try:
            lock = Lock(self.cache / "lock")
        except Locked:
            raise CollectionError(f"another command is writing to {self.url}") from None
        try:
            yield
        finally:
            lock.release()

    def state(self) -> _State:
        found = self._read(MANIFEST)
        if found is None:
            with remote.asking(self.url):
                s3.answers(self._store, self.root)
            return _State()
        data, tag = found
        try:
            return _State(tag, json.loads(data))
        except (ValueError, RecursionError) as error:
            raise CollectionError(f"{self.url}/{MANIFEST} is damaged: {error}") from None

    def _read(self, name: str) -> tuple[bytes, str] | None:
        """An object and its ETag; None if it is not there."""
        with remote.asking(self.url), contextlib.suppress(FileNotFoundError):
            return s3.got(self._store, f"{self.root}/{name}")
        return None

    def _write(self, name: str, data: bytes, **only: str) -> str:
        with remote.asking(self.url, "written"):
            return s3.put(self._store, f"{self.root}/{name}", data, **only)

    # -- from the store ----------------------------------------------------------------------------

    def folder(self) -> Path:
        """Of the state that is there now."""
        state = self.state()
        if state.tag == _NONE:
            raise CollectionError(
                f"{self.url} is no collection: it has no {MANIFEST}. To make one there, type: "
                f"zoo index SOURCE --out {self.url}"
            )
        folder = self.cache / f"state-{_hash(state.tag.encode())[:16]}"
        if not Store.exists(folder):
            self._fill(folder, state)
        return folder

    def begun(self) -> _State:
        """Make the folder to work on what the store has, unless it is the one of a command before
        that did not end."""
        state = self.state()
        base = self.cache / "work-is-of"
        if not base.is_file() or base.read_text("utf-8") != state.tag:
            base.unlink(missing_ok=True)
            shutil.rmtree(self.work, ignore_errors=True)
            if state.tag != _NONE:
                self._fill(self.work, state)
            write_atomically(base, state.tag.encode())
        return state

    def _fill(self, folder: Path, state: _State) -> None:
        """Raises: CollectionError."""
        for name, digest in state.files.items():
            kept = self._kept(name, digest)
            if not kept.is_file():
                self._fetch(_object(name, digest), digest, kept)
            _link(kept, folder / name)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / MANIFEST, {k: v for k, v in state.said.items() if k != "files"})

    def _fetch(self, name: str, digest: str, kept: Path) -> None:
        found = self._read(name)
        if found is None:
            raise _Gone(f"{self.url} is damaged: it has no {name}")
        if _hash(found[0]) != digest:
            raise CollectionError(f"{self.url} is damaged: {name} is not what was written")
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, found[0])

    def _kept(self, name: str, digest: str) -> Path:
        return self.cache / "objects" / _object(name, digest)

    # -- to the store ------------------------------------------------------------------------------

    def store(self, before: _State) -> None:
        """Store the folder that was worked on, if anything changed.

        Raises: CollectionError: another machine did so meanwhile.
        """
        said = json.loads((self.work / MANIFEST).read_bytes())
        said["files"] = {}
        for name in _names(self.work):
            data = (self.work / name).read_bytes()
            said["files"][name] = digest = _hash(data)
            if before.files.get(name) != digest:
                self._write(_object(name, digest), data)
            if not self._kept(name, digest).exists():
                _link(self.work / name, self._kept(name, digest))
        if said == before.said:
            return
        after = _State(self._written(said, before), said)
        write_atomically(self.cache / "work-is-of", after.tag.encode())
        for name in before.objects - after.objects:
            # Whoever may not remove objects may still write: what stays there only takes its place.
            with contextlib.suppress(CollectionError), remote.asking(self.url):
                s3.delete(self._store, f"{self.root}/{name}")

    def _written(self, said: Any, before: _State) -> str:
        """Write the manifest; its ETag."""
        data = json.dumps(said, indent=2).encode()
        only = {"IfNoneMatch": "*"} if before.tag == _NONE else {"IfMatch": before.tag}
        try:
            return self._write(MANIFEST, data, **only)
        except CollectionError as error:
            if not s3.is_other(error.__cause__):
                raise
            found = self.state()
            if found.said == said:  # it was this command, whose first answer was lost
                return found.tag
            raise CollectionError(
                f"{self.url} was written by another machine meanwhile, which stays. Type the same "
                "again: what is not there yet is computed anew"
            ) from None


def _cache() -> Path:
    return cache_folder("collections")


def _names(folder: Path) -> list[str]:
    """The files of a collection that are stored."""
    store = Store.open(folder)
    each = (features_name, small_name, pictures_name)
    names = [name(number) for number in range(len(store.manifest.shards)) for name in each]
    if store.manifest.model["weights"]:
        files = (path for path in (folder / WEIGHTS).rglob("*") if path.is_file())
        found = sorted(path.relative_to(folder).as_posix() for path in files)
        names += filter(_NAME.fullmatch, found)  # without what a command that was killed left
    return names


def _object(name: str, digest: str) -> str:
    return f"{name}.{digest[:16]}"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _link(kept: Path, path: Path) -> None:
    """``path`` as a second name of a file; a file of a collection is replaced, never changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".zoo-{secrets.token_hex(8)}.tmp")  # another command may read ``path``
    try:
        try:
            os.link(kept, new)
        except OSError:  # a file system without
            shutil.copyfile(kept, new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)  # it stays where both names are of one file already
