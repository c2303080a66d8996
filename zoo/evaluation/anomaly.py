"""The protocol ``oneclass``: a model that was trained on one class should score others higher.

The protocol of Ruff et al. 2018 ("Deep one-class classification", section 4.1): for each class a
network is trained on the training images of that class and scores all test images; the figure is
the area under the ROC curve.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zoo
from zoo.data import Dataset
from zoo.errors import DataError, TrainingError
from zoo.evaluation.protocol import Context, Figure, ProtocolSkipped
from zoo.model import ZooModel
from zoo.optional import optional

PCA_COMPONENTS = 30


def auroc(scores: Tensor, strange: Tensor) -> float:
    """Probability that a ``strange`` image (N bools) has a higher of the ``scores`` (N)."""
    metrics = optional("sklearn.metrics", "scikit-learn", "evaluate")
    return float(metrics.roc_auc_score(strange.cpu().numpy(), scores.double().cpu().numpy()))


def pca_error(train: Tensor, test: Tensor, components: int = PCA_COMPONENTS) -> Tensor:
    """Squared error of each of ``test`` (M x P) off the principal components of ``train``, M."""
    decomposition = optional("sklearn.decomposition", "scikit-learn", "evaluate")
    known = train.double().numpy()
    pca = decomposition.PCA(min(components, *known.shape), random_state=0).fit(known)
    queries = test.double().numpy()
    error = pca.inverse_transform(pca.transform(queries)) - queries
    return torch.from_numpy((error**2).sum(1))


def only(data: Dataset, label: int) -> Dataset:
    """The images of one class, as a data set without labels."""
    if data.labels is None:
        raise DataError(f"{data.name} has no labels, which a class is chosen by")
    rows = (data.labels == label).nonzero()[:, 0]
    name = f"{data.name}, class {label} alone"
    return replace(data, name=name, images=data.images[rows], labels=None)


def score_all(model: ZooModel, data: Dataset) -> Tensor:
    """``model.score`` of all images, N."""
    return torch.cat([model.score(images).cpu() for images in data.batches()])


def trained_on(
    model: ZooModel,
    data: Dataset,
    *,
    seed: int,
    settings: Mapping[str, Any] | None = None,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> ZooModel:
    """A new model of the same kind and config as ``model``, trained on ``data`` and loaded.

    Args:
        settings: of the model's recipe, such as ``{"epochs": 5}``.
        report: as :func:`zoo.train` takes it.
    """
    with tempfile.TemporaryDirectory(prefix="zoo-one-class-") as folder:
        weights = zoo.train(
            model.record.name,
            data=data,
            out=Path(folder) / "run",
            config=dict(model.config),
            settings=settings,
            seed=seed,
            report=report,
        )
        return zoo.load(f"local-dir:{weights}", device=model.device)


def measure(context: Context, settings: Mapping[str, Any] | None = None) -> Iterator[Figure]:
    """oneclass_auroc, and oneclass_auroc_<class> of each class.

    Raises:
        ProtocolSkipped: a class has too few images to train on.
    """
    answers = context.labels("test")
    classes = sorted(set(context.labels("train").tolist()) & set(answers.tolist()))
    if len(classes) < 2:
        raise ProtocolSkipped(f"{context.test.name} has one class, so that none is strange")
    untrained = score_all(context.untrained, context.test)
    rows: dict[int, dict[str, float]] = {}
    for label in context.tracked(classes, len(classes), "classes that a model was trained on"):
        strange = answers != label

        def advance(line: dict[str, Any], label: int = label) -> None:
            if "epoch" in line:
                part = line["step"] / line["steps"] if "step" in line else 1
                done = line["epoch"] - 1 + part
                context.advance(f"class {label}, epochs of {line['phase']}", done, line["of"])

        try:
            model = trained_on(
                context.model, only(context.train, label), seed=context.seed, settings=settings,
                report=advance,
            )  # fmt: skip
        except TrainingError as error:
            raise ProtocolSkipped(f"class {label} of {context.train.name}: {error}") from error
        rows[label] = {
            "model": auroc(score_all(model, context.test), strange),
            "pca": context.of_data(("oneclass", label), partial(_baseline, context, label)),
            "untrained": auroc(untrained, strange),
        }
    changed = "".join(f", {key}={value}" for key, value in (settings or {}).items())
    how = (
        "area under the ROC curve of score on all test images, the strange ones being those of "
        "other classes, of the same architecture trained by its own recipe" + changed + " on the "
        f"train images of {{}} alone; pca: squared error off {PCA_COMPONENTS} components of these"
    )
    mean = {key: sum(row[key] for row in rows.values()) / len(rows) for key in rows[classes[0]]}
    figures = [
        ("oneclass_auroc", mean, "one class, mean over the classes"),
        *((f"oneclass_auroc_{label}", row, f"class {label}") for label, row in rows.items()),
    ]
    for name, row, whose in figures:
        yield Figure(
            name=name,
            value=row["model"],
            baselines={key: row[key] for key in ("pca", "untrained")},
            protocol=how.format(whose),
            samples=len(context.test),
            seed=context.seed,
        )


def _baseline(context: Context, label: int) -> float:
    pixels = context.features("pixels", "train")[context.labels("train") == label]
    error = pca_error(pixels, context.features("pixels", "test"))
    return auroc(error, context.labels("test") != label)
