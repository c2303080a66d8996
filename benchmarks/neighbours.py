"""How many of the nearest neighbours the cells find that comparing all pairs finds, and how fast.

    python benchmarks/neighbours.py [MODEL]

On real features: those of MODEL (simclr.cifar10 by default) of CIFAR-10's 60,000 pictures, of
MNIST's 70,000 in the same size and colours, and of both. Above 50,000 pictures a collection looks
for neighbours in the cells that are nearest to a picture (IVF), up to that number among all. The
neighbours of 2,000 random pictures are held against all pairs. Prints a table, and JSON with
--json; exit code 1 when fewer than 95 in 100 neighbours are found, or the nearest of fewer than 98.
"""

import argparse
import json
import sys
import time

import numpy as np
import torch

import zoo
from zoo.collection.neighbours import NEIGHBOURS, Projection, connect, project, sampled, search
from zoo.data.named import find_named
from zoo.model import ZooModel

QUERIES = 2000
LEAST = {"found": 0.95, "nearest": 0.98}
BATCH = 512


def features(model: ZooModel, name: str, most: int | None) -> np.ndarray:
    """Of the training and the test pictures of a named set, as the model takes them."""
    parts = [find_named(name, split, None)[0] for split in ("train", "test")]
    images = torch.cat(parts)[:most]
    channels, size = model.preprocessing.channels, model.preprocessing.width
    rows = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH].float().div_(255)
        if batch.shape[-1] != size:
            batch = torch.nn.functional.interpolate(batch, (size, size), mode="bilinear")
        if batch.shape[1] != channels:
            batch = batch.mean(1, keepdim=True).expand(-1, channels, -1, -1)
        rows.append(model.features(batch).numpy())
    return np.concatenate(rows)


def measured(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """The graph by cells against all pairs, of features P x F."""
    projection = Projection.fit(values[sampled(len(values), seed)])
    vectors = project(projection, [values])
    began = time.perf_counter()
    graph = connect(vectors, exact=0)
    cells = time.perf_counter() - began
    rows = np.random.default_rng(seed).choice(len(values), min(QUERIES, len(values)), replace=False)
    began = time.perf_counter()
    true, cosines = search(vectors, vectors[rows], NEIGHBOURS + 1)
    pairs = (time.perf_counter() - began) * len(values) / len(rows)
    apart = true != rows[:, None]
    apart[apart.all(1), -1] = False
    true = true[apart].reshape(len(rows), NEIGHBOURS)
    last = cosines[apart].reshape(true.shape)[:, -1:] - 1e-6  # ties at the end are as good
    as_near = graph.similarities[rows] >= last
    nearest = graph.similarities[rows, 0] >= cosines[apart].reshape(true.shape)[:, 0] - 1e-6
    return {
        "pictures": len(values),
        "found": float(as_near.mean()),
        "nearest": float(nearest.mean()),
        "seconds": cells,
        "all pairs, seconds": pairs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="simclr.cifar10")
    parser.add_argument("--most", type=int, help="pictures of each set, at most")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    model = zoo.load(given.model)
    one, other = (features(model, name, given.most) for name in ("cifar10", "mnist"))
    found = {
        "CIFAR-10": measured(one),
        "MNIST": measured(other),
        "both": measured(np.concatenate([one, other])),
    }
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"| {given.model} | pictures | found | nearest | cells, s | all pairs, s |")
        print("|---|--:|--:|--:|--:|--:|")
        for name, row in found.items():
            shares = f"{row['found']:.4f} | {row['nearest']:.4f}"
            seconds = f"{row['seconds']:.0f} | {row['all pairs, seconds']:.0f}"
            print(f"| {name} | {row['pictures']:,} | {shares} | {seconds} |")
    sys.exit(any(row[key] < least for row in found.values() for key, least in LEAST.items()))


if __name__ == "__main__":
    main()
