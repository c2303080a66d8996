"""One layer of k-means on patches: Coates, Lee & Ng 2011, "An analysis of single-layer networks in
unsupervised feature learning", AISTATS, PMLR 15.

Section 3: random patches are normalised in brightness and contrast, whitened, and clustered by
k-means. The activation of a patch for a centroid is how much nearer it is to that centroid than to
the average one, or 0 if it is not nearer ("triangle"). The activations of all patches of a picture,
one pixel apart, are pooled over its quarters.

Unlike in the paper distances are squared. The squares of a patch's own length then cancel, and what
is left is one layer of a convolutional net: filters and rectifiers.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SettingsError, TrainingError
from zoo.model import FittedModel
from zoo.optional import optional

__all__ = ["PatchKMeans"]

PATCHES = 400_000
"""The most patches that k-means is fitted to, and the most of a picture at a time (``EACH``)."""

EACH = 8
ROUNDS = 20

CONTRAST = 10 / 255**2
"""Added to a patch's variance, so that noise in an even one is not blown up."""

WHITENING = 0.1
"""Added to the variances of all directions, for the same reason."""


class PatchKMeans(FittedModel):
    """Code: how near the patches of each part of the picture are to each centroid.

    ``features`` are the roots of these numbers: a few strong activations then do not outweigh all
    others in a distance (Arandjelović & Zisserman 2012, "Three things everyone should know to
    improve object retrieval"). ``score`` is the squared distance of the whitened
    patches to their nearest centroid, averaged over the picture: it is high for unusual parts, and
    does not depend on their order.

    Args:
        channels: 1 or 3.
        size: height and width of the pictures, from 8 to 512.
        patch: height and width of a patch.
        centroids: of k-means.
        grid: parts of the picture, across and down, over which activations are averaged. The
            paper has 1,600 centroids and a grid of 2, for CIFAR-10; fewer and a finer grid are
            better for small pictures whose objects are all in the same place.

    Raises:
        SettingsError: a setting is out of its range.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        patch: int = 6,
        centroids: int = 150,
        grid: int = 6,
    ):
        super().__init__()
        fits = 8 <= size <= 512 and 2 <= patch <= 16 and patch + grid <= size + 1
        if not (channels in (1, 3) and fits and 2 <= centroids <= 16_384 and 1 <= grid <= 8):
            raise SettingsError(
                "patch_kmeans: expected 1 or 3 channels, a size from 8 to 512, a patch from 2 to "
                "16, a grid from 1 to 8 (patch and grid together at most 1 more than the size), "
                "and 2 to 16,384 centroids, got "
                f"{channels=}, {size=}, {patch=}, {centroids=}, {grid=}"
            )
        self.image_shape = (channels, size, size)
        self.code_shape = (centroids, grid, grid)
        self.patch, self.grid = patch, grid
        numbers = channels * patch * patch  # D, of a patch
        whitening = torch.zeros(numbers, numbers)
        whitening.diagonal().fill_(1)
        # Not learnt by gradients; parameters still, as what is learnt is stored as float16.
        self.mean = nn.Parameter(torch.zeros(numbers), requires_grad=False)  # D
        self.whitening = nn.Parameter(whitening, requires_grad=False)  # D x D
        self.centroids = nn.Parameter(torch.randn(centroids, numbers), requires_grad=False)  # K x D

    def _encode(self, images: Tensor) -> Tensor:
        # Half of how much |x - c|² is below its mean over all c:
        # x (c - mean c) + (mean |c|² - |c|²) / 2, where the x are whitened.
        lengths = self.centroids.square().sum(1) / 2  # K
        filters = (self.centroids - self.centroids.mean(0)) @ self.whitening  # K x D
        offsets = lengths.mean() - lengths - filters @ self.mean  # K
        side = self.image_shape[1] - self.patch + 1  # L
        # The activations of a whole batch would be gigabytes, so it is computed in parts.
        # (Of a batch of any size, no compiler can say how many parts it has.)
        whole = images.device.type != "cpu" or torch.compiler.is_compiling()
        parts = [images] if whole else images.split(2)
        codes = []
        for part in parts:
            answers = F.linear(self._patches(part), filters, offsets).relu_()  # N x L² x K
            maps = answers.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # N x K x L x L
            codes.append(F.adaptive_avg_pool2d(maps, self.grid))
        return torch.cat(codes)  # N x K x G x G

    def _features(self, images: Tensor) -> Tensor:
        return self._encode(images).sqrt().flatten(1)  # N x KG²

    def _score(self, images: Tensor) -> Tensor:
        lengths = self.centroids.square().sum(1) / 2  # K
        scores = []
        for part in images.split(2):
            x = self._white(self._patches(part))  # N x L² x D
            nearest = F.linear(x, self.centroids, -lengths).amax(2)  # N x L²
            scores.append((x.square().sum(2) - 2 * nearest).mean(1))
        return torch.cat(scores)

    def _patches(self, images: Tensor) -> Tensor:
        """All patches, one pixel apart: N x C x H x W to N x L² x D."""
        return even(F.unfold(images, self.patch).transpose(1, 2))

    def _white(self, patches: Tensor) -> Tensor:
        return (patches - self.mean) @ self.whitening

    # -- training ------------------------------------------------------------------------------

    def fit(self, images: Callable[[], Iterator[Tensor]], seed: int) -> None:
        """Whitening in closed form, centroids by Lloyd's algorithm (scikit-learn).

        Patches of one colour are left out. A tenth of those of clothes are, and k-means
        would begin with many centroids that are alike, and move them to the rarest patches.

        Raises:
            MissingDependency: scikit-learn is not installed.
            TrainingError: the pictures have fewer patches than there are centroids.
        """
        patches = self._drawn(images, torch.Generator().manual_seed(seed))  # M x D
        patches = patches[patches.abs().amax(1) > 1e-2].cpu().double()  # not all GPUs have doubles
        if len(patches) < len(self.centroids):
            raise TrainingError(
                f"patch_kmeans: {len(patches):,} patches of more than one colour, fewer than its "
                f"{len(self.centroids):,} centroids; take more pictures, or "
                f"--config centroids={max(2, len(patches) // 10)}"
            )
        self.mean.copy_(patches.mean(0))
        variances, directions = torch.linalg.eigh(patches.T.cov())
        # ZCA: back in the directions of pixels
        scale = (variances.clamp(min=0) + WHITENING).rsqrt()
        self.whitening.copy_(directions * scale @ directions.T)
        cluster = optional("sklearn.cluster", "scikit-learn", "train")
        kmeans = cluster.KMeans(
            len(self.centroids), init="random", n_init=1, max_iter=ROUNDS, random_state=seed
        )
        white = self._white(patches.to(self.mean)).cpu().numpy()
        # Few pictures may have fewer different patches than centroids: scikit-learn warns of it.
        kmeans.fit(white)
        self.centroids.copy_(torch.from_numpy(kmeans.cluster_centers_))

    def _drawn(self, images: Callable[[], Iterator[Tensor]], rng: torch.Generator) -> Tensor:
        """Random patches, M x D, of few pictures several times over."""
        side = self.image_shape[1] - self.patch + 1  # L
        drawn: list[Tensor] = []
        count, most = 0, PATCHES
        while count < most:
            pictures = 0
            for batch in images():
                n = len(batch)
                places = batch.unfold(2, self.patch, 1).unfold(3, self.patch, 1)
                y, x = torch.randint(side, (2, n, EACH), generator=rng).to(batch.device)
                rows = torch.arange(n, device=batch.device)[:, None]
                drawn.append(even(places[rows, :, y, x].flatten(2).flatten(0, 1)))  # 8N x D
                count, pictures = count + n * EACH, pictures + n
                if count >= most:
                    break
            most = min(most, pictures * side**2)
        return torch.cat(drawn)[:PATCHES]


def even(patches: Tensor) -> Tensor:
    """Each of ``patches`` (... x D) at the mean 0 and, but for :data:`CONTRAST`, variance 1."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True, correction=0)
    return (patches - mean) * (variance + CONTRAST).rsqrt()
