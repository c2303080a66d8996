"""What the zoo means to reach, and what it did reach.

    python benchmarks/goals.py                          a row for each goal
    python benchmarks/goals.py --data mnist --json      of one data set, as JSON
    python benchmarks/goals.py --into docs/results.md   the leaderboard and the goals as Markdown

A goal is judged by the figures of the weights' records alone. What others published stands beside
it, with where that was read; it is not always of the very same protocol.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.report import leaderboard
from zoo.report.figures import (
    BASELINES,
    BOUNDS,
    DATASETS,
    HIGHER,
    baselines,
    finite,
    meaning,
    number,
)
from zoo.report.markdown import line, table, text
from zoo.spec import Metric, Weights


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A figure to reach on the test part of a data set, by weights that learnt from that set."""

    what: str
    metrics: tuple[str, ...]
    """The figures that count, all of one kind: the best of them is taken."""
    dataset: str
    value: float
    """To be reached or passed, in the direction that is better for the metrics."""
    over: str = "*"
    """The weights that it is judged over, shell-style."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What their network has to be."""
    labels: bool = False
    """Whether they have learnt with labels. Without, weights that did are no answer to it."""
    published: Mapping[str, float] = field(default_factory=dict)
    """What others reached; each is a key of :data:`SOURCES`."""

    @property
    def better(self) -> int:
        """:data:`zoo.report.figures.LOWER` or :data:`zoo.report.figures.HIGHER`."""
        return meaning(self.metrics[0]).better

    def takes(self, name: str, weights: Weights) -> bool:
        """Whether these weights are among those that it is judged over."""
        return (
            fnmatchcase(name, self.over)
            and (weights.dataset, weights.labels) == (self.dataset, self.labels)
            and all(weights.config.get(key) == value for key, value in self.config.items())
        )


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A goal, and the best weights that there are for it."""

    goal: Goal
    name: str | None = None
    """None if nothing was measured that could meet it."""
    metric: Metric | None = None
    baselines: Mapping[str, float] = field(default_factory=dict)

    @property
    def missed_by(self) -> float | None:
        """How far the best is from the goal: 0 if it is met, None if nothing was measured."""
        if self.metric is None:
            return None
        return max(0.0, self.goal.better * (self.goal.value - self.metric.value))

    @property
    def baseline(self) -> tuple[str, float] | None:
        """The best of the baselines, which is what has to be beaten.

        Training images are not among them unless they are all that there is, and another recipe
        of the same model never is.
        """
        known = {
            baseline: value
            for baseline, value in self.baselines.items()
            if baseline in BASELINES and baseline != "ablated" and finite(value)
        }
        beside = {
            baseline: value for baseline, value in known.items() if baseline not in BOUNDS
        } or known
        return max(beside.items(), key=lambda each: self.goal.better * each[1], default=None)

    def to_dict(self) -> dict[str, Any]:
        """This standing as plain JSON types."""
        found = self.metric and {
            "name": self.name,
            "metric": self.metric.name,
            "value": self.metric.value,
            "spread": self.metric.spread,
            "protocol": self.metric.protocol,
            "baselines": dict(self.baselines),
        }
        return {
            **asdict(self.goal),
            "direction": "higher" if self.goal.better == HIGHER else "lower",
            "sources": {who: SOURCES[who] for who in self.goal.published},
            "best": found,
            "met": None if self.missed_by is None else self.missed_by == 0,
            "missed_by": self.missed_by,
        }


def judge(measured: Mapping[str, Weights]) -> list[Standing]:
    """How ``measured``, weights by name, stand to each of :data:`GOALS`."""
    return [_standing(goal, measured) for goal in GOALS]


def _standing(goal: Goal, measured: Mapping[str, Weights]) -> Standing:
    found = [
        (name, metric)
        for name, weights in measured.items()
        if goal.takes(name, weights)
        for metric in weights.metrics
        if metric.name in goal.metrics and metric.dataset == goal.dataset and finite(metric.value)
    ]
    if not found:
        return Standing(goal=goal)
    name, metric = max(found, key=lambda each: goal.better * each[1].value)
    beside = baselines(metric, measured[name].metrics)
    return Standing(goal=goal, name=name, metric=metric, baselines=beside)


_HINTON = {"PCA-30": 13.87, "Hinton 2006": 3.00}

GOALS = (
    Goal(
        what="squared error, 784-1000-500-250-30", metrics=("sse",), dataset="mnist", value=1.75,
        over="deep_ae.*", config={"hidden": [1000, 500, 250], "latent_dim": 30}, published=_HINTON,
    ),
    Goal(
        what="squared error, code of 30 numbers", metrics=("sse",), dataset="mnist", value=1.4,
        over="conv_ae.*", config={"latent_dim": 30}, published=_HINTON,
    ),
    Goal(
        what="NLL in nats, 784-200-200-50", metrics=("nll",), dataset="mnist", value=86.8,
        over="vae.mnist", config={"hidden": 200, "latent_dim": 50}, published={"VAE": 86.76},
    ),
    Goal(
        what="NLL in nats, IWAE with k = 5", metrics=("nll",), dataset="mnist", value=86.0,
        over="vae.*iwae*", config={"hidden": 200, "latent_dim": 50}, published={"IWAE": 85.54},
    ),
    Goal(
        what="grouping, accuracy", metrics=("n2d_acc", "kmeans_acc"), dataset="mnist", value=0.985,
        published={"k-means": 0.53, "DEC": 0.91, "N2D": 0.979, "DEC-DA": 0.985},
    ),
    Goal(
        what="grouping, mutual information", metrics=("n2d_nmi", "kmeans_nmi"), dataset="mnist",
        value=0.96, published={"k-means": 0.50, "DEC": 0.87, "N2D": 0.942, "DEC-DA": 0.960},
    ),
    Goal(
        what="grouping, accuracy", metrics=("n2d_acc", "kmeans_acc"), dataset="fashion_mnist",
        value=0.69, published={"k-means": 0.47, "DEC": 0.62, "DEC-DA": 0.586, "N2D": 0.672},
    ),
    Goal(
        what="grouping, mutual information", metrics=("n2d_nmi", "kmeans_nmi"),
        dataset="fashion_mnist", value=0.70,
        published={"k-means": 0.51, "DEC": 0.65, "DEC-DA": 0.636, "N2D": 0.684},
    ),
    Goal(what="linear probe", metrics=("probe",), dataset="mnist", value=0.985),
    Goal(what="linear probe", metrics=("probe",), dataset="fashion_mnist", value=0.92),
    Goal(
        what="linear probe", metrics=("probe",), dataset="cifar10", value=0.80,
        published={"one layer of k-means": 0.806, "DCGAN of ImageNet": 0.828},
    ),
    Goal(
        what="20 nearest neighbours", metrics=("knn20",), dataset="mnist", value=0.98,
        published={"ACN": 0.97},
    ),
    Goal(
        what="20 nearest neighbours", metrics=("knn20",), dataset="fashion_mnist", value=0.89,
        published={"ACN": 0.89},
    ),
    Goal(what="ten labels a class", metrics=("few10",), dataset="mnist", value=0.95),
    Goal(what="ten labels a class", metrics=("few10",), dataset="fashion_mnist", value=0.78),
    Goal(
        what="one class against nine, AUROC", metrics=("oneclass_auroc",), dataset="mnist",
        value=0.98, published={"Deep SVDD": 0.948},
    ),
    Goal(
        what="one class against nine, AUROC", metrics=("oneclass_auroc",),
        dataset="fashion_mnist", value=0.94,
    ),
    Goal(
        what="1-NN of generated digits", metrics=("generated_1nn",),
        dataset="mnist", value=0.971, over="dcgan.*", labels=True,
    ),
    Goal(
        what="1-NN on the discriminator's features", metrics=("knn1",), dataset="mnist",
        value=0.975, over="dcgan.*", published={"BiGAN": 0.9735},
    ),
)  # fmt: skip
"""Set from what others published and from the baselines."""

SOURCES = {
    "PCA-30": "Hinton & Salakhutdinov 2006, figure 2B",
    "Hinton 2006": "Hinton & Salakhutdinov 2006, figure 2B",
    "VAE": "Burda et al. 2015, table 1, quoted by github.com/nbip/IWAE, 3,280 epochs",
    "IWAE": "Burda et al. 2015, table 1, quoted by github.com/nbip/IWAE, 3,280 epochs",
    "k-means": "on pixels, table of github.com/XifengGuo/DEC-keras",
    "DEC": "Xie et al. 2016, run again by github.com/XifengGuo/DEC-keras",
    "DEC-DA": "Guo et al. 2018, github.com/XifengGuo/DEC-DA, with augmentation",
    "N2D": "McConville et al. 2020, quoted in github.com/rymc/n2d, issues 8 and 10",
    "one layer of k-means": "in Radford et al. 2015, as S. Sodhani's summary quotes it",
    "DCGAN of ImageNet": "Radford et al. 2015, as that summary quotes it, learnt from ImageNet-1k",
    "ACN": "nearest neighbours of the codes, github.com/johannah/acn",
    "Deep SVDD": "Ruff et al. 2018, mean of the ten classes as a rerun quotes them",
    "BiGAN": "encoder's features, log of github.com/jeffdonahue/bigan at epoch 400",
}
"""Where each published figure was read: mostly in code that quotes the paper."""


def standings(dataset: str | None = None, metrics: Sequence[str] = ()) -> list[Standing]:
    """Each goal, and how the weights of the installed plugins stand to it.

    Args:
        dataset: only the goals on this one.
        metrics: only the goals that are judged by one of these figures.

    Raises:
        InputError: no goal is on ``dataset``, or judged by a figure of ``metrics``.
    """
    if dataset is not None:
        leaderboard.require_known(
            dataset, sorted({goal.dataset for goal in GOALS}), "no goal is on"
        )
    there = sorted({name for goal in GOALS for name in goal.metrics})
    for name in metrics:
        leaderboard.require_known(name, there, "no goal is judged by")
    return [
        standing
        for standing in judge(leaderboard.measured_weights())
        if dataset in (None, standing.goal.dataset)
        and (not metrics or not set(metrics).isdisjoint(standing.goal.metrics))
    ]


GOAL_HEADER = ("goal", "to reach", "reached", "", "best baseline", "published")


def goal_cells(standing: Standing) -> list[str]:
    """A row for a goal, as texts, under :data:`GOAL_HEADER`."""
    goal, metric, baseline = standing.goal, standing.metric, standing.baseline
    judged = "" if goal.over == "*" else f"{goal.over}{' (labels)' if goal.labels else ''}, "
    sign = "≥" if goal.better == HIGHER else "≤"
    published = [f"{who} {number(value, _FORM)}" for who, value in goal.published.items()]
    return [
        f"{DATASETS[goal.dataset][0]}: {judged}{goal.what}",
        f"{sign} {number(goal.value, _FORM)}",
        f"{number(metric.value, _FORM)} {line(standing.name)}" if metric else "-",
        _verdict(standing.missed_by),
        f"{BASELINES[baseline[0]]} {number(baseline[1], _FORM)}" if baseline else "-",
        ", ".join(published) or "-",
    ]


_FORM = ".4g"


def _verdict(missed_by: float | None) -> str:
    if missed_by is None:
        return "not measured yet"
    return f"missed by {number(missed_by, '.2g')}" if missed_by else "met"


def goals_markdown(standings: Sequence[Standing]) -> str:
    """The goals as Markdown: a heading, a table, and where the published figures were read."""
    plain = {"met": "**met**", "-": "-"}
    rows = [[plain.get(cell) or text(cell) for cell in goal_cells(each)] for each in standings]
    parts = ["### Goals", table(GOAL_HEADER, rows)]
    read: dict[str, list[str]] = {}
    for who in dict.fromkeys(who for each in standings for who in each.goal.published):
        read.setdefault(SOURCES[who], []).append(who)
    if read:
        sources = "; ".join(f"{' and '.join(who)}: {source}" for source, who in read.items())
        parts.append(f"Published, not always by the same protocol, and read in: {sources}.")
    return "\n\n".join(parts)


def whole_markdown() -> str:
    """The leaderboard and the goals, as docs/results.md has them."""
    return "\n\n".join(
        [leaderboard.markdown(leaderboard.leaderboard()), goals_markdown(standings())]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """What ``python benchmarks/goals.py`` does."""
    parser = argparse.ArgumentParser(description="How the weights stand to the goals of the zoo.")
    parser.add_argument("--data", metavar="SET", help="only the goals on this data set")
    parser.add_argument(
        "--metric", action="append", default=[], help="only goals judged by this figure"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON")
    how.add_argument(
        "--into", type=Path, help="write leaderboard and goals between the markers in this file"
    )
    asked = parser.parse_args(arguments)
    if asked.into and (asked.data or asked.metric):
        parser.error("--into writes all figures and goals: leave --data and --metric out")
    try:
        if asked.into:
            leaderboard.write_into(asked.into, whole_markdown())
            return
        found = standings(asked.data, asked.metric)
    except ZooError as error:
        parser.error(str(error))
    if asked.json:
        json.dump([standing.to_dict() for standing in found], sys.stdout, indent=2)
        print()
    else:
        print(goals_markdown(found))


if __name__ == "__main__":
    main()
