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
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from zoo.boundary import typed, user_path
from zoo.errors import (
    CapabilityError,
    DataError,
    InputError,
    InvalidConfig,
    MissingDependency,
    WeightsError,
)
from zoo.evaluation.protocol import Context, Figure, LeftOut, Protocol, Space
from zoo.files import path_text, write_json
from zoo.folder import CARD, CONFIG, METRICS, TENSORS, read_config, read_json, weights_record
from zoo.installing import install_command
from zoo.locks import holding
from zoo.optional import installed
from zoo.spec import Metric

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
            libraries=("torchmetrics",),
            baseline_libraries=("sklearn",),
        ),
        Protocol(
            name="repair",
            summary="PSNR and SSIM of the reconstruction of a damaged image",
            measure="zoo.evaluation.reconstruction:measure_repair",
            gives=("repair_*",),
            needs=("reconstruct",),
            libraries=("torchmetrics",),
            baseline_libraries=("sklearn",),
        ),
        Protocol(
            name="probe",
            summary="logistic regression on the features",
            measure="zoo.evaluation.recognition:measure_probe",
            gives=("probe",),
            needs=("features",),
            labels=True,
            predicts=True,
            libraries=("scipy", "sklearn"),
        ),
        Protocol(
            name="knn",
            summary="1 and 20 nearest neighbours in the features",
            measure="zoo.evaluation.recognition:measure_neighbours",
            gives=("knn1", "knn20"),
            needs=("features",),
            labels=True,
            predicts=True,
            baseline_libraries=("sklearn",),
        ),
        Protocol(
            name="few",
            summary="logistic regression on the features with 10 labels a class",
            measure="zoo.evaluation.recognition:measure_few",
            gives=("few10",),
            needs=("features",),
            labels=True,
            predicts=True,
            libraries=("scipy", "sklearn"),
        ),
        Protocol(
            name="robustness",
            summary="the probe under noise, missing pixels and a long-tailed training set",
            measure="zoo.evaluation.robustness:measure",
            gives=("robust_*",),
            needs=("features",),
            labels=True,
            predicts=True,
            libraries=("scipy", "sklearn"),
        ),
        Protocol(
            name="kmeans",
            summary="k-means on the features against the classes",
            measure="zoo.evaluation.grouping:measure_kmeans",
            gives=("kmeans_*",),
            needs=("features",),
            labels=True,
            libraries=("scipy", "sklearn"),
        ),
        Protocol(
            name="n2d",
            summary="UMAP and a Gaussian mixture on the features against the classes; minutes",
            measure="zoo.evaluation.grouping:measure_n2d",
            gives=("n2d_*",),
            needs=("features",),
            labels=True,
            standard=False,
            libraries=("scipy", "sklearn", "umap"),
        ),
        Protocol(
            name="oneclass",
            summary="trained on each class alone, how strange the others are; minutes to an hour",
            measure="zoo.evaluation.anomaly:measure",
            gives=("oneclass_auroc*",),
            needs=("score",),
            labels=True,
            standard=False,
            libraries=("accelerate", "matplotlib", "sklearn", "tensorboardX", "timm"),
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
            libraries=("sklearn", "torchmetrics"),
            samples=True,
            own_samples=10_000,
        ),
        Protocol(
            name="inception",
            summary="the same in Inception's features, whose weights torch-fidelity fetches",
            measure="zoo.evaluation.generation:measure_inception",
            gives=("inception_*",),
            needs=("generate",),
            standard=False,
            libraries=("torch_fidelity",),
            samples=True,
        ),
        Protocol(
            name="distances",
            summary="the same in pixels, in their PCA, or in the features of a model (--space)",
            measure="zoo.evaluation.distances:measure",
            gives=("*_in_*",),
            needs=("generate",),
            libraries=("sklearn", "torchmetrics"),
            samples=True,
            in_a_space=True,
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

LEAST_TRAIN = 2
"""Images that a baseline can be fitted to: of one there is no spread."""

LEAST_SAMPLES = 10
"""Generated images that a figure can be made of."""


def _in_isolation(call: Callable[..., T]) -> Callable[..., T]:
    """``call`` under :func:`zoo.isolation.isolated`, which is not imported before it runs."""

    @wraps(call)
    def wrapped(*args: Any, **kwargs: Any) -> T:
        from zoo.isolation import isolated

        with isolated():
            return call(*args, **kwargs)

    return wrapped


@typed()
@_in_isolation
def evaluate(
    name: str,
    *,
    data: str | Path | None = None,
    data_dir: str | Path | None = None,
    protocols: Iterable[str] | None = None,
    seed: int = 0,
    against: str | Path | None = None,
    samples: int | None = None,
    space: str | None = None,
    with_baselines: bool = True,
    write: bool = True,
    progress: Callable[[str], None] = lambda line: None,
    advance: Callable[[str, float, float], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Measure a model on the test part of a data set.

    What cannot be measured, for want of a library or of labels, is known before anything is.

    Args:
        name: what :func:`zoo.load` takes.
        data: what :func:`zoo.data.load_data` takes; by default what the weights were trained on.
            A folder without parts is split four to one by ``seed``.
        data_dir: where to look for a named set first.
        protocols: keys of :data:`PROTOCOLS`, or ``"all"``; by default the standard ones.
        seed: of everything random.
        against: the weights folder of the same model trained with another recipe; its squared
            error is measured beside, and the difference of recipes is its protocol.
        samples: how many images a generator makes to be measured; by default as each protocol
            says, up to 50,000.
        space: where generated images are compared with test images by the protocol ``distances``:
            ``pixels``, ``pca`` (the default), or the name of a model that has features.
        with_baselines: whether baselines are measured too, which takes most of the time.
        write: keep metrics.json of a ``local-dir:`` folder up to date after each protocol; figures
            of other protocols stay in it.
        progress: called with a line for each protocol that starts or is left out, and with what is
            to be said of the data.
        advance: called with what is going on, how much of it is done, and of how much, for all that
            may take longer than seconds.

    Returns:
        What metrics.json holds: ``data``, ``seed``, ``metrics`` (records with their seconds),
        ``left_out`` (protocols with the reason why they were not run) and ``versions``.

    Raises:
        InputError: there is no such protocol or space, or the weights do not say where the data
            are that they learnt from.
        MissingDependency: a library that a protocol needs which was named; the text has them all.
        CapabilityError: nothing could be measured at all; the text has each reason.
        ZooError: as :func:`zoo.load` and :func:`zoo.data.load_data`.
    """
    from zoo.api import load
    from zoo.report.card import is_card, write_card

    chosen = _chosen(protocols)
    named = frozenset() if protocols is None else _names(protocols) - {"all"}
    model = load(name)
    source = model.source
    if (source is None or source.folder is None) and (data is None or against is not None):
        raise InputError(
            f"{name} has no weights folder that says what it was trained on"
            + (": leave --against out" if against else f"; type: zoo evaluate {name} --data SET")
        )
    folder = (source and source.folder) or Path()
    write = write and name.startswith("local-dir:")
    if write:
        _refuse_cache(folder)
        _recorded(folder)  # what cannot be read is not found out at the end
    chosen, left_out = _possible(chosen, named, model, name, with_baselines)
    for out in left_out:
        progress(f"left out {out['protocol']}: {out['reason']}")
    where = _space(space, chosen, model)
    _require_samples(samples, chosen)
    if against is not None:
        load(f"local-dir:{against}")  # which may not be there
    data = learnt_from(name, folder) if data is None else str(data)
    train, test = _parts(model, data, data_dir, seed, partial(advance, "reading pictures"))
    notes = [*test.remarks, *train.remarks]
    if any(protocol.labels for protocol in chosen):
        notes += filter(None, map(_unlabelled, (train, test)))
    for note in dict.fromkeys(notes):
        progress(note)
    # A folder's path is nobody's business in what is published of it.
    called = model.spec.name if name.startswith("local-dir:") else model.name
    context = Context(
        model, called, train, test, seed, with_baselines,
        samples=samples, space=where, named=named, advance=advance,
    )  # fmt: skip
    metrics: list[dict[str, Any]] = []
    done: list[str] = []  # the names, shell-style, of what was measured
    result = {"data": test.name, "seed": seed, "metrics": metrics, "left_out": left_out}

    def run(measure: Callable[[Context], Iterator[Figure]], *gives: str) -> None:
        for record in _records(measure(context), test):
            metrics.append(record)
        done.extend(gives)

    def keep() -> None:
        result["versions"] = _versions()
        if write and metrics:
            again = {protocol.name for protocol in chosen} | {o["protocol"] for o in left_out}
            with holding(folder):  # another may have written since this one began
                write_json(folder / METRICS, _merged(_recorded(folder), result, done, again))

    def leave_out(protocol: Protocol, reason: str) -> None:
        left_out.append({"protocol": protocol.name, "reason": reason})
        progress(f"left out {protocol.name}: {reason}")

    suited = []
    for protocol in chosen:
        if reason := _unsuited(protocol, context):
            leave_out(protocol, reason)
        else:
            suited.append(protocol)
    for protocol in suited:
        progress(f"{protocol.name}: {protocol.summary}")
        try:  # of one that is measured in a space, figures in other spaces stay
            run(protocol.run, *(() if protocol.in_a_space else protocol.gives))
        except (LeftOut, MissingDependency) as error:
            leave_out(protocol, str(error))
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
    card = folder / CARD
    if write and is_card(card):  # it shows the figures
        write_card(folder)
    elif write and card.exists():
        progress(f"{card} is not a card that the zoo wrote, so it stays as it is")
    return result


@typed()
def verify(
    name: str,
    *,
    data: str | Path | None = None,
    data_dir: str | Path | None = None,
    protocols: Iterable[str] | None = None,
    space: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
    advance: Callable[[str, float, float], None] = lambda what, done, total: None,
) -> list[dict[str, Any]]:
    """Measure again what the weights' metrics.json holds, without the baselines, and compare.

    An exact figure may differ by a thousandth of its value, one with a seed by 0.01 (or a
    hundredth, when it is above 1): libraries and processors differ by less.

    Args:
        name: what :func:`zoo.load` takes.
        data: the figures on these data only, such as the folder that a name in the record means.
        data_dir: where to look for named sets first.
        protocols: of these only; by default of all that gave a figure.
        space: the figures in this space only, of those that are in one; weights of a folder are
            called ``local-dir:FOLDER`` here, since the record does not say where they were.
        progress: called with a line for each protocol that starts.
        advance: as :func:`evaluate`.

    Returns:
        A row for each figure: ``name``, ``dataset``, ``recorded``, ``measured``, ``tolerance``.

    Raises:
        WeightsError: a figure is not what it was; the text names each, with both values.
        InputError: there is no such protocol, or nothing is recorded of it.
        ZooError: as :func:`evaluate`.
    """
    from zoo.sources import weights_folder

    folder = weights_folder(name)
    recorded = weights_record(folder, "recorded").metrics
    if data is not None:
        path = Path(data).resolve()
        recorded = [m for m in recorded if m.dataset in (path.name, path.stem)]
    wanted = list(PROTOCOLS.values()) if protocols is None else _chosen(protocols)
    rows = []
    for how, again in _runs(recorded, wanted, space).items():
        result = evaluate(
            name,
            data=data or learnt_from(name, folder, how.data),
            data_dir=data_dir,
            protocols=list(again),
            seed=how.seed,
            samples=how.samples,
            space=how.space,
            with_baselines=False,
            write=False,
            progress=progress,
            advance=advance,
        )
        measured = {m["name"]: m["value"] for m in result["metrics"]}
        rows += [
            {
                "name": m.name,
                "dataset": how.data,
                "recorded": m.value,
                "measured": measured.get(m.name),
                "tolerance": tolerance(m),
            }
            for m in recorded
            if any(m in given for given in again.values())
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


class _How(NamedTuple):
    """How figures were measured that one call of :func:`evaluate` measures again."""

    data: str
    seed: int
    samples: int | None
    space: str | None


def _runs(
    recorded: Iterable[Metric], protocols: Iterable[Protocol], space: str | None = None
) -> dict[_How, dict[str, list[Metric]]]:
    """What is recorded, by how it was measured and by the protocol that gave it.

    Args:
        space: of figures in a space only those in this one.
    """
    called = None if space is None else _space_of(space)
    runs: dict[_How, dict[str, list[Metric]]] = {}
    recorded = list(recorded)
    for data in dict.fromkeys(m.dataset for m in recorded):
        for protocol in protocols:
            given = [m for m in recorded if m.dataset == data and protocol.has_given(m.name)]
            seed = next((m.seed for m in given if m.seed is not None), 0)
            for each, figures in _by_space(protocol, given).items():
                if each is not None and called not in (None, each):
                    continue
                if called is None and "@" in (each or "") and not each.startswith("hf-hub:"):
                    raise InputError(
                        f"figures in the features of {each} are recorded, the weights of a folder "
                        "whose place is not: name it with --space local-dir:FOLDER, or name other "
                        "protocols than distances"
                    )
                how = _How(data, seed, _samples(protocol, figures), space if called else each)
                runs.setdefault(how, {})[protocol.name] = figures
    return runs


def _by_space(protocol: Protocol, given: list[Metric]) -> dict[str | None, list[Metric]]:
    if not protocol.in_a_space:
        return {None: given} if given else {}
    spaces: dict[str | None, list[Metric]] = {}
    for metric in given:
        spaces.setdefault(metric.name.partition("_in_")[2], []).append(metric)
    return spaces


def _samples(protocol: Protocol, figures: list[Metric]) -> int | None:
    """What ``samples`` figures were measured with; None for the protocol's own number."""
    if not protocol.samples:
        return None
    made = [m.samples for m in figures if m.name != "generated_1nn"]  # which counts test images
    return None if not made or made[0] == protocol.own_samples else made[0]


def _space_of(name: str) -> str:
    """What figures in a space that a user names are called after."""
    from zoo.evaluation.distances import open_space

    return open_space(name, (1, 1, 1)).name


def tolerance(metric: Metric) -> float:
    """How far from a recorded figure the same figure may come out elsewhere."""
    if metric.seed is None:
        return max(1e-3 * abs(metric.value), 5e-6)  # the first records have five decimals
    return 0.01 * max(1.0, abs(metric.value))


def _names(protocols: Iterable[str]) -> frozenset[str]:
    return frozenset([protocols] if isinstance(protocols, str) else protocols)


def _chosen(names: Iterable[str] | None) -> list[Protocol]:
    if names is None:
        return [p for p in PROTOCOLS.values() if p.standard]
    names = _names(names)
    for name in sorted(names):
        if name != "all" and name not in PROTOCOLS:
            close = difflib.get_close_matches(str(name), PROTOCOLS, n=1)
            raise InputError(
                f"there is no protocol {name!r}"
                + (f"; did you mean {close[0]}?" if close else ".")
                + f" There are: {', '.join(PROTOCOLS)}, or all"
            )
    return [p for p in PROTOCOLS.values() if "all" in names or p.name in names]


def _possible(
    chosen: list[Protocol],
    named: frozenset[str],
    model: "ZooModel",
    name: str,
    with_baselines: bool,
) -> tuple[list[Protocol], list[dict[str, str]]]:
    """Those of ``chosen`` whose libraries are all there, and the others with the reason.

    Raises:
        MissingDependency: one of the others was named.
    """
    missing: dict[str, list[str]] = {}
    for protocol in chosen:
        if any(call not in model.capabilities for call in protocol.needs):
            continue  # it will not be run
        needed = protocol.libraries + (protocol.baseline_libraries if with_baselines else ())
        if absent := [module for module in needed if not installed(module)]:
            missing[protocol.name] = [MEASURING.get(module, module) for module in absent]
    install = f"Type: {install_command('latentzoo[evaluate]')}"
    if wanted := [p for p in missing if p in named]:
        raise MissingDependency(
            "not all libraries are installed that measure what was asked for; nothing was measured:"
            + "".join(f"\n  {p} needs {' and '.join(missing[p])}" for p in wanted)
            + f"\n{install}"
        )
    left_out = [
        {"protocol": p, "reason": f"needs {' and '.join(absent)}, not installed. {install}"}
        for p, absent in missing.items()
    ]
    return [p for p in chosen if p.name not in missing], left_out


def _space(name: str | None, chosen: list[Protocol], model: "ZooModel") -> Space | None:
    """Raises: InputError, ZooError: it is no space, or no chosen protocol asks for one."""
    if name is None:
        return None
    from zoo.evaluation.distances import open_space

    if not any(p.in_a_space and set(p.needs) <= set(model.capabilities) for p in chosen):
        raise InputError(
            "a space is for the protocol distances, of a model that generates: leave --space out, "
            "or add --protocol distances"
        )
    return open_space(name, model.image_shape)


def _require_samples(samples: int | None, chosen: list[Protocol]) -> None:
    if samples is None:
        return
    whole = isinstance(samples, int) and not isinstance(samples, bool)
    if not whole or samples < LEAST_SAMPLES:
        raise InputError(f"expected samples from {LEAST_SAMPLES}, got {samples!r}")
    if not any(protocol.samples for protocol in chosen):
        able = ", ".join(p.name for p in PROTOCOLS.values() if p.samples)
        raise InputError(
            f"no protocol that was chosen generates images: leave --samples out, or add one of "
            f"--protocol {able}"
        )


def learnt_from(name: str, folder: Path, dataset: str | None = None) -> str:
    """What :func:`zoo.data.load_data` takes for the data that weights learnt from.

    A file or folder is no part of what is published: a training run keeps in its own folder where
    it was.

    Args:
        name: of the model, for messages.
        folder: its weights folder.
        dataset: what the data are called, if they are not those of config.json.

    Raises:
        InputError: they are not where they were, or nobody kept where that is.
    """
    from zoo.data import NAMED
    from zoo.manifest import WEIGHTS, read_manifest

    dataset = dataset or read_config(folder).facts["dataset"]
    if dataset in NAMED:
        return dataset
    run = read_manifest(folder.parent) if folder.name == WEIGHTS else None
    source = run["facts"].get("source") if run else None
    if isinstance(source, str) and dataset in (Path(source).name, Path(source).stem):
        if Path(source).exists():
            return source
        where = f"which is no longer at {source}"
    else:
        where = "and where that was is not known here"
    if Path(dataset).expanduser().exists():
        return dataset
    raise InputError(
        f"{name} learnt from {path_text(dataset)}, {path_text(where)}.\n"
        f"Type: zoo evaluate {name} --data FILE_OR_FOLDER"
    )


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
    model: "ZooModel",
    data: str,
    data_dir: str | Path | None,
    seed: int,
    read: Callable[[int, int], None] | None = None,
) -> "tuple[Dataset, Dataset]":
    """The train and the test part of ``data``. Raises: DataError: one of them is too small."""
    from zoo.data import load_data, split_validation

    where = None if data_dir is None else user_path(data_dir)
    test = load_data(data, "test", model.preprocessing, data_dir=where, progress=read)
    if test.split == "test":
        train = load_data(data, "train", model.preprocessing, data_dir=where, progress=read)
        return _enough(train, test)
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
    return _enough(train, test)


def _enough(train: "Dataset", test: "Dataset") -> "tuple[Dataset, Dataset]":
    """Both parts, if there is anything to measure. Raises: DataError."""
    if len(train) < LEAST_TRAIN or not len(test):
        raise DataError(
            f"{test.name} is too small to measure on: {len(train)} images to learn from and "
            f"{len(test)} to test with, where at least {LEAST_TRAIN} and 1 are needed, and some "
            "hundreds make figures worth having. Give more images, or parts train and test"
        )
    return train, test


def _records(figures: Iterator[Figure], test: "Dataset") -> Iterator[dict[str, Any]]:
    """Figures as metrics.json has them; ``seconds`` is what each took, baselines included."""
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
            baselines={baseline: _rounded(value) for baseline, value in figure.baselines.items()},
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


def _refuse_cache(folder: Path) -> None:
    """Raises: InputError: a folder of the Hub client's cache, whose links lead to shared bytes."""
    names = (CONFIG, TENSORS, METRICS, CARD)
    links = [name for name in names if (folder / name).is_symlink()]
    if links:
        raise InputError(
            f"{path_text(folder / links[0])} is a link, as in a cache of the Hub, where figures "
            "are not written: the bytes behind it are others' too. Measure it by its name "
            "(zoo evaluate hf-hub:ORG/NAME), or have a folder of your own first: "
            "zoo pull hf-hub:ORG/NAME --to FOLDER"
        )


def _recorded(folder: Path) -> dict[str, Any]:
    """The metrics.json of a folder, checked before anything is measured; empty without one."""
    weights_record(folder, "recorded")
    path = folder / METRICS
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
