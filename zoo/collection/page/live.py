"""A collection as the page shows it, and what a person can ask of it there."""

import contextlib
import copy
import dataclasses
import io
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.collection.derived import vectors_of
from zoo.collection.neighbours import EXACT
from zoo.collection.page.data import Alike, DuplicateSet, Fault, Layer, PageData
from zoo.collection.page.thumbnails import EDGE, Made, Place, Source, Thumbnails, webp
from zoo.collection.page.tiles import is_tiled
from zoo.collection.remote import is_url
from zoo.collection.store import Store
from zoo.errors import CollectionError, ImageError, ZooError
from zoo.files import replacing

if TYPE_CHECKING:
    from zoo.collection.duplicates import Set
    from zoo.collection.finding import Found
    from zoo.collection.opened import Opened
    from zoo.collection.page.serving import Decided
    from zoo.model import ZooModel

__all__ = ["Page"]

SCREEN = 2048
"""Pixels of the longer side of a picture that is looked at by itself."""
FOUND = 120
"""Pictures that a search gives."""
SETS = 500
"""Sets of alike pictures that are shown."""
NEIGHBOURS = 12
BLOCK = 4096
"""Rows of features at once."""
DECODING = 2
"""Pictures that are decoded at once, since each may be of many megapixels."""
SOON = 0.7
"""Seconds that a click may wait for its answer."""
MISFITS = 1000
WRONG_GROUP = "perhaps in the wrong group"
MAP = "map.npz"
LAYERS = ("coarse", "middle", "fine")


class Page:
    """A collection's page: made of what is known, and told what is decided.

    Args:
        opened: the collection.
    """

    pictures = True

    def __init__(self, opened: "Opened"):
        self.opened = opened
        self.thumbnails = Thumbnails(opened.folder / "thumbnails")
        self._lock = threading.RLock()
        self._decoding = threading.BoundedSemaphore(DECODING)
        self._stopped = threading.Event()
        self._spreader = ThreadPoolExecutor(1, "zoo-names")
        self.settled = True
        self._held_against: tuple[np.ndarray | None, list[Fault]] = None, []

    # -- what is shown -----------------------------------------------------------------------------

    @cached_property
    def data(self) -> PageData:
        """Everything, as the decisions have it till now.

        Very many pictures are in the order that their groups have at the beginning, so that those
        that are looked at together have numbers near to each other; a number is the same always.
        """
        return self._numbered(self._known)

    def _numbered(self, known: PageData, before: PageData | None = None) -> PageData:
        """``known`` by number; what no decision changes is that of ``before``."""
        if self._order is None:
            return known
        if before is None:
            return known.reordered(self._order)
        return before.with_decisions(known, self._order)

    def _know(self, known: PageData) -> None:
        self.__dict__.update(_known=known, data=self._numbered(known, self.data))

    @cached_property
    def _order(self) -> np.ndarray | None:
        """The position among the collection's pictures of each number; None if they are equal."""
        return self._known.by_group() if is_tiled(self._known) else None

    def _position(self, number: int) -> int:
        return number if self._order is None else int(self._order[number])

    @cached_property
    def _number(self) -> np.ndarray:
        """The number of each of the collection's pictures."""
        return np.arange(len(self._known)) if self._order is None else np.argsort(self._order)

    @cached_property
    def _known(self) -> PageData:
        """The same in the order of the collection's pictures."""
        self.opened.naming  # noqa: B018  first: of very many it takes most memory of all
        opened, pictures = self.opened, self.opened.pictures
        known = self._decided(
            PageData(
                title=_title(opened),
                paths=pictures.paths,
                hashes=pictures.hashes,
                widths=pictures.widths,
                heights=pictures.heights,
                bytes=pictures.bytes,
                neighbours=opened.graph.indices[:, :NEIGHBOURS],
                similarities=opened.graph.similarities[:, :NEIGHBOURS],
                odd=opened.odd.scores,
                places=self._places(),
                unread=opened.store.unread(),
            )
        )
        return self._spread(known, opened)

    def _decided(self, data: PageData) -> PageData:
        """``data`` with what the decisions themselves say; names have not yet spread from them."""
        opened, hashes = self.opened, data.hashes
        given = [opened.state.pictures.get(each, "") for each in hashes]
        member = [opened.state.members.get(each, "") for each in hashes]
        names, probabilities = _told(data, given, member)
        layers = sorted(opened.layers, key=lambda layer: LAYERS.index(layer.name))
        return dataclasses.replace(
            data,
            faults=[*self._faults, *self._misfits(opened, known=is_tiled(data))],
            duplicates=self._duplicates(),
            layers=[Layer(*layer) for layer in layers],
            default_layer=next((i for i, x in enumerate(layers) if x.name == "middle"), 0),
            names=names,
            probabilities=probabilities,
            given=given,
            member=member,
        )

    @staticmethod
    def _spread(data: PageData, opened: "Opened") -> PageData:
        """``data`` with the names of all pictures, which takes seconds for a hundred thousand."""
        naming = opened.naming
        names = [*naming.names, ""]
        return dataclasses.replace(
            data,
            names=[names[i] for i in np.where(naming.named, naming.likeliest, -1)],
            probabilities=naming.probability,
        )

    @cached_property
    def _copies(self) -> "list[Set]":
        """The sets of duplicates: same files, and same pictures if they were ever looked for.

        That takes minutes the first time, and what changed since after it.
        """
        from zoo.collection.duplicates import Verdicts, find, same_file

        if not (self.opened.folder / Verdicts.FILE).exists():
            return same_file(self.opened.pictures, self.opened.state)
        found = find(self.opened)
        return [*found.same_file, *found.same_picture]

    def _duplicates(self) -> list[DuplicateSet]:
        """The same without what a person has set apart, or keeps all of."""
        return self._undecided(self._copies)

    def _undecided(self, found: "Iterable[Set]") -> list[DuplicateSet]:
        hashes, state = self.opened.pictures.hashes, self.opened.state
        sets = []
        for each in found:
            keep = each.members[0]
            apart = [i for i in each.members[1:] if state.are_apart(hashes[keep], hashes[i])]
            left = tuple(i for i in each.members if i not in apart)
            if len(left) > 1 and not state.are_kept(hashes[i] for i in left):
                sets.append(DuplicateSet(each.band.replace("_", " "), left, keep, each.why))
        return sets

    @cached_property
    def _faults(self) -> list[Fault]:
        from zoo.collection.quality import faults

        return [
            Fault(int(i), found.kind, float(value))
            for found in faults(self.opened.pictures)
            for i, value in zip(found.positions, found.values, strict=True)
        ]

    def _misfits(self, opened: "Opened", known: bool = False) -> list[Fault]:
        """The pictures that are nearer to other groups than to their own, the worst first.

        Args:
            known: take those of the groups before, if there are any.
        """
        from zoo.collection.odd import misfits

        if not opened.layers:
            return []
        labels = opened.layers[0].labels
        before, found = self._held_against
        if before is not None and (known or (before == labels).all()):
            return found
        overwrite = len(opened.pictures) > EXACT  # the vectors are made for this alone
        scores = misfits(opened.graph, labels, self._vectors(), overwrite=overwrite).scores
        worst = np.argsort(-scores, kind="stable")[:MISFITS]
        found = [Fault(int(i), WRONG_GROUP, float(scores[i])) for i in worst if scores[i] > 0]
        self._held_against = labels, found
        return found

    def _vectors(self) -> np.ndarray:
        """All vectors. Those of very many pictures are half a gigabyte, so that nobody holds them
        while nobody uses them."""
        opened = self.opened
        if len(opened.pictures) <= EXACT:
            return opened.vectors
        return vectors_of(opened.store, opened.projection, opened.pictures)

    def lacks_map(self) -> bool:
        """Whether the map is still to be made, which takes some seconds at least."""
        from zoo.collection.page.mapping import LEAST

        return len(self.opened.pictures) >= LEAST and self._map_kept() is None

    def _map_kept(self) -> np.ndarray | None:
        """The map that was made of the same pictures before, if there is one."""
        fingerprint, count = self.opened.store.fingerprint(), len(self.opened.pictures)
        try:
            with np.load(self.opened.folder / MAP, allow_pickle=False) as file:
                places: np.ndarray = file["places"]
                same = str(file["fingerprint"]) == fingerprint
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return places if same and places.shape == (count, 2) else None

    def _places(self) -> np.ndarray | None:
        """The map, which is kept with the collection until other pictures are there."""
        from zoo.collection.page.mapping import places

        path, fingerprint = self.opened.folder / MAP, self.opened.store.fingerprint()
        found = self._map_kept()
        if found is None and (found := places(self._vectors())) is not None:
            # It can be made again: where nothing can be written, or another command writes, that
            # is no error.
            with (
                contextlib.suppress(OSError, ZooError),
                Store.writing(self.opened.folder, wait=0),
                replacing(path) as file,
            ):
                np.savez(file, allow_pickle=False, places=found, fingerprint=np.array(fingerprint))
        return found

    # -- pictures ----------------------------------------------------------------------------------

    def thumbnail(self, number: int) -> bytes | None:
        """As it is kept, or else made now; None if the picture cannot be read any more."""
        try:
            return self.thumbnails[self.data.hashes[number]]
        except KeyError:
            pass
        try:
            with self._decoding:
                return webp(self._bytes(self._position(number)), EDGE)
        except (CollectionError, ImageError, OSError):
            return None

    def picture(self, number: int) -> bytes:
        with self._decoding:
            return webp(self._bytes(self._position(number)), SCREEN, quality=85)

    def _bytes(self, position: int) -> bytes:
        """Raises: CollectionError, OSError: it is not there any more."""
        from zoo.collection.entries import read_bytes

        pictures = self.opened.pictures
        if pictures.members[position] is None and not is_url(pictures.paths[position]):
            return Path(pictures.paths[position]).read_bytes()
        return read_bytes(self.opened.store, int(pictures.rows[position]))

    def missing(self) -> int:
        """How many contents have no thumbnail yet."""
        return len(set(self.data.hashes) - self.thumbnails.known())

    def make_thumbnails(self, progress: Callable[[int], object] = lambda done: None) -> Made:
        """Make those that are missing, until :meth:`stop` is called."""
        return self.thumbnails.make(self._sources(), progress)

    def stop(self) -> None:
        """Let :meth:`make_thumbnails` end with those that are under way."""
        self._stopped.set()
        self._spreader.shutdown(wait=False, cancel_futures=True)

    def _sources(self) -> Iterator[tuple[str, Place]]:
        """Hash and place of each content without a thumbnail; archives are read once, in order."""
        pictures = self.opened.pictures
        wanted = set(pictures.hashes) - self.thumbnails.known()
        archives: dict[str, dict[str, str]] = {}
        for i in self._known.by_group():
            content, path, member = pictures.hashes[i], pictures.paths[i], pictures.members[i]
            if content not in wanted:
                continue
            wanted.discard(content)
            if member is not None:
                archives.setdefault(path.removesuffix(f"/{member}"), {})[member] = content
            elif self._stopped.is_set():
                return
            else:
                yield content, path if is_url(path) else Path(path)
        for archive, inside in archives.items():
            yield from self._members(archive, inside)

    def _members(self, archive: str, wanted: dict[str, str]) -> Iterator[tuple[str, Source]]:
        """The members of an archive that are ``wanted``: hashes by names."""
        from zoo.collection.entries import Entry, members

        for entry in members(Entry(0, "", archive, 0, 0), []):
            if self._stopped.is_set():
                return
            if entry.member in wanted and entry.data is not None:
                yield wanted[entry.member], entry.data

    # -- what is asked -----------------------------------------------------------------------------

    def decide(self, decisions: "list[Decided]") -> PageData:
        """Keep decisions; when this returns, they are on the disk.

        What follows from them is known as well, unless it takes longer than :data:`SOON`: then
        :attr:`settled` is false, and :meth:`changed` tells it later. Of very many pictures it
        takes so long that nobody begins before it is asked for.
        """
        with self._lock:
            hashes = self.data.hashes
            self.opened.decisions.append_all([each.kept(hashes) for each in decisions])
            self.opened.decided()
            self._know(self._decided(self._known))
            self.settled = False
        if not is_tiled(self._known):
            wait([self._spreader.submit(self._settle)], SOON)
        return self.data

    def changed(self, seconds: float) -> PageData:
        """What is known once all has followed from the decisions, or so many seconds later."""
        wait([self._spreader.submit(self._settle)], seconds)  # behind what is under way
        return self.data

    def _settle(self) -> None:
        """Let names spread from what is decided now, if nobody did so since."""
        with self._lock:
            if self.settled:
                return
            self.opened.layers  # noqa: B018  of this moment, as the state is
            opened = copy.copy(self.opened)
        spread = self._spread(self._known, opened)
        faults = [*self._faults, *self._misfits(opened)]
        with self._lock:
            if opened.state is self.opened.state:  # else the next one does it
                self._know(dataclasses.replace(spread, faults=faults))
                self.settled = True

    @cached_property
    def words(self) -> bool:
        """Whether the collection's model knows words, as far as can be told without loading it."""
        from zoo.registry import registry

        name = str(self.opened.store.manifest.model["name"])
        prefix, colon, _ = name.partition(":")
        known = f"{prefix}:..." if colon else name.partition(".")[0]
        return known in registry().names_with("embed_text")

    def find_words(self, words: str) -> list[tuple[int, float]]:
        from zoo.collection.finding import embedded_words, nearest, unit

        query = embedded_words(self._model(), words, self.opened.folder)
        rows, store = self.opened.pictures.rows, self.opened.store
        blocks = (
            unit(store.features(rows[start : start + BLOCK]))
            for start in range(0, len(rows), BLOCK)
        )
        return self._pairs(nearest(blocks, query, FOUND))

    def find_picture(self, data: bytes) -> list[tuple[int, float]]:
        from zoo.collection.finding import features_of_pixels, nearest_in
        from zoo.images import decode

        model = self._model()
        with self._decoding:
            pixels = decode(io.BytesIO(data), model.preprocessing).pixels
            features = features_of_pixels(model, pixels)[None]
        (query,) = self.opened.projection.apply(features)
        return self._pairs(nearest_in(self.opened, query, FOUND))

    def _pairs(self, found: "Found") -> list[tuple[int, float]]:
        numbers = self._number[found.pictures]
        return list(zip(numbers.tolist(), found.similarities.tolist(), strict=True))

    def alike(self, threshold: float) -> Alike:
        from zoo.collection.duplicates import alike

        with self._lock:  # the decisions are those of one moment
            opened = self.opened
            found = alike(opened.graph, opened.pictures, threshold, self._copies, opened.state)
            sets = self._undecided(found)
        extra = sum(len(each.pictures) - 1 for each in sets)
        number = self._number
        shown = [
            each._replace(
                pictures=tuple(int(number[i]) for i in each.pictures), keep=int(number[each.keep])
            )
            for each in sets[:SETS]
        ]
        return Alike(shown, len(sets), extra)

    def _model(self) -> "ZooModel":
        with self._lock:  # loaded once
            return self.opened.model


def _told(
    data: PageData, given: Sequence[str], member: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """The names that pictures have at once when some were named: the others stay as they are."""
    nothing = [""] * len(data)
    names = list(data.names or nothing)
    found = np.zeros(len(data)) if data.probabilities is None else data.probabilities
    probabilities = np.array(found, np.float32)
    before = zip(data.given or nothing, data.member or nothing, strict=True)
    for i, (old, new) in enumerate(zip(before, zip(given, member, strict=True), strict=True)):
        if old != new:
            names[i] = new[0] or new[1]
            probabilities[i] = 1
    return names, probabilities


def _title(opened: "Opened") -> str:
    """What the sources are called, if they are one."""
    sources = opened.store.manifest.sources
    return Path(sources[0] if len(sources) == 1 else opened.folder.resolve()).name or "pictures"
