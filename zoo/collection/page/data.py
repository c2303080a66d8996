"""What the page shows of a collection: plain arrays and texts, and their form for the browser.

Nothing here knows where they come from. The numbers of pictures are positions in these arrays; the
page and the server speak of pictures by number only, never by path.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import InputError
from zoo.files import path_text

__all__ = ["Alike", "DuplicateSet", "Fault", "Layer", "PageData", "to_json"]

_ALL = slice(None)


class Layer(NamedTuple):
    """One way to group all pictures.

    Attributes:
        name: such as "middle".
        labels: the number of each picture's group, -1 for "few of a kind".
        sureness: how sure that is, in [0, 1].
    """

    name: str
    labels: np.ndarray
    sureness: np.ndarray


class Fault(NamedTuple):
    """Why a picture is named as odd by itself, such as blank or blurred."""

    picture: int
    kind: str
    value: float


class DuplicateSet(NamedTuple):
    """Pictures that are copies of one another.

    Attributes:
        band: "same file", "same picture" or "alike".
        pictures: their numbers.
        keep: the number of the one to keep.
        why: the reason, in words.
    """

    band: str
    pictures: tuple[int, ...]
    keep: int
    why: str


@dataclass(frozen=True)
class Alike:
    """What a threshold of similarity takes as alike.

    Attributes:
        sets: the first of them, as many as a person may look at.
        count: how many sets there are.
        extra: the pictures in them that are not the one to keep.
    """

    sets: Sequence[DuplicateSet]
    count: int
    extra: int


@dataclass(frozen=True)
class PageData:
    """A collection as the page shows it: P pictures, each known by its position.

    Attributes:
        title: what the collection is called.
        paths: of the pictures, as text for people.
        hashes: of the pictures' files.
        layers: from coarse to fine; none if nothing was grouped.
        default_layer: the position of the layer that is shown first.
        names: the name of each picture, empty for none.
        probabilities: how likely the name is right; 1 where a person gave it.
        neighbours: P x k numbers of pictures, the nearest first; -1 where there is none.
        similarities: P x k, for the neighbours.
        odd: how strange each picture is, higher is stranger.
        faults: the worst of each kind first.
        places: P x 2 in [0, 1], where each picture is on the map; None without a map.
        unread: path and reason of each file that could not be read.
        given: the name that a person gave to each picture itself, empty for none.
        member: the name that a person gave to a group that each picture is of.
    """

    title: str
    paths: Sequence[str]
    hashes: Sequence[str]
    widths: np.ndarray
    heights: np.ndarray
    bytes: np.ndarray
    layers: Sequence[Layer] = ()
    default_layer: int = 0
    names: Sequence[str] = ()
    probabilities: np.ndarray | None = None
    given: Sequence[str] = ()
    member: Sequence[str] = ()
    neighbours: np.ndarray | None = None
    similarities: np.ndarray | None = None
    odd: np.ndarray | None = None
    faults: Sequence[Fault] = ()
    duplicates: Sequence[DuplicateSet] = ()
    places: np.ndarray | None = None
    unread: Sequence[tuple[str, str]] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self._columns().items()}
        wrong = {name: length for name, length in lengths.items() if length != len(self)}
        if wrong:
            raise InputError(f"expected {len(self)} entries, as there are paths, got {wrong}")

    def __len__(self) -> int:
        return len(self.paths)

    def _columns(self) -> dict[str, Any]:
        """Everything that has an entry a picture, as far as it is there."""
        columns: dict[str, Any] = {
            "hashes": self.hashes,
            "widths": self.widths,
            "heights": self.heights,
            "bytes": self.bytes,
            "probabilities": self.probabilities,
            "neighbours": self.neighbours,
            "similarities": self.similarities,
            "odd": self.odd,
            "places": self.places,
        }
        named = {"names": self.names, "given": self.given, "member": self.member}
        columns |= {name: column for name, column in named.items() if len(column)}
        for layer in self.layers:
            columns[f"labels of {layer.name}"] = layer.labels
            columns[f"sureness of {layer.name}"] = layer.sureness
        return {name: column for name, column in columns.items() if column is not None}

    def reordered(self, order: np.ndarray) -> "PageData":
        """The same with the picture ``order[i]`` as number i; ``order`` has every number once."""
        neighbours = _rows(self.neighbours, order)
        if neighbours is not None:
            neighbours = np.where(neighbours < 0, -1, _numbers(order)[neighbours])
        found = replace(
            self,
            paths=_texts(self.paths, order),
            hashes=_texts(self.hashes, order),
            widths=self.widths[order],
            heights=self.heights[order],
            bytes=self.bytes[order],
            neighbours=neighbours,
            similarities=_rows(self.similarities, order),
            odd=_rows(self.odd, order),
            places=_rows(self.places, order),
        )
        return found.with_decisions(self, order)

    def with_decisions(self, other: "PageData", order: np.ndarray) -> "PageData":
        """The same with what decisions may change as ``other`` has it, of the picture ``order[i]``
        for number i."""
        new = _numbers(order)
        return replace(
            self,
            names=_texts(other.names, order),
            given=_texts(other.given, order),
            member=_texts(other.member, order),
            layers=[Layer(x.name, x.labels[order], x.sureness[order]) for x in other.layers],
            default_layer=other.default_layer,
            probabilities=_rows(other.probabilities, order),
            faults=[fault._replace(picture=int(new[fault.picture])) for fault in other.faults],
            duplicates=[
                each._replace(
                    pictures=tuple(int(new[i]) for i in each.pictures), keep=int(new[each.keep])
                )
                for each in other.duplicates
            ],
        )

    def by_group(self) -> np.ndarray:
        """All numbers, those of a group together and the surest of it first."""
        if not self.layers:
            return np.arange(len(self))
        layer = self.layers[self.default_layer]
        return np.lexsort((-layer.sureness, layer.labels))


def _numbers(order: np.ndarray) -> np.ndarray:
    """The number of each picture in an order of them."""
    new = np.empty(len(order), dtype=np.int32)
    new[order] = np.arange(len(order), dtype=np.int32)
    return new


def _rows(column: np.ndarray | None, order: np.ndarray) -> np.ndarray | None:
    return None if column is None else column[order]


def _texts(column: Sequence[str], order: np.ndarray) -> Sequence[str]:
    if not len(column):
        return ()
    found: list[str] = np.array(column, object)[order].tolist()
    return found


def to_json(data: PageData) -> dict[str, Any]:
    """``data`` as the page's script reads it: columns of numbers packed, neighbours left out.

    The neighbours are most of the bytes and seldom looked at, so the page asks for them.
    """
    return {
        "title": path_text(data.title),
        **columns_json(data),
        "neighbours": data.neighbours is not None,
        "places": None if data.places is None else packed(data.places, "<f4"),
        "unread": unread_json(data),
        **changing_json(data),
    }


def columns_json(data: PageData, part: slice = _ALL) -> dict[str, Any]:
    """What each picture is, which no decision changes."""
    return {
        "paths": [path_text(path) for path in data.paths[part]],
        "widths": packed(data.widths[part], "<u4"),
        "heights": packed(data.heights[part], "<u4"),
        "bytes": packed(data.bytes[part], "<f8"),
        "hashes": _hashes(data.hashes[part]),
        "odd": None if data.odd is None else packed(data.odd[part], "<f4"),
    }


def changing_json(data: PageData) -> dict[str, Any]:
    """The part of :func:`to_json` that a decision may change."""
    names = names_of(data)
    return {
        "layers": layers_json(data),
        "default_layer": data.default_layer,
        "faults": [[fault.picture, fault.kind, fault.value] for fault in data.faults],
        "names": names,
        **named_json(data, names),
        "duplicates": sets_json(data.duplicates),
    }


def names_of(data: PageData) -> list[str]:
    """All names that pictures have, or were given."""
    return sorted({*data.names, *data.given, *data.member} - {""})


def layers_json(data: PageData, part: slice = _ALL) -> list[dict[str, Any]]:
    """The group of each picture in each layer, and how sure that is."""
    return [
        {
            "name": layer.name,
            "labels": packed(layer.labels[part], "<i4"),
            "sureness": packed(hundredths(layer.sureness[part]), "u1"),
        }
        for layer in data.layers
    ]


def named_json(data: PageData, names: list[str], part: slice = _ALL) -> dict[str, Any]:
    """The names of each picture, as positions in ``names``."""
    numbers = {name: i for i, name in enumerate(names)} | {"": -1}
    count = len(data.paths[part])
    columns = {"name": data.names, "given": data.given, "member": data.member}
    sure = np.ones(count) if data.probabilities is None else data.probabilities[part]
    return {
        **{
            key: packed(np.array([numbers[name] for name in column[part] or [""] * count]), "<i4")
            for key, column in columns.items()
        },
        "probability": packed(hundredths(sure), "u1"),
    }


def unread_json(data: PageData) -> list[list[str]]:
    """Path and reason of each file that could not be read."""
    return [[path_text(path), path_text(reason)] for path, reason in data.unread]


def alike_json(found: Alike) -> dict[str, Any]:
    """What a threshold takes as alike."""
    return {"sets": sets_json(found.sets), "count": found.count, "extra": found.extra}


def sets_json(sets: Sequence[DuplicateSet]) -> list[list[Any]]:
    """Sets as the page's script reads them."""
    return [
        [each.band, [int(i) for i in each.pictures], int(each.keep), path_text(each.why)]
        for each in sets
    ]


def neighbours_json(data: PageData, start: int, end: int) -> dict[str, Any]:
    """The neighbours of the pictures from ``start`` to before ``end``."""
    if data.neighbours is None or data.similarities is None:
        return {"k": 0, "neighbours": "", "similarities": ""}
    return {
        "k": data.neighbours.shape[1],
        "neighbours": packed(data.neighbours[start:end], "<i4"),
        "similarities": packed(data.similarities[start:end], "<f4"),
    }


def script_json(value: Any) -> str:
    """``value`` as JSON that may stand inside a script element: nothing in it can end that."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def hundredths(values: np.ndarray) -> np.ndarray:
    """Shares as whole numbers from 0 to 100."""
    whole: np.ndarray = np.clip(np.nan_to_num(values.astype(float)) * 100, 0, 100).round()
    return whole


def _hashes(hashes: Sequence[str]) -> str:
    """All hashes as bytes, one behind the other, if all are hex of one length."""
    return base64.b64encode(bytes.fromhex("".join(hashes))).decode()


def packed(column: np.ndarray, kind: str) -> str:
    """Numbers as base64 of their bytes, in the order that every browser's machine has."""
    return base64.b64encode(np.ascontiguousarray(column).astype(kind).tobytes()).decode()
