"""Principal component analysis: the linear model of least squared error, in closed form.

Pearson 1901, "On lines and planes of closest fit to systems of points in space"; it generates from
the Gaussian of Tipping & Bishop 1999, "Probabilistic principal component analysis", without the
noise.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from zoo.errors import SettingsError
from zoo.model import FittedModel

__all__ = ["PCA"]

MOST_PIXELS = 64 * 64 * 3
"""The most pixels: the covariance of more would take gigabytes, and its eigenvectors hours."""


class PCA(FittedModel):
    """Code: the coordinates along the leading eigenvectors of the covariance of the pixels.

    Untrained, its components are a random orthonormal basis.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor

    def __init__(self, *, channels: int = 1, size: int = 28, latent_dim: int = 30):
        super().__init__()
        pixels = channels * size * size
        if not (
            channels in (1, 3) and size >= 1 and pixels <= MOST_PIXELS and 0 < latent_dim <= pixels
        ):
            raise SettingsError(
                f"pca: expected 1 or 3 channels, a size from 1 with at most {MOST_PIXELS:,} "
                f"numbers an image, and a latent_dim of 1 to as many, got {channels=}, {size=}, "
                f"{latent_dim=}"
            )
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_dim,)
        self.register_buffer("mean", torch.zeros(pixels))  # P
        self.register_buffer(
            "components", nn.init.orthogonal_(torch.empty(latent_dim, pixels))
        )  # K x P
        self.register_buffer("variances", torch.ones(latent_dim))  # K, of the codes, falling

    def _encode(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - self.mean) @ self.components.T  # N x K

    def _decode(self, codes: Tensor) -> Tensor:
        # Linear reconstructions may leave [0, 1].
        pixels = (codes @ self.components + self.mean).clamp(0, 1)
        images: Tensor = pixels.unflatten(1, self.image_shape)
        return images

    def _features(self, images: Tensor) -> Tensor:
        """The codes, whitened: each has the variance 1 on the training images."""
        return self._encode(images) / self._deviations()

    def _sample_codes(self, n: int, generator: torch.Generator) -> Tensor:
        noise = torch.randn(n, *self.code_shape, generator=generator)
        return noise * self._deviations().cpu()

    def _deviations(self) -> Tensor:
        # Fewer images than components leave some without variance.
        return self.variances.clamp(min=1e-6 * self.variances[0] + 1e-12).sqrt()

    def fit(self, images: Callable[[], Iterator[Tensor]], seed: int) -> None:
        """Mean, and eigenvectors of the covariance, both summed up in double precision."""
        count, total, products = 0, torch.zeros(()), torch.zeros(())
        for batch in images():
            pixels = batch.flatten(1).cpu().double()  # N x P; some GPUs have no doubles
            count += len(pixels)
            total = total + pixels.sum(0)
            products = products + pixels.T @ pixels
        mean = total / count
        variances, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        leading = vectors.T.flip(0)[: len(self.components)]  # eigh sorts upwards
        # An eigenvector has no sign of its own: its largest number shall be positive.
        signs = leading.gather(1, leading.abs().argmax(1, keepdim=True)).sign()
        self.mean.copy_(mean)
        self.components.copy_(leading * signs)
        self.variances.copy_(variances.flip(0)[: len(self.components)].clamp(min=0))
