"""The base of the variational autoencoders: the posterior, its divergence from the prior, the step
of training, and a density on the codes in place of the prior.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from zoo.density import fit_density
from zoo.errors import SettingsError
from zoo.model import Autoencoder, GaussianMixture, Phase

__all__ = ["VariationalAutoencoder", "draw", "kl"]


def draw(mean: Tensor, log_std: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """``samples`` draws of each N(mean, exp(log_std)^2): N x D to N x samples x D.

    Reparametrised (Kingma & Welling 2013, section 2.4); ``generator`` is on the CPU.
    """
    n, d = mean.shape
    noise = torch.randn(n, samples, d, generator=generator).to(mean.device)
    return mean[:, None] + log_std.exp()[:, None] * noise


def kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, exp(log_std)^2) || N(0, I)), N x D to N, in nats (the paper's appendix B)."""
    return 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(1)


class VariationalAutoencoder(Autoencoder):
    """A subclass implements :meth:`posterior`, ``_decode`` and ``loss``: the parts of
    the negative bound on log p(images), in nats, mean over the batch.

    Codes are flat; ``encode`` gives the mean of the posterior. ``generate`` samples the prior
    (``components=0``), or so many Gaussians fitted to codes drawn from the posteriors of the
    training images, which never quite add up to the prior (Ghosh et al. 2020, "From variational to
    deterministic autoencoders", arXiv:1903.12436, section 4).
    """

    def set_density(self, latent_dim: int, components: int) -> None:
        """Set the density that ``generate`` samples.

        Raises:
            SettingsError: ``components`` is not a whole number from 0 to 1,000.
        """
        if not 0 <= components <= 1000:
            raise SettingsError(
                f"expected components from 1 to 1,000, or 0 for the prior, got {components}"
            )
        self.fitted = components > 0
        self.density = GaussianMixture(
            latent_dim, components=max(1, components), prior=not self.fitted
        )

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the deviation of q(z | x), both N x D float32."""
        raise NotImplementedError

    def _encode(self, images: Tensor) -> Tensor:
        return self.posterior(images)[0]

    def phases(self, recipe: Any) -> list[Phase]:
        return [Phase.of_loss("bound", recipe.epochs, self, self.loss, averaged=self)]

    @torch.no_grad()
    def fit(self, images: Callable[[], Iterator[Tensor]], seed: int) -> None:
        if not self.fitted:
            return
        generator = torch.Generator().manual_seed(seed)

        def drawn(batch: Tensor) -> Tensor:  # the decoder has never seen a code without its noise
            return draw(*self.posterior(batch), 1, generator)[:, 0]

        fit_density(self.density, images, drawn, seed)
