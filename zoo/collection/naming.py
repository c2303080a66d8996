"""Names for all pictures, from the few that a person gave, and what is most worth asking next.

A name spreads along the graph of neighbours: the probability that a picture has a name is that of a
random walk, which starts at the picture and goes from neighbour to neighbour, to end at a picture
of this name. At each step it may also end nowhere, so that what is far from all names keeps none.
A group that was named is one more place where the walks of its members may end.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.collection.decisions import State
from zoo.collection.grouping import LARGE, weights
from zoo.collection.neighbours import Graph, first_of_each
from zoo.optional import optional

__all__ = ["Naming", "Question", "name_all", "propose", "spread"]

LOST = 0.004
"""How likely a walk ends nowhere at each step, against going on to a neighbour."""
GROUP = 0.12
"""How likely a walk ends at the name of the picture's group, against the same."""
TOGETHER = 0.02
"""How likely a walk goes on to any picture of the same group, against the same."""
FEW = 100
"""Members of a group whose name counts as :data:`GROUP` says; that of a smaller one counts more.

What has many copies in the group counts as much more: it is what the person saw and named."""
CLOSE = 1e-8
"""How much is left when the walks have been followed far enough, squared."""
ROUNDS = 200
AT_ONCE = 10_000_000
"""Numbers that are looked for at once, about: of each, six are held."""
_TINY = np.float32(1e-30)
LEAST = 0.4
"""Probability from which a picture has a name: from there on it is right more often than not."""


class Naming(NamedTuple):
    """The names of P pictures.

    Attributes:
        names: all that there are, in the order of the alphabet.
        likeliest: P int32, positions in ``names``; -1 where no name is near.
        probability: P float32, of the likeliest name.
        second: P float32, the probability of the next one.
        given: P bool, whether a person gave this very picture its name.
        named: P bool, whether a picture has a name, the likeliest: one that a person gave it, or
            gave its group while no other is likelier, or one that is probable enough.
    """

    names: list[str]
    likeliest: np.ndarray
    probability: np.ndarray
    second: np.ndarray
    given: np.ndarray
    named: np.ndarray

    def of(self, picture: int) -> str | None:
        """The name of a picture, if it has one."""
        return self.names[self.likeliest[picture]] if self.named[picture] else None


def name_all(
    state: State,
    hashes: Sequence[str],
    graph: Graph,
    labels: np.ndarray | None = None,
    sureness: np.ndarray | None = None,
) -> Naming:
    """The names of a collection's pictures, as a person's decisions and the graph have them.

    Args:
        hashes: of the P pictures, in their order.
        labels: P, the number of each picture's group, -1 for none.
        sureness: P in [0, 1], of those.
    """
    pictures = {i: state.pictures[h] for i, h in enumerate(hashes) if h in state.pictures}
    members = {i: state.members[h] for i, h in enumerate(hashes) if h in state.members}
    return spread(graph, pictures, members, labels, sureness, spans(state, hashes), hashes)


def spans(state: State, hashes: Sequence[str]) -> np.ndarray:
    """How many pictures were named at once when each got the name of its group, P; else 0."""
    return np.array([state.spans.get(each, 0) for each in hashes], np.int64)


def spread(
    graph: Graph,
    pictures: Mapping[int, str],
    members: Mapping[int, str] | None = None,
    labels: np.ndarray | None = None,
    sureness: np.ndarray | None = None,
    spans: np.ndarray | None = None,
    hashes: Sequence[str] | None = None,
) -> Naming:
    """The names of P pictures, of which a person named some.

    Args:
        pictures: the names that were given to pictures one by one, by position; they stay.
        members: the names of groups, by the positions of their members; the neighbours of a member
            may outvote it.
        labels, sureness: as for :func:`name_all`.
        spans: how many pictures were named at once, P, as :func:`spans` gives it.
        hashes: of the contents: copies are one picture, which counts once, and have the same name.
            Without them all differ.
    """
    members = members or {}
    names = sorted({*pictures.values(), *members.values()})
    count = len(graph.indices)
    if not names:
        nothing = np.zeros(count, np.float32)
        none, no = np.full(count, -1, np.int32), np.zeros(count, bool)
        return Naming([], none, nothing, nothing.copy(), no, no.copy())
    first = np.arange(count) if hashes is None else first_of_each(hashes)
    distinct, place = np.unique(first, return_inverse=True)
    there = place.astype(np.int32)
    near = _near(Graph(there[graph.indices[distinct]], graph.similarities[distinct]))
    number = {name: i for i, name in enumerate(names)}
    shape = len(distinct), len(names)
    certain = _indicator({place[i]: number[name] for i, name in pictures.items()}, *shape)
    told = _indicator({place[i]: number[name] for i, name in members.items()}, *shape)
    if spans is not None:
        strength = np.clip(FEW * np.bincount(place) / np.maximum(spans[distinct], 1), 1, 8)
        told *= strength.astype(np.float32)[:, None]
    labels = None if labels is None else labels[distinct]
    sureness = None if sureness is None else np.asarray(sureness, np.float32)[distinct]
    hinted = told if labels is None else told + _hints(labels, certain, told)
    given = np.any(certain, axis=1)
    chances = _walk(near, certain, hinted, given, labels, sureness)
    return _decide(names, chances[place], told[place] > 0, given[place])


def _indicator(which: Mapping[int, int], rows: int, columns: int) -> np.ndarray:
    found = np.zeros((rows, columns), np.float32)
    found[list(which.keys()), list(which.values())] = 1
    return found


def _near(graph: Graph) -> Any:
    """How near pictures are, as the groups were made by: symmetric, P x P, sparse, float32."""
    is_large = len(graph.indices) >= LARGE  # where as many bytes are not to be had twice
    return weights(graph, np.float32 if is_large else np.float64).astype(np.float32, copy=False)


def _walk(
    near: Any,
    certain: np.ndarray,
    told: np.ndarray,
    given: np.ndarray,
    labels: np.ndarray | None,
    sureness: np.ndarray | None,
) -> np.ndarray:
    """The probability that a walk from each picture ends at each name, P x C.

    The walks of one step from i go to j with a probability in proportion to ``near[i, j]``.
    """
    sparse = optional("scipy.sparse", "scipy", "collection")
    count = len(given)
    if labels is not None:
        near = _with_groups(near, labels, sureness)
    more = near.shape[0] - count
    lost = np.full(count, LOST, np.float32)
    if labels is not None:
        lost += np.float32(GROUP) * _silent(labels, given | told.any(1))
    certain = np.pad(certain, ((0, more), (0, 0)))
    told = np.pad(told, ((0, more), (0, 0)))
    free = np.pad(~given, (0, more), constant_values=True)
    degree = np.asarray(near.sum(1)).ravel()
    ends = np.float32(GROUP) * degree[:, None] * told
    lost = np.pad(lost, (0, more), constant_values=LOST)
    total = np.maximum(degree * (1 + lost) + ends.sum(1), _TINY)
    if count >= LARGE:
        certain += _followed(near, certain, ends, total, free)
        return certain[:count]
    near = near[free]
    inner = (sparse.diags(total[free]) - near[:, free]).tocsr()
    arriving = near @ certain + ends[free]
    chances = certain
    chances[free] = _solve(lambda columns: inner @ columns, arriving, total[free])
    return chances[:count]


def _followed(
    near: Any, certain: np.ndarray, ends: np.ndarray, total: np.ndarray, free: np.ndarray
) -> np.ndarray:
    """What :func:`_walk` solves, without a copy of the graph, which of very many is too much."""

    def product(columns: np.ndarray) -> np.ndarray:
        found: np.ndarray = total[:, None] * columns - near @ columns
        found[~free] = 0
        return found

    ends += near @ certain
    ends[~free] = 0
    return _solve(product, ends, total)


def _hints(labels: np.ndarray, certain: np.ndarray, told: np.ndarray) -> np.ndarray:
    """What the pictures that were named say of the other members of groups that were not, P x C.

    Of n named pictures of a group each says as much as the group's own name would, if it was named,
    divided by n + 0.5.
    """
    places = np.where(labels < 0, labels.max(initial=-1) + 1, labels)
    counts = np.zeros((int(places.max(initial=-1)) + 1, certain.shape[1]), np.float32)
    np.add.at(counts, places, certain)
    hints: np.ndarray = counts / (counts.sum(1, keepdims=True) + np.float32(0.5))
    named = np.isin(labels, np.unique(labels[told.any(1)])) | (labels < 0)
    return np.where(named[:, None], np.float32(0), hints[places])


def _silent(labels: np.ndarray, spoken: np.ndarray) -> np.ndarray:
    """P bool: members of groups of which no member is ``spoken`` of, by itself or as a member.

    A person who names one group does not mean the next one, however near it is.
    """
    silent: np.ndarray = (labels >= 0) & ~np.isin(labels, np.unique(labels[spoken]))
    return silent


def _with_groups(near: Any, labels: np.ndarray, sureness: np.ndarray | None) -> Any:
    """A place more for each group, from where one goes on to any member of it."""
    sparse = optional("scipy.sparse", "scipy", "collection")
    members = np.flatnonzero(labels >= 0)
    _, group = np.unique(labels[members], return_inverse=True)
    degree = np.asarray(near.sum(1)).ravel()[members]
    links = np.float32(TOGETHER) * degree * (1.0 if sureness is None else sureness[members])
    count, groups = len(labels), int(group.max(initial=-1)) + 1
    # By hand: scipy's own way holds the graph of a million pictures three times.
    ends = near.indptr.astype(np.int64)
    ends[1:] += (labels >= 0).cumsum()
    size = int(ends[-1])
    order = np.argsort(group, kind="stable")
    starts = size + np.concatenate([[0], np.bincount(group, minlength=groups).cumsum()])
    data = np.empty(int(starts[-1]), np.result_type(near.data, links))
    indices = np.empty(len(data), np.int32)
    own = np.ones(size, bool)
    own[ends[1:][members] - 1] = False
    data[:size][own], indices[:size][own] = near.data, near.indices
    data[:size][~own], indices[:size][~own] = links, count + group
    data[size:], indices[size:] = links[order], members[order]
    indptr = np.concatenate([ends, starts[1:]])
    return sparse.csr_matrix((data, indices, indptr), (count + groups, count + groups))


def _solve(
    product: Callable[[np.ndarray], np.ndarray], right: np.ndarray, diagonal: np.ndarray
) -> np.ndarray:
    """A matrix (symmetric, its diagonal the larger) divided into each column of ``right``.

    Conjugate gradients, all columns at once, or of very many rows some.
    """
    if right.size > AT_ONCE and right.shape[1] > 1:
        half = right.shape[1] // 2
        parts = right[:, :half], right[:, half:]
        return np.concatenate([_solve(product, part, diagonal) for part in parts], 1)
    found = np.zeros_like(right)
    rest = right.copy()
    scaled = rest / diagonal[:, None]
    direction = scaled.copy()
    size = (rest * scaled).sum(0)
    enough = CLOSE * np.maximum(size, _TINY)
    for _ in range(ROUNDS):
        if (size <= enough).all():
            break
        moved = product(direction)
        step = size / np.maximum((direction * moved).sum(0), _TINY)
        found += step * direction
        rest -= step * moved
        scaled = rest / diagonal[:, None]
        before, size = size, (rest * scaled).sum(0)
        direction = scaled + size / np.maximum(before, _TINY) * direction
    return found


def _decide(names: list[str], chances: np.ndarray, told: np.ndarray, given: np.ndarray) -> Naming:
    chances = np.clip(chances, 0, 1)
    likeliest = chances.argmax(1).astype(np.int32)
    ordered = np.sort(chances, 1)
    probability = ordered[:, -1].astype(np.float32)
    second = ordered[:, -2] if len(names) > 1 else np.zeros(len(chances))
    named = (probability >= LEAST) | told[np.arange(len(told)), likeliest]
    likeliest[probability <= 0] = -1
    return Naming(
        names, likeliest, probability, second.astype(np.float32), given, named & (likeliest >= 0)
    )


# -- what to ask next ----------------------------------------------------------------------------


class Question(NamedTuple):
    """Pictures whose name is worth asking for.

    Attributes:
        layer: of the group that is asked for; empty if it is one picture.
        group: its number.
        pictures: positions of what to show, from the most typical member to the least: who sees
            only typical ones takes the group for purer than it is.
        size: how many pictures the group has.
        gain: how many pictures are expected to get another name, or one at all: of a group those
            that are not sure to have a name, as sure as they are of the group.
        guess: what the answer may be: the likeliest name of most, and "" without any.
    """

    layer: str
    group: int | None
    pictures: np.ndarray
    size: int
    gain: float
    guess: str


def propose(
    layers: Sequence[tuple[str, np.ndarray, np.ndarray]],
    naming: Naming,
    graph: Graph,
    spans: np.ndarray | None = None,
    count: int = 10,
    shown: int = 9,
) -> list[Question]:
    """What is most worth asking, the best first: groups, and pictures one by one.

    Args:
        layers: of groups: name, numbers, and how sure they are. Groups of the layers behind the
            first are asked for where most of their members have a name already, and may be another
            kind than they were named with.
        naming: as it is so far.
        spans: how many pictures were named at once when each got the name of its group, P, 0 for
            those that got none. What was asked already is not asked again.
        count: questions, at most.
        shown: pictures of each group.
    """
    near = _near(graph)
    unsure = np.where(naming.given, 0, 1 - np.where(naming.likeliest >= 0, naming.probability, 0))
    spans = np.zeros(len(unsure)) if spans is None else spans
    questions = [
        question
        for i, layer in enumerate(layers)
        for question in _of_groups(layer, naming, near, unsure, spans, shown, i > 0)
    ]
    questions += _of_pictures(naming, near, unsure, count)
    questions.sort(key=lambda question: -question.gain)
    labels = {name: numbers for name, numbers, _ in layers}
    return _apart(questions, labels, len(unsure), count)


def _apart(
    questions: list[Question], layers: Mapping[str, np.ndarray], pictures: int, count: int
) -> list[Question]:
    """The first questions that are not about much the same pictures as one before."""
    asked = np.zeros(pictures, bool)
    chosen: list[Question] = []
    for question in questions:
        if len(chosen) == count:
            break
        about = question.pictures
        if question.group is not None:
            about = np.flatnonzero(layers[question.layer] == question.group)
        if 2 * asked[about].sum() < len(about):
            chosen.append(question)
            asked[about] = True
    return chosen


def _of_groups(
    layer: tuple[str, np.ndarray, np.ndarray],
    naming: Naming,
    near: Any,
    unsure: np.ndarray,
    spans: np.ndarray,
    shown: int,
    again: bool,
) -> list[Question]:
    """A question for each group that was not named as a whole, nor as a part of little more.

    ``again``: only for those that were named as a part of more.
    """
    name, labels, sureness = layer
    inside = _inside(near, labels)
    questions = []
    for group in np.unique(labels[labels >= 0]):
        members = np.flatnonzero(labels == group)
        told = (spans[members] > 0) & (spans[members] <= 1.5 * len(members))
        if len(members) < 2 or 2 * told.sum() > len(members):
            continue
        if again and 2 * naming.named[members].sum() <= len(members):
            continue
        ordered = members[np.argsort(-inside[members], kind="stable")]
        typical = ordered[np.unique(np.linspace(0, len(members) - 1, shown).astype(int))]
        questions.append(
            Question(
                name, int(group), typical, len(members),
                float((unsure * sureness)[members].sum()), _guess(naming, members),
            )
        )  # fmt: skip
    return questions


def _inside(near: Any, labels: np.ndarray) -> np.ndarray:
    """How much of each picture's neighbourhood is in its own group."""
    pairs = near.tocoo()
    same = labels[pairs.row] == labels[pairs.col]
    return np.bincount(pairs.row[same], pairs.data[same], len(labels))


def _guess(naming: Naming, members: np.ndarray) -> str:
    """The name that most of some pictures may have."""
    likely = naming.likeliest[members]
    sums = np.bincount(likely[likely >= 0], naming.probability[members][likely >= 0])
    return naming.names[int(sums.argmax())] if sums.size else ""


def _of_pictures(naming: Naming, near: Any, unsure: np.ndarray, count: int) -> list[Question]:
    """A question for each of the pictures whose neighbours would gain most, no two of them near."""
    sparse = optional("scipy.sparse", "scipy", "collection")
    degree = np.maximum(np.asarray(near.sum(1)).ravel(), 1e-30)
    heard = (sparse.diags(1 / degree) @ near).tocsr()  # how much of each one's walk goes where
    gain = unsure * (1 + heard.T @ unsure)
    questions: list[Question] = []
    left = np.ones(len(gain), bool)
    for picture in np.argsort(-gain, kind="stable"):
        if len(questions) == count or gain[picture] <= 0:
            break
        if left[picture]:
            left[near.indices[near.indptr[picture] : near.indptr[picture + 1]]] = False
            one = np.array([picture])
            questions.append(Question("", None, one, 1, float(gain[picture]), _guess(naming, one)))
    return questions
