"""A run in a folder of the user's: what was there stays, and nobody else writes there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

import zoo
from zoo.errors import RunStopped, TrainingError
from zoo.locks import Lock, Locked
from zoo.manifest import MANIFEST, is_of_run, read_manifest
from zoo.training import checkpoint
from zoo.training.runfolder import NAMES, RunFolder

COMMAND = "from zoo.cli import main; main()"


def contents(folder):
    """Every entry below ``folder``: its bytes, where a link leads, or that it is a folder."""
    found = {}
    for at, folders, files in os.walk(os.fsencode(folder)):
        for name in folders + files:
            path = os.path.join(at, name)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isdir(path):
                found[path] = None
            else:
                found[path] = Path(os.fsdecode(path)).read_bytes()
    return found


def kept(before, folder):
    after = contents(folder)
    return {path: after.get(path) for path in before} == before


THEIRS = ("data.npz", "data-notes.txt", "dataset.csv", "notes.tmp-old", "weights.tmp-123", ".zoo-1")


def test_what_is_the_users_stays(tmp_path, train):
    out = tmp_path / "proj"
    (out / "data").mkdir(parents=True)
    for name in (*THEIRS, "data/train.npy", "data/data-train-00000000000000000000.npy"):
        (out / name).write_text(name)
    (out / "weights.tmp-7").mkdir()
    (out / "link").symlink_to("nowhere")
    before = contents(out)
    train("ae", out, memory=1000)
    assert kept(before, out)
    assert (out / "weights" / "config.json").exists()
    assert not (out / "unfinished").exists()
    assert not (out / "run.lock").exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_name_that_is_taken_is_refused_at_the_start(tmp_path, train, name, kind):
    path = tmp_path / name
    if kind == "file":
        path.write_text("mine")
    elif kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(TrainingError) as caught:
        train("ae", tmp_path, data="no-such-folder")  # which is not even looked for
    assert f"holds {name} already, which no run wrote" in str(caught.value)
    assert f"Choose another --out, such as {tmp_path / 'run'}" in str(caught.value)
    assert contents(tmp_path) == before, "nothing was added either"


def test_all_that_is_in_the_way_is_named(tmp_path, train):
    for name in ("recipe.json", "losses.png"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "run.json").write_text(json.dumps({"runs": ["mine"]}))
    with pytest.raises(TrainingError, match=r"holds run\.json and recipe\.json and losses\.png"):
        train("ae", tmp_path)


@pytest.mark.parametrize("changes", [{"data": "no-such-folder"}, {"settings": {"batch_size": 999}}])
def test_a_run_that_never_starts_leaves_nothing(tmp_path, train, changes):
    (tmp_path / "mine").mkdir()
    with pytest.raises(Exception, match=r"no data set|fewer than a batch"):
        train("ae", tmp_path / "mine" / "new" / "run", **changes)
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_a_users_file_among_the_pictures_over_time(tmp_path, train):
    said = []

    def put(line):
        said.append(line)
        if line.get("epoch") == 1:  # the picture of this epoch comes after its line
            (tmp_path / "run" / "pictures").mkdir()
            (tmp_path / "run" / "pictures" / "reconstruction-0001.png").write_text("mine")

    train("ae", tmp_path / "run", report=put)
    pictures = tmp_path / "run" / "pictures"
    assert (pictures / "reconstruction-0001.png").read_text() == "mine"
    assert (pictures / "reconstruction-0002.png").read_bytes().startswith(b"\x89PNG")
    assert [line["warning"] for line in said if "warning" in line] == [
        f"{pictures / 'reconstruction-0001.png'} is not of this run, so it stays as it is"
    ]


@pytest.mark.parametrize("name", ["weights", "checkpoint.next.safetensors", "losses.png"])
def test_what_a_user_puts_there_between_two_parts_of_a_run(tmp_path, train, name):
    """What the run has not written yet is not the run's, whatever it is called."""
    run = tmp_path / "run"
    with RunFolder(run) as folder:  # as far as a run comes in its first second
        folder.open(resume=False)
        folder.note({"model": "ae"})
        folder.require("recipe.json").write_text("{}")
    (run / name).write_text("mine")
    for resume in (False, True):
        with pytest.raises(TrainingError, match=f"holds {name} already, which no run wrote"):
            train("ae", run, resume=resume)
    assert (run / name).read_text() == "mine"
    (run / name).rename(tmp_path / name)
    train("ae", run, resume=True)


def test_what_a_user_puts_there_while_a_run_is_under_way(tmp_path, train):
    run = tmp_path / "run"

    def put(line):
        if line.get("epoch") == 1 and "step" not in line:
            (run / "weights").mkdir()
            (run / "weights" / "mine").write_text("mine")

    with pytest.raises(TrainingError, match="weights is not of this run, which has to write there"):
        train("ae", run, report=put)
    assert (run / "weights" / "mine").read_text() == "mine"
    (run / "weights").rename(tmp_path / "weights")
    assert train("ae", run, resume=True) == run / "weights"


def test_the_manifest_lists_what_the_run_wrote(tmp_path, train):
    train("ae", tmp_path)
    (tmp_path / "mine.png").write_bytes(b"")
    (tmp_path / "pictures" / "mine.png").write_bytes(b"")
    manifest = read_manifest(tmp_path)
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert {name for name in files if not is_of_run(manifest, name)} == {
        "mine.png", "pictures/mine.png",
    }  # fmt: skip
    assert manifest["process"]["pid"] == os.getpid()


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"format": "a run of latentzoo, 1"}',
     b'{"format": "a run of latentzoo, 1", "facts": {}, "wrote": ["../x"], "process": '
     b'{"pid": 1, "host": ""}}',
     b'{"format": "a run of latentzoo, 1", "facts": {}, "wrote": ["/x"], "process": '
     b'{"pid": 1, "host": ""}}'],
)  # fmt: skip
def test_what_is_no_manifest(tmp_path, text):
    (tmp_path / MANIFEST).write_bytes(text)
    assert read_manifest(tmp_path) is None


# -- kills ---------------------------------------------------------------------------------------


def start(*arguments, code=COMMAND):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def command(model, data, out, *more):
    return [
        *("train", model, "--data", "mnist", "--data-dir", data, "--out", out, "--device", "cpu"),
        *("--set", "batch_size=32", "--set", "precision=fp32", *more),
    ]


PAUSED = """
import os, sys, time
from zoo import {module}
real = {module}.{function}
def paused(*arguments, **more):
    {before}
    print("there", flush=True)
    time.sleep(600)
{module}.{function} = paused
from zoo.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "function", "before"),
    [
        ("weights", "_vectors", "pass"),  # the tensors are written, the rest is not
        ("weights", "write_json", "real(*arguments, **more)"),  # whole, but not in its place
        ("training", "write_card", "pass"),  # in its place, without its card
        ("training", "fingerprint", "pass"),  # before anything was written
    ],
)
def test_a_kill_while_the_weights_are_saved(tmp_path, data, module, function, before):
    """Each of these runs left a folder, or nothing, that --resume did not get over."""
    run, small = tmp_path / "run", ("--epochs", 1, "--config", "hidden=8")
    (tmp_path / "run").mkdir()
    (run / "notes.tmp-old").write_text("mine")
    code = PAUSED.format(module=module, function=function, before=before)
    process = start(*command("ae", data, run, *small), code=code)
    assert process.stdout.readline() == "there\n", process.communicate()
    assert (run / "run.lock").exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = [path.name for path in (run / "unfinished").iterdir()]
    assert bool(left) == (module == "weights"), left
    resumed = start(*command("ae", data, run, *small), "--resume")
    _, errors = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, errors
    assert (run / "weights" / "README.md").exists()
    assert not (run / "unfinished").exists()
    assert not (run / "run.lock").exists()
    assert (run / "notes.tmp-old").read_text() == "mine"
    whole = tmp_path / "whole"
    process = start(*command("ae", data, whole, *small))
    assert process.wait(timeout=200) == 0
    assert tensors(whole).keys() == tensors(run).keys()
    assert all(torch.equal(a, tensors(run)[k]) for k, a in tensors(whole).items())


def tensors(run):
    return safetensors.torch.load_file(run / "weights" / "model.safetensors")


def test_a_run_killed_before_its_first_checkpoint(tmp_path, train):
    """Of a model that has no steps, or within the first minute."""

    class Gone(Exception):
        pass

    def go(line):
        if "start" in line:
            raise Gone

    said = []
    for model in ("pca", "ae"):
        folder = tmp_path / model
        with RunFolder(folder) as ours:
            ours.open(resume=False)
            ours.note({"model": model})
        train(model, folder, resume=True, report=said.append)
        assert (folder / "weights" / "model.safetensors").exists()
    warnings = [line["warning"] for line in said if "warning" in line]
    assert warnings == ["no checkpoint was written yet, so it starts from the beginning"] * 2


# -- two at a time -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_run_is_refused(tmp_path, data, train):
    """While a run is under way; not any more when it was killed."""
    run = tmp_path / "run"
    first = start(*command("ae", data, run, "--epochs", 100_000, "--checkpoint-every", 0))
    while first.poll() is None and not (run / checkpoint.CURRENT).exists():
        time.sleep(0.01)
    before = {p: p.read_bytes() for p in run.iterdir() if p.name == "recipe.json"}
    for resume in (False, True):
        with pytest.raises(TrainingError) as caught:
            train("ae", run, resume=resume)
        assert f"a run is under way in {run}: process {first.pid} on " in str(caught.value)
    second = start(*command("ae", data, run, "--epochs", 1), "--resume")
    _, errors = second.communicate(timeout=200)
    assert second.returncode == 2
    assert f"a run is under way in {run}: process {first.pid} on" in errors
    assert "Traceback" not in errors
    assert first.poll() is None
    assert {p: p.read_bytes() for p in before} == before
    first.kill()
    first.communicate()
    with pytest.raises(TrainingError, match="add --resume"):
        train("ae", run)
    with pytest.raises(TrainingError, match="is of another run: its config is"):
        train("ae", run, resume=True)


def test_a_second_run_in_the_same_process(tmp_path, train):
    refused = []

    def second(line):
        if line.get("epoch") == 1 and "step" not in line:
            with pytest.raises(TrainingError) as caught:
                train("ae", tmp_path / "run")
            refused.append(str(caught.value))

    train("ae", tmp_path / "run", report=second)
    assert f"process {os.getpid()} on" in refused[0]


def test_locks(tmp_path):
    path = tmp_path / "lock"
    path.write_text("a user's own")
    one = Lock(path)
    assert one.works
    assert not one.made
    with pytest.raises(Locked):
        Lock(path)
    one.release()
    Lock(path).release()
    assert path.read_text() == "a user's own"
    new = Lock(tmp_path / "new")
    assert new.made
    new.release(remove=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["folder", "link", "below/file"])
def test_what_cannot_be_locked(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match=r"rror|annot|No such|Is a|Too many"):
        Lock(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()


def test_a_system_without_locks_says_so(tmp_path, train, monkeypatch):
    monkeypatch.setattr("zoo.locks.fcntl", None)
    said = []
    train("ae", tmp_path / "run", report=said.append)
    assert {"warning": f"the file system of {tmp_path / 'run'} has no locks: start no second run "
            "there"} in said  # fmt: skip


# -- other data, other settings ------------------------------------------------------------------


def stopped(train, out, **more):
    def stop(line):
        if line.get("epoch") == 1 and "step" not in line:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped):
        train("ae", out, report=stop, **more)


CHANGES = {
    "the settings": ({"settings": {"lr": 0.5}}, r"its recipe is \{'lr': .*\}, now \{'lr': 0.5\}"),
    "the seed": ({"seed": 5}, "its seed is 0, now 5"),
    "the config": (
        {"config": {"hidden": 9, "latent_dim": 4}},
        r"its config is \{'hidden': 8\}, now",
    ),
    "the data": ({"data": "usps", "data_dir": None}, "its data are 300 images of mnist, now"),
}


@pytest.mark.parametrize("finished", [False, True], ids=["stopped", "finished"])
def test_a_run_of_something_else_is_refused(tmp_path, train, pictures, finished):
    run = tmp_path / "run"
    if finished:
        train("ae", run)
    else:
        stopped(train, run)
    before = contents(run)
    del before[os.fsencode(run / MANIFEST)]  # which process has it
    for what, (more, said) in CHANGES.items():
        if what == "the data":
            more = {"data": str(pictures(20)), "data_dir": None, "settings": {"batch_size": 32}}
        with pytest.raises(TrainingError, match=f"is of another run: {said}"):
            train("ae", run, resume=True, **more)
    with pytest.raises(TrainingError, match="is of another run: its model is 'ae', now 'deep_ae'"):
        train("deep_ae", run, resume=True)
    assert kept(before, run)
    assert train("ae", run, resume=True) == run / "weights"


@pytest.fixture
def pictures(tmp_path):
    """``pictures(n, name)``: a folder of n pictures, in two classes."""
    from PIL import Image

    from zoo.sample import sample

    def make(count, name="photos"):
        folder = tmp_path / name
        for i, pixels in enumerate(sample()[0][:count]):
            (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / "ab"[i % 2] / f"{i:03}.png")
        return folder

    return make


@pytest.mark.parametrize("memory", [None, 1000], ids=["in memory", "in files"])
def test_other_pictures_of_the_same_name_and_number(tmp_path, train, pictures, memory):
    from PIL import Image

    folder, run = pictures(90), tmp_path / "run"
    more = {"data": str(folder), "data_dir": None, "memory": memory}
    stopped(train, run, **more)
    kept_picture = (folder / "a" / "004.png").read_bytes()
    Image.new("L", (28, 28), 9).save(folder / "a" / "004.png")
    with pytest.raises(TrainingError) as caught:
        train("ae", run, resume=True, **more)
    assert (
        "its data are 90 images of photos, now 90 of photos: the first that differs is number 3"
        in str(caught.value)
    )
    (folder / "a" / "004.png").write_bytes(kept_picture)
    (folder / "a" / "004.png").rename(folder / "b" / "004.png")
    with pytest.raises(TrainingError, match="number 3"):
        train("ae", run, resume=True, **more)
    (folder / "b" / "004.png").unlink()
    with pytest.raises(TrainingError, match="its data are 90 images of photos, now 89 of photos"):
        train("ae", run, resume=True, **more)
    (folder / "a" / "004.png").write_bytes(kept_picture)
    moved = folder.rename(tmp_path / "moved")
    train("ae", run, resume=True, **{**more, "data": str(moved)})


def test_other_labels(tmp_path, train, pictures):
    import numpy as np

    from zoo.sample import sample

    images, labels = sample()
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    more = {"data": str(tmp_path / "set.npz"), "data_dir": None}
    stopped(train, tmp_path / "run", **more)
    np.savez(tmp_path / "set.npz", images=images, labels=labels[::-1])
    with pytest.raises(TrainingError, match="300 images of set, now 300 of set: the labels differ"):
        train("ae", tmp_path / "run", resume=True, **more)


def test_the_first_difference_in_a_large_set():
    from zoo.data.fingerprint import difference, digest, fingerprint

    class Data:
        def __init__(self, images, name="set"):
            self.images, self.labels, self.name = images, None, name

        def __len__(self):
            return len(self.images)

    images = torch.zeros(1000, 1, 2, 2, dtype=torch.uint8)
    before = fingerprint(Data(images))
    images[234] = 1
    now = fingerprint(Data(images))
    assert difference(before, now).endswith("the first that differ are among numbers 231 to 240")
    assert digest(before) != digest(now)
    assert digest(now) == digest(fingerprint(Data(images.clone(), "moved")))
    wide = fingerprint(Data(images.reshape(1000, 1, 1, 4)))
    assert difference(now, wide).endswith("they are [1, 2, 2] (C, H, W), now [1, 1, 4]")


def test_a_run_inside_its_own_data(tmp_path, train, pictures):
    """It counts neither its own pictures nor its other files, when it goes on or later."""
    from zoo.data import load_data
    from zoo.listing import list_folder

    folder = pictures(70)
    more = {"data": str(folder), "data_dir": None}
    for i, out in enumerate((folder, folder / "runs" / "one")):
        stopped(train, out, **more)
        assert (out / "pictures" / "reconstruction-0001.png").exists()
        weights = train("ae", out, resume=True, **more)
        training = json.loads((weights / "config.json").read_text())["training"]
        assert (training["images"] + training["validation"], training["skipped"]) == (70, 0)
        data = load_data(str(folder), "train", zoo.create("ae").preprocessing)
        assert (len(data), data.classes, data.skipped) == (70, ("a", "b"), [])
        listing = list_folder(folder)
        assert len(listing.names) == 70
        assert f"{out.relative_to(folder) / 'losses.png'}" in listing.of_runs
        assert f"{out.relative_to(folder) / 'weights' / 'README.png'}" in listing.of_runs
        assert any("files of training runs left out" in note for note in listing.notes)
        assert len(listing.of_runs) > 10 * (i + 1)
    (folder / "pictures" / "mine.png").write_bytes(b"")
    assert "pictures/mine.png" in list_folder(folder).names, "what the user adds is the user's"
