"""What is shown to others: cards, and tables of the figures."""

import json
from pathlib import Path

import click

import zoo
from zoo.cli.shared import as_json, new_table, print_table
from zoo.errors import InputError


@click.command()
@click.argument("name", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="A .md file, or a folder for NAME.md; the pictures are put beside it.",
)
def card(name: str | None, out: Path | None) -> None:
    """Write the model card of NAME from its records and measured figures.

    Without --out its text is printed, without pictures. Without NAME the cards of all models
    with weights are written into the folder --out.
    """
    from zoo.api import weights_folder
    from zoo.card import render_card, write_card

    if name is None and (out is None or out.suffix == ".md"):
        raise InputError("name a model, or with --out a folder for the cards of all models")
    if out is None:
        click.echo(render_card(weights_folder(name), name), nl=False)
        return
    for each in [name] if name is not None else zoo.list_models(pretrained=True):
        file = Path(each.removeprefix("local-dir:")).resolve().name
        path = out if out.suffix == ".md" else out / f"{file}.md"
        write_card(weights_folder(each), path, each)
        click.echo(f"the card of {each} is in {path}")


@click.command()
@click.option("--data", metavar="SET", help="Only what was measured on this data set.")
@click.option("--metric", "metrics", multiple=True, help="A column (may be repeated).")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown.")
@click.option(
    "--into",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Write the Markdown between the markers in this file.",
)
@as_json
def leaderboard(
    data: str | None, metrics: tuple[str, ...], as_markdown: bool, into: Path | None, as_json: bool
) -> None:
    """Compare all models with weights, by the figures that they were measured to have.

    Figures of raw pixels and the like (floors) are rows of their own; the best of each column
    has a star.
    """
    from zoo import leaderboard as lb

    boards = lb.leaderboard(data, metrics)
    if into is not None:
        lb.write_into(into, boards)
        click.echo(f"the figures of {len(boards)} data sets are in {into}")
    elif as_json:
        click.echo(json.dumps([board.to_dict() for board in boards], indent=2))
    elif as_markdown:
        click.echo(lb.markdown(boards))
    elif not boards:
        click.echo("Nothing was measured yet. Type: zoo evaluate NAME --data SET")
    for board in boards if not (into or as_json or as_markdown) else ():
        table = new_table(lb.title(board), *lb.header(board))
        for column in table.columns[1:]:
            column.justify = "right"
        for row in board.rows:
            name = lb.FLOORS[row.name] if row.parameters is None else row.name
            table.add_row(name, *lb.cells(board, row, "*{}"))
        print_table(table)
