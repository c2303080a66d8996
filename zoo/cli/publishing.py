"""``zoo card``, ``zoo leaderboard`` and ``zoo publish``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.shared import (
    UserPath,
    as_json,
    new_table,
    print_json,
    print_table,
    printable,
    usable_weights,
    warn_of_faults,
)
from zoo.errors import InputError
from zoo.files import path_text

if TYPE_CHECKING:
    from zoo.publishing import Published


@click.command()
@click.argument("name", required=False)
@click.option(
    "--out",
    type=UserPath(),
    metavar="FILE|FOLDER",
    help="A .md file, or a folder for NAME.md; the pictures are put beside it.",
)
def card(name: str | None, out: Path | None) -> None:
    """Write the model card of NAME from its records and measured figures.

    Without --out its text is printed, without pictures. Without NAME the cards of all models
    with weights are written into the folder --out.
    """
    from zoo.report.card import is_card, render_card, write_card
    from zoo.sources import weights_folder

    if name is not None and out is None:
        click.echo(render_card(weights_folder(name), name), nl=False)
        return
    if out is None or (name is None and out.suffix == ".md"):
        raise InputError("name a model, or with --out a folder for the cards of all models")
    written = set()
    for each in [name] if name is not None else usable_weights():
        file = Path(each.removeprefix("local-dir:")).resolve().name
        path = out if out.suffix == ".md" else out / f"{file}.md"
        written.add(write_card(weights_folder(each), path, each))
        click.echo(path_text(f"the card of {each} is in {path}"))
    if name is None:
        old = [path.name for path in sorted(set(out.glob("*.md")) - written) if is_card(path)]
        if old:
            click.echo(
                path_text(f"{len(old)} other cards in {out} stay as they are: {', '.join(old)}"),
                err=True,
            )
        warn_of_faults()


@click.command()
@click.option("--data", metavar="SET", help="Only what was measured on this data set.")
@click.option("--metric", "metrics", multiple=True, help="A column (may be repeated).")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown.")
@click.option(
    "--into",
    type=UserPath(exists=True, dir_okay=False),
    help="Write the Markdown between the markers in this file.",
)
@as_json
def leaderboard(
    data: str | None,
    metrics: tuple[str, ...],
    as_markdown: bool,
    into: Path | None,
    as_json: bool,
) -> None:
    """Compare all models with weights, by the figures that they were measured to have.

    Figures of raw pixels and the like (baselines) are rows of their own; the best of each column
    has a star.
    """
    from zoo.report import leaderboard as lb
    from zoo.report.figures import BASELINES

    boards = lb.leaderboard(data, metrics)
    if into is not None:
        lb.write_into(into, lb.markdown(boards))
        click.echo(path_text(f"the figures of {len(boards)} data sets are in {into}"))
    elif as_json:
        print_json([board.to_dict() for board in boards])
    elif as_markdown:
        click.echo(lb.markdown(boards))
    elif not boards:
        click.echo("Nothing was measured yet. Type: zoo evaluate NAME --data SET")
    for board in boards if not (into or as_json or as_markdown) else ():
        table = new_table(lb.title(board), *lb.header(board))
        for column in table.columns[1:]:
            column.justify = "right"
        for row in board.rows:
            name = BASELINES[row.name] if row.parameters is None else row.name + lb.label(row)
            table.add_row(name, *lb.cells(board, row, "*{}"))
        print_table(table)
    warn_of_faults()
    usable_weights()


@click.command()
@click.argument("source", metavar="NAME|FOLDER", required=False)
@click.option("--to", metavar="ORG/NAME", help="The repository; made if it is not there.")
@click.option("--private", is_flag=True, help="Make the repository for its owners alone.")
@click.option("--revision", metavar="BRANCH", help="The branch; main by default, made if need be.")
@click.option("--tag", metavar="TAG", help="Name the commit so too, for ever.")
@click.option("--bundled", is_flag=True, help="All weights of the plugins' source trees, instead.")
@click.option("--namespace", metavar="ORG", help="With --bundled: they go to ORG/<model>.<tag>.")
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would be done.")
@as_json
def publish(
    source: str | None,
    to: str | None,
    private: bool,
    revision: str | None,
    tag: str | None,
    bundled: bool,
    namespace: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish the weights of NAME or FOLDER to the Hugging Face Hub, in one commit.

    The folder is validated first: tensors, config, vectors, card. Tensors behind a name and what
    is behind a tag never change; the same bytes again make no commit. Log in with: hf auth login
    (or HF_TOKEN).

    With --bundled all shipped weights are published, and where they are is written beside them.
    """
    from zoo import publishing

    def report(line: str) -> None:
        click.echo(printable(line), err=True)

    if bundled:
        if source or to or revision or tag or not namespace:
            raise InputError(
                "--bundled takes --namespace ORG, --private and --dry-run, and no NAME"
            )
        results = publishing.publish_bundled(
            namespace, private=private, dry_run=dry_run, report=report
        )
    else:
        if not source or not to or namespace:
            raise InputError(
                "name weights or a folder, and where to: zoo publish NAME --to ORG/NAME"
            )
        results = [
            publishing.publish(
                source,
                to,
                private=private,
                revision=revision,
                tag=tag,
                dry_run=dry_run,
                report=report,
            )
        ]
    if as_json:
        records = [result.to_dict() for result in results]
        print_json(records if bundled else records[0])
        return
    for result in results:
        click.echo(_published_text(result))
        if dry_run:
            table = new_table("file", "bytes", "change")
            for file in result.files:
                table.add_row(file.path, f"{file.size:,}", file.change)
            print_table(table)


def _published_text(result: "Published") -> str:
    """What was done, or what would be, in a few lines."""
    will = "would be" if result.dry_run else "is"
    lines = [result.name if result.commit else f"hf-hub:{result.repo}"]
    if result.dry_run and result.created:
        kind = "private" if result.private else "public"
        lines.append(f"the {kind} repository {result.repo} would be made")
    lines.append(
        f"{will} published on {result.branch} by {result.user}: {result.url}"
        if result.committed
        else f"nothing to do: {result.branch} has these very bytes"
    )
    if result.tag:
        lines.append(f"its tag {will} {result.tag}")
    if not result.dry_run:
        lines.append(f'load it with: zoo.load("{result.name}")')
    return printable("\n".join(lines))
