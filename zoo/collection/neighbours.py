"""The nearest neighbours of each picture: what groups, names and odd ones are all made of.

Of features that are never negative the roots are taken, so that a few large ones do not decide
alone. Half of their mean is taken away: all of it would hide what a folder of one kind has in
common, and none of it would make everything alike. Then they are reduced to their first principal
components and set to unit length, and how alike two pictures are is the cosine of their vectors,
from -1 to 1. All that is fitted on a sample and kept with the index, so that pictures that are
added later are measured alike.

Files of the same content are one picture: neighbours are looked for among the first file of each
content, and all its copies have the same neighbours.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from zoo.collection.cells import SCANNED, Cells
from zoo.optional import optional

__all__ = [
    "Graph",
    "Projection",
    "build",
    "connect",
    "distinct_of",
    "each_once",
    "extend",
    "extend_in_cells",
    "first_of_each",
    "moved",
    "project",
    "sampled",
    "search",
]

DIMENSIONS = 128
CENTRED = 0.5
"""The share of the mean that is taken away."""
NEIGHBOURS = 30
SAMPLE = 20_000
"""Pictures that the principal components are fitted on, at most."""

EXACT = 50_000
"""Distinct pictures up to which all pairs are compared; above, those of the nearest cells alone:
:mod:`zoo.collection.cells`."""

NEAREST = 10
"""Neighbours whose neighbours are looked at as well, where cells are used."""

CELLS_SEARCHED = 64
"""By each where all are new, at most: they have no more than :data:`SCANNED` vectors on average."""

BLOCK = 4096
"""Rows at once, which bounds the memory."""

_LEAST_NORM = 1e-12
_LEAST_LENGTH = 1e-6
"""Of what the longest principal component explains: a direction with less is one of rounding."""


class Graph(NamedTuple):
    """The neighbours of each of P pictures, the nearest first, itself and its copies left out."""

    indices: np.ndarray
    """P x k int32, positions among the P."""
    similarities: np.ndarray
    """P x k float32: cosines of the projected features."""


@dataclass(frozen=True, eq=False)
class Projection:
    """How features become the vectors that are compared: centred, reduced, of unit length."""

    mean: np.ndarray
    """F float32: what is taken away."""
    components: np.ndarray
    """F x d float32."""
    roots: bool = False
    """Whether square roots are taken first, of what is not negative."""

    @classmethod
    def fit(cls, sample: np.ndarray, dimensions: int = DIMENSIONS) -> "Projection":
        """The first principal components of a sample, N x F; fewer where it has no more."""
        count, width = sample.shape
        roots = bool(count and sample.min() >= 0)
        mean = np.zeros(width)
        for part in _blocks(count):
            mean += _rooted(sample[part].astype(np.float64), roots).sum(0) / count
        shift = CENTRED * mean

        def centred(rows: slice, columns: slice) -> np.ndarray:
            return _rooted(sample[rows, columns].astype(np.float64), roots) - shift[columns]

        principal = _of_few if count < width else _of_many
        axes = principal(centred, count, width, max(1, min(dimensions, width, count)))
        return cls(shift.astype(np.float32), axes.astype(np.float32), roots)

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Vectors of unit length, N x d float32, of features N x F."""
        return self._unit(_rooted(features.astype(np.float32), self.roots) - self.mean)

    def uncentred(self, features: np.ndarray) -> np.ndarray:
        """The same vectors with nothing taken away."""
        return self._unit(_rooted(features.astype(np.float32), self.roots))

    def _unit(self, shifted: np.ndarray) -> np.ndarray:
        vectors = shifted @ self.components
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: np.ndarray = vectors / np.maximum(norms, _LEAST_NORM)
        return unit


def _rooted(features: np.ndarray, roots: bool) -> np.ndarray:
    return np.sqrt(np.maximum(features, 0)) if roots else features


_Centred = Callable[[slice, slice], np.ndarray]
"""Gives some rows and columns of a sample, less the mean, as float64."""


def _of_many(centred: _Centred, count: int, width: int, kept: int) -> np.ndarray:
    """The principal components, width x kept, by the second moments of the columns."""
    moments = np.zeros((width, width))
    for rows in _blocks(count):
        block = centred(rows, slice(None))
        moments += block.T @ block / count
    return _leading(moments, kept)


def _of_few(centred: _Centred, count: int, width: int, kept: int) -> np.ndarray:
    """The same by the products of the rows, which are fewer; those alone that the rows need."""
    products = np.zeros((count, count))
    for columns in _blocks(width):
        block = centred(slice(None), columns)
        products += block @ block.T
    if not products.any():
        return np.eye(width, kept)
    weights = _leading(products, kept)
    parts = [centred(slice(None), columns).T @ weights for columns in _blocks(width)]
    axes = np.concatenate(parts)
    lengths = np.linalg.norm(axes, axis=0)
    needed = lengths > _LEAST_LENGTH * lengths.max()
    return _signed(axes[:, needed] / lengths[needed])


def _leading(matrix: np.ndarray, kept: int) -> np.ndarray:
    """The ``kept`` leading eigenvectors of symmetric F x F, as F x kept; their signs are set."""
    linalg = optional("scipy.linalg", "scipy", "collection")
    sparse = optional("scipy.sparse.linalg", "scipy", "collection")
    width = len(matrix)
    if not matrix.any():  # no picture, or all features zero
        return np.eye(width, kept)
    if 4 * kept >= width:
        _, axes = linalg.eigh(matrix, subset_by_index=[width - kept, width - 1])
    else:  # Lanczos: a few of many
        start = np.random.default_rng(0).normal(size=width)
        _, axes = sparse.eigsh(matrix, kept, v0=start)
    return _signed(axes[:, ::-1])


def _signed(axes: np.ndarray) -> np.ndarray:
    """The columns with the sign that makes the largest of each positive."""
    largest = np.abs(axes).argmax(0)
    signed: np.ndarray = axes * np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    return signed


def build(
    features: np.ndarray, hashes: Sequence[str] | None = None, k: int = NEIGHBOURS, seed: int = 0
) -> tuple[Projection, np.ndarray, Graph]:
    """The projection, the vectors and the graph of features that are in memory, P x F."""
    rows = sampled(len(features), seed)
    projection = Projection.fit(features[rows])
    vectors = project(projection, (features[part] for part in _blocks(len(features))))
    return projection, vectors, connect(vectors, hashes, k, seed=seed)


def project(projection: Projection, blocks: Iterable[np.ndarray]) -> np.ndarray:
    """The vectors of features that are given in blocks, for those that fit into no memory."""
    parts = [projection.apply(block) for block in blocks]
    width = projection.components.shape[1]
    return np.concatenate(parts) if parts else np.empty((0, width), np.float32)


def sampled(count: int, seed: int) -> np.ndarray:
    """Which of ``count`` rows the components are fitted on, in their order."""
    if count <= SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, SAMPLE, replace=False))


def _blocks(count: int) -> Iterator[slice]:
    return (slice(begin, begin + BLOCK) for begin in range(0, count, BLOCK))


def first_of_each(hashes: Sequence[str]) -> np.ndarray:
    """For each of P pictures the position of the first that has the same content, P int64."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(one, i) for i, one in enumerate(hashes)], np.int64)


def distinct_of(first: np.ndarray) -> np.ndarray:
    """The positions that are the first of their content, of what :func:`first_of_each` gives."""
    return np.flatnonzero(first == np.arange(len(first)))


def each_once(numbers: np.ndarray) -> np.ndarray:
    """The different ones of some whole numbers, in order.

    By sorting them, which takes a tenth of the time that numpy's ``unique`` does.
    """
    ordered = np.sort(numbers, axis=None)
    found: np.ndarray = ordered[np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)]]
    return found


def connect(
    vectors: np.ndarray,
    hashes: Sequence[str] | None = None,
    k: int = NEIGHBOURS,
    *,
    seed: int = 0,
    exact: int = EXACT,
) -> Graph:
    """The graph of P unit vectors.

    Args:
        vectors: P x d float32.
        hashes: of the content of each; without them all are taken for different ones.
        k: neighbours of each, fewer where there are no more.
        seed: of the cells.
        exact: distinct pictures up to which all pairs are compared.
    """
    first = np.arange(len(vectors)) if hashes is None else first_of_each(hashes)
    distinct = distinct_of(first)
    k = min(k, max(len(distinct) - 1, 0))
    if len(distinct) > exact:
        cells = Cells.of(vectors[distinct], distinct, seed)
        return extend_in_cells(_nothing(len(vectors), k), cells, first)
    points = np.ascontiguousarray(vectors[distinct])
    found = _all_pairs(points, points, k + 1)
    indices, similarities = _without(np.arange(len(points)), *found)
    place = np.searchsorted(distinct, first)
    return Graph(distinct[indices].astype(np.int32)[place], similarities[place])


def search(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` of P unit vectors nearest to each of Q: positions and cosines, Q x k, exact."""
    return _all_pairs(np.ascontiguousarray(vectors), queries, min(k, len(vectors)))


def _all_pairs(points: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    faiss = optional("faiss", "faiss-cpu", "collection")
    indices = np.empty((len(queries), k), np.int64)
    similarities = np.empty((len(queries), k), np.float32)
    if k and len(queries):
        for part in _blocks(len(queries)):
            similarities[part], indices[part] = faiss.knn(
                np.ascontiguousarray(queries[part], np.float32),
                points,
                k,
                metric=faiss.METRIC_INNER_PRODUCT,
            )
    return indices, similarities


def _without(
    own: np.ndarray, indices: np.ndarray, similarities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of N x (k + 1) without the picture's own number, or else without their last."""
    left_out = indices == own[:, None]
    left_out[~left_out.any(1), -1] = True
    shape = len(indices), indices.shape[1] - 1
    return indices[~left_out].reshape(shape), similarities[~left_out].reshape(shape)


def extend(
    graph: Graph,
    hashes_before: Sequence[str],
    vectors: np.ndarray,
    hashes: Sequence[str],
    k: int = NEIGHBOURS,
    *,
    seed: int = 0,
    exact: int = EXACT,
) -> Graph:
    """The graph of pictures that have changed, at the cost of what changed where that is less.

    Args:
        graph: of the pictures before, with their vectors by the same projection.
        hashes_before: of the content of those.
        vectors: of the P pictures now.
        hashes: of those.
        k, seed, exact: as for :func:`connect`.
    """
    first = first_of_each(hashes)
    distinct = distinct_of(first)
    place_of = {hashes[row]: place for place, row in enumerate(distinct)}
    before = np.full(len(distinct), -1)
    now = np.full(len(hashes_before), -1)
    for row, one in enumerate(hashes_before):
        if one in place_of:
            now[row] = place_of[one]
            before[place_of[one]] = row
    k = min(k, max(len(distinct) - 1, 0))
    if graph.indices.shape[1] != k:
        return connect(vectors, hashes, k, seed=seed, exact=exact)
    indices = np.where(before[:, None] >= 0, now[graph.indices[before]], -1)
    similarities = graph.similarities[before]
    whole = (indices >= 0).all(1)
    if (~whole).sum() * len(distinct) > min(len(distinct), exact) ** 2 / 2:
        return connect(vectors, hashes, k, seed=seed, exact=exact)
    points = np.ascontiguousarray(vectors[distinct])
    _look_again(points, np.flatnonzero(~whole), indices, similarities)
    _look_among(points, np.flatnonzero(before < 0), np.flatnonzero(whole), indices, similarities)
    place = np.searchsorted(distinct, first)
    return Graph(distinct[indices].astype(np.int32)[place], similarities[place])


def _look_again(
    points: np.ndarray, rows: np.ndarray, indices: np.ndarray, similarities: np.ndarray
) -> None:
    """Find all neighbours of some of N points, and write them into N x k."""
    found = _all_pairs(points, points[rows], indices.shape[1] + 1)
    indices[rows], similarities[rows] = _without(rows, *found)


def _look_among(
    points: np.ndarray,
    added: np.ndarray,
    rows: np.ndarray,
    indices: np.ndarray,
    similarities: np.ndarray,
) -> None:
    """Put those of ``added`` that are nearer than some neighbour into the lists of ``rows``."""
    k = indices.shape[1]
    found, cosines = _all_pairs(points[added], points[rows], min(k, len(added)))
    merged = np.concatenate([similarities[rows], cosines], 1)
    best = np.argsort(-merged, axis=1, kind="stable")[:, :k]
    candidates = np.concatenate([indices[rows], added[found]], 1)
    indices[rows] = np.take_along_axis(candidates, best, 1)
    similarities[rows] = np.take_along_axis(merged, best, 1)


_GONE, _UNKNOWN = -1, -2


def moved(
    graph: Graph, before: np.ndarray, rows: np.ndarray, distinct: np.ndarray, k: int = NEIGHBOURS
) -> Graph:
    """What a graph says of the pictures now, for :func:`extend_in_cells`.

    Args:
        graph: of pictures before; where most are new, nothing is taken of it.
        before: their rows, in order.
        rows: of the P pictures now, in order.
        distinct: positions of the first of each content among the P.
    """
    made = _nothing(len(rows), k)
    where = np.full(max(before.max(initial=0), rows.max(initial=0)) + 1, _GONE, np.int32)
    where[rows[distinct]] = distinct
    now = where[before]
    old = np.flatnonzero(now >= 0)
    if graph.indices.shape[1] != k or 4 * len(old) < 3 * len(distinct):
        return made
    for part in _blocks(len(old)):
        made.indices[now[old[part]]] = now[graph.indices[old[part]]]
        made.similarities[now[old[part]]] = graph.similarities[old[part]]
    return made


def _nothing(count: int, k: int) -> Graph:
    """The lists of pictures that are new."""
    return Graph(np.full((count, k), _UNKNOWN, np.int32), np.zeros((count, k), np.float32))


def extend_in_cells(graph: Graph, cells: Cells, first: np.ndarray) -> Graph:
    """The graph of very many pictures, at the cost of what changed; ``graph`` is written into.

    Of new pictures the neighbours are first those in the cells around, then those among the
    neighbours of these. Where all are new, each is compared with the cells that it is nearest to.

    Args:
        graph: what is known of the P pictures now, as :func:`moved` gives it.
        cells: of the first of each content, numbered by position among the P.
        first: for each of P the position of the first that has the same content.
    """
    indices, similarities = graph
    k = indices.shape[1]
    if not k:
        return graph
    where = np.zeros(len(indices), np.int64)
    where[cells.numbers] = np.arange(len(cells.numbers))
    new = indices[cells.numbers, 0] == _UNKNOWN
    wanted = (indices[cells.numbers] < 0).any(1)
    if new.all():
        _look_for_all(graph, cells)
        wanted[:] = False
    for asked, around in cells.batches(wanted, max(SCANNED, k + 1)):
        _look(graph, cells, asked, around)
    for asked, around in cells.batches(wanted, max(SCANNED, k + 1)):
        own = cells.numbers[asked]
        theirs = indices[indices[own, :NEAREST]]
        near = where[each_once(np.concatenate([own, indices[own].ravel(), theirs.ravel()]))]
        _look(graph, cells, asked, near)
        if new[asked].any():
            told = each_once(np.concatenate([near, around]))
            _tell(graph, cells, told[~wanted[told]], asked[new[asked]])
    copies = np.flatnonzero(first != np.arange(len(first)))
    indices[copies], similarities[copies] = indices[first[copies]], similarities[first[copies]]
    return graph


def _look_for_all(graph: Graph, cells: Cells) -> None:
    """Find the neighbours of all that is in cells, each in those that it is nearest to itself."""
    faiss = optional("faiss", "faiss-cpu", "collection")
    (count, width), k = cells.vectors.shape, graph.indices.shape[1]
    centres = faiss.IndexFlatIP(width)
    centres.add(cells.centres)
    index = faiss.IndexIVFFlat(centres, width, len(cells.centres), faiss.METRIC_INNER_PRODUCT)
    index.train(cells.at(np.arange(1)))  # nothing is left to learn: it has its centres
    for block in _blocks(count):
        index.add(np.ascontiguousarray(cells.vectors[block], np.float32))
    index.nprobe = min(CELLS_SEARCHED, max(SCANNED * len(cells.centres) // count, 1))
    for block in _blocks(count):
        part = np.arange(block.start, min(block.stop, count))
        cosines, found = index.search(cells.at(part), k + 1)
        short = (found < 0).any(1)
        own = cells.numbers[part[~short]]
        graph.indices[own], graph.similarities[own] = _without(
            own, cells.numbers[found[~short]], cosines[~short]
        )
        if short.any():  # its cells hold too few
            _look(graph, cells, part[short], np.arange(count))


def _look(graph: Graph, cells: Cells, asked: np.ndarray, among: np.ndarray) -> None:
    """Find the neighbours of what is at some places, itself left out, among other places."""
    own = cells.numbers[asked]
    found, cosines = cells.nearest_among(among, cells.at(asked), graph.indices.shape[1] + 1)
    graph.indices[own], graph.similarities[own] = _without(own, cells.numbers[found], cosines)


def _tell(graph: Graph, cells: Cells, places: np.ndarray, new: np.ndarray) -> None:
    """Put what is new, and nearer than some neighbour, into the lists of what is at ``places``."""
    indices, similarities = graph
    cosines = cells.at(places) @ cells.at(new).T
    rows, added = cells.numbers[places], cells.numbers[new]
    nearer = np.flatnonzero(cosines.max(1) > similarities[rows, -1])
    rows, cosines = rows[nearer], cosines[nearer]
    k = indices.shape[1]
    merged = np.concatenate([similarities[rows], cosines], 1)
    candidates = np.concatenate(
        [indices[rows], np.broadcast_to(added.astype(np.int32), cosines.shape)], 1
    )
    best = np.argsort(-merged, axis=1, kind="stable")[:, :k]
    indices[rows] = np.take_along_axis(candidates, best, 1)
    similarities[rows] = np.take_along_axis(merged, best, 1)
