"""The deep autoencoder of Hinton & Salakhutdinov 2006, "Reducing the dimensionality of data with
neural networks", Science 313:504, with a loss on its hidden layers too.

784-1000-500-250-30 and its mirror image, the code linear. The paper's units are logistic and it
trains layer by layer first, since nothing else worked then; here all layers learn at once, unless
the recipe says ``pretrain="rbm"`` (:mod:`zoo_ae.rbm`).

The hidden loss draws each layer of the decoder towards the activations of the layer of the
encoder that it mirrors: the "intermediate" reconstruction of Zhao et al. 2015, "Stacked
What-Where Auto-encoders" (equation 2, the term L2M).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from zoo.errors import SettingsError
from zoo.model import Autoencoder, GaussianMixture, Phase, Step
from zoo_ae.rbm import PretrainRecipe, pretraining

__all__ = ["DeepAE"]

ACTIVATIONS = {"silu": nn.SiLU, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


@dataclass(frozen=True, kw_only=True)
class Recipe(PretrainRecipe):
    epochs: int = 120
    batch_size: int = 128
    lr: float = 3e-3
    clip: float = 20.0
    affine: float = 1.0  # without it this net overfits
    affine_until: float = 1.0
    hidden_weight: float = 0.001  # 0: the error of the images alone, which more makes larger


class DeepAE(Autoencoder):
    """784-1000-500-250-30-250-500-1000-784; error of the images and of the hidden layers."""

    recipe = Recipe

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        hidden: Sequence[int] = (1000, 500, 250),
        latent_dim: int = 30,
        activation: str = "silu",
    ):
        super().__init__()
        widths = list(hidden)
        if not (
            channels in (1, 3)
            and 1 <= size <= 512
            and 0 < len(widths) <= 16
            and all(isinstance(w, int) and w > 0 for w in [*widths, latent_dim])
        ):
            raise SettingsError(
                f"deep_ae: expected 1 or 3 channels, a size from 1 to 512, 1 to 16 hidden widths "
                f"and latent_dim, all positive, got {channels=}, {size=}, hidden={widths}, "
                f"{latent_dim=}"
            )
        if activation not in ACTIVATIONS:
            raise SettingsError(
                f"deep_ae: activation should be one of {list(ACTIVATIONS)}, got {activation!r}"
            )
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_dim,)
        up = [channels * size * size, *widths, latent_dim]  # 784, 1000, 500, 250, 30
        self.encoder = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(up))
        self.decoder = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(up[::-1]))
        for linear in [*self.encoder, *self.decoder]:
            # He et al. 2015: with torch's default the signal dies within eight layers.
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
        self.activation = ACTIVATIONS[activation]()
        self.density = GaussianMixture(latent_dim, components=50)

    def _encode(self, images: Tensor) -> Tensor:
        return self.hidden(images)[-1]

    def _decode(self, codes: Tensor) -> Tensor:
        images: Tensor = self._down(codes)[-1].sigmoid().unflatten(1, self.image_shape)
        return images

    def layers_of_pair(self, i: int) -> tuple[nn.Linear, nn.Linear]:
        """The encoder's layer ``i`` and the decoder's that undoes it."""
        up, down = self.encoder[i], self.decoder[-1 - i]
        assert isinstance(up, nn.Linear)
        assert isinstance(down, nn.Linear)
        return up, down

    def hidden(self, images: Tensor) -> list[Tensor]:
        """The activations of every layer of the encoder: N x 1000, 500, 250, and the code."""
        layers, x = [], images.flatten(1)
        for linear in self.encoder[:-1]:
            x = self.activation(linear(x))
            layers.append(x)
        return [*layers, self.encoder[-1](x)]  # the code is linear

    def _down(self, codes: Tensor) -> list[Tensor]:
        """The activations of every layer of the decoder: N x 250, 500, 1000, and the logits."""
        layers, x = [], codes
        for linear in self.decoder[:-1]:
            x = self.activation(linear(x))
            layers.append(x)
        return [*layers, self.decoder[-1](x)]

    def phases(self, recipe: Recipe) -> list[Phase]:
        return [*pretraining(self, recipe), *super().phases(recipe)]

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        weight = step.recipe.hidden_weight
        up = self.hidden(step.seen)  # N x 1000, 500, 250, 30
        down = self._down(up[-1])  # N x 250, 500, 1000, 784
        output = down[-1].float().sigmoid()
        losses = {"sse": (output - images.flatten(1)).square().sum(1).mean()}
        if weight:
            mirrored = zip(up[:-1], reversed(down[:-1]), strict=True)
            hidden = [(a.float() - b.float()).square().sum(1).mean() for a, b in mirrored]
            losses["hidden"] = weight * torch.stack(hidden).sum()
        return losses
