"""Escapes texts for Markdown.

A name, a protocol or a licence is from a config.json or metrics.json that is not trusted. None of
it can begin a heading, a table cell, a link or an HTML tag.
"""

import re
from collections.abc import Iterable, Sequence

LONGEST = 500
"""Characters of one text that are shown."""


def line(value: object) -> str:
    """``value`` as one line of printable characters, neither too long nor anything but text."""
    shown = str(value)[: 2 * LONGEST]
    shown = " ".join("".join(c if c.isprintable() else " " for c in shown).split())
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "..."


def text(value: object) -> str:
    """``value`` as one line of plain text, with all Markdown in it escaped."""
    shown = re.sub(r"&(?=#?\w+;)", "&amp;", line(value))
    shown = shown.replace("<", "&lt;").replace(">", "&gt;")
    shown = re.sub(r"[\\`*|~$]", r"\\\g<0>", shown)
    shown = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", shown)  # within a word it is only itself
    shown = re.sub(r"\](?=[(\[:])", r"\\]", shown)  # else a link
    shown = re.sub(r"^(?=[#+\-=\[])", r"\\", shown)  # a heading, a list, a rule, a link's address
    return re.sub(r"^(\d+)(?=[.)](\s|$))", r"\1\\", shown)  # a numbered list


def code(value: object) -> str:
    """``value`` in the type of code; as :func:`text` when a code span cannot hold it."""
    shown = line(value)
    return f"`{shown}`" if shown and not set(shown) & set("`|\\") else text(shown) or "-"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A table of finished cells; the last ``numbers`` columns are set to the right."""
    rule = ["---"] * (len(header) - numbers) + ["--:"] * numbers
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))
