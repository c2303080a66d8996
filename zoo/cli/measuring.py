"""``zoo evaluate``."""

import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import click

from zoo.cli.shared import (
    UserPath,
    as_json,
    minutes,
    new_table,
    preparation,
    print_json,
    print_table,
    printable,
    refuse_loss,
    seed,
)
from zoo.errors import InputError
from zoo.evaluation import PROTOCOLS

EXPECTED_WARNINGS = (
    "lbfgs failed to converge",  # weights of nearly collinear pixels; the accuracy has converged
    r"precomputed_knn\[2\]",  # nothing new is to be put into an embedding
)
"""How warnings of libraries begin that are of no concern to a measurement."""


@click.command()
@click.argument("name")
@click.option(
    "--data",
    metavar="SET|FOLDER",
    help="A named set or a folder; by default what the weights were trained on.",
)
@click.option("--data-dir", type=UserPath(), help="Where named data sets are stored.")
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    metavar="NAME",
    help="What to measure, may be repeated: "
    f"{', '.join(PROTOCOLS)}, or all. By default what takes minutes at most.",
)
@click.option(
    "--samples",
    type=click.IntRange(10),
    metavar="N",
    help="Images that a generator makes to be measured. By default up to 50,000.",
)
@click.option(
    "--space",
    metavar="pixels|pca|NAME",
    help="Where the protocol distances compares images; NAME: a model's features. [pca]",
)
@click.option("--verify", is_flag=True, help="Measure again what is recorded, and compare.")
@click.option(
    "--against",
    type=UserPath(),
    help="The same model trained with another recipe, measured beside it.",
)
@click.option("--out", type=UserPath(dir_okay=False), help="Write the figures there, as JSON.")
@preparation
@seed
@as_json
def evaluate(
    name: str,
    data: str | None,
    data_dir: Path | None,
    protocols: tuple[str, ...],
    samples: int | None,
    space: str | None,
    verify: bool,
    against: Path | None,
    out: Path | None,
    fit: str | None,
    background: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure a model on the test part of a data set.

    For a weights folder (local-dir:FOLDER) its metrics.json is written too.
    """
    from zoo import evaluation

    if out is not None:
        refuse_loss(out, ".json")
        _require_writable(out)
    for text in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", text)

    if verify:
        others = {"against": against, "samples": samples, "fit": fit, "background": background}
        for option, value in others.items():
            if value is not None:
                raise InputError(f"--verify measures what is recorded again: leave --{option} out")
        with Meter() as meter:
            result: Any = evaluation.verify(
                name,
                data=data,
                data_dir=data_dir,
                protocols=protocols or None,
                space=space,
                progress=meter.say,
                advance=meter.advance,
            )
        table = new_table("metric", "recorded", "measured", "tolerance", "data")
        for row in result:
            figures = (f"{row[key]:.5g}" for key in ("recorded", "measured", "tolerance"))
            table.add_row(row["name"], *figures, row["dataset"])
    else:
        with Meter() as meter:
            result = evaluation.evaluate(
                name,
                data=data,
                data_dir=data_dir,
                protocols=protocols or None,
                seed=seed,
                against=against,
                samples=samples,
                space=space,
                fit=fit,
                background=background,
                progress=meter.say,
                advance=meter.advance,
            )
        table = _figures(result["metrics"])
    if out is not None:
        from zoo.files import write_json

        write_json(out, result)
    if as_json:
        print_json(result)
    else:
        print_table(table)


def _require_writable(out: Path) -> None:
    """Raises: InputError: ``out`` cannot be written, which would otherwise show only at the end."""
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: {out.parent} is no folder. Nothing was measured")
    where = out if out.exists() else out.parent
    if not os.access(where, os.W_OK):
        raise InputError(f"--out {out}: {where} may not be written. Nothing was measured")


class Meter:
    """How far a measurement is, on stderr: bars on a terminal, elsewhere a line now and then."""

    PATIENCE, EVERY = 2.0, 30.0
    """Seconds until the first line of what is going on, and between two of them, where there is no
    terminal."""

    def __init__(self) -> None:
        self.bars: Any = None
        self.tasks: dict[str, Any] = {}
        self.began: dict[str, float] = {}
        self.said: dict[str, float] = {}

    def __enter__(self) -> "Meter":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self.bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=Console(stderr=True, highlight=False),
                transient=True,
            )
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bars is not None:
            self.bars.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.bars is not None:
            self.bars.console.print(printable(line), markup=False)
        else:
            click.echo(printable(line), err=True)

    def advance(self, what: str, done: float, total: float) -> None:
        """Show how far it is; called by :func:`zoo.evaluation.evaluate`."""
        now = time.monotonic()
        if not done or what not in self.began:
            self.began[what] = self.said[what] = now
        took = now - self.began[what]
        left = f"{minutes(took / done * (total - done))} left" if done else ""
        if self.bars is not None:
            self._draw(what, done, total, left)
        elif done < total and left:
            first = self.said[what] == self.began[what]
            if now - self.said[what] >= (self.PATIENCE if first else self.EVERY):
                self.said[what] = now
                self.say(f"  {what}: {done:,.4g} of {total:,}, {left}")

    def _draw(self, what: str, done: float, total: float, left: str) -> None:
        if done >= total:
            if what in self.tasks:
                self.bars.remove_task(self.tasks.pop(what))
            return
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(printable(what), total=total, left="")
        self.bars.update(self.tasks[what], completed=done, total=total, left=left)


def _figures(metrics: list[dict[str, Any]]) -> Any:
    table = new_table("metric", "value", "baselines", "samples", "seconds", "protocol")
    for m in metrics:
        spread = "" if m["spread"] is None else f" ± {m['spread']:.2g}"
        baselines = ", ".join(
            f"{baseline} {value:.4g}" for baseline, value in m["baselines"].items()
        )
        table.add_row(
            *(m["name"], f"{m['value']:.5g}{spread}", baselines),
            *(f"{m['samples']:,}", str(m["seconds"]), m["protocol"]),
        )
    return table
