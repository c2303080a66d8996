"""Tar files of pictures, as WebDataset writes them: an index of their members, nothing unpacked.

A sample is what has the same name up to its first dot: ``0001.png``, and ``0001.cls`` with its
class as a whole number. Other members are left out.
"""

import os
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.shards import Shards
from zoo.data.source import UNKNOWN, Source, key_of, parts_of
from zoo.errors import DataError
from zoo.files import path_text, refuse_placeholder
from zoo.images import NO_PICTURE, why_not_opened
from zoo.listing import is_hidden
from zoo.spec import Preprocessing
from zoo.system import read_at

BLOCK = 64
"""Pictures that stay together in the order in which they are read for training."""
_FIELDS = 20
"""With more kinds of pictures than that, names with dots are just names."""
_CLASS = 32
"""Bytes: a longer member is no class."""


@dataclass
class _Index:
    """Where the pictures of a tar file lie in it."""

    file: Path
    offsets: np.ndarray  # int64
    sizes: np.ndarray  # int64
    labels: list[int]


@dataclass
class _Left:
    """What is not read: unreadable members, and how many are no pictures."""

    unread: list[tuple[Path, str]]
    others: int = 0
    odd: str = ""
    """A class that is no whole number, if there is one."""


def open_tar(
    path: Path,
    files: list[Path],
    split: str,
    preprocessing: Preprocessing,
    asked: list[str],
    notes: list[str],
    unread: list[tuple[Path, str]],
) -> Source:
    """A source of the pictures in tar files.

    Args:
        asked: the ending of the pictures that a user named after a ``#``, if any.
        notes: for the user, on the choice of files.
        unread: what in ``path`` could not be listed, and why.
    """
    if len(asked) > 1:
        raise DataError(f"expected one ending of pictures after the #, got {', '.join(asked)}")
    left = _Left([*unread])
    found = [_indexed(path, file, asked, left) for file in files]
    if left.others:
        notes = [*notes, f"{left.others:,} members of tar files are no pictures: left out"]
    shards = _shards(found, left.odd)
    return Source(
        name=path.resolve().name.removesuffix(".tar"),
        path=path,
        split=split,
        most=int(shards.counts.sum()),
        shape=(preprocessing.channels, preprocessing.height, preprocessing.width),
        key=key_of(files) + "".join(asked),
        parts=partial(parts_of, shards, preprocessing, left.unread),
        notes=notes,
        shards=shards,
        unread=left.unread,
    )


def _indexed(path: Path, file: Path, asked: list[str], left: _Left) -> _Index:
    """The pictures of a tar file, in their order, with the classes of their samples."""
    offsets, sizes = array("q"), array("q")  # eight bytes each, where a list has five times that
    names, classes = [], {}
    refuse_placeholder(file, DataError)
    try:
        with tarfile.open(file, "r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or it would keep all
                if info.isdir():
                    continue
                sample, ending = _sample(info.name)
                if ending == "cls" and info.size <= _CLASS:
                    classes[sample] = _class(archive, info, left)
                elif _wanted(file, info, ending, asked, left):
                    names.append((sample, ending))
                    offsets.append(info.offset_data)
                    sizes.append(info.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(
            f"{path_text(file)} is damaged, or not a tar file: {error}. One that is compressed "
            "has to be unpacked first, such as by gunzip"
        ) from None
    if offsets and offsets[-1] + sizes[-1] > file.stat().st_size:
        raise DataError(f"{path_text(file)} is damaged: it is cut off")
    _require_one_each(path, names)
    labels = [classes.get(sample, UNKNOWN) for sample, _ in names]
    return _Index(file, np.array(offsets, np.int64), np.array(sizes, np.int64), labels)


def _sample(name: str) -> tuple[str, str]:
    """The sample that a member belongs to, and which part of it this is."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return folder + slash + stem, ending.lower()


def _class(archive: tarfile.TarFile, info: tarfile.TarInfo, left: _Left) -> int:
    file = archive.extractfile(info)
    text = file.read(_CLASS).strip() if file else b""
    try:
        return max(UNKNOWN, int(text))
    except ValueError:
        left.odd = f"{info.name} should hold a whole number, it holds {text!r}"
        return UNKNOWN


def _wanted(file: Path, info: tarfile.TarInfo, ending: str, asked: list[str], left: _Left) -> bool:
    base = info.name.rpartition("/")[2]
    reason = why_not_opened(base)
    hidden = any(is_hidden(part) for part in info.name.split("/") if part not in ("", ".", ".."))
    if hidden or not info.isreg() or reason == NO_PICTURE or (asked and ending != asked[0].lower()):
        left.others += 1
        return False
    if reason:
        left.unread.append((file / info.name, reason))
    return not reason


def _require_one_each(path: Path, names: list[tuple[str, str]]) -> None:
    """Raises: DataError: samples have several pictures, and it is not said which to take."""
    endings = sorted({ending for _, ending in names})
    if len({sample for sample, _ in names}) == len(names) or len(endings) > _FIELDS:
        return
    raise DataError(
        f"the samples of {path_text(path)} have several pictures: {', '.join(endings)}. Choose "
        f"one; type: --data '{path_text(path)}#{endings[0]}'"
    )


def _shards(found: list[_Index], odd: str) -> Shards:
    """Stretches of a few pictures, each of which can be read alone."""
    offsets, sizes = [index.offsets for index in found], [index.sizes for index in found]
    starts = [(i, at) for i, each in enumerate(sizes) for at in range(0, len(each), BLOCK)]
    labels = [label for index in found for label in index.labels]
    files = [index.file for index in found]

    def read(block: int, inside: np.ndarray) -> Iterator[bytes]:
        at, first = starts[block]
        try:
            with files[at].open("rb", buffering=0) as file:
                for i in (inside + first).tolist():
                    yield _member(file, files[at], int(offsets[at][i]), int(sizes[at][i]))
        except OSError as error:
            raise DataError(f"{path_text(files[at])} cannot be read: {error.strerror}") from error

    def key(block: int, first: int, last: int) -> bytes:
        at, start = starts[block]
        name, part = os.fsencode(files[at].name), slice(start + first, start + last)
        return name + offsets[at][part].tobytes() + sizes[at][part].tobytes()

    @lru_cache(maxsize=1)
    def names(at: int) -> dict[int, str]:
        return _names(files[at])

    def place(block: int, row: int) -> Path:
        at, start = starts[block]
        offset = int(offsets[at][start + row])
        return files[at] / names(at).get(offset, f"the member at byte {offset}")

    return Shards(
        counts=np.array([min(BLOCK, len(sizes[i]) - at) for i, at in starts], np.int64),
        read=read,
        place=place,
        key=key,
        labels=lambda: odd or labels,
    )


def _member(file: Any, path: Path, offset: int, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = read_at(file, view, offset)
        if got == 0:
            raise DataError(f"{path_text(path)} was cut off while it was read. Type the same again")
        view, offset = view[got:], offset + got
    return bytes(data)


def _names(path: Path) -> dict[int, str]:
    """The names of a file's members by where their bytes begin, which are asked for seldom."""
    found = {}
    try:
        with tarfile.open(path, "r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]
                found[info.offset_data] = info.name
    except (tarfile.TarError, OSError):
        pass
    return found
