"""Collections: an index of one's own pictures."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli.shared import (
    CollectionFolder,
    NewCollection,
    as_json,
    assignments,
    minutes,
    preparation,
    print_json,
    printable,
)
from zoo.errors import InputError, ModelNameError
from zoo.files import path_text

if TYPE_CHECKING:
    from zoo.collection import Collection
    from zoo.collection.indexing import Report

SHOWN = 20
"""Unread files that are named on a terminal; --json has them all."""


@click.command()
@click.argument("name_and_sources", nargs=-1, metavar="[NAME] SOURCE...")
@click.option(
    "--out",
    required=True,
    type=NewCollection(file_okay=False),
    help="The folder of the collection, which is made, or brought up to date; or s3://BUCKET/FOLDER.",
)
@click.option("--learn", is_flag=True, help="Train NAME, without a tag, on these pictures first.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="With --learn: a setting of the recipe, such as epochs=5.",
)  # fmt: skip
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
    help="Who computes: this machine, or a Ray cluster that sees the same paths.",
)  # fmt: skip
@click.option("--address", metavar="HOST:PORT", help="With --engine ray: the head of the cluster.")
@preparation
@as_json
def index(
    name_and_sources: tuple[str, ...],
    out: Path | str,
    learn: bool,
    settings: tuple[str, ...],
    engine: str,
    address: str | None,
    fit: str | None,
    background: float | None,
    as_json: bool,
) -> None:
    """Index your own pictures: folders, files, zip and tar archives, Parquet files.

    They are neither copied nor changed. Type the same again to bring the collection up to date, or
    zoo index --out FOLDER: what was moved or renamed is known again, and only what is new is
    computed. It can be stopped at any time, and goes on where it was.

    SOURCE may also be a folder of an object store: s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or
    hf://datasets/NAME/SET.

    Without NAME, the best model that ships is used. A folder that is called as a model is: ./NAME.
    """
    name, sources = _split(name_and_sources, learn)
    if settings and not learn:
        raise InputError("--set is for --learn, which trains a model first")
    collection = _indexed(
        name, sources, out,
        learn=learn, settings=assignments("--set", settings), fit=fit, background=background,
        engine=engine, address=address,
    )  # fmt: skip
    done = collection.report
    assert done is not None
    if as_json:
        print_json(_facts(collection, done, out))
    else:
        _say(collection, done, out, advised=name is None)


def _split(given: tuple[str, ...], learn: bool) -> tuple[str | None, list[str | Path]]:
    """The name of a model, if the first argument is one, and the sources.

    Raises: InputError, ModelNameError.
    """
    if any(not each for each in given):
        raise InputError("a path is empty: name a folder or file (a dot is the current folder)")
    from zoo.collection.remote import is_address

    named = bool(given) and (learn or _is_name(given[0], single=len(given) == 1))
    # Absolute, since a tilde means nothing here any more: the shell has put in what it means.
    sources = [each if is_address(each) else Path(os.path.abspath(each)) for each in given[named:]]
    return (given[0] if named else None), sources


def _is_name(first: str, single: bool) -> bool:
    """Whether the first of the arguments names a model, and no file or folder."""
    from zoo.collection.remote import is_address

    there = os.path.exists(first)
    if is_address(first) or (there and single):
        return False
    if not there and ":" in first:
        return True
    try:
        zoo.info(first)
    except ModelNameError as error:
        if there:
            return False
        raise InputError(
            f"{first} is no folder or file here, and no model either: {error}"
        ) from None
    return True


def _indexed(
    name: str | None, sources: list[str | Path], out: Path | str, *, learn: bool, **more: Any
) -> "Collection":
    from zoo.cli.learning import Display

    with contextlib.ExitStack() as stack:
        report: Callable[[dict[str, Any]], None] = lambda line: None  # noqa: E731
        if learn:
            report = stack.enter_context(Display()).show
        progress = stack.enter_context(_progress(learn))
        return zoo.Collection.index(
            name, sources, out, learn=learn, report=report, progress=progress, **more
        )


@contextlib.contextmanager
def _progress(other: bool) -> Iterator[Callable[[int, int], None]]:
    """How far it is, on stderr: a bar on a terminal, elsewhere a line every half a minute.

    Args:
        other: a bar of something else is shown already.
    """
    if other or not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("indexing"), BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}, {task.fields[speed]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, speed="", visible=False)
        rate = _Rate()

        def show(done: int, total: int) -> None:
            speed = f"{rate(done):,.0f} pictures/s"
            bar.update(task, completed=done, total=total, speed=speed, visible=total > 0)

        yield show


class _Rate:
    """Pictures a second since the first was under way: a model is loaded, or trained, before."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def __call__(self, done: int) -> float:
        if not done:
            self.began = time.monotonic()
        return done / max(time.monotonic() - self.began, 1e-3)


class _Lines:
    """A line now and then where there is no terminal."""

    EVERY = 30.0

    def __init__(self) -> None:
        self.rate = _Rate()
        self.said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now, speed = time.monotonic(), self.rate(done)
        if not done:
            self.said = now
        elif now - self.said >= self.EVERY:
            self.said = now
            left = minutes((total - done) / speed)
            click.echo(f"{done:,} of {total:,}, {speed:,.0f} pictures/s, {left} left", err=True)


COUNTS = (
    "listed", "read", "unread", "computed", "kept", "moved", "copied", "returned", "removed",
)  # fmt: skip


def _facts(collection: "Collection", done: "Report", out: Path | str) -> dict[str, Any]:
    return {
        "out": str(out),
        "model": collection.store.manifest.model["name"],
        "preprocessing": collection.store.manifest.preprocessing,
        "sources": collection.store.manifest.sources,
        **{name: getattr(done, name) for name in COUNTS},
        "left_out": [{"path": again, "same_as": first} for again, first in done.linked],
        "unread_files": [{"path": path, "reason": why} for path, why in collection.unread()],
        "notes": done.notes,
        "seconds": round(done.seconds, 2),
    }


def _say(collection: "Collection", done: "Report", out: Path | str, advised: bool) -> None:
    """What a person should know, what is not read first."""
    notes = list(done.notes)
    if done.linked:
        again, first = done.linked[0]
        notes.append(
            f"{len(done.linked)} further names of the same files left out, by links: {again} is "
            f"{first}" + (", ..." if len(done.linked) > 1 else "")
        )
    if unread := collection.unread():
        notes.append(f"{len(unread)} files could not be read:")
        notes += [f"  {path}: {reason}" for path, reason in unread[:SHOWN]]
        if len(unread) > SHOWN:
            notes.append(f"  and {len(unread) - SHOWN} more; --json names them all")
    for note in notes:
        click.echo(printable(note), err=True)
    parts = [f"{getattr(done, name):,} {name}" for name in COUNTS[3:] if getattr(done, name)]
    model = collection.store.manifest.model["name"]
    click.echo(
        path_text(
            f"{done.read:,} pictures in {out}, by {model}: {', '.join(parts) or 'none'} "
            f"({minutes(done.seconds)})"
        )
    )
    if advised and done.computed:
        from zoo.collection.models import better_ones

        click.echo(better_ones())


@click.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="FOLDER FOLDER...",
    type=CollectionFolder(),
)
@click.option(
    "--out",
    required=True,
    type=CollectionFolder(changes=True, home=True, file_okay=False),
    help="The folder of the new collection.",
)
@as_json
def merge(folders: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Make one collection of several, such as those that several machines have indexed.

    They have to be of the same model, and stay as they are. What was decided in them holds in the
    new one, whose groups are found anew: zoo group OUT. Of a file that several of them know, the
    content of its latest time counts. zoo index --out OUT brings all sources up to date later.
    """
    collection = zoo.Collection.merge(folders, out)
    done = collection.merged
    assert done is not None
    if as_json:
        print_json({"out": str(out), "pictures": len(collection), **asdict(done)})
        return
    if done.torn:
        click.echo(f"{done.torn} lines of decisions cannot be read, and were left out", err=True)
    parts = [
        f"{taken:,} of the {rows:,} rows of {folder}"
        for folder, rows, taken in zip(done.folders, done.rows, done.taken, strict=True)
    ]
    click.echo(path_text(f"{len(collection):,} pictures in {out}: {', '.join(parts)}"))
    if done.outdated:
        click.echo(f"{done.outdated:,} of these rows are of files that changed later, and are gone")
    click.echo(path_text(f"Try: zoo group {out}"))
