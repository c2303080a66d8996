"""How fast a collection is made and checked, and how its memory grows with the pictures.

    python benchmarks/indexing.py speed --jpeg 20000 --png 50000
    python benchmarks/indexing.py unchanged --files 100000
    python benchmarks/indexing.py engines --jpeg 20000
    python benchmarks/indexing.py memory --few 10000 --many 200000

``speed`` compares zoo index with the slower of its two limits, measured in the same run: decoding
alone, in as many threads as there are processors, and the model alone, of images in memory. Where
both share the same processors, together they cannot be as fast as the slower one unless the other
costs little: the sum of both is shown beside it. ``processor_ms`` are the milliseconds of all
processors a picture, which other programs on the machine disturb the least: what zoo index takes
above decoding and the model is for hashing, resizing, measuring and writing.

``engines`` compares a Ray cluster of this machine alone with the machine without one, for pictures
of a megapixel. Of each engine, what a collection of one picture takes is taken off, and told beside
it: with Ray, that is until the processes have the model. ``cluster_seconds`` is the start of the
cluster before it.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MODEL = "simclr.cifar10"


def write_pictures(folder: Path, count: int, kind: str) -> None:
    """Pictures like no other: noise, smooth as photographs are, of a megapixel or of 32 pixels."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    if kind == "jpeg":
        bases = [rng.integers(0, 256, (24, 32, 3), dtype=np.uint8) for _ in range(20)]
        large = [Image.fromarray(b).resize((1152, 864), Image.Resampling.BICUBIC) for b in bases]
        encoded = [_bytes(image, "JPEG") for image in large]
        for i in range(count):  # a comment at the end makes each another content
            (folder / f"{i:06}.jpg").write_bytes(encoded[i % 20] + b"%d" % i)
        return
    pixels = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    for i, small in enumerate(pixels):
        image = Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC)
        (folder / f"{i:06}.png").write_bytes(_bytes(image, "PNG"))


def _bytes(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def seconds(call: Callable[[], Any]) -> float:
    """What a call takes, as the clock has it."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def costs(call: Callable[[], Any]) -> tuple[float, float]:
    """What a call takes, as the clock has it and in seconds of processors."""
    before = time.process_time()
    return seconds(call), time.process_time() - before


def speed(folder: Path, count: int, kind: str, name: str) -> dict[str, Any]:
    """Pictures a second: decoding alone, the model alone, and zoo index."""
    import zoo
    from zoo.collection.models import loaded
    from zoo.images import chunk_size, decode_many

    write_pictures(folder / kind, count, kind)
    model = loaded(name)  # as a collection loads it
    paths = [str(path) for path in sorted((folder / kind).iterdir())]
    size = min(32, chunk_size(model.preprocessing))

    def chunks() -> Iterator[list[str]]:
        for begin in range(0, len(paths), size):
            yield paths[begin : begin + size]

    images = model.preprocess(paths[:256])

    def ask() -> None:
        for _ in range(-(-count // len(images))):
            model.features(images)

    ask_warm = model.features(images[:32])
    del ask_warm
    decoding, decoding_cpu = costs(
        lambda: [None for _ in decode_many(chunks(), model.preprocessing)]
    )
    asking, asking_cpu = costs(ask)
    indexing, indexing_cpu = costs(
        lambda: zoo.Collection.index(name, [folder / kind], folder / f"index-{kind}")
    )
    cpu = {"decoding": decoding_cpu, "model": asking_cpu, "index": indexing_cpu}
    slower = max(decoding, asking)
    return {
        "kind": kind, "pictures": count, "model": name, "processors": os.cpu_count(),
        "decoding_per_second": round(count / decoding), "model_per_second": round(count / asking),
        "index_per_second": round(count / indexing),
        "of_the_slower_limit": round(slower / indexing, 3),
        "of_the_sum": round((decoding + asking) / indexing, 3),
        "processor_ms": {part: round(1000 * took / count, 3) for part, took in cpu.items()},
    }  # fmt: skip


def engines(folder: Path, count: int, name: str) -> dict[str, Any]:
    """Pictures a second by either engine, and what Ray takes to start."""
    import zoo
    from zoo.collection.models import loaded
    from zoo.collection.ray import Cluster

    write_pictures(folder / "jpeg", count, "jpeg")
    loaded(name).features(loaded(name).preprocess([folder / "jpeg" / "000000.jpg"]))

    def index(engine: str, source: str, out: str) -> float:
        return seconds(
            lambda: zoo.Collection.index(name, [folder / source], folder / out, engine=engine)
        )

    first, took = {}, {}
    for engine in ("local", "ray"):
        began = time.perf_counter()
        with Cluster() if engine == "ray" else nullcontext():
            started = time.perf_counter() - began
            first[engine] = index(engine, "jpeg/000000.jpg", f"one-{engine}")
            took[engine] = index(engine, "jpeg", f"all-{engine}")
    speeds = {engine: (count - 1) / (took[engine] - first[engine]) for engine in took}
    one, other = (zoo.Collection(folder / f"all-{engine}").features() for engine in took)
    return {
        "pictures": count, "model": name, "processors": os.cpu_count(),
        **{f"{engine}_per_second": round(speed, 1) for engine, speed in speeds.items()},
        "ratio": round(speeds["ray"] / speeds["local"], 3),
        "cluster_seconds": round(started, 2),
        **{f"{engine}_one_picture_seconds": round(took, 2) for engine, took in first.items()},
        "ratio_with_start": round(took["local"] / (started + took["ray"]), 3),
        "farthest_features": float(np.abs(np.float32(one) - np.float32(other)).max()),
    }  # fmt: skip


def unchanged(folder: Path, count: int, name: str) -> dict[str, Any]:
    """Seconds to check a folder in which nothing changed, without and with the start of Python."""
    import zoo

    write_pictures(folder / "png", count, "png")
    made = seconds(lambda: zoo.Collection.index(name, [folder / "png"], folder / "index"))
    checked = seconds(lambda: zoo.Collection.index(None, [], folder / "index"))
    command = [sys.executable, "-m", "zoo", "index", "--out", str(folder / "index"), "--json"]
    began = time.perf_counter()
    said = json.loads(subprocess.check_output(command))
    assert said["kept"] == count
    return {
        "files": count, "made": round(made, 1), "checked": round(checked, 2),
        "command": round(time.perf_counter() - began, 2),
    }  # fmt: skip


MEMORY = """
import json, resource, sys, zoo
made = zoo.Collection.index(sys.argv[3], [sys.argv[1]], sys.argv[2])
print(json.dumps([made.report.read, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def memory(folder: Path, few: int, many: int, name: str) -> dict[str, Any]:
    """Peak of resident memory, in MB, of processes that index few and many pictures, and again."""
    write_pictures(folder / "png", many, "png")
    (folder / "few").mkdir()
    for path in sorted((folder / "png").iterdir())[:few]:
        os.link(path, folder / "few" / path.name)
    peaks = {}
    for label, source in (("few", "few"), ("many", "png")):
        for turn in ("first", "again"):
            arguments = [str(folder / source), str(folder / f"index-{label}"), name]
            output = subprocess.check_output([sys.executable, "-c", MEMORY, *arguments])
            peaks[f"{label}_{turn}"] = round(json.loads(output)[1] / 1024)
    return {
        "few": few, "many": many, **{f"{key}_mb": peak for key, peak in peaks.items()},
        "ratio": round(peaks["many_first"] / peaks["few_first"], 3),
        "ratio_again": round(peaks["many_again"] / peaks["few_again"], 3),
    }  # fmt: skip


def main() -> None:
    """One of the four, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["speed", "engines", "unchanged", "memory"])
    parser.add_argument("--jpeg", type=int, default=20_000)
    parser.add_argument("--png", type=int, default=50_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=200_000)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--folder", type=Path, help="where the pictures are written meanwhile")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        if given.what == "speed":
            for kind, count in (("jpeg", given.jpeg), ("png", given.png)):
                print(json.dumps(speed(folder, count, kind, given.model)), flush=True)
        elif given.what == "engines":
            print(json.dumps(engines(folder, given.jpeg, given.model)))
        elif given.what == "unchanged":
            print(json.dumps(unchanged(folder, given.files, given.model)))
        else:
            print(json.dumps(memory(folder, given.few, given.many, given.model)))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
