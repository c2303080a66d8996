"""Where each picture is on the map: UMAP of a sample, and the others beside those they are like."""

import numpy as np

from zoo.collection.neighbours import search
from zoo.optional import optional

__all__ = ["LEAST", "SAMPLE", "places"]

SAMPLE = 10_000
"""Pictures that UMAP places, at most: a minute's work, where a hundred thousand take many."""
LEAST = 10
"""Pictures of which a map says anything."""
NEIGHBOURS = 15
BESIDE = 4
"""Placed pictures that another one is put among."""


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
    if len(others):
        found[others] = _beside(vectors[chosen], found[chosen], vectors[others], rng)
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
    known: np.ndarray, placed: np.ndarray, vectors: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Places near the most alike of those that are ``placed``: nearest the nearest."""
    nearest, cosines = search(known, vectors, BESIDE)
    weights = np.exp(20 * (cosines - cosines[:, :1]))
    weights /= weights.sum(1, keepdims=True)
    # Among those of one neighbourhood only: the middle between two far places is nowhere.
    beside = placed[nearest]
    far = np.linalg.norm(beside - beside[:, :1], axis=2) > 0.05
    weights[far] = 0
    weights /= weights.sum(1, keepdims=True)
    middle = (weights[:, :, None] * beside).sum(1)
    found: np.ndarray = np.clip(middle + rng.normal(scale=0.003, size=middle.shape), 0, 1)
    return found
