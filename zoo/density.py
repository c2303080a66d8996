"""A density over codes, fitted once after training and stored with the weights."""

import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from zoo.optional import optional

__all__ = ["GaussianMixture", "fit_density"]

ENOUGH = 20_000
"""The most codes that a density is fitted to."""


ROUNDS = 60
"""The most rounds of expectation maximisation: enough for a density that is only sampled from."""

ENOUGH_ALIKE = 1e-3
"""When the mean log-likelihood changes by less than this, fitting ends."""


class GaussianMixture(nn.Module):
    """A mixture of ``components`` full Gaussians over flat codes of ``dim`` numbers.

    Until :meth:`fit` it is the standard normal distribution, so that an untrained model can
    generate too. Everything is a buffer, so it is saved with the weights. With ``prior`` it stays
    the standard normal distribution and is never fitted: the codes are trained to follow it.
    """

    weights: Tensor
    means: Tensor
    scales: Tensor

    def __init__(self, dim: int, components: int, *, prior: bool = False):
        super().__init__()
        self.prior = prior
        self.register_buffer("weights", torch.full((components,), 1 / components))  # K
        self.register_buffer("means", torch.zeros(components, dim))  # K x D
        scales = torch.zeros(components, dim, dim)  # K x D x D, lower triangular
        # Not torch.eye: on the meta device, where loading builds the model, it costs 2 seconds.
        scales.diagonal(dim1=1, dim2=2).fill_(1)
        self.register_buffer("scales", scales)

    def fit(self, codes: Tensor, *, seed: int = 0, limit: int = ENOUGH) -> None:
        """Fit by expectation maximisation (scikit-learn) to at most ``limit`` of ``codes``, N x D.

        Raises:
            MissingDependency: scikit-learn is not installed.
        """
        mixture = optional("sklearn.mixture", "scikit-learn", "train")
        generator = torch.Generator().manual_seed(seed)
        codes = codes.detach().cpu().double()
        codes = codes[torch.randperm(len(codes), generator=generator)[:limit]]
        components = min(len(self.weights), max(1, len(codes) // 10))
        # Codes that hardly vary (a dead ReLU unit) would make a covariance singular.
        regularisation = 1e-4 * float(codes.var(0).mean()) + 1e-8
        fitted = mixture.GaussianMixture(
            components, reg_covar=regularisation, random_state=seed, warm_start=True
        )
        _in_rounds(fitted, codes.numpy())
        covariances = torch.from_numpy(fitted.covariances_)
        weights = torch.zeros_like(self.weights)
        weights[:components] = torch.from_numpy(fitted.weights_)
        self.weights.copy_(weights)
        self.means[:components] = torch.from_numpy(fitted.means_).to(self.means)
        self.scales[:components] = torch.linalg.cholesky(covariances).to(self.scales)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` codes, n x D, drawn on the CPU so that a seed means the same on every device."""
        weights, means, scales = (t.float().cpu() for t in (self.weights, self.means, self.scales))
        indices = torch.multinomial(weights, n, replacement=True, generator=generator)  # n
        noise = torch.randn(n, means.shape[1], generator=generator)  # n x D
        return means[indices] + torch.einsum("nij,nj->ni", scales[indices], noise)


def fit_density(
    density: GaussianMixture,
    images: Callable[[], Iterator[Tensor]],
    encode: Callable[[Tensor], Tensor],
    seed: int,
) -> None:
    """Fit ``density`` to flat codes, N x D, that ``encode`` makes of batches of ``images()``.

    The first :data:`ENOUGH` are taken: batches come in random order.
    """
    codes: list[Tensor] = []
    for batch in images():
        codes.append(encode(batch))
        if sum(map(len, codes)) >= ENOUGH:
            break
    density.fit(torch.cat(codes), seed=seed)


def _in_rounds(mixture: Any, codes: Any) -> None:
    """Fit scikit-learn's ``mixture``, which has to be one with ``warm_start``, to codes, N x D.

    These are the rounds that it would do itself within :data:`ROUNDS`. After the last one it would
    warn that it has not converged, which does not matter here, and that warning could only be
    silenced by changing the filters of the whole process. So each call does a single round, with a
    tolerance that every round meets.
    """
    mixture.set_params(max_iter=0, tol=sys.float_info.max).fit(codes)  # where it starts from
    mixture.set_params(max_iter=1)
    before = -math.inf
    mixture.lower_bound_ = 0.0  # which the first round compares with: minus infinity is no number
    for _ in range(ROUNDS):
        mixture.fit(codes)
        if abs(mixture.lower_bound_ - before) < ENOUGH_ALIKE:
            break
        before = mixture.lower_bound_
