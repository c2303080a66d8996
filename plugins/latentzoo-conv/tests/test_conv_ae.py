"""The architecture is what its docstring says, for every size that it takes."""

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import SettingsError


def test_layers():
    model = zoo.create("conv_ae")
    images = torch.rand(2, 1, 28, 28)
    shapes = []
    for layer in model.encoder[:3]:
        images = layer(images)
        shapes.append(tuple(images.shape[1:]))
    assert shapes == [(32, 14, 14), (64, 7, 7), (128, 4, 4)]
    kinds = {type(module) for module in model.modules()}
    assert not {kind for kind in kinds if "Pool" in kind.__name__}
    last = [m for m in model.decoder.modules() if isinstance(m, nn.ConvTranspose2d)][-1]
    assert (last.out_channels, last.bias is not None) == (1, True)


@pytest.mark.parametrize("size", [8, 9, 15, 28, 32, 33, 64, 100, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes(size, channels):
    model = zoo.create("conv_ae", size=size, channels=channels, width=4, latent_dim=5)
    images = torch.rand(2, channels, size, size)
    assert model.reconstruct(images).shape == images.shape
    assert model.encode(images).shape == (2, 5)


@pytest.mark.parametrize(
    "config", [{"channels": 2}, {"size": 7}, {"size": 257}, {"width": 0}, {"latent_dim": -1}]
)
def test_refused_configs(config):
    with pytest.raises(SettingsError, match="conv_ae: expected 1 or 3 channels, a size from 8"):
        zoo.create("conv_ae", **config)


@pytest.mark.slow
def test_it_learns(tmp_path):
    from zoo.data import Dataset
    from zoo.sample import sample

    images = torch.from_numpy(sample()[0])[:, None]
    data = Dataset("sample", "train", images, None, "embedded", "MIT")
    out = zoo.train(
        "conv_ae", data=data, out=tmp_path / "run", config={"width": 8, "latent_dim": 16},
        settings={"epochs": 12, "batch_size": 16, "lr": 5e-3}, device="cpu",
    )  # fmt: skip
    model = zoo.load(f"local-dir:{out}")
    some = images[:100].float() / 255
    error = float((model.reconstruct(some) - some).square().mean())
    assert error < 0.4 * float((some - some.mean(0)).square().mean())
