"""Collections beside their peers, on the same folders in one run.

duplicates   originals and generated copies (benchmarks/copies.py): photographs that come with
             scikit-image, scikit-learn and matplotlib, and, where ZOO_DATA_DIR has them, some of
             CIFAR-10 and faces of Olivetti, most of which have no copy. zoo duplicates beside
             cleanvision (exact and near duplicates) and imagededup (PHash, DHash, WHash as they
             come, within 10 bits; its CNN needs weights from the network and is left out).
             Recall is the share of copies that lie in one set with their original; precision the
             share of pairs of a set that are of one original.
groups       --labelled FOLDER, whose folders are the true groups: zoo group beside HDBSCAN, k-means
             (k by silhouette) and EVoC on the same vectors. AMI with the folders, and the number of
             groups.
speed        pictures a second from files to features by the same network on the same threads: zoo
             index beside the loops of rclip (batches of 8, one picture after the other) and of
             clip-retrieval (a DataLoader with a worker a processor, batches of 256). Each runs
             --rounds times, by turns, and its best counts. The loops end with features in memory;
             zoo index also hashes, measures and writes, and "processor" says what each costs: the
             milliseconds of all processors a picture, which another program disturbs the least.

Each peer has an environment of its own below --envs, made when it is not there (pip, from the
registry; imagededup and datasets get this environment's torch, and no other is installed). What
cannot be installed is said, and left out.

Run it on a machine that does nothing else. Exit code 0 when ours is ahead in every row, else 1.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from copies import write_copies
from PIL import Image

import zoo

Sets = list[list[str]]

PEERS: dict[str, list[list[str]]] = {
    "cleanvision": [["cleanvision"]],
    "imagededup": [["--no-deps", "imagededup", "PyWavelets"]],
    "evoc": [["evoc"]],
    "fastdup": [["fastdup"]],
    "datasets": [["datasets"]],
    "autofaiss": [["autofaiss", "pyarrow<20"]],  # newer ones want a numpy that it does not allow
}
"""What pip installs into each peer's environment."""

CLEANVISION = """
import json, sys
from cleanvision import Imagelab
lab = Imagelab(data_path=sys.argv[1], verbose=False)
lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, verbose=False)
sets = [s for kind in ("exact_duplicates", "near_duplicates") for s in lab.info[kind]["sets"]]
json.dump(sets, open(sys.argv[2], "w"))
"""
IMAGEDEDUP = """
import json, os, sys
from imagededup import methods
if __name__ == "__main__":
    method = getattr(methods, sys.argv[3])(verbose=False)
    found = method.find_duplicates(image_dir=sys.argv[1], recursive=True)
    path = lambda name: os.path.join(sys.argv[1], name)
    pairs = [[path(one), path(other)] for one in found for other in found[one]]
    json.dump(pairs, open(sys.argv[2], "w"))
"""
EVOC = """
import json, sys
import numpy as np, evoc
vectors = np.load(sys.argv[1])
json.dump([int(x) for x in evoc.EVoC(random_state=0).fit_predict(vectors)], open(sys.argv[2], "w"))
"""


# -- peers ---------------------------------------------------------------------------------------


def python_of(peer: str, envs: Path) -> Path | None:
    """The Python of a peer's environment, which is made; None if that fails."""
    python = envs / peer / "bin" / "python"
    if (envs / peer / "made").exists():
        return python
    print(f"installing {peer} into {envs / peer}", file=sys.stderr)
    shutil.rmtree(envs / peer, ignore_errors=True)
    venv.create(envs / peer, with_pip=True)
    for packages in PEERS[peer]:
        done = subprocess.run([python, "-m", "pip", "install", "-q", *packages])
        if done.returncode:
            print(f"{peer} cannot be installed, and is left out", file=sys.stderr)
            return None
    if peer in ("imagededup", "datasets"):  # torch, and what else they import
        site = Path(np.__file__).parents[1]
        target = next((envs / peer / "lib").glob("python3*")) / "site-packages"
        (target / "ours.pth").write_text(f"import site; site.addsitedir({str(site)!r})\n")
    (envs / peer / "made").touch()
    return python


def run_peer(python: Path, code: str, *arguments: str | Path) -> Any:
    """What a peer's script has found, and in how many seconds; None if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        script = Path(folder) / "peer.py"
        script.write_text(code)
        begin = time.perf_counter()
        first, *more = arguments
        done = subprocess.run(
            [python, script, first, out, *more], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        seconds = time.perf_counter() - begin
        if done.returncode:
            print(done.stderr.decode(errors="replace")[-800:], file=sys.stderr)
            return None
        return json.loads(out.read_text()), seconds


# -- duplicates ----------------------------------------------------------------------------------


def photographs() -> list[Path]:
    """Photographs that come with libraries."""
    import matplotlib
    import skimage
    import sklearn

    names = [
        "astronaut", "brick", "camera", "cell", "chelsea", "clock_motion", "coffee", "coins",
        "grass", "gravel", "hubble_deep_field", "ihc", "microaneurysms", "moon", "motorcycle_left",
        "page", "retina", "rocket", "text",
    ]  # fmt: skip
    folder = Path(skimage.__file__).parent / "data"
    found = [next(folder.glob(f"{name}.*")) for name in names]
    found += sorted((Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg"))
    return [*found, Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"]


def small_ones(out: Path, count: int) -> tuple[list[Path], list[Path]]:
    """Pictures of CIFAR-10 and of Olivetti as PNG, where they are to be had."""
    data = Path(os.environ.get("ZOO_DATA_DIR", ""))
    tiny: list[Path] = []
    faces: list[Path] = []
    if (data / "cifar10.npz").is_file():
        planes = np.load(data / "cifar10.npz")["train_residuals"][:, :count]
        planes = np.cumsum(np.cumsum(planes, 2, dtype=np.uint8), 3, dtype=np.uint8)
        planes[0] += planes[1]
        planes[2] += planes[1]
        tiny = _written(planes.transpose(1, 2, 3, 0), out / "tiny")
    if (data / "olivetti_faces.npz").is_file():
        images = np.load(data / "olivetti_faces.npz")["images"].reshape(-1, 64, 64)
        faces = _written((images / images.max() * 255).astype(np.uint8), out / "faces")
    return tiny, faces


def _written(images: np.ndarray, out: Path) -> list[Path]:
    out.mkdir(parents=True)
    paths = [out / f"{i:05}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(np.ascontiguousarray(image)).save(path)
    return paths


def make_folder(out: Path, count: int, some: int) -> tuple[dict[str, str], dict[str, str]]:
    """Originals and copies; of each file its original, and of each copy its kind."""
    (out / "photographs").mkdir(parents=True)
    photos = [Path(shutil.copy(path, out / "photographs")) for path in photographs()]
    tiny, faces = small_ones(out, count)
    rng = random.Random(0)
    chosen = [*photos, *rng.sample(tiny, min(some, len(tiny)))]
    chosen += rng.sample(faces, min(some, len(faces)))
    origin = {str(path): str(path) for path in [*photos, *tiny, *faces]}
    kinds = {}
    for original, copy, kind in write_copies(chosen, out / "copies"):
        origin[str(copy)], kinds[str(copy)] = str(original), kind
    return origin, kinds


def judged(sets: Sets, origin: dict[str, str], kinds: dict[str, str]) -> dict[str, Any]:
    """Recall by kind of copy and of picture, and precision, of sets of paths."""
    together: dict[str, set[str]] = defaultdict(set)
    right = wrong = 0
    for each in sets:
        for a, b in combinations(sorted(set(each)), 2):
            together[a].add(b)
            together[b].add(a)
            right, wrong = (right + 1, wrong) if origin[a] == origin[b] else (right, wrong + 1)
    hits: dict[str, list[bool]] = defaultdict(list)
    for copy, kind in kinds.items():
        hit = origin[copy] in together[copy]
        for name in ("all", kind, f"of {Path(origin[copy]).parent.name}"):
            hits[name].append(hit)
    recall = {name: round(float(np.mean(each)), 3) for name, each in hits.items()}
    return {"recall": recall, "precision": round(right / max(right + wrong, 1), 4)}


def ours(folder: Path, model: str, work: Path) -> tuple[Sets, float]:
    """Our sets, and the seconds, indexing included."""
    begin = time.perf_counter()
    sets = sets_of(zoo.Collection.index(model, [folder], work))
    return sets, time.perf_counter() - begin


def sets_of(collection: zoo.Collection) -> Sets:
    """The paths of each set of copies that a collection finds, or has kept."""
    found, paths = collection.duplicates(), collection.pictures().paths
    return [[paths[i] for i in each.members] for each in (*found.same_file, *found.same_picture)]


def duplicates(model: str, envs: Path, count: int, some: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work).resolve() / "pictures"
        origin, kinds = make_folder(folder, count, some)
        found: dict[str, Any] = {"zoo": ours(folder, model, Path(work) / "collection")}
        if python := python_of("cleanvision", envs):
            found["cleanvision"] = run_peer(python, CLEANVISION, folder)
        if python := python_of("imagededup", envs):
            for method in ("PHash", "DHash", "WHash"):
                found[f"imagededup {method}"] = run_peer(python, IMAGEDEDUP, folder, method)
        return [
            {
                "side": side, "pictures": len(origin), "seconds": round(each[1], 1),
                **judged(each[0], origin, kinds),
            }
            for side, each in found.items()
            if each is not None
        ]  # fmt: skip


# -- groups --------------------------------------------------------------------------------------


def groups(folder: Path, model: str, envs: Path) -> list[dict[str, Any]]:
    from sklearn.cluster import HDBSCAN, KMeans
    from sklearn.metrics import adjusted_mutual_info_score, silhouette_score

    from zoo.collection.grouping import group
    from zoo.collection.opened import Opened

    with tempfile.TemporaryDirectory() as work:
        zoo.Collection.index(model, [folder], Path(work) / "collection")
        opened = Opened(Path(work) / "collection")
        vectors = np.ascontiguousarray(opened.vectors)
        names = [Path(path).relative_to(folder).parts[0] for path in opened.pictures.paths]
        truth = np.unique(names, return_inverse=True)[1]

        def by_silhouette() -> np.ndarray:
            tried = {}
            for k in (5, 10, 15, 20, 30, 40, 60):
                labels = KMeans(k, n_init=3, random_state=0).fit_predict(vectors)
                tried[silhouette_score(vectors, labels, sample_size=2000, random_state=0)] = labels
            best: np.ndarray = tried[max(tried)]
            return best

        def middle() -> np.ndarray:
            layers = {e.name: e.labels for e in group(opened.graph, opened.pictures.hashes)}
            return layers["middle"]

        sides: dict[str, Callable[[], np.ndarray]] = {
            "zoo": middle,
            "hdbscan": lambda: HDBSCAN(min_cluster_size=5, copy=True).fit_predict(vectors),
            "k-means, k by silhouette": by_silhouette,
        }
        rows = []
        for side, call in sides.items():
            begin = time.perf_counter()
            labels = call()
            rows.append((side, labels, time.perf_counter() - begin))
        if python := python_of("evoc", envs):
            np.save(Path(work) / "vectors.npy", vectors)
            if found := run_peer(python, EVOC, Path(work) / "vectors.npy"):
                rows.append(("evoc", np.array(found[0]), found[1]))
        return [
            {
                "side": side, "pictures": len(truth), "seconds": round(seconds, 1),
                "ami": round(float(adjusted_mutual_info_score(truth, labels)), 3),
                "groups": len(set(labels[labels >= 0].tolist())),
                "in none": round(float((labels < 0).mean()), 3),
            }
            for side, labels, seconds in rows
        ]  # fmt: skip


# -- speed ---------------------------------------------------------------------------------------


class _Files:
    """clip-retrieval's data set: a picture a place, decoded in a worker."""

    def __init__(self, paths: list[Path], prepare: Callable[[Path], Any]):
        self.paths, self.prepare = paths, prepare

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Any:
        return self.prepare(self.paths[i])


def speed(model_name: str, count: int, rounds: int) -> list[dict[str, Any]]:
    import torch
    from torch.utils.data import DataLoader

    from zoo.images import to_images
    from zoo.system import processors

    model = zoo.load(model_name)

    def prepare(path: Path) -> torch.Tensor:
        return to_images(path, model.preprocessing)[0]

    def rclip(paths: list[Path]) -> int:
        done = 0
        for begin in range(0, len(paths), 8):
            batch = torch.stack([prepare(path) for path in paths[begin : begin + 8]])
            done += len(model.features(batch))
        return done

    def clip_retrieval(paths: list[Path]) -> int:
        files: Any = _Files(paths, prepare)
        loader = DataLoader(files, batch_size=256, num_workers=processors(), prefetch_factor=2)
        return sum(len(model.features(batch)) for batch in loader)

    with tempfile.TemporaryDirectory() as work:
        paths = _jpegs(Path(work) / "pictures", count)

        def index(paths: list[Path]) -> int:
            with tempfile.TemporaryDirectory(dir=work) as out:
                made = zoo.Collection.index(model, [paths[0].parent], Path(out) / "collection")
                return len(made)

        sides = {"zoo": index, "rclip": rclip, "clip-retrieval": clip_retrieval}
        index(_jpegs(Path(work) / "few", 8))  # what is loaded at the first call is no side's own
        took: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, call in sides.items():
                begin, before = time.perf_counter(), _processor()
                assert call(paths) == count
                took[side].append((time.perf_counter() - begin, _processor() - before))
    best = {side: [min(each) for each in zip(*some, strict=True)] for side, some in took.items()}
    return [
        {
            "side": side, "pictures a second": round(count / seconds, 1),
            "processor": round(1000 * processor / count, 2),
            **({"also": "hashes, measures and writes"} if side == "zoo" else {}),
        }
        for side, (seconds, processor) in best.items()
    ]  # fmt: skip


def _processor() -> float:
    """Seconds of processors that this process and its ended children have had."""
    return sum(os.times()[:4])


def _jpegs(out: Path, count: int) -> list[Path]:
    """Photographs of a megapixel, each another part of one that comes with a library."""
    out.mkdir(parents=True)
    sources = [p for p in photographs() if p.stem in ("china", "flower", "astronaut", "coffee")]
    images = [Image.open(path).convert("RGB").resize((1280, 960)) for path in sources]
    rng = random.Random(0)
    paths = []
    for i in range(count):
        left, top = rng.randrange(128), rng.randrange(96)
        part = images[i % len(images)].crop((left, top, left + 1152, top + 864))
        paths.append(out / f"{i:05}.jpg")
        part.save(paths[-1], quality=90)
    return paths


# -- all -----------------------------------------------------------------------------------------

MEASURES: dict[str, Callable[[dict[str, Any]], list[float]]] = {
    "duplicates": lambda row: [row["recall"]["all"], row["precision"]],
    "groups": lambda row: [row["ami"]],
    "speed": lambda row: [row["pictures a second"]],
}
"""What is compared of the rows of a part, the more the better."""


def behind(part: str, rows: Iterable[dict[str, Any]]) -> list[str]:
    """The sides that are ahead of ours in some measure."""
    measure = MEASURES[part]
    first, *others = rows
    mine = measure(first)
    return [
        row["side"]
        for row in others
        if any(theirs > ours for ours, theirs in zip(mine, measure(row), strict=True))
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(MEASURES))
    parser.add_argument("--model", default="simclr.cifar10", help="of zoo list")
    parser.add_argument("--envs", type=Path, default=Path("peer-envs"), help="of the peers")
    parser.add_argument("--labelled", type=Path, help="a folder of folders, for groups")
    parser.add_argument("--tiny", type=int, default=2000, help="pictures of CIFAR-10")
    parser.add_argument("--some", type=int, default=30, help="of each kind that get copies")
    parser.add_argument("--jpegs", type=int, default=2000, help="pictures, for speed")
    parser.add_argument("--rounds", type=int, default=3, help="of each side, for speed")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(MEASURES):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: {', '.join(MEASURES)}")
    parts = given.parts or [p for p in MEASURES if p != "groups" or given.labelled]
    if "groups" in parts and given.labelled is None:
        parser.error("groups needs --labelled FOLDER")
    envs = given.envs.absolute()
    calls: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "duplicates": lambda: duplicates(given.model, envs, given.tiny, given.some),
        "groups": lambda: groups(given.labelled.resolve(), given.model, envs),
        "speed": lambda: speed(given.model, given.jpegs, given.rounds),
    }
    found = {part: calls[part]() for part in parts}
    if given.json:
        print(json.dumps(found, indent=2))
    ahead = False
    for part, rows in found.items():
        if not given.json:
            print(part)
            for row in rows:
                print("  " + ", ".join(f"{key} {value}" for key, value in row.items()))
        if sides := behind(part, rows):
            ahead = True
            print(f"{part}: ahead of ours in something: {', '.join(sides)}", file=sys.stderr)
    return int(ahead)


if __name__ == "__main__":
    sys.exit(main())
