"""Measures models. Every figure of a card comes from here.

The test part is used once, after everything was chosen.
"""

import difflib
import importlib.metadata
import math
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.errors import (
    CapabilityError,
    InputError,
    InvalidConfig,
    MissingDependency,
    WeightsError,
)
from zoo.evaluation.protocol import Context, Figure, LeftOut, Protocol
from zoo.files import write_json
from zoo.locks import holding
from zoo.spec import Metric, read_json, weights_record

if TYPE_CHECKING:
    from zoo.data import Dataset
    from zoo.model import ZooModel

__all__ = ["PROTOCOLS", "evaluate", "verify"]

T = TypeVar("T")

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="reconstruction",
            summary="squared error, PSNR and SSIM of the reconstruction",
            measure="zoo.evaluation.reconstruction:measure",
            gives=("sse", "mse", "psnr", "ssim"),
            needs=("reconstruct",),
        ),
        Protocol(
            name="repair",
            summary="PSNR and SSIM of the reconstruction of a damaged image",
            measure="zoo.evaluation.reconstruction:measure_repair",
            gives=("repair_*",),
            needs=("reconstruct",),
        ),
        Protocol(
            name="probe",
            summary="logistic regression on the features",
            measure="zoo.evaluation.recognition:measure_probe",
            gives=("probe",),
            needs=("features",),
            labels=True,
            predicts=True,
        ),
        Protocol(
            name="knn",
            summary="1 and 20 nearest neighbours in the features",
            measure="zoo.evaluation.recognition:measure_neighbours",
            gives=("knn1", "knn20"),
            needs=("features",),
            labels=True,
            predicts=True,
        ),
        Protocol(
            name="few",
            summary="logistic regression on the features with 10 labels a class",
            measure="zoo.evaluation.recognition:measure_few",
            gives=("few10",),
            needs=("features",),
            labels=True,
            predicts=True,
        ),
        Protocol(
            name="robustness",
            summary="the probe under noise, missing pixels and a long-tailed training set",
            measure="zoo.evaluation.robustness:measure",
            gives=("robust_*",),
            needs=("features",),
            labels=True,
            predicts=True,
        ),
        Protocol(
            name="kmeans",
            summary="k-means on the features against the classes",
            measure="zoo.evaluation.grouping:measure_kmeans",
            gives=("kmeans_*",),
            needs=("features",),
            labels=True,
        ),
        Protocol(
            name="n2d",
            summary="UMAP and a Gaussian mixture on the features against the classes; minutes",
            measure="zoo.evaluation.grouping:measure_n2d",
            gives=("n2d_*",),
            needs=("features",),
            labels=True,
            standard=False,
        ),
        Protocol(
            name="oneclass",
            summary="trained on each class alone, how strange the others are; minutes to an hour",
            measure="zoo.evaluation.anomaly:measure",
            gives=("oneclass_auroc*",),
            needs=("score",),
            labels=True,
            standard=False,
        ),
        Protocol(
            name="generation",
            summary="generated images against test images, in the zoo's own classifier's features",
            measure="zoo.evaluation.generation:measure",
            gives=(
                *("frechet", "kernel", "precision", "recall", "density", "coverage"),
                *("classes_covered", "class_entropy", "generated_1nn"),
            ),
            needs=("generate",),
            labels=True,
            keeps_unlabelled=True,
        ),
        Protocol(
            name="inception",
            summary="the same in Inception's features, whose weights torch-fidelity fetches",
            measure="zoo.evaluation.generation:measure_inception",
            gives=("inception_*",),
            needs=("generate",),
            standard=False,
        ),
        Protocol(
            name="likelihood",
            summary="importance-weighted likelihood of a variational model",
            measure="zoo.evaluation.likelihood:measure",
            gives=("nll",),
        ),
    )
}
"""All protocols by name; each loads its libraries when it runs."""

MEASURING = {
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch_fidelity": "torch-fidelity",
    "torchmetrics": "torchmetrics",
    "umap": "umap-learn",
}
"""The libraries that measure: module and distribution."""


def _in_isolation(call: Callable[..., T]) -> Callable[..., T]:
    """``call`` under :func:`zoo.isolation.isolated`, which is not imported before it runs."""

    @wraps(call)
    def wrapped(*args: Any, **kwargs: Any) -> T:
        from zoo.isolation import isolated

        with isolated():
            return call(*args, **kwargs)

    return wrapped


@_in_isolation
def evaluate(
    name: str,
    *,
    data: str | Path | None = None,
    data_dir: str | Path | None = None,
    protocols: Iterable[str] | None = None,
    seed: int = 0,
    against: str | Path | None = None,
    floors: bool = True,
    write: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure a model on the test part of a data set.

    Args:
        name: what :func:`zoo.load` takes.
        data: what :func:`zoo.data.load_data` takes; by default what the weights were trained on.
            A folder without parts is split four to one by ``seed``.
        data_dir: where to look for a named set first.
        protocols: keys of :data:`PROTOCOLS`, or ``"all"``; by default the standard ones.
        seed: of all chance.
        against: the weights folder of the same model trained with another recipe; its squared
            error is measured beside, and the difference of recipes is its protocol.
        floors: whether floors are measured too, which takes most of the time.
        write: keep metrics.json of a ``local-dir:`` folder up to date after each protocol; figures
            of other protocols stay in it.
        progress: called with a line for each protocol that starts, and with what is to be said of
            the data.

    Returns:
        What metrics.json holds: ``data``, ``seed``, ``metrics`` (records with their seconds),
        ``left_out`` (protocols with the reason why they were not run) and ``versions``.

    Raises:
        InputError: there is no such protocol.
        CapabilityError: nothing could be measured at all; the text has each reason.
        ZooError: as :func:`zoo.load` and :func:`zoo.data.load_data`.
    """
    from zoo.api import folder_config, has_folder, load, weights_folder
    from zoo.card import is_card, write_card

    chosen = _chosen(protocols)
    model = load(name)
    if not has_folder(name) and (data is None or against is not None):
        raise InputError(
            f"{name} has no weights folder that says what it was trained on"
            + (": leave --against out" if against else f"; type: zoo evaluate {name} --data SET")
        )
    # A name of the Hub was resolved to a commit once; its branch may move meanwhile.
    same = model.name if name.startswith("hf-hub:") else name
    folder = weights_folder(same) if has_folder(name) else Path()
    write = write and name.startswith("local-dir:")
    if write:
        _recorded(folder)  # what cannot be read is not found out at the end
    data = str(data or folder_config(folder)["dataset"])
    train, test = _parts(model, data, data_dir, seed)
    notes = [*test.remarks, *train.remarks]
    if any(protocol.labels for protocol in chosen):
        notes += filter(None, map(_unlabelled, (train, test)))
    for note in dict.fromkeys(notes):
        progress(note)
    # A folder's path is nobody's business in what is published of it.
    called = model.spec.name if name.startswith("local-dir:") else model.name
    context = Context(model, called, train, test, seed, floors)
    metrics: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    done: list[str] = []  # the names, shell-style, of what was measured
    result = {"data": test.name, "seed": seed, "metrics": metrics, "left_out": left_out}

    def run(measure: Callable[[Context], Iterator[Figure]], *gives: str) -> None:
        for record in _records(measure(context), test):
            metrics.append(record)
        done.extend(gives)

    def keep() -> None:
        result["versions"] = _versions()
        if write and metrics:
            again = {protocol.name for protocol in chosen}
            with holding(folder):  # another may have written since this one began
                write_json(folder / "metrics.json", _merged(_recorded(folder), result, done, again))

    for protocol in chosen:
        if reason := _unsuited(protocol, context):
            left_out.append({"protocol": protocol.name, "reason": reason})
            continue
        progress(f"{protocol.name}: {protocol.summary}")
        try:
            run(protocol.run, *protocol.gives)
        except (LeftOut, MissingDependency) as error:
            left_out.append({"protocol": protocol.name, "reason": str(error)})
        keep()
    if against is not None:
        from zoo.evaluation.reconstruction import measure_against

        progress(f"against: squared error of {against}")
        run(partial(measure_against, folder=folder, other=Path(against)), "sse_ablated")
    keep()
    if not metrics:
        raise CapabilityError(
            f"nothing of {name} could be measured on {test.name}:\n"
            + "\n".join(f"  {out['protocol']}: {out['reason']}" for out in left_out)
        )
    card = folder / "README.md"
    if write and is_card(card):  # it shows the figures
        write_card(folder)
    elif write and card.exists():
        progress(f"{card} is not a card that the zoo wrote, so it stays as it is")
    return result


def verify(
    name: str,
    *,
    data: str | Path | None = None,
    data_dir: str | Path | None = None,
    protocols: Iterable[str] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Measure again what the weights' metrics.json holds, without the floors, and compare.

    An exact figure may differ by a thousandth of its value, one with a seed by 0.01 (or a
    hundredth, when it is above 1): libraries and processors differ by less.

    Args:
        name: what :func:`zoo.load` takes.
        data: the figures on these data only, such as the folder that a name in the record means.
        data_dir: where to look for named sets first.
        protocols: of these only; by default of all that gave a figure.
        progress: called with a line for each protocol that starts.

    Returns:
        A row for each figure: ``name``, ``dataset``, ``recorded``, ``measured``, ``tolerance``.

    Raises:
        WeightsError: a figure is not what it was; the text names each, with both values.
        InputError: there is no such protocol, or nothing is recorded of it.
        ZooError: as :func:`evaluate`.
    """
    from zoo.api import weights_folder

    folder = weights_folder(name)
    recorded = weights_record(folder, "recorded").metrics
    if data is not None:
        path = Path(data).resolve()
        recorded = [m for m in recorded if m.dataset in (path.name, path.stem)]
    wanted = list(PROTOCOLS.values()) if protocols is None else _chosen(protocols)
    rows = []
    for (dataset, seed), again in _runs(recorded, wanted).items():
        same = [
            m for m in recorded if m.dataset == dataset and any(p.has_given(m.name) for p in again)
        ]
        result = evaluate(
            name,
            data=data or dataset,
            data_dir=data_dir,
            protocols=[p.name for p in again],
            seed=seed,
            floors=False,
            write=False,
            progress=progress,
        )
        measured = {m["name"]: m["value"] for m in result["metrics"]}
        rows += [
            {
                "name": m.name,
                "dataset": dataset,
                "recorded": m.value,
                "measured": measured.get(m.name),
                "tolerance": tolerance(m),
            }
            for m in same
        ]
    if not rows:
        raise InputError(
            f"{folder} records no figure of {', '.join(p.name for p in wanted)}"
            + (f" on {data}" if data else "")
            + ".\n"
            f"Type: zoo evaluate local-dir:{folder}"
        )
    wrong = [
        r
        for r in rows
        if r["measured"] is None or not abs(r["measured"] - r["recorded"]) <= r["tolerance"]
    ]
    if wrong:
        raise WeightsError(
            f"{len(wrong)} of {len(rows)} figures of {name} are not the recorded ones:\n"
            + "\n".join(
                f"  {r['name']} on {r['dataset']}: recorded {r['recorded']:.6g}, measured "
                + ("nothing" if r["measured"] is None else f"{r['measured']:.6g}")
                + f", tolerance {r['tolerance']:.2g}"
                for r in wrong
            )
        )
    return rows


def _runs(
    recorded: Iterable[Metric], protocols: Iterable[Protocol]
) -> dict[tuple[str, int], list[Protocol]]:
    """The protocols that gave what is recorded, by the data and the seed that they ran with."""
    recorded, runs = list(recorded), {}
    for data in dict.fromkeys(m.dataset for m in recorded):
        for protocol in protocols:
            given = [m for m in recorded if m.dataset == data and protocol.has_given(m.name)]
            if given:
                seed = next((m.seed for m in given if m.seed is not None), 0)
                runs.setdefault((data, seed), []).append(protocol)
    return runs


def tolerance(metric: Metric) -> float:
    """How far from a recorded figure the same figure may come out elsewhere."""
    if metric.seed is None:
        return max(1e-3 * abs(metric.value), 5e-6)  # the first records have five decimals
    return 0.01 * max(1.0, abs(metric.value))


def _chosen(names: Iterable[str] | None) -> list[Protocol]:
    if names is None:
        return [p for p in PROTOCOLS.values() if p.standard]
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name != "all" and name not in PROTOCOLS:
            close = difflib.get_close_matches(str(name), PROTOCOLS, n=1)
            raise InputError(
                f"there is no protocol {name!r}"
                + (f"; did you mean {close[0]}?" if close else ".")
                + f" There are: {', '.join(PROTOCOLS)}, or all"
            )
    return [p for p in PROTOCOLS.values() if "all" in names or p.name in names]


def _unsuited(protocol: Protocol, context: Context) -> str | None:
    """Why a protocol cannot be run on this model and these data, if so."""
    import torch

    missing = [c for c in protocol.needs if c not in context.model.capabilities]
    if missing:
        return f"{context.name} cannot {' and '.join(missing)}"
    known = context.labelled
    if protocol.labels and (known.train.labels is None or known.test.labels is None):
        return f"{context.test.name} has no labels"
    if protocol.predicts and not torch.isin(known.test.labels, known.train.labels).any():
        return f"no class of the test part of {context.test.name} is in its train part"
    return None


def _unlabelled(data: "Dataset") -> str:
    """What to say of images that have no label, if there are any."""
    left = f"{data.unlabelled:,} of {len(data):,} {data.split} images of {data.name} have no label"
    return f"{left}: they are left out of what needs labels" if data.unlabelled else ""


def _parts(
    model: "ZooModel", data: str, data_dir: str | Path | None, seed: int
) -> "tuple[Dataset, Dataset]":
    """The train and the test part of ``data``."""
    from zoo.data import load_data, split_validation

    where = None if data_dir is None else Path(data_dir)
    test = load_data(data, "test", model.preprocessing, data_dir=where)
    if test.split == "test":
        return load_data(data, "train", model.preprocessing, data_dir=where), test
    parts = zip(("train", "test"), split_validation(test, 0.2, seed), strict=True)
    train, test = (
        replace(
            test,
            split=split,
            images=test.images[indices],
            labels=None if test.labels is None else test.labels[indices],
        )
        for split, indices in parts
    )
    return train, test


def _records(figures: Iterator[Figure], test: "Dataset") -> Iterator[dict[str, Any]]:
    """Figures as metrics.json has them; ``seconds`` is what each took, floors included."""
    start = time.perf_counter()
    for figure in figures:
        if not math.isfinite(figure.value):
            raise LeftOut(f"{figure.name} came out as {figure.value}")
        metric = Metric(
            name=figure.name,
            value=_rounded(figure.value),
            dataset=test.name,
            split=test.split,
            protocol=figure.protocol,
            samples=figure.samples,
            seed=figure.seed,
            spread=None if figure.spread is None else _rounded(figure.spread),
            floors={floor: _rounded(value) for floor, value in figure.floors.items()},
        )
        yield {**metric.to_dict(), "seconds": round(time.perf_counter() - start, 1)}
        start = time.perf_counter()


def _rounded(value: float) -> float:
    """Six digits: more than any figure is good for, fewer than would differ at each run."""
    return float(f"{value:.6g}")


def _versions() -> dict[str, str]:
    """Of what measured: the libraries that were really imported."""
    import torch

    import zoo

    imported = {d: importlib.metadata.version(d) for m, d in MEASURING.items() if m in sys.modules}
    return {
        "latentzoo": zoo.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        **imported,
    }


def _recorded(folder: Path) -> dict[str, Any]:
    """The metrics.json of a folder, checked before anything is measured; empty without one."""
    weights_record(folder, "recorded")
    path = folder / "metrics.json"
    record = read_json(path) if path.exists() else {}
    left_out, versions = record.get("left_out", []), record.get("versions", {})
    if not (isinstance(left_out, list) and all(isinstance(out, dict) for out in left_out)):
        raise InvalidConfig(f"{path}: left_out should be a list of objects, got {left_out!r:.80}")
    if not isinstance(versions, dict):
        raise InvalidConfig(f"{path}: versions should be an object, got {versions!r:.80}")
    return record


def _merged(
    before: dict[str, Any], result: dict[str, Any], done: list[str], again: set[str]
) -> dict[str, Any]:
    """``result``, with what ``before`` has of other protocols and other data.

    Args:
        done: the names, shell-style, of the figures that were measured.
        again: the names of the protocols that were asked for.
    """

    names = [*done, *(metric["name"] for metric in result["metrics"])]

    def stays(metric: dict[str, Any]) -> bool:
        measured = any(fnmatchcase(metric["name"], name) for name in names)
        return not (measured and metric["dataset"] == result["data"])

    left_out = [out for out in before.get("left_out", []) if out.get("protocol") not in again]

    return {
        **result,
        "metrics": [*filter(stays, before.get("metrics", [])), *result["metrics"]],
        "left_out": [*left_out, *result["left_out"]],
        "versions": {**before.get("versions", {}), **result["versions"]},
    }
