"""What a data set is before anything of it is decoded: blocks of rows, each read in one go.

A block is a row group of a Parquet file, a stretch of a tar file, some files of a folder.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Shards"]


@dataclass(frozen=True)
class Shards:
    """The pictures of a data set in blocks, as files or as the bytes of files."""

    counts: np.ndarray
    """Int64: the rows of each block."""
    read: Callable[[int, np.ndarray], Iterator[str | bytes]]
    """Of a block, the rows with these ascending numbers: paths, or bytes (empty: no picture)."""
    place: Callable[[int, int], Path]
    """What a row of a block is called in a message."""
    key: Callable[[int, int, int], bytes]
    """Of a block, what rows from a first to before a last one are, wherever the files lie."""
    labels: Callable[[], list[int] | str]
    """All labels, none, or why they cannot be used: no picture is read for them."""
