"""The convolutional variational autoencoder: Kingma & Welling 2013 (arXiv:1312.6114) for grey and
colour pictures, with the weight beta of Higgins et al. 2017, "beta-VAE: learning basic visual
concepts with a constrained variational framework", ICLR (equation 4).

Pixels are Gaussian with one deviation for all, which is learnt: a fixed one would be a hidden
weight on the divergence (Rybkin, Daniilidis & Levine 2021, "Simple and effective VAE training
with calibrated decoders", arXiv:2006.13202, section 3). Strided convolutions and their transposes
as in Radford et al. 2015 (arXiv:1511.06434), with batch norm.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.errors import SettingsError
from zoo.model import AutoencoderRecipe, Step
from zoo.nn import conv_down, conv_up, halved
from zoo_vae.variational import VariationalAutoencoder, draw, kl

__all__ = ["ConvVAE"]


@dataclass(frozen=True, kw_only=True)
class Recipe(AutoencoderRecipe):
    epochs: int = 40
    batch_size: int = 64
    beta: float = 1.0  # of the divergence: over 1 smoother and better to sample, below 1 sharper


class ConvVAE(VariationalAutoencoder):
    """Halves the picture until it is at most 4 pixels wide, then one linear layer to q(z | x)."""

    recipe = Recipe

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        width: int = 32,
        latent_dim: int = 32,
        components: int = 20,
    ):
        super().__init__()
        if not (channels in (1, 3) and 8 <= size <= 256 and width > 0 and latent_dim > 0):
            raise SettingsError(
                "conv_vae: expected 1 or 3 channels, a size from 8 to 256, width and "
                f"latent_dim positive, got {channels=}, {size=}, {width=}, {latent_dim=}"
            )
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_dim,)
        sizes = halved(size)  # 28, 14, 7, 4
        # 1, 32, 64, 128; no wider than eight times the first, however large the picture
        widths = [channels, *(width * min(2**i, 8) for i in range(len(sizes) - 1))]
        down = conv_down(widths)  # 32 x 14 x 14, 64 x 7 x 7, 128 x 4 x 4
        up = conv_up(widths, sizes)  # 64 x 7 x 7, 32 x 14 x 14, 1 x 28 x 28
        shape = (widths[-1], sizes[-1], sizes[-1])
        flat = shape[0] * shape[1] * shape[2]
        # mean and logarithm of the deviation
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, 2 * latent_dim))
        self.decoder = nn.Sequential(nn.Linear(latent_dim, flat), nn.Unflatten(1, shape), *up)
        self.log_sigma = nn.Parameter(torch.full((), math.log(0.2)))  # of a pixel
        self.set_density(latent_dim, components)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.encoder(images).float().chunk(2, dim=1)  # N x latent_dim each
        return mean, log_std

    def _decode(self, codes: Tensor) -> Tensor:
        images: Tensor = self.decoder(codes).sigmoid()  # N x C x H x W
        return images

    def _score(self, images: Tensor) -> Tensor:
        """The negative bound in nats, at the posterior's mean instead of a sample of it."""
        mean, log_std = self.posterior(images)
        return kl(mean, log_std) - self._log_likelihood(images, mean)

    def _log_likelihood(self, images: Tensor, codes: Tensor) -> Tensor:
        """log p(x | z) in nats: N x C x H x W and N x latent_dim to N."""
        # The sigmoid in full precision: in bf16 its steps would be visible.
        error = self.decoder(codes).float().sigmoid() - images
        pixel = math.log(2 * math.pi) / 2 + self.log_sigma
        out: Tensor = -(error.square() / (2 * (2 * self.log_sigma).exp()) + pixel).flatten(1).sum(1)
        return out

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        mean, log_std = self.posterior(step.seen)
        codes = draw(mean, log_std, 1, step.generator)[:, 0]
        return {
            "reconstruction": -self._log_likelihood(images, codes).mean(),
            "kl": step.recipe.beta * kl(mean, log_std).mean(),
        }
