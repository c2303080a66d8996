"""What the commands share: options, tables, messages."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import zoo
from zoo.boundary import user_path
from zoo.errors import InputError
from zoo.files import path_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.table import Table

    from zoo.images import Pictures
    from zoo.model import ZooModel


F = TypeVar("F", bound="Callable[..., Any] | click.Command")


class UserPath(click.Path):
    """A path of the user's, not empty; ``~`` is a home folder, also after a ``--out=``.

    ``home=False``: the shell has expanded ``~`` already, so one at the start is part of a name.
    """

    def __init__(self, *, home: bool = True, **more: Any) -> None:
        super().__init__(path_type=Path, **more)
        self.home = home

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        path = user_path(value) if self.home or not os.fspath(value) else value
        return super().convert(path, param, ctx)


class CollectionFolder(UserPath):
    """The folder of a collection, or its address on a store, of which this machine has a folder.

    ``changes``: the command keeps something there, and takes no address.
    """

    def __init__(self, *, changes: bool = False, home: bool = False, **more: Any) -> None:
        super().__init__(home=home, **more)
        self.changes = changes

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        from zoo.collection.mirror import opened, refuse_stored
        from zoo.collection.remote import is_address

        if self.changes:
            refuse_stored(value)
        return opened(value) if is_address(value) else super().convert(value, param, ctx)


class NewCollection(UserPath):
    """The folder of a collection that may be made, or its address on a store, as it is typed."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        from zoo.collection.remote import is_address

        if is_address(value):
            return value
        return super().convert(value, param, ctx)


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
seed = click.option("--seed", default=0, show_default=True, help="Same seed, same result.")
sources = click.argument("sources", nargs=-1, type=UserPath(home=False))
strict = click.option(
    "--strict",
    is_flag=True,
    help="Refuse when a picture cannot be read; other files do not matter.",
)


def preparation(command: "F") -> "F":
    """The options that choose how pictures are made into a model's images."""
    fit = click.option(
        "--fit",
        type=click.Choice(["crop", "pad", "stretch", "library"]),
        help="Pictures of other proportions are cut, framed or distorted, or prepared as the "
        "library of the weights does itself; by default as the weights say.",
    )
    background = click.option(
        "--background",
        type=click.FloatRange(0, 1),
        help="Under transparent pictures, and of the frame: from 0, black, to 1, white.",
    )
    return fit(background(command))


def png_out(default: str) -> "Callable[[F], F]":
    return click.option(
        "--out",
        default=default,
        show_default=True,
        type=UserPath(dir_okay=False),
        help="The PNG to write.",
    )


def read(model: "ZooModel", sources: tuple[Path, ...], strict: bool) -> "Pictures":
    """The pictures of ``sources``, or some of the embedded sample; skipped files are reported."""
    from zoo.images import Pictures, read_pictures

    if not sources:
        from zoo.sample import sample

        images = model.preprocess(sample()[0][:30])
        return Pictures(images, [Path(f"sample/{i}") for i in range(len(images))])
    pictures = read_pictures(sources, model.preprocessing, strict=strict, progress=tracked)
    tell(pictures.notes, pictures.skipped)
    return pictures


def tell(notes: list[str], skipped: list[tuple[Path, str]]) -> None:
    """Say on stderr what was left out on purpose, and what could not be read."""
    from zoo.images import skipped_text

    for note in notes:
        click.echo(printable(note), err=True)
    if skipped:
        click.echo(printable(skipped_text(skipped)), err=True)


_SIGNATURES: "dict[str, tuple[str, Callable[[bytes], bool]]]" = {
    ".png": ("a PNG", lambda head: head.startswith(b"\x89PNG\r\n\x1a\n")),
    ".npz": ("an .npz file", lambda head: head.startswith(b"PK")),
    ".parquet": ("a Parquet file", lambda head: head.startswith(b"PAR1")),
    ".safetensors": ("a .safetensors file", lambda head: head[8:9] == b"{"),
    ".onnx": ("an ONNX file", lambda head: head.startswith(b"\x08")),  # the field of its version
    ".pt2": ("a .pt2 file", lambda head: head.startswith(b"PK")),
    ".html": ("a page of zoo browse", lambda head: b"a page of zoo browse" in head),
    ".csv": ("a table of zoo export", lambda head: head.startswith(b"path,hash,group,")),
    ".json": ("a JSON file", lambda head: head.lstrip()[:1] in (b"{", b"[")),
}


def refuse_loss(out: Path, kind: str, pictures: "Iterable[Path]" = ()) -> None:
    """Refuse to overwrite ``out`` unless it is a file of the kind that the command writes.

    Args:
        kind: what is going to be written, by the ending that such files have.
        pictures: what is read, or was.

    Raises:
        InputError: ``out`` is there and is one of the pictures, or a file of another kind.
    """
    if not out.is_file() or out.stat().st_size == 0:
        return
    if any(path.exists() and out.samefile(path) for path in pictures):
        raise InputError(
            f"{out} is one of the pictures that are read, so it is not overwritten. Choose another "
            "--out"
        )
    name, fits = _SIGNATURES[kind]
    with out.open("rb") as file:
        if not fits(file.read(64)):
            raise InputError(
                f"{out} is there already and is not {name}, so it is not overwritten. Choose "
                "another --out"
            )


def tracked(paths: list[Path]) -> "Iterable[Path]":
    """A progress bar on a terminal, if there are many files."""
    if len(paths) < 200 or not sys.stderr.isatty():
        return paths
    from rich.console import Console
    from rich.progress import track

    return track(paths, "reading", console=Console(stderr=True))


def assignments(option: str, texts: tuple[str, ...]) -> dict[str, Any]:
    """What a repeated ``KEY=VALUE`` says, each value as JSON if it is any."""
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"{option} takes KEY=VALUE, got {text!r}")
        try:
            values[key] = json.loads(value)
        except ValueError:
            values[key] = value  # a text needs no quotes
    return values


def report(as_json: bool, text: str, **facts: Any) -> None:
    if as_json:
        print_json(facts)
    else:
        click.echo(path_text(text))


def print_json(value: Any) -> None:
    """``value`` as JSON that any program reads: no text in it holds half a surrogate."""
    click.echo(json.dumps(_plain(value), indent=2, default=str))


def _plain(value: Any) -> Any:
    if isinstance(value, str | Path):
        return path_text(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def new_table(*columns: str, show_header: bool = True) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_header=show_header, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0, overflow="fold")
    return table


def print_table(table: Any) -> None:
    from rich.console import Console

    # Not a terminal (a pipe, a file): rich's 80 columns would break names in two.
    width = None if sys.stdout.isatty() else 140
    Console(width=width, highlight=False, markup=False).print(table)


def printable(text: str) -> str:
    """``text`` without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in path_text(text))


def warn_of_faults() -> None:
    """Say on stderr which plugins are left out, or slow, and why."""
    from zoo.registry import registry

    for plugin in registry().plugins:
        if plugin.fault:
            word = "failed to load" if plugin.fault.fatal else "is slow to load"
            click.echo(
                printable(f"The plugin {plugin} {word}: {plugin.fault}. More: zoo plugins"),
                err=True,
            )


def usable_weights() -> list[str]:
    """All weights whose records can be read; the others are named on stderr, with the reasons."""
    from zoo.registry import registry

    broken = {name: error for _, name, error in registry().broken_weights()}
    for name, error in broken.items():
        click.echo(printable(f"The weights {name} are left out: {error}"), err=True)
    return [name for name in zoo.list_models(pretrained=True) if name not in broken]


def log_hub_to_stderr() -> None:
    """From now on say on stderr which commit is used, and when it is only from the cache."""
    import logging
    import warnings

    from zoo.errors import StaleWeights

    class StderrHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            click.echo(printable(record.getMessage()), err=True)

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, StaleWeights):
            click.echo(printable(f"Warning: {message}"), err=True)
        else:
            others(message, category, *where, **more)

    logger = logging.getLogger("zoo")
    if not logger.handlers:
        logger.addHandler(StderrHandler())
        logger.setLevel(logging.INFO)
    others, warnings.showwarning = warnings.showwarning, show


def size(shape: Any) -> str:
    return " x ".join(map(str, shape))


def minutes(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02} s"
