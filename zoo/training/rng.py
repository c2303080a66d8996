"""All randomness of training, from the run's seed and the position alone.

Every epoch and every step seed generators of their own, so that a run resumed in the middle of an
epoch needs no stored random state, and several processes agree without communication.
"""

import contextlib
import hashlib
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import InputError
from zoo.isolation import Isolation, isolated

__all__ = ["affine_maps", "generator", "mix", "seeded", "warp"]


def mix(*numbers: int) -> int:
    """A seed from 0 to 2**63 - 1 for this position, unrelated to those of its neighbours."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU, seeded by :func:`mix`."""
    return torch.Generator().manual_seed(mix(*numbers))


def seeded(seed: int) -> contextlib.AbstractContextManager[Isolation]:
    """Seed what is drawn in this thread without a generator (initial weights, dropout).

    See :func:`zoo.isolation.isolated`: torch's global generator is neither used nor changed.

    Raises:
        InputError: ``seed`` is not a whole number from 0 to 2**31 - 1.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise InputError(f"expected a seed from 0 to 2**31 - 1, got {seed!r}")
    return isolated(seed)


def affine_maps(n: int, strength: float, rng: torch.Generator) -> Tensor:
    """``n`` random affine maps, n x 2 x 3; see :class:`zoo.model.Recipe`."""

    def uniform(bound: float) -> Tensor:
        return (torch.rand(n, generator=rng) * 2 - 1) * bound * strength

    angle, shear = uniform(math.radians(15)), uniform(0.15)
    across, down = 1 + uniform(0.15), 1 + uniform(0.15)
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([across * cos, across * (shear * cos - sin), uniform(2 / 14)], dim=1),
        torch.stack([down * sin, down * (shear * sin + cos), uniform(2 / 14)], dim=1),
    ]
    return torch.stack(rows, dim=1)


def warp(images: Tensor, maps: Tensor, *, mode: str = "bicubic") -> Tensor:
    """Each of ``images`` (N x C x H x W in [0, 1]) under its own of ``maps`` (N x 2 x 3).

    Bilinear maps blur, and a net that only saw such images rebuilds sharp ones worse.
    """
    where = F.affine_grid(maps.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, where, mode=mode, align_corners=False).clamp_(0, 1)
