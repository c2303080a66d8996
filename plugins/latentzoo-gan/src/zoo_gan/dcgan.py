"""DCGAN: Radford, Metz & Chintala 2015, "Unsupervised representation learning with deep
convolutional generative adversarial networks", arXiv:1511.06434.

Section 3: strided and transposed convolutions instead of pooling; batch norm everywhere but at
the generator's output and the discriminator's input; ReLU in the generator and tanh at its end,
LeakyReLU 0.2 in the discriminator. Section 4: Adam with rate 2e-4 and beta1 0.5, weights from
N(0, 0.02). Section 5.1: the discriminator's layers, max-pooled to 4 x 4, are the features.

Two things are not of that paper. What ships is the exponential average of the generator's weights
(Yazıcı et al. 2018, arXiv:1806.04498). And after the game, with both players frozen, an encoder
learns to invert the generator, as in f-AnoGAN (Schlegl et al. 2019, section 3.2, "izi_f"), whose
anomaly score (equation 4) is this model's ``score``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import InvalidConfig
from zoo.model import Phase, Step, ZooModel
from zoo.model import Recipe as BaseRecipe

__all__ = ["DCGAN"]


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    epochs: int = 14
    batch_size: int = 64
    optimizer: str = "adam"
    lr: float = 2e-4
    beta1: float = 0.5
    schedule: str = "wsd"  # the rate falls over the second half
    average: float = 0.999  # of the generator's weights
    channels_last: bool = True  # a tenth faster
    encoder_epochs: int = 5
    encoder_lr: float = 1e-3
    latent_weight: float = 0.1  # of E(G(z)) = z, beside the error of G(E(x)) = x


def block(conv: nn.Module, activation: nn.Module) -> nn.Sequential:
    """Convolution, batch norm, activation. The norm has a bias of its own."""
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), activation)


def middle_kernel(size: int) -> int:
    """Kernel of the stride-2 step between 4 x 4 and 7 x 7 (28 pixels), or 8 x 8 (32)."""
    return 3 if size == 28 else 4


class Generator(nn.Module):
    """Codes, N x latent, to images, N x C x size x size in tanh's range."""

    def __init__(self, channels: int, size: int, latent: int, width: int):
        super().__init__()
        up = nn.ConvTranspose2d
        middle = middle_kernel(size)
        self.layers = nn.Sequential(
            block(up(latent, 4 * width, 4, 1, 0, bias=False), nn.ReLU()),  # 4w x 4 x 4
            block(up(4 * width, 2 * width, middle, 2, 1, bias=False), nn.ReLU()),  # 2w x 7 x 7
            block(up(2 * width, width, 4, 2, 1, bias=False), nn.ReLU()),  # w x 14 x 14
            up(width, channels, 4, 2, 1),  # C x 28 x 28
            nn.Tanh(),
        )

    def forward(self, codes: Tensor) -> Tensor:
        return self.layers(codes[:, :, None, None])


class Trunk(nn.Module):
    """Three strided convolutions, images in tanh's range to 4w x 4 x 4."""

    def __init__(self, channels: int, size: int, width: int):
        super().__init__()
        conv, leaky, middle = nn.Conv2d, nn.LeakyReLU(0.2), middle_kernel(size)
        self.layers = nn.ModuleList(
            [
                nn.Sequential(conv(channels, width, 4, 2, 1), leaky),  # w x 14 x 14
                block(conv(width, 2 * width, 4, 2, 1, bias=False), leaky),  # 2w x 7 x 7
                block(conv(2 * width, 4 * width, middle, 2, 1, bias=False), leaky),  # 4w x 4 x 4
            ]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The output of every layer."""
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return outputs


class Discriminator(nn.Module):
    """Images in tanh's range to one logit each: real above zero, generated below."""

    def __init__(self, channels: int, size: int, width: int):
        super().__init__()
        self.trunk = Trunk(channels, size, width)
        self.head = nn.Conv2d(4 * width, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)[-1]).flatten()  # N

    def features(self, x: Tensor) -> Tensor:
        """Section 5.1: every layer max-pooled to 4 x 4, all of them in one vector."""
        pooled = [F.adaptive_max_pool2d(layer, 4).flatten(1) for layer in self.trunk(x)]
        return torch.cat(pooled, dim=1)  # N x 16 * 7w


class Encoder(nn.Module):
    """Images in tanh's range to codes inside the prior, N x latent in [-1, 1]."""

    def __init__(self, channels: int, size: int, latent: int, width: int):
        super().__init__()
        self.trunk = Trunk(channels, size, width)
        self.head = nn.Linear(4 * width * 16, latent)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)[-1].flatten(1)).tanh()


class DCGAN(ZooModel):
    """Generator, discriminator, and an encoder that inverts the generator."""

    recipe = Recipe

    def __init__(self, *, channels: int = 1, size: int = 28, latent: int = 100, width: int = 32):
        super().__init__()
        if channels not in (1, 3) or size not in (28, 32) or latent < 1 or width < 1:
            raise InvalidConfig(
                "dcgan: expected channels 1 or 3, size 28 or 32, latent and width positive, "
                f"got {channels=}, {size=}, {latent=}, {width=}"
            )
        self.image_shape = (channels, size, size)
        self.code_shape = (latent,)
        self.generator = Generator(channels, size, latent, width)
        self.discriminator = Discriminator(channels, size, width)
        self.encoder = Encoder(channels, size, latent, width)
        for module in self.modules():  # section 4
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1, 0.02)
        check_fit(self)

    # -- the calls: images in [0, 1] outside, in tanh's range inside ---------------------------

    def _encode(self, images: Tensor) -> Tensor:
        return self.encoder(images * 2 - 1)

    def _decode(self, codes: Tensor) -> Tensor:
        return (self.generator(codes) + 1) / 2

    def _features(self, images: Tensor) -> Tensor:
        return self.discriminator.features(images * 2 - 1)

    def _score(self, images: Tensor) -> Tensor:
        """f-AnoGAN, equation 4: error of the image plus error of the discriminator's features."""
        rebuilt = self._reconstruct(images)
        residual = (rebuilt - images).square().flatten(1).mean(1)
        features = (self._features(rebuilt) - self._features(images)).square().mean(1)
        return residual + features

    def _sample_codes(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.rand(n, *self.code_shape, generator=generator) * 2 - 1  # section 4: uniform

    # -- training ------------------------------------------------------------------------------

    def phases(self, recipe: Recipe) -> list[Phase]:
        return [self._game(recipe), self._inversion(recipe)]

    def _game(self, recipe: Recipe) -> Phase:
        def step(images: Tensor, step: Step) -> dict[str, Tensor]:
            codes = self._sample_codes(len(images), step.generator).to(images.device)
            with step.autocast():
                fake = self.generator(codes)
                # Real and generated images in batches of their own, for batch norm's sake.
                real_logits = self.discriminator(images * 2 - 1).float()
                fake_logits = self.discriminator(fake.detach()).float()
            loss_d = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
            step.update("discriminator", loss_d)

            self.discriminator.requires_grad_(False)
            with step.autocast():
                fooled = self.discriminator(fake).float()
            loss_g = F.softplus(-fooled).mean()  # the non-saturating loss
            step.update("generator", loss_g)
            self.discriminator.requires_grad_(True)
            return {"discriminator": loss_d, "generator": loss_g}

        return Phase(
            "game",
            recipe.epochs,
            {"generator": self.generator, "discriminator": self.discriminator},
            step,
            averaged=self.generator,
            shows="generate",
            finish=self._settle_batch_norm,
        )

    def _settle_batch_norm(self, batches: int = 100) -> None:
        """Averaged weights have activations of their own: measure their mean and variance."""
        norms = [m for m in self.generator.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over all batches
        self.generator.train()
        chance = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for _ in range(batches):
                self.generator(self._sample_codes(256, chance).to(self.device))
        for norm in norms:
            norm.momentum = 0.1

    def _inversion(self, recipe: Recipe) -> Phase:
        def step(images: Tensor, step: Step) -> dict[str, Tensor]:
            self.generator.eval().requires_grad_(False)
            self.discriminator.eval()
            codes = self._sample_codes(len(images), step.generator).to(images.device)
            with step.autocast():
                rebuilt = self._reconstruct(images)
                again = self.encoder(self.generator(codes))
            losses = {
                "sse": (rebuilt.float() - images).square().flatten(1).sum(1).mean(),
                "latent": recipe.latent_weight * (again.float() - codes).square().sum(1).mean(),
            }
            step.update("encoder", sum(losses.values()))
            return losses

        def finish() -> None:
            self.generator.requires_grad_(True)

        return Phase(
            "inversion",
            recipe.encoder_epochs,
            {"encoder": self.encoder},
            step,
            rates={"encoder": recipe.encoder_lr},
            finish=finish,
        )


def check_fit(model: DCGAN) -> None:
    """The generator's images must be the data's, and the other two must take them.

    Computed from the layers' own numbers: running them, even on the meta device, costs seconds.

    Raises:
        InvalidConfig: they do not fit together; the text names the part.
    """
    (latent,), data = model.code_shape, model.image_shape
    for name, part, start, end in (
        ("generator", model.generator, (latent, 1, 1), data),
        ("discriminator", model.discriminator, data, (1, 1, 1)),
        (
            "encoder's trunk",
            model.encoder.trunk,
            data,
            (model.encoder.head.in_features // 16, 4, 4),
        ),
    ):
        if (came := shape_after(part, start)) != end:
            raise InvalidConfig(
                f"dcgan: images of the data are {data}, but the {name} turns {start} into "
                f"{came}, expected {end}"
            )


def shape_after(part: nn.Module, shape: tuple[int, int, int]) -> tuple[int, int, int] | str:
    """(C, H, W) after all convolutions of ``part``, or the first that does not take its input."""
    channels, height, width = shape
    for conv in part.modules():
        if not isinstance(conv, nn.Conv2d | nn.ConvTranspose2d):
            continue
        if conv.in_channels != channels:
            return f"{channels} channels before a layer for {conv.in_channels}"
        (k, _), (s, _), (p, _) = conv.kernel_size, conv.stride, conv.padding
        if isinstance(conv, nn.ConvTranspose2d):
            height, width = ((n - 1) * s - 2 * p + k for n in (height, width))
        else:
            height, width = ((n + 2 * p - k) // s + 1 for n in (height, width))
        channels = conv.out_channels
    return channels, height, width
