"""The common form of all kinds of data sets: what is known before reading, and their parts."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.data.shards import Shards
from zoo.images import chunk_size, decode_many
from zoo.spec import Preprocessing

SPLITS = ("train", "test")


UNKNOWN = -1
"""The label of an image of which no class is known."""


@dataclass
class Part:
    """Some images of a source in order, their labels or none, and what had to be left out.

    ``labels`` is a text where the source has labels that cannot be used, and says why.
    """

    images: Tensor  # n x C x H x W uint8
    labels: list[int] | str
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
    licence: str = "of their owner"
    notes: list[str] = field(default_factory=list)
    shards: Shards | None = None  # where its pictures can be read one by one
    unread: list[tuple[Path, str]] = field(default_factory=list)  # what is not in the shards


def to_labels(values: np.ndarray, count: int) -> list[int]:
    """Whole numbers from 0, or :data:`UNKNOWN` where ``values`` are negative or NaN.

    Args:
        values: ``count`` (or ``count`` x 1) whole numbers, of any type that can hold them.

    Raises:
        ValueError: they are something else; the text says what.
    """
    got = f"{values.dtype} {' x '.join(map(str, values.shape))}"
    if values.shape == (count, 1):
        values = values[:, 0]
    if values.shape != (count,) or values.dtype.kind not in "biuf":
        hint = "; of one for each class, take argmax(1)" if values.ndim == 2 else ""
        raise ValueError(f"expected {count:,} whole numbers, got {got}{hint}")
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values) | (values < 0), UNKNOWN, values)
        if not (np.isfinite(values).all() and (values == np.floor(values)).all()):
            raise ValueError(f"expected {count:,} whole numbers, got {got} with fractions")
    if values.size and int(values.max()) >= 2**63:
        raise ValueError(f"expected whole numbers under 2**63, got up to {values.max()}")
    labels: list[int] = np.maximum(values.astype(np.int64), UNKNOWN).tolist()
    return labels


def parts_of(
    shards: Shards, preprocessing: Preprocessing, unread: list[tuple[Path, str]]
) -> Iterator[Part]:
    """All pictures of ``shards``, decoded in their order; ``unread`` could not be read before."""
    shape = (0, preprocessing.channels, preprocessing.height, preprocessing.width)
    yield Part(torch.empty(shape, dtype=torch.uint8), [], unread)
    labels, done = shards.labels(), 0
    under_way: deque[tuple[int, np.ndarray]] = deque()
    size = chunk_size(preprocessing)

    def chunks() -> Iterator[list[str | bytes]]:
        for block, count in enumerate(shards.counts.tolist()):
            for first in range(0, count, size):
                inside = np.arange(first, min(first + size, count))
                under_way.append((block, inside))
                yield [*shards.read(block, inside)]

    for images, reasons in decode_many(chunks(), preprocessing):
        block, inside = under_way.popleft()
        skipped = [(shards.place(block, i), why) for i, why in zip(inside, reasons, strict=True)
                   if why]  # fmt: skip
        some: list[int] | str = labels
        if labels and not isinstance(labels, str):
            here = labels[done : done + len(inside)]
            some = [label for label, why in zip(here, reasons, strict=True) if not why]
        done += len(inside)
        yield Part(images, some, skipped)


def key_of(files: Iterable[Path]) -> str:
    """A digest of the files' paths, sizes and times of change."""
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(os.fsencode(f"{file.absolute()} {stat.st_size} {stat.st_mtime_ns}\0"))
    return digest.hexdigest()
