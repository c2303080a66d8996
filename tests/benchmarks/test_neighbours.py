"""benchmarks/neighbours.py: what it counts as found."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from zoo.collection import neighbours
from zoo.collection.neighbours import Graph

pytest.importorskip("faiss")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "neighbours.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_of_neighbours", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(700, 12)).astype(np.float32)


def test_all_are_found_where_all_cells_are_searched(benchmark, features, monkeypatch):
    monkeypatch.setattr(neighbours, "CELLS_SEARCHED", 1000)
    found = benchmark.measured(features)
    assert (found["pictures"], found["found"], found["nearest"]) == (700, 1, 1)


def test_what_is_not_found_is_counted(benchmark, features, monkeypatch):
    monkeypatch.setattr(neighbours, "CELLS_SEARCHED", 8)
    found = benchmark.measured(features)
    assert found["found"] < found["nearest"] < 1

    def without_the_nearest(vectors, **more):
        graph = neighbours.connect(vectors, k=31)
        return Graph(*(of[:, 1:] for of in graph))

    monkeypatch.setattr(benchmark, "connect", without_the_nearest)
    found = benchmark.measured(features)
    assert found["nearest"] == 0
    assert found["found"] == pytest.approx(29 / 30)
