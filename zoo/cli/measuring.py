"""Measuring."""

import warnings
from pathlib import Path
from typing import Any

import click

from zoo.cli.shared import as_json, new_table, print_json, print_table, printable, refuse_loss, seed
from zoo.errors import InputError
from zoo.evaluation import PROTOCOLS

EXPECTED_WARNINGS = (
    "lbfgs failed to converge",  # weights of nearly collinear pixels; the accuracy has settled
    r"precomputed_knn\[2\]",  # nothing new is to be put into an embedding
)
"""The starts of what libraries say of a measurement that is as it should be."""


@click.command()
@click.argument("name")
@click.option(
    "--data",
    metavar="SET|FOLDER",
    help="A named set or a folder; by default what the weights were trained on.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where named sets lie.")
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    metavar="NAME",
    help="What to measure, may be repeated: "
    f"{', '.join(PROTOCOLS)}, or all. By default what takes minutes at most.",
)
@click.option("--verify", is_flag=True, help="Measure again what is recorded, and compare.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="The same model trained with another recipe, measured beside it.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="JSON into this file.")
@seed
@as_json
def evaluate(
    name: str,
    data: str | None,
    data_dir: Path | None,
    protocols: tuple[str, ...],
    verify: bool,
    against: Path | None,
    out: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure a model on the test part of a data set.

    For a weights folder (local-dir:FOLDER) its metrics.json is written too.
    """
    from zoo import evaluation

    if out is not None:
        refuse_loss(out, ".json")
    for text in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", text)

    def progress(line: str) -> None:
        click.echo(printable(line), err=True)

    if verify:
        if against is not None:
            raise InputError("--verify measures what is recorded again: leave --against out")
        result: Any = evaluation.verify(
            name, data=data, data_dir=data_dir, protocols=protocols or None, progress=progress
        )
        table = new_table("metric", "recorded", "measured", "tolerance", "data")
        for row in result:
            figures = (f"{row[key]:.5g}" for key in ("recorded", "measured", "tolerance"))
            table.add_row(row["name"], *figures, row["dataset"])
    else:
        result = evaluation.evaluate(
            name,
            data=data,
            data_dir=data_dir,
            protocols=protocols or None,
            seed=seed,
            against=against,
            progress=progress,
        )
        table = _figures(result["metrics"])
        for out_of in result["left_out"]:
            click.echo(printable(f"left out {out_of['protocol']}: {out_of['reason']}"), err=True)
    if out is not None:
        from zoo.files import write_json

        write_json(out, result)
    if as_json:
        print_json(result)
    else:
        print_table(table)


def _figures(metrics: list[dict[str, Any]]) -> Any:
    table = new_table("metric", "value", "floors", "samples", "seconds", "protocol")
    for m in metrics:
        spread = "" if m["spread"] is None else f" ± {m['spread']:.2g}"
        floors = ", ".join(f"{floor} {value:.4g}" for floor, value in m["floors"].items())
        table.add_row(
            *(m["name"], f"{m['value']:.5g}{spread}", floors),
            *(f"{m['samples']:,}", str(m["seconds"]), m["protocol"]),
        )
    return table
