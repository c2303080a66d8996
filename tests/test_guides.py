"""Three guides: their blocks run in their order, and give what they say."""

import csv
import functools
import os
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from zoo.sample import sample

TREE = Path(__file__).resolve().parents[1]


def run(page: str, preloaded) -> dict:
    """Everything that the page's blocks define, run in the current folder."""
    text = (TREE / "docs" / page).read_text("utf-8")
    defined: dict = {"__name__": "page"}
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if kind == "python":
            exec(compile(block, page, "exec"), defined)
        else:
            assert kind == "sh"
            for line in block.splitlines():
                zoo, *args = line.split()
                assert zoo == "zoo"
                done = preloaded.run("-m", "zoo.cli", *args)
                print(done.stdout)
                assert done.returncode == 0, done.stderr
    return defined


@pytest.mark.slow
def test_finetuning(tmp_path, monkeypatch, preloaded):
    for module in ("onnxruntime", "onnxscript"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    # The graph as the page makes it, but run as it is: compiling C++ takes half a minute.
    eager = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", eager)
    with torch.random.fork_rng(devices=[]):
        page = run("finetuning.md", preloaded)
    assert page["probed"] > 0.6
    assert page["accuracy"](page["net"]) > 0.6
    model, images = page["model"], page["images"][200:]
    assert any(not torch.equal(a, b) for a, b in zip(
        model.parameters(), page["zoo"].load(model.name).parameters(), strict=True
    )), "the whole net was trained"  # fmt: skip
    expected, largest = page["expected"], float(page["expected"].abs().max())
    assert page["made"].dtype == torch.bfloat16
    assert float((page["cast"].float() - expected).abs().max()) < 0.05 * largest
    assert torch.allclose(page["fast"], expected, atol=1e-4 * largest)
    fresh = page["zoo"].load(model.name)
    assert torch.allclose(torch.from_numpy(page["answer"]), fresh.features(images), atol=1e-3)
    assert torch.allclose(page["rebuilt"], fresh.reconstruct(images), atol=1e-3)


@pytest.mark.slow
def test_collections(tmp_path, monkeypatch, capsys, preloaded):
    for module in ("faiss", "sknetwork"):
        pytest.importorskip(module)
    for i, pixels in enumerate(sample()[0]):
        path = tmp_path / ("more" if i >= 280 else "pictures") / f"{i:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    monkeypatch.chdir(tmp_path)
    page = run("collections.md", preloaded)
    assert len(page["pictures"].paths) == 280
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text("utf-8").splitlines()))
    assert {row["name"] for row in rows} >= {"shoes", "tops"}
    assert sum(len(files) for _, _, files in os.walk("by-name")) == 280
    assert "280 pictures in index, by" in capsys.readouterr().out


def test_using(tmp_path, monkeypatch, capsys, preloaded):
    for module in ("torchvision", "sklearn"):
        pytest.importorskip(module)
    for i, (pixels, cls) in enumerate(zip(*sample(), strict=True)):
        path = tmp_path / "pictures" / f"class {cls}" / f"{i:03}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).save(path)
    monkeypatch.chdir(tmp_path)
    page = run("using.md", preloaded)
    assert page["features"].shape == (300, 30)
    assert page["scores"].mean() > 0.6
    assert "name: deep_ae.fashion_mnist" in capsys.readouterr().out
