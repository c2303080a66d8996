"""benchmarks/peers.py: what it calls better, and what it says of mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "peers.py"

COMPARE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import peers
cases = json.loads(sys.argv[2])
print(json.dumps([peers.compared(what, float(a), float(b)) for what, a, b in cases]))
"""

VERDICTS = {
    ("sse", "2.0", "3.0"): "better",  # of an error, less
    ("sse", "3.0", "2.0"): "worse",
    ("sse", "2.01", "2.0"): "equal",  # half a per cent
    ("frechet", "0.5", "1.0"): "better",
    ("probe", "0.95", "0.90"): "better",  # of an accuracy, more
    ("probe", "0.90", "0.95"): "worse",
    ("probe", "nan", "0.90"): "worse",
}


@pytest.mark.slow
def test_what_is_better():
    command = [sys.executable, "-c", COMPARE, SCRIPT.parent, json.dumps(list(VERDICTS))]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == list(VERDICTS.values())


@pytest.mark.slow
def test_a_mistake_is_named():
    command = [sys.executable, SCRIPT, "--images", "100"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "--images should be from 2000, got 100" in done.stderr
