"""Random views of pictures, made of a whole batch at once.

The views are those of SimCLR (Chen et al. 2020, appendix A): a random crop, brought to one size;
perhaps a flip; another brightness, contrast, saturation and hue; perhaps grey. Two things are
added for grey pictures, which have no colours to change: small turns and shears, and a rectangle
that is erased (Zhong et al. 2017, arXiv:1708.04896). Blur is left out, as in the paper for small
pictures (appendix B.9).

All that moves pixels is one affine map, all that changes colours one 3 x 3 matrix and an offset:
both views of 256 pictures cost a fraction of what the encoder does.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Views"]

_GREY = torch.tensor([0.299, 0.587, 0.114])  # the weights of luma (ITU-R BT.601)
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])


@dataclass(frozen=True, kw_only=True)
class Views:
    """How one random view is made of each picture."""

    crop: float
    """The least share of the picture that a view shows; the most is all of it."""
    rotation_degrees: float
    """The largest rotation, in degrees, and shear, in hundredths."""
    flip: float
    """How often left and right are exchanged."""
    colour: float
    """Strength of changed colours (1 is the paper's): brightness, contrast and saturation by up to
    0.8 times as much more or less, hue by up to 72 degrees; in four of five pictures."""
    grey: float
    """How often all colour is taken away."""
    erase: float
    """How often a rectangle of 2 to 20 % is erased."""
    size: int
    """Height and width of the views in pixels."""

    def __call__(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """A view of each of ``images``, N x C x H x W in [0, 1], as N x C x size x size.

        ``rng`` is of the CPU, so that all devices agree.
        """
        views = self._moved(images, rng)
        if self.colour or (self.grey and images.shape[1] == 3):
            views = self._coloured(views, rng)
        if self.erase:
            views = self._erased(views, rng)
        return views

    def _moved(self, images: Tensor, rng: torch.Generator) -> Tensor:
        n, channels = images.shape[:2]
        area = _uniform(n, self.crop, 1, rng)
        ratio = _uniform(n, math.log(3 / 4), math.log(4 / 3), rng).exp()  # width to height
        width, height = (area * ratio).sqrt().clamp_(max=1), (area / ratio).sqrt().clamp_(max=1)
        # In affine_grid's units, in which the picture goes from -1 to 1.
        x = _uniform(n, -1, 1, rng) * (1 - width)
        y = _uniform(n, -1, 1, rng) * (1 - height)
        angle = _uniform(n, -self.rotation_degrees, self.rotation_degrees, rng) * (math.pi / 180)
        shear = _uniform(n, -self.rotation_degrees, self.rotation_degrees, rng) / 100
        mirror = 1 - 2 * (torch.rand(n, generator=rng) < self.flip).float()
        cos, sin = angle.cos(), angle.sin()
        rows = [
            torch.stack([width * cos * mirror, width * (shear * cos - sin), x], dim=1),
            torch.stack([height * sin * mirror, height * (shear * sin + cos), y], dim=1),
        ]
        maps = torch.stack(rows, dim=1).to(images)  # N x 2 x 3
        where = F.affine_grid(maps, [n, channels, self.size, self.size], align_corners=False)
        padding = "zeros" if self.rotation_degrees and channels == 1 else "reflection"
        return F.grid_sample(images, where, padding_mode=padding, align_corners=False)

    def _coloured(self, images: Tensor, rng: torch.Generator) -> Tensor:
        n, channels = images.shape[:2]
        some = (torch.rand(n, generator=rng) < 0.8).float()
        reach = min(0.8 * self.colour, 0.95)
        light, contrast, saturation = (1 + some * _uniform(n, -reach, reach, rng) for _ in range(3))
        hue = some * _uniform(n, -0.4 * math.pi, 0.4 * math.pi, rng) * self.colour
        grey = torch.rand(n, generator=rng) < self.grey
        gain = light * contrast
        mean = images.mean((2, 3))  # N x C
        if channels == 1:
            offset = light * (1 - contrast) * mean[:, 0].cpu()
            return _scaled(images, gain, offset)
        saturation = saturation.masked_fill(grey, 0.0)
        # In YIQ the saturation is the length of (I, Q), the hue their angle.
        turn = torch.zeros(n, 3, 3)
        turn[:, 0, 0] = 1
        turn[:, 1, 1] = turn[:, 2, 2] = saturation * hue.cos()
        turn[:, 1, 2], turn[:, 2, 1] = -saturation * hue.sin(), saturation * hue.sin()
        matrix = (torch.linalg.inv(_YIQ) @ turn @ _YIQ * gain[:, None, None]).to(images)
        luma = mean @ _GREY.to(images)  # N
        offset = (light * (1 - contrast)).to(images) * luma
        flat = torch.baddbmm(offset[:, None, None].expand(n, 3, 1), matrix, images.flatten(2))
        return flat.view_as(images).clamp_(0, 1)

    def _erased(self, images: Tensor, rng: torch.Generator) -> Tensor:
        n, _, height, width = images.shape
        share = _uniform(n, 0.02, 0.2, rng) * (torch.rand(n, generator=rng) < self.erase)
        ratio = _uniform(n, -1, 1, rng).exp()
        tall, wide = (share * ratio).sqrt() * height, (share / ratio).sqrt() * width
        top = torch.rand(n, generator=rng) * (height - tall)
        left = torch.rand(n, generator=rng) * (width - wide)
        y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
        rows = (y >= top[:, None]) & (y < (top + tall)[:, None])  # N x H
        columns = (x >= left[:, None]) & (x < (left + wide)[:, None])  # N x W
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        return images.masked_fill(inside.to(images.device), 0.0)


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def _scaled(images: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    gain, offset = (t.to(images)[:, None, None, None] for t in (gain, offset))
    return torch.addcmul(offset, images, gain).clamp_(0, 1)
