"""Groups of pictures that are alike, without being told how many: communities of a graph.

The graph of nearest neighbours is weighted with how near two pictures are against how near the
others of both are, so that what is dense and what is scattered are seen alike. Louvain's method
finds communities in it, at several resolutions and with several orders; pictures that it puts
together every time belong together, and a last run on a graph that is weighted by that gives the
groups: in coarse, middle and fine layers. (Leiden's method, as scikit-network has it, gives other
groups each time whatever the seed, and no better ones.)
"""

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.collection.neighbours import BLOCK, Graph, distinct_of, first_of_each
from zoo.errors import InputError
from zoo.optional import optional

__all__ = [
    "DEFAULT",
    "FEW",
    "LARGE",
    "LAYERS",
    "Layer",
    "group",
    "keep_identity",
    "refine",
    "weights",
]

FEW = -1
"""The number of the one group of all pictures that have few of their kind."""

DEFAULT = "middle"
LAYERS = {"coarse": 0.1, "middle": 0.5, "fine": 2.0}
"""The names of the layers, and the resolution of each."""

NEIGHBOURS = 20
"""The nearest, of those that the graph has."""
SCALE = 7
"""How near a picture's neighbours are is told by the distance of this one."""
LEAST = 4
"""Pictures: a smaller group is none."""
LARGE = 100_000
"""Pictures from which on those that are new are grouped by themselves: :func:`refine`."""

_RESOLUTIONS = (0.5, 1.0, 2.0, 4.0)
_ORDERS = 8, 4, 1
"""Runs at each resolution of fewer than 5,000 pictures, of fewer than 100,000, and of more."""
_SHUFFLED = 512
"""Nodes in a block of a large graph: a block is looked at whole, its nodes in a random order."""
_SHARPENED = 3
"""The power of the share of runs in which two pictures are together."""
_ROWS = 65536
"""Of the graph, at once."""
_LEAST_DISTANCE = 1e-4
_DIGITS = 5
"""What is behind these may differ from machine to machine."""


class Layer(NamedTuple):
    """One division of P pictures into groups."""

    name: str
    labels: np.ndarray
    """P int32: the number of each picture's group, from 0, the largest first; FEW for none."""
    sureness: np.ndarray
    """P float32 in [0, 1]: the share of its nearness to others that is to its own group."""


Before = Mapping[str, Mapping[str, int]]
"""Of each layer, the group that each content was in."""


def group(
    graph: Graph,
    hashes: Sequence[str] | None = None,
    number: int | None = None,
    seed: int = 0,
    before: Before | None = None,
) -> list[Layer]:
    """The groups of P pictures, in layers from coarse to fine.

    Args:
        graph: of their neighbours.
        hashes: of their contents: copies are one picture. Without them all differ.
        number: of groups, in the layer "middle", for those who know; all pictures are in one then.
        seed: the same seed gives the same groups.
        before: the groups of the last time, found with the same ``number``, by hash: these stay,
            and the pictures that are new go into them, or into new ones.

    Raises:
        InputError: there are fewer pictures than ``number``.
    """
    first = np.arange(len(graph.indices)) if hashes is None else first_of_each(hashes)
    distinct = distinct_of(first)
    if hashes is not None:  # in an order that does not change when files are moved
        distinct = _by_hash(distinct, hashes)
    place = np.empty(len(first), np.int64)
    place[distinct] = np.arange(len(distinct))
    place = place[first]
    if number is not None and not 1 <= number <= len(distinct):
        raise InputError(
            f"expected a number of groups from 1 to {len(distinct)}, the pictures that differ; got "
            f"{number}"
        )
    graph = _among(graph, distinct, place)
    near = weights(graph)
    del graph  # of a million pictures, hundreds of megabytes
    if before is None or hashes is None:
        divisions = _found(near, _agreed(near, seed), number, seed)
        found = {name: _by_size(labels, place) for name, labels in divisions.items()}
    else:
        found = _extended(near, [hashes[i] for i in distinct], number, seed, before)
    return [
        Layer(name, labels[place], _sureness(near, labels)[place]) for name, labels in found.items()
    ]


def _by_hash(positions: np.ndarray, hashes: Sequence[str]) -> np.ndarray:
    """Some positions in the order of their hashes."""
    return positions[np.argsort(np.array([hashes[i] for i in positions.tolist()], "S"))]


def refine(
    graph: Graph,
    hashes: Sequence[str],
    before: Sequence[Layer],
    new: np.ndarray,
    unused: Sequence[int],
    seed: int = 0,
) -> list[Layer]:
    """The groups of very many pictures of which few are new, at the cost of what is new.

    Groups are found among the new pictures and their neighbours alone. What is in a group stays.

    Args:
        graph: of the neighbours of P pictures.
        hashes: of their contents.
        before: the layers of the last time, FEW for what is new.
        new: P bool, the pictures whose contents were not there then.
        unused: of each layer the least number that no group has had.
    """
    first = first_of_each(hashes)
    added = np.unique(first[new])
    nodes = _by_hash(np.union1d(added, graph.indices[added, :NEIGHBOURS]), hashes)
    near = _weights_among(graph, nodes)
    agreed = _agreed(near, seed)
    is_new = np.isin(nodes, added)
    layers = []
    found = _found(near, agreed, None, seed).values()
    for layer, now, number in zip(before, found, unused, strict=True):
        sizes = np.bincount(layer.labels[layer.labels >= 0], minlength=number)
        joined = _with_new(layer.labels[nodes], now, number, sizes)
        for each in (agreed, near):
            joined = _joining(each, joined, now)
        labels, sureness = layer.labels.copy(), layer.sureness.copy()
        labels[nodes] = joined
        sureness[added] = _sureness(near, joined)[is_new][np.argsort(nodes[is_new])]
        layers.append(Layer(layer.name, labels[first], sureness[first]))
    return layers


def _weights_among(graph: Graph, nodes: np.ndarray) -> Any:
    """As :func:`weights`, of some of the pictures and the edges between them."""
    sparse = optional("scipy.sparse", "scipy", "collection")
    place = np.full(len(graph.indices), -1)
    place[nodes] = np.arange(len(nodes))
    indices, similarities = (of[nodes, :NEIGHBOURS] for of in graph)
    scale = np.sqrt(_squares(similarities[:, min(SCALE, similarities.shape[1]) - 1]))
    rows, columns = np.nonzero(place[indices] >= 0)
    ends = place[indices[rows, columns]]
    near = np.exp(-_squares(similarities[rows, columns]) / (scale[rows] * scale[ends]))
    near = np.maximum(near.round(_DIGITS), 10.0**-_DIGITS)
    directed = sparse.csr_matrix((near, (rows, ends)), shape=(len(nodes), len(nodes)))
    both = ((directed + directed.T) / 2).tocsr()
    both.sort_indices()
    return both


def _found(near: Any, agreed: Any, number: int | None, seed: int) -> dict[str, np.ndarray]:
    """The division of different pictures into groups, for each layer."""
    found = {}
    for name, resolution in LAYERS.items():
        if number is not None and name == DEFAULT:
            found[name] = _just(agreed, number, seed)
        else:
            found[name] = _settled(near, _communities(agreed, resolution, seed))
    return found


def _extended(
    near: Any, hashes: Sequence[str], number: int | None, seed: int, before: Before
) -> dict[str, np.ndarray]:
    """The divisions of the last time, with the pictures that are new."""
    old = {
        name: np.array([groups.get(one, FEW) for one in hashes], np.int32)
        for name, groups in before.items()
    }
    if all(one in before[DEFAULT] for one in hashes):
        return old
    agreed = _agreed(near, seed)
    found = {}
    for name, now in _found(near, agreed, number, seed).items():
        joined = old[name]
        if number is None or name != DEFAULT:
            joined = _with_new(joined, now, max(before[name].values(), default=FEW) + 1)
        for graph in (agreed, near):  # who is with nobody every time goes by nearness alone
            joined = _joining(graph, joined, now)
        found[name] = joined
    return found


def _with_new(
    old: np.ndarray, now: np.ndarray, unused: int, sizes: np.ndarray | None = None
) -> np.ndarray:
    """The groups before, FEW for what was in none, and those found today that are new ones.

    New ones are numbered from ``unused`` on. ``sizes``: of the groups before, if ``old`` is of a
    part of their pictures.
    """
    sizes = np.bincount(old[old != FEW]) if sizes is None else sizes
    extended = old.copy()
    for group in np.unique(now[(old == FEW) & (now != FEW)]):
        if _is_new(old, now == group, sizes):
            extended[(old == FEW) & (now == group)] = unused
            unused += 1
    return extended


def _joining(graph: Any, labels: np.ndarray, now: np.ndarray) -> np.ndarray:
    """The labels, with what is in no group, but in one today, put into that it is nearest to."""
    joined = labels.copy()
    waiting = np.flatnonzero((labels == FEW) & (now != FEW))
    while len(waiting):
        votes = _votes(graph[waiting], joined)
        heard = np.diff(votes.indptr) > 0
        if not heard.any():
            break
        joined[waiting[heard]] = np.asarray(votes[heard].argmax(1)).ravel()
        waiting = waiting[~heard]
    return joined


def _is_new(old: np.ndarray, members: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether a group that is found today is none of those before.

    Most of its members were in none, and of none of those it has most.
    """
    groups, counts = np.unique(old[members & (old != FEW)], return_counts=True)
    if 2 * counts.sum() >= members.sum():
        return False
    return not (2 * counts > sizes[groups]).any()


def _among(graph: Graph, distinct: np.ndarray, place: np.ndarray) -> Graph:
    """The graph of some of the pictures, which has all that are neighbours of any."""
    indices = place.astype(np.int32)[graph.indices[distinct, :NEIGHBOURS]]
    return Graph(indices, graph.similarities[distinct, :NEIGHBOURS])


def weights(graph: Graph, kind: Any = np.float64) -> Any:
    """The symmetric graph P x P, sparse: nearness in (0, 1] against that of both's neighbours.

    Args:
        kind: of the numbers.
    """
    sparse = optional("scipy.sparse", "scipy", "collection")
    count, k = graph.indices.shape
    scale = np.sqrt(_squares(graph.similarities[:, min(SCALE, k) - 1])) if k else np.ones(count)
    nearness = np.empty((count, k), kind)
    for begin in range(0, count, BLOCK):
        part = slice(begin, begin + BLOCK)
        indices = graph.indices[part]
        near = np.exp(-_squares(graph.similarities[part]) / (scale[part, None] * scale[indices]))
        nearness[part] = np.maximum(near.round(_DIGITS), 10.0**-_DIGITS)
    starts = np.arange(count + 1) * k
    directed = sparse.csr_matrix(
        (nearness.ravel(), graph.indices.ravel(), starts), shape=(count, count)
    )
    both = (directed + directed.T).tocsr()
    both.data /= 2
    both.sort_indices()
    return both


def _squares(similarities: np.ndarray) -> np.ndarray:
    """The squared distances of vectors with such cosines."""
    squares: np.ndarray = np.maximum(2 - 2 * similarities.astype(np.float64), _LEAST_DISTANCE)
    return squares


def _communities(near: Any, resolution: float, seed: int) -> np.ndarray:
    """Louvain's method: the number of each node's community, P int."""
    clustering = optional("sknetwork.clustering", "scikit-network", "collection")
    if near.nnz == 0:
        return np.zeros(near.shape[0], np.int64)
    method = clustering.Louvain(
        resolution=resolution, modularity="newman", shuffle_nodes=True, random_state=seed,
        return_probs=False, return_aggregate=False,
    )  # fmt: skip
    if near.shape[0] >= LARGE:
        method._pre_processing = functools.partial(_prepared, method)
    return np.asarray(method.fit_predict(near), np.int64)


def _prepared(method: Any, near: Any, force_bipartite: bool = False) -> tuple[Any, ...]:
    """What Louvain's method begins with, as scikit-network's own preparation gives it.

    That one holds the graph five times, since it does not know that it is symmetric, and looks at
    the nodes in any order. Here nodes that are near come after each other, so that what is known of
    them is in the processor's cache: a million take a quarter of the time.
    """
    sparse = optional("scipy.sparse", "scipy", "collection")
    method._init_vars()
    method.bipartite = False
    count = near.shape[0]
    index = _nearby(near, method.random_state)
    shuffled = near[index]
    place = np.empty(count, near.indices.dtype)
    place[index] = np.arange(count, dtype=place.dtype)
    shuffled.indices = place[shuffled.indices]
    shuffled.has_sorted_indices = False
    degrees = shuffled.dot(np.ones(count))
    degrees /= degrees.sum()
    shuffled.sort_indices()
    shuffled.data *= 1.0 / shuffled.data.sum()
    return shuffled, degrees, degrees.copy(), sparse.identity(count, format="csr"), index


def _nearby(near: Any, random: Any) -> np.ndarray:
    """All nodes in a random order, in which those that are near mostly are in one block.

    The blocks are cut from the order of Cuthill and McKee; they, and the nodes in each, are
    shuffled.
    """
    csgraph = optional("scipy.sparse.csgraph", "scipy", "collection")
    order = csgraph.reverse_cuthill_mckee(near, symmetric_mode=True)
    blocks = [order[begin : begin + _SHUFFLED] for begin in range(0, len(order), _SHUFFLED)]
    return np.concatenate([random.permutation(blocks[i]) for i in random.permutation(len(blocks))])


def _agreed(near: Any, seed: int) -> Any:
    """The graph with each edge weighted by the share of runs that put its ends together."""
    orders = _ORDERS[(near.shape[0] >= 5_000) + (near.shape[0] >= 100_000)]
    counts = np.diff(near.indptr)
    together = np.zeros(near.nnz, np.uint8)
    for resolution in _RESOLUTIONS:
        for order in range(orders):
            labels = _communities(near, resolution, seed * max(_ORDERS) + order).astype(np.int32)
            for rows, edges in _edges(near):
                own = np.repeat(labels[rows], counts[rows])
                together[edges] += own == labels[near.indices[edges]]
    agreed = near.copy()
    for _, edges in _edges(near):
        share = together[edges] / (orders * len(_RESOLUTIONS))
        agreed.data[edges] *= share**_SHARPENED
    agreed.eliminate_zeros()
    return agreed


def _edges(near: Any) -> Iterator[tuple[slice, slice]]:
    """Rows of a sparse graph, and where their edges are, block by block."""
    for begin in range(0, near.shape[0], _ROWS):
        rows = slice(begin, min(begin + _ROWS, near.shape[0]))
        yield rows, slice(int(near.indptr[rows.start]), int(near.indptr[rows.stop]))


def _settled(near: Any, labels: np.ndarray) -> np.ndarray:
    """The labels with those of too small groups given to the group that most of them is near to."""
    sizes = np.bincount(labels)
    large = sizes >= LEAST
    left = np.flatnonzero(~large[labels])
    if not len(left):
        return labels
    settled = np.where(large[labels], labels, FEW)
    votes = _votes(near[left], settled)
    total = np.asarray(near[left].sum(1)).ravel()
    for place, row in enumerate(left):
        ballot = votes[place]
        if ballot.nnz and ballot.data.max() > total[place] / 2:
            settled[row] = ballot.indices[ballot.data.argmax()]
    return settled


def _votes(near: Any, labels: np.ndarray) -> Any:
    """The nearness of rows to each group, n x groups, sparse."""
    return (near @ _member(labels)).tocsr()


def _member(labels: np.ndarray) -> Any:
    """P x groups, sparse: 1 where the picture is in the group."""
    sparse = optional("scipy.sparse", "scipy", "collection")
    there = np.flatnonzero(labels >= 0)
    shape = len(labels), int(labels.max(initial=-1)) + 1
    return sparse.csr_matrix((np.ones(len(there)), (there, labels[there])), shape=shape)


def _sureness(near: Any, labels: np.ndarray) -> np.ndarray:
    """P float32: the share of each picture's nearness that is to its own group; of FEW to FEW."""
    total, own = np.zeros(len(labels)), np.zeros(len(labels))
    for rows, edges in _edges(near):
        count = rows.stop - rows.start
        row = np.repeat(np.arange(count), np.diff(near.indptr[rows.start : rows.stop + 1]))
        same = labels[rows][row] == labels[near.indices[edges]]
        total[rows] = np.bincount(row, near.data[edges], count)
        own[rows] = np.bincount(row, near.data[edges] * same, count)
    share = own / np.maximum(total, 1e-12)
    return np.where(total > 0, share, 1).astype(np.float32)


def _by_size(labels: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The labels numbered from 0 by how many of all pictures, copies too, are in the group."""
    present = np.unique(labels[labels >= 0])
    counts = np.bincount(labels[place][labels[place] >= 0], minlength=present.max(initial=-1) + 1)
    order = present[np.argsort(-counts[present], kind="stable")]
    new = np.full(present.max(initial=-1) + 2, FEW)  # the last is for FEW
    new[order] = np.arange(len(order))
    return np.asarray(new[labels], np.int32)


def _just(near: Any, number: int, seed: int) -> np.ndarray:
    """Communities of which there are just ``number``: the fewest above, and the nearest joined."""
    low, high = -8.0, 16.0  # powers of two; at the higher each node is alone
    best = np.arange(near.shape[0])
    for _ in range(14):
        middle = (low + high) / 2
        labels = _communities(near, 2.0**middle, seed)
        found = int(labels.max()) + 1
        if number <= found <= best.max() + 1:
            best = labels
        if found == number:
            break
        low, high = (middle, high) if found < number else (low, middle)
    return _joined(near, best, number)


def _joined(near: Any, labels: np.ndarray, number: int) -> np.ndarray:
    """The labels with the smallest group joined to the nearest until there are ``number``."""
    member = _member(labels)
    between = np.asarray((member.T @ near @ member).todense())
    np.fill_diagonal(between, 0)
    sizes = np.bincount(labels).astype(np.float64)
    into = np.arange(len(sizes))
    for _ in range(len(sizes) - number):
        least = int(np.argmin(np.where(into == np.arange(len(into)), sizes, np.inf)))
        others = (into == np.arange(len(into))) & (np.arange(len(into)) != least)
        nearness = np.where(others, between[least] / sizes, -1)
        target = int(nearness.argmax())
        between[target] += between[least]
        between[:, target] += between[:, least]
        between[target, target] = 0
        sizes[target] += sizes[least]
        into[into == least] = target
    return np.asarray(np.unique(into[labels], return_inverse=True)[1])


def keep_identity(
    before: Mapping[str, int], labels: np.ndarray, hashes: Sequence[str]
) -> np.ndarray:
    """The labels, renumbered so that a group which is still the same pictures keeps its number.

    Old and new groups are matched by how many contents they share; a match counts when that is
    more than half of what is left of the old group, or of the new one. What is new gets a number
    that none has had.

    Args:
        before: the group of each content at the last time.
        labels: P, of now.
        hashes: of the P contents.
    """
    optimize = optional("scipy.optimize", "scipy", "collection")
    now = {one: int(label) for one, label in zip(hashes, labels.tolist(), strict=True)}
    pairs = [(before[one], label) for one, label in now.items() if before.get(one, FEW) >= 0]
    shared = Counter(pair for pair in pairs if pair[1] >= 0)
    left, sizes = Counter(old for old, _ in pairs), Counter(now.values())
    olds, news = sorted({o for o, _ in shared}), sorted({n for _, n in shared})
    table = np.zeros((len(olds), len(news)))
    for (old, new), count in shared.items():
        table[olds.index(old), news.index(new)] = count
    number = {FEW: FEW}
    for i, j in zip(*optimize.linear_sum_assignment(table, maximize=True), strict=True):
        old, new = olds[i], news[j]
        if 2 * table[i, j] > min(left[old], sizes[new]):
            number[new] = old
    fresh = itertools.count(max(before.values(), default=FEW) + 1)
    for new in sorted(set(now.values()) - set(number)):
        number[new] = next(fresh)
    return np.array([number[label] for label in labels.tolist()], np.int32)
