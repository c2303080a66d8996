"""Cells: what is near lies in one, so that of very many vectors only few have to be compared.

The cells are those of spherical k-means. What is looked for in a cell is compared with what lies in
the cells around it, so many of them that :data:`SCANNED` vectors are looked at however many there
are in all: each step costs in proportion to what is looked for.

In a file the vectors lie cell by cell, as 16-bit numbers, so that a search reads those few cells.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo.files import replacing
from zoo.optional import optional

__all__ = ["SCANNED", "Cells"]

SCANNED = 8192
"""Vectors that each is compared with, about."""
_BLOCK = 4096
_ROUNDS = 6
_FEW = 8
"""Queries up to which 16-bit vectors are compared as they are."""
_SAMPLE = 40
"""Vectors of a cell that its centre is found by, about."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Vectors of unit length, cell by cell.

    Attributes:
        centres: C x d float32, of unit length.
        starts: C + 1 int64, where each cell begins.
        numbers: n int64, the number by which its owner knows each vector.
        vectors: n x d, float32 or float16; of a file they are mapped into memory.
    """

    centres: np.ndarray
    starts: np.ndarray
    numbers: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, numbers: np.ndarray, seed: int = 0) -> "Cells":
        """Vectors n x d by cells, whose centres are found by a sample."""
        faiss = optional("faiss", "faiss-cpu", "collection")
        count, width = cls.fitting(len(vectors)), vectors.shape[1]
        means = faiss.Kmeans(
            width, count, niter=_ROUNDS, spherical=True, seed=seed + 1,
            min_points_per_centroid=1, max_points_per_centroid=_SAMPLE,
        )  # fmt: skip
        size = min(_SAMPLE * count, len(vectors))
        chosen = np.random.default_rng(seed).choice(len(vectors), size, replace=False)
        means.train(np.ascontiguousarray(vectors[np.sort(chosen)], np.float32))
        starts = np.zeros(count + 1, np.int64)
        none = np.empty((0, width), vectors.dtype)
        return cls(means.centroids, starts, numbers[:0], none).with_more(vectors, numbers)

    @staticmethod
    def fitting(count: int) -> int:
        """How many cells so many vectors should have."""
        return 4 * math.isqrt(count)

    def with_more(self, vectors: np.ndarray, numbers: np.ndarray) -> "Cells":
        """The same cells with more vectors, which lie behind those that are there."""
        cells = np.concatenate([self.cell_of_each(), self.nearest(vectors)])
        order = np.argsort(cells, kind="stable")
        starts = np.searchsorted(cells[order], np.arange(len(self.centres) + 1))
        old = len(self.numbers)
        placed = np.empty((len(order), vectors.shape[1]), self.vectors.dtype)
        placed[order < old] = self.vectors  # in the order that they have
        placed[order >= old] = vectors[order[order >= old] - old]
        return Cells(self.centres, starts, np.concatenate([self.numbers, numbers])[order], placed)

    def kept(self, which: np.ndarray) -> "Cells":
        """The same cells with some of the vectors, n bool."""
        if which.all():
            return self
        held = np.concatenate([[0], which.cumsum()])
        return Cells(self.centres, held[self.starts], self.numbers[which], self.vectors[which])

    def numbered(self, numbers: np.ndarray) -> "Cells":
        """The same vectors by other numbers."""
        return replace(self, numbers=numbers)

    def cell_of_each(self) -> np.ndarray:
        """The cell of each vector."""
        return np.repeat(np.arange(len(self.centres)), np.diff(self.starts))

    def nearest(self, vectors: np.ndarray) -> np.ndarray:
        """The cell that each of some vectors is nearest to."""
        cells = np.empty(len(vectors), np.int64)
        for begin in range(0, len(vectors), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            cells[part] = (vectors[part].astype(np.float32) @ self.centres.T).argmax(1)
        return cells

    def around(self, point: np.ndarray, least: int) -> np.ndarray:
        """The places in the cells nearest to a point: at least ``least``, or all there are."""
        nearest = np.argsort(-(self.centres @ point), kind="stable")
        held = np.diff(self.starts)[nearest].cumsum()
        enough = nearest[: int(np.searchsorted(held, least)) + 1]
        return np.concatenate([np.arange(*self.starts[cell : cell + 2]) for cell in enough])

    def batches(self, wanted: np.ndarray, least: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What has to be compared with what: wanted places of a cell, and the places around it.

        Args:
            wanted: n bool.
            least: how many places are around each cell, if there are as many.
        """
        for cell in np.unique(self.cell_of_each()[wanted]):
            own = np.arange(*self.starts[cell : cell + 2])
            yield own[wanted[own]], self.around(self.centres[cell], least)

    def search(self, query: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The numbers and cosines of those most like a vector, the nearest first."""
        places = self.around(query, max(SCANNED, 2 * number))
        found, cosines = self.nearest_among(places, query[None], number)
        return self.numbers[found[0]], cosines[0]

    def nearest_among(
        self, places: np.ndarray, queries: np.ndarray, number: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the vectors at some places those most like each of Q: places and cosines, Q x number.

        The nearest first, and of those as near the first place; fewer where there are no more.
        """
        faiss = optional("faiss", "faiss-cpu", "collection")
        number = min(number, len(places))
        queries = np.ascontiguousarray(queries, np.float32)
        if self.vectors.dtype == np.float16 and len(queries) <= _FEW:
            # Compared as they are: to turn them into 32 bits takes several times as long.
            kind = faiss.ScalarQuantizer.QT_fp16
            index = faiss.IndexScalarQuantizer(
                self.vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT
            )
            index.add_sa_codes(np.ascontiguousarray(self.vectors[places]).view(np.uint8))
            cosines, found = index.search(queries, number)
        else:
            cosines, found = faiss.knn(
                queries, self.at(places), number, metric=faiss.METRIC_INNER_PRODUCT
            )
        order = np.lexsort((found, -cosines))
        return places[np.take_along_axis(found, order, 1)], np.take_along_axis(cosines, order, 1)

    def at(self, places: np.ndarray) -> np.ndarray:
        """The vectors at some places, float32."""
        return np.ascontiguousarray(self.vectors[places], np.float32)

    # -- in a file ---------------------------------------------------------------------------------

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write a file, whole or not at all. Raises: OSError."""
        safetensors = optional("safetensors.numpy", "safetensors", "collection")
        arrays: dict[str, Any] = {
            "centres": self.centres.astype(np.float32),
            "starts": self.starts.astype(np.int64),
            "numbers": self.numbers.astype(np.int64),
            "vectors": np.ascontiguousarray(self.vectors, np.float16),
        }
        with replacing(path) as file:
            file.write(safetensors.save(arrays, dict(facts)))

    @classmethod
    def open(cls, path: Path, facts: Mapping[str, str]) -> "Cells | None":
        """What was saved with the same ``facts``; None if it is not there, or not whole."""
        safetensors = optional("safetensors", "safetensors", "collection")
        try:
            with safetensors.safe_open(path, "np") as file:
                if {**(file.metadata() or {}), **facts} != file.metadata():
                    return None
                centres, starts, numbers = map(file.get_tensor, ("centres", "starts", "numbers"))
                shape = tuple(file.get_slice("vectors").get_shape())
            mapped = np.memmap(path, np.float16, "r", _offset(path), shape)
        except (OSError, ValueError, KeyError, safetensors.SafetensorError):
            return None
        found = cls(centres, starts, numbers, mapped)
        return found if found._is_whole() else None

    @staticmethod
    def facts(path: Path) -> dict[str, str]:
        """What a file was saved with. Raises: OSError, SafetensorError."""
        safetensors = optional("safetensors", "safetensors", "collection")
        with safetensors.safe_open(path, "np") as file:
            return dict(file.metadata() or {})

    def _is_whole(self) -> bool:
        """Whether all arrays fit to each other."""
        starts, count = self.starts, len(self.numbers)
        return (
            self.centres.ndim == 2
            and starts.shape == (len(self.centres) + 1,)
            and self.vectors.shape == (count, self.centres.shape[1])
            and bool(starts[0] == 0 and starts[-1] == count and (np.diff(starts) >= 0).all())
        )


def _offset(path: Path) -> int:
    """Where in a file of safetensors the vectors begin."""
    import json

    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return 8 + size + int(json.loads(file.read(size))["vectors"]["data_offsets"][0])
