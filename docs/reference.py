"""Writes reference.md out of the code: commands and options, calls, hooks, checks, variables.

python docs/reference.py
"""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from zoo import hookspecs
from zoo.cli import COMMANDS, main
from zoo.model import ZooModel
from zoo.spec import CAPABILITIES
from zoo.testing import CHECKS

PAGE = Path(__file__).with_name("reference.md")

VARIABLES = {
    "ZOO_DATA_DIR": "Where named data sets are stored, if `--data-dir` does not say.",
    "ZOO_PLUGINS": "Only these plugin distributions are loaded (names, separated by commas).",
    "ZOO_PLUGINS_BLOCK": "All plugin distributions but these are loaded.",
    "ZOO_PLUGINS_STRICT": "`1`: the first plugin that fails to load raises at once.",
    "ZOO_WEIGHTS": "`hub`: weights come from the Hub, also those that lie in a plugin's wheel.",
}
"""Of the environment. Those of the Hub's client (`HF_TOKEN`, `HF_HOME`, `HF_ENDPOINT`,
`HF_HUB_OFFLINE`) mean what they mean there."""

HEAD = """\
# Reference

<!-- written by `python docs/reference.py` out of the code; a test compares them -->
"""


def page() -> str:
    """The whole page, Markdown."""
    parts = [HEAD, "## Commands", *map(command, COMMANDS)]
    parts += ["## What a model answers", table("call", "gives", calls())]
    hooks = [(name, first(hook)) for name, hook in vars(hookspecs).items() if is_hook(name)]
    parts += ["## Hooks of a plugin", table("hook", "gives", hooks)]
    checks = [(check.__name__, first(check)) for check in CHECKS]
    parts += ["## Checks of the contract", table("check", "expects", checks)]
    parts += ["## Environment", table("variable", "", sorted(VARIABLES.items()))]
    hub = "`HF_TOKEN`, `HF_HOME`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` mean what they mean to the "
    parts += [f"{hub}Hub's own client."]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def command(name: str) -> str:
    """A section: usage, what it does, its options."""
    module, _, function = COMMANDS[name].partition(":")
    found = getattr(importlib.import_module(f"zoo.cli.{module}"), function)
    context = click.Context(found, info_name=f"zoo {name}", parent=None)
    usage = found.get_usage(context).removeprefix("Usage: ")
    paragraphs = inspect.cleandoc(found.help or "").split("\n\n")
    text = "\n\n".join(
        f"```text\n{lines}\n```" if mark else lines
        for mark, lines in ((p.startswith("\b\n"), p.removeprefix("\b\n")) for p in paragraphs)
    )
    records = [p.get_help_record(context) for p in found.params]
    rows = [record for record in records if record and record[1]]  # arguments are in the usage
    options = table("option", "", rows) if rows else ""
    return f"### zoo {name}\n\n```text\n{' '.join(usage.split())}\n```\n\n{text}\n\n{options}"


def calls() -> Iterator[tuple[str, str]]:
    """Each capability, and what every model has besides."""
    for name in (*CAPABILITIES, "preprocess"):
        call = getattr(ZooModel, name)
        yield f"{name}{str(inspect.signature(call)).replace('self, ', '')}", first(call)


def is_hook(name: str) -> bool:
    """Whether this name in zoo.hookspecs is a hook."""
    return hasattr(getattr(hookspecs, name), "zoo_spec")


def first(thing: object) -> str:
    """The first paragraph of a docstring, on one line, in Markdown."""
    text = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return text.replace("``", "`")


def table(one: str, two: str, rows: object) -> str:
    """Two columns, the first as code."""
    cells = ((code.replace("|", "\\|"), " ".join(text.split()).replace("|", "\\|"))
             for code, text in rows)  # fmt: skip
    lines = [f"| `{code}` | {text} |" for code, text in cells]
    return "\n".join([f"| {one} | {two} |", "|---|---|", *lines])


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    click.echo(f"{PAGE} has the {len(main.list_commands(None))} commands")
