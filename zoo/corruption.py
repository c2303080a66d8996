"""Damage to images, for training models that repair and for measuring how well they do.

Each kind takes a strength from 0 (nothing) to 1:

- ``mask``: that share of the pixels, all channels together, is 0.
- ``noise``: Gaussian, of that standard deviation, is added to each value.
- ``blur``: Gaussian, of a standard deviation of that times a seventh of the shorter side: at most
  4 pixels on an image of 28.
- ``salt``: that share of the pixels, all channels together, is 0 or 1, as often the one as the
  other.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from zoo.errors import InputError


def corrupt(images: Tensor, kind: str, strength: float, generator: torch.Generator) -> Tensor:
    """Damaged copies of ``images``, each in its own way.

    Args:
        images: N x C x H x W float32 in [0, 1], on any device.
        kind: one of :data:`KINDS`.
        strength: from 0 to 1; see above.
        generator: of the CPU; all randomness comes from it, so that devices agree.

    Returns:
        N x C x H x W in [0, 1]. ``images`` are left as they were.

    Raises:
        InputError: an unknown kind, a strength out of range, or no images.
    """
    check_corruption(kind, strength)
    if images.ndim != 4 or images.dtype != torch.float32:
        raise InputError(
            "expected images N x C x H x W, float32 in [0, 1], got "
            + (" x ".join(map(str, images.shape)) or "a single number")
            + f" {images.dtype}"
        )
    if strength == 0 or images.numel() == 0:
        return images.clone()
    return _KINDS[kind](images, strength, generator)


def check_corruption(kind: str, strength: float) -> None:
    """Raises: InputError: an unknown kind, or a strength out of range."""
    if kind not in _KINDS:
        raise InputError(f"expected one of {', '.join(KINDS)} as a kind of damage, got {kind!r}")
    number = isinstance(strength, int | float) and not isinstance(strength, bool)
    if not number or not 0 <= strength <= 1:
        raise InputError(f"expected a strength of {kind} from 0 to 1, got {strength!r}")


def _mask(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    return images.masked_fill(_uniform(images, generator) < strength, 0.0)


def _noise(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    return noise.mul_(strength).add_(images).clamp_(0, 1)


def _salt(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    drawn = _uniform(images, generator)
    damaged = images.masked_fill(drawn < strength, 1.0)
    return damaged.masked_fill_(drawn < strength / 2, 0.0)


def _blur(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    height, width = images.shape[2:]
    sigma = strength * min(height, width) / 7
    rows, columns = (_smoothing(n, sigma).to(images.device) for n in (height, width))
    return (rows @ images @ columns.T).clamp_(0, 1)


def _smoothing(n: int, sigma: float) -> Tensor:
    """The n x n matrix that smooths n values, the first and the last going on for ever."""
    reach = math.ceil(3 * sigma)
    steps = torch.arange(-reach, reach + 1)
    weights = torch.exp(-((steps / sigma) ** 2) / 2)
    taken = (torch.arange(n)[:, None] + steps).clamp(0, n - 1)  # n x (2 reach + 1)
    return torch.zeros(n, n).scatter_add_(1, taken, (weights / weights.sum()).expand_as(taken))


def _uniform(images: Tensor, generator: torch.Generator) -> Tensor:
    """A number in [0, 1) for each pixel, N x 1 x H x W."""
    n, _, height, width = images.shape
    return torch.rand(n, 1, height, width, generator=generator).to(images.device)


_KINDS: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "mask": _mask,
    "noise": _noise,
    "blur": _blur,
    "salt": _salt,
}
KINDS = tuple(_KINDS)
