"""The shallow autoencoder: one hidden layer on either side of nothing but a ReLU code.

Rumelhart, Hinton & Williams 1986, "Learning internal representations by error propagation";
in the form of a well-known tutorial: Chollet 2016, "Building Autoencoders in Keras".
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.errors import SettingsError
from zoo.model import Autoencoder, AutoencoderRecipe, GaussianMixture, Step

__all__ = ["AE"]


@dataclass(frozen=True, kw_only=True)
class Recipe(AutoencoderRecipe):
    epochs: int = 60
    batch_size: int = 128
    lr: float = 2e-3
    precision: str = "fp32"  # too small a net for bf16 to gain anything


class AE(Autoencoder):
    """784 -> 32 ReLU -> 32 ReLU (the code) -> 784 sigmoid; mean squared error; Adam."""

    recipe = Recipe

    def __init__(
        self, *, channels: int = 1, size: int = 28, hidden: int = 32, latent_dim: int = 32
    ):
        super().__init__()
        if not (channels in (1, 3) and 1 <= size <= 512 and hidden > 0 and latent_dim > 0):
            raise SettingsError(
                f"ae: expected 1 or 3 channels, a size from 1 to 512 and positive widths, got "
                f"channels={channels}, size={size}, hidden={hidden}, latent_dim={latent_dim}"
            )
        pixels = channels * size * size
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_dim,)
        first, second = nn.Linear(pixels, hidden), nn.Linear(hidden, latent_dim)
        self.encoder = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        # With torch's default half of the hidden units are dead from the start, and stay so. Here
        # all are alive, and the second layer begins as the identity.
        nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
        nn.init.ones_(first.bias)
        nn.init.eye_(second.weight)
        nn.init.zeros_(second.bias)
        self.decoder = nn.Sequential(nn.Linear(latent_dim, pixels), nn.Sigmoid())
        self.density = GaussianMixture(latent_dim, components=20)

    def _encode(self, images: Tensor) -> Tensor:
        codes: Tensor = self.encoder(images.flatten(1))  # N x latent_dim
        return codes

    def _decode(self, codes: Tensor) -> Tensor:
        images: Tensor = self.decoder(codes).unflatten(1, self.image_shape)  # N x C x H x W
        return images

    def _sample_codes(self, n: int, generator: torch.Generator) -> Tensor:
        return super()._sample_codes(n, generator).relu()  # a ReLU code is never negative

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        error = (self._reconstruct(step.seen) - images).square()
        return {"sse": error.flatten(1).sum(1).mean()}  # summed over pixels, mean over images
