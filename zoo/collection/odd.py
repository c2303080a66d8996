"""The odd ones: pictures far from all others, or nearer to other groups than to their own."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from zoo.collection.neighbours import BLOCK, Graph, search

__all__ = ["REASONS", "Odd", "misfits", "scores"]

NEAREST = 3, 10
"""Neighbours whose mean distance says how far a picture is from all others: at least, and at most.

In between it is a quarter of the root of the pictures: of many, more may be odd in the same way.
"""
GROUP_NEAREST = 3
"""Neighbours in the own group, and out of it, that are held against each other."""
REASONS = 3
"""Neighbours that are shown with an odd picture."""


class Odd(NamedTuple):
    """How strange each of P pictures is."""

    scores: np.ndarray
    """P float32, higher is stranger."""
    reasons: np.ndarray
    """P x k int32, the neighbours that the score is made of, the nearest first."""


def scores(graph: Graph, vectors: np.ndarray) -> Odd:
    """How far each picture is from all others: 1 less the mean cosine of its nearest.

    The score is from 0 to 2. A picture that has no neighbours has 0.

    Args:
        graph: of the neighbours, of which the nearest are taken.
        vectors: P x d, of unit length, from which no mean was taken away: what all pictures have in
            common is what the odd one lacks.
    """
    least, most = NEAREST
    counted = min(max(math.isqrt(len(vectors)) // 4, least), most)
    count, k = graph.indices.shape
    scores = np.empty(count, np.float32)
    reasons = np.empty((count, min(k, REASONS)), graph.indices.dtype)
    for part, measured in _measured(graph, vectors):
        near = measured.similarities[:, :counted]
        mean = near.mean(1) if near.shape[1] else np.ones(len(near), np.float32)
        scores[part] = 1 - mean
        reasons[part] = measured.indices[:, :REASONS]
    return Odd(scores, reasons)


def _measured(graph: Graph, vectors: np.ndarray) -> Iterator[tuple[slice, Graph]]:
    """The same neighbours with the cosines of other vectors, the nearest by those first: blocks of
    rows, since all at once take as much memory as the graph of very many pictures."""
    for begin in range(0, len(graph.indices), BLOCK):
        part = slice(begin, begin + BLOCK)
        indices = graph.indices[part]
        cosines = np.einsum("pd,pkd->pk", vectors[part], vectors[indices]).astype(np.float32)
        order = np.argsort(-cosines, axis=1, kind="stable")
        yield part, Graph(*(np.take_along_axis(of, order, 1) for of in (indices, cosines)))


def misfits(
    graph: Graph, labels: np.ndarray, vectors: np.ndarray, *, overwrite: bool = False
) -> Odd:
    """How much nearer each picture is to other groups than to its own.

    The score is the mean cosine of its nearest neighbours that are in other groups, less that of
    those in its own group; above 0 it would rather be elsewhere.

    Args:
        graph: of the neighbours.
        labels: P, the number of each picture's group: what was found, or folders, or names. What
            is in none, below 0, is no misfit and has the least score.
        vectors: P x d, of the graph. All of their mean is taken away: what all pictures have in
            common tells no group from another.
        overwrite: nobody needs the vectors any more, so that no copy of them is made.

    Returns:
        The scores, and as the reasons the nearest in other groups, or in its own if all are.
    """
    vectors = _centred(vectors if overwrite else vectors.copy())
    count, k = graph.indices.shape
    away, home, missing = np.empty(count), np.empty(count), np.empty(count, np.int64)
    reasons = np.empty((count, min(k, REASONS)), graph.indices.dtype)
    for part, near in _measured(graph, vectors):
        own = labels[near.indices] == labels[part, None]
        away[part], _ = _first_chosen(near.similarities, ~own)
        home[part], missing[part] = _first_chosen(near.similarities, own)
        first = np.argsort(own, axis=1, kind="stable")[:, :REASONS]
        reasons[part] = np.take_along_axis(near.indices, first, 1)
    short = np.flatnonzero((missing > 0) & (labels >= 0))
    home[short] = _in_own(labels, vectors, short)
    return Odd(np.where(labels >= 0, away - home, -2).astype(np.float32), reasons)


def _centred(vectors: np.ndarray) -> np.ndarray:
    """The vectors, written over: without their mean, of unit length again."""
    if len(vectors):
        vectors -= vectors.mean(0)
    for begin in range(0, len(vectors), BLOCK):
        rest = vectors[begin : begin + BLOCK]
        rest /= np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-12)
    return vectors


def _first_chosen(similarities: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each row's first chosen, and how many it has too few.

    Those are taken to be as near as the last in the list: they are no nearer.
    """
    if not similarities.shape[1]:
        return np.zeros(len(similarities)), np.full(len(similarities), GROUP_NEAREST)
    counted = chosen & (chosen.cumsum(1) <= GROUP_NEAREST)
    missing = GROUP_NEAREST - counted.sum(1)
    total = (similarities * counted).sum(1) + missing * similarities[:, -1]
    return total / GROUP_NEAREST, missing


def _in_own(labels: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The mean cosine of some pictures to the nearest of their own group, whose lists are short.

    A picture that is alone in its group is as far from it as can be.
    """
    means = np.full(len(rows), -1.0)
    for label in np.unique(labels[rows]):
        members = np.flatnonzero(labels == label)
        asked = np.flatnonzero(labels[rows] == label)
        found, cosines = search(vectors[members], vectors[rows[asked]], GROUP_NEAREST + 1)
        itself = members[found] == rows[asked][:, None]
        itself[~itself.any(1), -1] = True
        if len(members) > 1:
            means[asked] = cosines[~itself].reshape(len(asked), -1).mean(1)
    return means
