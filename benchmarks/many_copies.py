"""A collection of very many real files, whose copies are known, made by processes that are killed.

    python benchmarks/many_copies.py DRAWINGS --files 200000

Pictures below DRAWINGS, at most 256 pixels large, get all kinds of copies of benchmarks/copies.py,
until that is half of the files; CIFAR-10's photographs (ZOO_DATA_DIR) get two each, of kinds drawn
at random, until there are so many files at least. Then, as anybody would:

index        killed with SIGKILL after a third and after two thirds of the files, and run again.
             Each file has to be in the collection once, with the hash of its content, and features
             of a sample have to be those that the model gives of the file.
group        killed once in the middle, and run again. The share of pictures of a drawing's copies
             that lie in the group of most of them, in the layer "middle".
duplicates   recall is the share of copies in one set with their original, precision the share of
             pairs of a set that are of one original. A plain drawing that was turned is another one
             to zoo, as its documentation says, so that these are counted apart. Drawings that
             are the same file are one original; other copies that nobody knows count as wrong.

Seconds are the clock's and the processors', of all runs; MB is the most that was resident.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np
from collection_peers import judged, sets_of, small_ones
from copies import TURNS, copies, upright
from memory import resident
from PIL import Image

import zoo
from zoo.collection.finding import features_of

ZOO = str(Path(sys.executable).with_name("zoo"))
LARGEST, NARROWEST = 256, 16
FEW = 2
SAMPLE = 500

Made = list[tuple[str, str, str]]  # original, file, kind of copy; "" of the original


def write_some(paths: list[Path], start: int, out: Path, few: int | None) -> Made:
    """The originals and their copies, all or a few of them; ``start`` numbers the first."""
    made = []
    for number, path in enumerate(paths, start):
        try:
            image = upright(path)
        except Image.DecompressionBombError as error:
            print(f"left out: {path}: {error}", file=sys.stderr)
            continue
        image.thumbnail((LARGEST, LARGEST))
        if min(image.size) < NARROWEST:
            print(f"left out, too narrow: {path}", file=sys.stderr)
            continue
        original = out / f"{number:06}.png"
        image.save(original)
        made.append((str(original), str(original), ""))
        kinds = list(copies(image, number))
        if few is not None:
            kinds = random.Random(number).sample(kinds, few)
        for kind, ending, data in kinds:
            copy = out / f"{number:06}-{kind.replace(' ', '_').replace(',', '')}{ending}"
            copy.write_bytes(data)
            made.append((str(original), str(copy), kind))
    return made


def write(paths: list[Path], out: Path, few: int | None, part: int = 250) -> Made:
    """The same on all cores, in folders of ``part`` originals each."""
    jobs = []
    with ProcessPoolExecutor() as pool:
        for start in range(0, len(paths), part):
            folder = out / f"{start // part:04}"
            folder.mkdir(parents=True)
            jobs.append(pool.submit(write_some, paths[start : start + part], start, folder, few))
        return [each for job in jobs for each in job.result()]


def make(drawings: Path, out: Path, files: int) -> Made:
    """Drawings and their copies, half of ``files`` at most; then photographs until there are so
    many at least."""
    found = sorted(path for path in drawings.rglob("*") if path.suffix in (".png", ".jpg"))
    kinds = len(list(copies(Image.new("RGB", (32, 32)))))
    found = random.Random(0).sample(found, min(len(found), files // 2 // (1 + kinds)))
    made = write(found, out / "drawings", None)
    missing = -(-max(0, files - len(made)) // (1 + FEW))
    with tempfile.TemporaryDirectory() as scratch:
        photographs, _ = small_ones(Path(scratch), missing)
        made += write(photographs, out / "photographs", FEW)
    if len(made) < files:
        print(
            f"{len(made):,} files instead of {files:,}: there are {len(photographs):,} "
            f"photographs of {missing:,} that are wanted. cifar10.npz is looked for in "
            f"ZOO_DATA_DIR, which is {os.environ.get('ZOO_DATA_DIR', '')!r}",
            file=sys.stderr,
        )
    return made


def rows(collection: Path) -> int:
    """How many rows the files of a collection that is being made have by now."""
    return sum(np.load(path, mmap_mode="r").shape[0] for path in collection.glob("small-*.npy"))


def run(
    command: list[str], kill: Callable[[float], bool] = lambda seconds: False
) -> dict[str, Any]:
    """A command to its end, or until ``kill``, asked with its seconds, says so."""
    before, began, most = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=errors)
        killed = False
        while process.poll() is None:
            most = max(most, resident(process.pid)["VmRSS"])
            if not killed and kill(time.perf_counter() - began):
                process.send_signal(signal.SIGKILL)
                killed = True
            time.sleep(0.05)
        if process.returncode not in ((0, -signal.SIGKILL) if killed else (0,)):
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{errors.read().decode()[-2000:]}")
        printed.seek(0)
        output = printed.read().decode()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "processor": spent, "MB": most / 1e6, "output": output}


def total(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "runs": len(runs),
        "seconds": round(sum(each["seconds"] for each in runs), 1),
        "processor": round(sum(each["processor"] for each in runs), 1),
        "MB": round(max(each["MB"] for each in runs)),
    }


def index(model: str, folder: Path, collection: Path, files: int) -> dict[str, Any]:
    command = [ZOO, "index", model, str(folder), "--out", str(collection)]
    runs = [
        run(command, lambda _, least=share * files: rows(collection) >= least)
        for share in (1 / 3, 2 / 3)
    ]
    before = rows(collection)
    return {**total([*runs, run(command)]), "rows before the last run": before}


def compared(collection: zoo.Collection, made: Made) -> dict[str, Any]:
    """The collection against the files themselves."""
    pictures = collection.pictures()
    here = Counter(pictures.paths)
    right = sum(
        hashlib.sha256(Path(path).read_bytes()).hexdigest() == known
        for path, known in zip(pictures.paths, pictures.hashes, strict=True)
    )
    model, chosen = (
        collection.model(),
        random.Random(0).sample(range(len(pictures)), min(SAMPLE, len(pictures))),
    )
    anew = np.stack([features_of(model, Path(pictures.paths[i])) for i in chosen])
    far = np.abs(anew - np.asarray(collection.features()[chosen], np.float32)).max()
    return {
        "files": len(made),
        "not there": sum(file not in here for _, file, _ in made),
        "twice": sum(count > 1 for count in here.values()),
        "of another hash": len(pictures) - right,
        f"farthest feature of {SAMPLE}, of the largest": float(far / np.abs(anew).max()),
    }


def group(collection: Path, made: Made) -> dict[str, Any]:
    """Killed after ten seconds, by when it compares pictures."""
    command = [ZOO, "group", str(collection)]
    runs = [run(command, lambda seconds: seconds > 10), run(command)]
    opened = zoo.Collection(collection)
    layer = next(each for each in opened.groups() if each.name == "middle")
    of = dict(zip(opened.pictures().paths, layer.labels.tolist(), strict=True))
    together: dict[str, list[int]] = {}
    for original, file, _ in made:
        if "/drawings/" in original:
            together.setdefault(original, []).append(of[file])
    most = [Counter(each).most_common(1)[0][1] for each in together.values()]
    return {
        **total(runs),
        "groups": len(set(of.values()) - {-1}),
        "copies with most of their drawing": round(sum(most) / sum(map(len, together.values())), 4),
    }


def origins(made: Made) -> dict[str, str]:
    """Of each file its original, of several that are the same file the first."""
    first: dict[str, str] = {}
    one = {
        file: first.setdefault(hashlib.sha256(Path(file).read_bytes()).hexdigest(), file)
        for _, file, kind in made
        if not kind
    }
    return {file: one[original] for original, file, _ in made}


def by_kind(recall: dict[str, float]) -> dict[str, float]:
    """Without what is of each folder."""
    return {name: share for name, share in recall.items() if not name.startswith("of ")}


def duplicates(collection: Path, made: Made) -> dict[str, Any]:
    ended = run([ZOO, "duplicates", str(collection), "--json"])
    sets = sets_of(zoo.Collection(collection))  # as the command has kept them
    origin = origins(made)
    kinds = {file: kind for _, file, kind in made if kind}
    turned = {file for file, kind in kinds.items() if kind in (*TURNS, "turned, cropped, smaller")}
    parts = {
        "drawings as they lie": {file for file in kinds if "/drawings/" in file} - turned,
        "drawings turned": {file for file in kinds if "/drawings/" in file} & turned,
        "photographs": {file for file in kinds if "/photographs/" in file},
    }
    recall = {
        name: by_kind(judged(sets, origin, {file: kinds[file] for file in part})["recall"])
        for name, part in parts.items()
        if part
    }
    found = judged(sets, origin, kinds)
    return {
        **total([ended]), "sets": len(sets), "recall": found["recall"]["all"],
        "precision": found["precision"], "parts": recall,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("drawings", type=Path, help="a folder of pictures")
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--model", default="simclr.general")
    parser.add_argument("--folder", type=Path, help="where to put it all; a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        pictures, collection = (
            Path(scratch).resolve() / each for each in ("pictures", "collection")
        )
        began = time.perf_counter()
        made = make(given.drawings, pictures, given.files)
        steps: list[tuple[str, Callable[[], dict[str, Any]]]] = [
            ("index", lambda: index(given.model, pictures, collection, len(made))),
            ("compared", lambda: compared(zoo.Collection(collection), made)),
            ("group", lambda: group(collection, made)),
            ("duplicates", lambda: duplicates(collection, made)),
        ]
        print(json.dumps({"make": {"seconds": round(time.perf_counter() - began, 1)}}), flush=True)
        for name, step in steps:
            print(json.dumps({name: step()}, indent=2), flush=True)


if __name__ == "__main__":
    main()
