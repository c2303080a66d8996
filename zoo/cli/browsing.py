"""The page to look at a collection."""

import contextlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.shared import (
    CollectionFolder,
    UserPath,
    as_json,
    print_json,
    printable,
    refuse_loss,
    report,
)
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.collection.page.live import Page

EXPECTED_WARNINGS = r"precomputed_knn\[2\]"
"""What UMAP says: nothing new can be put into the map, which is not asked for."""


@click.command()
@click.argument("folder", type=CollectionFolder(changes=True))
@click.option(
    "--export",
    type=UserPath(),
    metavar="FILE|FOLDER",
    help="Write the page as a file that ends in .html, or a folder, to be opened without a server.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen at. Any other than the default lets other machines in.",
)
@click.option(
    "--port",
    default=0,
    type=click.IntRange(0, 65535),
    help="The port to listen at; by default any that is free.",
)
@as_json
def browse(folder: Path, export: Path | None, host: str, port: int, as_json: bool) -> None:
    """Look at a collection: groups, names, a map, duplicates, odd ones, unread files.

    Without --export it answers a browser on this machine, until Ctrl-C, and keeps what is named,
    merged and split there. With --export the page is written for reading alone, and opens from any
    disk.
    """
    if export is None:
        _serve(folder, host, port, as_json)
    else:
        _export(folder, export, as_json)


def _export(folder: Path, out: Path, as_json: bool) -> None:
    from zoo.collection.page.static import export, is_file, refuse

    _refuse_within(out, folder)
    if is_file(out):
        refuse_loss(out, ".html")
    refuse(out)  # now, and again when it is known of how many pictures, and when all is ready
    page = _page(folder)
    refuse(out, len(page.opened.pictures))
    _prepare(page)
    with _progress("thumbnails", page.missing()) as told:
        made = page.make_thumbnails(told)
    done = export(page.data, page.thumbnail, out)
    _say_failed(page, made.failed)
    entry = out if is_file(out) else out / "index.html"
    report(
        as_json,
        f"the page of {len(page.data):,} pictures in {out}: {done.files:,} files, "
        f"{done.bytes / 1e6:,.1f} MB. Open {entry} in a browser",
        out=str(out),
        pictures=len(page.data),
        files=done.files,
        bytes=done.bytes,
        thumbnails=made.made,
        unread=len(page.data.unread),
        without_thumbnail=len(made.failed),
    )


def _serve(folder: Path, host: str, port: int, as_json: bool) -> None:
    from zoo.optional import optional

    for name in ("fastapi", "uvicorn"):
        optional(name, name, "page")
    from zoo.collection.page import serving

    with serving.listening(host, port) as listener:
        page = _page(folder)
        _prepare(page)
        token = serving.new_token()
        address = serving.address(listener, token)
        server = serving.server(page, listener, token)
        if as_json:
            print_json({"address": address, "pictures": len(page.data)})
        else:
            click.echo(f"{len(page.data):,} pictures, in a browser: {address}")
            click.echo("Whoever has this address can look and decide. Ctrl-C stops it.")
        sys.stdout.flush()
        if not serving.is_loopback(host):
            click.echo(f"other machines can reach it, since --host is {host}", err=True)
        making = threading.Thread(target=_make, args=(page,), daemon=True)
        making.start()
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            click.echo("stopped; what was decided is kept", err=True)
        finally:
            page.stop()
            making.join()


def _make(page: "Page") -> None:
    """Make what thumbnails are missing, while others are looked at."""
    try:
        page.make_thumbnails()
    except OSError as error:  # a full or read-only disk: they are made when they are looked at
        click.echo(printable(f"thumbnails are not kept: {error}"), err=True)


def _page(folder: Path) -> "Page":
    from zoo.collection.opened import Opened
    from zoo.collection.page.live import Page

    return Page(Opened(folder))


def _prepare(page: "Page") -> None:
    """Compute what the page shows, where what is wrong can be said."""
    if page.lacks_map():
        count = len(page.opened.pictures)
        click.echo(f"placing {count:,} pictures on a map, this once", err=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", EXPECTED_WARNINGS)
        page.data  # noqa: B018  computed now


def _refuse_within(out: Path, folder: Path) -> None:
    """The collection's folder has what belongs to it alone. Raises: InputError."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{out} lies in the folder of the collection, which has its own files alone. Choose "
            "another --export"
        )


def _say_failed(page: "Page", failed: list[tuple[str, str]]) -> None:
    paths = dict(zip(page.data.hashes, page.data.paths, strict=True))
    for content, reason in failed[:10]:
        click.echo(printable(f"no thumbnail of {paths[content]}: {reason}"), err=True)
    if len(failed) > 10:
        click.echo(f"and {len(failed) - 10:,} more; zoo index looks at the files anew", err=True)


@contextlib.contextmanager
def _progress(what: str, count: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal, for what takes longer than one notices."""
    if count < 200 or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task: Any = bar.add_task(what, total=count)
        yield lambda done: bar.update(task, completed=done)
