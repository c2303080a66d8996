"""How much a person's clicks name rightly, and how well a recogniser knows what it does not know.

    zoo index NAME FOLDER --out COLLECTION
    python benchmarks/naming.py COLLECTION

FOLDER has a folder of pictures for each label. A person is played who answers what the zoo asks
(zoo name): of a group with the label of most of the nine pictures that are shown, of a picture with
its own. Beside it, as many pictures are named that are chosen at random. Then a recogniser learns
half of the labels, and meets held-out pictures of these and of the other half, four times. Prints
JSON; nothing is written into the collection.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.collection.grouping import Layer
from zoo.collection.naming import Naming, Question, propose, spread
from zoo.collection.neighbours import Graph, Projection
from zoo.collection.opened import Opened
from zoo.collection.recognising import learn

CLICKS = (10, 25, 50, 100, 200)


class Person:
    """Who names pictures, and knows what they are."""

    def __init__(
        self, graph: Graph, layers: list[Layer], labels: np.ndarray, hashes: Sequence[str]
    ):
        self.graph, self.layers, self.labels = graph, layers, labels
        self.hashes = np.array(hashes)
        self.pictures: dict[int, str] = {}
        self.members: dict[int, str] = {}
        self.spans = np.zeros(len(labels), np.int64)

    def naming(self) -> Naming:
        labels, sureness = self.layers[0][1:] if self.layers else (None, None)
        return spread(
            self.graph,
            self.pictures,
            self.members,
            labels,
            sureness,
            self.spans,
            self.hashes.tolist(),
        )

    def answer(self, question: Question) -> None:
        shown = self.labels[question.pictures]
        names, counts = np.unique(shown, return_counts=True)
        name = str(names[counts.argmax()])
        if question.group is None:
            self.name(int(question.pictures[0]), name)
            return
        (labels,) = (layer.labels for layer in self.layers if layer.name == question.layer)
        members = np.flatnonzero(labels == question.group)
        self.members.update(dict.fromkeys(members.tolist(), name))
        self.spans[members] = len(members)

    def name(self, picture: int, name: str) -> None:
        """Name a picture, and with it all of the same content."""
        copies = np.flatnonzero(self.hashes == self.hashes[picture])
        self.pictures.update(dict.fromkeys(copies.tolist(), name))

    def right(self, naming: Naming) -> np.ndarray:
        """Of which pictures the likeliest name is the right one, P bool."""
        right: np.ndarray = np.array([*naming.names, ""])[naming.likeliest] == self.labels
        return right

    def counted(self, clicks: int) -> dict[str, Any]:
        naming = self.naming()
        right = self.right(naming)
        return {
            "clicks": clicks,
            "named": round(float(naming.named.mean()), 4),
            "named_rightly": round(float((right & naming.named).mean()), 4),
            "likeliest_right": round(float(right.mean()), 4),
        }


def asked(person: Person, at_once: int) -> list[dict[str, Any]]:
    """What is named after some answers to what was most worth asking.

    ``largest_fall`` is of how many pictures fewer one answer may have left named rightly till then.
    """
    rows: list[dict[str, Any]] = []
    had = fall = 0
    for click in range(CLICKS[-1]):
        if click % at_once == 0:
            left = propose(person.layers, person.naming(), person.graph, person.spans, at_once)
        if not left:
            break
        person.answer(left.pop(0))
        naming = person.naming()
        have = int((person.right(naming) & naming.named).sum())
        fall, had = max(fall, had - have), have
        if click + 1 in CLICKS:
            rows.append({**person.counted(click + 1), "largest_fall": fall})
    return rows


def at_random(person: Person, seed: int) -> list[dict[str, Any]]:
    """What is named after the names of some random pictures."""
    rows = []
    order = np.random.default_rng(seed).permutation(len(person.labels))
    for clicks in CLICKS:
        for picture in order[:clicks].tolist():
            person.name(picture, str(person.labels[picture]))
        rows.append(person.counted(clicks))
    return rows


def strangers(
    projection: Projection, features: np.ndarray, labels: np.ndarray, seed: int, few: int | None
) -> list[float]:
    """Accuracy, probability, known accepted, strangers rejected, area under the curve."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    known = np.isin(labels, rng.permutation(np.unique(labels))[: len(np.unique(labels)) // 2])
    test = rng.random(len(labels)) < 0.3
    train = np.flatnonzero(known & ~test)
    if few is not None:
        train = np.concatenate(
            [rng.permutation(train[labels[train] == one])[:few] for one in np.unique(labels[train])]
        )
    made = learn(projection, features[train], labels[train].tolist(), background=features)
    found = made.recognise(features[test])
    mine = known[test]
    right = np.array(made.names)[found.likeliest] == labels[test]
    return [
        float(right[mine].mean()),
        float(found.probability[mine].mean()),
        float((~found.none)[mine].mean()),
        float(found.none[~mine].mean()),
        float(roc_auc_score(mine, found.nearness)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collection", type=Path)
    parser.add_argument(
        "--at-once", type=int, default=5, help="questions that are answered in turn"
    )
    options = parser.parse_args()
    opened = Opened(options.collection)
    labels = np.array([Path(path).parent.name for path in opened.pictures.paths])
    hashes = opened.pictures.hashes
    layers = [layer for layer in opened.layers if layer.name != "coarse"]
    features = opened.store.features(opened.pictures.rows)
    columns = ("accuracy", "probability", "known_accepted", "strangers_rejected", "auroc")
    report = {
        "pictures": len(labels),
        "labels": len(np.unique(labels)),
        "groups": {layer.name: int(layer.labels.max()) + 1 for layer in layers},
        "asked": asked(Person(opened.graph, layers, labels, hashes), options.at_once),
        "random": at_random(Person(opened.graph, layers, labels, hashes), 0),
        "recogniser": {
            str(few or "all"): dict(zip(columns, np.round(np.mean(
                [strangers(opened.projection, features, labels, seed, few) for seed in range(4)], 0
            ), 4).tolist(), strict=True))
            for few in (None, 20, 5)
        },
    }  # fmt: skip
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
