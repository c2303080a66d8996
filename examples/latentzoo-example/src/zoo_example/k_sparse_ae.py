"""The k-sparse autoencoder: Makhzani & Frey 2013, "k-Sparse Autoencoders", arXiv:1312.5663.

The paper's decoder is the encoder's transpose and linear; here it is a layer of its own and ends in
a sigmoid, for images are in [0, 1].
"""

import torch
from torch import Tensor, nn

from zoo.errors import SettingsError
from zoo.model import Autoencoder, GaussianMixture, Step

__all__ = ["KSparseAE"]


class KSparseAE(Autoencoder):
    """784 -> 128, of which the 12 largest stay -> 784; squared error; AdamW."""

    def __init__(
        self, *, channels: int = 1, size: int = 28, latent_dim: int = 128, active: int = 12
    ):
        super().__init__()
        if not (channels in (1, 3) and 1 <= size <= 512 and 0 < active <= latent_dim):
            raise SettingsError(
                f"k_sparse_ae: expected 1 or 3 channels, a size from 1 to 512 and active from 1 to "
                f"code, got {channels=}, {size=}, {latent_dim=}, {active=}"
            )
        self.image_shape, self.code_shape = (channels, size, size), (latent_dim,)
        self.active = active
        self.encoder = nn.Linear(channels * size * size, latent_dim)
        self.decoder = nn.Linear(latent_dim, channels * size * size)
        self.density = GaussianMixture(latent_dim, components=10)

    def _encode(self, images: Tensor) -> Tensor:
        return self._largest(self.encoder(images.flatten(1)))  # N x latent_dim

    def _decode(self, codes: Tensor) -> Tensor:
        return self.decoder(codes).sigmoid().unflatten(1, self.image_shape)  # N x C x H x W

    def _sample_codes(self, n: int, generator: torch.Generator) -> Tensor:
        return self._largest(super()._sample_codes(n, generator))  # as sparse as those it learnt

    def _largest(self, codes: Tensor) -> Tensor:
        kept = codes.topk(self.active, dim=1)  # N x active
        return torch.zeros_like(codes).scatter(1, kept.indices, kept.values)

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        error = self._reconstruct(step.seen) - images
        return {"sse": error.square().flatten(1).sum(1).mean()}  # summed over pixels
