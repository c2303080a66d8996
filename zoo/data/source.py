"""What every kind of data set is to :func:`zoo.data.load_data` before it is read."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

SPLITS = ("train", "test")


@dataclass
class Part:
    """Some images of a source in order, their labels or none, and what had to be left out."""

    images: Tensor  # n x C x H x W uint8
    labels: list[int]
    skipped: list[tuple[Path, str]]


@dataclass
class Source:
    """What is known of a data set before it is read."""

    name: str
    path: Path
    split: str
    most: int  # images at most
    shape: tuple[int, int, int]  # C, H, W
    key: str  # changes whenever the files do
    parts: Callable[[], Iterator[Part]]
    classes: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def key_of(files: Iterable[Path]) -> str:
    """Of paths, sizes and times of change."""
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(os.fsencode(f"{file.absolute()} {stat.st_size} {stat.st_mtime_ns}\0"))
    return digest.hexdigest()


def cache_folder(kind: str) -> Path:
    """Where things of this kind are kept that can be fetched or made again."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "latentzoo", kind)
