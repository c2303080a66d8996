"""What is guessed is not looked at."""

import pytest
import torch

import zoo
from zoo.errors import SettingsError


@pytest.fixture
def model():
    torch.manual_seed(0)
    return zoo.create("mae", width=16, depth=1).eval()


def test_a_guess_does_not_hang_on_patches_that_are_not_seen(model):
    patches = torch.rand(2, 49, 16)
    seen = torch.arange(12).expand(2, -1)
    other = patches.clone()
    other[:, 12:] = 0
    assert torch.equal(model.guess(patches, seen), model.guess(other, seen))
    other[:, 0] = 0
    assert not torch.equal(model.guess(patches, seen), model.guess(other, seen))


def test_no_patch_is_rebuilt_from_itself(model):
    images = torch.rand(1, 1, 28, 28)
    other = images.clone()
    other[..., 8:12, 12:16] = 0
    before, after = model.reconstruct(images), model.reconstruct(other)
    assert torch.equal(before[..., 8:12, 12:16], after[..., 8:12, 12:16])
    assert not torch.equal(before, after)


def test_what_is_refused():
    with pytest.raises(SettingsError, match="a size from 8 to 512 that 4 divides"):
        zoo.create("mae", size=30)
    with pytest.raises(SettingsError, match="a width from 8 to 1,024 that 8 divides"):
        zoo.create("mae", width=12)
