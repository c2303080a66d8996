"""A collection with all that is known of its pictures: their groups, names and neighbours.

Everything is read, or computed, when it is first asked for.
"""

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.collection.decisions import DECISIONS, Decisions, Read, State, fold, regrouped, valid_name
from zoo.collection.derived import (
    Searched,
    compared,
    groups_of,
    searched,
    uncentred,
    vectors_of,
)
from zoo.collection.grouping import DEFAULT, Layer
from zoo.collection.naming import Naming, Question, name_all, propose, spans
from zoo.collection.neighbours import EXACT, Graph, Projection, first_of_each
from zoo.collection.odd import Odd, scores
from zoo.collection.store import Pictures, Store
from zoo.errors import InputError
from zoo.files import path_text

if TYPE_CHECKING:
    from zoo.model import ZooModel

__all__ = ["Layer", "Opened"]


class Opened:
    """A collection, read.

    Args:
        folder: of the collection.

    Raises:
        CollectionError: there is none, it is damaged, or a newer zoo wrote it.
    """

    def __init__(self, folder: Path):
        self.store = Store.open(folder)
        self.folder = folder
        self.decisions = Decisions(folder / DECISIONS)

    # -- what was said -----------------------------------------------------------------------------

    @cached_property
    def pictures(self) -> Pictures:
        """The pictures that are there and could be read, P of them."""
        return self.store.pictures()

    @cached_property
    def read(self) -> Read:
        """The decisions, and what of their file could not be read."""
        return self.decisions.read()

    @cached_property
    def state(self) -> State:
        """What holds after all decisions."""
        return fold(self.read.decisions)

    def decided(self) -> None:
        """Read the decisions again, and what depends on them, when it is next asked for."""
        for name in ("read", "state", "layers", "naming"):
            self.__dict__.pop(name, None)

    def name(
        self,
        name: str | None,
        pictures: Iterable[Path] = (),
        group: int | None = None,
        layer: str = DEFAULT,
    ) -> list[str]:
        """Write a name down, or that there is none any more; the hashes that it is about.

        Args:
            pictures: of the collection, wherever their files lie by now.
            group: or the number of a group of ``layer``.

        Raises:
            InputError: a picture or the group is not in the collection, or it is no name.
        """
        if group is None:
            positions = self.positions(pictures)
        else:
            positions = self.members(layer, group).tolist()
        hashes = list(dict.fromkeys(self.pictures.hashes[i] for i in positions))
        if name is None:
            self.decisions.append("unname", hashes, None, group)
        else:
            self.decisions.append("name", hashes, valid_name(name), group)
        self.decided()
        return hashes

    # -- what was computed -------------------------------------------------------------------------

    @cached_property
    def _compared(self) -> tuple[Projection, Graph]:
        return compared(self.store, self.pictures)

    @cached_property
    def searched(self) -> Searched | None:
        """What the pictures are searched by, if they are too many to look at each."""
        if len(self.pictures) <= EXACT:
            return None
        found = searched(self.store)
        if found is None:
            self._compared  # noqa: B018  which keeps it
            found = searched(self.store)
        return found

    @property
    def projection(self) -> Projection:
        """How features become the vectors that are compared."""
        return self._compared[0] if self.searched is None else self.searched.projection

    @cached_property
    def vectors(self) -> np.ndarray:
        """The pictures as unit vectors, P x d float32."""
        return vectors_of(self.store, self.projection, self.pictures)

    @cached_property
    def first(self) -> np.ndarray:
        """For each picture the position of the first that has the same content, P int64."""
        return first_of_each(self.pictures.hashes)

    @cached_property
    def odd(self) -> Odd:
        """How far each picture is from all others."""
        plain = uncentred(self.store, self.projection, self.pictures)
        return scores(self.graph, plain)

    @property
    def graph(self) -> Graph:
        """The nearest neighbours of each picture."""
        return self._compared[1]

    @cached_property
    def model(self) -> "ZooModel":
        """The model that the collection was made with. Raises: as :func:`zoo.load`."""
        from zoo.collection.models import of_collection

        model: ZooModel = of_collection(self.store)
        return model

    @cached_property
    def _grouped(self) -> list[Layer]:
        """The groups as they were computed."""
        return groups_of(self.store, self.pictures)

    @cached_property
    def layers(self) -> list[Layer]:
        """The groups as a person changed them: the default layer first."""
        found = [
            Layer(layer.name, self._edited(layer.name, layer.labels), layer.sureness)
            for layer in self._grouped
        ]
        return sorted(found, key=lambda layer: layer.name != DEFAULT)

    def _edited(self, name: str, labels: np.ndarray) -> np.ndarray:
        """Merges and splits are of the groups that a person looks at, those of the default."""
        if name != DEFAULT:
            return labels
        return regrouped(labels, self.pictures.hashes, self.state.edits)

    @cached_property
    def naming(self) -> Naming:
        """The names of all pictures."""
        labels, sureness = self.layers[0][1:] if self.layers else (None, None)
        none = np.empty((len(self.pictures), 0), np.int32)
        is_any = self.state.pictures or self.state.members
        graph = self.graph if is_any else Graph(none, none)  # which nothing is asked of
        return name_all(self.state, self.pictures.hashes, graph, labels, sureness)

    def questions(self, count: int = 10) -> list[Question]:
        """What is most worth asking, the best first."""
        layers = [layer for layer in self.layers if layer.name != "coarse"]
        told = spans(self.state, self.pictures.hashes)
        return propose(layers, self.naming, self.graph, told, count)

    # -- what a user names -------------------------------------------------------------------------

    def layer(self, name: str) -> Layer:
        """Raises: InputError: there is no such layer."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        if not self.layers:
            raise InputError(
                f"{path_text(self.folder)} has no groups yet. Type: zoo group "
                f"{path_text(self.folder)}"
            )
        raise InputError(
            f"there is no layer {name!r:.60} of groups; expected one of "
            f"{', '.join(layer.name for layer in self.layers)}"
        )

    def members(self, layer: str, group: int) -> np.ndarray:
        """The positions of a group's pictures.

        Raises:
            InputError: there is no such group.
        """
        labels = self.layer(layer).labels
        members = np.flatnonzero(labels == group)
        if group < 0 or not len(members):
            known = np.unique(labels[labels >= 0]).tolist()
            raise InputError(
                f"there is no group {group} in the layer {layer} of {path_text(self.folder)}; "
                f"expected one of {_ranges(known)}. To see them, type: "
                f"zoo group {path_text(self.folder)}"
            )
        return members

    @cached_property
    def _by_path(self) -> dict[str, int]:
        return {path: i for i, path in enumerate(self.pictures.paths)}

    @cached_property
    def _by_hash(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for i, each in enumerate(self.pictures.hashes):
            found.setdefault(each, i)
        return found

    def position(self, path: Path) -> int | None:
        """Which picture is at ``path``, or has the content of that file; None if none has."""
        import hashlib

        for spelled in (os.path.abspath(path), os.path.realpath(path)):
            if (found := self._by_path.get(spelled)) is not None:
                return found
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return self._by_hash.get(hashlib.file_digest(file, "sha256").hexdigest())

    def positions(self, paths: Iterable[Path]) -> list[int]:
        """Which pictures are meant.

        Raises:
            InputError: one is not in the collection.
        """
        found = []
        for path in paths:
            position = self.position(path)
            if position is None:
                what = "is not in" if path.exists() else "is no file, and not in"
                raise InputError(
                    f"{path} {what} the collection {self.folder}. To index it, type: "
                    f"zoo index {path if path.exists() else 'SOURCE'} --out {self.folder}"
                )
            found.append(position)
        return found


def _ranges(numbers: list[int]) -> str:
    """Numbers as a person writes them: 0 to 4, 7."""
    parts: list[str] = []
    begin = 0
    for i, number in enumerate(numbers):
        if i + 1 == len(numbers) or numbers[i + 1] != number + 1:
            first = numbers[begin]
            parts.append(f"{first}" if first == number else f"{first} to {number}")
            begin = i + 1
    return ", ".join(parts[:20]) + (", ..." if len(parts) > 20 else "")
