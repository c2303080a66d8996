"""Where each picture is on the map: UMAP of a sample, and the others beside those they are like."""

from collections.abc import Callable

import numpy as np

from zoo.collection.cells import Cells
from zoo.collection.neighbours import BLOCK, EXACT, search
from zoo.optional import optional

__all__ = ["LEAST", "SAMPLE", "places"]

SAMPLE = 10_000
"""Pictures that UMAP places, at most: a minute's work, where a hundred thousand take many."""
LEAST = 10
"""Pictures of which a map says anything."""
NEIGHBOURS = 15
BESIDE = 4
"""Placed pictures that another one is put among."""
LOOKED_AT = 16
"""Of so many cells of placed pictures one is looked at, where very many are put beside them."""


def places(vectors: np.ndarray, seed: int = 0, sample: int = SAMPLE) -> np.ndarray | None:
    """A place in [0, 1] x [0, 1] for each of P pictures, P x 2; None for fewer than :data:`LEAST`.

    Args:
        vectors: P x d of unit length.
        sample: how many are placed by UMAP itself.
    """
    if len(vectors) < LEAST:
        return None
    rng = np.random.default_rng(seed)
    chosen = np.arange(len(vectors))
    if len(vectors) > sample:
        chosen = np.sort(rng.choice(len(vectors), sample, replace=False))
    found = np.empty((len(vectors), 2), np.float32)
    found[chosen] = _within(_embedded(vectors[chosen], seed))
    others = np.setdiff1d(np.arange(len(vectors)), chosen)
    nearest = _nearest(vectors[chosen], len(others))
    for begin in range(0, len(others), BLOCK):
        block = others[begin : begin + BLOCK]
        found[block] = _beside(nearest(vectors[block]), found[chosen], rng)
    return found


_Nearest = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Gives positions among those that are placed, and cosines, of :data:`BESIDE` for each vector."""


def _nearest(known: np.ndarray, asked: int) -> _Nearest:
    """What finds the nearest of those that are placed, for so many; for very many, nearly always.

    Those are not compared with all that are placed, which would take minutes.
    """
    if asked <= EXACT:
        return lambda vectors: search(known, vectors, BESIDE)
    faiss = optional("faiss", "faiss-cpu", "collection")
    width, cells = known.shape[1], Cells.of(known, np.arange(len(known)))
    centres = faiss.IndexFlatIP(width)
    centres.add(cells.centres)
    index = faiss.IndexIVFFlat(centres, width, len(cells.centres), faiss.METRIC_INNER_PRODUCT)
    index.train(known[:1])  # nothing is left to learn: it has its centres
    index.add(np.ascontiguousarray(known))
    index.nprobe = max(len(cells.centres) // LOOKED_AT, 1)

    def found(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cosines, nearest = index.search(vectors, BESIDE)
        few = nearest < 0  # where so few are in the cells: the nearest, once more
        return np.where(few, nearest[:, :1], nearest), np.where(few, cosines[:, :1], cosines)

    return found


def _embedded(vectors: np.ndarray, seed: int) -> np.ndarray:
    umap = optional("umap", "umap-learn", "page")
    k = min(NEIGHBOURS, len(vectors) - 1)
    indices, cosines = search(vectors, vectors, k)
    # A picture is the nearest to itself, also where copies of it are as near.
    indices[:, 0] = np.arange(len(vectors))
    distances = np.sqrt(np.maximum(2 - 2 * cosines, 0))
    distances[:, 0] = 0
    placed = umap.UMAP(
        n_neighbors=k,
        min_dist=0.1,
        init=_begin(vectors),
        random_state=seed,
        n_jobs=1,  # which a seed means
        precomputed_knn=(indices, distances),
    ).fit_transform(vectors)
    return np.nan_to_num(np.asarray(placed, np.float64))


def _begin(vectors: np.ndarray) -> np.ndarray:
    """The places to begin with: the first two components, which are the vectors' own first two.

    UMAP's own beginnings are slow, or fail for few pictures or for many that are equal.
    """
    first = np.zeros((len(vectors), 2), np.float32)
    width = min(2, vectors.shape[1])
    first[:, :width] = vectors[:, :width]
    noise = np.random.default_rng(0).normal(scale=1e-3, size=first.shape)
    begun: np.ndarray = (10 * (first + noise)).astype(np.float32)
    return begun


def _within(placed: np.ndarray) -> np.ndarray:
    """The places in a square, whose sides the farthest few of a thousand do not stretch."""
    low, high = np.quantile(placed, (0.002, 0.998), axis=0)
    size = max((high - low).max(), 1e-9)
    straight = np.clip((placed - (low + high) / 2) / size + 0.5, 0, 1)
    # UMAP leaves much room between kinds. Half of what each axis has comes from the order alone.
    ranks = placed.argsort(0, kind="stable").argsort(0, kind="stable") / max(len(placed) - 1, 1)
    return np.asarray(0.03 + 0.94 * (0.5 * straight + 0.5 * ranks))


def _beside(
    found: tuple[np.ndarray, np.ndarray], placed: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Places near the most alike of those that are ``placed``: nearest the nearest."""
    nearest, cosines = found
    weights = np.exp(20 * (cosines - cosines[:, :1]))
    weights /= weights.sum(1, keepdims=True)
    # Among those of one neighbourhood only: the middle between two far places is nowhere.
    beside = placed[nearest]
    far = np.linalg.norm(beside - beside[:, :1], axis=2) > 0.05
    weights[far] = 0
    weights /= weights.sum(1, keepdims=True)
    middle = (weights[:, :, None] * beside).sum(1)
    places: np.ndarray = np.clip(middle + rng.normal(scale=0.003, size=middle.shape), 0, 1)
    return places
