"""Collections beside their peers at ten thousand files and more: time and memory.

    python benchmarks/many_peers.py DRAWINGS --files 10000 100000

copies      the files of benchmarks/many_copies.py: zoo index and zoo duplicates beside imagededup
            (PHash, as it comes), and fastdup's free edition (its run and connected components, as
            they come). Recall and precision as in benchmarks/many_copies.py.
features    of all files by the same network: zoo index beside datasets.map (batches of 64, images
            decoded and prepared in it, features written to its Arrow file). zoo index also hashes,
            measures and keeps small pixels.
searching   making what zoo find reads beside clip-retrieval's index, which autofaiss makes, of the
            same features; then a search in it, and the share of the ten nearest that it finds.

Each side is a process of its own, and each peer has an environment of its own below --envs, made
when it is not there; what cannot be installed is said, and left out. Seconds are the clock's and
the processors'; MB is the most that was resident, with what is mapped. On a machine that does
nothing else.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from collection_peers import IMAGEDEDUP, judged, python_of, sets_of
from many_copies import ZOO, Made, make, origins, run, total

import zoo

FASTDUP = """
import json, sys, tempfile
import fastdup
with tempfile.TemporaryDirectory() as work:
    found = fastdup.create(input_dir=sys.argv[1], work_dir=work)
    found.run(overwrite=True)
    table, _ = found.connected_components()
sets = table.groupby("component_id")["filename"].apply(list)
json.dump(list(sets), open(sys.argv[2], "w"))
"""
DATASETS = """
import sys
from pathlib import Path
import datasets, torch, zoo
from zoo.images import to_images
model = zoo.load(sys.argv[3])
paths = [str(path) for path in sorted(Path(sys.argv[1]).rglob("*.*"))]
def features(batch):
    images = [to_images(image, model.preprocessing)[0] for image in batch["image"]]
    return {"features": model.features(torch.stack(images)).numpy()}
pictures = datasets.Dataset.from_dict({"image": paths}).cast_column("image", datasets.Image())
made = pictures.map(features, batched=True, batch_size=64, remove_columns="image",
                    cache_file_name=sys.argv[2])
assert len(made) == len(paths)
"""
CELLS = """
import sys
from pathlib import Path
import numpy as np
from zoo.collection.cells import Cells
vectors = np.load(sys.argv[1])
cells = Cells.of(vectors, np.arange(len(vectors)))
cells.save(Path(sys.argv[2]), {})
"""
AUTOFAISS = """
import sys
from autofaiss import build_index
build_index(sys.argv[1], index_path=sys.argv[2], index_infos_path=sys.argv[2] + ".json",
            metric_type="ip", save_on_disk=True, should_be_memory_mappable=True)
"""
SEARCH_CELLS = """
import json, sys, time
from pathlib import Path
import numpy as np
from zoo.collection.cells import Cells
cells, queries = Cells.open(Path(sys.argv[1]), {}), np.load(sys.argv[2])
begin = time.perf_counter()
near = [cells.search(query, 10)[0].tolist() for query in queries]
print(json.dumps([near, time.perf_counter() - begin]))
"""
SEARCH_FAISS = """
import json, sys, time
import faiss, numpy as np
index, queries = faiss.read_index(sys.argv[1], faiss.IO_FLAG_MMAP), np.load(sys.argv[2])
begin = time.perf_counter()
near = [index.search(query[None], 10)[1][0].tolist() for query in queries]
print(json.dumps([near, time.perf_counter() - begin]))
"""
QUERIES = 200

Rows = Iterator[dict[str, Any]]


def script(python: str | Path, code: str, *arguments: object) -> list[str]:
    return [str(python), "-c", code, *map(str, arguments)]


def indexed(model: str, folder: Path, collection: Path) -> dict[str, Any]:
    return run([ZOO, "index", model, str(folder), "--out", str(collection)])


def copies(folder: Path, made: Made, collection: Path, index: dict[str, Any], envs: Path) -> Rows:
    origin = origins(made)
    kinds = {file: kind for _, file, kind in made if kind}
    ended = [index, run([ZOO, "duplicates", str(collection), "--json"])]
    sets = sets_of(zoo.Collection(collection))
    yield {"side": "zoo", **total(ended), **brief(judged(sets, origin, kinds))}
    for peer, code, options in (("imagededup", IMAGEDEDUP, ["PHash"]), ("fastdup", FASTDUP, [])):
        if python := python_of(peer, envs):
            out = collection.with_name(f"{peer}.json")
            ended = [run(script(python, code, folder, out, *options))]
            theirs = json.loads(out.read_text())
            yield {"side": peer, **total(ended), **brief(judged(theirs, origin, kinds))}


def brief(judged: dict[str, Any]) -> dict[str, Any]:
    return {"recall": judged["recall"]["all"], "precision": judged["precision"]}


def features(folder: Path, model: str, index: dict[str, Any], work: Path, envs: Path) -> Rows:
    yield {"side": "zoo", **total([index])}
    if python := python_of("datasets", envs):
        ended = run(script(python, DATASETS, folder, work / "features.arrow", model))
        yield {"side": "datasets.map", **total([ended])}


def searching(collection: Path, work: Path, envs: Path) -> Rows:
    vectors = zoo.Collection(collection).features()
    vectors = np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    chosen = np.random.default_rng(0).choice(len(vectors), QUERIES, replace=False)
    queries = vectors[chosen]
    exact = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :10]
    (work / "vectors").mkdir()
    np.save(work / "vectors" / "0.npy", vectors)
    np.save(work / "queries.npy", queries)
    least = np.take_along_axis(queries @ vectors.T, exact[:, -1:], 1)
    sides: dict[str, tuple[str | Path | None, str, str, Path]] = {
        "zoo": (sys.executable, CELLS, SEARCH_CELLS, work / "vectors" / "0.npy"),
        "autofaiss": (python_of("autofaiss", envs), AUTOFAISS, SEARCH_FAISS, work / "vectors"),
    }
    for side, (python, code, search, given) in sides.items():
        if python is None:
            continue
        ended = run(script(python, code, given, work / side))
        output = run(script(python, search, work / side, work / "queries.npy"))["output"]
        near, seconds = json.loads(output.splitlines()[-1])
        # Copies have the same features: any of those as near as the tenth is one of the ten.
        found = [
            (vectors[each] @ query >= low - 1e-6).mean()
            for each, query, low in zip(near, queries, least, strict=True)
        ]
        yield {
            "side": side, **total([ended]), "recall": round(float(np.mean(found)), 4),
            "ms a search": round(1000 * seconds / QUERIES, 2),
            "MB of the file": round((work / side).stat().st_size / 1e6, 1),
        }  # fmt: skip


def measured(drawings: Path, files: int, model: str, work: Path, envs: Path) -> Rows:
    folder, collection = work / "pictures", work / "collection"
    made = make(drawings, folder, files)
    index = indexed(model, folder, collection)
    parts = {
        "copies": copies(folder, made, collection, index, envs),
        "features": features(folder, model, index, work, envs),
        "searching": searching(collection, work, envs),
    }
    for part, rows in parts.items():
        for row in rows:
            yield {"part": part, "files": len(made), **row}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("drawings", type=Path, help="a folder of pictures")
    parser.add_argument("--files", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--model", default="simclr.cifar10", help="of zoo list")
    parser.add_argument("--envs", type=Path, default=Path("peer-envs"), help="of the peers")
    parser.add_argument("--folder", type=Path, help="where to put it all; a temporary folder")
    given = parser.parse_args()
    for files in given.files:
        with tempfile.TemporaryDirectory(dir=given.folder) as work:
            for row in measured(
                given.drawings, files, given.model, Path(work).resolve(), given.envs.absolute()
            ):
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
