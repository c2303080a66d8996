"""The leaderboard: for each data set a table of all models with their recorded figures.

Torch is not needed.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.api import info, list_models
from zoo.errors import InputError
from zoo.files import write_atomically
from zoo.registry import registry
from zoo.report.figures import (
    BASELINES,
    BOUNDS,
    DATASETS,
    HIGHER,
    LOWER,
    NEITHER,
    baselines,
    finite,
    meaning,
    number,
)
from zoo.report.markdown import code, line, table, text
from zoo.spec import Metric, Weights

COLUMNS = (
    "sse", "ssim", "probe", "knn1", "few10", "kmeans_acc", "n2d_acc", "oneclass_auroc", "frechet",
)  # fmt: skip
"""The main figures, which are shown by default."""

SAME = 2e-3
"""By how much, as a share, a baseline may differ between machines: the probe of pixels does."""

MARKERS = re.compile(r"(<!-- figures: [^\n]*-->\n)(.*?)(\n<!-- end -->)", re.DOTALL)
"""Around the table in a Markdown file."""


@dataclass(frozen=True)
class Row:
    """A set of weights, or a baseline of the data, and the figures of it that were measured."""

    name: str
    figures: Mapping[str, float]
    parameters: int | None
    """None for a baseline."""
    labels: bool = False
    """Whether they were trained with labels."""
    seconds: float | None = None
    """How long training took."""


@dataclass(frozen=True)
class Board:
    """All that was measured on one data set. Weights come first, by name; baselines are last."""

    dataset: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def best(self, column: str) -> float | None:
        """The best value of a column, baselines included, if its direction is known.

        Weights that were trained with labels do not take part.
        """
        better = meaning(column).better
        values = [
            row.figures[column]
            for row in self.rows
            if column in row.figures
            and not (row.labels or row.name in BOUNDS)
            and finite(row.figures[column])
        ]
        if better == NEITHER or not values:
            return None
        return max(values) if better == HIGHER else min(values)

    def to_dict(self) -> dict[str, Any]:
        """This board as plain JSON types."""
        return asdict(self)


def leaderboard(dataset: str | None = None, metrics: Sequence[str] = ()) -> list[Board]:
    """The figures of all weights of the installed plugins, a board for each data set.

    Weights whose record cannot be read are left out: the registry names them (``broken_weights``).

    Args:
        dataset: only what was measured on this one.
        metrics: the columns, instead of those of :data:`COLUMNS` that were measured.

    Raises:
        InputError: nothing was measured on ``dataset``, or nothing has a figure of ``metrics``.
    """
    measured = measured_weights()
    everything = [m for weights in measured.values() for m in weights.metrics]
    datasets = sorted({m.dataset for m in everything})
    if dataset is not None:
        require_known(dataset, datasets, "nothing was measured on")
        datasets = [dataset]
    there = sorted({m.name for m in everything if m.dataset in datasets})
    for name in metrics:
        require_known(name, there, "no weights have a figure")
    boards = []
    for each in datasets:
        of_data = {
            name: {m.name: m for m in weights.metrics if m.dataset == each}
            for name, weights in measured.items()
        }
        have = {metric for figures in of_data.values() for metric in figures}
        columns = tuple(column for column in (metrics or COLUMNS) if column in have)
        rows = [
            Row(
                name,
                {c: figures[c].value for c in columns if c in figures},
                measured[name].parameters,
                measured[name].labels,
                measured[name].seconds,
            )
            for name, figures in of_data.items()
            if not figures.keys().isdisjoint(columns)
        ]
        if rows:
            boards.append(Board(each, columns, (*rows, *_baselines(of_data.values(), columns))))
    return boards


def measured_weights() -> dict[str, Weights]:
    """All weights of the installed plugins by name, but for those whose record cannot be read."""
    broken = {name for _, name, _ in registry().broken_weights()}
    names = [name for name in list_models(pretrained=True) if name not in broken]
    return {name: info(name).weights[0] for name in names}


def require_known(asked: str, there: list[str], problem: str) -> None:
    """Raises: InputError: ``asked`` is none of those that are there."""
    if asked not in there:
        raise InputError(f"{problem} {asked!r}; there is: {', '.join(there) or 'nothing at all'}")


def _baselines(of_data: Iterable[Mapping[str, Metric]], columns: tuple[str, ...]) -> list[Row]:
    """A row for each baseline, with the figures on which all weights agree.

    What differs between weights (a network untrained, as many principal components as a code has
    numbers) is not a baseline of the data; it stands on the cards.
    """
    agreed: dict[str, dict[str, float]] = {}
    for column in columns:
        beside = [baselines(f[column], f.values()) for f in of_data if column in f]
        for baseline in BASELINES:
            values = [found[baseline] for found in beside if baseline in found]
            if len(values) == len(beside) and all(
                finite(v) and math.isclose(v, values[0], rel_tol=SAME) for v in values
            ):
                agreed.setdefault(baseline, {})[column] = values[0]
    return [Row(baseline, agreed[baseline], None) for baseline in BASELINES if baseline in agreed]


def cells(board: Board, row: Row, mark: str = "{}") -> list[str]:
    """The figures of a row as texts, the best of each column put into ``mark``."""
    shown = []
    for column in board.columns:
        if column not in row.figures:
            shown.append("-")
            continue
        value = row.figures[column]
        cell = number(value, f".{meaning(column).digits}f")
        best = value == board.best(column) and not row.labels
        shown.append(mark.format(cell) if best else cell)
    return [
        *shown,
        "-" if row.parameters is None else f"{row.parameters:,}",
        "-" if row.seconds is None else f"{row.seconds / 60:.0f}",
    ]


def header(board: Board) -> list[str]:
    """The columns' titles, with an arrow towards what is better."""
    arrows = {LOWER: " ↓", HIGHER: " ↑", NEITHER: ""}
    return [
        *(line(meaning(c).column) + arrows[meaning(c).better] for c in board.columns),
        "parameters",
        "minutes",
    ]


def title(board: Board) -> str:
    """What people call its data set."""
    return DATASETS[board.dataset][0] if board.dataset in DATASETS else line(board.dataset)


def label(row: Row) -> str:
    """The text behind the name of a row."""
    return " (labels)" if row.labels else ""


LABELS = "(labels): trained with the labels of the data, and so out of competition."


def markdown(boards: Sequence[Board]) -> str:
    """The boards as Markdown, a heading and a table each; the best of a column is bold."""
    parts = []
    for board in boards:
        rows = [
            (
                BASELINES[row.name] if row.parameters is None else code(row.name) + label(row),
                *cells(board, row, "**{}**"),
            )
            for row in board.rows
        ]
        columns = [text(column) for column in header(board)]
        body = table(("weights", *columns), rows, numbers=len(columns))
        parts.append(f"### {text(title(board))}\n\n{body}")
        if any(row.labels for row in board.rows):
            parts.append(LABELS)
    if hours := sum(row.seconds or 0 for board in boards for row in board.rows) / 3600:
        parts.append(f"Learning took all of these together {hours:.1f} hours by the clock.")
    return "\n\n".join(parts)


def write_into(path: Path, tables: str) -> None:
    """Put ``tables`` between the markers in a Markdown file.

    Raises:
        InputError: the file has no markers, or cannot be read.
    """
    try:
        before = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    after, found = MARKERS.subn(lambda match: match[1] + tables + match[3], before)
    if not found:
        raise InputError(
            f"{path} has no place for the table: write the lines\n"
            "<!-- figures: where they come from -->\n\n<!-- end -->"
        )
    write_atomically(path, after.encode())
