"""What each job on a collection costs, in time and memory, of ten thousand pictures to a million.

    python benchmarks/scale.py --sizes 10000 100000 --plot growth.png
    python benchmarks/scale.py --sizes 1000000 --steps graph group --folder FOLDER

The features are made up: 256 numbers a picture, of a known mixture of kinds, each of which varies
in a dozen directions of its own. One picture in a hundred is there twice as the same file, one in a
hundred saved again and mirrored, and one in a thousand is of no kind at all. Their pixels are made
when they are asked for, so that no picture is on the disk: decoding is what benchmarks/indexing.py
measures. Each step runs in a process of its own, which says how long it took, by the clock and by
processor, and the most memory that was resident: index (the vectors are given), graph, group,
duplicates, odd, name, find, page (its export; thumbnails are given), update (by one in a hundred)
and update1000 (by a thousand, whatever the size). Prints a table, or JSON with --json; --plot
draws how the processor's time grows, beside n log n. With --folder collections are kept there, so
that a step can be run again.
"""

import argparse
import io
import json
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from zoo.collection.store import COLUMNS, MEASURES, Manifest, Shard, Store

SIZES = 10_000, 100_000, 1_000_000
FEATURES = 256
DIRECTIONS = 12
"""In which the pictures of a kind vary."""
AGAIN, COPY, APART = 7, 13, 50
"""Of each hundred the one that is the same file as the one fifty before, the one that is that one
saved again, and how far before that is."""
STRAY = 521
"""Of each thousand the one that is of no kind."""
QUERIES, FOUND = 200, 10
NAMED = 20
"""The largest groups, which are named."""

Facts = dict[str, Any]


# -- the collection ------------------------------------------------------------------------------


class Mixture:
    """The kinds of ``count`` pictures: the more pictures, the more kinds, of different sizes."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        kinds = max(round(math.sqrt(count) / 2), 5)
        self.shares = rng.dirichlet(np.full(kinds, 2.0))
        self.centres = rng.normal(size=(kinds, FEATURES)).astype(np.float32)
        ways = rng.normal(size=(64, FEATURES)).astype(np.float32)
        self.ways = ways[np.stack([rng.permutation(64)[:DIRECTIONS] for _ in range(kinds)])]

    def rows(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Features and kinds of the pictures from ``start`` on, which begins a shard."""
        rng = np.random.default_rng([1, start])
        kinds = rng.choice(len(self.shares), count, p=self.shares)
        spread = rng.normal(size=(count, DIRECTIONS)).astype(np.float32) * np.float32(0.3)
        features = self.centres[kinds]
        for kind in np.unique(kinds):
            which = kinds == kind
            features[which] += spread[which] @ self.ways[kind]
        features += rng.normal(size=features.shape).astype(np.float32) * np.float32(0.1)
        stray = (start + np.arange(count)) % 1000 == STRAY
        features[stray] = rng.normal(size=(stray.sum(), FEATURES)) * 1.5
        kinds[stray] = -1
        return features, kinds


def content(row: int) -> int:
    """The number of the file that is at a row: of the same files, that of the first."""
    return row - APART if row % 100 == AGAIN and row > APART else row


def painted(rows: np.ndarray, side: int) -> np.ndarray:
    """The pixels of pictures, n x side x side x 3: smooth, and each like no other."""
    pixels = np.empty((len(rows), 8, 8, 3), np.float32)
    for place, row in enumerate(rows.tolist()):
        again = row % 100 == COPY and row > APART
        kept = np.random.default_rng(content(row - APART if again else row))
        field = kept.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pixels[place] = field[:, ::-1] if again else field
    at = np.clip((np.arange(side) + 0.5) / side * 8 - 0.5, 0, 7)
    weights = np.maximum(1 - np.abs(at[:, None] - np.arange(8)), 0).astype(np.float32)
    smooth = np.einsum("yv,xu,nvuc->nyxc", weights, weights, pixels, optimize=True)
    noise = (rows % 100 == COPY)[:, None, None, None]  # of saving again
    grain = np.random.default_rng(0).normal(scale=1.5, size=smooth.shape[1:]).astype(np.float32)
    return np.asarray(np.clip(smooth + noise * grain, 0, 255).round(), np.uint8)


def shard(mixture: Mixture, start: int, count: int) -> tuple[Shard, np.ndarray]:
    """Rows to append, and the kind of each."""
    features, kinds = mixture.rows(start, count)
    rows = start + np.arange(count)
    for place in range(APART, count):
        if rows[place] % 100 in (AGAIN, COPY) and rows[place] > APART:
            grain = 0 if rows[place] % 100 == AGAIN else 0.01
            features[place] = features[place - APART] + grain
            kinds[place] = kinds[place - APART]
    columns: dict[str, list[Any]] = {name: [None] * count for name in COLUMNS}
    columns |= {
        "path": [f"{row // 1000:05}/{row:08}.jpg" for row in rows.tolist()],
        "source": [0] * count,
        "hash": [f"{content(row) * 2654435761 % 2**64:016x}" * 4 for row in rows.tolist()],
        "bytes": [100_000] * count,
        "mtime": rows.tolist(),
        "width": [640] * count,
        "height": [640] * count,
        "orientation": [1] * count,
        "removed": [False] * count,
        **dict.fromkeys(MEASURES, [0.5] * count),
    }
    return Shard(columns, features, painted(rows, 32)), kinds


def add(folder: Path, until: int, most: int | None = None) -> float:
    """Append pictures until there are so many; the seconds of the processor that writing took."""
    mixture = Mixture(until if most is None else most)
    if not Store.exists(folder):
        folder.mkdir(parents=True)
        facts = {"name": "made-up", "sha256": None, "weights": None, "features": FEATURES}
        Store(folder, Manifest(facts, {}, ["/pictures"])).save()
    store, took = Store.open(folder), 0.0
    start, kinds = len(store), [_kinds(folder)]
    while start < until:
        rows, kind = shard(mixture, start, min(Store.shard_rows, until - start))
        began = time.process_time()
        store.append(rows)
        took += time.process_time() - began
        start += len(rows)
        kinds.append(kind)
    np.save(_truth(folder), np.concatenate(kinds))
    return took


def _truth(folder: Path) -> Path:
    return folder.with_suffix(".npy")


def _kinds(folder: Path) -> np.ndarray:
    path = _truth(folder)
    return np.load(path) if path.exists() else np.zeros(0, np.int64)


# -- the steps -----------------------------------------------------------------------------------


class Clock:
    """What a step takes: the clock, the processor, and the most memory till it ends."""

    def __enter__(self) -> "Clock":
        self.began, self.used = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.facts: Facts = {
            "seconds": round(time.perf_counter() - self.began, 2),
            "processor": round(time.process_time() - self.used, 2),
            "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


def index(folder: Path, count: int) -> Facts:
    """The shards are written; making the vectors up is not counted as time."""
    with Clock() as clock:
        took = add(folder, count)
    return {**clock.facts, "processor": round(took, 2)}


def graph(folder: Path, count: int) -> Facts:
    from zoo.collection.neighbours import search
    from zoo.collection.opened import Opened

    opened = Opened(folder)
    with Clock() as clock:
        made = opened.graph
    rows = np.random.default_rng(0).choice(count, min(500, count), replace=False)
    vectors = np.asarray(opened.vectors, np.float32)
    k = made.indices.shape[1]
    _, cosines = search(vectors, vectors[rows], k + 2)
    # Itself and at most one copy come before the neighbours; ties at the end are as good.
    true = np.sort((made.similarities[rows] >= cosines[:, k : k + 1] - 1e-3).sum(1))
    return {**clock.facts, "recall": round(float(true.mean() / k), 4)}


def group(folder: Path, count: int) -> Facts:
    from sklearn.metrics import adjusted_mutual_info_score

    from zoo.collection.derived import regroup

    with Clock() as clock:
        middle = regroup(folder)[1]
    kinds = _kinds(folder)
    of_a_kind = kinds >= 0
    ami = adjusted_mutual_info_score(kinds[of_a_kind], middle.labels[of_a_kind])
    return {
        **clock.facts, "AMI": round(float(ami), 4), "groups": int(middle.labels.max()) + 1,
        "kinds": len(np.unique(kinds)) - 1,
    }  # fmt: skip


def duplicates(folder: Path, count: int) -> Facts:
    from zoo.collection import duplicates as finder
    from zoo.collection.opened import Opened

    opened = Opened(folder)

    def decoder(store: Store, pictures: Any) -> Callable[[int, int], np.ndarray]:
        return lambda position, side: painted(pictures.rows[[position]], side)[0]

    with mock.patch.object(finder, "decoder", decoder), Clock() as clock:
        found = finder.find(opened)
    rows = np.arange(count)
    planted = rows[(rows % 100 == COPY) & (rows > APART)]
    numbers = finder.numbered(found.same_picture, count)
    right = (numbers[planted] > 0) & (numbers[planted] == numbers[planted - APART])
    copies = (rows % 100 == AGAIN) & (rows > APART)
    return {
        **clock.facts, "recall": round(float(right.mean()), 4),
        "precision": round(float(right.sum() / max(len(found.same_picture), 1)), 4),
        "same_file": round(len(found.same_file) / copies.sum(), 4),
    }  # fmt: skip


def odd(folder: Path, count: int) -> Facts:
    from zoo.collection.opened import Opened

    opened = Opened(folder)
    with Clock() as clock:
        scores = opened.odd.scores
    stray = _kinds(folder) < 0
    first = np.argsort(-scores, kind="stable")[: stray.sum()]
    return {**clock.facts, "found": round(float(stray[first].mean()), 4)}


def name(folder: Path, count: int) -> Facts:
    from zoo.collection.opened import Opened

    opened, kinds = Opened(folder), _kinds(folder)
    with Clock() as clock:
        labels = opened.layers[0].labels
        sizes = np.bincount(labels[labels >= 0])
        for number in np.argsort(-sizes, kind="stable")[:NAMED].tolist():
            kind = np.bincount(kinds[(labels == number) & (kinds >= 0)]).argmax()
            opened.name(f"kind {kind}", group=number)
        naming = opened.naming
    said = np.array([int(each.removeprefix("kind ")) for each in naming.names])
    of_a_kind = naming.named & (kinds >= 0)
    right = said[naming.likeliest[of_a_kind]] == kinds[of_a_kind]
    return {
        **clock.facts, "named": round(float(naming.named.mean()), 4),
        "right": round(float(right.mean()), 4),
    }  # fmt: skip


def find(folder: Path, count: int) -> Facts:
    """Pictures like one of the collection: of an open collection, and to open it and find one."""
    from zoo.collection.finding import like, nearest
    from zoo.collection.opened import Opened

    queries = np.random.default_rng(2).choice(count, min(QUERIES, count), replace=False).tolist()
    with Clock() as clock:
        opened = Opened(folder)
        paths = [Path(opened.pictures.paths[row]) for row in queries]
        like(opened, paths[:1], number=FOUND)
    began = time.perf_counter()
    found = [like(opened, [path], number=FOUND) for path in paths]
    took = (time.perf_counter() - began) / len(paths)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    vectors, hashes = np.asarray(opened.vectors, np.float32), np.array(opened.pictures.hashes)
    shares = []
    for row, ours in zip(queries, found, strict=True):
        own = np.flatnonzero(hashes == hashes[row]).tolist()
        true = nearest([vectors], vectors[row], FOUND, own)
        shares.append(float((ours.similarities >= true.similarities[-1] - 1e-3).mean()))
    return {
        **clock.facts, "megabytes": peak, "milliseconds": round(1000 * took, 2),
        "recall": round(float(np.mean(shares)), 4),
    }  # fmt: skip


def page(folder: Path, count: int) -> Facts:
    from PIL import Image

    from zoo.collection.opened import Opened
    from zoo.collection.page.live import Page
    from zoo.collection.page.static import export

    thumbnails = []
    for row in range(64):
        written = io.BytesIO()
        Image.fromarray(painted(np.array([row]), 176)[0]).save(written, "WEBP", quality=75)
        thumbnails.append(written.getvalue())
    with tempfile.TemporaryDirectory(dir=folder.parent) as out:
        with Clock() as clock:
            shown = Page(Opened(folder))
            done = export(shown.data, lambda number: thumbnails[number % 64], Path(out) / "page")
        first = (Path(out) / "page" / "index.html").stat().st_size
    return {
        **clock.facts, "files": done.files, "first_view_mb": round(first / 1e6, 1),
        "all_mb": round(done.bytes / 1e6),
    }  # fmt: skip


def update(folder: Path, count: int) -> Facts:
    """One in a hundred more pictures: their neighbours, and the groups with them."""
    return _updated(folder, count, count // 100)


def update1000(folder: Path, count: int) -> Facts:
    return _updated(folder, count, 1000)


def _updated(folder: Path, count: int, more: int) -> Facts:
    from zoo.collection.derived import regroup
    from zoo.collection.opened import Opened

    add(folder, len(Store.open(folder)) + more, count)
    with Clock() as neighbours:
        Opened(folder).graph  # noqa: B018  computed now
    with Clock() as groups:
        middle = regroup(folder)[1]
    kinds = _kinds(folder)
    new = np.arange(len(kinds)) >= len(kinds) - more
    right = (middle.labels >= 0)[new & (kinds >= 0)].mean()
    both = neighbours.facts, groups.facts
    return {
        **{key: round(sum(each[key] for each in both), 2) for key in ("seconds", "processor")},
        "megabytes": groups.facts["megabytes"], "graph_s": neighbours.facts["processor"],
        "group_s": groups.facts["processor"], "grouped": round(float(right), 4),
    }  # fmt: skip


STEPS: dict[str, Callable[[Path, int], Facts]] = {
    "index": index, "graph": graph, "group": group, "duplicates": duplicates, "odd": odd,
    "name": name, "find": find, "page": page, "update": update, "update1000": update1000,
}  # fmt: skip


# -- all of them ---------------------------------------------------------------------------------


def apart(step: str, folder: Path, count: int) -> Facts:
    """A step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    said = subprocess.run(
        [*command, "--sizes", str(count)], stdout=subprocess.PIPE, text=True, check=False
    )
    if said.returncode:
        return {"failed": said.returncode}
    found: Facts = json.loads(said.stdout.splitlines()[-1])
    return found


def measured(folder: Path, count: int, step: str, run: Callable[..., Facts] = apart) -> Facts:
    """A row of the table."""
    return {"pictures": count, "step": step, **run(step, folder / f"of-{count}", count)}


def line(row: Facts) -> str:
    """A row as the table has it."""
    known = ("pictures", "step", "seconds", "processor", "megabytes")
    more = ", ".join(f"{key} {value}" for key, value in row.items() if key not in known)
    cells = [f"{row[key]:,}" if key in row else "" for key in known[2:]]
    return f"| {row['pictures']:,} | {row['step']} | {' | '.join(cells)} | {more} |"


def plot(rows: list[Facts], path: Path) -> None:
    """How the processor's time of each step grows with the pictures, beside n log n."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 5))
    for step in dict.fromkeys(row["step"] for row in rows):
        points = sorted(
            (row["pictures"], max(row["processor"], 0.01))
            for row in rows
            if row["step"] == step and "processor" in row
        )
        axes.plot(*zip(*points, strict=True), marker="o", label=step)
    sizes = np.array(sorted({row["pictures"] for row in rows}), float)
    for begin in (0.1, 1, 10):
        grown = begin * sizes * np.log(sizes) / (sizes[0] * np.log(sizes[0]))
        axes.plot(sizes, grown, ":", color="grey", label="n log n" if begin == 1 else None)
    axes.set(xscale="log", yscale="log", xlabel="pictures", ylabel="seconds of the processor")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=100, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=[*STEPS])
    parser.add_argument("--folder", type=Path, help="where the collections are, and are kept")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # in its own process
    parser.add_argument("--plot", type=Path, help="a picture of the growth to write")
    parser.add_argument("--json", action="store_true", help="print JSON, a line a step")
    given = parser.parse_args()
    if given.step:
        print(json.dumps(STEPS[given.step](given.folder, given.sizes[0])))
        return
    folder = given.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    try:
        if not given.json:
            print(
                "| pictures | step | seconds | of the processor | MB | |\n|--:|---|--:|--:|--:|---|"
            )
        for count in given.sizes:
            for step in given.steps:
                rows.append(measured(folder, count, step))
                print(json.dumps(rows[-1]) if given.json else line(rows[-1]), flush=True)
    finally:
        if given.folder is None:
            shutil.rmtree(folder)
    if given.plot is not None:
        plot(rows, given.plot)


if __name__ == "__main__":
    main()
