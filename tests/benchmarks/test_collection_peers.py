"""benchmarks/collection_peers.py: how it judges sets, what it says of mistakes, one small run."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "collection_peers.py"


@pytest.fixture(scope="module")
def peers():
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("collection_peers", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module


ORIGIN = {"/o/a": "/o/a", "/o/b": "/o/b", "/c/a1": "/o/a", "/c/a2": "/o/a"}
KINDS = {"/c/a1": "mirrored", "/c/a2": "cropped"}


def test_recall_and_precision(peers):
    found = peers.judged([["/o/a", "/c/a1"]], ORIGIN, KINDS)
    assert found["recall"] == {"all": 0.5, "mirrored": 1, "cropped": 0, "of o": 0.5}
    assert found["precision"] == 1
    found = peers.judged([["/o/a", "/c/a1", "/o/b"]], ORIGIN, KINDS)
    assert found["precision"] == round(1 / 3, 4)
    assert peers.judged([["/c/a1", "/c/a2"]], ORIGIN, KINDS)["recall"]["all"] == 0
    assert peers.judged([], ORIGIN, KINDS)["precision"] == 0


def test_who_is_ahead(peers):
    def row(side, recall, precision):
        return {"side": side, "recall": {"all": recall}, "precision": precision}

    rows = [row("zoo", 0.9, 1), row("x", 0.95, 0.5), row("y", 0.9, 0.99)]
    assert peers.behind("duplicates", rows) == ["x"]
    rows = [{"side": "zoo", "pictures a second": 2}, {"side": "x", "pictures a second": 3}]
    assert peers.behind("speed", rows) == ["x"]


@pytest.mark.parametrize("typed", [["nothing"], ["groups"]])
def test_mistakes(peers, typed, capsys):
    with pytest.raises(SystemExit) as left:
        peers.main(typed)
    assert left.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_ours_on_a_small_folder(peers, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_DATA_DIR", "")
    few = [path for path in peers.photographs() if path.stem in ("chelsea", "china", "rocket")]
    monkeypatch.setattr(peers, "photographs", lambda: few)
    origin, kinds = peers.make_folder(tmp_path / "pictures", 10, 2)
    sets, _ = peers.ours(tmp_path / "pictures", "pca.fashion_mnist", tmp_path / "collection")
    found = peers.judged(sets, origin, kinds)
    assert (found["recall"]["all"], found["precision"]) == (1, 1)
