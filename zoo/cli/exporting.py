"""What leaves a collection: tables, arrays, folders of links, and moves that can be undone."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.shared import CollectionFolder, UserPath, as_json, print_json, printable, refuse_loss
from zoo.errors import InputError
from zoo.files import path_text

if TYPE_CHECKING:
    import numpy as np

    from zoo.collection.exporting import Facts, Moved, Place
    from zoo.collection.opened import Opened

SHOWN = 10


@click.command()
@click.argument("folder", type=CollectionFolder(changes=True))
@click.option("--out", type=UserPath(dir_okay=False), help="The table: a .csv or .parquet file.")
@click.option(
    "--features", is_flag=True,
    help="With the features, for a .parquet that embedding-atlas opens (--vector features).",
)  # fmt: skip
@click.option(
    "--arrays", type=UserPath(dir_okay=False),
    help="The features and what is known as arrays: an .npz file, for scikit-learn.",
)  # fmt: skip
@click.option("--links", type=UserPath(), help="A new folder with a folder of links for each name.")
@click.option("--move", type=UserPath(), help="Move the files there, after a --dry-run.")
@click.option("--dry-run", is_flag=True, help="With --move: only show and note what it would do.")
@click.option("--undo", type=UserPath(dir_okay=False), help="The log of a --move to take back.")
@click.option(
    "--by", default="name", show_default=True, type=click.Choice(["name", "group"]),
    help="The folders of --links and --move.",
)  # fmt: skip
@click.option(
    "--as", "how", default="symlink", show_default=True,
    type=click.Choice(["symlink", "hardlink", "copy"]), help="What --links makes.",
)  # fmt: skip
@click.option(
    "--what", default="all", show_default=True, type=click.Choice(["all", "named", "copies"]),
    help="Of --links and --move. Copies: those that zoo duplicates would not keep.",
)  # fmt: skip
@as_json
def export(
    folder: Path,
    out: Path | None,
    features: bool,
    arrays: Path | None,
    links: Path | None,
    move: Path | None,
    dry_run: bool,
    undo: Path | None,
    by: str,
    how: str,
    what: str,
    as_json: bool,
) -> None:
    """Write a table of a collection, arrays, folders of links; or move the files.

    \b
    zoo export FOLDER --out table.csv              a row a picture, and a row an unread file
    zoo export FOLDER --out t.parquet --features   with the features
    zoo export FOLDER --links sorted               sorted/<name>/<file>, without touching a file
    zoo export FOLDER --move sorted --dry-run      what would be moved; without --dry-run, does it
    zoo export FOLDER --undo FOLDER/moved-....jsonl

    Nothing is overwritten or deleted. The columns same_file and same_picture number the sets of
    copies; group -1 is "few of a kind".
    """
    from zoo.collection.opened import Opened

    _refuse(out, features, arrays, links, move, dry_run, undo)
    opened = Opened(folder)
    if undo is not None:
        _undo(opened, undo, as_json)
        return
    facts = _gathered(opened, arrays)
    if out is not None:
        _table(opened, facts, out, features, as_json)
    elif arrays is not None:
        _arrays(opened, facts, arrays, as_json)
    elif links is not None:
        _links(opened, facts, links, _places(facts, by, what), how, as_json)
    elif move is not None:
        _move(opened, facts, move, _places(facts, by, what), dry_run, as_json)


def _refuse(
    out: Path | None,
    features: bool,
    arrays: Path | None,
    links: Path | None,
    move: Path | None,
    dry_run: bool,
    undo: Path | None,
) -> None:
    """Raises: InputError: what was typed is not one thing to do."""
    given = [each for each in (out, arrays, links, move, undo) if each is not None]
    if len(given) != 1:
        raise InputError(
            "type one of --out table.csv, --arrays x.npz, --links FOLDER, --move FOLDER, "
            f"--undo LOG; got {len(given)}"
        )
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out should end in .csv or .parquet, got {str(out)!r}")
    if arrays is not None and arrays.suffix != ".npz":
        raise InputError(f"--arrays should end in .npz, got {str(arrays)!r}")
    if features and (out is None or out.suffix != ".parquet"):
        raise InputError("--features goes into a --out that ends in .parquet")
    if dry_run and move is None:
        raise InputError("--dry-run is for --move")


def _gathered(opened: "Opened", arrays: Path | None) -> "Facts":
    """What is known of the pictures. Duplicates are looked for where they are wanted."""
    from zoo.cli.duplicates import tell_of_pairs
    from zoo.collection import duplicates
    from zoo.collection.exporting import facts_of

    found = None if arrays is not None else duplicates.find(opened, tell_of_pairs())
    for note in [*opened.read.notes(), *(found.notes if found else [])]:
        click.echo(printable(note), err=True)
    return facts_of(opened, found)


def _table(opened: "Opened", facts: "Facts", out: Path, features: bool, as_json: bool) -> None:
    from zoo.collection import exporting

    pictures = [Path(path) for path in facts.pictures.paths] if out.exists() else []
    refuse_loss(out, out.suffix, pictures)
    table = exporting.columns(facts)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".csv":
        exporting.write_csv(out, table)
    else:
        exporting.write_parquet(out, table, _parts(opened) if features else None)
    counts = _counts(facts)
    _report(as_json, f"{counts['rows']:,} rows in {path_text(out)}", out=str(out), **counts)


def _parts(opened: "Opened") -> "Iterator[np.ndarray]":
    rows = opened.pictures.rows
    for begin in range(0, max(len(rows), 1), 4096):
        yield opened.store.features(rows[begin : begin + 4096])


def _counts(facts: "Facts") -> dict[str, Any]:
    def sets(numbers: "np.ndarray | None") -> int:
        return 0 if numbers is None else int(numbers.max(initial=0))

    labels = facts.layers.get(facts.default)
    return {
        "rows": len(facts.pictures) + len(facts.unread),
        "pictures": len(facts.pictures),
        "unread": len(facts.unread),
        "groups": 0 if labels is None else len(set(labels[labels >= 0].tolist())),
        "named": sum(bool(name) for name in facts.names),
        "same_file": sets(facts.same_file),
        "same_picture": sets(facts.same_picture),
        "copies": len(facts.extra),
    }


def _arrays(opened: "Opened", facts: "Facts", out: Path, as_json: bool) -> None:
    from zoo.collection import exporting

    refuse_loss(out, ".npz", [Path(path) for path in facts.pictures.paths])
    out.parent.mkdir(parents=True, exist_ok=True)
    features = opened.store.features(facts.pictures.rows)
    exporting.write_arrays(out, facts, features)
    _report(
        as_json, f"{len(features):,} pictures in {path_text(out)}: X, paths, hashes, names",
        out=str(out), pictures=len(features), features=features.shape[1],
    )  # fmt: skip


def _places(facts: "Facts", by: str, what: str) -> "list[Place]":
    from zoo.collection.exporting import arranged

    only: Iterable[int] | None = None
    if what == "copies":
        only = facts.extra
    elif what == "named":
        only = [i for i, name in enumerate(facts.names) if name]
    return arranged(facts, by, only)


def _links(
    opened: "Opened", facts: "Facts", out: Path, places: "list[Place]", how: str, as_json: bool
) -> None:
    from zoo.collection.entries import read_bytes
    from zoo.collection.exporting import link

    def read(picture: int) -> bytes:
        return read_bytes(opened.store, int(facts.pictures.rows[picture]))

    left_out = link(facts.pictures, places, out, how, read)
    folders = len({place.folder for place in places})
    made = len(places) - len(left_out)
    _name_left_out(left_out)
    _report(
        as_json, f"{made:,} pictures in {folders:,} folders of {path_text(out)}", out=str(out),
        made=made, folders=folders, left_out=_pairs(left_out),
    )  # fmt: skip


def _move(
    opened: "Opened", facts: "Facts", out: Path, places: "list[Place]", dry_run: bool, as_json: bool
) -> None:
    from zoo.collection.exporting import Plan, move, plan
    from zoo.collection.store import Store

    with Store.writing(opened.folder):
        wanted = plan(facts.pictures, places, out)
        if dry_run:
            _show_plan(wanted, wanted.save(opened.folder), as_json)
            return
        seen = Plan.load(opened.folder)
        if seen is None or (seen.out, seen.steps) != (wanted.out, wanted.steps):
            raise InputError(
                "this is not what a dry run has shown, so nothing was moved. Type the same with "
                "--dry-run first, and look at it"
            )
        log = (
            opened.folder / f"moved-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**6}.jsonl"
        )
        done = move(wanted, log)
    _say_moved(opened, done, wanted.left_out, as_json, undo=False)


def _show_plan(wanted: Any, file: Path, as_json: bool) -> None:
    _name_left_out(wanted.left_out)
    if as_json:
        facts = {"plan": str(file), "out": wanted.out, "steps": wanted.steps}
        print_json({**facts, "moves": len(wanted.steps), "left_out": _pairs(wanted.left_out)})
        return
    for step in wanted.steps[:SHOWN]:
        click.echo(printable(f"{step['from']} -> {step['to']}"))
    if len(wanted.steps) > SHOWN:
        click.echo(f"and {len(wanted.steps) - SHOWN:,} more")
    click.echo(
        f"{len(wanted.steps):,} files would be moved, none is yet; all are in "
        f"{printable(str(file))}. To move them, type the same without --dry-run"
    )


def _undo(opened: "Opened", log: Path, as_json: bool) -> None:
    from zoo.collection.exporting import undo
    from zoo.collection.store import Store

    with Store.writing(opened.folder):
        done = undo(log)
    _say_moved(opened, done, [], as_json, undo=True)


def _say_moved(
    opened: "Opened", done: "Moved", before: list[tuple[str, str]], as_json: bool, undo: bool
) -> None:
    left_out = [*before, *done.left_out]
    _name_left_out(left_out)
    log, folder = path_text(done.log), path_text(opened.folder)
    text = (
        f"{done.moved:,} files moved back"
        if undo
        else f"{done.moved:,} files moved. To take that back: zoo export {folder} --undo {log}\n"
        f"To bring the collection up to date: zoo index OUT --out {folder}"
    )
    _report(as_json, text, moved=done.moved, log=str(done.log), left_out=_pairs(left_out))


def _name_left_out(left_out: list[tuple[str, str]]) -> None:
    if left_out:
        click.echo(f"{len(left_out):,} files left out:", err=True)
        for path, reason in left_out[:SHOWN]:
            click.echo(printable(f"  {path}: {reason}"), err=True)
        if len(left_out) > SHOWN:
            click.echo(f"  and {len(left_out) - SHOWN:,} more; --json names them all", err=True)


def _pairs(left_out: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"path": path, "reason": reason} for path, reason in left_out]


def _report(as_json: bool, text: str, **facts: Any) -> None:
    if as_json:
        print_json(facts)
    else:
        click.echo(printable(text))
