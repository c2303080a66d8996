"""What README says is run, and its figures are those that were measured."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import main

TREE = Path(__file__).resolve().parents[1]
README = (TREE / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def blocks(language):
    return [text for kind, text in BLOCKS if kind == language]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the pictures that README talks of."""
    from zoo.sample import sample

    (tmp_path / "pictures").mkdir()
    for i, pixels in enumerate(sample()[0][:40]):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    shutil.copy(tmp_path / "pictures" / "1.png", tmp_path / "shirt.png")
    Image.open(tmp_path / "pictures" / "0.png").save(tmp_path / "boot.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python(folder):
    text = next(b for b in blocks("python") if "zoo.load" in b)
    subprocess.run([sys.executable, "-c", text], check=True, cwd=folder)


def test_digits_that_are_asked_for(folder):
    from zoo.evaluation.classifier import load_classifier

    (text,) = (b for b in blocks("python") if "_conditional" in b)
    space = {}
    torch.manual_seed(0)
    exec(text, space)
    classifier = load_classifier("mnist")
    seen = classifier.classify(classifier.features(space["digits"]))
    assert (seen == torch.arange(10)).sum() >= 9


def test_torch_hub(folder):
    text = next(b for b in blocks("python") if "torch.hub.load" in b)
    assert 'tree = "."' in text
    text = text.replace('tree = "."', f"tree = {str(TREE)!r}")
    subprocess.run([sys.executable, "-c", text], check=True, cwd=folder)


def shell(text, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-euc", text], check=True, cwd=folder, env={**os.environ, "PATH": path})


def test_shell(folder):
    commands = [b for b in blocks("sh") if b.startswith("zoo ")]
    assert len(commands) == 2
    for text in commands:
        shell(text, folder)
    for file in ("codes.npz", "rebuilt.png", "digits.png", "walk.png", "mine.png"):
        assert (folder / file).stat().st_size > 500


def test_training_guide(folder):
    text = (TREE / "docs" / "training.md").read_text("utf-8")
    (folder / "recipe.toml").write_text("epochs = 1\nbatch_size = 8\n")
    # tests/test_docs.py runs those on weights of one's own.
    commands = re.findall(r"^```sh\n(zoo train .*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(commands) == 3
    for command in commands:
        shell(command, folder)
    for run in ("mine", "other", "repair"):
        weights = zoo.load(f"local-dir:{folder / 'runs' / run}")
        assert weights.generate(1, seed=0).shape[0] == 1
    left = {path.name for path in (folder / "runs" / "mine").iterdir()}
    named = set(re.findall(r"^\| `([\w.]+)/?`", text, re.MULTILINE))
    assert left - {"checkpoint.previous.safetensors"} == named, "the table of a run's folder"


def test_measuring_guide(folder):
    from zoo.evaluation import PROTOCOLS

    text = (TREE / "docs" / "evaluation.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|$", text, re.MULTILINE)
    assert dict(rows) == {p.name: "yes" if p.standard else "no" for p in PROTOCOLS.values()}
    train = "zoo train ae --data pictures --out runs/mine --epochs 1 --set batch_size=8"
    shell(train, folder)
    commands = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(commands) == 3
    for command in commands:
        shell(command, folder)
    card = (folder / "runs" / "mine" / "weights" / "README.md").read_text()
    assert "peak signal-to-noise ratio" in card, "the card has the figures"


def test_the_two_commands_are_targets():
    targets = re.findall(r"^(\w[\w-]*):", (TREE / "Makefile").read_text(), re.MULTILINE)
    commands = [b.strip() for b in blocks("sh") if b.startswith("make")]
    assert commands == ["make demo", "make test"]
    assert {"demo", "test"} <= set(targets)


def test_figures():
    (table,) = re.findall(r"<!-- figures:.*?-->\n(.*?)\n<!-- end -->", README, re.DOTALL)
    result = CliRunner().invoke(main, ["leaderboard", "--markdown"])
    assert table + "\n" == result.stdout, "type: make cards"


@pytest.mark.parametrize("plugin", sorted((TREE / "plugins").iterdir()), ids=lambda p: p.name)
def test_plugin_readme(plugin):
    text = (plugin / "README.md").read_text("utf-8")
    example = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]
    subprocess.run([sys.executable, "-c", example], check=True)


def test_every_model_is_in_the_table():
    table = README[README.index("## What there is") : README.index("## What they reach")]
    for name in zoo.list_models():
        assert f"`{name}`" in table
    for plugin in (TREE / "plugins").iterdir():
        assert f"| {plugin.name} |" in table


def test_every_public_name_is_there():
    assert sorted(zoo.__all__) == zoo.__all__ or zoo.__all__ == sorted(
        zoo.__all__, key=lambda n: (n.startswith("_"), n)
    )
    for name in zoo.__all__:
        assert getattr(zoo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = zoo.nonsense
