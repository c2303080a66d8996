"""The pictures of a collection by what is alike, and those that are like no other."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.shared import CollectionFolder, as_json, new_table, print_json, print_table, printable
from zoo.cli.shared import seed as seed_option
from zoo.errors import InputError
from zoo.files import path_text

if TYPE_CHECKING:
    import numpy as np

    from zoo.collection.odd import Odd
    from zoo.collection.opened import Opened

SHOWN = 30
"""Groups of the default layer that are listed on a terminal; --json has all of all layers."""
EXAMPLES = 3

folder = click.argument("folder", type=CollectionFolder())


@click.command()
@folder
@click.option(
    "--number", type=click.IntRange(1), metavar="K",
    help="So many groups in the layer middle; by default they are as many as there are.",
)  # fmt: skip
@seed_option
@click.option("--anew", is_flag=True, help="Find groups as if there were none yet.")
@as_json
def group(folder: Path, number: int | None, seed: int, anew: bool, as_json: bool) -> None:
    """Group the pictures of a collection by what is alike, without being told how many groups.

    There are three layers, coarse, middle and fine. Pictures that have few of their kind are one
    group, -1. After zoo index has brought the collection up to date, group again: pictures stay
    in their groups, and new ones go to what they are like, or are new groups. Only when a quarter
    has come since are all grouped anew; what is still the same pictures keeps its number then.
    """
    from zoo.collection.derived import regroup
    from zoo.collection.opened import Opened

    regroup(folder, number, seed, anew)
    facts = _grouped(Opened(folder))
    if as_json:
        print_json(facts)
    else:
        _say_groups(facts)


def _grouped(collection: "Opened") -> dict[str, Any]:
    """The groups of all layers, the largest first, as the decisions of a person have them."""
    import numpy as np

    from zoo.collection.grouping import LAYERS

    layers = []
    for layer in (collection.layer(name) for name in LAYERS):
        numbers, sizes = np.unique(layer.labels, return_counts=True)
        counts = dict(zip(numbers.tolist(), sizes.tolist(), strict=True))
        groups = [
            {"group": g, "pictures": counts[g], **_about(collection, layer.labels == g, layer)}
            for g in sorted(counts, key=lambda g: (-counts[g], g))
            if g >= 0
        ]
        layers.append({"layer": layer.name, "few_of_a_kind": counts.get(-1, 0), "groups": groups})
    return {
        "folder": str(collection.folder),
        "pictures": len(collection.pictures),
        "layers": layers,
    }


def _about(collection: "Opened", members: "np.ndarray", layer: Any) -> dict[str, Any]:
    """How sure a group is, its commonest name, and the pictures that are surest to be in it."""
    import numpy as np

    at = np.flatnonzero(members)
    order = at[np.argsort(-layer.sureness[at], kind="stable")]
    naming = collection.naming
    names = [naming.names[i] for i in naming.likeliest[at[naming.named[at]]]]
    return {
        "sureness": round(float(layer.sureness[at].mean()), 3),
        "name": max(sorted(set(names)), key=names.count) if 2 * len(names) > len(at) else None,
        "surest": [collection.pictures.paths[i] for i in order[:EXAMPLES]],
    }


def _say_groups(facts: dict[str, Any]) -> None:
    for layer in facts["layers"]:
        if layer["layer"] != "middle":
            continue
        table = new_table("group", "pictures", "sureness", "name", "such as")
        for row in layer["groups"][:SHOWN]:
            such_as = ", ".join(os.path.basename(path) for path in row["surest"])
            cells = str(row["group"]), f"{row['pictures']:,}", f"{row['sureness']:.2f}"
            table.add_row(*cells, printable(row["name"] or ""), printable(such_as))
        if layer["groups"]:
            print_table(table)
        if len(layer["groups"]) > SHOWN:
            click.echo(f"and {len(layer['groups']) - SHOWN} more; --json has them all")
    counts = ", ".join(f"{len(layer['groups'])} ({layer['layer']})" for layer in facts["layers"])
    few = next(x["few_of_a_kind"] for x in facts["layers"] if x["layer"] == "middle")
    click.echo(
        f"{facts['pictures']:,} pictures in groups: {counts}"
        + (f"; {few:,} have few of their kind" if few else "")
    )


@click.command()
@folder
@click.option(
    "--within", type=click.Choice(["group", "folder", "name"]),
    help="What is nearer to another group, folder or name than to its own.",
)  # fmt: skip
@click.option(
    "-n", "--number", default=20, show_default=True, type=click.IntRange(1, 1_000_000),
    help="Pictures to list, and of each kind of fault.",
)  # fmt: skip
@as_json
def odd(folder: Path, within: str | None, number: int, as_json: bool) -> None:
    """List the strangest pictures, with what they are nearest to; and blank or blurred ones.

    By default those far from all others. With --within, those that are in the wrong group, in the
    wrong folder, or have the wrong name. The higher the score, the stranger.
    """
    from zoo.collection.opened import Opened

    collection = Opened(folder)
    found = _found(collection, within)
    facts = {
        "folder": str(folder),
        "pictures": len(collection.pictures),
        "within": within,
        "odd": _strangest(collection, found, number),
        "faults": _faults(collection, number),
    }
    if as_json:
        print_json(facts)
    else:
        _say_odd(facts)


def _found(collection: "Opened", within: str | None) -> "Odd":
    from zoo.collection import odd

    if within is None:
        return collection.odd
    return odd.misfits(collection.graph, _labels(collection, within), collection.vectors)


def _labels(collection: "Opened", within: str) -> "np.ndarray":
    """The number of each picture's group, folder or name, -1 for none.

    Raises: InputError: there are no groups, or no names.
    """
    import numpy as np

    if within == "group":
        return collection.layer("middle").labels
    if within == "folder":
        folders = [os.path.dirname(path) for path in collection.pictures.paths]
        return np.unique(np.array(folders, object), return_inverse=True)[1].astype(np.int32)
    naming = collection.naming
    labels: np.ndarray = np.where(naming.named, naming.likeliest, -1)
    if len(labels) and not (labels >= 0).any():
        raise InputError(
            f"no picture of {path_text(collection.folder)} has a name yet. Type: "
            f"zoo name {path_text(collection.folder)}"
        )
    return labels


def _strangest(collection: "Opened", found: "Odd", number: int) -> list[dict[str, Any]]:
    import numpy as np

    paths = collection.pictures.paths
    order = np.argsort(-found.scores, kind="stable")[:number]
    return [
        {
            "path": paths[i],
            "score": round(float(found.scores[i]), 4),
            "near": [paths[j] for j in found.reasons[i]],
        }
        for i in order
    ]


def _faults(collection: "Opened", number: int) -> list[dict[str, Any]]:
    from zoo.collection.quality import faults

    paths = collection.pictures.paths
    return [
        {
            "kind": fault.kind,
            "value": fault.value,
            "count": len(fault.positions),
            "pictures": [
                {"path": paths[i], "value": round(float(value), 4)}
                for i, value in zip(fault.positions[:number], fault.values, strict=False)
            ],
        }
        for fault in faults(collection.pictures)
    ]


def _say_odd(facts: dict[str, Any]) -> None:
    table = new_table("picture", "score", "nearest")
    for row in facts["odd"]:
        near = os.path.basename(row["near"][0]) if row["near"] else ""
        table.add_row(printable(row["path"]), f"{row['score']:.3f}", printable(near))
    if facts["odd"]:
        print_table(table)
    for fault in facts["faults"]:
        if fault["count"]:
            _say_fault(fault)
    faulty = sum(fault["count"] for fault in facts["faults"])
    click.echo(f"{facts['pictures']:,} pictures; {faulty:,} faults of a picture by itself")


def _say_fault(fault: dict[str, Any]) -> None:
    table = new_table(f"{fault['kind']}: {fault['count']:,}", fault["value"])
    for row in fault["pictures"]:
        table.add_row(printable(row["path"]), f"{row['value']:.3f}")
    print_table(table)
