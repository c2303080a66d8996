"""The protocol ``robustness``: the linear probe with damaged images, and with unequal classes."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from zoo.evaluation.protocol import Context, Figure
from zoo.evaluation.recognition import fit_linear, probe

DAMAGE = (("noise", 0.2), ("mask", 0.5))
"""Kinds and strengths of :func:`zoo.corruption.corrupt` that the test images are damaged with."""

RATIO = 100
"""How many times larger the largest class of the long tail is than the smallest."""


def long_tail(labels: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """Indices of a part whose class sizes fall exponentially from class to class, by ``ratio``.

    In the order of the labels, as Cui et al. 2019, "Class-balanced loss", have it; the first class
    keeps as many as the smallest class has.
    """
    classes, sizes = labels.unique(return_counts=True)
    chosen = []
    for rank, label in enumerate(classes):
        share = ratio ** (-rank / max(1, len(classes) - 1))
        members = (labels == label).nonzero()[:, 0]
        order = torch.randperm(len(members), generator=generator)
        chosen.append(members[order[: max(1, round(int(sizes.min()) * share))]])
    return torch.cat(chosen)


def measure(context: Context) -> Iterator[Figure]:
    """``robust_noise``, ``robust_mask`` and ``robust_longtail``, baselines in the same spaces."""
    from zoo.corruption import corrupt

    labels, answers = context.labels("train"), context.labels("test")

    def damaged(space: str, kind: str, strength: float) -> float:
        generator = torch.Generator().manual_seed(context.seed)
        encode = context.encoder(space)
        batches = context.batches("test", f"features of {space} after {kind}")
        features = [encode(corrupt(x, kind, strength, generator)) for x in batches]
        return probe(context, space).accuracy(torch.cat(features), answers)

    for kind, strength in DAMAGE:
        value, baselines = context.in_spaces(
            f"robust_{kind}", partial(damaged, kind=kind, strength=strength)
        )
        yield Figure(
            name=f"robust_{kind}",
            value=value,
            protocol=f"accuracy of the probe, fitted to undamaged train images, on test images "
            f"after {kind} {strength:g}",
            samples=len(answers),
            seed=context.seed,
            baselines=baselines,
        )

    part = long_tail(labels, RATIO, torch.Generator().manual_seed(context.seed))

    def tailed(space: str) -> float:
        classifier = fit_linear(context.features(space, "train")[part], labels[part])
        return classifier.accuracy(context.features(space, "test"), answers)

    value, baselines = context.in_spaces("robust_longtail", tailed)
    yield Figure(
        name="robust_longtail",
        value=value,
        protocol=f"test accuracy of the probe fitted to {len(part):,} train images whose class "
        f"sizes fall exponentially to 1/{RATIO}; all test images",
        samples=len(answers),
        seed=context.seed,
        baselines=baselines,
    )
