"""Views show the picture, moved and coloured as far as they are told to, and no further."""

import math

import pytest
import torch
from zoo_contrastive.views import Views

STILL = {
    "crop": 1.0,
    "rotation_degrees": 0.0,
    "flip": 0.0,
    "colour": 0.0,
    "grey": 0.0,
    "erase": 0.0,
}


def views(images, size=32, seed=0, **settings):
    return Views(**{**STILL, **settings}, size=size)(images, torch.Generator().manual_seed(seed))


@pytest.fixture
def images():
    rng = torch.Generator().manual_seed(3)
    coarse = torch.rand(400, 3, 4, 4, generator=rng)
    return torch.nn.functional.interpolate(coarse, 32, mode="bilinear")


def test_without_strength_they_are_the_pictures(images):
    # A crop of everything has other proportions still, which squeeze the picture.
    assert float((views(images) - images).abs().mean()) < 0.1
    square = views(images[:, :, :1, :1].expand(-1, -1, 32, 32))
    assert torch.allclose(square, images[:, :, :1, :1].expand(-1, -1, 32, 32), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [21, 28, 64])
def test_shape_range_and_chance(channels, size, images):
    images = images[:, :channels]
    everything = {
        "crop": 0.2, "rotation_degrees": 15.0, "flip": 0.5, "colour": 1.0, "grey": 0.2,
        "erase": 0.5,
    }  # fmt: skip
    before = torch.get_rng_state()
    first = views(images, size, **everything)
    assert first.shape == (400, channels, size, size)
    assert 0 <= float(first.min()) < float(first.max()) <= 1
    assert torch.equal(first, views(images, size, **everything))
    assert not torch.equal(first, views(images, size, seed=1, **everything))
    assert torch.equal(torch.get_rng_state(), before)


def test_crops_show_no_more_than_the_picture():
    ramp = torch.linspace(0, 1, 32).expand(500, 1, 32, 32).contiguous()
    rows = views(ramp, crop=0.25)
    spans = (rows.amax((1, 2, 3)) - rows.amin((1, 2, 3))).sort().values
    # A quarter of the area is from .43 to .58 of the width.
    assert 0.4 < float(spans[0]) < 0.5
    assert float(spans[-1]) > 0.95
    assert bool((rows[..., -1] > rows[..., 0]).all()), "nothing is mirrored without flip"


def test_flip_is_as_frequent_as_told():
    ramp = torch.linspace(0, 1, 32).expand(2000, 1, 32, 32).contiguous()
    for share in (0.0, 0.3, 1.0):
        flipped = views(ramp, flip=share)
        mirrored = (flipped[..., -1] < flipped[..., 0]).all((1, 2)).float().mean()
        assert float(mirrored) == pytest.approx(share, abs=0.04)


def test_grey_has_the_luma_of_the_picture(images):
    flat = images[:, :, :1, :1].expand(-1, -1, 8, 8)
    grey = views(flat, size=8, grey=1.0)
    luma = flat[:, 0] * 0.299 + flat[:, 1] * 0.587 + flat[:, 2] * 0.114
    for channel in range(3):
        assert torch.allclose(grey[:, channel], luma, atol=5e-3)


def test_grey_leaves_one_channel_alone():
    flat = torch.rand(20, 1, 1, 1).expand(20, 1, 8, 8)
    assert torch.allclose(views(flat, size=8, grey=1.0), flat, atol=1e-6)


def test_colours_change_but_for_one_in_five(images):
    flat = (images[:, :, :1, :1] * 0.4 + 0.3).expand(-1, -1, 8, 8)
    same = ((views(flat, size=8, colour=0.5) - flat).abs().amax((1, 2, 3)) < 5e-3).float().mean()
    assert float(same) == pytest.approx(0.2, abs=0.06)


def test_erased_is_a_rectangle_of_the_share_told():
    ones = torch.ones(1000, 1, 32, 32)
    gone = views(ones, erase=0.4) == 0
    share = gone.float().mean((1, 2, 3))
    assert float((share > 0).float().mean()) == pytest.approx(0.4, abs=0.05)
    assert float(share.max()) < 0.25
    for one in gone[share > 0][:20, 0]:
        rows, columns = one.any(1), one.any(0)
        assert torch.equal(one, rows[:, None] & columns[None])


def test_hue_turns_by_up_to_72_degrees_at_strength_1():
    flat = torch.tensor([0.55, 0.45, 0.45])[:, None, None].expand(2000, 3, 8, 8)
    for strength in (0.5, 1.0):
        red, green, blue = views(flat, size=8, colour=strength)[:, :, 0, 0].T
        i = 0.596 * red - 0.274 * green - 0.321 * blue
        q = 0.211 * red - 0.523 * green + 0.311 * blue
        start = math.atan2(0.0211, 0.0597)
        seen = (i > 0.01) & (red < 1)  # a colour is left, and none was cut off
        turned = (torch.atan2(q, i)[seen] - start).abs().rad2deg()
        assert 0.9 * 72 * strength < float(turned.max()) < 72 * strength + 2
