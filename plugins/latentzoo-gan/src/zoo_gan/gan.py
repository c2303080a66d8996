"""The first GAN: Goodfellow et al. 2014, "Generative adversarial nets", arXiv:1406.2661.

Section 5 and the authors' settings for MNIST: a generator of two ReLU layers of 1,200 over 100
uniform numbers, ending in a sigmoid; a discriminator of two maxout layers (Goodfellow et al. 2013,
arXiv:1302.4389) of 240 units with 5 pieces each, with dropout of a fifth of its input and half of
what follows. One step of each player in turn (algorithm 1 with k = 1), the generator by the
non-saturating loss (section 3).

Weights begin as the authors' do, uniform within 0.05 in the generator and 0.005 in the
discriminator: with larger ones there the discriminator wins at once, for good.

What differs: batch norm (Ioffe & Szegedy 2015, arXiv:1502.03167) in the generator, without which it
makes few kinds of digits here, with or without R1; Adam (Radford et al. 2015, section 4) where the
authors had momentum; the generator's last bias begins at zero, not at the data's; and what ships is
the exponential average of the generator's weights. After the game an encoder learns to invert it
(:mod:`zoo_gan.adversarial`). ``features`` are the discriminator's two layers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.errors import SettingsError
from zoo_gan.adversarial import FeatureDiscriminator, InvertedGAN, InvertedRecipe

__all__ = ["GAN"]


@dataclass(frozen=True, kw_only=True)
class Recipe(InvertedRecipe):
    epochs: int = 60
    batch_size: int = 100
    encoder_epochs: int = 15


class Maxout(nn.Module):
    """The largest of ``pieces`` linear functions, for each of ``units``."""

    def __init__(self, inputs: int, units: int, pieces: int):
        super().__init__()
        self.linear = nn.Linear(inputs, units * pieces)
        self.units = units

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x).unflatten(1, (self.units, -1)).amax(2)  # N x units
        return out


class Discriminator(FeatureDiscriminator):
    """Images in [0, 1] to one logit each: real above zero, generated below."""

    def __init__(self, pixels: int, units: int, pieces: int):
        super().__init__()
        self.first = Maxout(pixels, units, pieces)
        self.second = Maxout(units, units, pieces)
        self.head = nn.Linear(units, 1)
        self.input_dropout, self.dropout = nn.Dropout(0.2), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(self.input_dropout(x.flatten(1)))
        second = self.second(self.dropout(first))
        out: Tensor = self.head(self.dropout(second)).flatten()  # N
        return out

    def features(self, x: Tensor) -> Tensor:
        """Both layers, N x 2 * units."""
        first = self.first(x.flatten(1))
        return torch.cat([first, self.second(first)], dim=1)


class GAN(InvertedGAN):
    """Fully connected generator, discriminator, and encoder that inverts the generator."""

    recipe = Recipe

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        latent_dim: int = 100,
        hidden: int = 1200,
        units: int = 240,
        pieces: int = 5,
        encoder_hidden: int = 512,
    ):
        super().__init__()
        if not (
            channels in (1, 3)
            and 1 <= size <= 128
            and min(latent_dim, hidden, units, pieces, encoder_hidden) > 0
        ):
            raise SettingsError(
                "gan: expected 1 or 3 channels, a size from 1 to 128 and positive widths, got "
                f"{channels=}, {size=}, {latent_dim=}, {hidden=}, {units=}, {pieces=}, "
                f"{encoder_hidden=}"
            )
        pixels = channels * size * size
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_dim,)
        self.generator = nn.Sequential(
            nn.Linear(latent_dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, pixels), nn.Sigmoid(),
            nn.Unflatten(1, self.image_shape),
        )  # fmt: skip
        self.discriminator = Discriminator(pixels, units, pieces)
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(pixels, encoder_hidden), nn.BatchNorm1d(encoder_hidden), nn.ReLU(),
            nn.Linear(encoder_hidden, encoder_hidden), nn.BatchNorm1d(encoder_hidden), nn.ReLU(),
            nn.Linear(encoder_hidden, latent_dim), nn.Tanh(),
        )  # fmt: skip
        for part, bound in ((self.generator, 0.05), (self.discriminator, 0.005)):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.uniform_(module.weight, -bound, bound)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)

    def _inside(self, images: Tensor) -> Tensor:
        return images

    def _outside(self, x: Tensor) -> Tensor:
        return x
