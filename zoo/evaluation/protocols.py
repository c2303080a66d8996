"""The table of all protocols, and the choice of those that are asked for and can be run."""

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo.errors import InputError, MissingDependency
from zoo.evaluation.protocol import Context, Protocol, Space
from zoo.installing import install_command
from zoo.optional import installed

if TYPE_CHECKING:
    from zoo.model import ZooModel

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
            libraries=("matplotlib", "sklearn", "tensorboardX", "timm"),
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
"""The libraries of the protocols: module to distribution."""


LEAST_SAMPLES = 10
"""The fewest generated images that can be measured."""


def protocol_names(protocols: Iterable[str]) -> frozenset[str]:
    return frozenset([protocols] if isinstance(protocols, str) else protocols)


def chosen_protocols(names: Iterable[str] | None) -> list[Protocol]:
    if names is None:
        return [p for p in PROTOCOLS.values() if p.standard]
    names = protocol_names(names)
    for name in sorted(names):
        if name != "all" and name not in PROTOCOLS:
            close = difflib.get_close_matches(str(name), PROTOCOLS, n=1)
            raise InputError(
                f"there is no protocol {name!r}"
                + (f"; did you mean {close[0]}?" if close else ".")
                + f" There are: {', '.join(PROTOCOLS)}, or all"
            )
    return [p for p in PROTOCOLS.values() if "all" in names or p.name in names]


def possible_protocols(
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


def chosen_space(name: str | None, chosen: list[Protocol], model: "ZooModel") -> Space | None:
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


def require_samples(samples: int | None, chosen: list[Protocol]) -> None:
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


def why_unsuited(protocol: Protocol, context: Context) -> str | None:
    """Why a protocol cannot be run on this model and these data, if so."""
    import torch

    missing = [c for c in protocol.needs if c not in context.model.capabilities]
    if missing:
        return f"{context.name} cannot {' and '.join(missing)}"
    known = context.labelled
    labels, learnt = known.test.labels, known.train.labels
    if labels is None or learnt is None:
        return f"{context.test.name} has no labels" if protocol.labels else None
    if protocol.predicts and not torch.isin(labels, learnt).any():
        return f"no class of the test part of {context.test.name} is in its train part"
    return None
