"""``zoo index``: what a person types, reads and gets wrong."""

import json
import os
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import main
from zoo.collection.store import Store

MODEL = "pca.mnist"


def run(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for i in range(12):
        pixels = rng.integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{i:02}.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"junk")
    os.link(tmp_path / "in" / "00.png", tmp_path / "in" / "again.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


def test_index_and_index_again(pictures):
    result = run("index", MODEL, "in", "--out", "c")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"12 pictures in c, by {MODEL}: 12 computed (")
    assert f"{pictures}/bad.png: not a picture" in result.stderr
    assert "1 further names of the same files left out, by links" in result.stderr
    again = run("index", "in", "--out", "c")
    assert "12 kept" in again.stdout
    (pictures / "01.png").rename(pictures / "new.png")
    (pictures / "02.png").unlink()
    result = run("index", "--out", "c", "--json")
    said = json.loads(result.stdout)
    counts = {key: said[key] for key in ("computed", "kept", "moved", "copied", "returned")}
    assert counts == {"computed": 0, "kept": 10, "moved": 1, "copied": 0, "returned": 0}
    assert (said["listed"], said["read"], said["unread"], said["removed"]) == (12, 11, 1, 1)
    assert said["unread_files"][0]["path"] == f"{pictures}/bad.png"
    assert [each["path"] for each in said["left_out"]] == [f"{pictures}/again.png"]
    assert said["model"] == MODEL
    collection = zoo.Collection("c")
    assert len(collection) == 11
    assert collection.features().shape == (11, 30)
    assert collection.model().name == MODEL
    assert collection.unread()[0][0] == f"{pictures}/bad.png"


def test_without_a_name_the_best_that_ships_is_used(pictures):
    result = run("index", "in", "--out", "c")
    assert result.exit_code == 0, result.stderr
    model = Store.open("c").manifest.model["name"]
    colour = [
        name
        for name in zoo.list_models(pretrained=True)
        if (p := zoo.info(name).weights[0].preprocessing) and p.channels == 3
    ]
    knn = {
        name: metric.value
        for name in colour
        for metric in zoo.info(name).weights[0].metrics
        if metric.name == "knn1"
    }
    assert knn[model] == max(knn.values())
    assert "trained on millions of photographs" in result.stdout
    assert "zoo index clip:" in result.stdout or "pip install" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name at least one folder or picture to index"),
        (("in", "nowhere"), "nowhere: there is no such file or folder"),
        (("nowhere",), "nowhere is no folder or file here, and no model either"),
        (("",), "a path is empty"),
        ((MODEL, "in", "--set", "epochs=2"), "--set is for --learn"),
        (("--learn", "in"), "in"),
        (("--learn", "pca.mnist", "in"), "pca.mnist"),
        (("dcgan.nosuch", "in"), "dcgan.nosuch"),
    ],
)
def test_mistakes_are_one_message(pictures, arguments, says):
    result = run("index", *arguments, "--out", "c")
    assert result.exit_code == 2, result.stdout
    assert says in result.stderr
    assert not (pictures.parent / "c").exists()


def test_the_wrong_folder_is_left_alone(pictures):
    result = run("index", MODEL, "in", "--out", "in")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is no collection and not empty" in result.stderr
    assert run("index", MODEL, "in", "--out", "c").exit_code == 0
    result = run("index", "simclr.mnist", "in", "--out", "c")
    assert result.exit_code == 2
    assert f"was made with {MODEL}, and not with simclr.mnist" in result.stderr


@pytest.mark.slow
def test_a_model_that_is_trained_on_the_pictures(pictures):
    result = run("index", "pca", "in", "--learn", "--out", "c", "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert (said["computed"], said["model"]) == (12, f"local-dir:{pictures.parent}/c/model")
    config = (pictures.parent / "c" / "model" / "weights" / "config.json").read_bytes()
    Image.new("L", (28, 28), 77).save(pictures / "new.png")
    result = run("index", "pca", "in", "--learn", "--out", "c")
    assert "1 computed, 12 kept" in result.stdout, result.stderr
    assert "12 kept" not in run("index", "--out", "c").stdout
    assert (pictures.parent / "c" / "model" / "weights" / "config.json").read_bytes() == config
    other = run("index", "patch_kmeans", "in", "--learn", "--out", "c")
    assert (other.exit_code, "has a pca that learnt" in other.stderr) == (2, True)
    (pictures.parent / "c").rename(pictures.parent / "moved")
    assert zoo.Collection("moved").model().name


SCRIPT = """
import sys, torch
from zoo.collection import Collection
from zoo.collection.store import Store
from zoo.model import ZooModel

class Means(ZooModel):
    image_shape = (3, 8, 8)
    name = "means"

    def _features(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

Store.shard_rows = 50
print("begins", flush=True)
Collection.index(Means(), [sys.argv[1]], sys.argv[2])
"""


KILLS = int(os.environ.get("KILLS", 6)) // 2


@pytest.mark.slow
def test_kills(preloaded, tmp_path):
    """SIGKILL at random moments of index and of update: the end is that of an undisturbed run."""
    rng = np.random.default_rng(7)
    (tmp_path / "in").mkdir()

    def fill(first, last):
        for i in range(first, last):
            pixels = rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "in" / f"{i:04}.png")

    def start(folder):
        process = preloaded.popen("-c", SCRIPT, tmp_path / "in", folder)
        assert process.stdout.readline() == b"begins\n"
        return process

    def timed(folder):
        process = start(folder)
        began = time.monotonic()
        assert process.wait() == 0
        return time.monotonic() - began

    def restore():
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        if (tmp_path / "before").is_dir():
            shutil.copytree(tmp_path / "before", tmp_path / "c")

    def change():
        for i in range(0, 2000, 3):
            path = tmp_path / "in" / f"{i:04}.png"
            path.rename(path.with_name(f"moved-{path.name}"))
        for i in range(1, 2000, 10):
            (tmp_path / "in" / f"{i:04}.png").unlink(missing_ok=True)
        fill(2000, 2400)

    for prepare in (lambda: fill(0, 2000), change):
        prepare()
        seconds = timed(tmp_path / "whole")
        restore()
        killed = 0
        while killed < KILLS:
            process = start(tmp_path / "c")
            time.sleep(rng.uniform(0, seconds / 3))
            process.kill()
            if process.wait() == -signal.SIGKILL:
                killed += 1
            else:  # it was at its end: once more from the beginning
                restore()
        timed(tmp_path / "c")
        whole, other = Store.open(tmp_path / "whole"), Store.open(tmp_path / "c")
        assert whole.tables().to_pydict() == other.tables().to_pydict()
        np.testing.assert_array_equal(whole.features(slice(None)), other.features(slice(None)))
        np.testing.assert_array_equal(whole.small(slice(None)), other.small(slice(None)))
        assert len(whole.pictures()) == len([*(tmp_path / "in").iterdir()])
        shutil.copytree(tmp_path / "c", tmp_path / "before", dirs_exist_ok=True)


@pytest.mark.slow
def test_the_page_is_true(pictures, monkeypatch):
    """The blocks of docs/indexing.md, one after the other."""
    page = (Path(__file__).parents[2] / "docs" / "indexing.md").read_text("utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    # Texts: another plugin, a cluster, two collections, a store, a collection on a store.
    kinds = ["sh", "sh", "sh", "text", "sh", "sh", "text", "text", "text", "text", "python"]
    assert [kind for kind, _ in blocks] == kinds
    pictures.rename(pictures.parent / "pictures")
    for kind, text in blocks:
        if kind == "sh":
            result = run(*shlex.split(text)[1:])
            assert result.exit_code == 0, result.stderr
        elif kind == "python":
            exec(text, {})
    assert zoo.Collection("own-index").store.manifest.model["weights"] == "model"
    assert zoo.Collection("stretched").store.manifest.preprocessing["fit"] == "stretch"
    said = json.loads(run("index", "--out", "index", "--json").stdout)
    for whole, parts in (
        ("listed", ("read", "unread")),
        ("read", ("computed", "kept", "moved", "copied", "returned")),
    ):
        assert f"`{whole}` is" in page.replace("\n", " ")
        assert all(f"`{part}`" in page for part in parts)
        assert said[whole] == sum(said[part] for part in parts)


def test_lines_of_progress_begin_with_the_first_picture(monkeypatch, capsys):
    """And not while a model is loaded or trained."""
    from zoo.cli import collection

    clock = [0.0]
    monkeypatch.setattr(collection.time, "monotonic", lambda: clock[0])
    lines = collection._Lines()
    for clock[0], done in ((100.0, 0), (120.0, 40), (140.0, 80)):
        lines(done, 120)
    assert capsys.readouterr().err == "80 of 120, 2 pictures/s, 20 s left\n"
