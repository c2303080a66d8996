"""Several processes that train together (gloo, on the CPU)."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch

import zoo
from zoo.model import Step

NARROW = ["--config", "hidden=[64,32]"]


def command(model, data, out, *more):
    return [
        *("-m", "zoo.cli", "train", model, "--data", "mnist", "--data-dir", data, "--out", out),
        *("--device", "cpu", "--set", "batch_size=32", "--set", "precision=fp32", *more),
    ]


def torchrun(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
         *map(str, arguments)],
        capture_output=True, text=True, timeout=100, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def losses(out):
    lines = [json.loads(text) for text in (out / "log.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if isinstance(v, float) and "seconds" not in k}
        for line in lines
    ]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path, data):
    """deep_ae, 56 steps: the same batches in halves, gradients averaged.

    A checkpoint is due at every step: only one of them knows, and none may wait for another.
    """
    more = ["--epochs", 7, "--checkpoint-every", 0, *NARROW]
    together = torchrun(*command("deep_ae", data, tmp_path / "two", *more))
    assert together.returncode == 0, together.stderr
    assert "2 x cpu" in together.stderr
    assert together.stdout.count("trained on") == 1, "one of them speaks"
    alone = subprocess.run(
        [sys.executable, *map(str, command("deep_ae", data, tmp_path / "one", *more))],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 7
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert abs(a[name] - b[name]) <= 1e-4 * max(1, abs(a[name])), name
    kinds = [
        {str(p.relative_to(out)) for p in out.rglob("*") if "tfevents" not in p.name}
        for out in (tmp_path / "one", tmp_path / "two")
    ]
    assert kinds[0] == kinds[1]


@pytest.mark.slow
def test_a_gan_among_two(tmp_path, data):
    out = tmp_path / "run"
    more = ["--epochs", 2, "--set", "encoder_epochs=1", "--config", "width=4"]
    done = torchrun(*command("dcgan", data, out, *more))
    assert done.returncode == 0, done.stderr
    model = zoo.load(f"local-dir:{out}")
    assert model.generate(2, seed=0).shape == (2, 1, 28, 28)
    config = json.loads((out / "weights" / "config.json").read_text())
    assert config["training"]["processes"] == 2
    assert safetensors.torch.load_file(out / "weights" / "model.safetensors")


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared(tmp_path, data):
    done = torchrun(*command("ae", data, tmp_path / "run", "--set", "batch_size=33"))
    assert done.returncode != 0
    assert "a batch of 33 cannot be shared by 2 processes: --set batch_size=32" in done.stderr


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_companion_ends_the_other(tmp_path, data, victim):
    """Without a launcher that would end it: the message is the process's own."""
    out, port = tmp_path / "run", str(free_port())
    train = command("deep_ae", data, out, "--epochs", 100_000, *NARROW)
    pair = [
        subprocess.Popen(
            [sys.executable, *map(str, train)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                 "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                 "OMP_NUM_THREADS": "1"},
        )
        for rank in (0, 1)
    ]  # fmt: skip
    try:
        while all(p.poll() is None for p in pair) and not (out / "log.jsonl").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        assert [p.poll() for p in pair] == [None, None]
        pair[victim].kill()
        start = time.monotonic()
        _, errors = pair[1 - victim].communicate(timeout=60)
        assert time.monotonic() - start < 60
        assert pair[1 - victim].returncode == 2, errors
        assert "another process of this run is gone" in errors
        assert "Start all of them again with --resume" in errors
    finally:
        for process in pair:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_processes_are_refused_together(tmp_path, data):
    """The first one looks what is in the folder and holds its lock; none waits for it in vain."""
    from zoo.locks import Lock

    out = tmp_path / "run"
    out.mkdir()
    (out / "recipe.json").write_text("mine")
    done = torchrun(*command("ae", data, out, "--epochs", 1))
    assert done.returncode != 0
    assert f"{out} holds recipe.json already, which no run wrote" in done.stderr
    assert "Traceback" not in done.stderr.partition("torch/distributed")[0]
    assert [p.name for p in out.iterdir()] == ["recipe.json"]
    (out / "recipe.json").rename(tmp_path / "recipe.json")
    lock = Lock(out / "run.lock")
    done = torchrun(*command("ae", data, out, "--epochs", 1))
    assert done.returncode != 0
    assert f"a run is under way in {out}: another process writes there" in done.stderr
    lock.release()
    done = torchrun(*command("ae", data, out, "--epochs", 1))
    assert done.returncode == 0, done.stderr
    done = torchrun(*command("ae", data, out, "--epochs", 1, "--seed", 3), "--resume")
    assert "is of another run: its seed is 0, now 3" in done.stderr
    assert done.returncode != 0
    done = torchrun(*command("ae", data, out, "--epochs", 1), "--resume")
    assert done.returncode == 0, done.stderr


EXCHANGE = """
import atexit, json, sys
import torch
# Called last: what was registered later comes before.
atexit.register(lambda: print(f"joined: {torch.distributed.is_initialized()}", flush=True))
from zoo.model import Step
from zoo.training.processes import Together, processes_on
accelerator = processes_on("cpu")
rank = accelerator.process_index
step = Step(torch.zeros(0), None, processes=Together(accelerator))
own = torch.tensor([[1.0 + rank, 10.0 + rank]])
got = {
    "gather": step.gather(own), "sum": step.reduce(own, "sum"), "mean": step.reduce(own),
    "broadcast": step.broadcast(own), "own": own,
}
with open(f"{sys.argv[1]}/{rank}.json", "w") as file:
    json.dump({name: tensor.tolist() for name, tensor in got.items()}, file)
"""


@pytest.mark.slow
def test_what_a_step_exchanges(tmp_path):
    """The same answer in both processes, in the order of their ranks; each keeps its own tensor."""
    (tmp_path / "exchange.py").write_text(EXCHANGE)
    done = torchrun(tmp_path / "exchange.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("joined: False") == 2, "gloo's threads may abort a process that ends"
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {
            "gather": [[1, 10], [2, 11]],
            "sum": [[3, 21]],
            "mean": [[1.5, 10.5]],
            "broadcast": [[1, 10]],
            "own": [[1 + rank, 10 + rank]],
        }


def test_a_process_alone_exchanges_with_itself():
    step, own = Step(torch.zeros(0), None), torch.tensor([[1.0, 10.0]])
    for answer in (
        step.gather(own),
        step.reduce(own, "sum"),
        step.reduce(own),
        step.broadcast(own),
    ):
        assert torch.equal(answer, own)
