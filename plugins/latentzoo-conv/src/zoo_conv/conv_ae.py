"""The convolutional autoencoder: Masci et al. 2011, "Stacked convolutional auto-encoders for
hierarchical feature extraction", ICANN, as it is built today.

Strided convolutions take the place of the paper's max-pooling, and their transposes undo them
(Springenberg et al. 2015, arXiv:1412.6806); batch norm (Ioffe & Szegedy 2015) lets all layers
learn at once, where the paper trains them one after the other.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from zoo.errors import InvalidConfig
from zoo.model import Autoencoder, AutoencoderRecipe, GaussianMixture, Step

__all__ = ["ConvAE"]


@dataclass(frozen=True, kw_only=True)
class Recipe(AutoencoderRecipe):
    epochs: int = 40
    batch_size: int = 64
    affine: float = 1.0


class ConvAE(Autoencoder):
    """Halves the picture until it is at most 4 pixels wide, then one linear layer to the code."""

    recipe = Recipe

    def __init__(self, *, channels: int = 1, size: int = 28, width: int = 32, latent_dim: int = 32):
        super().__init__()
        if not (channels in (1, 3) and 8 <= size <= 256 and width > 0 and latent_dim > 0):
            raise InvalidConfig(
                "conv_ae: expected 1 or 3 channels, a size from 8 to 256, width and latent_dim "
                f"positive, got {channels=}, {size=}, {width=}, {latent_dim=}"
            )
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_dim,)
        sizes = [size]  # 28, 14, 7, 4
        while sizes[-1] > 4:
            sizes.append((sizes[-1] + 1) // 2)
        # 1, 32, 64, 128; no wider than eight times the first, however large the picture
        widths = [channels, *(width * min(2**i, 8) for i in range(len(sizes) - 1))]
        down = [
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.SiLU())
            for a, b in pairwise(widths)
        ]  # 32 x 14 x 14, 64 x 7 x 7, 128 x 4 x 4
        up = []
        for (b, a), (to, start) in zip(pairwise(widths), pairwise(sizes), strict=True):
            # 4, a multiple of the stride, leaves no checkerboard (Odena et al. 2016); 3 for 4 to 7
            kernel = 4 if to == 2 * start else 3
            conv = nn.ConvTranspose2d(a, b, kernel, 2, 1, bias=not up)
            up.append(nn.Sequential(conv, nn.BatchNorm2d(b), nn.SiLU()) if up else conv)
        shape = (widths[-1], sizes[-1], sizes[-1])
        flat = shape[0] * shape[1] * shape[2]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, latent_dim))
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, flat), nn.Unflatten(1, shape), *reversed(up)
        )
        self.density = GaussianMixture(latent_dim, components=20)

    def _encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)  # N x latent_dim

    def _decode(self, codes: Tensor) -> Tensor:
        return self.decoder(codes).sigmoid()  # N x C x H x W

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        # The sigmoid in full precision: in bf16 it has steps that one sees.
        error = self.decoder(self.encoder(step.seen)).float().sigmoid() - images
        return {"sse": error.square().flatten(1).sum(1).mean()}  # summed over pixels
