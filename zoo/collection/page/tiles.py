"""The page of very many pictures: what is seen first, and everything else in files beside it.

::

    index.html              the groups of each layer: how large, how sure, what they are called
    details-<n>.js          what is known of 4,096 pictures each: path, size, group, name, hash
    order-<layer>-<n>.js    the pictures of a layer in the order of its groups, 16,384 each; the
                            pictures' own numbers have the order of the layer that is shown first
    map-<zoom>-<x>-<y>.js   up to 8,192 points of a square of the map; a square has four of half
                            its side, which have the points that did not go into it
    odd.js, duplicates.js, unread.js

Each is a script, since a page from a disk may read nothing else, and is loaded when it is looked
at. A page from a server asks it for the same parts by the same names. Thumbnails and neighbours are
as in every page.
"""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np

from zoo.collection.page.data import (
    Layer,
    PageData,
    columns_json,
    hundredths,
    layers_json,
    named_json,
    names_of,
    packed,
    sets_json,
    unread_json,
)
from zoo.files import path_text

__all__ = ["TILED", "Parts", "is_tiled"]

TILED = 100_000
"""Pictures of which a page may have everything but thumbnails from the start; of more it has only
what is seen first, and reads the rest when that is looked at."""
DETAILS = 4096
ORDER = 16_384
POINTS = 8192
DEEPEST = 20
"""Squares within squares, at most, should many pictures have one place."""
STRANGEST = 10_000
"""Of a million pictures a person looks at no more."""
FAULTS = 1000
"""Of each kind, the worst."""


def is_tiled(data: PageData) -> bool:
    """Whether there are so many pictures that the page has only what is seen first."""
    return len(data) > TILED


class Parts:
    """A page's data, cut into what is seen first and what is read when it is looked at.

    Args:
        data: in the order of its groups, those before a person changed some.
        before: the parts before something was decided; the map stays as it was.
    """

    def __init__(self, data: PageData, before: "Parts | None" = None):
        self.data = data
        self.names = names_of(data)
        self._called = _numbers(data.names, len(data), self.names)
        self._orders: dict[int, np.ndarray] = {}
        self._squares: dict[str, np.ndarray] = {}
        if before is not None and before.data.places is data.places:
            self._squares = before._squares
        elif data.places is not None:
            self._squares = dict(_tiles(data.places))

    @cached_property
    def first(self) -> dict[str, Any]:
        """What the page's script has from the start."""
        data, kinds = self.data, _faults(self.data)
        return {
            "title": path_text(data.title),
            "size": len(data),
            "names": self.names,
            "named": int((self._called >= 0).sum()),
            "neighbours": data.neighbours is not None,
            "odd": data.odd is not None,
            "layers": [
                _groups(layer, self._order(place), self._called, data.places)
                for place, layer in enumerate(data.layers)
            ],
            "default_layer": data.default_layer,
            "ordered": self._ordered,
            "tiles": [*self._squares],
            "faults": [each for found in kinds.values() for each in found[:FAULTS]],
            "kinds": {kind: len(found) for kind, found in kinds.items()},
            "duplicates": len(data.duplicates),
            "unread": len(data.unread),
        }

    @cached_property
    def others(self) -> dict[str, Callable[[], Any]]:
        """By its name what makes each part that is read later."""
        data, size = self.data, len(self.data)
        made: dict[str, Callable[[], Any]] = {
            f"details-{number}": partial(self._details, slice(start, start + DETAILS))
            for number, start in enumerate(range(0, size, DETAILS))
        }
        for place in range(len(data.layers)):
            if place != self._ordered:
                for number, start in enumerate(range(0, size, ORDER)):
                    part = slice(start, start + ORDER)
                    made[f"order-{place}-{number}"] = partial(self._ordered_part, place, part)
        made |= {name: partial(self._points, at) for name, at in self._squares.items()}
        if data.odd is not None:
            made["odd"] = partial(_strangest, data.odd)
        made["duplicates"] = partial(sets_json, data.duplicates)
        made["unread"] = partial(unread_json, data)
        return made

    @cached_property
    def _ordered(self) -> int:
        """The layer whose pictures have their own numbers as their order; -1 if there is none."""
        place = self.data.default_layer
        if not self.data.layers:
            return -1
        return place if (self._order(place) == np.arange(len(self.data))).all() else -1

    def _order(self, place: int) -> np.ndarray:
        """All pictures by the groups of a layer, the surest first."""
        if place not in self._orders:
            self._orders[place] = _order(self.data.layers[place])
        return self._orders[place]

    def _ordered_part(self, place: int, part: slice) -> str:
        return packed(self._order(place)[part], "<i4")

    def _details(self, part: slice) -> dict[str, Any]:
        data = self.data
        return {
            **columns_json(data, part),
            "layers": layers_json(data, part),
            **named_json(data, self.names, part),
        }

    def _points(self, numbers: np.ndarray) -> dict[str, Any]:
        data = self.data
        assert data.places is not None
        return {
            "numbers": packed(numbers, "<i4"),
            "places": packed(data.places[numbers], "<f4"),
            "layers": [packed(layer.labels[numbers], "<i4") for layer in data.layers],
            "name": packed(self._called[numbers], "<i4"),
        }


def _strangest(odd: np.ndarray) -> str:
    return packed(np.argsort(-odd, kind="stable")[:STRANGEST], "<i4")


def _numbers(column: Any, count: int, names: list[str]) -> np.ndarray:
    """A column of names as positions in ``names``, -1 for none."""
    numbers = {name: i for i, name in enumerate(names)} | {"": -1}
    return np.array([numbers[name] for name in column or [""] * count], np.int32)


def _faults(data: PageData) -> dict[str, list[list[Any]]]:
    """The faults of each kind, the worst first."""
    kinds: dict[str, list[list[Any]]] = {}
    for fault in data.faults:
        kinds.setdefault(fault.kind, []).append([fault.picture, fault.kind, fault.value])
    return kinds


def _order(layer: Layer) -> np.ndarray:
    """All pictures by group, the surest first; the order that the default layer's are in."""
    return np.lexsort((-layer.sureness, layer.labels))


def _groups(
    layer: Layer, order: np.ndarray, names: np.ndarray, places: np.ndarray | None
) -> dict[str, Any]:
    """The groups of a layer by their numbers, a column for each thing that is said of them."""
    labels, starts, counts = np.unique(layer.labels[order], return_index=True, return_counts=True)
    group = np.repeat(np.arange(len(labels)), counts)
    told, sure = names[order], hundredths(layer.sureness[order])
    named = np.bincount(group, told >= 0, len(labels))
    middles = np.zeros((len(labels), 2))
    if places is not None:
        middles = np.array([np.median(places[each], 0) for each in np.split(order, starts[1:])])
    groups = {
        "labels": packed(labels, "<i4"),
        "counts": packed(counts, "<u4"),
        "sure": packed(np.bincount(group, sure, len(labels)) / np.maximum(counts, 1), "<f4"),
        "named": packed(named, "<u4"),
        "called": packed(_most(group, told, counts), "<i4"),
        "middles": packed(middles, "<f4"),
    }
    return {"name": layer.name, "groups": groups}


def _most(group: np.ndarray, names: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of each group the name that most of its pictures have, -1 for none."""
    found = np.full(len(counts), -1)
    size = int(names.max(initial=0)) + 1
    there = names >= 0
    pairs, times = np.unique(group[there] * size + names[there], return_counts=True)
    groups, called = np.divmod(pairs, size)
    most = 2 * times > counts[groups]
    found[groups[most]] = called[most]
    return found


# -- the map -------------------------------------------------------------------------------------


def _tiles(places: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The squares of the map, and the pictures that are points of each.

    A square has some of its pictures, wherever they are in it, and its quarters have the others.
    """
    waiting = [(0, 0, 0, np.random.default_rng(0).permutation(len(places)))]
    while waiting:
        zoom, x, y, inside = waiting.pop()
        yield f"map-{zoom}-{x}-{y}", inside if zoom == DEEPEST else inside[:POINTS]
        rest = inside[POINTS:]
        if zoom == DEEPEST or not len(rest):
            continue
        squares = np.minimum((places[rest] * 2 ** (zoom + 1)).astype(np.int64), 2 ** (zoom + 1) - 1)
        for dx, dy in ((0, 0), (0, 1), (1, 0), (1, 1)):
            here = (squares[:, 0] == 2 * x + dx) & (squares[:, 1] == 2 * y + dy)
            if here.any():
                waiting.append((zoom + 1, 2 * x + dx, 2 * y + dy, rest[here]))
