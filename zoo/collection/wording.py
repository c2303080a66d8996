"""Which of some words says best what a group shows, by a model that knows pictures and words.

Each picture of a group votes for the word whose direction is nearest to its own. One word always
has the most votes, though none may be right: what is proposed here is for a person to look at.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.collection.decisions import valid_name
from zoo.collection.finding import unit, wordless
from zoo.collection.neighbours import BLOCK
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.collection.opened import Opened

__all__ = ["SURE", "TEMPLATES", "Proposal", "proposals", "split_words", "write"]

TEMPLATES = ("a photo of a {}",)
"""The sentence that Radford et al. 2021 put the name of a class into."""
SURE = 0.5
"""The least share of votes with which a proposal is written as a name."""


class Proposal(NamedTuple):
    """A word for a group.

    Attributes:
        group: its number.
        size: how many pictures it has.
        word: which has the most votes.
        share: of its pictures those that vote for it.
        second: the word with the next most votes; empty if all vote for one.
        second_share: of its pictures those that vote for that.
        name: what most of its pictures are called already; empty without a name.
        pictures: positions of those that are nearest to the word.
    """

    group: int
    size: int
    word: str
    share: float
    second: str
    second_share: float
    name: str
    pictures: np.ndarray


def split_words(text: str) -> list[str]:
    """The words of ``cat, dog, red bicycle``, each as a name may be.

    Raises:
        InputError: there are not two at least, or one is twice there.
    """
    words = [valid_name(part.strip()) for part in text.split(",") if part.strip()]
    if len(words) < 2 or len(set(words)) < len(words):
        raise InputError(
            f"--words takes two different words or more, such as cat,dog,bicycle; got {text!r:.80}"
        )
    return words


def proposals(
    collection: "Opened", words: Sequence[str], templates: Sequence[str], layer: str, shown: int = 3
) -> list[Proposal]:
    """A word for each group of a layer, the surest first.

    Args:
        templates: as :meth:`zoo.model.ZooModel.embed_text` takes them.
        shown: how many pictures of each.

    Raises:
        CapabilityError: the collection's model knows no words.
        InputError: there are no groups, or a template has no ``{}``.
    """
    labels = collection.layer(layer).labels
    if "embed_text" not in collection.model.capabilities:
        raise wordless(collection.model.name, ", ".join(words), collection.folder)
    vectors = unit(collection.model.embed_text(words, templates=templates).cpu().numpy())
    rows, store = collection.pictures.rows, collection.store
    blocks = [
        unit(store.features(rows[at : at + BLOCK]).astype(np.float32)) @ vectors.T
        for at in range(0, len(rows), BLOCK)
    ]
    near = np.concatenate(blocks)
    found = [
        _of_group(collection, words, near, np.flatnonzero(labels == group), int(group), shown)
        for group in np.unique(labels[labels >= 0])
    ]
    return sorted(found, key=lambda each: -each.share)


def _of_group(
    collection: "Opened",
    words: Sequence[str],
    near: np.ndarray,
    members: np.ndarray,
    group: int,
    shown: int,
) -> Proposal:
    votes = np.bincount(near[members].argmax(1), minlength=len(words)) / len(members)
    # Of words with as many votes the one that is nearer to all.
    order = np.lexsort((-near[members].mean(0), -votes))
    first, second = int(order[0]), int(order[1])
    nearest = members[np.argsort(-near[members, first], kind="stable")[:shown]]
    return Proposal(
        group, len(members), words[first], float(votes[first]),
        words[second] if votes[second] else "", float(votes[second]),
        _name_of_most(collection, members), nearest,
    )  # fmt: skip


def _name_of_most(collection: "Opened", members: np.ndarray) -> str:
    naming = collection.naming
    named = naming.likeliest[members][naming.named[members]]
    if 2 * len(named) <= len(members):
        return ""
    return naming.names[int(np.bincount(named).argmax())]


def write(collection: "Opened", found: Sequence[Proposal], layer: str) -> list[Proposal]:
    """Name the groups that have no name yet and whose word has :data:`SURE` of the votes.

    Returns:
        The proposals that were written.
    """
    chosen = [each for each in found if not each.name and each.share >= SURE]
    for each in chosen:
        collection.name(each.word, group=each.group, layer=layer)
    return chosen
