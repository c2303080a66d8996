"""The meaning of each figure in metrics.json, for everything that shows figures.

A figure stands beside its baselines: the same measure of something that has learnt nothing of
images. A name that is not in the table is shown under its own name, and claims no direction.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from zoo.spec import Metric

LOWER, HIGHER, NEITHER = -1, 1, 0


class MetricInfo(NamedTuple):
    """How a figure is shown, and which direction is better."""

    title: str
    kind: str
    better: int
    """:data:`LOWER`, :data:`HIGHER`, or :data:`NEITHER` for what is shown for comparison."""
    column: str
    """The title, short enough for a column of a table."""
    digits: int = 3
    """Digits after the point in a table; more would be noise on 10,000 images."""


KINDS = (
    "reconstruction", "repair", "recognition", "grouping", "one-class", "generation",
    "likelihood", "robustness", "other",
)  # fmt: skip
"""Kinds of figures, in the order in which they are shown."""

_TABLE = {
    "sse": MetricInfo("squared error per image", "reconstruction", LOWER, "error", 2),
    "mse": MetricInfo("squared error per pixel", "reconstruction", LOWER, "MSE", 5),
    "psnr": MetricInfo("peak signal-to-noise ratio in dB", "reconstruction", HIGHER, "PSNR", 2),
    "ssim": MetricInfo("structural similarity", "reconstruction", HIGHER, "SSIM"),
    "sse_of_mean_image": MetricInfo(
        "squared error per image of the mean training image", "reconstruction", NEITHER,
        "error of the mean image", 2,
    ),
    "sse_ablated": MetricInfo(
        "squared error per image of another recipe", "reconstruction", NEITHER,
        "error of another recipe", 2,
    ),
    "probe": MetricInfo("linear probe, accuracy", "recognition", HIGHER, "probe"),
    "knn1": MetricInfo("nearest neighbour, accuracy", "recognition", HIGHER, "1-NN"),
    "knn20": MetricInfo("20 nearest neighbours, accuracy", "recognition", HIGHER, "20-NN"),
    "few10": MetricInfo("ten labels a class, accuracy", "recognition", HIGHER, "10 labels"),
    "kmeans_acc": MetricInfo("k-means, accuracy", "grouping", HIGHER, "k-means"),
    "kmeans_nmi": MetricInfo("k-means, mutual information", "grouping", HIGHER, "k-means NMI"),
    "kmeans_ari": MetricInfo("k-means, adjusted Rand index", "grouping", HIGHER, "k-means ARI"),
    "n2d_acc": MetricInfo("UMAP and Gaussian mixture, accuracy", "grouping", HIGHER, "N2D"),
    "n2d_nmi": MetricInfo(
        "UMAP and Gaussian mixture, mutual information", "grouping", HIGHER, "N2D NMI"
    ),
    "n2d_ari": MetricInfo(
        "UMAP and Gaussian mixture, adjusted Rand index", "grouping", HIGHER, "N2D ARI"
    ),
    "oneclass_auroc": MetricInfo("one class against the rest, AUROC", "one-class", HIGHER, "AUROC"),
    "frechet": MetricInfo("Fréchet distance", "generation", LOWER, "Fréchet", 2),
    "kernel": MetricInfo("kernel distance", "generation", LOWER, "kernel", 4),
    "precision": MetricInfo("precision", "generation", HIGHER, "precision"),
    "recall": MetricInfo("recall", "generation", HIGHER, "recall"),
    "density": MetricInfo("density", "generation", HIGHER, "density"),
    "coverage": MetricInfo("coverage", "generation", HIGHER, "coverage"),
    "generated_1nn": MetricInfo(
        "nearest neighbour among generated images, accuracy", "generation", HIGHER, "generated 1-NN"
    ),
    "classes_covered": MetricInfo(
        "classes among the generated images", "generation", HIGHER, "classes", 0
    ),
    "class_entropy": MetricInfo(
        "entropy of the generated images' classes", "generation", HIGHER, "entropy"
    ),
    "inception_frechet": MetricInfo(
        "Fréchet distance in Inception's features", "generation", LOWER, "FID", 2
    ),
    "inception_kernel": MetricInfo(
        "kernel distance in Inception's features", "generation", LOWER, "KID", 4
    ),
    "inception_score": MetricInfo("Inception score", "generation", HIGHER, "IS", 2),
    "nll": MetricInfo("negative log-likelihood, nats", "likelihood", LOWER, "NLL", 2),
    "robust_noise": MetricInfo("probe under noise, accuracy", "robustness", HIGHER, "noise"),
    "robust_mask": MetricInfo("probe with missing pixels, accuracy", "robustness", HIGHER, "mask"),
    "robust_longtail": MetricInfo(
        "probe of a long-tailed training set, accuracy", "robustness", HIGHER, "long tail"
    ),
}  # fmt: skip

BASELINES = {
    "pixels": "raw pixels",
    "pca": "PCA",
    "untrained": "untrained network",
    "mean_image": "mean training image",
    "corrupted": "corrupted images",
    "ablated": "another recipe",
    "train_set": "training images",
}
"""Titles of the baselines, in the order in which they are shown."""

BOUNDS = frozenset({"train_set"})
"""Values beside a figure that show the best to be expected: no generator should be nearer to the
test images than the training images are."""

_BASELINES_APART = {"mean_image": ("sse", "sse_of_mean_image"), "ablated": ("sse", "sse_ablated")}
"""Baselines that are measured as figures of their own."""

DATASETS = {
    "mnist": ("MNIST", "ylecun/mnist", "handwritten digits, light on black"),
    "fashion_mnist": (
        "Fashion-MNIST", "zalando-datasets/fashion_mnist", "clothes, light on black",
    ),
    "cifar10": ("CIFAR-10", "uoft-cs/cifar10", "colour photographs of ten kinds of things"),
    "usps": ("USPS", None, "handwritten digits from envelopes, light on black"),
    "olivetti_faces": ("Olivetti faces", None, "grey photographs of the faces of 40 people"),
    "general": (
        "General pictures", None,
        "colour photographs of ten kinds of things, and to learn from drawings and patterns beside",
    ),
}  # fmt: skip
"""Data sets by the zoo's name: what people call them, their name on the Hub, what they show."""


def meaning(name: str) -> MetricInfo:
    """What the figure ``name`` is; any name has a meaning."""
    if name in _TABLE:
        return _TABLE[name]
    rest, _, last = name.rpartition("_")
    if rest.removeprefix("repair_") not in (rest, "") and last in _TABLE:
        damage = rest.removeprefix("repair_").replace("_", " ")
        measure = _TABLE[last]
        title, column = f"{measure.title} after {damage}", f"{damage}, {measure.column}"
        return measure._replace(title=title, kind="repair", column=column)
    if rest == "oneclass_auroc":
        title = f"class {last} against the rest, AUROC"
        return MetricInfo(title, "one-class", HIGHER, f"AUROC {last}")
    return MetricInfo(name, "other", NEITHER, name)


def ordered(metrics: Iterable[Metric]) -> list[Metric]:
    """``metrics`` by kind, within a kind as the evaluator wrote them."""
    return sorted(metrics, key=lambda m: KINDS.index(meaning(m.name).kind))


def baselines(metric: Metric, metrics: Iterable[Metric]) -> dict[str, float]:
    """The baselines of ``metric``, which is one of ``metrics``, by name."""
    found = dict(metric.baselines)
    for baseline, (figure, apart) in _BASELINES_APART.items():
        if metric.name == figure:
            for other in metrics:
                if other.name == apart:
                    found.setdefault(baseline, other.value)
    order = {baseline: i for i, baseline in enumerate(BASELINES)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def beats(metric: Metric, baseline: float) -> bool:
    """Whether ``metric`` is better than ``baseline`` by more than its own spread.

    Always true of a figure without a direction, which competes with nothing.
    """
    better = meaning(metric.name).better
    if better == NEITHER:
        return True
    compared = (metric.value, baseline, metric.spread or 0)
    return all(map(finite, compared)) and better * (metric.value - baseline) > compared[2]


def finite(value: float) -> bool:
    """Whether ``value`` is a number for a table, and not NaN, infinite or a huge whole number."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def number(value: float, form: str = ".5g") -> str:
    """``value`` as Python's format ``form`` has it."""
    return format(value, form) if finite(value) else "not finite"
