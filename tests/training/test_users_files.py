"""Whatever a user's folder holds: a run in it leaves all of that as it was, byte for byte."""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.errors import TrainingError, ZooError
from zoo.sample import sample
from zoo.training.runfolder import NAMES

OWN = [*NAMES, "run.lock", "model.safetensors", "metrics.json", "config.json", "README.md"]
NEAR = [
    "data", "data.npz", "data-notes.txt", "dataset.csv", "data-train-0123456789abcdef0123.npy",
    "notes.tmp-old", "weights.tmp-123", ".zoo-0123456789abcdef.tmp", ".zoo-notes.tmp",
    "checkpoint.old", "checkpoint.next.safetensors.tmp-1", "recipe.txt", "recipe.toml",
    "pictures-of-mum", "events.log", "weights.zip", "unfinished.txt", "run.json.bak", "train",
    "test", "a.png", "b.jpg", ".hidden", "Thumbs.db", "x.parquet",
]  # fmt: skip
OTHER = (
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(str.encode)
    | st.binary(min_size=1, max_size=20)
).map(lambda name: name.translate(bytes.maketrans(b"/\0", b"__")) + b"~")
PICTURE, ARRAYS = "a picture", "arrays of images"
FILE = st.tuples(
    st.just("file"), st.sampled_from([PICTURE, ARRAYS, b"", b"mine", b"{}", b"\xff" * 99])
)
LINK = st.tuples(st.just("link"), st.sampled_from(["nowhere", "/dev/null", ".", "../outside"]))


def folders(names):
    return st.recursive(
        st.dictionaries(names, FILE | LINK, max_size=6),
        lambda inside: st.dictionaries(
            names, st.one_of(FILE, LINK, st.tuples(st.just("folder"), inside)), max_size=6
        ),
        max_leaves=8,
    )


THEIRS = st.sampled_from(NEAR).map(os.fsencode) | OTHER
FOLDER = st.one_of(
    folders(THEIRS), folders(THEIRS), folders(THEIRS | st.sampled_from(OWN).map(os.fsencode))
)
DATA = st.sampled_from(["mnist", "mnist", "the folder itself", "a file in it"])
STEPS = st.sampled_from(
    [["train"], ["train", "resume"], ["stop", "resume"], ["stop", "train"], ["resume", "train"]]
)


def fill(folder, entries):
    for name, (kind, value) in entries.items():
        path = Path(folder, os.fsdecode(name))
        if os.path.lexists(path):  # on a file system that takes two names for one
            continue
        if kind == "folder":
            path.mkdir()
            fill(path, value)
        elif kind == "link":
            path.symlink_to(value)
        elif value == PICTURE:
            Image.fromarray(sample()[0][len(name)]).save(path, "PNG")
        elif value == ARRAYS:
            with path.open("wb") as file:
                np.savez(file, images=sample()[0][:20])
        else:
            path.write_bytes(value)


def contents(folder):
    """All that is below ``folder``: what it is, its bytes, rights and time of change."""
    found = {}
    for at, folders, files in os.walk(os.fsencode(folder)):
        for name in folders + files:
            path = os.path.join(at, name)
            about = os.lstat(path)
            if os.path.islink(path):
                found[path] = ("link", os.readlink(path))
            elif os.path.isdir(path):
                found[path] = ("folder", about.st_mode)
            else:
                data = Path(os.fsdecode(path)).read_bytes()
                found[path] = ("file", about.st_mode, about.st_ino, about.st_mtime_ns, data)
    return found


@contextlib.contextmanager
def unchanged(entries):
    """A folder with ``entries``, and something outside of it that a link may lead to."""
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / "outside").mkdir()
        (Path(temporary) / "outside" / "data-mine.npy").write_bytes(b"mine")
        folder = Path(temporary) / "proj"
        folder.mkdir()
        fill(folder, entries)
        before = contents(temporary)
        yield folder
        after = contents(temporary)
        assert {path: after.get(path) for path in before} == before


def where(data, folder, mnist):
    if data == "mnist":
        return {"data": "mnist", "data_dir": mnist}
    if data == "a file in it":
        return {"data": str(folder / "data.npz"), "data_dir": None}
    return {"data": str(folder), "data_dir": None}


class Gone(Exception):
    """The run ends without a last word."""


def leave(line):
    if "epoch" in line and "step" not in line:
        raise Gone


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(entries=FOLDER, data=DATA, steps=STEPS, memory=st.sampled_from([None, 1000]))
def test_a_run_in_a_users_folder(train, data_folder, entries, data, steps, memory):
    with unchanged(entries) as folder:
        more = {**where(data, folder, data_folder), "memory": memory}
        for step in steps:
            before = contents(folder)
            try:
                train(
                    "ae", folder, resume=step == "resume", checkpoint_every=0,
                    settings={"epochs": 1, "batch_size": 2},
                    report=leave if step == "stop" else lambda line: None, **more,
                )  # fmt: skip
                assert (folder / "weights" / "model.safetensors").exists()
                event("trained to its end")
            except TrainingError as refused:
                if "which no run wrote" in str(refused):
                    assert contents(folder) == before, "nor is anything added"
                event("refused")
            except (ZooError, Gone) as error:  # no picture in it, ...
                event(type(error).__name__)


@pytest.fixture(scope="session")
def data_folder(data):
    return data


@pytest.mark.slow
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(entries=FOLDER)
def test_a_process_in_a_users_folder(data_folder, entries):
    with unchanged(entries) as folder:
        done = subprocess.run(
            [sys.executable, "-c", "from zoo.cli import main; main()", "train", "pca",
             "--data", "mnist", "--data-dir", str(data_folder), "--out", str(folder)],
            capture_output=True, timeout=300,
        )  # fmt: skip
        assert done.returncode in (0, 2), done.stderr
        assert b"Traceback" not in done.stderr
        assert (done.returncode == 0) == (folder / "weights" / "model.safetensors").is_file()
