"""Kills runs of real processes at random moments, resumes them, and compares every bit.

Each run is killed once with SIGKILL: half of them, which write a checkpoint after every step, in
the middle of writing one, the others anywhere, mostly in the middle of an epoch. Then it is resumed
to its end, and its tensors are held against those of the same run left alone. Exit code 0 when all
of them are the same.

    python benchmarks/kills.py --kills 20
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ZOO = [sys.executable, "-c", "from zoo.cli import main; main()"]
RUNS = {
    "deep_ae": ["--epochs", "12"],
    "dcgan": ["--epochs", "3", "--set", "encoder_epochs=3", "--config", "width=16"],
}


def command(model: str, data: Path, out: Path, every: float) -> list[str]:
    return [
        *ZOO, "train", model, "--data", "mnist", "--data-dir", str(data), "--out", str(out),
        "--device", "cpu", "--set", "batch_size=32", "--checkpoint-every", str(every), *RUNS[model],
    ]  # fmt: skip


def digest(out: Path) -> str:
    return hashlib.sha256((out / "weights" / "model.safetensors").read_bytes()).hexdigest()


def half_written(out: Path) -> list[Path]:
    return list((out / "unfinished").glob(".zoo-*.tmp"))


def kill(process: subprocess.Popen, out: Path, rng: random.Random, every: float) -> str:
    """Kill ``process`` at some moment after its first checkpoint; returns what it was doing."""
    while process.poll() is None and not (out / "checkpoint.safetensors").exists():
        time.sleep(0.005)
    until = time.monotonic() + rng.uniform(0, 3)
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.005)
    # Those that write after every step are met while a checkpoint is half written.
    while not every and process.poll() is None and not half_written(out):
        pass
    process.kill()
    process.wait()
    halves = half_written(out)  # what a kill in the middle leaves
    if (out / "weights").exists():
        return "after its end"
    return "writing a checkpoint" if halves else "in an epoch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        from zoo.sample import sample

        images, labels = sample()
        names = ("train_images", "train_labels", "test_images", "test_labels")
        parts = dict(zip(names, (images, labels) * 2, strict=True))
        np.savez(folder / "mnist.npz", **parts)
        expected = {}
        for model in RUNS:
            out = folder / f"{model}.whole"
            subprocess.run(command(model, folder, out, 60), check=True, **quiet)
            expected[model] = digest(out)
        for i in range(arguments.kills):
            model, every = list(RUNS)[i % 2], 0.0 if i // 2 % 2 == 0 else 0.3
            out = folder / f"{model}.{i}"
            process = subprocess.Popen(command(model, folder, out, every), **quiet)
            doing = kill(process, out, rng, every)
            log = out / "log.jsonl"
            epochs = len(log.read_text().splitlines()) if log.exists() else 0
            resumed = subprocess.run([*command(model, folder, out, every), "--resume"], **quiet)
            same = resumed.returncode == 0 and digest(out) == expected[model]
            rows.append({"model": model, "killed": doing, "epochs_done": epochs, "same": same})
            if not arguments.json:
                print(f"{i + 1:3}  {model:8} killed {doing:22} after {epochs:2} epochs  "
                      f"{'the same bits' if same else 'DIFFERENT'}", flush=True)  # fmt: skip
                if resumed.returncode:
                    print(resumed.stderr.decode()[-2000:])
    same = sum(row["same"] for row in rows)
    if arguments.json:
        print(json.dumps({"same": same, "kills": len(rows), "runs": rows}, indent=2))
    else:
        print(f"{same} of {len(rows)} resumed to the same bits")
    sys.exit(0 if same == len(rows) else 1)


if __name__ == "__main__":
    main()
