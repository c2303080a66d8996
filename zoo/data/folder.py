"""Folders of pictures of any size and kind."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from zoo.data.layout import METADATA, of_parquet, of_pictures
from zoo.data.parquet import holds_pictures, open_parquet
from zoo.data.shards import Shards
from zoo.data.source import Part, Source
from zoo.data.tar import open_tar
from zoo.errors import DataError
from zoo.files import path_text
from zoo.images import chunk_size, decode_many, why_not_opened
from zoo.listing import list_folder
from zoo.spec import Preprocessing

BLOCK = 16
"""Files that stay together in the order in which a folder is read for training."""


def open_folder(path: Path, split: str, preprocessing: Preprocessing, asked: list[str]) -> Source:
    """A source of the pictures in a folder, or of its Parquet files.

    Args:
        asked: the configuration and the columns of Parquet that a user named after a ``#``.
    """
    if (path / "collection.json").is_file() and (path / "pictures-00000.parquet").is_file():
        if asked:
            raise DataError(f"{path_text(path)} has no {asked[0]}: it is a collection")
        from zoo.data.collected import open_collection

        return open_collection(path, preprocessing)
    listing = list_folder(path)
    ignored = [n for n in listing.names if os.path.basename(n).lower() in METADATA]
    names = [n for n in listing.names if os.path.basename(n).lower() not in METADATA]
    pictures = [name for name in names if not why_not_opened(name)]
    parquet = [name for name in names if name.lower().endswith(".parquet")]
    notes = listing.notes
    if ignored:
        notes.append(
            f"{', '.join(map(path_text, ignored[:3]))} not read: classes are the names of folders"
        )
    if parquet and (not pictures or holds_pictures([path / name for name in parquet])):
        layout = of_parquet(path, parquet, split, asked)
        if pictures:
            notes.append(
                f"the Parquet files of {path_text(path)} are read, and not its {len(pictures)} "
                f"pictures beside them; for these, name their folder: {path_text(pictures[0])}"
            )
        files = [path / name for name in layout.names]
        notes += layout.notes
        columns = [name for name in asked if name != layout.configuration]
        return open_parquet(
            path, files, layout.split, preprocessing, columns, notes, listing.skipped
        )
    tars = [name for name in names if name.lower().endswith(".tar")]
    if tars and not pictures:
        layout = of_parquet(path, tars, split, asked)
        files = [path / name for name in layout.names]
        endings = [name for name in asked if name != layout.configuration]
        return open_tar(
            path, files, layout.split, preprocessing, endings, notes + layout.notes,
            listing.skipped,
        )  # fmt: skip
    if asked:
        raise DataError(f"{path_text(path)} has no {asked[0]}: it is a folder of pictures")
    layout = of_pictures(path, names, pictures, split)
    names, classes = layout.names, layout.classes
    numbers = {name: i for i, name in enumerate(classes)}
    listed: list[str] = []
    sizes: list[int] = []
    others, digest = [*listing.skipped], hashlib.sha256(os.fsencode(path.absolute()))
    for name in names:
        if reason := why_not_opened(name):
            others.append((path / name, reason))
        elif (stat := _stat(path / name)) is None:
            others.append((path / name, "there is no such file"))
        else:
            digest.update(os.fsencode(f"{name} {stat.st_size} {stat.st_mtime_ns}\0"))
            listed.append(name)
            sizes.append(stat.st_size)

    def parts() -> Iterator[Part]:
        shape = (0, preprocessing.channels, preprocessing.height, preprocessing.width)
        yield Part(torch.empty(shape, dtype=torch.uint8), [], others)
        size = chunk_size(preprocessing)
        chunks = [listed[i : i + size] for i in range(0, len(listed), size)]
        paths = ([os.path.join(path, name) for name in chunk] for chunk in chunks)
        for chunk, (images, reasons) in zip(chunks, decode_many(paths, preprocessing), strict=True):
            skipped = [(path / n, why) for n, why in zip(chunk, reasons, strict=True) if why]
            if gone := [file for file, _ in skipped if not file.exists()]:
                raise DataError(
                    f"{gone[0]} was there when {path} was listed, and is not any more: the folder "
                    "was changed or unmounted while it was read. Type the same again"
                )
            read = [n for n, why in zip(chunk, reasons, strict=True) if not why]
            yield Part(images, [numbers[n.split(os.sep)[-2]] for n in read if numbers], skipped)

    return Source(
        name=path.resolve().name,
        path=path,
        split=layout.split,
        most=len(listed),
        shape=(preprocessing.channels, preprocessing.height, preprocessing.width),
        key=digest.hexdigest(),
        parts=parts,
        classes=classes,
        notes=notes + layout.notes,
        shards=_shards(path, listed, sizes, numbers),
        unread=others,
    )


def _shards(path: Path, listed: list[str], sizes: list[int], numbers: dict[str, int]) -> Shards:
    """Blocks of a few files, each of which can be read alone."""

    def names(block: int) -> list[str]:
        return listed[block * BLOCK : (block + 1) * BLOCK]

    def read(block: int, inside: np.ndarray) -> Iterator[str]:
        here = names(block)
        return (os.path.join(path, here[i]) for i in inside)

    def key(block: int, first: int, last: int) -> bytes:
        files = zip(names(block), sizes[block * BLOCK : (block + 1) * BLOCK], strict=True)
        return b"".join(os.fsencode(f"{name} {size}\0") for name, size in [*files][first:last])

    full, rest = divmod(len(listed), BLOCK)
    return Shards(
        counts=np.array([BLOCK] * full + [rest] * (rest > 0), np.int64),
        read=read,
        place=lambda block, row: path / names(block)[row],
        key=key,
        labels=lambda: [numbers[name.split(os.sep)[-2]] for name in listed if numbers],
    )


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # gone since the folder was listed
        return None
