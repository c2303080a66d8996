"""Memory and speed of training on more pictures than may lie in memory.

Makes tar files of small pictures, and trains on them as anybody would, with ``zoo train``: with so
little memory for the images that they are decoded on the way, with enough for all, and with so
little on the first ten thousand alone, for what grows with their number. Prints a table, and JSON
with --json; exit code 1 when a bound is missed.

Decoding and steps share the processors here, so what streaming costs depends on how long a step
takes: --model chooses it.

Run it on a machine that does nothing else: python benchmarks/memory.py
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ZOO = str(Path(sys.executable).with_name("zoo"))
SIZE = 32
FEW, SHARD, MADE = 10_000, 5000, 10
CONFIG = ["--config", f"size={SIZE}", "--config", "channels=3"]
GROWTH = 150
"""MB that a run may have more on all of the pictures: two windows of images among them."""
WITHIN = 0.9
"""Of the images a second in memory, at least so many when they are decoded on the way."""


def write_shard(path: str, start: int, stop: int) -> None:
    """Colour PNGs that compress about as photographs do: large soft spots and some noise."""
    rng = np.random.default_rng(start)
    with tarfile.open(path, "w") as archive:
        for i in range(start, stop):
            spots = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            soft = np.asarray(spots.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.int16)
            noisy = soft + rng.integers(-8, 9, soft.shape, dtype=np.int16)
            file = io.BytesIO()
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "PNG", compress_level=1)
            info = tarfile.TarInfo(f"{i:07}.png")
            info.size = file.tell()
            file.seek(0)
            archive.addfile(info, file)


def make_shards(folder: Path, images: int) -> float:
    """Write ``images`` pictures into tar files on all cores; the seconds that it took.

    The pictures of the first few files come again in the others: these are read all the same.
    """
    start = time.perf_counter()
    folder.mkdir()
    starts = range(0, images, SHARD)
    with ProcessPoolExecutor() as pool:
        futures = [
            pool.submit(write_shard, f"{folder}/{at:07}.tar", at, min(images, at + SHARD))
            for at in (*starts[:MADE], *starts[MADE:][-1:])  # the last one may be shorter
        ]
        for future in futures:
            future.result()
    for i, at in enumerate(starts[MADE:-1]):
        shutil.copyfile(f"{folder}/{starts[i % MADE]:07}.tar", f"{folder}/{at:07}.tar")
    return time.perf_counter() - start


def resident(pid: int) -> dict[str, int]:
    """Bytes of memory that a process and its children have, by kind."""
    found = dict.fromkeys(("VmRSS", "RssAnon", "RssFile"), 0)
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in found:
                found[key] = 1024 * int(value.split()[0])
        for child in children.read_text().split():
            for key, value in resident(int(child)).items():
                found[key] += value
    except OSError:  # it has just ended
        pass
    return found


def train(model: str, folder: Path, out: Path, memory: str, epochs: int) -> dict[str, Any]:
    """One run: its peaks of memory, its images a second in the fastest epoch."""
    command = [
        *(ZOO, "train", model, *CONFIG),
        *("--data", str(folder), "--out", str(out), "--memory", memory),
        *("--epochs", str(epochs), "--checkpoint-every", "3600"),
    ]
    peaks = dict.fromkeys(("VmRSS", "RssAnon", "RssFile"), 0)
    start = time.perf_counter()
    log = out.with_suffix(".log")
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            while process.poll() is None:
                for key, value in resident(process.pid).items():
                    peaks[key] = max(peaks[key], value)
                time.sleep(0.05)
        finally:
            process.kill()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{log.read_text()}")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    speeds = [line["images_per_second"] for line in lines if "images_per_second" in line]
    return {
        **{f"{key}_mb": round(value / 1e6) for key, value in peaks.items()},
        "images_per_second": max(speeds),
        "seconds": round(time.perf_counter() - start, 1),
    }


def measure(model: str, images: int, epochs: int, scratch: Path) -> dict[str, Any]:
    few, many = scratch / "few", scratch / "many"
    make_shards(few, min(FEW, images // 2))
    written = make_shards(many, images)
    # The same runs but for where the images lie.
    runs = {
        "few, streamed": train(model, few, scratch / "run-few", "1MB", epochs),
        "streamed": train(model, many, scratch / "run-streamed", "1MB", epochs),
        "in memory": train(model, many, scratch / "run-memory", f"{images * 3 * SIZE**2}", epochs),
    }
    growth = runs["streamed"]["VmRSS_mb"] - runs["few, streamed"]["VmRSS_mb"]
    speed = runs["streamed"]["images_per_second"] / runs["in memory"]["images_per_second"]
    return {
        "model": model,
        "images": images,
        "decoded_mb": round(images * 3 * SIZE**2 / 1e6),
        "written_in_seconds": round(written, 1),
        "runs": runs,
        "bounds": [
            {"what": "MB more than on few", "value": growth, "at_most": GROWTH,
             "met": growth <= GROWTH},
            {"what": "images a second, streamed / memory", "value": round(speed, 3),
             "at_least": WITHIN, "met": speed >= WITHIN},
        ],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--model", default="simclr", help="whose steps take some time")
    parser.add_argument("--scratch", type=Path, help="where to put it all; a temporary folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    if arguments.images < 2000:
        parser.error("fewer images than 2,000 show nothing")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        result = measure(arguments.model, arguments.images, arguments.epochs, Path(scratch))
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    sys.exit(not all(bound["met"] for bound in result["bounds"]))


def show(result: dict[str, Any]) -> None:
    print(
        f"{result['images']:,} pictures of 32 x 32 in colour, {result['decoded_mb']} MB decoded\n"
    )
    columns = ["VmRSS_mb", "RssAnon_mb", "RssFile_mb", "images_per_second"]
    print(f"{'':16}" + "".join(f"{column:>19}" for column in columns))
    for name, run in result["runs"].items():
        print(f"{name:16}" + "".join(f"{run[column]:>19,}" for column in columns))
    print()
    for bound in result["bounds"]:
        limit = f"<= {bound['at_most']}" if "at_most" in bound else f">= {bound['at_least']}"
        met = "met" if bound["met"] else "MISSED"
        print(f"{bound['what']:34}{bound['value']:>9,}  {limit:10}{met}")


if __name__ == "__main__":
    main()
