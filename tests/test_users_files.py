"""A user's files, wherever the zoo writes: nothing is lost that the zoo did not make itself."""

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo import weights
from zoo.authoring.scaffold import new_plugin
from zoo.cli import main
from zoo.errors import InputError, WeightsError
from zoo.files import HALF_WRITTEN, new_folder, replacing, write_atomically
from zoo.report.card import is_card, write_card
from zoo.sample import sample
from zoo.sources import weights_folder

ROOT = Path(__file__).parents[1]


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(sample()[0][i]).save(folder / f"{i}.png")
    return folder


# -- how files are written -------------------------------------------------------------------------


def test_temporary_names_are_nobody_elses(tmp_path):
    """They were made of the process's number, and such a file or folder of the user's was lost."""
    pid = os.getpid()
    for name in (f"a.txt.tmp-{pid}", f".mine.tmp-{pid}/notes.txt", f"w.tmp-{pid}/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    write_atomically(tmp_path / "a.txt", b"new")
    with contextlib.suppress(ZeroDivisionError), replacing(tmp_path / "a.txt") as file:
        file.write(b"%d" % (1 / 0))
    save(tmp_path / "w")
    zoo.pull(f"local-dir:{tmp_path / 'w'}", to=tmp_path / "copy")
    new_plugin("mine", tmp_path / "mine")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ("a.txt", "copy", "mine", "w", f"a.txt.tmp-{pid}", f".mine.tmp-{pid}", f"w.tmp-{pid}")
    )
    for name in (f"a.txt.tmp-{pid}", f".mine.tmp-{pid}/notes.txt", f"w.tmp-{pid}/notes.txt"):
        assert (tmp_path / name).read_text() == "mine"


def save(folder, model=None):
    weights.save(
        model or zoo.create("ae", hidden=4, latent_dim=2), folder, images=torch.rand(2, 1, 28, 28),
        plugin="latentzoo-ae", facts={"dataset": "none", "licence": "none"},
    )  # fmt: skip


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError, RuntimeError])
def test_weights_are_cleaned_up_after_any_exception(tmp_path, monkeypatch, error):
    def fail(*_):
        assert len(list(tmp_path.iterdir())) == 1
        raise error("at the end")

    monkeypatch.setattr(weights, "_vectors", fail)
    with pytest.raises(WeightsError if error is OSError else error):
        save(tmp_path / "w")
    assert not list(tmp_path.iterdir())


def test_only_what_was_made_is_cleaned_up(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    with contextlib.suppress(OSError), new_folder(tmp_path / "taken") as folder:
        assert HALF_WRITTEN.fullmatch(folder.name)
        (folder / "new").write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
    assert (tmp_path / "taken" / "mine").read_text() == "mine"


def test_rights_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(tmp_path, there):
    if there:
        (tmp_path / "far").write_bytes(b"old")
    (tmp_path / "link").symlink_to("far")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far").read_bytes() == b"new"


def test_a_pipe_stays_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_atomically(tmp_path / "pipe", b"new")
    reader.join()
    assert read == [b"new"]
    assert (tmp_path / "pipe").is_fifo()


# -- commands --------------------------------------------------------------------------------------


COMMANDS = {
    "encode": (["encode", "ae.mnist"], "codes.npz", "an .npz file"),
    "parquet": (["encode", "ae.mnist"], "codes.parquet", "a Parquet file"),
    "safetensors": (["encode", "ae.mnist"], "codes.safetensors", "a .safetensors file"),
    "reconstruct": (["reconstruct", "ae.mnist"], "out.png", "a PNG"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_of_another_kind_is_not_overwritten(tmp_path, photos, command):
    arguments, name, kind = COMMANDS[command]
    out = tmp_path / name
    out.write_text("notes of mine")
    result = run(*arguments, photos, "--out", out)
    assert result.exit_code == 2
    assert f"{out} is there already and is not {kind}" in result.stderr
    assert out.read_text() == "notes of mine"
    out.write_bytes(b"")  # of mktemp
    for _ in range(2):  # and what was written so may be written again
        assert run(*arguments, photos, "--out", out).exit_code == 0
        assert out.stat().st_size > 100


@pytest.mark.parametrize("source", ["file", "folder", "other name"])
def test_a_picture_that_is_read_is_not_overwritten(tmp_path, photos, source):
    out, before = photos / "1.png", (photos / "1.png").read_bytes()
    sources = {"file": [photos / "1.png"], "folder": [photos], "other name": [photos / "1.png"]}
    if source == "other name":
        out = tmp_path / "link.png"
        out.symlink_to(photos / "1.png")
    result = run("reconstruct", "ae.mnist", *sources[source], "--out", out)
    assert result.exit_code == 2
    assert f"{out} is one of the pictures that are read" in result.stderr
    result = run("interpolate", "ae.mnist", photos / "0.png", photos / "1.png", "--out", out)
    assert result.exit_code == 2
    assert (photos / "1.png").read_bytes() == before


def test_generated_pictures_and_figures(tmp_path):
    for name, arguments in (
        ("a.png", ("generate", "dcgan.mnist", "-n", 2)),
        ("b.json", ("evaluate", "ae.mnist", "--protocol", "reconstruction")),
    ):
        (tmp_path / name).write_text("notes of mine")
        result = run(*arguments, "--out", tmp_path / name)
        assert result.exit_code == 2
        assert f"{tmp_path / name} is there already and is not" in result.stderr
        assert (tmp_path / name).read_text() == "notes of mine"


# -- cards -----------------------------------------------------------------------------------------


def test_a_card_overwrites_cards_alone(tmp_path):
    folder = weights_folder("ae.mnist")
    for name in ("notes.md", "holiday.png"):
        (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(InputError, match=r"notes\.md is there already and is not a card"):
        write_card(folder, tmp_path / "notes.md", "ae.mnist")
    with pytest.raises(InputError, match=r"holiday\.png is there already and is not a card's"):
        write_card(folder, tmp_path / "holiday.md", "ae.mnist")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["holiday.png", "notes.md"]
    assert all(p.read_bytes() == b"mine" for p in tmp_path.iterdir())
    for _ in range(2):
        write_card(folder, tmp_path / "card.md", "ae.mnist")
    assert is_card(tmp_path / "card.md")
    assert not is_card(tmp_path / "notes.md")
    assert not is_card(tmp_path / "none.md")


def test_measuring_leaves_a_readme_of_ones_own(tmp_path):
    arrays = {f"{part}_images": sample()[0][:40] for part in ("train", "test")}
    np.savez(tmp_path / "set.npz", **arrays)
    save(tmp_path / "w")
    (tmp_path / "w" / "README.md").write_text("# My own words\n")
    said = []
    zoo.evaluate(f"local-dir:{tmp_path / 'w'}", data=str(tmp_path / "set.npz"),
                 protocols=["reconstruction"], progress=said.append)  # fmt: skip
    assert (tmp_path / "w" / "README.md").read_text() == "# My own words\n"
    assert f"{tmp_path / 'w' / 'README.md'} is not a card that the zoo wrote, so it stays as it " \
           "is" in said  # fmt: skip


def test_cards_of_all_leave_the_rest_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "list_models", lambda pretrained: ["ae.mnist"])
    (tmp_path / "notes.md").write_text("mine")
    (tmp_path / "holiday.png").write_text("mine")
    write_card(weights_folder("ae.fashion_mnist"), tmp_path / "old.md", "ae.fashion_mnist")
    result = run("card", "--out", tmp_path)
    assert result.exit_code == 0
    assert f"1 other cards in {tmp_path} stay as they are: old.md" in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "ae.mnist.md", "ae.mnist.png", "holiday.png", "notes.md", "old.md", "old.png",
    ]  # fmt: skip
    lines = (ROOT / "Makefile").read_text().splitlines()
    removed = [line for line in lines if re.search(r"\brm\b", line)]
    assert removed == ["\trm -rf .venv"], "what make removes, make has made"


# -- two at a time ---------------------------------------------------------------------------------


MEASURE = """
import sys
import zoo
zoo.evaluate("local-dir:" + sys.argv[1], data=sys.argv[2], protocols=[sys.argv[3]],
             progress=lambda line: (print(line, flush=True), sys.stdin.readline()))
"""


@pytest.mark.slow
def test_two_that_measure_one_folder(tmp_path):
    """Each kept the figures that were there at its start, and the slower lost the other's."""
    arrays = {f"{part}_images": sample()[0][:40] for part in ("train", "test")}
    np.savez(tmp_path / "set.npz", **arrays, train_labels=sample()[1][:40],
             test_labels=sample()[1][:40])  # fmt: skip
    save(tmp_path / "w")
    both = [
        subprocess.Popen(
            [sys.executable, "-c", MEASURE, tmp_path / "w", tmp_path / "set.npz", protocol],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for protocol in ("reconstruction", "knn")
    ]  # fmt: skip
    for process in both:  # both have looked at what is there
        process.stdout.readline()
    for process in both:
        process.communicate("\n" * 9, timeout=200)
        assert process.returncode == 0
    metrics = json.loads((tmp_path / "w" / "metrics.json").read_text())["metrics"]
    assert {"sse", "knn1"} <= {m["name"] for m in metrics}


def test_two_that_pull_into_one_folder(tmp_path, monkeypatch):
    import shutil

    copy, target = shutil.copyfile, tmp_path / "w"

    def slow(*arguments):
        if not target.exists():  # the other one is faster
            target.mkdir()
            (target / "theirs").write_text("theirs")
        return copy(*arguments)

    monkeypatch.setattr(shutil, "copyfile", slow)
    with pytest.raises(WeightsError, match="w exists already; weights are never overwritten"):
        zoo.pull("ae.mnist", to=target)
    assert [p.name for p in tmp_path.iterdir()] == ["w"]
    assert [p.name for p in target.iterdir()] == ["theirs"]


# -- the cache of the Hub's client -----------------------------------------------------------------


def test_what_a_link_in_the_cache_leads_to(tmp_path, monkeypatch):
    """A damaged file is taken out of the cache; a file of the user's is not the cache's."""
    from zoo.hub import cache, fetching

    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")
    snapshot = cache.snapshot("org/name", "0" * 40)
    blobs = cache.repo_folder("org/name") / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    (tmp_path / "mine.safetensors").write_text("mine")
    (blobs / "b").write_text("damaged")
    for name, target in (("mine", tmp_path / "mine.safetensors"), ("theirs", "../../blobs/b"),
                         ("up", f"../../../../{'mine.safetensors'}")):  # fmt: skip
        (snapshot / name).symlink_to(target)
        assert (snapshot / name).exists()
        fetching._drop(snapshot / name, "org/name")
        assert not os.path.lexists(snapshot / name)
    assert (tmp_path / "mine.safetensors").read_text() == "mine"
    assert not (blobs / "b").exists()


def test_a_kill_while_a_file_is_written_leaves_the_old_one(tmp_path):
    (tmp_path / "a").write_text("old")
    code = (
        "import sys, time; from pathlib import Path; from zoo.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'new'); file.flush(); print('there', flush=True); time.sleep(100)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "a"], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / "a").read_text() == "old"
    (other,) = (p.name for p in tmp_path.iterdir() if p.name != "a")
    assert HALF_WRITTEN.fullmatch(other)
