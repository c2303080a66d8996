"""Generated images against test images where no classifier is shipped for the data.

The same distances as :mod:`zoo.evaluation.generation` has, in raw pixels, in their principal
components, or in the features of a model that the user names. They can be compared only with
figures in the same space, on the same data, of as many images: the name of each ends in the space.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from zoo.errors import CapabilityError, InputError
from zoo.evaluation.classifier import has_classifier
from zoo.evaluation.generation import (
    NEIGHBOURS,
    SAMPLES,
    SUBSET,
    distance_words,
    distances,
    generated,
    in_batches,
    random_rows,
)
from zoo.evaluation.protocol import PCA_COMPONENTS, Context, Figure, ProtocolSkipped, Space

LEAST = 1_000
"""Generated images, unless the user says how many: as many as test images, but no fewer."""

WIDEST = 4_096
"""The most pixels that distances are measured in: a Fréchet distance takes the cube of them."""


def open_space(name: str, shape: tuple[int, int, int]) -> Space:
    """The space that a user chose for images of this shape.

    Args:
        name: ``pixels``, ``pca``, or what :func:`zoo.load` takes.

    Raises:
        InputError: images of so many pixels are not compared in pixels.
        CapabilityError: the model has no features.
        ZooError: as :func:`zoo.load`.
    """
    from zoo.api import loaded

    if name == "pixels" and (numbers := torch.Size(shape).numel()) > WIDEST:
        raise InputError(
            f"images of {' x '.join(map(str, shape))} are {numbers:,} pixels, and distances are "
            f"measured in {WIDEST:,} at most: --space pca, or the name of a model with features"
        )
    if name in ("pixels", "pca"):
        return Space(name)
    _, model, located = loaded(name)
    if "features" not in model.capabilities:
        raise CapabilityError(
            f"{name} has no features to measure distances in: --space pixels, pca, or another model"
        )
    called = model.name
    if name.startswith("local-dir:") and located is not None:  # its path is not to be published
        called = f"{model.record.name}@{located.config.sha256[:12]}"
    return Space(called, model)


def measure(context: Context) -> Iterator[Figure]:
    """``frechet_in_SPACE``, and so kernel, precision, recall, density and coverage.

    Raises:
        ProtocolSkipped: the zoo has a classifier for these data; or there are too few images.
    """
    asked = context.space is not None or "distances" in context.named
    if not asked and has_classifier(context.test.name):
        raise ProtocolSkipped(
            "generation measures them in the features of the zoo's classifier for "
            f"{context.test.name}; --space pixels, pca or a model's name measures in others too"
        )
    space = context.space or Space("pca")
    number = context.samples or min(SAMPLES, max(LEAST, len(context.test)))
    rows = random_rows(context, number)
    k = min(NEIGHBOURS, len(context.test) - 1, len(rows) - 1, number - 1)
    if k < 1:
        raise ProtocolSkipped(
            f"{context.test.name} has {len(context.train)} train and {len(context.test)} test "
            "images; distances between sets take two of each at least"
        )
    real = _features(context, space, context.test.images, "test images")
    made = _features(context, space, generated(context, number), "generated images")
    known = _features(context, space, context.train.images[rows], "train images")
    value = distances(context, real, made, "generated images", k)
    baseline = distances(context, real, known, "train images", k)
    subset = min(SUBSET, len(real), len(made))
    for name, words in distance_words(k, subset).items():
        yield Figure(
            name=f"{name}_in_{space.name}",
            value=value[name],
            spread=value.get(f"{name}_spread"),
            baselines={"train_set": baseline[name]},
            protocol=f"{words} of {number:,} generated images against all test images, "
            f"{_in_words(space)}; train_set: {len(rows):,} random train images instead",
            samples=number,
            seed=context.seed,
        )


def _features(context: Context, space: Space, images: Any, whose: str) -> Tensor:
    """Features of uint8 images, N x F."""
    encode = _encoder(context, space)
    return torch.cat([encode(x) for x in in_batches(context, images, f"{space.name} of {whose}")])


def _encoder(context: Context, space: Space) -> Callable[[Tensor], Tensor]:
    model = space.model
    if model is None:
        return context.encoder(space.name)
    return lambda images: model.features(model.preprocess(images)).cpu()


def _in_words(space: Space) -> str:
    if space.name == "pixels":
        return "in raw pixels in [0, 1]"
    if space.name == "pca":
        return f"in the first {PCA_COMPONENTS} principal components of the train images' pixels"
    return f"in the features of {space.name}"
