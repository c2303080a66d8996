"""It repairs what it has learnt to repair, and its code holds all that is rebuilt."""

import pytest
import torch
from zoo_conv.denoising_ae import DAMAGE, damaged

import zoo
from zoo.corruption import corrupt
from zoo.data import Dataset
from zoo.errors import CapabilityError, SettingsError
from zoo.sample import sample


def test_layers():
    model = zoo.create("denoising_ae", width=8, blocks=2)
    images = torch.rand(2, 1, 28, 28)
    codes = model.encode(images)
    assert codes.shape == (2, 16, 14, 14)
    # Not to the bit: a code lies otherwise in memory than what is inside, and some processors then
    # add up in another order.
    torch.testing.assert_close(model.decode(codes), model.reconstruct(images), rtol=0, atol=1e-6)
    with pytest.raises(CapabilityError, match="denoising_ae cannot generate"):
        model.generate(2)


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes(size, channels):
    model = zoo.create("denoising_ae", size=size, channels=channels, width=4, blocks=1)
    images = torch.rand(2, channels, size, size)
    assert model.reconstruct(images).shape == images.shape


def test_every_eighth_is_damaged_in_its_own_way():
    images = torch.full((64, 1, 8, 8), 0.5)
    once, again = (damaged(images, torch.Generator().manual_seed(s)) for s in (3, 3))
    assert torch.equal(once, again)
    kinds = []
    for part in once.chunk(8):
        changed = part[part != 0.5]
        kinds.append("mask" if set(changed.tolist()) <= {0.0} else "noise")
    assert kinds == [DAMAGE[i % 2][0] for i in range(8)]
    assert torch.equal(images, torch.full_like(images, 0.5))  # the targets stay as they were


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "salt"])
def test_it_repairs(tmp_path, kind):
    images = torch.from_numpy(sample()[0])[:, None]
    data = Dataset("sample", "train", images, None, "embedded", "MIT")
    out = zoo.train(
        "denoising_ae", data=data, out=tmp_path / "run", config={"width": 16, "blocks": 1},
        settings={"epochs": 12, "batch_size": 16, "lr": 5e-3, "corrupt": kind,
                  "corrupt_strength": 0.3}, device="cpu",
    )  # fmt: skip
    model = zoo.load(f"local-dir:{out}")
    clean = images[:100].float() / 255
    spoilt = corrupt(clean, kind or "mask", 0.3, torch.Generator().manual_seed(0))
    before = float((spoilt - clean).square().mean())
    assert float((model.reconstruct(spoilt) - clean).square().mean()) < 0.3 * before


@pytest.mark.parametrize(
    "config", [{"channels": 2}, {"size": 29}, {"size": 6}, {"width": 0}, {"blocks": 0}]
)
def test_refused_configs(config):
    with pytest.raises(SettingsError, match="denoising_ae: expected 1 or 3 channels, an even size"):
        zoo.create("denoising_ae", **config)
