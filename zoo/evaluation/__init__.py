"""Measures a model on a test set. Every figure of a card comes from here.

The test part is used once, after everything was chosen.
"""

import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zoo
from zoo.api import folder_config, load, weights_folder
from zoo.data import Dataset, load_data, to_float
from zoo.files import write_json
from zoo.model import ZooModel
from zoo.spec import Metric


def evaluate(
    name: str,
    *,
    data: str,
    data_dir: Path | None = None,
    against: Path | None = None,
) -> dict[str, Any]:
    """Measure a model on the test part of ``data``.

    Args:
        name: what :func:`zoo.load` takes; for ``local-dir:`` metrics.json is written there.
        data: a named set.
        data_dir: where to look for it first.
        against: the weights folder of the same model trained with another recipe; its
            reconstruction error is measured too, and the difference of recipes is its protocol.

    Returns:
        What metrics.json holds: ``metrics`` (records with their seconds) and ``versions``.

    Raises: as :func:`zoo.load` and :func:`zoo.data.load_data`.
    """
    model = load(name)
    test = load_data(data, "test", model.preprocessing, data_dir=data_dir)
    train = load_data(data, "train", model.preprocessing, data_dir=data_dir)
    metrics = []

    def note(metric: str, value: float, protocol: str, start: float) -> None:
        record = Metric(
            name=metric,
            value=round(value, 5),
            dataset=test.name,
            split=test.split,
            protocol=protocol,
            samples=len(test),
        )
        metrics.append({**record.to_dict(), "seconds": round(time.perf_counter() - start, 1)})

    if "reconstruct" in model.capabilities:
        start = time.perf_counter()
        error = squared_error(model, test)
        note("sse", error, SSE, start)
        note("mse", error / test.images[0].numel(), f"{SSE}, divided by the pixels", start)
        start = time.perf_counter()
        floor = mean_image_error(train, test)
        note("sse_of_mean_image", floor, f"{SSE}, of the mean training image instead", start)
    if "features" in model.capabilities and test.labels is not None:
        start = time.perf_counter()
        accuracy = nearest_neighbour(
            features(model, train), train.labels, features(model, test), test.labels
        )
        note("knn1", accuracy, f"1-NN, Euclidean, on features of all {len(train):,} train images",
             start)  # fmt: skip
    if against is not None:
        start = time.perf_counter()
        other = load(f"local-dir:{against}")
        note("sse_ablated", squared_error(other, test), f"{SSE}, {_difference(name, against)}",
             start)  # fmt: skip
    result = {
        "metrics": metrics,
        "versions": {
            "latentzoo": zoo.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    if name.startswith("local-dir:"):
        write_json(weights_folder(name) / "metrics.json", result)
    return result


SSE = "squared error summed over the pixels, mean over the images, pixels in [0, 1]"


def squared_error(model: ZooModel, data: Dataset) -> float:
    """The unit of Hinton & Salakhutdinov 2006: summed over pixels, mean over images."""
    total = sum(
        float((model.reconstruct(images) - images).double().square().sum())
        for images in data.batches()
    )
    return total / len(data)


def mean_image_error(train: Dataset, test: Dataset) -> float:
    """The same for the mean image of ``train``: what a model reaches that has learnt nothing."""
    mean = train.images.double().mean(0) / 255
    return float((to_float(test.images).double() - mean).square().flatten(1).sum(1).mean())


def features(model: ZooModel, data: Dataset) -> Tensor:
    """The features of all images, N x F."""
    return torch.cat([model.features(images) for images in data.batches()])


def nearest_neighbour(
    references: Tensor, labels: Tensor, queries: Tensor, answers: Tensor, *, batch: int = 500
) -> float:
    """Share of ``queries`` (M x F) whose nearest of ``references`` (N x F) has their label."""
    norms = references.square().sum(1)  # N
    right = 0
    for part, expected in zip(queries.split(batch), answers.split(batch), strict=True):
        # |q - r|^2 without |q|^2, which is the same for all r
        nearest = torch.addmm(norms, part, references.T, alpha=-2).argmin(1)
        right += int((labels[nearest] == expected).sum())
    return right / len(queries)


def _difference(name: str, against: Path) -> str:
    """The protocol's words for how the recipes of two weights folders differ."""
    recipe, other = (
        folder_config(weights_folder(n))["training"]["recipe"]
        for n in (name, f"local-dir:{against}")
    )
    changed = [
        f"{k} = {v} instead of {recipe.get(k)}" for k, v in other.items() if recipe.get(k) != v
    ]
    return "of the same model trained with " + (", ".join(changed) or "the same recipe")
