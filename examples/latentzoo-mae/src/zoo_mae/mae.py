"""The masked autoencoder: He et al. 2022, "Masked autoencoders are scalable vision learners",
arXiv:2111.06377. A transformer sees a random quarter of the patches; a smaller one guesses the
others from what the first made of them (section 3). The loss is the squared error of those others.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SettingsError
from zoo.model import Recipe as BaseRecipe
from zoo.model import Step, ZooModel
from zoo.nn import square

__all__ = ["MAE"]

PARTS = 4  # one of which is seen: the paper's mask of 75 %


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    epochs: int = 60
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.05  # the paper's


def transformer(width: int, depth: int) -> nn.Sequential:
    """``depth`` layers with the norms in front: N x L x width to the same."""
    layer = nn.TransformerEncoderLayer
    layers = [
        layer(width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        for _ in range(depth)
    ]
    return nn.Sequential(*layers, nn.LayerNorm(width))


class MAE(ZooModel):
    """49 patches of 4 x 4 pixels; ``features`` are the means of the encoder's tokens."""

    recipe = Recipe

    def __init__(
        self, *, channels: int = 1, size: int = 28, patch: int = 4, width: int = 96, depth: int = 3
    ):
        super().__init__()
        if not (2 <= patch <= 32 and 8 <= width <= 1024 and width % 8 == 0 and 1 <= depth <= 24):
            raise SettingsError(
                "mae: expected a patch from 2 to 32, a width from 8 to 1,024 that 8 divides and 1 "
                f"to 24 layers, got {patch=}, {width=}, {depth=}"
            )
        self.image_shape = square(channels, size, smallest=2 * patch, divisor=patch)
        self.patch, self.length = patch, (size // patch) ** 2  # L
        pixels = channels * patch**2  # P
        self.embed = nn.Linear(pixels, width)
        self.encoder, self.decoder = transformer(width, depth), transformer(width // 2, 1)
        self.between = nn.Linear(width, width // 2)
        self.hidden = nn.Parameter(torch.zeros(width // 2))  # stands for a patch not seen
        self.place = nn.Parameter(torch.randn(self.length, width) * 0.02)
        self.decoder_place = nn.Parameter(torch.randn(self.length, width // 2) * 0.02)
        self.head = nn.Linear(width // 2, pixels)

    def patches(self, images: Tensor) -> Tensor:
        """N x C x H x W to N x L x P."""
        return F.unfold(images, self.patch, stride=self.patch).transpose(1, 2)

    def guess(self, patches: Tensor, seen: Tensor) -> Tensor:
        """All patches, N x L x P, from those at the indices ``seen``, N x K."""
        tokens = self.embed(patches) + self.place  # N x L x width
        rows = torch.arange(len(tokens), device=tokens.device)[:, None]
        encoded = self.between(self.encoder(tokens[rows, seen]))  # N x K x width / 2
        full = self.hidden.to(encoded).repeat(len(tokens), self.length, 1)
        full[rows, seen] = encoded
        return self.head(self.decoder(full + self.decoder_place))

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        patches = self.patches(images)
        order = torch.rand(patches.shape[:2], generator=step.generator).argsort(1).to(images.device)
        seen, others = order.tensor_split([self.length // PARTS], dim=1)
        error = (self.guess(patches, seen).float() - patches).square().mean(2)  # N x L
        return {"mse": error.gather(1, others).mean()}

    def _features(self, images: Tensor) -> Tensor:
        return self.encoder(self.embed(self.patches(images)) + self.place).mean(1)  # N x width

    def _reconstruct(self, images: Tensor) -> Tensor:
        """Each patch as it is guessed from three quarters of the picture that do not hold it."""
        patches = self.patches(images)
        guessed = torch.zeros_like(patches)
        part = torch.arange(self.length, device=images.device) * 7 % self.length % PARTS
        for i in range(PARTS):
            seen = (part != i).nonzero().flatten().expand(len(images), -1)
            guessed = torch.where((part == i)[:, None], self.guess(patches, seen), guessed)
        folded = F.fold(guessed.mT, self.image_shape[1:], self.patch, stride=self.patch)
        return folded.clamp(0, 1)
