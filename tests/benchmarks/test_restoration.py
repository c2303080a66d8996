"""benchmarks/restoration.py as it is called, on a few pictures."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TREE = Path(__file__).parents[2]
MODEL = "deep_ae.fashion_mnist"


def run(*arguments):
    command = [sys.executable, TREE / "benchmarks" / "restoration.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_restoration(clothes):
    done = run(MODEL, "--data", clothes, "--images", 20, "--only", "restoration", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["compression"] == found["left_out"] == []
    rows = found["restoration"]
    assert {(row["data"], row["images"]) for row in rows} == {("clothes", 20)}
    psnr = {(row["damage"], row["method"]): row["psnr"] for row in rows}
    damages = list(dict.fromkeys(row["damage"] for row in rows))
    assert len(damages) == 5
    before = [psnr[damage, "damaged"] for damage in damages]
    missing, noise = before[:2], before[2:]
    assert missing == sorted(missing, reverse=True)
    assert noise == sorted(noise, reverse=True)
    # Noise of deviation 0.1 is 20 dB, and what is clamped to [0, 1] a little less of it.
    assert 20 < noise[0] < 24
    for damage in damages[2:]:  # what the filters are for
        for method in ("median", "non-local means"):
            assert psnr[damage, method] > psnr[damage, "damaged"]
    for damage in damages[:2]:  # the rest of the picture is there, and is put back
        assert psnr[damage, f"{MODEL} (is told where)"] > psnr[damage, MODEL]


@pytest.mark.slow
def test_compression(clothes):
    done = run(MODEL, "--data", clothes, "--images", 20, "--only", "compression", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["compression"]
    *quantised, whole = rows
    assert whole["code"] == "float32"
    assert whole["rate"] == pytest.approx(30 * 32 / 784)
    for row in quantised:
        assert row["rate"] < whole["rate"]
        assert row["psnr"] < whole["psnr"] + 0.5, "fewer bits are not better, but for chance"
        for way in row["beside"].values():
            assert way is None or math.isfinite(way["psnr"])


@pytest.mark.slow
def test_a_sheet_of_the_highest_quality(monkeypatch):
    """Noise in colour takes more bytes than pixels."""
    monkeypatch.syspath_prepend(TREE / "benchmarks")
    from restoration import Codec

    images = torch.rand(300, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = Codec("JPEG", "sheet", images, {"subsampling": "4:4:4"}).at(math.inf)
    assert found["quality"] == 100
    assert found["rate"] > 8


@pytest.mark.slow
def test_a_mistake_is_named(tmp_path):
    done = run("nonsense.mnist")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nonsense" in done.stderr
    assert "Traceback" not in done.stderr
