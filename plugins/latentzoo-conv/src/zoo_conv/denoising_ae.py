"""The denoising autoencoder: Vincent et al. 2010, "Stacked denoising autoencoders", JMLR 11, whose
input is damaged and whose target is not; convolutional, as Mao et al. 2016 ("Image restoration
using very deep convolutional encoder-decoder networks", arXiv:1603.09056) and with the residual
blocks of He et al. 2016.

Unlike theirs it has no skip connections around the code: the code alone has to hold the picture, so
it is a large map, half as wide and high as the picture, and no density is fitted to it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.corruption import corrupt
from zoo.errors import SettingsError
from zoo.model import Autoencoder, AutoencoderRecipe, Step

__all__ = ["DenoisingAE"]

DAMAGE = (("mask", 0.6), ("noise", 0.5))
"""The kinds of damage that it learns to repair, with their largest strengths."""


@dataclass(frozen=True, kw_only=True)
class Recipe(AutoencoderRecipe):
    epochs: int = 20
    batch_size: int = 64
    corrupt: str = ""  # empty: every kind in DAMAGE, at every strength


class Block(nn.Module):
    """A residual block of two convolutions: N x width x h x w to the same."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(width), nn.SiLU(), nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width), nn.SiLU(), nn.Conv2d(width, width, 3, 1, 1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class DenoisingAE(Autoencoder):
    """Halves the picture once, with residual blocks before and behind the code."""

    recipe = Recipe

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        width: int = 64,
        latent_channels: int = 16,
        blocks: int = 3,
    ):
        super().__init__()
        even = size % 2 == 0 and 8 <= size <= 512
        if not (
            channels in (1, 3) and even and min(width, latent_channels, blocks) > 0 and blocks <= 64
        ):
            raise SettingsError(
                "denoising_ae: expected 1 or 3 channels, an even size from 8 to 512, 1 to 64 "
                f"blocks, width and latent_channels positive, got {channels=}, {size=}, {width=}, "
                f"{latent_channels=}, "
                f"{blocks=}"
            )
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_channels, size // 2, size // 2)
        # 1 x 28 x 28 to 64 x 14 x 14 to 16 x 14 x 14
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 1),
            *(Block(width) for _ in range(blocks)),
            nn.Conv2d(width, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, width, 1),
            *(Block(width) for _ in range(blocks)),
            nn.BatchNorm2d(width),
            nn.SiLU(),
            nn.Conv2d(width, 4 * channels, 3, 1, 1),
            nn.PixelShuffle(2),  # four numbers a place are its four pixels (Shi et al. 2016)
        )

    def _encode(self, images: Tensor) -> Tensor:
        codes: Tensor = self.encoder(images)  # N x 16 x 14 x 14
        return codes

    def _decode(self, codes: Tensor) -> Tensor:
        images: Tensor = self.decoder(codes).sigmoid()
        return images

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        # A recipe may name one kind of damage, which the loop then does as for any autoencoder.
        seen = step.seen if step.recipe.corrupt else damaged(images, step.generator)
        error = self.decoder(self.encoder(seen)).float().sigmoid() - images
        return {"sse": error.square().flatten(1).sum(1).mean()}  # summed over pixels

    def fit(self, images: object, seed: int) -> None:
        """There is no density to fit."""


def damaged(images: Tensor, generator: torch.Generator) -> Tensor:
    """``images`` in groups of eighths, each with damage of another kind and strength."""
    parts = images.chunk(8)
    strengths = torch.rand(len(parts), generator=generator).tolist()
    return torch.cat(
        [
            corrupt(part, kind, strength * most, generator)
            for i, (part, strength) in enumerate(zip(parts, strengths, strict=True))
            for kind, most in [DAMAGE[i % len(DAMAGE)]]
        ]
    )
