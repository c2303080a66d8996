"""BiGAN: Donahue, Krähenbühl & Darrell 2017, "Adversarial feature learning", arXiv:1605.09782.

An encoder that is learnt together with the generator: the discriminator sees pairs, of an image
and its code, (x, E(x)) or (G(z), z) (section 3, equation 2), and at its optimum the encoder and
the generator invert each other (theorem 2). Both learn by the inverse objective (section 3.4), in
one optimiser.

The net is that for permutation-invariant MNIST (section 4.1): three perceptrons with two hidden
layers of 1,024, batch norm in all but the input, ReLU in the generator, LeakyReLU 0.2 elsewhere;
codes of 50 uniform numbers; Adam with rate 2e-4, beta1 0.5, batches of 128; weight decay 2.5e-5;
the rate falls over the second half of the epochs. ``features`` are the encoder's last hidden layer,
which is what the authors' own log names as the better: 1-NN .9735, against .921 for E(x) itself.

What differs: what ships is the exponential average of generator and encoder; sizes and channels
are free; and the rate falls linearly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from zoo.errors import SettingsError
from zoo.model import Phase, Step, ZooModel
from zoo.nn import update_bn
from zoo_gan.adversarial import (
    GameRecipe,
    check_loss,
    discriminator_loss,
    frozen,
    generator_loss,
    uniform,
    update_generator_norms,
)

__all__ = ["BiGAN"]


@dataclass(frozen=True, kw_only=True)
class Recipe(GameRecipe):
    epochs: int = 120
    batch_size: int = 128
    weight_decay: float = 2.5e-5


def perceptron(widths: list[int], activation: nn.Module, norm_first: bool) -> nn.Sequential:
    """Linear, batch norm, activation for each but the last of ``widths``, which is linear."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(widths[:-1])):
        norm = [nn.BatchNorm1d(b)] if norm_first or i else []
        layers += [nn.Linear(a, b, bias=not norm), *norm, activation]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


class BiGAN(ZooModel):
    """Generator, encoder, and a discriminator of pairs."""

    recipe = Recipe

    def __init__(
        self, *, channels: int = 1, size: int = 28, latent_dim: int = 50, hidden: int = 1024
    ):
        super().__init__()
        if not (channels in (1, 3) and 1 <= size <= 128 and latent_dim > 0 and hidden > 0):
            raise SettingsError(
                "bigan: expected 1 or 3 channels, a size from 1 to 128 and positive widths, got "
                f"{channels=}, {size=}, {latent_dim=}, {hidden=}"
            )
        pixels = channels * size * size
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_dim,)
        relu, leaky, inner = nn.ReLU(), nn.LeakyReLU(0.2), [hidden, hidden]
        self.generator = perceptron([latent_dim, *inner, pixels], relu, norm_first=True)
        self.encoder = perceptron([pixels, *inner, latent_dim], leaky, norm_first=True)
        self.discriminator = perceptron([pixels + latent_dim, *inner, 1], leaky, norm_first=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.02)

    # -- the calls: images in [0, 1] outside, in tanh's range inside ---------------------------

    def _encode(self, images: Tensor) -> Tensor:
        codes: Tensor = self.encoder(images.flatten(1) * 2 - 1)  # N x latent_dim, linear
        return codes

    def _decode(self, codes: Tensor) -> Tensor:
        images: Tensor = self.generator(codes).sigmoid().unflatten(1, self.image_shape)
        return images

    def _features(self, images: Tensor) -> Tensor:
        features: Tensor = self.encoder[:-1](images.flatten(1) * 2 - 1)  # N x hidden
        return features

    def _sample_codes(self, n: int, generator: torch.Generator) -> Tensor:
        return uniform(n, self.code_shape[0], generator)

    def _score(self, images: Tensor) -> Tensor:
        """Zenati et al. 2018, arXiv:1802.06222, equation 3: nine tenths the error of the image,
        one tenth that of the discriminator's last hidden layer for the same code; both L1, means.
        """
        codes = self._encode(images)
        rebuilt = self._decode(codes)
        layer = self.discriminator[:-1]
        seen, again = (layer(self._pair(x * 2 - 1, codes)) for x in (images, rebuilt))
        residual = (rebuilt - images).abs().flatten(1).mean(1)
        scores: Tensor = 0.9 * residual + 0.1 * (again - seen).abs().mean(1)
        return scores

    # -- training ------------------------------------------------------------------------------

    def _pair(self, x: Tensor, codes: Tensor) -> Tensor:
        return torch.cat([x.flatten(1), codes], dim=1)  # N x pixels + latent_dim

    def phases(self, recipe: Recipe) -> list[Phase]:
        check_loss(recipe)
        both = nn.ModuleList([self.generator, self.encoder])
        return [
            Phase(
                "game",
                recipe.epochs,
                {"generator and encoder": both, "discriminator": self.discriminator},
                self.play,
                averaged=both,
                finish=lambda: update_generator_norms(self, self.generator),
            )
        ]

    def play(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        """One step of the game: first the discriminator learns, then the other two together."""
        kind = step.recipe.loss
        codes = self._sample_codes(len(images), step.generator).to(images.device)
        with step.autocast():
            real = self._pair(images * 2 - 1, self._encode(images))
            fake = self._pair(self._decode(codes) * 2 - 1, codes)
            real_logits = self.discriminator(real.detach()).flatten().float()
            fake_logits = self.discriminator(fake.detach()).flatten().float()
        loss_d = discriminator_loss(kind, real_logits, fake_logits)
        step.update("discriminator", loss_d)

        with frozen(self.discriminator):
            with step.autocast():
                taken = self.discriminator(real).flatten().float()
                fooled = self.discriminator(fake).flatten().float()
            # Both learn that the discriminator takes their pairs for the other kind (section 3.4).
            loss_e = generator_loss(kind, -taken)
            loss_g = generator_loss(kind, fooled)
            step.update("generator and encoder", loss_g + loss_e)
        return {"discriminator": loss_d, "generator": loss_g, "encoder": loss_e}

    def fit(self, images: Callable[[], Iterator[Tensor]], seed: int) -> None:
        """Compute the batch norm statistics of the averaged encoder again, on images."""
        update_bn((x.flatten(1) * 2 - 1 for x in images()), self.encoder)
