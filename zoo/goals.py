"""What the zoo means to reach, and what it did reach.

A goal is judged by the figures of the weights' records alone. What others published stands beside
it, with where that was read; it is not always of the very same protocol.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from zoo.report.figures import BASELINES, BOUNDS, HIGHER, baselines, finite, meaning
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
