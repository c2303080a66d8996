"""Stacked GAN: Huang, Li, Poursaeed, Hopcroft & Belongie 2017, "Stacked generative adversarial
networks", arXiv:1612.04357.

An encoder reads an image level by level, bottom-up; a stack of generators writes it again,
top-down, each inverting one level from the level above and noise of its own (section 3.2). Each
has three losses: adversarial, by a discriminator of that level (section 3.3); conditional, that
the encoder reads the level above out of what was made (section 3.4); entropy, that a net Q, which
shares the discriminator's layers, reads the noise out of it, so that noise is not ignored (section
3.5). The generators learn one by one, each from the encoder's true levels, and then together, each
from what the one above made (section 3.2). Weights of the losses are the authors' for MNIST: 1, 1
and 10.

The deviation: the paper's encoder is a classifier trained with labels, whose top level is the
label. Here are no labels. The encoder is that of a stacked autoencoder, in which the generators
serve as decoders; the top level is a short code in [-1, 1], and a mixture of Gaussians on it takes
the place of the distribution of labels. The layers are those of DCGAN (:mod:`zoo_gan.dcgan`).

A code is the top level, then the noise of both generators: the encoder and the two Q write it, so
that the stack can encode too. ``features`` are the encoder's first level.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from zoo.density import fit_density
from zoo.errors import SettingsError
from zoo.model import GaussianMixture, Phase, Step, ZooModel
from zoo.nn import update_bn
from zoo_gan.adversarial import (
    GameRecipe,
    check_loss,
    discriminator_loss,
    frozen,
    generator_loss,
    uniform,
)
from zoo_gan.dcgan import Generator, Trunk

__all__ = ["StackedGAN"]


@dataclass(frozen=True, kw_only=True)
class Recipe(GameRecipe):
    encoder_epochs: int = 5
    encoder_lr: float = 1e-3
    top_epochs: int = 20  # of the upper generator alone: small, and quick to learn
    epochs: int = 5  # of the lower one alone
    joint_epochs: int = 10
    conditional_weight: float = 1.0
    entropy_weight: float = 10.0
    channels_last: bool = True


class ImageEncoder(nn.Module):
    """The lower level: images in tanh's range to N x hidden in [-1, 1]."""

    def __init__(self, channels: int, size: int, width: int, hidden: int):
        super().__init__()
        self.trunk = Trunk(channels, size, width)
        self.head = nn.Linear(self.trunk.channels * 16, hidden)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.trunk(x)[-1].flatten(1)).tanh()
        return out


class Discriminator(nn.Module):
    """The discriminator of a level and its Q, on shared layers: logits N, and noise N x noise."""

    def __init__(self, shared: nn.Module, width: int, noise: int):
        super().__init__()
        self.shared = shared
        self.real = nn.Linear(width, 1)
        self.noise = nn.Linear(width, noise)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.shared(x)
        return self.real(h).flatten().float(), self.noise(h).float().tanh()


class Top(nn.Module):
    """A trunk's last layer alone, flat."""

    def __init__(self, trunk: Trunk):
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.trunk(x)[-1].flatten(1)  # N x 4w * 16
        return out


class Stack(nn.Module):
    """All generators as one module that can be called, as updating batch norm needs it."""

    def __init__(self, generators: nn.ModuleList, write: Callable[[Tensor], Tensor]):
        super().__init__()
        self.generators, self.write = generators, write

    def forward(self, codes: Tensor) -> Tensor:
        return self.write(codes)


class StackedGAN(ZooModel):
    """Two encoders bottom-up, two generators top-down; level 0 is the image, 2 the top."""

    recipe = Recipe

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        width: int = 32,
        hidden: int = 128,
        latent_dim: int = 16,
        noise: int = 16,
    ):
        super().__init__()
        if (
            channels not in (1, 3)
            or size not in (28, 32, 64)
            or min(width, hidden, latent_dim, noise) < 1
        ):
            raise SettingsError(
                "stacked_gan: expected channels 1 or 3, size 28, 32 or 64, and positive widths, "
                f"got {channels=}, {size=}, {width=}, {hidden=}, {latent_dim=}, {noise=}"
            )
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_dim + 2 * noise,)
        self.sizes = [latent_dim, noise, noise]  # the parts of a code, top first
        # encoders[i] reads level i + 1 out of level i, generators[i] writes level i from it.
        self.encoders = nn.ModuleList(
            [
                ImageEncoder(channels, size, width, hidden),
                nn.Sequential(
                    nn.Linear(hidden, 256), nn.ReLU(), nn.Linear(256, latent_dim), nn.Tanh()
                ),
            ]
        )
        self.generators = nn.ModuleList(
            [
                Generator(channels, size, hidden + noise, width),
                nn.Sequential(
                    nn.Linear(latent_dim + noise, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(),
                    nn.Linear(256, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(),
                    nn.Linear(256, hidden), nn.Tanh(),
                ),
            ]
        )  # fmt: skip
        trunk, leaky = Trunk(channels, size, width, norm="none"), nn.LeakyReLU(0.2)
        levels = nn.Sequential(nn.Linear(hidden, 256), leaky, nn.Linear(256, 256), leaky)
        self.judges = nn.ModuleList(
            [
                Discriminator(Top(trunk), trunk.channels * 16, noise),
                Discriminator(levels, 256, noise),
            ]
        )
        self.density = GaussianMixture(latent_dim, components=30)

    # -- the calls: images in [0, 1] outside, in tanh's range inside ------------------------------

    def _read(self, images: Tensor) -> list[Tensor]:
        """All levels of images: the image inside, N x hidden, N x latent_dim."""
        levels = [images * 2 - 1]
        for encoder in self.encoders:
            levels.append(encoder(levels[-1]))
        return levels

    def _encode(self, images: Tensor) -> Tensor:
        image, hidden, top = self._read(images)
        (_, below), (_, above) = self.judges[0](image), self.judges[1](hidden)
        return torch.cat([top, above, below], dim=1)

    def _decode(self, codes: Tensor) -> Tensor:
        level, *noises = codes.split(self.sizes, dim=1)
        for generator, noise in zip(reversed(self.generators), noises, strict=True):
            level = generator(torch.cat([level, noise], dim=1))
        images: Tensor = (level + 1) / 2
        return images

    def _features(self, images: Tensor) -> Tensor:
        return self._read(images)[1]  # N x hidden

    def _score(self, images: Tensor) -> Tensor:
        """Error of the image plus error of its first level, means; after f-AnoGAN, equation 4."""
        rebuilt = self._reconstruct(images)
        residual = (rebuilt - images).square().flatten(1).mean(1)
        return residual + (self._features(rebuilt) - self._features(images)).square().mean(1)

    def _sample_codes(self, n: int, generator: torch.Generator) -> Tensor:
        top = self.density.sample(n, generator).clamp(-1, 1)
        return torch.cat([top, uniform(n, sum(self.sizes[1:]), generator)], dim=1)

    # -- training ---------------------------------------------------------------------------------

    def phases(self, recipe: Recipe) -> list[Phase]:
        check_loss(recipe)
        return [
            self._reading(recipe),
            self._game("top generator", recipe.top_epochs, [1]),
            self._game("bottom generator", recipe.epochs, [0]),
            self._game("both generators", recipe.joint_epochs, [1, 0]),
        ]

    def _write(self, level: int, above: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The level that a generator makes of the one above it, and the noise that was drawn."""
        noise = uniform(len(above), self.sizes[-1], rng).to(above.device)
        return self.generators[level](torch.cat([above, noise], dim=1)), noise

    def _reading(self, recipe: Recipe) -> Phase:
        """The encoders as those of a stacked autoencoder: each level is rebuilt from the next."""
        return Phase(
            "encoder",
            recipe.encoder_epochs,
            {"autoencoder": nn.ModuleList([self.encoders, self.generators])},
            self._reading_step,
            rates={"autoencoder": recipe.encoder_lr},
        )

    def _reading_step(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        with step.autocast():
            levels = self._read(images)
            losses = {}
            for i, name in enumerate(("image", "hidden")):
                again, _ = self._write(i, levels[i + 1], step.generator)
                error = again.float() - levels[i].float().detach()
                losses[name] = error.square().flatten(1).sum(1).mean()
        step.update("autoencoder", sum(losses.values(), start=images.new_zeros(())))
        return losses

    def _game(self, name: str, epochs: int, levels: Sequence[int]) -> Phase:
        """The generators of ``levels``, top first, against their discriminators."""
        generators = nn.ModuleList(self.generators[i] for i in levels)
        return Phase(
            name,
            epochs,
            {"generators": generators, "judges": nn.ModuleList(self.judges[i] for i in levels)},
            partial(self._game_step, levels),
            averaged=generators,
            shows="generate" if len(levels) > 1 else "reconstruct",
        )

    def _game_step(self, levels: Sequence[int], images: Tensor, step: Step) -> dict[str, Tensor]:
        self.encoders.eval()
        with torch.no_grad(), step.autocast():
            real = self._read(images)
        with frozen(self.encoders):
            made: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # level: made, noise, above
            with step.autocast():
                for i in levels:
                    above = made[i + 1][0] if i + 1 in made else real[i + 1]
                    made[i] = (*self._write(i, above, step.generator), above)
            losses = self._discriminator_losses(real, made, step, step.recipe)
            step.update("judges", sum(losses.values(), start=images.new_zeros(())))
            with frozen(*(self.judges[i] for i in levels)):
                wanted = self._generator_losses(made, step, step.recipe)
                step.update("generators", sum(wanted.values(), start=images.new_zeros(())))
        return {**losses, **wanted}

    def _discriminator_losses(
        self,
        real: list[Tensor],
        made: dict[int, tuple[Tensor, Tensor, Tensor]],
        step: Step,
        recipe: Recipe,
    ) -> dict[str, Tensor]:
        """Section 3.3, equation 3, and Q's part of section 3.5, for each level."""
        losses = {}
        for i, (fake, noise, _) in made.items():
            with step.autocast():
                seen, _ = self.judges[i](real[i])
                faked, guess = self.judges[i](fake.detach())
            losses[f"judge_{i}"] = discriminator_loss(recipe.loss, seen, faked)
            losses[f"q_{i}"] = recipe.entropy_weight * (guess - noise).square().mean()
        return losses

    def _generator_losses(
        self, made: dict[int, tuple[Tensor, Tensor, Tensor]], step: Step, recipe: Recipe
    ) -> dict[str, Tensor]:
        """Section 3.2, equation 2: adversarial, conditional and entropy loss of each level."""
        losses = {}
        for i, (fake, noise, above) in made.items():
            with step.autocast():
                faked, guess = self.judges[i](fake)
                again = self.encoders[i](fake)
            conditional = (again.float() - above.float()).square().mean()
            losses[f"adversarial_{i}"] = generator_loss(recipe.loss, faked)
            losses[f"conditional_{i}"] = recipe.conditional_weight * conditional
            losses[f"entropy_{i}"] = recipe.entropy_weight * (guess - noise).square().mean()
        return losses

    def fit(self, images: Callable[[], Iterator[Tensor]], seed: int) -> None:
        """The density of the top level; then the averaged generators' batch norm."""
        top = self.sizes[0]
        fit_density(self.density, images, lambda batch: self.encode(batch)[:, :top], seed)
        rng = torch.Generator().manual_seed(seed)
        codes = (self._sample_codes(256, rng).to(self.device) for _ in range(100))
        update_bn(codes, Stack(self.generators, self._decode))
