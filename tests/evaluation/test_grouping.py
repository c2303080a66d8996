"""Clusters are matched and compared as by hand, and both ways of grouping find clear groups."""

import math
import os
from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.data import Dataset, load_data
from zoo.errors import DataError
from zoo.evaluation import grouping
from zoo.evaluation.protocol import Context
from zoo.spec import Preprocessing

rng = np.random.default_rng(0)


def by_permutations(labels, clusters):
    """The best of all one-to-one namings of clusters; as many classes as clusters."""
    names = sorted(set(clusters))
    classes = sorted(set(labels))
    return max(
        np.mean([dict(zip(names, order, strict=True))[c] == y for y, c in zip(labels, clusters)])  # noqa: B905
        for order in permutations(classes)
    )


def nmi_by_hand(labels, clusters):
    n = len(labels)

    def entropy(values):
        return -sum(k / n * math.log(k / n) for k in Counter(values).values())

    both = entropy(list(zip(labels, clusters, strict=True)))
    mutual = entropy(labels) + entropy(clusters) - both
    return mutual / ((entropy(labels) + entropy(clusters)) / 2)


def ari_by_hand(labels, clusters):
    """Over all pairs of images: Hubert & Arabie 1985, from the four counts of pairs."""
    n, together = len(labels), np.zeros((2, 2))
    for i in range(n):
        for j in range(i):
            together[int(labels[i] == labels[j]), int(clusters[i] == clusters[j])] += 1
    (d, c), (b, a) = together  # a: together in both, d: apart in both
    return 2 * (a * d - b * c) / ((a + b) * (b + d) + (a + c) * (c + d))


@pytest.mark.parametrize("seed", range(5))
def test_agreement_by_hand(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 60)
    clusters = np.where(rng.random(60) < 0.6, (labels + 1) % 4, rng.integers(0, 4, 60))
    got = grouping.agreement(labels, clusters)
    assert got["acc"] == pytest.approx(by_permutations(labels, clusters))
    assert got["nmi"] == pytest.approx(nmi_by_hand(labels.tolist(), clusters.tolist()))
    assert got["ari"] == pytest.approx(ari_by_hand(labels, clusters))


def test_matching_is_one_to_one_where_the_largest_class_would_not_be():
    labels = np.array([0, 0, 0, 0, 1, 1])
    clusters = np.array([0, 0, 1, 1, 1, 0])  # class 0 is the largest of both clusters
    assert grouping.matched_accuracy(labels, clusters) == pytest.approx(3 / 6)


def test_matching_is_the_best_and_not_the_nearest_at_hand():
    """[[5, 4], [4, 0]]: taking the largest number first leaves 5 + 0, the best is 4 + 4."""
    labels = np.repeat([0, 0, 1], [5, 4, 4])
    clusters = np.repeat([0, 1, 0], [5, 4, 4])
    assert grouping.matched_accuracy(labels, clusters) == pytest.approx(8 / 13)


def test_more_clusters_than_classes_and_other_numbers():
    labels = np.array([7, 7, 7, 3, 3])
    clusters = np.array([20, 20, 5, 9, 9])
    assert grouping.matched_accuracy(labels, clusters) == pytest.approx(4 / 5)


def blobs(n=240, groups=3, width=6):
    centres = 8 * rng.standard_normal((groups, width))
    labels = np.arange(n) % groups
    return (centres[labels] + rng.standard_normal((n, width))).astype(np.float32), labels


def test_neighbours_by_brute_force():
    points, _ = blobs(50)
    indices, distances = grouping.neighbours(points, 4)
    full = np.sqrt(((points[:, None] - points[None]) ** 2).sum(2))
    assert np.array_equal(indices, full.argsort(1)[:, :4])
    assert np.array_equal(indices[:, 0], np.arange(50)), "each is its own nearest"
    assert np.allclose(distances, np.sort(full, 1)[:, :4], atol=1e-3)


def test_narrowed_by_singular_values():
    points = rng.standard_normal((40, 60)).astype(np.float32)
    centred = points - points.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    expected = np.abs((u * s)[:, :5])
    assert np.allclose(np.abs(grouping.narrowed(points, 5)), expected, atol=1e-3)
    assert grouping.narrowed(points, 59).shape[1] == 40, "no more components than images"
    assert grouping.narrowed(points[:, :30], 29).shape == (40, 29)
    assert grouping.narrowed(points, 60) is points


@pytest.mark.slow
def test_kmeans_and_n2d_find_clear_groups():
    points, labels = blobs()
    found = grouping.kmeans_clusters(points, 3, 0)
    assert grouping.matched_accuracy(labels, found) == 1
    graph = grouping.neighbours(points, 20)
    first, again = (grouping.n2d_clusters(points, 3, 0, graph) for _ in range(2))
    assert grouping.matched_accuracy(labels, first) > 0.95
    assert np.array_equal(first, again), "the same seed groups in the same way"


class Halves:
    """Features that tell the classes apart, of a model that has nothing else."""

    device = torch.device("cpu")

    def features(self, images):
        return 5 * images.flatten(1)[:, :3]


def context(labels=True):
    images = torch.zeros(90, 1, 4, 4, dtype=torch.uint8)
    kinds = torch.arange(90) % 3
    images[torch.arange(90), 0, 0, kinds] = 200
    images += torch.randint(0, 9, images.shape, generator=torch.Generator().manual_seed(0)).byte()
    parts = [
        Dataset("toy", split, images[rows], kinds[rows] if labels else None, "", "")
        for split, rows in (("train", slice(0, 60)), ("test", slice(60, 90)))
    ]
    made = Context(model=Halves(), name="halves", train=parts[0], test=parts[1])
    made.untrained = Halves()
    return made


def test_measure_kmeans():
    figures = {f.name: f for f in grouping.measure_kmeans(context())}
    assert list(figures) == ["kmeans_acc", "kmeans_nmi", "kmeans_ari"]
    for figure in figures.values():
        assert (figure.value, figure.spread, figure.samples) == (1, 0, 90)
        assert figure.baselines == {"pixels": 1, "pca": 1, "untrained": 1}
        assert "mean of 5 seeds" in figure.protocol


@pytest.mark.slow
def test_measure_n2d(monkeypatch):
    monkeypatch.setattr(grouping, "SEEDS", 2)
    figures = {f.name: f for f in grouping.measure_n2d(context())}
    assert list(figures) == ["n2d_acc", "n2d_nmi", "n2d_ari"]
    assert figures["n2d_acc"].value > 0.95
    assert figures["n2d_acc"].baselines.keys() == {"pixels"}


def test_data_without_labels():
    with pytest.raises(DataError, match="has no labels"):
        list(grouping.measure_kmeans(context(labels=False)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "acc", "nmi"),
    # What k-means on pixels is known to reach, with room for the seeds.
    [("mnist", (0.53, 0.55), (0.48, 0.505)), ("fashion_mnist", (0.46, 0.56), (0.50, 0.52))],
)
def test_kmeans_on_real_pixels(name, acc, nmi):
    grey = Preprocessing(channels=1, height=28, width=28)
    folder = Path(os.environ.get("ZOO_DATA_DIR", "."))
    try:
        parts = [load_data(name, split, grey, data_dir=folder) for split in ("train", "test")]
    except DataError as error:
        pytest.skip(str(error))
    pixels = torch.cat([p.images for p in parts]).flatten(1).float().div(255).numpy()
    labels = torch.cat([p.labels for p in parts]).numpy()
    pixels = grouping.narrowed(pixels)
    runs = [
        grouping.agreement(labels, grouping.kmeans_clusters(pixels, 10, seed)) for seed in range(3)
    ]
    assert acc[0] <= np.mean([run["acc"] for run in runs]) <= acc[1]
    assert nmi[0] <= np.mean([run["nmi"] for run in runs]) <= nmi[1]
