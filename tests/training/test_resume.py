"""Runs that end early, in every way we know, go on to the very same tensors."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.errors import DataError, RunStopped, TrainingError, ZooError
from zoo.sample import sample
from zoo.training import checkpoint

MODELS = ("ae", "deep_ae", "dcgan")
COMMAND = "from zoo.cli import main; main()"


def tensors(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Stop(Exception):
    """As a crash anywhere would, this leaves a run without a last word."""


@pytest.fixture
def crash_after(monkeypatch):
    """``crash_after(n)``: the process is as good as gone after n checkpoints."""

    def arm(n):
        written = []
        write = checkpoint.write

        def counted(*args, **kwargs):
            write(*args, **kwargs)
            written.append(kwargs["position"])
            if len(written) == n:
                raise Stop

        monkeypatch.setattr(checkpoint, "write", counted)
        return written

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("model", "average"),
    [
        ("ae", 0.9),
        pytest.param("deep_ae", 0.0, marks=pytest.mark.slow),
        pytest.param("dcgan", 0.99, marks=pytest.mark.slow),
    ],
)
def test_resumed_is_bit_identical_from_any_step(
    tmp_path, train, crash_after, monkeypatch, model, average
):
    more = {"settings": {"average": average}}
    whole = tensors(train(model, tmp_path / "whole", **more))
    steps = 8  # an epoch: 285 images in batches of 32
    epochs = 4 if model == "dcgan" else 3
    # mid-epoch, the last step of an epoch, of a phase, the first of the next
    for i, after in enumerate(sorted({1, steps - 1, steps + 3, 2 * steps, epochs * steps - 1})):
        out = tmp_path / str(i)
        written = crash_after(after)
        with pytest.raises(Stop):
            train(model, out, checkpoint_every=0, **more)
        monkeypatch.undo()
        assert written[-1]["step"] == after % steps or not written[-1]["step"]
        resumed = tensors(train(model, out, resume=True, **more))
        assert same(whole, resumed), written[-1]
    log = [json.loads(t) for t in (out / "log.jsonl").read_text().splitlines()]
    first = [json.loads(t) for t in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    losses = ("sse", "hidden", "generator", "discriminator", "latent", "val_sse", "epoch", "phase")
    assert [{k: line.get(k) for k in losses} for line in log] == [
        {k: line.get(k) for k in losses} for line in first
    ], "the log of a resumed run is that of one that never stopped"


def test_unfinished_runs_are_not_overwritten(tmp_path, train, crash_after, monkeypatch):
    crash_after(3)
    with pytest.raises(Stop):
        train("ae", tmp_path / "run", checkpoint_every=0)
    monkeypatch.undo()
    with pytest.raises(TrainingError, match="holds an unfinished run; add --resume"):
        train("ae", tmp_path / "run")
    with pytest.raises(TrainingError, match=r"of another run: its recipe is .*'lr'"):
        train("ae", tmp_path / "run", resume=True, settings={"lr": 0.5})
    with pytest.raises(TrainingError, match="of another run: its seed is 0, now 5"):
        train("ae", tmp_path / "run", resume=True, seed=5)


def test_a_finished_run_stays_as_it_is(tmp_path, train):
    folder = train("ae", tmp_path / "run")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(TrainingError, match="exists already"):
        train("ae", tmp_path / "run")
    assert train("ae", tmp_path / "run", resume=True) == folder, "there is nothing left to do"
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["truncated", "nonsense", "gone"])
def test_the_checkpoint_before_a_damaged_one_is_used(tmp_path, train, crash_after, monkeypatch,
                                                     damage):  # fmt: skip
    whole = tensors(train("ae", tmp_path / "whole"))
    crash_after(12)
    with pytest.raises(Stop):
        train("ae", tmp_path / "run", checkpoint_every=0)
    monkeypatch.undo()
    path = tmp_path / "run" / checkpoint.CURRENT
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "nonsense":
        path.write_bytes(b"nonsense")
    else:
        path.unlink()
    said = []
    assert same(whole, tensors(train("ae", tmp_path / "run", resume=True, report=said.append)))
    warnings = [line["warning"] for line in said if "warning" in line]
    assert len(warnings) == (damage != "gone")
    assert all("is not a checkpoint" in text for text in warnings)


def test_no_checkpoint(tmp_path, train):
    with pytest.raises(TrainingError, match="has no checkpoint to resume from; leave out --resume"):
        train("ae", tmp_path / "run", resume=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / checkpoint.CURRENT).write_bytes(b"nonsense")
    with pytest.raises(TrainingError, match="is not a checkpoint"):
        train("ae", tmp_path / "run", resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_at_a_checkpoint(tmp_path, train, number):
    whole = tensors(train("deep_ae", tmp_path / "whole"))

    def interrupt(line):
        if "epoch" in line:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(RunStopped) as caught:
        train("deep_ae", tmp_path / "run", report=interrupt)
    assert f"stopped by {number.name} in reconstruction, epoch 2 of 3, step 1 of 8" in str(
        caught.value
    )
    assert "with --resume" in str(caught.value)
    assert signal.getsignal(number) == before
    assert not (tmp_path / "run" / "weights").exists()
    assert same(whole, tensors(train("deep_ae", tmp_path / "run", resume=True)))


@pytest.mark.slow
def test_stop_ends_a_run_at_a_checkpoint(tmp_path, train):
    """What a program's own may say, which then keeps its signals: before, between and at steps."""
    whole = tensors(train("deep_ae", tmp_path / "whole"))
    handler = signal.getsignal(signal.SIGINT)
    asked = 0

    def stop():
        nonlocal asked
        asked += 1
        assert signal.getsignal(signal.SIGINT) is handler
        return signal.SIGINT if asked in (1, 6, 14) else None

    for place in ("epoch 1 of 3, step 1", "epoch 1 of 3, step 5", "epoch 2 of 3, step 4"):
        with pytest.raises(RunStopped, match=f"stopped by SIGINT in .*{place}"):
            train("deep_ae", tmp_path / "run", stop=stop, resume=asked > 0)
    assert same(whole, tensors(train("deep_ae", tmp_path / "run", resume=True)))


def test_another_number_of_threads_is_said_and_not_set(tmp_path, train):
    with pytest.raises(RunStopped):
        train("ae", tmp_path / "run", stop=lambda: signal.SIGINT)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        said = []
        train("ae", tmp_path / "run", resume=True, report=said.append)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    (warning,) = [line["warning"] for line in said if "warning" in line]
    assert f"began with {threads} threads and goes on with {threads + 1}" in warning
    assert f"torch.set_num_threads({threads})" in warning


@pytest.mark.slow
def test_the_command_goes_on_with_the_threads_of_the_run(tmp_path, data, train):
    with pytest.raises(RunStopped):
        train("ae", tmp_path / "run", stop=lambda: signal.SIGINT)
    command = [
        sys.executable, "-c", f"import torch; torch.set_num_threads(3); {COMMAND}", "train", "ae",
        "--data", "mnist", "--data-dir", str(data), "--out", str(tmp_path / "run"), "--resume",
        "--config", "hidden=8", "--config", "latent_dim=4", "--set", "epochs=3", "--device", "cpu",
        "--set", "batch_size=32", "--set", "precision=fp32",
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert f"goes on with {torch.get_num_threads()} threads, as it began" in ran.stderr
    assert same(tensors(train("ae", tmp_path / "whole")), tensors(tmp_path / "run" / "weights"))


@pytest.mark.parametrize("model", MODELS)
def test_a_loss_that_is_not_finite_names_the_step(tmp_path, train, model, monkeypatch):
    from zoo.training.loop import PhaseOptimizers

    update, calls = PhaseOptimizers.update, []

    def poisoned(self, player, loss):
        calls.append(player)
        update(self, player, loss * (float("nan") if len(calls) == 11 else 1))

    monkeypatch.setattr(PhaseOptimizers, "update", poisoned)
    with pytest.raises(TrainingError) as caught:
        train(model, tmp_path / "run", checkpoint_every=0)
    text = str(caught.value)
    assert "no longer finite" in text
    # the game has two updates a step; a NaN shows in the tensors after its own step
    step = 6 if model == "dcgan" else 3
    assert f"epoch {1 if model == 'dcgan' else 2}, step {step} of 8" in text
    assert f"The last good checkpoint is {tmp_path / 'run' / checkpoint.CURRENT}" in text
    assert "Try a lower rate" in text
    saved, problem = checkpoint.read(tmp_path / "run")
    assert not problem
    assert all(bool(torch.isfinite(t).all()) for t in saved.tensors.values())


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"mounting needs more rights: {done.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk(small_disk, train):
    filler = small_disk / "filler"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize

    def fill(line):
        left = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        if line.get("epoch") == 1 and "step" not in line:
            filler.write_bytes(b"x" * (left - 4096))

    assert free > 1_500_000
    run = small_disk / "run"
    with pytest.raises(TrainingError) as caught:
        train("ae", run, report=fill, checkpoint_every=0)
    assert "can no longer be written: No space left on device" in str(caught.value)
    assert "make room" in str(caught.value)
    assert not [p for p in run.rglob("*") if ".tmp" in p.name], "nothing half-written"
    assert not (run / "weights").exists()
    filler.unlink()
    train("ae", run, resume=True)
    assert same(tensors(run / "weights"), tensors(train("ae", small_disk / "again")))


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def command(model, data, out):
    small = {
        "deep_ae": ["--epochs", 12, "--config", "hidden=[64,32]"],
        "dcgan": ["--epochs", 3, "--set", "encoder_epochs=2", "--config", "width=4"],
    }
    return [
        *("train", model, "--data", "mnist", "--data-dir", data, "--out", out, "--device", "cpu"),
        *("--set", "batch_size=16", "--checkpoint-every", 0, *small[model]),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["deep_ae", "dcgan"])
def test_sigkill(tmp_path, data, model):
    """A real kill of a real process, anywhere; benchmarks/kills.py does twenty."""
    whole = start(*command(model, data, tmp_path / "whole"))
    for sooner in (1, 4, 16, 64):  # than a fast machine ends the run
        run = tmp_path / f"run{sooner}"
        killed = start(*command(model, data, run))
        while killed.poll() is None and not (run / checkpoint.CURRENT).exists():
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.5) / sooner)
        killed.kill()
        killed.communicate()
        if killed.returncode == -signal.SIGKILL:
            break
    assert killed.returncode == -signal.SIGKILL
    assert not (run / "weights" / "config.json").exists()
    resumed = start(*command(model, data, run), "--resume")
    for process in (whole, resumed):
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert same(tensors(tmp_path / "whole" / "weights"), tensors(run / "weights"))
    assert not list(run.rglob(".zoo-*")), "what the kill left half written is gone"


@pytest.mark.slow
def test_ctrl_c_on_the_command_line(tmp_path, data):
    run = tmp_path / "run"
    process = start(*command("deep_ae", data, run))
    while process.poll() is None and not (run / checkpoint.CURRENT).exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 130, errors
    assert out == ""
    assert "stopped by SIGINT in reconstruction, epoch" in errors
    assert errors.strip().endswith("To go on, type the same command with --resume")
    assert "Traceback" not in errors


@pytest.fixture(scope="module")
def valid(tmp_path_factory, train):
    folder = tmp_path_factory.mktemp("valid")
    train("ae", folder / "run")
    run = folder / "run"
    return (run / checkpoint.CURRENT).read_bytes(), (run / "run.json").read_bytes()


class NoPickle:
    """Unpickling anything fails the test."""

    def __enter__(self):
        import pickle

        self.kept = pickle.Unpickler, pickle.loads
        pickle.Unpickler = pickle.loads = None

    def __exit__(self, *_):
        import pickle

        pickle.Unpickler, pickle.loads = self.kept


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_checkpoint_file_is_read_or_refused(tmp_path_factory, train, valid, data):
    """Whatever lies there: it goes on, or one typed error says so."""
    out = tmp_path_factory.mktemp("fuzz")
    checkpointed, manifest = valid
    header = int.from_bytes(checkpointed[:8], "little")
    kind = data.draw(st.sampled_from(["cut", "flip", "header"]))
    if kind == "cut":
        raw = checkpointed[: data.draw(st.integers(0, len(checkpointed) - 1))]
    elif kind == "flip":
        at = data.draw(st.integers(0, header + 8))
        raw = (
            checkpointed[:at]
            + bytes([checkpointed[at] ^ data.draw(st.integers(1, 255))])
            + checkpointed[at + 1 :]
        )
    else:
        names = json.loads(checkpointed[8 : 8 + header])
        run = json.loads(names["__metadata__"]["run"])
        part = data.draw(st.sampled_from([*run, "run"]))
        if part == "run":
            run = data.draw(json_values)
        elif data.draw(st.booleans()) and isinstance(run[part], dict) and run[part]:
            run[part][data.draw(st.sampled_from(sorted(run[part])))] = data.draw(json_values)
        else:
            run[part] = data.draw(json_values)
        names["__metadata__"]["run"] = json.dumps(run)
        text = json.dumps(names).encode()
        raw = len(text).to_bytes(8, "little") + text + checkpointed[8 + header :]
    (out / checkpoint.CURRENT).write_bytes(raw)
    (out / "run.json").write_bytes(manifest)
    with NoPickle(), contextlib.suppress(ZooError):
        train("ae", out, resume=True)


@pytest.mark.parametrize("kind", ["folder", "pictures.npz"])
def test_vanished_data(tmp_path, train, kind):
    """A run that goes on wants its data back, and then is the same.

    A run that reads on in a folder ends at a checkpoint; an archive is decoded once.
    """
    pictures, away = tmp_path / kind, tmp_path / "away"
    if kind == "folder":
        pictures.mkdir()
        for i, pixels in enumerate(sample()[0][:120]):
            Image.fromarray(pixels).save(pictures / f"{i}.png")
    else:
        np.savez(pictures, images=sample()[0][:120])
    # so little memory that the images of the archive lie in a file of the run
    more = {"data": str(pictures), "data_dir": None, "memory": 1000}
    whole = tensors(train("ae", tmp_path / "whole", **more))
    assert not list((tmp_path / "whole").rglob("data*")), "the file goes when the run is done"

    def vanish(line):
        if line.get("epoch") == 1 and "step" not in line:
            pictures.rename(away)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(DataError if kind == "folder" else RunStopped):
        train("ae", tmp_path / "run", report=vanish, **more)
    decoded = list((tmp_path / "run" / "unfinished").glob("data*.npy"))
    assert bool(decoded) == (kind != "folder")
    assert checkpoint.read(tmp_path / "run")[0].position["epoch"] == 1
    with pytest.raises(DataError, match=f"no data set '{pictures}'"):
        train("ae", tmp_path / "run", resume=True, **more)
    away.rename(pictures)
    assert same(whole, tensors(train("ae", tmp_path / "run", resume=True, **more)))
