"""benchmarks/ablations.py as it is called, on a few pictures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
SCRIPT = TREE / "benchmarks" / "ablations.py"

# With one pass over the images: the pairs as they are take many minutes.
SHORT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import ablations
for ablation in ablations.ABLATIONS.values():
    for side in (ablation.without, ablation.with_):
        side.settings["epochs"] = 1
# Strong enough to be seen after one pass.
ablations.ABLATIONS["hidden"].with_.settings["hidden_weight"] = 0.1
ablations.main()
"""


def test_an_ablation_that_is_not_there():
    done = subprocess.run([sys.executable, SCRIPT, "hiden"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no ablation hiden; there are hidden, rbm, average, mixture, iwae" in done.stderr


@pytest.mark.slow
def test_both_sides_are_measured(tmp_path, clothes):
    command = [sys.executable, "-c", SHORT, SCRIPT.parent, "hidden", "--data", clothes, "--json"]
    command += ["--runs", tmp_path / "runs"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["metric"] for row in rows] == ["sse", "probe"]
    for row in rows:
        assert row["off"] != row["on"], "they are two trainings"
        better = row["on"] > row["off"] if row["metric"] == "probe" else row["on"] < row["off"]
        assert row["helps"] == better
    again = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600)
    assert json.loads(again.stdout) == rows, "measured once, it is only read"
