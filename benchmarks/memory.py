"""Memory and speed of training on more pictures than may lie in memory.

Makes a folder of small pictures, and trains on it as anybody would, with ``zoo train``: with a
budget for the images that is too small for them, so that they lie in a file, and with enough. The
memory is what the process has more than a run on a thousand of the pictures. Prints a table, and
JSON with --json; exit code 1 when a bound is missed.

Run it on a machine that does nothing else: python benchmarks/memory.py
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ZOO = str(Path(sys.executable).with_name("zoo"))
SIZE = 32
FEW = 1000
MODEL = ["deep_ae", "--config", f"size={SIZE}", "--config", "channels=3"]
WITHIN = 0.9
"""Of the images a second in memory, at least so many from a file."""


def write_pictures(folder: str, start: int, stop: int) -> None:
    """Colour PNGs that compress about as photographs do: large soft spots and some noise."""
    rng = np.random.default_rng(start)
    for i in range(start, stop):
        spots = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        soft = np.asarray(spots.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.int16)
        noisy = soft + rng.integers(-8, 9, soft.shape, dtype=np.int16)
        path = Path(folder, f"{i // 1000:04}", f"{i:07}.png")
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, compress_level=1)


def make_folder(folder: Path, images: int) -> float:
    """Write ``images`` pictures on all cores; the seconds that it took."""
    start = time.perf_counter()
    folder.mkdir()
    with ProcessPoolExecutor() as pool:
        futures = [
            pool.submit(write_pictures, str(folder), at, min(images, at + 1000))
            for at in range(0, images, 1000)
        ]
        for future in futures:
            future.result()
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


def train(folder: Path, out: Path, memory: str, epochs: int) -> dict[str, Any]:
    """One run: its peaks of memory, its images a second in the fastest epoch, its file."""
    command = [
        *(ZOO, "train", *MODEL, "--data", str(folder), "--out", str(out), "--memory", memory),
        *("--epochs", str(epochs), "--checkpoint-every", "3600"),
    ]
    peaks = dict.fromkeys(("VmRSS", "RssAnon", "RssFile"), 0)
    cached, start = 0, time.perf_counter()
    log = out.with_suffix(".log")
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            while process.poll() is None:
                for key, value in resident(process.pid).items():
                    peaks[key] = max(peaks[key], value)
                for path in (out / "unfinished").glob("data-*.npy"):  # which is gone at the end
                    with contextlib.suppress(FileNotFoundError):
                        cached = max(cached, path.stat().st_size)
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
        "file_mb": round(cached / 1e6),
        "seconds": round(time.perf_counter() - start, 1),
    }


def measure(images: int, epochs: int, budget: int, scratch: Path) -> dict[str, Any]:
    few, many = scratch / "few", scratch / "many"
    make_folder(few, FEW)
    written = make_folder(many, images)
    # The same runs but for where the images lie.
    runs = {
        "tiny data set": train(few, scratch / "run-tiny", "1GB", epochs),
        "in a file": train(many, scratch / "run-file", f"{budget}MB", epochs),
        "in memory": train(many, scratch / "run-memory", f"{images * 3 * SIZE**2}", epochs),
    }
    decoded = round(images * 3 * SIZE**2 / 1e6)
    growth = runs["in a file"]["VmRSS_mb"] - runs["tiny data set"]["VmRSS_mb"]
    speed = runs["in a file"]["images_per_second"] / runs["in memory"]["images_per_second"]
    return {
        "images": images,
        "decoded_mb": decoded,
        "written_in_seconds": round(written, 1),
        "runs": runs,
        "bounds": [
            {"what": "MB more than a tiny data set", "value": growth, "at_most": budget,
             "met": growth <= budget},
            {"what": "images a second, file / memory", "value": round(speed, 3),
             "at_least": WITHIN, "met": speed >= WITHIN},
            {"what": "MB of images in the file", "value": runs["in a file"]["file_mb"],
             "at_least": decoded, "met": runs["in a file"]["file_mb"] >= decoded},
        ],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--memory", type=int, default=200, metavar="MB", help="for the images")
    parser.add_argument("--scratch", type=Path, help="where to put it all; a temporary folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    if arguments.images * 3 * SIZE**2 <= arguments.memory * 1e6:
        parser.error("the images would fit into --memory, which shows nothing: more of them")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        result = measure(arguments.images, arguments.epochs, arguments.memory, Path(scratch))
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    sys.exit(not all(bound["met"] for bound in result["bounds"]))


def show(result: dict[str, Any]) -> None:
    print(
        f"{result['images']:,} pictures of 32 x 32 in colour, {result['decoded_mb']} MB decoded\n"
    )
    columns = ["VmRSS_mb", "RssAnon_mb", "RssFile_mb", "file_mb", "images_per_second"]
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
