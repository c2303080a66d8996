"""benchmarks/collection.py: what it counts, and a run on a few pictures of clothes."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.collection.models import best_embedded
from zoo.sample import sample

pytest.importorskip("faiss")
pytest.importorskip("sknetwork")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "collection.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_of_collections", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_named_rightly_is_what_the_largest_groups_have_most_of(benchmark):
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    groups = np.array([5, 5, 5, 5, 5, 1, 1, 1, 0, -1])  # right are 3, 2, 1; one is in none
    shares = [benchmark.named_rightly(labels, groups, clicks) for clicks in (0, 1, 2, 3, 9)]
    assert shares == [0, 0.3, 0.5, 0.6, 0.6]


def test_strangers_are_three_of_other_top_categories_in_each(benchmark):
    labels = np.repeat(np.arange(4), 20)
    tops = np.array(["a", "a", "b", "c"])[labels]
    mixed, strange = benchmark.with_strangers(labels, tops, 0)
    assert strange.sum() == 12
    assert (mixed[~strange] == labels[~strange]).all()
    assert (tops[strange] != np.array(["a", "a", "b", "c"])[mixed[strange]]).all()
    assert np.bincount(mixed[strange]).tolist() == [3, 3, 3, 3]


def test_a_ranking_is_judged_by_all_and_by_its_first_three(benchmark):
    strange = np.array([True, True, True, False, False, False])
    assert benchmark.ranked(strange, np.arange(6)[::-1]) == (1, 1)
    auroc, first = benchmark.ranked(strange, np.array([9, 1, 5, 4, 0, 3]))
    assert auroc == pytest.approx(7 / 9)
    assert first == pytest.approx(2 / 3)


@pytest.mark.slow
def test_a_run_on_clothes(benchmark, tmp_path, monkeypatch, capsys):
    images, labels = sample()
    for i, label in enumerate(labels):
        folder = tmp_path / "pictures" / f"{label}-clothes"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(folder / f"{i}.png")
    typed = ["collection.py", tmp_path / "pictures", "pca.fashion_mnist", "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", [*map(str, typed), "--json"])
    benchmark.main()
    found = json.loads(capsys.readouterr().out)
    ours = found["pca.fashion_mnist"]
    assert 0.5 < ours["1-NN"] < 1
    assert 0.3 < ours["AMI"] < ours["NMI"] < 1
    assert ours["named"] <= ours["named + 1/4"]
    assert ours["odd"] > 0.8
    assert {
        "pca.fashion_mnist, HDBSCAN, 5 at least",
        "pca.fashion_mnist, k-means by silhouette",
        "pixels, 32 x 32",
        "PCA of pixels",
    } <= set(found)


def test_a_line_of_the_table_is_as_the_page_has_it(benchmark):
    page = (SCRIPT.parents[1] / "docs" / "collections.md").read_text("utf-8")
    head = "| features or method | " + " | ".join(benchmark.COLUMNS) + " |"
    assert head in page
    row = {"1-NN": 0.7791, "groups": 34.2, "left out": 0.0, "odd": 1.0}
    assert benchmark.shown("timm:x.in1k", row) == (
        "| `timm:x.in1k` | .779 | 34 | .000 |  |  |  |  | 1.000 |  |  |"
    )
    assert benchmark.shown("timm:x.in1k, EVoC", {}).startswith("| the same, EVoC |")
    for name in ("pixels, 32 x 32", "PCA of pixels"):
        assert benchmark.shown(name, {}).startswith(f"| {name} |")


def test_all_models_that_ship_are_measured_the_best_of_colour_first(benchmark):
    names = benchmark.shipped()
    assert names[0] == best_embedded()
    assert {"pca.mnist", "dcgan.cifar10", "patch_kmeans.cifar10"} <= set(names)
    channels = [zoo.load(name).preprocessing.channels for name in names[:3] + names[-3:]]
    assert channels == [3, 3, 3, 1, 1, 1]
