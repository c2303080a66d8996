"""benchmarks/scale.py: its made-up pictures, and all its steps on 2,000 of them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from zoo.collection.page import live

pytest.importorskip("faiss")
pytest.importorskip("sknetwork")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scale.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_of_scale", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_there_twice_is_the_same_and_what_is_saved_again_nearly(benchmark):
    rows, kinds = benchmark.shard(benchmark.Mixture(200), 0, 200)
    features, small, hashes = rows.features, rows.small.astype(int), rows.columns["hash"]
    assert hashes[107] == hashes[57]
    assert (features[107] == features[57]).all()
    assert (small[107] == small[57]).all()
    assert len(set(hashes)) == 199
    assert 0 < np.abs(features[113] - features[63]).max() < 0.02
    assert 0 < np.abs(small[113][:, ::-1] - small[63]).mean() < 4
    assert np.abs(small[112] - small[62]).mean() > 40
    assert kinds[113] == kinds[63]


def test_a_step_that_fails_is_a_row_that_says_so(benchmark, tmp_path):
    row = benchmark.measured(tmp_path, 10, "odd", lambda *given: {"failed": 1})
    assert benchmark.line(row) == "| 10 | odd |  |  |  | failed 1 |"
    row = {"pictures": 1000, "step": "odd", "seconds": 1.5, "processor": 2, "megabytes": 3000}
    assert benchmark.line({**row, "found": 0.8}) == "| 1,000 | odd | 1.5 | 2 | 3,000 | found 0.8 |"
    benchmark.plot([row, {**row, "pictures": 10, "failed": 1}], tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_all_steps_on_two_thousand(benchmark, tmp_path, monkeypatch):
    monkeypatch.setattr(live.Page, "_places", lambda page: np.zeros((2000, 2), np.float32))
    here = lambda step, folder, count: benchmark.STEPS[step](folder, count)  # noqa: E731
    found = {step: benchmark.measured(tmp_path, 2000, step, here) for step in benchmark.STEPS}
    assert all(row["seconds"] > 0 and row["megabytes"] > 50 for row in found.values())
    assert found["graph"]["recall"] > 0.98
    assert found["group"]["AMI"] > 0.95
    copies = found["duplicates"]
    assert copies["recall"] == copies["precision"] == copies["same_file"] == 1
    assert found["odd"]["found"] >= 0.5
    assert found["name"]["right"] > 0.95
    assert found["find"]["recall"] == 1
    assert found["page"]["files"] == 9
    assert found["update"]["grouped"] == found["update1000"]["grouped"] == 1
