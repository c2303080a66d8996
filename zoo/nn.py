"""Helpers for the authors of models, which several plugins use.

Everything here is public. :func:`torch.optim.swa_utils.update_bn` is torch's own way to measure the
batch norm of averaged weights.
"""

from itertools import pairwise

from torch import nn
from torch.optim.swa_utils import update_bn

from zoo.density import GaussianMixture, fit_density
from zoo.errors import SettingsError

__all__ = [
    "GaussianMixture",
    "conv_down",
    "conv_up",
    "fit_density",
    "halved",
    "shape_after",
    "square",
    "update_bn",
]


def square(
    channels: int, size: int, *, smallest: int = 1, largest: int = 512, divisor: int = 1
) -> tuple[int, int, int]:
    """The ``image_shape`` of square images, grey or in colour.

    Raises:
        SettingsError: other channels, or a size out of range or that ``divisor`` does not divide.
    """
    if channels not in (1, 3) or not smallest <= size <= largest or size % divisor:
        divided = f" that {divisor} divides" if divisor > 1 else ""
        raise SettingsError(
            f"expected 1 or 3 channels and a size from {smallest} to {largest}{divided}, got "
            f"{channels=}, {size=}"
        )
    return channels, size, size


def halved(size: int, smallest: int = 4) -> list[int]:
    """``size`` and its halves, rounded up, until one is at most ``smallest``: 28, 14, 7, 4."""
    sizes = [size]
    while sizes[-1] > smallest:
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


def conv_down(widths: list[int]) -> list[nn.Module]:
    """Convolutions that halve the picture, with batch norm and SiLU: from each width to the next.

    Strided convolutions take the place of pooling (Springenberg et al. 2015, arXiv:1412.6806).
    """
    return [
        nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.SiLU())
        for a, b in pairwise(widths)
    ]


def conv_up(widths: list[int], sizes: list[int]) -> list[nn.Module]:
    """Transposed convolutions that reverse :func:`conv_down` of the same ``widths``.

    ``sizes`` are those of the pictures, the largest first, as :func:`halved` gives them. The last
    layer is a convolution alone, without norm or activation: the model adds what it needs.
    """
    up: list[nn.Module] = []
    for (b, a), (to, start) in zip(pairwise(widths), pairwise(sizes), strict=True):
        # 4, a multiple of the stride, leaves no checkerboard (Odena et al. 2016); 3 for 4 to 7
        kernel = 4 if to == 2 * start else 3
        conv = nn.ConvTranspose2d(a, b, kernel, 2, 1, bias=not up)
        up.append(nn.Sequential(conv, nn.BatchNorm2d(b), nn.SiLU()) if up else conv)
    return up[::-1]


def shape_after(part: nn.Module, shape: tuple[int, int, int]) -> tuple[int, int, int] | str:
    """(C, H, W) after all convolutions of ``part``, or the first that does not take its input.

    Computed from the layers' own numbers: running them, even on the meta device, costs seconds.
    """
    channels, height, width = shape
    for conv in part.modules():
        if not isinstance(conv, nn.Conv2d | nn.ConvTranspose2d):
            continue
        if conv.in_channels != channels:
            return f"{channels} channels before a layer for {conv.in_channels}"
        k, s, p = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        if isinstance(conv, nn.ConvTranspose2d):
            height, width = ((n - 1) * s - 2 * p + k for n in (height, width))
        else:
            height, width = ((n + 2 * p - k) // s + 1 for n in (height, width))
        channels = conv.out_channels
    return channels, height, width
