"""Copies among the pictures of a collection, in three bands; nothing is ever deleted.

same file
    the same bytes, by content hash.
same picture
    turned, mirrored, cropped a little, resized, saved again or in another format: each verified
    with the one to keep, pixel by pixel (:mod:`zoo.collection.matching`).
alike
    similar features and nothing more, by a threshold that :func:`preview` helps to choose.

A set has no chains: each of its pictures is a copy of the one to keep, not only of one that is.
"""

import functools
import io
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.collection import matching
from zoo.collection.decisions import State
from zoo.collection.neighbours import Graph, first_of_each
from zoo.collection.store import Pictures
from zoo.errors import CollectionError
from zoo.files import replacing
from zoo.optional import optional

if TYPE_CHECKING:
    from zoo.collection.opened import Opened
    from zoo.collection.store import Store

__all__ = [
    "BANDS",
    "Candidates",
    "Duplicates",
    "Set",
    "Verdicts",
    "alike",
    "best_first",
    "decoder",
    "find",
    "numbered",
    "preview",
    "same_file",
    "same_picture",
]

BANDS = ("same_file", "same_picture", "alike")
SECONDS = 60.0
"""What was compared is kept after so long, also before all is."""
THRESHOLD = 0.95
"""The cosine of features from which pictures are alike, unless another is asked for."""
STEPS = (0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
"""The thresholds of a preview."""


@dataclass(frozen=True)
class Set:
    """Pictures that are copies of the first of them, which is the one to keep.

    Attributes:
        band: one of :data:`BANDS`.
        members: positions among the pictures, the one to keep first.
        why: why the first is the one to keep.
        kept: a person said that all of them may stay.
    """

    band: str
    members: tuple[int, ...]
    why: str
    kept: bool = False


# -- the one to keep -----------------------------------------------------------------------------


def best_first(positions: Iterable[int], pictures: Pictures) -> tuple[list[int], str]:
    """``positions`` with the one to keep first, and why: largest, least compressed, oldest."""
    order = sorted(positions, key=functools.partial(_rank, pictures))
    if len(order) < 2:
        return order, ""
    first, second = (_rank(pictures, i) for i in order[:2])
    best = order[0]
    if first[0] != second[0]:
        why = f"the largest: {pictures.widths[best]} x {pictures.heights[best]} pixels"
    elif first[1] != second[1]:
        why = f"of the largest the least compressed: {pictures.bytes[best]:,} bytes"
    elif first[2] != second[2]:
        why = "otherwise equal, and the oldest"
    else:
        why = "all are equal; the first by its path"
    return order, why


def _rank(pictures: Pictures, i: int) -> tuple[int, int, int, str]:
    """The smaller, the rather kept."""
    pixels = int(pictures.widths[i]) * int(pictures.heights[i])
    return -pixels, -int(pictures.bytes[i]), int(pictures.mtimes[i]), pictures.paths[i]


def _set(band: str, positions: Iterable[int], pictures: Pictures, state: State) -> Set:
    order, why = best_first(positions, pictures)
    hashes = {pictures.hashes[i] for i in order}
    # Files of one content are kept by a decision on that content alone.
    kept = state.are_kept(hashes) if len(hashes) > 1 else (*hashes,) in state.keep_both
    return Set(band, tuple(order), why, kept)


def _sorted(sets: Iterable[Set]) -> list[Set]:
    return sorted(sets, key=lambda each: min(each.members))


# -- same file -----------------------------------------------------------------------------------


def same_file(pictures: Pictures, state: State | None = None) -> list[Set]:
    """Files with the same bytes."""
    state = state or State()
    first = first_of_each(pictures.hashes)
    copied: dict[int, list[int]] = {}
    for i in np.flatnonzero(first != np.arange(len(first))).tolist():
        copied.setdefault(int(first[i]), [int(first[i])]).append(i)
    return _sorted(_set("same_file", each, pictures, state) for each in copied.values())


# -- same picture --------------------------------------------------------------------------------


@dataclass
class Verdicts:
    """Which pairs of contents were compared, and which of them are one picture.

    A verdict is of two contents and never gets stale, so it is kept in the collection's folder; a
    folder of an older way of comparing starts anew.

    Attributes:
        same: by the hashes of a pair, in order.
        unread: contents that could not be read again, so that nothing was compared with them.
        kept: how many of the pairs are in the folder.
    """

    same: dict[tuple[str, str], bool] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    kept: int = 0

    FILE = "duplicates.parquet"
    VERSION = "1"

    @classmethod
    def load(cls, folder: Path) -> "Verdicts":
        """Those that are kept in a collection's folder; none if there are none, or older ones."""
        arrow = optional("pyarrow", "pyarrow", "collection")
        parquet = optional("pyarrow.parquet", "pyarrow", "collection")
        try:
            with (folder / cls.FILE).open("rb") as file:
                table = parquet.read_table(file, use_threads=False)
            if (table.schema.metadata or {}).get(b"version") != cls.VERSION.encode():
                return cls()
            columns = (table[name].to_pylist() for name in ("first", "second", "same"))
            found = {(a, b): same for a, b, same in zip(*columns, strict=True)}
            return cls(found, kept=len(found))
        except (OSError, arrow.ArrowException, KeyError):
            return cls()  # they only save time

    def save(self, folder: Path) -> None:
        """Keep them in a collection's folder; other threads may add some. Raises: OSError."""
        arrow = optional("pyarrow", "pyarrow", "collection")
        parquet = optional("pyarrow.parquet", "pyarrow", "collection")
        pairs = list(self.same)
        table = arrow.table(
            {
                "first": arrow.array([a for a, _ in pairs], arrow.string()),
                "second": arrow.array([b for _, b in pairs], arrow.string()),
                "same": arrow.array([self.same[pair] for pair in pairs], arrow.bool_()),
            }
        ).replace_schema_metadata({"version": self.VERSION})
        with replacing(folder / self.FILE) as file:
            parquet.write_table(table, file, compression="zstd")
        self.kept = len(pairs)

    @property
    def new(self) -> int:
        """How many pairs are not in the folder yet."""
        return len(self.same) - self.kept

    def get(self, first: str, second: str) -> bool | None:
        return self.same.get((min(first, second), max(first, second)))

    def put(self, first: str, second: str, same: bool) -> None:
        self.same[min(first, second), max(first, second)] = same


@dataclass
class Candidates:
    """Which pictures have to be compared, which takes longest to find where there are very many.

    It depends on the pictures alone, so that it is kept in the collection's folder; when others
    come, theirs are found, and the rest stays.

    Attributes:
        contents: of each distinct content the first 16 digits of its hash, bytes.
        pairs: M x 2, positions among the contents, the smaller first.
        misfits: M, by how much the small pixels of each pair differ, in parts of their contrast.
    """

    contents: np.ndarray = field(default_factory=lambda: np.empty(0, "S16"))
    pairs: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int64))
    misfits: np.ndarray = field(default_factory=lambda: np.empty(0, np.float16))

    FILE = "candidates.npz"
    VERSION = 3

    @classmethod
    def load(cls, folder: Path) -> "Candidates":
        """Those that are kept in a collection's folder; none if it has no whole ones."""
        try:
            with np.load(folder / cls.FILE, allow_pickle=False) as file:
                if file["version"] != cls.VERSION:
                    return cls()
                found = cls(file["contents"], file["pairs"], file["misfits"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return cls()
        return found if found._is_whole() else cls()

    def _is_whole(self) -> bool:
        pairs = self.pairs
        return (
            self.contents.ndim == 1
            and self.contents.dtype == "S16"
            and self.misfits.ndim == 1
            and pairs.shape == (*self.misfits.shape, 2)
            and (pairs.dtype.kind, self.misfits.dtype.kind) == ("i", "f")
            and (not len(pairs) or bool(0 <= pairs.min() <= pairs.max() < len(self.contents)))
        )

    def save(self, folder: Path) -> None:
        """Keep them in a collection's folder. Raises: OSError."""
        with replacing(folder / self.FILE) as file:
            np.savez(
                file, allow_pickle=False, contents=self.contents, pairs=self.pairs,
                misfits=self.misfits, version=self.VERSION,
            )  # fmt: skip

    def move_to(self, hashes: Sequence[str]) -> np.ndarray:
        """Keep those of the contents that are there now; which of these are new, n bool."""
        now = np.array(hashes, "S16")
        new = np.ones(len(now), bool)
        if not len(now) or not len(self.contents):
            self.forget()
            self.contents = now
            return new
        if np.array_equal(now, self.contents):
            return ~new
        order = np.argsort(now, kind="stable")
        at = np.searchsorted(now, self.contents, sorter=order)
        place = order[np.minimum(at, len(now) - 1)]
        there = now[place] == self.contents
        new[place[there]] = False
        kept = there[self.pairs].all(1)
        self.pairs = np.sort(place[self.pairs[kept]], axis=1)
        self.contents, self.misfits = now, self.misfits[kept]
        return new

    def forget(self) -> None:
        self.pairs, self.misfits = self.pairs[:0], self.misfits[:0]

    def add(self, pairs: np.ndarray, misfits: np.ndarray) -> None:
        self.pairs = np.concatenate([self.pairs, pairs])
        self.misfits = np.concatenate([self.misfits, misfits])


Decode = Callable[[int, int], "np.ndarray | None"]
"""A picture, by its position, squeezed to a square of a side; None if it cannot be read."""


def same_picture(
    pictures: Pictures,
    small: matching.Rows,
    decode: Decode,
    graph: Graph | None = None,
    state: State | None = None,
    verdicts: Verdicts | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
    candidates: Candidates | None = None,
) -> list[Set]:
    """Pictures that are the same but for how they were turned, cropped and saved.

    Args:
        small: the small pixels at some positions.
        decode: called in several threads.
        graph: the neighbours by features, which propose pairs besides the small pixels.
        state: what a person decided.
        verdicts: of earlier runs, which are not made again; new ones are put there.
        progress: called with how many pairs of candidates are settled, and of how many.
        candidates: of an earlier run; found ones are put there.
    """
    state = state or State()
    verdicts = verdicts if verdicts is not None else Verdicts()
    first = first_of_each(pictures.hashes)
    distinct, place = np.unique(first, return_inverse=True)
    if len(distinct) < 2:
        return []
    judge = _Judge(pictures, distinct, lambda rows: small(distinct[rows]), decode, verdicts)
    judge.state = state
    candidates = candidates if candidates is not None else Candidates()
    new = candidates.move_to([pictures.hashes[i] for i in distinct.tolist()])
    if new.any():
        if len(new) <= matching.EXACT or 4 * new.sum() > len(new):
            candidates.forget()  # all are found at once, or most are new
            new[:] = True
        more = () if graph is None else _pairs_of(graph, place)
        found = matching.candidates(judge.small, len(distinct), more=more, new=new)
        candidates.add(*judge.likely(found))
    groups = judge.sets(candidates.pairs, candidates.misfits, progress)
    order = np.argsort(place, kind="stable")  # the copies of each content, one behind the other
    ends = np.bincount(place).cumsum()
    copies = {c: order[ends[c - 1] if c else 0 : ends[c]].tolist() for g in groups for c in g}
    return _sorted(
        _set("same_picture", (i for content in group for i in copies[content]), pictures, state)
        for group in groups
    )


def _pairs_of(graph: Graph, place: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs of distinct contents that are neighbours, in blocks."""
    k = graph.indices.shape[1]
    for begin in range(0, len(place), _BLOCK):
        near = graph.indices[begin : begin + _BLOCK].ravel()
        asked = np.repeat(place[begin : begin + _BLOCK], k)
        there = near >= 0
        yield matching.ordered(np.stack([asked[there], place[near[there]]], 1))


_BLOCK = 16384
_CERTAIN = 0.12
"""A misfit of small pixels that asks for the files at once: bricks, so small, say little more."""
_CLOSE = 0.05
"""A misfit of small pixels that few but copies of one picture have, so that what such pairs lead to
stays small: of 200,000 drawings and photographs at most 216 pictures, of 0.12 thousands."""


class _Judge:
    """Compares contents, by their number among the distinct ones.

    Of very many copies of very many pictures that look alike, most pairs are of two pictures. So a
    content is compared with the first of the set that it fits most closely, and when it belongs
    there with no other; and of two sets that are alike the first ones are compared, once.
    """

    def __init__(
        self,
        pictures: Pictures,
        distinct: np.ndarray,
        small: matching.Rows,
        decode: Decode,
        verdicts: Verdicts,
    ):
        self.pictures = pictures
        self.distinct = distinct
        self.small = small
        self.verdicts = verdicts
        self.near: dict[int, list[int]] = {}
        self.sets_of: dict[int, list[int]] = {}
        self.state = State()
        self._decode = functools.lru_cache(512)(decode)
        self._may_turn = functools.lru_cache(1 << 16)(self._turns)

    def likely(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of some pairs whose small pixels say that they may be the same; their misfits."""
        from zoo.images import in_order

        def of(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            fit = matching.fit_small(self.small, block)
            there = matching.likely(self.small, block, fit)
            return block[there], fit.misfit[there].min(1).astype(np.float16)

        parts = list(in_order(of, np.array_split(pairs, len(pairs) // _BLOCK + 1)))
        kept, misfits = (np.concatenate(each) for each in zip(*parts, strict=True))
        return kept, misfits

    def sets(
        self, pairs: np.ndarray, misfits: np.ndarray, progress: Callable[[int, int], None]
    ) -> list[list[int]]:
        """Contents that may be the same by ``pairs``, in sets: all of one are the same picture as
        the first of it, which is the best to keep."""
        from zoo.images import in_order

        order = np.argsort(misfits, kind="stable")
        pairs, close = pairs[order], int((misfits < _CLOSE).sum())
        for begin in range(0, close, _BLOCK):
            for a, b in pairs[begin : min(begin + _BLOCK, close)].tolist():
                self.near.setdefault(a, []).append(b)
                self.near.setdefault(b, []).append(a)
        done = 0
        families = list(_families(self.near))
        for family, groups in zip(families, in_order(self._led, families), strict=True):
            self._remember(groups)
            done += sum(len(self.near[each]) for each in family) // 2
            progress(done, len(pairs))
        left = self._between_sets(pairs)
        for i, _ in enumerate(in_order(self._looked_ahead, left)):
            self._join(*left[i].tolist())
            progress(done + (len(pairs) - done) * (i + 1) // len(left), len(pairs))
        each_once = {id(group): group for group in self.sets_of.values()}
        return [group for group in each_once.values() if len(group) > 1]

    def _led(self, contents: Iterable[int]) -> list[list[int]]:
        """Sets of some contents, each in the closest one whose first is the same picture."""
        groups: list[list[int]] = []
        of: dict[int, list[int]] = {}
        for each in sorted(contents, key=self._rank):
            near = {id(of[other]): of[other] for other in self.near.get(each, ()) if other in of}
            for group in self._closest_first(each, list(near.values())):
                if self._belongs(each, group):
                    break
            else:
                groups.append(group := [])
            group.append(each)
            of[each] = group
        return groups

    def _closest_first(self, content: int, groups: list[list[int]]) -> list[list[int]]:
        """Those of some sets whose first it may be the same picture as."""
        if len(groups) < 2:
            return groups
        pairs = np.array([(group[0], content) for group in groups])
        misfits = matching.fit_small(self.small, pairs).misfit
        size = self._size(int(self.distinct[content]))
        turns = self._may_turn(content, matching.side_for(*size))
        least = misfits.min(1) if turns else misfits[:, 0]
        order = np.argsort(least, kind="stable").tolist()
        return [groups[i] for i in order if least[i] <= matching.LIKELY]

    def _turns(self, content: int, side: int) -> bool:
        """Whether it may be the same as a picture that is turned."""
        pixels = self._decode(int(self.distinct[content]), side)
        return pixels is None or matching.may_turn(pixels)

    def _remember(self, groups: Iterable[list[int]]) -> None:
        for group in groups:
            self.sets_of |= dict.fromkeys(group, group)

    def _set(self, content: int) -> list[int]:
        return self.sets_of.setdefault(content, [content])

    def _between_sets(self, pairs: np.ndarray) -> np.ndarray:
        """One pair of each two sets that some pairs lead from one to the other."""
        first = np.arange(len(self.distinct))
        for content, group in self.sets_of.items():
            first[content] = group[0]
        low, high = np.sort(first[pairs], axis=1).T
        _, one = np.unique(low * len(first) + high, return_index=True)  # the closest come first
        one = np.sort(one[low[one] != high[one]])
        found: np.ndarray = pairs[one]
        return found

    def _looked_ahead(self, pair: np.ndarray) -> None:
        """Compare in a thread what :meth:`_join` will ask for, if no set changes until then."""
        firsts = (self.sets_of.get(each, [each])[0] for each in pair.tolist())
        best, other = sorted(firsts, key=self._rank)
        if best != other:
            self._is_same(best, other)

    def _join(self, a: int, b: int) -> None:
        """Make one set of those of two contents, as far as they are the same picture."""
        to, other = sorted((self._set(a), self._set(b)), key=lambda group: self._rank(group[0]))
        if to is other or not self._belongs(other[0], to):
            return
        left = []
        for each in other:
            if self._belongs(each, to):
                to.append(each)
            else:
                left.append(each)
        self._remember([to, *self._led(left)])

    def _belongs(self, other: int, group: Sequence[int]) -> bool:
        apart = self.state.are_apart
        if self.state.not_duplicates and any(
            apart(self._hash(other), self._hash(each)) for each in group
        ):
            return False
        return self._is_same(group[0], other)

    def _is_same(self, a: int, b: int) -> bool:
        known = self.verdicts.get(self._hash(a), self._hash(b))
        if known is None:
            known = self._compare(a, b)
            if known is None:
                return False
            self.verdicts.put(self._hash(a), self._hash(b), known)
        return known

    def _compare(self, a: int, b: int) -> bool | None:
        """Whether two contents are one picture; None if one cannot be read any more."""
        i, j = int(self.distinct[a]), int(self.distinct[b])
        side = matching.side_for(*self._size(i), *self._size(j))
        fit = matching.fit_small(self.small, np.array([[a, b]]))
        misfit, crop = fit.misfit[0], fit.crop[0]
        for orientation in matching.worth_trying(misfit):
            certain = misfit[orientation] < _CERTAIN
            if not certain and not self._looks_like(a, b, orientation, int(crop[orientation])):
                continue
            if orientation and not (self._may_turn(a, side) and self._may_turn(b, side)):
                continue
            first, second = self._decode(i, side), self._decode(j, side)
            if first is None or second is None:
                gone = i if first is None else j
                self.verdicts.unread.add(self.pictures.hashes[gone])
                return None
            same = functools.partial(
                matching.is_same,
                is_turned=orientation != 0,
                proportions=self._proportions(i, j, orientation),
            )
            other = matching.turned(second, orientation)
            if same(matching.compare(first, other, int(crop[orientation]), same)):
                return True
        return False

    def _looks_like(self, a: int, b: int, orientation: int, crop: int) -> bool:
        """Whether the small pixels alone allow for it, so that the files are worth decoding."""
        first, second = self.small(np.array([a, b]))
        seen = matching.compare(first, matching.turned(second, orientation), crop)
        return matching.may_be_same(seen)

    def _hash(self, content: int) -> str:
        return self.pictures.hashes[int(self.distinct[content])]

    def _rank(self, content: int) -> Any:
        return _rank(self.pictures, int(self.distinct[content]))

    def _size(self, i: int) -> tuple[int, int]:
        return int(self.pictures.widths[i]), int(self.pictures.heights[i])

    def _proportions(self, i: int, j: int, orientation: int) -> float:
        (width, height), (other_width, other_height) = self._size(i), self._size(j)
        if orientation & 4:
            other_width, other_height = other_height, other_width
        return other_width * height / (other_height * width)


def _families(near: dict[int, list[int]]) -> Iterator[set[int]]:
    """Contents that candidates lead from one to the other."""
    seen: set[int] = set()
    for begin in near:
        if begin not in seen:
            family = _reached(begin, near)
            seen |= family
            yield family


def _reached(begin: int, near: dict[int, list[int]]) -> set[int]:
    reached, ahead = {begin}, [begin]
    while ahead:
        for other in near[ahead.pop()]:
            if other not in reached:
                reached.add(other)
                ahead.append(other)
    return reached


def decoder(store: "Store", pictures: Pictures) -> Decode:
    """Decodes the pictures of a collection out of their files and archives."""
    from zoo.collection.entries import read_bytes
    from zoo.collection.remote import is_url
    from zoo.errors import ImageError
    from zoo.images import decode, fit_all
    from zoo.spec import Preprocessing

    def source(position: int) -> Path | io.BytesIO:
        if pictures.members[position] is None and not is_url(pictures.paths[position]):
            return Path(pictures.paths[position])
        return io.BytesIO(read_bytes(store, int(pictures.rows[position])))

    def read(position: int, side: int) -> np.ndarray | None:
        shape = Preprocessing(channels=3, height=side, width=side, fit="stretch", background=1.0)
        try:
            found = decode(source(position), shape)
        except (CollectionError, ImageError, OSError):
            return None
        image = fit_all([found.pixels], shape)[0]
        pixels: np.ndarray = (image * 255).round().byte().permute(1, 2, 0).numpy()
        return pixels

    return read


# -- alike ---------------------------------------------------------------------------------------


def alike(
    graph: Graph,
    pictures: Pictures,
    threshold: float = THRESHOLD,
    known: Iterable[Set] = (),
    state: State | None = None,
) -> list[Set]:
    """Pictures whose features are at least as similar as ``threshold``, and no more is known.

    Args:
        known: sets of the same picture, each of which counts as one here.
    """
    state = state or State()
    one = _representatives(pictures, known)
    near = _near(graph, threshold, one)
    sets = []
    for group in _stars(near, sorted(near, key=functools.partial(_rank, pictures))):
        hashes = [pictures.hashes[i] for i in group]
        apart = {j for j in range(1, len(group)) if state.are_apart(hashes[0], hashes[j])}
        group = [i for j, i in enumerate(group) if j not in apart]
        if len(group) > 1:
            sets.append(_set("alike", group, pictures, state))
    return _sorted(sets)


def preview(
    graph: Graph,
    pictures: Pictures,
    known: Iterable[Set] = (),
    thresholds: Sequence[float] = STEPS,
) -> list[dict[str, float]]:
    """How many sets and pictures each threshold of :func:`alike` would take."""
    one = _representatives(pictures, known)
    rows = []
    for threshold in thresholds:
        near = _near(graph, threshold, one)
        sets = list(_stars(near, sorted(near, key=functools.partial(_rank, pictures))))
        rows.append(
            {
                "threshold": threshold,
                "sets": len(sets),
                "pictures": sum(map(len, sets)),
                "extra": sum(len(each) - 1 for each in sets),
            }
        )
    return rows


def _representatives(pictures: Pictures, known: Iterable[Set]) -> np.ndarray:
    """For each picture the one that stands for it: of the same file, or of a known set."""
    one = first_of_each(pictures.hashes)
    for each in known:
        one[list(each.members)] = one[each.members[0]]
    found: np.ndarray = one[one]
    return found


def _near(graph: Graph, threshold: float, one: np.ndarray) -> dict[int, list[int]]:
    """The neighbours from ``threshold`` on of those that have any, both ways."""
    rows, columns = np.nonzero((graph.similarities >= threshold) & (graph.indices >= 0))
    pairs = matching.ordered(np.stack([one[rows], one[graph.indices[rows, columns]]], 1))
    near: dict[int, list[int]] = {}
    for a, b in pairs.tolist():
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    return near


def _stars(near: dict[int, list[int]], order: Sequence[int]) -> Iterator[list[int]]:
    """Each picture in ``order`` with those of its neighbours that no earlier one has taken."""
    taken: set[int] = set()
    for centre in order:
        if centre not in taken:
            group = [centre, *(other for other in near[centre] if other not in taken)]
            if len(group) > 1:
                taken.update(group)
                yield group


# -- all of it -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Duplicates:
    """The sets of a collection, by band, and what could not be compared.

    Attributes:
        unread: paths of pictures that could not be read again.
        notes: what a person should be told, one sentence each.
    """

    same_file: list[Set]
    same_picture: list[Set]
    unread: list[str]
    notes: list[str] = field(default_factory=list)

    def extra(self) -> frozenset[int]:
        """Copies that are not the one to keep of a set, but for those that a person keeps."""
        return frozenset(
            i
            for each in (*self.same_file, *self.same_picture)
            if not each.kept
            for i in each.members[1:]
        )


class _Keeping:
    """Writes what was compared, now and then, so that little is lost when it is interrupted."""

    def __init__(self, folder: Path, verdicts: Verdicts, candidates: Candidates):
        self.folder, self.verdicts, self.candidates = folder, verdicts, candidates
        self._pairs = candidates.pairs  # that are in the folder
        self._last = time.monotonic()

    def now_and_then(self) -> None:
        if time.monotonic() - self._last > SECONDS:
            self.now()  # what it says is told at the end, if it is so still

    def now(self) -> list[str]:
        """Write what is new; a note if that cannot be."""
        from zoo.collection.store import Store

        is_new = self.candidates.pairs is not self._pairs
        try:
            if is_new or self.verdicts.new:
                with Store.writing(self.folder):
                    self.verdicts.save(self.folder)
                    if is_new:
                        self.candidates.save(self.folder)
                self._pairs = self.candidates.pairs
        except (OSError, CollectionError) as error:
            return [f"what was compared could not be kept, so it is compared again: {error}"]
        finally:
            self._last = time.monotonic()
        return []


def find(
    opened: "Opened", progress: Callable[[int, int], None] = lambda done, of: None
) -> Duplicates:
    """The same files and the same pictures of a collection; what was compared is kept there."""
    pictures, store = opened.pictures, opened.store
    verdicts = Verdicts.load(opened.folder)
    candidates = Candidates.load(opened.folder)
    keeping = _Keeping(opened.folder, verdicts, candidates)

    def done(pairs: int, of: int) -> None:
        progress(pairs, of)
        keeping.now_and_then()

    found = same_picture(
        pictures,
        lambda positions: store.small(pictures.rows[positions]),
        decoder(store, pictures),
        opened.graph,
        opened.state,
        verdicts,
        done,
        candidates,
    )
    notes = keeping.now()
    unread = [
        path
        for path, one in zip(pictures.paths, pictures.hashes, strict=True)
        if one in verdicts.unread
    ]
    return Duplicates(same_file(pictures, opened.state), found, unread, notes)


def numbered(sets: Sequence[Set], count: int) -> np.ndarray:
    """For each of ``count`` pictures the number of its set, from 1; 0 for none."""
    numbers = np.zeros(count, np.int64)
    for number, each in enumerate(sets, 1):
        numbers[list(each.members)] = number
    return numbers
