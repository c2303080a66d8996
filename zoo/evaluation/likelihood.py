"""Importance-weighted likelihood of variational models, in nats.

Burda, Grosse & Salakhutdinov 2015, "Importance weighted autoencoders", arXiv:1509.00519: the mean
of K importance weights p(x, z) / q(z | x) estimates p(x), and its logarithm (equation 8) bounds
log p(x) from below, the closer the larger K. They measure with K = 5,000 on stochastically
binarised MNIST (section 5).
"""

import math
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from zoo.data import to_float
from zoo.evaluation.protocol import Context, Figure, ProtocolSkipped, Tracked, untracked

SAMPLES = 5000
AT_ONCE = 20_000
"""The most codes that are decoded at once: images times samples."""


@runtime_checkable
class Variational(Protocol):
    """The method that a :class:`zoo.model.ZooModel` needs for this protocol."""

    def log_weights(self, images: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """log p(x, z) - log q(z | x) of ``samples`` draws of z from q(z | x) for each image.

        Args:
            images: N x C x H x W, float32, each pixel 0 or 1.
            samples: K.
            generator: the only source of randomness, on the CPU.

        Returns:
            N x K, in nats.
        """


def log_likelihood(
    model: Variational,
    images: Tensor,
    *,
    samples: int = SAMPLES,
    generator: torch.Generator,
    at_once: int = AT_ONCE,
    tracked: Tracked[Tensor] = untracked,
) -> Tensor:
    """The logarithm of the mean of ``samples`` importance weights of each image, N float64.

    Args:
        images: N x C x H x W, each pixel 0 or 1.
        at_once: images times samples that ``model`` gets in one call.
    """
    chunk = min(samples, 500)
    parts = []
    with torch.no_grad():
        batches = images.split(max(1, at_once // chunk))
        for part in tracked(batches, len(batches), "importance samples"):
            total = torch.full((len(part),), -math.inf, dtype=torch.float64)
            for start in range(0, samples, chunk):
                weights = model.log_weights(part, min(chunk, samples - start), generator)
                total = torch.logaddexp(total, weights.double().cpu().logsumexp(1))
            parts.append(total - math.log(samples))
    return torch.cat(parts)


def binarised(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each pixel of ``images`` (values in [0, 1]) is 1 with its value as the probability."""
    return torch.bernoulli(images, generator=generator)


def independent_pixels(train: Tensor, images: Tensor) -> Tensor:
    """The log-likelihood of each of the binary ``images`` if all pixels were independent, N.

    Their probabilities are the means of ``train``, N x C x H x W in [0, 1].
    """
    mean = train.double().mean(0)
    # Each pixel at least once of either kind, so that no test image is impossible.
    mean = (mean * len(train) + 1) / (len(train) + 2)
    of_each = torch.where(images > 0, mean.log(), (1 - mean).log())
    return of_each.flatten(1).sum(1)


def measure(context: Context) -> Iterator[Figure]:
    """nll.

    Raises:
        ProtocolSkipped: the model is not variational.
    """
    model = context.model
    if not isinstance(model, Variational):
        raise ProtocolSkipped(f"{context.name} is not variational: it has no log_weights")
    generator = torch.Generator().manual_seed(context.seed)
    images = binarised(to_float(context.test.images[:]), generator)
    likelihood = log_likelihood(
        model, images.to(model.device), generator=generator, tracked=context.tracked
    )
    mean_image = independent_pixels(to_float(context.train.images[:]), images)
    yield Figure(
        name="nll",
        value=-float(likelihood.mean()),
        baselines={"mean_image": -float(mean_image.mean())},
        protocol="negative log-likelihood in nats, bounded from above by "
        f"{SAMPLES:,} importance samples an image (Burda et al. 2015, equation 8), mean over the "
        "test images, stochastically binarised once by the seed; mean_image: independent pixels "
        "with the means of the train part",
        samples=len(context.test),
        seed=context.seed,
    )
