"""The pictures of a collection, as a data set: where its index says that they lie."""

import itertools
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from zoo.collection import remote
from zoo.collection.entries import Entry, members
from zoo.collection.store import Store
from zoo.data.shards import Shards
from zoo.data.source import Source, parts_of
from zoo.errors import DataError
from zoo.files import path_text
from zoo.spec import Preprocessing

BLOCK = 64
"""Pictures that stay together in the order in which they are read for training."""
AT_ONCE = 16
"""Pictures that are fetched at once, and held in memory."""


def open_collection(path: Path, preprocessing: Preprocessing) -> Source:
    """A source of the pictures that a collection has; what it could not read is counted."""
    store = Store.open(path)
    unread = [(Path(file), reason) for file, reason in store.unread()]
    blocks = [
        (number, rows[at : at + BLOCK])
        for number in range(len(store.manifest.shards))
        for rows in [store.readable(number).astype(np.int32)]
        for at in range(0, len(rows), BLOCK)
    ]
    shards = _shards(store, blocks)
    return Source(
        name=path.resolve().name,
        path=path,
        split="all",
        most=int(shards.counts.sum()),
        shape=(preprocessing.channels, preprocessing.height, preprocessing.width),
        key=store.fingerprint(),
        parts=partial(parts_of, shards, preprocessing, unread),
        notes=["the pictures are those of the collection, as it was last indexed"],
        shards=shards,
        unread=unread,
    )


def _shards(store: Store, blocks: list[tuple[int, np.ndarray]]) -> Shards:
    @lru_cache(maxsize=2)
    def hashes(number: int) -> list[str]:
        found: list[str] = store.table(number, ("hash",))["hash"].to_pylist()
        return found

    def read(block: int, inside: np.ndarray) -> Iterator[str | bytes]:
        number, rows = blocks[block]
        places = store.places(number, rows[inside])
        for (kind, archive), some in itertools.groupby(places, _kind):
            if kind == "member":
                yield from _members(archive, [str(member) for _, member in some])
            elif kind == "in a store":
                paths = [path for path, _ in some]
                for at in range(0, len(paths), AT_ONCE):
                    yield from _fetched(paths[at : at + AT_ONCE])
            else:
                yield from (path for path, _ in some)

    def place(block: int, row: int) -> Path:
        number, rows = blocks[block]
        ((path, member),) = store.places(number, rows[[row]])
        return Path(path, member or "")

    def key(block: int, first: int, last: int) -> bytes:
        number, rows = blocks[block]
        return " ".join(hashes(number)[row] for row in rows[first:last]).encode()

    return Shards(
        counts=np.array([len(rows) for _, rows in blocks], np.int64),
        read=read,
        place=place,
        key=key,
        labels=lambda: [],
    )


def _kind(place: tuple[str, str | None]) -> tuple[str, str]:
    """What a picture is, and the archive that it is a member of."""
    path, member = place
    if member is not None:
        return "member", path
    return ("in a store" if remote.is_url(path) else "file"), ""


def _fetched(paths: list[str]) -> list[bytes]:
    """The bytes of some files of stores.

    Raises: CollectionError, DataError: what cannot be had now is no picture that cannot be read.
    """
    found = remote.fetched(paths)
    contents = []
    for path in paths:
        content = found[path]
        if isinstance(content, str):
            raise DataError(f"{path_text(path)} {content}. Type the same again")
        contents.append(content)
    return contents


def _members(path: str, wanted: list[str]) -> list[bytes]:
    """The bytes of some members of an archive, which is read up to the last of them."""
    left, found = set(wanted), dict[str, bytes]()
    for entry in members(Entry(0, "", path, 0, 0), []):
        if entry.member in left and entry.data is not None:
            found[entry.member] = entry.data
            left.remove(entry.member)
            if not left:
                break
    return [found.get(name, b"") for name in wanted]
