"""Damage to images: as much as asked for, repeatable, and nothing else."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from zoo.corruption import KINDS, corrupt
from zoo.errors import InputError


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


GREY = torch.rand(50, 3, 28, 20, generator=rng(9)) * 0.8 + 0.1  # nothing is 0 or 1 by itself


def test_the_kinds_are_these():
    assert KINDS == ("mask", "noise", "blur", "salt")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str):
    before, state = GREY.clone(), torch.get_rng_state()
    got = corrupt(GREY, kind, 0.3, rng())
    assert got.shape == GREY.shape
    assert got.dtype == torch.float32
    assert 0 <= got.min() <= got.max() <= 1
    assert not torch.equal(got, GREY)
    assert torch.equal(GREY, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(got, corrupt(GREY, kind, 0.3, rng()))
    if kind != "blur":
        assert not torch.equal(got, corrupt(GREY, kind, 0.3, rng(1)))
        assert not torch.equal(*corrupt(GREY[:1].repeat(2, 1, 1, 1), kind, 0.3, rng()))


@pytest.mark.parametrize("kind", KINDS)
def test_no_strength_is_a_copy(kind: str):
    got = corrupt(GREY, kind, 0, rng())
    assert torch.equal(got, GREY)
    assert got.data_ptr() != GREY.data_ptr()
    assert len(corrupt(GREY[:0], kind, 0.5, rng())) == 0


@pytest.mark.parametrize("strength", [0.25, 0.7, 1])
def test_mask_takes_a_share_of_the_pixels_in_all_channels(strength: float):
    got = corrupt(GREY, "mask", strength, rng())
    gone = got == 0
    assert torch.equal(gone.any(1), gone.all(1))
    assert gone.float().mean() == pytest.approx(strength, abs=0.01)
    assert torch.equal(got[~gone], GREY[~gone])


@pytest.mark.parametrize("strength", [0.2, 1])
def test_salt_makes_a_share_of_the_pixels_black_or_white(strength: float):
    got = corrupt(GREY, "salt", strength, rng())
    black, white = got == 0, got == 1
    for hit in (black, white):
        assert torch.equal(hit.any(1), hit.all(1))
        assert hit.float().mean() == pytest.approx(strength / 2, abs=0.01)
    rest = ~(black | white)
    assert torch.equal(got[rest], GREY[rest])


def test_noise_has_the_deviation_asked_for():
    flat = torch.full((50, 1, 28, 28), 0.5)
    noise = corrupt(flat, "noise", 0.1, rng()) - flat  # five deviations from the bounds
    assert noise.std() == pytest.approx(0.1, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize("strength", [0.05, 0.5, 1])
def test_blur_is_scipys(strength: float):
    sigma = strength * 20 / 7
    got = corrupt(GREY[:2], "blur", strength, rng())
    radius = int(np.ceil(3 * sigma))
    expected = [[gaussian_filter(c, sigma, mode="nearest", radius=radius) for c in image.numpy()]
                for image in GREY[:2]]  # fmt: skip
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)


def test_blur_of_a_flat_or_tiny_image_is_the_same():
    for shape in ((2, 1, 28, 28), (1, 3, 1, 1), (1, 1, 2, 9)):
        flat = torch.full(shape, 0.7)
        torch.testing.assert_close(corrupt(flat, "blur", 1, rng()), flat)


@pytest.mark.parametrize(
    ("kind", "strength", "text"),
    [
        ("masks", 0.5, "expected one of mask, noise, blur, salt as a kind of damage, got 'masks'"),
        ("mask", 1.5, "expected a strength of mask from 0 to 1, got 1.5"),
        ("noise", -0.1, "from 0 to 1, got -0.1"),
        ("blur", float("nan"), "from 0 to 1, got nan"),
        ("salt", "much", "from 0 to 1, got 'much'"),
        ("salt", True, "from 0 to 1, got True"),
    ],
)
def test_what_is_refused(kind: str, strength: float, text: str):
    with pytest.raises(InputError) as caught:
        corrupt(GREY, kind, strength, rng())
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (torch.zeros(28, 28), "got 28 x 28 torch.float32"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "torch.uint8"),
    ],
)
def test_what_are_no_images(images: torch.Tensor, text: str):
    with pytest.raises(InputError, match="expected images N x C x H x W") as caught:
        corrupt(images, "mask", 0.5, rng())
    assert text in str(caught.value)
