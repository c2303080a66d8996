"""What a collection makes of pictures that have labels, which it never sees: groups and odd ones.

    python benchmarks/collection.py FOLDER --out CACHE simclr.cifar10 dcgan.cifar10
    python benchmarks/collection.py FOLDER --out CACHE --tower timm:NAME --weights FILE --shipped

FOLDER has a folder of pictures for each category. Each model indexes them as ``zoo index`` does,
into a collection in CACHE, which is used again at the next run. ``--tower`` is a model of timm's
whose weights are FILE; it gets them from a Hub on loopback. ``--shipped`` measures all models whose
weights lie in the plugins' wheels, those first whose features are the best by their own records.
The table is that of docs/collections.md; ``--json`` prints more columns. ``--fit`` prepares
pictures in another way; ``--beside-timm`` only says how far the tower's features of 200 pictures
are from those of timm's own pipeline, from the file to the vector.

1-NN     the share of pictures whose nearest neighbour, copies left out, is of their category
AMI      adjusted mutual information of categories and groups, without the number of groups; what
         a method leaves in no group is one group
ACC, NMI accuracy under the best matching, and normalised mutual information
named    the share of pictures that are named rightly when the largest groups are named after what
         most of their pictures are: as many groups as there are categories, and a quarter more
odd      strangers, three pictures of other top categories (what stands before the first hyphen of a
         folder's name) put into each category: AUROC, and the share of strangers among the three
         strangest of each; as "zoo odd --within folder" finds them
alone    the same where each category with its strangers is a collection of its own: "zoo odd"

Beside the models stand pixels (32 x 32, colour), their principal components, and on the features of
the first models HDBSCAN, EVoC (if it is installed) and k-means with k by the silhouette; these get
the same projected vectors, each content once. Seeds are three, and what is shown is the mean.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from zoo.collection.derived import neighbours_of
from zoo.collection.grouping import DEFAULT, group
from zoo.collection.neighbours import Graph, build, connect, first_of_each
from zoo.collection.odd import misfits, scores
from zoo.evaluation.grouping import agreement
from zoo.images import MAX_PIXELS

SEEDS = range(3)
STRANGERS = 3
LEAST = 12
"""Pictures of a category that strangers are put into, different ones."""
TRIED = (5, 10, 15, 20, 25, 30, 40, 50, 60, 80)
"""Numbers of clusters that the silhouette chooses from."""
COLUMNS = "1-NN", "groups", "left out", "AMI", "NMI", "ACC", "named", "odd", "of 3", "alone"

Row = dict[str, float]


def named_rightly(labels: np.ndarray, groups: np.ndarray, clicks: int) -> float:
    """The share of pictures with the right name when the largest groups are each named once."""
    numbers, sizes = np.unique(groups[groups >= 0], return_counts=True)
    largest = numbers[np.argsort(-sizes, kind="stable")[:clicks]]
    right = sum(int(np.bincount(labels[groups == each]).max()) for each in largest)
    return right / len(labels)


def measured_groups(labels: np.ndarray, groups: np.ndarray) -> Row:
    from sklearn.metrics import adjusted_mutual_info_score

    found = agreement(labels, groups)
    categories = len(np.unique(labels))
    return {
        "groups": len(np.unique(groups[groups >= 0])),
        "left out": float((groups < 0).mean()),
        "AMI": float(adjusted_mutual_info_score(labels, groups)),
        "NMI": found["nmi"],
        "ACC": found["acc"],
        "named": named_rightly(labels, groups, categories),
        "named + 1/4": named_rightly(labels, groups, round(1.25 * categories)),
    }


def with_strangers(labels: np.ndarray, tops: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    """The labels with three pictures of other top categories in each, and which those are."""
    rng = np.random.default_rng(seed)
    mixed, strange = labels.copy(), np.zeros(len(labels), bool)
    for category in np.unique(labels):
        order = rng.permutation(len(labels))
        fits = (tops[order] != tops[labels == category][0]) & ~strange[order]
        chosen = order[fits][:STRANGERS]
        mixed[chosen], strange[chosen] = category, True
    return mixed, strange


def ranked(strange: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """AUROC of the scores, and the share of strangers among the three strangest."""
    from sklearn.metrics import roc_auc_score

    first = np.argsort(-found, kind="stable")[:STRANGERS]
    return float(roc_auc_score(strange, found)), float(strange[first].mean())


def measured_odd(
    labels: np.ndarray,
    tops: np.ndarray,
    vectors: np.ndarray,
    alone: Callable[[np.ndarray], np.ndarray],
) -> Row:
    """Of different contents; ``alone`` scores some of them that are a collection of their own."""
    graph = connect(vectors)
    within, apart = [], []
    for seed in SEEDS:
        mixed, strange = with_strangers(labels, tops, seed)
        found = misfits(graph, mixed, vectors).scores
        for category in np.unique(mixed):
            rows = np.flatnonzero(mixed == category)
            if strange[rows].sum() == STRANGERS and len(rows) >= LEAST + STRANGERS:
                within.append(ranked(strange[rows], found[rows]))
                apart.append(ranked(strange[rows], alone(rows)))
    (odd, of), (by_itself, of_it) = np.mean(within, 0), np.mean(apart, 0)
    return {"odd": odd, "of 3": of, "alone": by_itself, "alone of 3": of_it}


class Data:
    """Labelled pictures, as a collection has them."""

    def __init__(self, collection: zoo.Collection):
        self.pictures = collection.pictures()
        folders = np.array([Path(path).parent.name for path in self.pictures.paths])
        self.names, self.labels = np.unique(folders, return_inverse=True)
        self.hashes = self.pictures.hashes
        self.distinct = np.unique(first_of_each(self.hashes))
        self.tops = np.array([name.split("-")[0] for name in self.names])[self.labels]
        self.small = collection.store.small(self.pictures.rows).reshape(len(self.labels), -1) / 255

    def spread(self, groups: np.ndarray) -> np.ndarray:
        """For all pictures what was found for the different ones."""
        place = np.searchsorted(self.distinct, first_of_each(self.hashes))
        return np.asarray(groups)[place]

    def row(self, features: np.ndarray, vectors: np.ndarray, graph: Graph) -> Row:
        """All that is measured of one kind of features."""
        d = self.distinct
        near = self.labels[graph.indices[d, 0]] == self.labels[d]
        runs = []
        for seed in SEEDS:
            layers = {layer.name: layer for layer in group(graph, self.hashes, seed=seed)}
            runs.append(measured_groups(self.labels, layers[DEFAULT].labels))

        def alone(rows: np.ndarray) -> np.ndarray:
            projection, _, graph = build(features[d[rows]])
            return scores(graph, projection.uncentred(features[d[rows]])).scores

        odd = measured_odd(self.labels[d], self.tops[d], vectors[d], alone)
        return {"1-NN": float(near.mean()), **_mean(runs), **odd}


def _mean(runs: list[Row]) -> Row:
    return {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}


def peers(data: Data, vectors: np.ndarray) -> Iterator[tuple[str, Row]]:
    """The other methods on the same vectors."""
    from sklearn.cluster import HDBSCAN

    points = vectors[data.distinct]
    found = HDBSCAN(min_cluster_size=5, copy=True).fit_predict(points)
    yield "HDBSCAN, 5 at least", measured_groups(data.labels, data.spread(found))
    try:
        from evoc import EVoC
    except ImportError:
        print("EVoC is not installed: pip install evoc", file=sys.stderr)
    else:
        runs = [EVoC(random_state=seed).fit_predict(points) for seed in SEEDS]
        yield "EVoC", _mean([measured_groups(data.labels, data.spread(run)) for run in runs])
    runs = [by_silhouette(points, seed) for seed in SEEDS]
    rows = [measured_groups(data.labels, data.spread(run)) for run in runs]
    yield "k-means by silhouette", _mean(rows)


def by_silhouette(points: np.ndarray, seed: int) -> np.ndarray:
    """k-means with the number of clusters that has the best silhouette."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    tried = [
        KMeans(k, n_init=3, random_state=seed).fit_predict(points) for k in TRIED if k < len(points)
    ]
    return max(tried, key=lambda found: silhouette_score(points, found, metric="cosine"))


@contextmanager
def hub_with(name: str, weights: Path, home: Path) -> Iterator[None]:
    """A Hub on loopback that has these weights of timm's model ``timm:name``, and no other."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "hub"))
    from hubserver import HubServer

    with HubServer() as hub:
        os.environ.update(hub.env(home))
        import timm  # which imports the Hub's client, which looks at the environment once

        cfg = timm.get_pretrained_cfg(name.removeprefix("timm:"))
        config = {
            "architecture": cfg.architecture,
            "num_classes": cfg.num_classes,
            "pretrained_cfg": cfg.to_dict(),
        }
        files = {
            "config.json": json.dumps(config, default=str).encode(),
            "model.safetensors": weights.read_bytes(),
        }
        hub.put(cfg.hf_hub_id, files)
        yield


def apart_from_timm(name: str, folder: Path, fit: str | None) -> Row:
    """The distance of features from timm's own, over their length, of 200 pictures."""
    import timm
    import torch
    from PIL import Image
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    model = zoo.load(name, fit=fit)
    net = timm.create_model(name.removeprefix("timm:"), pretrained=True, num_classes=0).eval()
    transform = create_transform(**resolve_data_config({}, model=net), is_training=False)
    files = sorted(path for path in folder.rglob("*.png"))
    found = []
    for path in files[:: max(1, len(files) // 200)]:
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                continue
            picture = opened.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)  # timm itself would show what lies under the transparency
        with torch.no_grad():
            theirs = net(transform(white.convert("RGB"))[None])
        ours = model.features(model.preprocess(path))
        found.append(float((ours - theirs).norm() / theirs.norm()))
    values = np.array(found)
    return {"pictures": len(found), "mean": values.mean(), "greatest": values.max()}


def shipped() -> list[str]:
    """All models whose weights lie in the plugins' wheels and that have features, the best first.

    Models of colour pictures are before those of grey ones.
    """
    found = []
    for name in zoo.list_models(pretrained=True):
        spec = zoo.info(name)
        (weights,) = spec.weights
        if "features" in spec.capabilities and weights.repo is None:
            channels = 1 if weights.preprocessing is None else weights.preprocessing.channels
            near = [metric.value for metric in weights.metrics if metric.name == "knn1"]
            found.append((-channels, -max(near, default=0.0), name))
    return [name for _, _, name in sorted(found)]


def rows_of(
    folder: Path, out: Path, names: list[str], others: int, fit: str | None
) -> Iterator[tuple[str, Row]]:
    """A row for each model, for pixels, and for the other methods on the first models' features."""
    for i, name in enumerate(names):
        place = out / (name.replace(":", "-") + (f"-{fit}" if fit else ""))
        made = zoo.Collection.index(name, [folder], place, fit=fit)
        data = Data(made)
        _, vectors, graph = neighbours_of(made.store, data.pictures)
        yield name, data.row(made.features(), vectors, graph)
        if i < others:
            for method, row in peers(data, vectors):
                yield f"{name}, {method}", row
    yield from pixels(data)


def pixels(data: Data) -> Iterator[tuple[str, Row]]:
    """The small pictures themselves, and their principal components."""
    small = data.small.astype(np.float32)
    unit = small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-12)
    yield "pixels, 32 x 32", data.row(small, unit, connect(unit, data.hashes))
    _, vectors, graph = build(small, data.hashes)
    yield "PCA of pixels", data.row(small, vectors, graph)


def shown(name: str, row: Row) -> str:
    """A line of a Markdown table."""
    cells = []
    for column in COLUMNS:
        value = row.get(column)
        if value is None:
            cells.append("")
            continue
        whole = column == "groups"
        text = f"{value:.0f}" if whole else f"{value:.3f}".removeprefix("0")
        cells.append(text)
    return f"| {_called(name)} | " + " | ".join(cells) + " |"


def _called(name: str) -> str:
    """As the page has it: a model by its name, and other methods on its features below it."""
    model, comma, method = name.partition(", ")
    if "." not in model:
        return name
    return f"the same, {method}" if comma else f"`{name}`"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a folder of pictures for each category")
    parser.add_argument("names", nargs="*", help="models with weights")
    parser.add_argument("--out", type=Path, required=True, help="where the collections lie")
    parser.add_argument("--tower", help="a model of timm's, such as timm:tf_efficientnet_lite0")
    parser.add_argument("--weights", type=Path, help="its weights, safetensors of timm's layout")
    parser.add_argument("--fit", choices=("crop", "pad", "stretch", "library"))
    parser.add_argument("--beside-timm", action="store_true", help="the tower beside timm alone")
    parser.add_argument("--shipped", action="store_true", help="all models that ship, too")
    parser.add_argument(
        "--others", type=int, default=1, help="models on whose features other methods are measured"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_intermixed_args()
    names = [
        *given.names,
        *([n for n in shipped() if n not in given.names] if given.shipped else []),
    ]
    if bool(given.tower) != bool(given.weights) or not (given.tower or names):
        parser.error("name a model, --shipped, or --tower with its --weights")

    found: dict[str, Any] = {}
    if not (given.json or given.beside_timm):
        print("| features or method | " + " | ".join(COLUMNS) + " |")
        print("|---|" + "--:|" * len(COLUMNS))

    def show(rows: Iterator[tuple[str, Row]]) -> None:
        began = time.monotonic()
        for name, row in rows:
            found[name] = row
            print(f"{name}: {time.monotonic() - began:.0f} s since the beginning", file=sys.stderr)
            if not given.json:
                print(shown(name, row), flush=True)

    if given.tower:
        with hub_with(given.tower, given.weights, given.out / "hub"):
            if given.beside_timm:
                print(json.dumps(apart_from_timm(given.tower, given.folder, given.fit)))
                return
            show(rows_of(given.folder, given.out, [given.tower, *names], given.others, given.fit))
    else:
        show(rows_of(given.folder, given.out, names, given.others, given.fit))
    if given.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
