"""Copies in a collection: found, and what a person says of them. Nothing is deleted."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.shared import (
    CollectionFolder,
    UserPath,
    as_json,
    new_table,
    print_json,
    print_table,
    printable,
)
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.collection.duplicates import Set
    from zoo.collection.opened import Opened
    from zoo.collection.store import Pictures

picture = UserPath(dir_okay=False)


@click.command()
@click.argument("folder", type=CollectionFolder(changes=True))
@click.option("--alike", is_flag=True, help="Also pictures that are only similar, by --threshold.")
@click.option(
    "--threshold", type=click.FloatRange(-1, 1), show_default="0.95",
    help="With --alike: the least cosine of features.",
)  # fmt: skip
@click.option("--preview", is_flag=True, help="Count what each of several thresholds would take.")
@click.option(
    "--keep-both", multiple=True, type=picture, metavar="PICTURE",
    help="These copies may all stay; give it for each of them.",
)  # fmt: skip
@click.option(
    "--not-duplicate", multiple=True, type=picture, metavar="PICTURE",
    help="None of these is a copy of another; give it for each of them.",
)  # fmt: skip
@click.option("--undo", is_flag=True, help="Take --keep-both or --not-duplicate back.")
@click.option(
    "-n", "--number", default=10, show_default=True, type=click.IntRange(0, 100_000),
    help="Sets of each band to show; --json has them all.",
)  # fmt: skip
@as_json
def duplicates(
    folder: Path,
    alike: bool,
    threshold: float | None,
    preview: bool,
    keep_both: tuple[Path, ...],
    not_duplicate: tuple[Path, ...],
    undo: bool,
    number: int,
    as_json: bool,
) -> None:
    """Find copies: the same file, and the same picture turned, mirrored, cropped or saved again.

    Each set has the one to keep, and why: the largest, then the least compressed, then the oldest.
    Nothing is deleted. To move the others away, type: zoo export FOLDER --move OUT --what copies
    --dry-run
    """
    from zoo.collection import duplicates as finder
    from zoo.collection.opened import Opened

    _refuse(alike, threshold, keep_both, not_duplicate, undo)
    opened = Opened(folder)
    if keep_both or not_duplicate:
        _decide(opened, keep_both, not_duplicate, undo, as_json)
        return
    found = finder.find(opened, tell_of_pairs())
    for note in [*opened.read.notes(), *found.notes]:
        click.echo(printable(note), err=True)
    known = [*found.same_picture, *found.same_file]
    if preview:
        _preview(finder.preview(opened.graph, opened.pictures, known), as_json)
        return
    bands = {"same_file": found.same_file, "same_picture": found.same_picture}
    if alike:
        limit = finder.THRESHOLD if threshold is None else threshold
        bands["alike"] = finder.alike(opened.graph, opened.pictures, limit, known, opened.state)
    if as_json:
        print_json(_facts(opened.pictures, bands, found.unread))
        return
    for band, sets in bands.items():
        _show(opened.pictures, band, sets, number)
    if found.unread:
        click.echo(
            f"{len(found.unread)} pictures could not be read again, so they were not compared. "
            "Type: zoo index --out FOLDER",
            err=True,
        )


def _refuse(
    alike: bool,
    threshold: float | None,
    keep_both: tuple[Path, ...],
    not_duplicate: tuple[Path, ...],
    undo: bool,
) -> None:
    if threshold is not None and not alike:
        raise InputError("--threshold is for --alike: add that")
    if keep_both and not_duplicate:
        raise InputError("--keep-both and --not-duplicate are two decisions: type one at a time")
    if undo and not (keep_both or not_duplicate):
        raise InputError("--undo takes --keep-both or --not-duplicate back: add one, with PICTURE")
    if len(not_duplicate) == 1:
        raise InputError("--not-duplicate takes at least two pictures: give it for each of them")


def _decide(
    opened: "Opened",
    keep_both: tuple[Path, ...],
    not_duplicate: tuple[Path, ...],
    undo: bool,
    as_json: bool,
) -> None:
    kind, given = ("keep_both", keep_both) if keep_both else ("not_duplicate", not_duplicate)
    hashes = list(dict.fromkeys(opened.pictures.hashes[i] for i in opened.positions(given)))
    if kind == "not_duplicate" and len(hashes) < 2:
        raise InputError("these are the same file, byte by byte, so they are copies")
    opened.decisions.append(kind, hashes, False if undo else None)
    if as_json:
        print_json({"decision": kind, "hashes": hashes, "undone": undo})
    else:
        word = "taken back" if undo else "kept in mind"
        click.echo(f"{word}: {kind.replace('_', ' ')}, of {len(hashes)} pictures")


def tell_of_pairs() -> Callable[[int, int], None]:
    """A line on stderr every some seconds, from the first on that passed."""
    last = time.monotonic()
    every = 2.0 if sys.stderr.isatty() else 30.0

    def tell(done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last >= every:
            last = time.monotonic()
            click.echo(f"compared: {done:,} of {of:,} pairs of candidates", err=True)

    return tell


def _preview(rows: list[dict[str, float]], as_json: bool) -> None:
    if as_json:
        print_json({"preview": rows})
        return
    table = new_table("threshold", "sets", "pictures", "more than one each")
    for row in rows:
        table.add_row(
            f"{row['threshold']:.2f}", *(f"{row[key]:,}" for key in ("sets", "pictures", "extra"))
        )
    print_table(table)


def _facts(
    pictures: "Pictures", bands: "dict[str, list[Set]]", unread: list[str]
) -> dict[str, Any]:
    return {
        "pictures": len(pictures),
        "counts": {
            band: {
                "sets": len(sets),
                "pictures": sum(len(each.members) for each in sets),
                "extra": sum(len(each.members) - 1 for each in sets),
                "extra_bytes": sum(int(pictures.bytes[list(s.members[1:])].sum()) for s in sets),
            }
            for band, sets in bands.items()
        },
        "not_compared": unread,
        **{
            band: [
                {
                    "keep": pictures.paths[each.members[0]],
                    "why": each.why,
                    "copies": [pictures.paths[i] for i in each.members[1:]],
                    "kept": each.kept,
                }
                for each in sets
            ]
            for band, sets in bands.items()
        },
    }


def _show(pictures: "Pictures", band: str, sets: "list[Set]", number: int) -> None:
    extra = sum(len(each.members) - 1 for each in sets)
    plural = "s" * (len(sets) != 1)
    click.echo(f"{band.replace('_', ' ')}: {len(sets):,} set{plural}, {extra:,} more than one each")
    for each in sets[:number]:
        said = "; all may stay, you said" if each.kept else ""
        keep, *others = each.members
        click.echo(printable(f"  keep {pictures.paths[keep]} ({each.why}{said})"))
        for i in others:
            click.echo(printable(f"       {pictures.paths[i]}"))
    if len(sets) > number:
        click.echo(f"  and {len(sets) - number:,} sets more; -n shows more, --json all")
