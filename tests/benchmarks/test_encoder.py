"""benchmarks/encoder.py as it is called, on a few pictures."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "encoder.py"


@pytest.mark.slow
def test_a_row_for_each_source(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    arrays = {f"{part}_images": rng.integers(0, 256, (40, 32, 32, 3), np.uint8) for part in
              ("train", "test")}  # fmt: skip
    labels = {f"{part}_labels": np.arange(40) % 10 for part in ("train", "test")}
    np.savez(tmp_path / "cifar10.npz", **arrays, **labels)
    monkeypatch.setenv("ZOO_DATA_DIR", str(tmp_path))
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    for kind in ("one-a", "two-b"):
        folder = tmp_path / "pictures" / kind
        folder.mkdir(parents=True)
        for i in range(16):
            noise = rng.integers(0, 256, (20, 30, 3), np.uint8)
            Image.fromarray(noise).save(folder / f"{i}.png")
    short = (
        "import sys, encoder, zoo.data.general as g, zoo.data.procedural as p;"
        "g.PROCEDURAL_COUNTS = p.COUNTS = {'train': 40, 'test': 4};"
        "encoder.EPOCHS = dict.fromkeys(encoder.EPOCHS, 1); encoder.main()"
    )
    command = [sys.executable, "-c", short, tmp_path / "pictures", "--out", tmp_path / "runs"]
    command += ["--width", "4", "--few", "40"]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=SCRIPT.parent,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ")[0] for line in done.stdout.splitlines()]
    assert rows[2:] == ["| nothing", "| photographs", "| made pictures", "| both"]
