"""SimCLR: Chen, Kornblith, Norouzi & Hinton 2020, "A simple framework for contrastive learning of
visual representations", arXiv:2002.05709.

Section 2.1: two random views of each picture, an encoder, a projection head of two layers whose
result the loss compares, and the normalised temperature-scaled cross entropy: each view must find
its twin among all others of the batch. The head is not used for anything else (section 4.2).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SettingsError
from zoo_contrastive.encoder import Recipe as TwoViewsRecipe
from zoo_contrastive.encoder import TwoViews

__all__ = ["SimCLR"]


@dataclass(frozen=True, kw_only=True)
class Recipe(TwoViewsRecipe):
    temperature: float = 0.2


def nt_xent(one: Tensor, two: Tensor, temperature: float) -> Tensor:
    """Equation 1 of the paper, the mean over all 2N views; ``one`` and ``two`` are N x D."""
    z = F.normalize(torch.cat([one, two]), dim=1)  # 2N x D
    similar = (z @ z.T / temperature).fill_diagonal_(float("-inf"))  # 2N x 2N, none with itself
    twin = torch.arange(len(z), device=z.device).roll(len(one))
    return F.cross_entropy(similar, twin)


class SimCLR(TwoViews):
    """Each view finds its twin among the views of all other pictures of the batch."""

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
        projection: int = 128,
    ):
        super().__init__(
            channels=channels, size=size, width=width, encoder=encoder, grid=grid,
            halvings=halvings, levels=levels, whiten=whiten, mirror=mirror,
        )  # fmt: skip
        if projection < 1:
            raise SettingsError(f"expected a positive projection, got {projection=}")
        hidden = self.code_shape[0]
        self.head = nn.Sequential(
            nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, projection),
        )  # fmt: skip

    def losses(self, one: Tensor, two: Tensor, recipe: Any) -> dict[str, Tensor]:
        return {"nt_xent": nt_xent(one, two, recipe.temperature)}
