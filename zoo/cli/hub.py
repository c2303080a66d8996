"""``zoo pull`` and ``zoo search``: weights on the Hugging Face Hub."""

from pathlib import Path
from typing import Any

import click

from zoo.cli.shared import (
    UserPath,
    as_json,
    new_table,
    print_json,
    print_table,
    printable,
    report,
    size,
)

LIBRARIES = ("diffusers", "open_clip", "timm")
"""The keys of zoo.hub.foreign.LIBRARIES, which are not imported for --help."""
FIGURES = 3
"""How many of a repository's figures a row of the search shows."""


@click.command()
@click.argument("name")
@click.option(
    "--to",
    type=UserPath(),
    metavar="FOLDER",
    help="Write the weights folder there too; it must not exist.",
)
@as_json
def pull(name: str, to: Path | None, as_json: bool) -> None:
    """Fetch the weights of NAME and check every file of them.

    hf-hub:org/name takes the newest commit, hf-hub:org/name@COMMIT that one, which needs no
    network once it is here. They stay in the cache of the Hub's client (HF_HOME).
    """
    from zoo.api import pulled

    folder, commit = pulled(name, to=to)
    text = printable(f"{name} is in {folder}")
    report(as_json, text, name=name, commit=commit, folder=str(folder))


@click.command()
@click.argument("words", nargs=-1)
@click.option("--author", metavar="NAME", help="Only what this user or organisation published.")
@click.option(
    "--library",
    type=click.Choice(LIBRARIES),
    help="Weights of this library instead, which a plugin loads.",
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many."
)
@as_json
def search(
    words: tuple[str, ...], author: str | None, library: str | None, limit: int, as_json: bool
) -> None:
    """Find weights on the Hub that a zoo can load; WORDS are looked for in their names.

    What is shown is what each repository says of itself.
    """
    from zoo import hub

    rows = hub.search(" ".join(words), author=author, library=library, limit=limit)
    for row in rows:
        row["model"], row["installed"] = _model(row["tags"]) if library is None else _owned(row)
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo("Nothing on the Hub matches.")
    else:
        table = new_table("name", "model", "data", "downloads", "changed", "figures")
        for row in rows:
            table.add_row(*map(printable, _cells(row)))
        print_table(table)


def _model(tags: list[str]) -> tuple[str | None, bool]:
    """The model that a repository's tags name, and whether a plugin here has it."""
    from zoo.registry import registry

    here = {spec.name for _, spec in registry().specs()}
    # A card of the zoo has: latentzoo, the family, the model. A family may be called like a model.
    if len(tags) > 2 and tags[0] == "latentzoo":
        return tags[2], tags[2] in here
    known = [tag for tag in tags if tag in here]
    return (known[0], True) if known else (None, False)


def _owned(row: dict[str, Any]) -> tuple[str, bool]:
    """The prefix of a name of another library, and whether a plugin here owns it."""
    from zoo.registry import registry

    prefix = str(row["name"]).partition(":")[0]
    return prefix, prefix in registry().prefix_names()


def _cells(row: dict[str, Any]) -> list[str]:
    figures = [f"{f['title']} {_number(f['value'])}" for f in row["figures"][:FIGURES]]
    if (more := len(row["figures"]) - FIGURES) > 0:
        figures.append(f"and {more} more: zoo info {row['name']}")
    marks = [word for word in ("private", "gated") if row[word]]
    return [
        row["name"] + (f" ({', '.join(marks)})" if marks else ""),
        (row["model"] or "?") + ("" if row["installed"] else " (not installed)"),
        ", ".join(row["datasets"]) or "-",
        "-" if row["downloads"] is None else f"{row['downloads']}",
        row["modified"] or "-",
        "\n".join(figures) or "-",
    ]


def _number(value: object) -> str:
    try:
        return f"{float(value):.5g}"  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return str(value)[:20]


def info(repo: str, revision: str | None, as_json: bool) -> None:
    """Show what a repository says of its weights, for ``zoo info``; no tensors are fetched."""
    from zoo import hub

    said = hub.describe(repo, revision)
    name, config = f"hf-hub:{repo}@{said['commit']}", said["config"]
    if as_json:
        print_json({"name": name, **said})
        return
    facts = new_table("", "", show_header=False)
    for label, value in (
        ("weights", name),
        ("model", f"{config['model']} of the plugin {config.get('plugin')}{_here(config)}"),
        ("what it is", _summary(said["card"])),
        ("config", ", ".join(f"{k}={v}" for k, v in dict(config["config"]).items()) or "-"),
        ("data", config.get("dataset", "-")),
        ("licence", config.get("licence", "-")),
        ("sha256", config["sha256"]),
        ("size", f"{config['size']:,} bytes in {len(said['tensors'])} tensors"),
    ):
        facts.add_row(label, printable(str(value)[:1000]))
    print_table(facts)
    if said["metrics"]:
        figures = new_table("figure", "value", "data", "samples")
        for m in said["metrics"]:
            value = f"{m['value']:.5g}"
            figures.add_row(*map(printable, (m["name"], value, m["dataset"], str(m["samples"]))))
        print_table(figures)
    tensors = new_table("tensor", "shape", "kind")
    for tensor, of in said["tensors"].items():
        tensors.add_row(printable(tensor[:200]), size(of["shape"]) or "-", printable(of["dtype"]))
    print_table(tensors)


def _here(config: dict[str, Any]) -> str:
    from zoo.registry import registry

    known = any(spec.name == config["model"] for _, spec in registry().specs())
    return "" if known else ", which is not installed (the repository says so, nobody checked it)"


def _summary(card: str) -> str:
    """The first paragraph of a card's text."""
    text = card.split("\n---", 1)[-1] if card.startswith("---") else card
    paragraphs = (" ".join(p.split()) for p in text.strip("-\n ").split("\n\n"))
    return next((p for p in paragraphs if p and not p.startswith("#")), "-")[:400]
