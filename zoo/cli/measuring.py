"""Measuring."""

import json
from pathlib import Path

import click

from zoo.cli.shared import as_json, new_table, print_table


@click.command()
@click.argument("name")
@click.option("--data", required=True, metavar="SET", help="mnist or fashion_mnist.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where named sets lie.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="The same model trained with another recipe, measured beside it.",
)
@as_json
def evaluate(name: str, data: str, data_dir: Path | None, against: Path | None, as_json: bool):
    """Measure a model on the test part of a data set.

    For a weights folder (local-dir:FOLDER) its metrics.json is written too.
    """
    from zoo import evaluation

    result = evaluation.evaluate(name, data=data, data_dir=data_dir, against=against)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    table = new_table("metric", "value", "samples", "seconds", "protocol")
    for m in result["metrics"]:
        table.add_row(
            m["name"], f"{m['value']:.5g}", f"{m['samples']:,}", str(m["seconds"]), m["protocol"]
        )
    print_table(table)
