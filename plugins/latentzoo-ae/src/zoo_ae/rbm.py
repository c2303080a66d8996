"""Pretraining as the paper of the deep autoencoder does it: each pair of layers in turn is a
restricted Boltzmann machine (Hinton & Salakhutdinov 2006), by contrastive divergence (Hinton 2002).

No shipped weights need it: with the start of He et al. 2015 all layers learn at once. It is for
``--config activation=sigmoid`` and ``--set pretrain=rbm``.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoo.errors import SettingsError
from zoo.model import AutoencoderRecipe, Phase, Step

if TYPE_CHECKING:
    from zoo_ae.deep_ae import DeepAE

__all__ = ["RBM", "PretrainRecipe", "pretraining"]


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe(AutoencoderRecipe):
    """``pretrain`` is ``rbm``, or empty for none."""

    pretrain: str = ""
    pretrain_epochs: int = 10  # of each pair; the paper's 50 are of plain gradient steps
    pretrain_lr: float = 1e-3


class RBM(nn.Module):
    """Two layers as a restricted Boltzmann machine: logistic units below, and above logistic ones
    or, for the code, linear ones with unit variance (the paper's note 7 and its supplement).
    """

    def __init__(self, up: nn.Linear, bias: nn.Parameter, linear: bool):
        super().__init__()
        self.up, self.bias, self.linear = up, bias, linear  # the biases of above and below

    def free_energy(self, below: Tensor) -> Tensor:
        """N x width to N: minus the log-likelihood up to a constant, summed over units above."""
        x = self.up(below)  # N x width above
        above = x.square() / 2 if self.linear else nn.functional.softplus(x)
        return -(below @ self.bias) - above.sum(1)

    @torch.no_grad()
    def reconstruct(self, below: Tensor, generator: torch.Generator) -> Tensor:
        """One step of Gibbs sampling up and down; below stay probabilities, as in the paper."""
        x = self.up(below)
        if self.linear:
            above = x + torch.randn(x.shape, generator=generator).to(x)
        else:
            above = (torch.rand(x.shape, generator=generator).to(x) < x.sigmoid()).to(x.dtype)
        out: Tensor = (above @ self.up.weight + self.bias).sigmoid()
        return out


def pretraining(model: "DeepAE", recipe: PretrainRecipe) -> list[Phase]:
    """The paper's step 1, one phase for each pair of layers, if the recipe asks for it.

    Raises:
        SettingsError: ``pretrain`` is of another kind, or the units are not logistic.
    """
    if recipe.pretrain not in ("", "rbm"):
        raise SettingsError(f"deep_ae: pretrain should be rbm or empty, got {recipe.pretrain!r}")
    if recipe.pretrain and not isinstance(model.activation, nn.Sigmoid):
        raise SettingsError(
            "deep_ae: pretrain=rbm is for logistic units; add --config activation=sigmoid"
        )
    return [_pair(model, i, recipe) for i in range(len(model.encoder)) if recipe.pretrain]


def _pair(model: "DeepAE", i: int, recipe: PretrainRecipe) -> Phase:
    up, down = model.layers_of_pair(i)
    rbm = RBM(up, down.bias, linear=i == len(model.encoder) - 1)

    def step(images: Tensor, step: Step) -> dict[str, Tensor]:
        with torch.no_grad():
            below = model.hidden(step.seen)[i - 1] if i else step.seen.flatten(1)
        again = rbm.reconstruct(below, step.generator)
        # Its gradient is that of contrastive divergence: the gradient of the free energy of the
        # data, minus that of their reconstructions.
        loss = (rbm.free_energy(below) - rbm.free_energy(again)).mean()
        step.update("rbm", loss)
        return {"sse": (again - below).square().sum(1).mean()}

    def unroll() -> None:
        with torch.no_grad():
            down.weight.copy_(up.weight.T)

    return Phase(
        f"rbm {up.in_features}-{up.out_features}", recipe.pretrain_epochs, {"rbm": rbm}, step,
        rates={"rbm": recipe.pretrain_lr}, finish=unroll,
    )  # fmt: skip
