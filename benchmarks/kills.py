"""Kills runs of real processes at random moments, resumes them, and compares every bit.

Each run is killed once with SIGKILL: half of them, which write a checkpoint after every step, in
the middle of writing one, the others anywhere, mostly in the middle of an epoch. Then it is resumed
to its end, and its tensors are held against those of the same run left alone. Exit code 0 when all
of them are the same.

    python benchmarks/kills.py --kills 20
"""

import argparse
import hashlib
import io
import json
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ZOO = [sys.executable, "-c", "from zoo.cli import main; main()"]
RUNS = {
    "deep_ae": ["deep_ae", "--data", "mnist", "--epochs", "12"],
    "dcgan": ["dcgan", "--data", "mnist", "--epochs", "3", "--set", "encoder_epochs=3",
              "--config", "width=16"],
    "streamed": ["deep_ae", "--data", "shards", "--epochs", "12", "--memory", "1kB"],
}  # fmt: skip


def command(run: str, data: Path, out: Path, every: float) -> list[str]:
    model, _, name, *more = RUNS[run]
    source = name if name == "mnist" else str(data / name)
    return [
        *ZOO, "train", model, "--data", source, "--data-dir", str(data), "--out", str(out),
        "--device", "cpu", "--set", "batch_size=32", "--checkpoint-every", str(every), *more,
    ]  # fmt: skip


def make_shards(folder: Path, images: np.ndarray) -> None:
    """Tar files of the images, one of which cannot be read."""
    folder.mkdir()
    for shard, part in enumerate(np.array_split(images, 3)):
        with tarfile.open(folder / f"{shard}.tar", "w") as archive:
            for i, pixels in enumerate(part):
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "PNG")
                data = file.getvalue() if (shard, i) != (1, 5) else b"x"
                info = tarfile.TarInfo(f"{i:04}.png")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


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
    parser.add_argument("--run", action="append", choices=RUNS, help="this one alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    chosen = arguments.run or list(RUNS)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        from zoo.sample import sample

        images, labels = sample()
        names = ("train_images", "train_labels", "test_images", "test_labels")
        parts = dict(zip(names, (images, labels) * 2, strict=True))
        np.savez(folder / "mnist.npz", **parts)
        make_shards(folder / "shards", images)
        expected = {}
        for model in chosen:
            out = folder / f"{model}.whole"
            subprocess.run(command(model, folder, out, 60), check=True, **quiet)
            expected[model] = digest(out)
        for i in range(arguments.kills):
            model, every = chosen[i % len(chosen)], 0.0 if i // len(chosen) % 2 == 0 else 0.3
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
