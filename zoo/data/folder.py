"""Folders of pictures of any size and kind."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from zoo.data.parquet import of_part, open_parquet
from zoo.data.source import SPLITS, Part, Source
from zoo.errors import DataError
from zoo.images import ENDINGS, chunk_size, decode_many
from zoo.listing import list_folder
from zoo.spec import Preprocessing


def open_folder(path: Path, split: str, preprocessing: Preprocessing) -> Source:
    listing = list_folder(path)
    names = listing.names
    pictures = [name for name in names if name.lower().endswith(ENDINGS)]
    parquet = [name for name in names if name.endswith(".parquet")]
    if parquet and not pictures:
        return open_parquet(path, *of_part(path, parquet, split), preprocessing)
    classes = _classes(pictures)
    part = "all"
    if all((path / s).is_dir() for s in SPLITS):
        part = split
        inside = {s: [n.split(os.sep, 1)[1] for n in pictures if n.startswith(s + os.sep)]
                  for s in SPLITS}  # fmt: skip
        # The classes of both, so that a class that one of them lacks does not shift the numbers.
        both = [_classes(inside[s]) for s in SPLITS]
        classes = tuple(sorted({*both[0], *both[1]})) if all(both) else ()
        names = [n for n in names if n.startswith(split + os.sep)]
    numbers = {name: i for i, name in enumerate(classes)}
    files, others, digest = [], [*listing.skipped], hashlib.sha256(os.fsencode(path.absolute()))
    for name in names:
        if not name.lower().endswith(ENDINGS):
            others.append((path / name, "its name has no ending of a picture"))
        elif (stat := _stat(path / name)) is None:
            others.append((path / name, "there is no such file"))
        else:
            digest.update(os.fsencode(f"{name} {stat.st_size} {stat.st_mtime_ns}\0"))
            files.append(name)

    def parts() -> Iterator[Part]:
        shape = (0, preprocessing.channels, preprocessing.height, preprocessing.width)
        yield Part(torch.empty(shape, dtype=torch.uint8), [], others)
        size = chunk_size(preprocessing)
        chunks = [files[i : i + size] for i in range(0, len(files), size)]
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
        split=part,
        most=len(files),
        shape=(preprocessing.channels, preprocessing.height, preprocessing.width),
        key=digest.hexdigest(),
        parts=parts,
        classes=classes,
        notes=listing.notes,
    )


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # gone since the folder was listed
        return None


def _classes(pictures: list[str]) -> tuple[str, ...]:
    """The subfolders that pictures lie in, if each lies in one and none deeper; else nothing."""
    if any(name.count(os.sep) != 1 for name in pictures):
        return ()
    classes = sorted({name.split(os.sep)[0] for name in pictures})
    return tuple(classes) if len(classes) > 1 else ()
