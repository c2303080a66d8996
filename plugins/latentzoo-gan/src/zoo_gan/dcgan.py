"""DCGAN: Radford, Metz & Chintala 2015, "Unsupervised representation learning with deep
convolutional generative adversarial networks", arXiv:1511.06434.

Section 3: strided and transposed convolutions instead of pooling; batch norm everywhere but at
the generator's output and the discriminator's input; ReLU in the generator and tanh at its end,
LeakyReLU 0.2 in the discriminator. Section 4: Adam with rate 2e-4 and beta1 0.5, weights from
N(0, 0.02). Section 5.1: the discriminator's layers, max-pooled to 4 x 4, are the features.

Two things are not of that paper. What ships is the exponential average of the generator's weights
(Yazıcı et al. 2018, arXiv:1806.04498). And after the game an encoder learns to invert the
generator (:mod:`zoo_gan.adversarial`).

Options, each off by default: ``norm="spectral"`` (or ``"none"``) in place of the discriminator's
batch norm, and the recipe's ``r1`` and ``loss="hinge"`` (:mod:`zoo_gan.options`); and

``classes=10``
    a generator for each class (the paper's section 6 has one such): codes end in ``classes``
    numbers, one of them 1, and the discriminator gets the class as so many maps beside the image
    (Mirza & Osindero 2014, "Conditional generative adversarial nets", arXiv:1411.1784,
    section 3.2). Such a model is NOT learnt without labels, and the recipe has to say so:
    ``labels=true``.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import SettingsError, TrainingError
from zoo.model import LabelledRecipe, Phase, Step
from zoo.nn import shape_after
from zoo_gan.adversarial import FeatureDiscriminator, InvertedGAN, InvertedRecipe
from zoo_gan.options import normalise_spectrally

__all__ = ["DCGAN", "Generator", "Trunk"]


@dataclass(frozen=True, kw_only=True)
class Recipe(InvertedRecipe, LabelledRecipe):
    """``labels`` are for ``classes=N``."""

    channels_last: bool = True  # a tenth faster


def block(conv: nn.Conv2d | nn.ConvTranspose2d, activation: nn.Module) -> nn.Sequential:
    """Convolution, batch norm, activation. The norm has a bias of its own."""
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), activation)


def middle_kernel(size: int) -> int:
    """Kernel of the stride-2 step between 4 x 4 and 7 x 7 (28 pixels), or 8 x 8 (32, 64)."""
    return 3 if size == 28 else 4


def layer_widths(size: int, width: int) -> list[int]:
    """The channels of all layers but the images, from the outermost to that of 4 x 4."""
    return [width * 2**i for i in range(4 if size == 64 else 3)]  # w, 2w, 4w


class Generator(nn.Module):
    """Codes, N x latent_dim, to images, N x C x size x size in tanh's range."""

    def __init__(self, channels: int, size: int, latent_dim: int, width: int):
        super().__init__()
        up, widths = nn.ConvTranspose2d, layer_widths(size, width)[::-1]
        kernels = [middle_kernel(size), 4, 4]
        self.layers = nn.Sequential(
            block(up(latent_dim, widths[0], 4, 1, 0, bias=False), nn.ReLU()),  # 4w x 4 x 4
            *(
                block(up(a, b, k, 2, 1, bias=False), nn.ReLU())  # 2w x 7 x 7, w x 14 x 14
                for (a, b), k in zip(pairwise(widths), kernels, strict=False)
            ),
            up(widths[-1], channels, 4, 2, 1),  # C x 28 x 28
            nn.Tanh(),
        )

    def forward(self, codes: Tensor) -> Tensor:
        out: Tensor = self.layers(codes[:, :, None, None])
        return out


class Trunk(nn.Module):
    """Strided convolutions, images in tanh's range to 4w x 4 x 4, or 8w x 4 x 4 for 64 pixels.

    ``norm`` is the norm of all layers but the first: ``batch`` or none. Spectral norm is added
    later, to layers without one.
    """

    def __init__(self, channels: int, size: int, width: int, norm: str = "batch"):
        super().__init__()
        leaky, widths = nn.LeakyReLU(0.2), layer_widths(size, width)
        self.layers = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), leaky)]  # w x 14 x 14
        )
        for a, b in pairwise(widths):  # 2w x 7 x 7, 4w x 4 x 4
            kernel = 4 if b < widths[-1] else middle_kernel(size)
            conv = nn.Conv2d(a, b, kernel, 2, 1, bias=norm != "batch")
            self.layers.append(
                block(conv, leaky) if norm == "batch" else nn.Sequential(conv, leaky)
            )
        self.channels = widths[-1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """The output of every layer."""
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return outputs


class Discriminator(FeatureDiscriminator):
    """Images in tanh's range to one logit each: real above zero, generated below.

    With ``classes`` it also gets the class that the image should have, N x classes that sum to 1.
    """

    def __init__(self, channels: int, size: int, width: int, norm: str = "batch", classes: int = 0):
        super().__init__()
        self.trunk = Trunk(channels + classes, size, width, norm)
        self.head = nn.Conv2d(self.trunk.channels, 1, 4)
        self.classes = classes

    def forward(self, x: Tensor, classes: Tensor | None = None) -> Tensor:
        out: Tensor = self.head(self.trunk(self._with_classes(x, classes))[-1]).flatten()  # N
        return out

    def _with_classes(self, x: Tensor, classes: Tensor | None) -> Tensor:
        """``x`` with a map for each class beside it; all of them alike when it may be any."""
        if not self.classes:
            return x
        if classes is None:
            classes = x.new_full((len(x), self.classes), 1 / self.classes)
        maps = classes[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return torch.cat([x, maps.to(x)], dim=1)

    def features(self, x: Tensor) -> Tensor:
        """Section 5.1: every layer max-pooled to 4 x 4, all of them in one vector."""
        layers = self.trunk(self._with_classes(x, None))
        pooled = [F.adaptive_max_pool2d(layer, 4).flatten(1) for layer in layers]
        return torch.cat(pooled, dim=1)  # N x 16 * 7w


class Encoder(nn.Module):
    """Images in tanh's range to codes inside the prior: N x latent_dim in [-1, 1], then classes."""

    def __init__(self, channels: int, size: int, latent_dim: int, width: int, classes: int = 0):
        super().__init__()
        self.trunk = Trunk(channels, size, width)
        self.head = nn.Linear(self.trunk.channels * 16, latent_dim + classes)
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        codes = self.head(self.trunk(x)[-1].flatten(1))
        if not self.classes:
            out: Tensor = codes.tanh()
            return out
        return torch.cat(
            [codes[:, : -self.classes].tanh(), codes[:, -self.classes :].softmax(1)], dim=1
        )


class DCGAN(InvertedGAN):
    """Generator, discriminator, and an encoder that inverts the generator."""

    recipe = Recipe
    encoder: Encoder

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        latent_dim: int = 100,
        width: int = 32,
        norm: str = "batch",
        classes: int = 0,
    ):
        super().__init__()
        if channels not in (1, 3) or size not in (28, 32, 64) or latent_dim < 1 or width < 1:
            raise SettingsError(
                "dcgan: expected channels 1 or 3, size 28, 32 or 64, latent and width positive, "
                f"got {channels=}, {size=}, {latent_dim=}, {width=}"
            )
        if norm not in ("batch", "spectral", "none"):
            raise SettingsError(f"dcgan: norm should be batch, spectral or none, got {norm!r}")
        if classes != 0 and not 2 <= classes <= 10_000:
            raise SettingsError(f"dcgan: expected no classes (0) or 2 to 10,000, got {classes}")
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_dim + classes,)
        self.classes, self.norm = classes, norm
        self.generator = Generator(channels, size, latent_dim + classes, width)
        self.discriminator = Discriminator(channels, size, width, norm, classes)
        self.encoder = Encoder(channels, size, latent_dim, width, classes)
        for module in self.modules():  # section 4
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1, 0.02)
        if classes:  # as large as the rest of the code together, or the generator ignores them
            first = self.generator.get_parameter("layers.0.0.weight")
            nn.init.normal_(first[latent_dim:], 0, 0.02 * latent_dim**0.5)
        check_fit(self)
        if norm == "spectral":
            normalise_spectrally(self.discriminator)

    def _sample_codes(self, n: int, generator: torch.Generator) -> Tensor:
        codes = super()._sample_codes(n, generator)  # section 4: uniform
        if not self.classes:
            return codes
        classes = torch.randint(self.classes, (n,), generator=generator)
        return self._of_classes(codes, classes)

    def _of_classes(self, codes: Tensor, classes: Tensor) -> Tensor:
        """``codes`` with these classes (N, whole numbers) in place of their own."""
        one_hot = F.one_hot(classes, self.classes).to(codes)
        return torch.cat([codes[:, : -self.classes], one_hot], dim=1)

    def classes_of(self, codes: Tensor) -> Tensor | None:
        """The class that each code asks for, N whole numbers; None of a model without classes."""
        return codes[:, -self.classes :].argmax(1) if self.classes else None

    # -- training, besides what all such models do ------------------------------------------------

    def phases(self, recipe: Any) -> list[Phase]:
        if bool(self.classes) != recipe.labels:
            raise SettingsError(
                f"dcgan with classes={self.classes} and labels={str(recipe.labels).lower()}: "
                + (
                    "a generator of classes learns from the labels of the data. "
                    "Type: --set labels=true"
                    if self.classes
                    else "without classes it has no use for labels. Type: --config classes=10 (as "
                    "many as the data have), or leave out labels"
                )
            )
        if recipe.r1 and self.norm == "batch":
            raise SettingsError(
                "dcgan: r1 is the slope at single images, which batch norm mixes. "
                "Type: --config norm=spectral, or norm=none"
            )
        return super().phases(recipe)

    def _game_codes(self, n: int, step: Step) -> tuple[Tensor, tuple[Tensor, ...]]:
        codes, condition = super()._game_codes(n, step)
        if not self.classes or step.labels is None:
            return codes, condition
        if (most := int(step.labels.max())) >= self.classes:
            raise TrainingError(
                f"dcgan has classes={self.classes}, but the data have labels up to {most}. "
                f"Type: --config classes={most + 1}, or more"
            )
        codes = self._of_classes(codes, step.labels)
        return codes, (codes[:, -self.classes :],)


def check_fit(model: DCGAN) -> None:
    """The generator's images must be the data's, and the other two must take them.

    Raises:
        SettingsError: they do not fit together; the text names the part.
    """
    (latent_dim,), data = model.code_shape, model.image_shape
    condition = (data[0] + model.classes, *data[1:])
    for name, part, start, end in (
        ("generator", model.generator, (latent_dim, 1, 1), data),
        ("discriminator", model.discriminator, condition, (1, 1, 1)),
        (
            "encoder's trunk",
            model.encoder.trunk,
            data,
            (model.encoder.head.in_features // 16, 4, 4),
        ),
    ):
        if (got := shape_after(part, start)) != end:
            raise SettingsError(
                f"dcgan: images of the data are {data}, but the {name} turns {start} into "
                f"{got}, expected {end}"
            )
