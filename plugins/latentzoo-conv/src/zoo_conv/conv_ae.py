"""The convolutional autoencoder: Masci et al. 2011, "Stacked convolutional auto-encoders for
hierarchical feature extraction", ICANN, as it is built today.

Strided convolutions take the place of the paper's max-pooling, and their transposes undo them
(Springenberg et al. 2015, arXiv:1412.6806); batch norm (Ioffe & Szegedy 2015) lets all layers
learn at once, where the paper trains them one after the other.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from zoo.errors import SettingsError
from zoo.model import Autoencoder, AutoencoderRecipe, GaussianMixture, Step
from zoo.nn import conv_down, conv_up, halved

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
            raise SettingsError(
                "conv_ae: expected 1 or 3 channels, a size from 8 to 256, width and latent_dim "
                f"positive, got {channels=}, {size=}, {width=}, {latent_dim=}"
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
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, latent_dim))
        self.decoder = nn.Sequential(nn.Linear(latent_dim, flat), nn.Unflatten(1, shape), *up)
        self.density = GaussianMixture(latent_dim, components=20)

    def _encode(self, images: Tensor) -> Tensor:
        codes: Tensor = self.encoder(images)  # N x latent_dim
        return codes

    def _decode(self, codes: Tensor) -> Tensor:
        images: Tensor = self.decoder(codes).sigmoid()  # N x C x H x W
        return images

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        # The sigmoid in full precision: in bf16 its steps would be visible.
        error = self.decoder(self.encoder(step.seen)).float().sigmoid() - images
        return {"sse": error.square().flatten(1).sum(1).mean()}  # summed over pixels
