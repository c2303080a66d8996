"""``zoo name FOLDER --words``: names for groups, out of words that a person gives."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.shared import new_table, print_json, print_table, printable
from zoo.files import path_text

if TYPE_CHECKING:
    from zoo.collection.opened import Opened
    from zoo.collection.wording import Proposal


def propose(
    folder: Path, words: str, templates: tuple[str, ...], layer: str, write: bool, as_json: bool
) -> None:
    """Show a word for each group, with how sure it is; write the sure ones down if asked."""
    from zoo.collection import wording
    from zoo.collection.opened import Opened

    given = wording.split_words(words)
    collection = Opened(folder)
    found = wording.proposals(collection, given, templates or wording.TEMPLATES, layer)
    written = wording.write(collection, found, layer) if write else []
    groups = {each.group for each in written}
    if as_json:
        rows = [_row(collection, each, each.group in groups) for each in found]
        print_json({"words": given, "layer": layer, "written": len(written), "groups": rows})
        return
    table = new_table("group", "pictures", "word", "votes", "or", "name", "such as")
    for each in found:
        shown = "\n".join(collection.pictures.paths[i] for i in each.pictures)
        other = f"{each.second} {each.second_share:.0%}" if each.second else ""
        table.add_row(
            str(each.group), f"{each.size:,}", each.word, f"{each.share:.0%}", other,
            each.word if each.group in groups else each.name, printable(shown),
        )  # fmt: skip
    print_table(table)
    click.echo(path_text(_end(folder, found, written, layer, write, wording.SURE)))


def _end(
    folder: Path,
    found: "list[Proposal]",
    written: "list[Proposal]",
    layer: str,
    write: bool,
    sure: float,
) -> str:
    if write:
        named = sum(bool(each.name) for each in found)
        return (
            f"{len(written):,} of {len(found):,} groups were named: those without a name whose "
            f"word has {sure:.0%} of the votes or more. {named:,} had a name before"
        )
    first = found[0]
    at = "" if layer == "middle" else f"--layer {layer} "
    return (
        f"Nothing was named. For one: zoo name {folder} {at}--group {first.group} "
        f'"{first.word}"; for all that are sure add --write'
    )


def _row(collection: "Opened", each: "Proposal", written: bool) -> dict[str, Any]:
    return {
        "group": each.group,
        "pictures": each.size,
        "word": each.word,
        "share": round(each.share, 4),
        "second": each.second or None,
        "second_share": round(each.second_share, 4),
        "name": each.name or None,
        "written": written,
        "such_as": [collection.pictures.paths[i] for i in each.pictures],
    }
