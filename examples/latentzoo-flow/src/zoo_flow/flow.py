"""Rectified flow: Liu, Gong & Liu 2022, "Flow straight and fast", arXiv:2209.03003.

A net learns the velocity that carries noise x0 to an image x1 along the line between them
(equation 1); an image is made by following it from t = 0 to 1 in Euler's steps (section 2.1). The
net is a small U-Net (Ho et al. 2020, arXiv:2006.11239) without attention.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.errors import SettingsError
from zoo.model import Recipe as BaseRecipe
from zoo.model import Step, ZooModel
from zoo.nn import square

__all__ = ["RectifiedFlow"]


@dataclass(frozen=True, kw_only=True)
class Recipe(BaseRecipe):
    epochs: int = 30
    batch_size: int = 128
    lr: float = 2e-3
    average: float = 0.999
    clip: float = 1.0


class Block(nn.Module):
    """A residual block that is told the time: N x a x h x w and N x T to N x b x h x w."""

    def __init__(self, a: int, b: int, time: int):
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, a), nn.SiLU(), nn.Conv2d(a, b, 3, 1, 1))
        self.time = nn.Linear(time, b)
        self.second = nn.Sequential(nn.GroupNorm(8, b), nn.SiLU(), nn.Conv2d(b, b, 3, 1, 1))
        self.skip = nn.Conv2d(a, b, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.first(x) + self.time(time)[:, :, None, None]
        return self.skip(x) + self.second(h)


class RectifiedFlow(ZooModel):
    """A U-Net of three sizes (28, 14, 7); images are in [-1, 1] inside."""

    recipe = Recipe

    def __init__(self, *, channels: int = 1, size: int = 28, width: int = 32):
        super().__init__()
        self.image_shape = square(channels, size, smallest=8, largest=64, divisor=4)
        if width < 8 or width % 8:
            raise SettingsError(f"rectified_flow: expected a width that 8 divides, got {width}")
        w, time = width, 4 * width
        self.frequencies = width // 2
        self.time = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time))
        self.start = nn.Conv2d(channels, w, 3, 1, 1)  # w x 28 x 28
        self.down1, self.half1 = Block(w, w, time), nn.Conv2d(w, 2 * w, 3, 2, 1)  # 2w x 14 x 14
        self.down2, self.half2 = Block(2 * w, 2 * w, time), nn.Conv2d(2 * w, 2 * w, 3, 2, 1)
        self.middle = Block(2 * w, 2 * w, time)  # 2w x 7 x 7
        self.up2, self.up1 = Block(4 * w, w, time), Block(2 * w, w, time)
        self.twice = nn.Upsample(scale_factor=2)
        self.end = nn.Sequential(nn.GroupNorm(8, w), nn.SiLU(), nn.Conv2d(w, channels, 3, 1, 1))

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """Where to and how fast: N x C x H x W at the times t, N in [0, 1]."""
        rates = torch.exp(torch.linspace(0, math.log(1000), self.frequencies, device=x.device))
        angles = t[:, None] * rates  # N x width / 2
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))  # N x 4w
        a = self.down1(self.start(x), time)  # w x 28 x 28
        b = self.down2(self.half1(a), time)  # 2w x 14 x 14
        c = self.middle(self.half2(b), time)  # 2w x 7 x 7
        b = self.up2(torch.cat([self.twice(c), b], 1), time)  # w x 14 x 14
        a = self.up1(torch.cat([self.twice(b), a], 1), time)  # w x 28 x 28
        return self.end(a)

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        x1 = images * 2 - 1
        x0 = torch.randn(images.shape, generator=step.generator).to(images)
        t = torch.rand(len(images), generator=step.generator).to(images)
        at = t[:, None, None, None]
        error = self.velocity((1 - at) * x0 + at * x1, t).float() - (x1 - x0)
        return {"velocity": error.square().mean()}

    def _generate(self, n: int, generator: torch.Generator, *, steps: int = 20) -> Tensor:
        x = torch.randn(n, *self.image_shape, generator=generator).to(self.device)
        for i in range(steps):
            x = x + self.velocity(x, x.new_full((n,), i / steps)) / steps
        return (x.clamp(-1, 1) + 1) / 2
