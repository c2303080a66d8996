"""VICReg: Bardes, Ponce & LeCun 2022, "VICReg: Variance-invariance-covariance regularization for
self-supervised learning", arXiv:2105.04906.

Of the methods without negative pairs it was chosen as the simplest, and it does well with small
batches: no second encoder that follows the first (BYOL), which costs a third more at each step; no
twin to be found in a large batch (SimCLR). And its three terms (section 4.1) are seen in the log:
the views' distance, and whether the numbers still vary and still differ from each other, so that a
collapse shows itself.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SettingsError
from zoo_contrastive.encoder import Recipe as TwoViewsRecipe
from zoo_contrastive.encoder import TwoViews

__all__ = ["VICReg"]


@dataclass(frozen=True, kw_only=True)
class Recipe(TwoViewsRecipe):
    """The weights of the three terms are the paper's (section 4.2)."""

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0


def variance_loss(z: Tensor) -> Tensor:
    """Equation 1: by how much the deviations of the D numbers are below 1, on average."""
    return F.relu(1 - (z.var(0, correction=0) + 1e-4).sqrt()).mean()


def covariance_loss(z: Tensor) -> Tensor:
    """Equation 4: squares of the covariances of different numbers of N x D, over D."""
    z = z - z.mean(0)
    covariance = z.T @ z / len(z)  # D x D
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]


class VICReg(TwoViews):
    """Views of a picture are alike; the numbers of the projection vary and are uncorrelated."""

    recipe = Recipe

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        width: int = 32,
        encoder: str = "resnet",
        grid: int = 2,
        halvings: int = 0,
        levels: int = 2,
        whiten: float = 0.0,
        mirror: bool = False,
        projection: int = 512,
    ):
        super().__init__(
            channels=channels, size=size, width=width, encoder=encoder, grid=grid,
            halvings=halvings, levels=levels, whiten=whiten, mirror=mirror,
        )  # fmt: skip
        if projection < 1:
            raise SettingsError(f"expected a positive projection, got {projection=}")
        self.head = nn.Sequential(  # the paper's expander, of two layers instead of three
            nn.Linear(self.code_shape[0], projection, bias=False),
            nn.BatchNorm1d(projection), nn.ReLU(), nn.Linear(projection, projection),
        )  # fmt: skip

    def losses(self, one: Tensor, two: Tensor, recipe: Any) -> dict[str, Tensor]:
        return {
            "invariance": recipe.invariance * F.mse_loss(one, two),
            "variance": recipe.variance * (variance_loss(one) + variance_loss(two)) / 2,
            "covariance": recipe.covariance * (covariance_loss(one) + covariance_loss(two)),
        }
