"""The command line. It knows all of the zoo and nothing of the zoo knows it.

A command's module is imported when that command is called, and what the command needs is imported
inside it: ``zoo list`` must not wait for torch.
"""

import importlib
import os
import sys
from typing import Any

import click

import zoo
from zoo.cli.shared import printable, tell_of_the_hub
from zoo.errors import ZooError

COMMANDS = {
    "list": "listing:list_command",
    "info": "listing:info",
    "plugins": "listing:plugins",
    "encode": "pictures:encode",
    "reconstruct": "pictures:reconstruct",
    "generate": "pictures:generate",
    "interpolate": "pictures:interpolate",
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
    """Commands by name; the zoo's own errors are shown as one message, with exit code 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any("hf-hub:" in arg for arg in args):
            tell_of_the_hub()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ZooError as error:
            click.echo(f"Error: {printable(str(error))}", err=True)
            sys.exit(2)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, function = COMMANDS[name].partition(":")
        return getattr(importlib.import_module(f"zoo.cli.{module}"), function)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(zoo.__version__, prog_name="zoo")
def main() -> None:
    """A zoo of models that learn from images without labels.

    \b
    NAME is a model with weights (deep_ae.mnist), a model (deep_ae: its default weights),
    a weights folder (local-dir:FOLDER), or a repository on the Hub (hf-hub:org/name@REVISION).
    """
    # Threads that spin for long while they wait fall to a tenth when another process takes a core;
    # threads that never spin are slower than a single one. Some microseconds serve both.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
