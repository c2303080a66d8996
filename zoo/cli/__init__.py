"""The command line. It may import everything in the zoo, and nothing in the zoo imports it.

A command's module is imported when that command is called, and what the command needs is imported
inside it: ``zoo list`` must not wait for torch.
"""

import contextlib
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import click

import zoo
from zoo.boundary import typed_error
from zoo.cli.launched import ended_at_once
from zoo.cli.shared import log_hub_to_stderr, printable
from zoo.errors import ZooError

COMMANDS = {
    "list": "listing:list_command",
    "info": "listing:info",
    "plugins": "listing:plugins",
    "index": "collection:index",
    "merge": "collection:merge",
    "group": "grouping:group",
    "find": "finding:find",
    "duplicates": "duplicates:duplicates",
    "odd": "grouping:odd",
    "name": "deciding:name",
    "recognise": "deciding:recognise",
    "export": "exporting:export",
    "browse": "browsing:browse",
    "encode": "pictures:encode",
    "reconstruct": "pictures:reconstruct",
    "generate": "pictures:generate",
    "interpolate": "pictures:interpolate",
    "convert": "converting:convert",
    "train": "learning:train",
    "evaluate": "measuring:evaluate",
    "leaderboard": "publishing:leaderboard",
    "card": "publishing:card",
    "search": "hub:search",
    "pull": "hub:pull",
    "publish": "publishing:publish",
    "check": "authoring:check",
    "new-plugin": "authoring:new_plugin",
    "demo": "pictures:demo",
}
"""Where each command is, in the order in which the help shows them."""


class Group(click.Group):
    """The commands by name, and the one place where their errors are caught.

    A mistake of the user's, which has a type of :mod:`zoo.errors` or gets one, is shown as one
    message, with exit code 2. Only a bug of ours ends in a traceback.
    """

    def main(self, *args: Any, **more: Any) -> Any:
        with ended_at_once():
            return super().main(*args, **more)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _refuse_empty(args)
        if any("hf-hub:" in arg for arg in args):
            log_hub_to_stderr()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        _write_anything()
        try:
            with _ended_by_signals():
                result = super().invoke(ctx)
                sys.stdout.flush()  # here, where a full disk can still be reported
                return result
        except Exception as error:
            found = error if isinstance(error, ZooError) else typed_error(error)
            if found is None:
                raise
            click.echo(f"Error: {printable(str(found))}", err=True)
            _discard_stdout()
            sys.exit(2)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, function = COMMANDS[name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"zoo.cli.{module}"), function)
        return command


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(zoo.__version__, prog_name="zoo")
def main() -> None:
    """A zoo of models that learn from images without labels.

    \b
    NAME is a model with weights (deep_ae.mnist), a model (deep_ae: its default weights),
    a weights folder (local-dir:FOLDER), or a repository on the Hub (hf-hub:org/name@REVISION).
    """
    # OpenMP's threads spin while they wait. Those that spin for long become ten times slower when
    # another process takes a core; those that never spin are slower than a single thread. With some
    # microseconds neither happens.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _refuse_empty(args: list[str]) -> None:
    """No option's value may be empty; an unset variable of the shell's often is.

    Empty names and paths are refused by what takes them, which knows what was meant.

    Raises:
        UsageError: an option's value is empty.
    """
    for before, arg in zip(["", *args], args, strict=False):
        option, equals, value = arg.partition("=")
        if equals and not value and option.startswith("--"):
            raise click.UsageError(f"{option} is empty: expected a value. Is a variable not set?")
        if not arg and before.startswith("-"):
            raise click.UsageError(f"{before} is empty: expected a value. Is a variable not set?")


def _write_anything() -> None:
    """Write characters that the output's encoding lacks (arrows, in cp1252) as their numbers."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_stdout() -> None:
    """Drop what is left in the buffer of a closed or full output, so that exiting does not fail."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: half-written files are removed on the way out.

    Raises:
        SystemExit: with 128 and the signal's number: 143, or 130.
    """

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one does not wait
        raise SystemExit(128 + number)

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # not ignored, by nohup's kin
    )
    if ours:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
