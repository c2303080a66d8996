"""What the adversarial models share: the losses of the game, and the encoder that inverts it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SettingsError
from zoo.model import Phase, Step, ZooModel
from zoo.model import Recipe as BaseRecipe
from zoo.nn import update_bn
from zoo_gan.options import hinge_loss, r1_penalty

__all__ = [
    "GameRecipe",
    "InvertedGAN",
    "InvertedRecipe",
    "check_loss",
    "discriminator_loss",
    "frozen",
    "generator_loss",
    "uniform",
    "update_generator_norms",
]


@dataclass(frozen=True, kw_only=True)
class GameRecipe(BaseRecipe):
    """``loss`` is ``non_saturating`` (Goodfellow et al. 2014, section 3) or ``hinge`` (Miyato et
    al. 2018, arXiv:1802.05957, equations 16 and 17)."""

    epochs: int = 14
    batch_size: int = 64
    optimizer: str = "adam"
    lr: float = 2e-4
    beta1: float = 0.5
    schedule: str = "wsd"  # the rate falls over the second half
    average: float = 0.999  # of the generator's weights
    loss: str = "non_saturating"


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss, of its logits for real and for generated images, N each."""
    if kind == "hinge":
        return hinge_loss(real, fake)
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """The generator's loss, of the discriminator's logits for generated images, N."""
    return -fake.mean() if kind == "hinge" else F.softplus(-fake).mean()


def check_loss(recipe: GameRecipe) -> None:
    """Raises: SettingsError: there is no such loss."""
    if recipe.loss not in ("non_saturating", "hinge"):
        raise SettingsError(f"loss should be non_saturating or hinge, got {recipe.loss!r}")


@contextlib.contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Inside the block these modules learn nothing; gradients pass through them."""
    for module in modules:
        module.requires_grad_(False)
    yield
    for module in modules:
        module.requires_grad_(True)


def uniform(n: int, dim: int, generator: torch.Generator) -> Tensor:
    """n x dim in [-1, 1), drawn on the CPU."""
    return torch.rand(n, dim, generator=generator) * 2 - 1


def update_generator_norms(model: ZooModel, generator: nn.Module) -> None:
    """Compute the statistics of batch norm again, on 100 batches of sampled codes: averaged weights
    have others than the last ones."""
    rng = torch.Generator().manual_seed(0)
    update_bn((model._sample_codes(256, rng).to(model.device) for _ in range(100)), generator)


@dataclass(frozen=True, kw_only=True)
class InvertedRecipe(GameRecipe):
    """``r1`` is gamma of the penalty on the discriminator's slope at real images: Mescheder et al.
    2018, arXiv:1801.04406, equation 9."""

    r1: float = 0.0
    encoder_epochs: int = 5
    encoder_lr: float = 1e-3
    latent_weight: float = 0.1  # of E(G(z)) = z, beside the error of G(E(x)) = x


class FeatureDiscriminator(nn.Module):
    """A discriminator whose last hidden layer is used as features."""

    def features(self, x: Tensor) -> Tensor:
        """Images, N x C x H x W in the range that the game is played in, to N x F."""
        raise NotImplementedError


class InvertedGAN(ZooModel):
    """A GAN, and then an encoder that learns to invert its generator while that stays fixed.

    That is "izi_f" of f-AnoGAN (Schlegl et al. 2019, section 3.2), whose anomaly score (equation
    4) is this model's ``score``. A subclass sets ``generator``, ``discriminator`` (with
    ``features``) and ``encoder``; images are in tanh's range inside, unless it says otherwise.
    """

    recipe = InvertedRecipe
    generator: nn.Module
    discriminator: "FeatureDiscriminator"
    encoder: nn.Module

    # -- the calls: images in [0, 1] outside ------------------------------------------------------

    def _inside(self, images: Tensor) -> Tensor:
        return images * 2 - 1

    def _outside(self, x: Tensor) -> Tensor:
        return (x + 1) / 2

    def _encode(self, images: Tensor) -> Tensor:
        codes: Tensor = self.encoder(self._inside(images))
        return codes

    def _decode(self, codes: Tensor) -> Tensor:
        return self._outside(self.generator(codes))

    def _features(self, images: Tensor) -> Tensor:
        return self.discriminator.features(self._inside(images))

    def _score(self, images: Tensor) -> Tensor:
        """f-AnoGAN, equation 4: error of the image plus error of the discriminator's features."""
        rebuilt = self._reconstruct(images)
        residual = (rebuilt - images).square().flatten(1).mean(1)
        features = (self._features(rebuilt) - self._features(images)).square().mean(1)
        return residual + features

    def _sample_codes(self, n: int, generator: torch.Generator) -> Tensor:
        return uniform(n, self.code_shape[0], generator)

    # -- training ---------------------------------------------------------------------------------

    def phases(self, recipe: InvertedRecipe) -> list[Phase]:
        check_loss(recipe)
        return [self._game(recipe), self._inversion(recipe)]

    def _game_codes(self, n: int, step: Step) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Codes for one step, and further inputs that the discriminator gets with each image."""
        return self._sample_codes(n, step.generator).to(self.device), ()

    def _game(self, recipe: InvertedRecipe) -> Phase:
        return Phase(
            "game",
            recipe.epochs,
            {"generator": self.generator, "discriminator": self.discriminator},
            self.play,
            averaged=self.generator,
            shows="generate",
            finish=lambda: update_generator_norms(self, self.generator),
        )

    def play(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        """One step of the game: first the discriminator learns, then the generator."""
        recipe = step.recipe
        codes, condition = self._game_codes(len(images), step)
        real = self._inside(images)
        with step.autocast():
            fake = self.generator(codes)
            # Real and generated images in batches of their own, for batch norm's sake.
            real_logits = self.discriminator(real, *condition).float()
            fake_logits = self.discriminator(fake.detach(), *condition).float()
        loss_d = discriminator_loss(recipe.loss, real_logits, fake_logits)
        penalty = r1_penalty(self.discriminator, real, condition, recipe.r1) if recipe.r1 else 0
        step.update("discriminator", loss_d + penalty)

        with frozen(self.discriminator):
            with step.autocast():
                fooled = self.discriminator(fake, *condition).float()
            loss_g = generator_loss(recipe.loss, fooled)
            step.update("generator", loss_g)
        return {"discriminator": loss_d, "generator": loss_g}

    def _inversion(self, recipe: InvertedRecipe) -> Phase:
        def finish() -> None:
            self.generator.requires_grad_(True)

        return Phase(
            "inversion",
            recipe.encoder_epochs,
            {"encoder": self.encoder},
            self.invert,
            rates={"encoder": recipe.encoder_lr},
            finish=finish,
        )

    def invert(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        """One step of the encoder: G(E(x)) = x and E(G(z)) = z, while the other two stay fixed."""
        self.generator.eval().requires_grad_(False)
        self.discriminator.eval()
        codes = self._sample_codes(len(images), step.generator).to(images.device)
        with step.autocast():
            rebuilt = self._reconstruct(images)
            again = self.encoder(self.generator(codes))
        latent = (again.float() - codes).square().sum(1).mean()
        losses = {
            "sse": (rebuilt.float() - images).square().flatten(1).sum(1).mean(),
            "latent": step.recipe.latent_weight * latent,
        }
        step.update("encoder", losses["sse"] + losses["latent"])
        return losses
