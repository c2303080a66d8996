"""What the models of this plugin share: an encoder, two views of each picture, a density.

The encoder is a residual net (He et al. 2016, arXiv:1512.03385) for small pictures: its stem keeps
the size, as is usual for CIFAR-10. It is written here, and not timm's, since ``import timm``
takes longer than the rest of loading a model; a setting chooses any net of timm in its place.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.density import ENOUGH, fit_density
from zoo.errors import SettingsError
from zoo.model import GaussianMixture, Phase, Step, ZooModel
from zoo.model import Recipe as BaseRecipe
from zoo.optional import optional
from zoo_contrastive.views import Views

__all__ = ["Recipe", "TwoViews"]

RESNET = "resnet"
"""The encoder of this file; any other name is timm's."""


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    """``crop`` to ``erase`` are those of :class:`zoo_contrastive.views.Views`.

    ``view`` is the size of the views, as a share of the pictures'. At 0.75 a step costs half; and
    since a crop, brought to a size, shows everything larger than the picture does, smaller views
    show it about as large (Touvron et al. 2019, arXiv:1906.06423). Before that, pictures are made
    ``shrink`` times smaller, by averages: an encoder can learn from small ones what it then
    sees in large ones.
    """

    epochs: int = 40
    batch_size: int = 256
    optimizer: str = "muon"  # reaches adamw's loss of 150 seconds in about 90
    lr: float = 4e-3
    weight_decay: float = 1e-2
    channels_last: bool = True
    shrink: int = 1
    view: float = 0.75
    crop: float = 0.2
    rotation_degrees: float = 0.0
    flip: float = 0.5
    colour: float = 0.5
    grey: float = 0.2
    erase: float = 0.0


def block(channels: int, to: int, stride: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    conv = nn.Conv2d(channels, to, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(to), nn.ReLU())


class Residual(nn.Module):
    """Two convolutions whose result is added to what went in."""

    def __init__(self, channels: int):
        super().__init__()
        conv = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.layers = nn.Sequential(block(channels, channels, 1), conv, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.layers(x))


class ResNet(nn.Module):
    """Halves the picture ``halvings`` times, or if that is 0 until it is at most 4 pixels wide,
    each time with twice as many channels."""

    def __init__(self, channels: int, size: int, width: int, halvings: int = 0):
        super().__init__()
        self.layers = nn.ModuleList([block(channels, width, 1)])  # w x 28 x 28
        self.widths = [width]
        while len(self.widths) <= halvings if halvings else size > 4:
            # No wider, however large the picture.
            before, now = self.widths[-1], min(2 * self.widths[-1], 8 * width)
            self.widths.append(now)
            self.layers.append(nn.Sequential(block(before, now, 2), Residual(now)))
            size = (size + 1) // 2  # 2w x 14 x 14, 4w x 7 x 7, 8w x 4 x 4

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of all layers."""
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps[1:]


class Whitening(nn.Module):
    """The principal directions of D numbers, each divided by a power of its deviation.

    With ``power`` 0 they are as they are, with 1 all count alike: the few that say most about
    colour and light no longer drown those that tell one kind of thing from another. What comes out
    has length 1.
    """

    DIRECTIONS = 256  # at most

    mean: Tensor
    directions: Tensor

    def __init__(self, numbers: int, power: float):
        super().__init__()
        self.power = power
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("directions", torch.eye(numbers)[:, : self.DIRECTIONS].clone())

    def fit(self, numbers: Tensor) -> None:
        """``numbers`` are N x D."""
        centred = numbers.double() - numbers.double().mean(0)
        variances, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))  # rising
        deviations = variances.clamp(min=0).sqrt().flip(0)[: self.DIRECTIONS]
        scales = (deviations + 0.01 * deviations[0]).clamp(min=1e-12) ** -self.power
        self.mean.copy_(numbers.double().mean(0))
        self.directions.copy_(vectors.flip(1)[:, : self.DIRECTIONS] * scales)

    def forward(self, numbers: Tensor) -> Tensor:
        """N x D to N x min(D, 256)."""
        return F.normalize((numbers - self.mean) @ self.directions, dim=1)


class TimmNet(nn.Module):
    """A convolutional net of timm's, untrained, up to its last map.

    Raises:
        SettingsError: timm has no net of this name, or it cannot be stored whole.
        MissingDependency: timm is not installed.
    """

    def __init__(self, name: str, channels: int):
        super().__init__()
        timm = optional("timm", "timm", "train")
        # With a prefix (hf-hub:, local-dir:) an untrusted config could make timm read any file.
        if ":" in name or not timm.is_model(name):
            raise SettingsError(
                f"encoder={name!r:.80} is no net of timm's: expected {RESNET!r}, or one of the "
                "names that timm.list_models() gives, such as 'resnet10t' or 'convnext_atto'"
            )
        self.net = timm.create_model(name, in_chans=channels, num_classes=0)
        self.widths = [self.net.num_features]
        lost = {key for key, _ in self.net.named_buffers()} - self.net.state_dict().keys()
        if lost:
            raise SettingsError(
                f"encoder={name!r} cannot be stored whole: it keeps {min(lost)!r} out of its "
                "state_dict; 'resnet10t' and 'convnext_atto' can"
            )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The last map, alone."""
        last = self.net.forward_features(x)
        if last.ndim != 4 or last.shape[1] != self.widths[-1]:
            raise SettingsError(
                f"encoder: expected a convolutional net with N x {self.widths[-1]} x h x w at its "
                f"end, got {tuple(last.shape)}; 'resnet10t' and 'convnext_atto' are such"
            )
        return [last]


class TwoViews(ZooModel):
    """A model that learns from what two views of a picture have in common.

    ``encode`` gives what the encoder makes of the picture, averaged over its last map: the
    projection behind it is for training alone, as it drops what the views do not share (Chen et
    al. 2020, section 4.2). ``features`` are averages over each part of a grid instead, which also
    say where things are; and of the map before the last too, which keeps more of what differs
    between views: with both, probes and neighbours were better on held-out images. With
    ``whiten``, the averages of each map are whitened (:class:`Whitening`), and each map before has
    a finer grid, as it knows better where things are; with ``mirror``, all is the mean of a picture
    and its mirror image. ``score`` is the
    distance to the mean of the training codes in units of their covariance: SSD (Sehwag et
    al. 2021, arXiv:2103.12051, section 3).

    Args:
        channels: 1 or 3.
        size: height and width of the pictures, from 8 to 512.
        width: channels after the stem of the ``resnet``.
        encoder: ``resnet``, or a convolutional net of timm's by its name.
        grid: parts of a map, across and down, whose averages are ``features``.
        halvings: how often the ``resnet`` halves the picture; with 0, until it is at most 4 pixels
            wide.
        levels: ``features`` are made of so many maps, counted from the last.
        whiten: the power of the whitening, from 0 (none) to 1 (all).
        mirror: whether ``features`` are those of the picture and of its mirror image.

    Raises:
        SettingsError: a setting is out of its range.
        MissingDependency: a net of timm's without timm.
    """

    recipe = Recipe
    head: nn.Module
    encoder: ResNet | TimmNet
    whitenings: nn.ModuleList

    def __init__(
        self,
        *,
        channels: int,
        size: int,
        width: int,
        encoder: str,
        grid: int,
        halvings: int,
        levels: int,
        whiten: float,
        mirror: bool,
    ):
        super().__init__()
        if not (channels in (1, 3) and 8 <= size <= 512 and width > 0 and 1 <= grid <= 4):
            raise SettingsError(
                "expected 1 or 3 channels, a size from 8 to 512, width positive and a grid from 1 "
                f"to 4, got {channels=}, {size=}, {width=}, {grid=}"
            )
        if not (0 <= halvings <= 8 and levels > 0 and 0 <= whiten <= 1):
            raise SettingsError(
                "expected halvings from 0 to 8, levels positive and whiten from 0 to 1, got "
                f"{halvings=}, {levels=}, {whiten=}"
            )
        self.image_shape = (channels, size, size)
        if encoder == RESNET:
            self.encoder = ResNet(channels, size, width, halvings)
        else:
            self.encoder = TimmNet(encoder, channels)
        self.grid = grid
        code = self.encoder.widths[-1]
        self.code_shape = (code,)
        self.density = GaussianMixture(code, components=1)
        widths = self.encoder.widths[-levels:]
        finer = range(len(widths))[::-1] if whiten else [0] * len(widths)
        self.grids = [grid + by for by in finer]
        self.mirror = mirror
        self.whitenings = nn.ModuleList(
            Whitening(parts**2 * width, whiten)
            for parts, width in zip(self.grids, widths, strict=True)
            if whiten
        )

    def losses(self, one: Tensor, two: Tensor, recipe: Any) -> dict[str, Tensor]:
        """The named parts of the loss, which is their sum.

        ``one`` and ``two`` are what the head makes of the two views, N x projection float32.
        """
        raise NotImplementedError

    # -- the calls -----------------------------------------------------------------------------

    def _encode(self, images: Tensor) -> Tensor:
        codes: Tensor = self.encoder(images * 2 - 1)[-1].mean((2, 3))  # N x latent_dim
        return codes

    def _features(self, images: Tensor) -> Tensor:
        if self.mirror:
            return (self._of_maps(images) + self._of_maps(images.flip(-1))) / 2
        return self._of_maps(images)

    def _of_maps(self, images: Tensor) -> Tensor:
        parts = self._averages(images)
        if self.whitenings:
            parts = [w(part) for w, part in zip(self.whitenings, parts, strict=True)]
        return torch.cat(parts, dim=1)  # N x grid² (4w + 8w), or N x 256 levels

    def _averages(self, images: Tensor) -> list[Tensor]:
        """Of each map, N x grid² channels."""
        maps = self.encoder(images * 2 - 1)[-len(self.grids) :]
        each = zip(maps, self.grids, strict=True)
        return [F.adaptive_avg_pool2d(of, grid).flatten(1) for of, grid in each]

    def _score(self, images: Tensor) -> Tensor:
        away = self._encode(images) - self.density.means[0]  # N x latent_dim
        units = torch.linalg.solve_triangular(self.density.scales[0], away.T, upper=False)
        scores: Tensor = units.square().mean(0)
        return scores

    # -- training ------------------------------------------------------------------------------

    def phases(self, recipe: Any) -> list[Phase]:
        return [Phase.of_loss("views", recipe.epochs, self, self.loss, averaged=self)]

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        one, two = self._two_views(images, step).float().chunk(2)  # N x projection each
        with torch.autocast(images.device.type, enabled=False):
            return self.losses(one, two, step.recipe)

    def _two_views(self, images: Tensor, step: Step) -> Tensor:
        """What the head makes of two views of each picture, N x C x H x W to 2N x projection."""
        recipe = step.recipe
        if recipe.shrink > 1:
            images = F.avg_pool2d(images, recipe.shrink)
        make = Views(
            crop=recipe.crop, rotation_degrees=recipe.rotation_degrees, flip=recipe.flip,
            colour=recipe.colour, grey=recipe.grey, erase=recipe.erase,
            size=max(8, round(recipe.view * images.shape[2])),
        )  # fmt: skip
        # As one batch, for batch norm's sake: two would have statistics of their own.
        views = torch.cat([make(images, step.generator), make(images, step.generator)])
        if recipe.channels_last:
            views = views.contiguous(memory_format=torch.channels_last)
        out: Tensor = self.head(self._encode(views))
        return out

    def fit(self, images: Callable[[], Iterator[Tensor]], seed: int) -> None:
        fit_density(self.density, images, self.encode, seed)
        if self.whitenings:
            self._fit_whitenings(images())

    @torch.no_grad()
    def _fit_whitenings(self, images: Iterator[Tensor]) -> None:
        averages: list[list[Tensor]] = []
        for batch in images:  # in random order
            averages.append(self._averages(batch))
            if sum(len(maps[0]) for maps in averages) >= ENOUGH:
                break
        for whitening, parts in zip(self.whitenings, zip(*averages, strict=True), strict=True):
            assert isinstance(whitening, Whitening)
            whitening.fit(torch.cat(parts))
