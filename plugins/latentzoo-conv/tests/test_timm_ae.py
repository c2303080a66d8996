"""Around any backbone of timm: its sizes and widths, and back."""

import pytest
import torch
from torch import nn

import zoo
from zoo.data import Dataset
from zoo.errors import SettingsError
from zoo.sample import sample


@pytest.mark.parametrize(
    ("backbone", "size", "channels"),
    [
        ("resnet10t", 64, 3),
        ("resnet10t", 32, 1),
        ("resnet10t", 45, 1),
        ("mobilenetv3_small_050", 64, 3),
        ("convnext_atto", 64, 3),
        ("vit_tiny_patch16_224", 48, 3),
    ],
)
def test_backbones(backbone, size, channels):
    model = zoo.create("timm_ae", backbone=backbone, size=size, channels=channels, latent_dim=7)
    images = torch.rand(2, channels, size, size)
    assert model.encode(images).shape == (2, 7)
    assert model.reconstruct(images).shape == images.shape
    assert model.features(images).shape == (2, 7)


def test_the_decoder_mirrors_the_widths():
    model = zoo.create("timm_ae")
    convs = [m for m in model.decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [c.in_channels for c in convs] == [512, 256, 128, 64, 64]
    one_size = zoo.create("timm_ae", backbone="vit_tiny_patch16_224")
    convs = [m for m in one_size.decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [c.in_channels for c in convs] == [192, 96, 48, 24]


@pytest.mark.slow
def test_it_learns(tmp_path):
    images = nn.functional.pad(torch.from_numpy(sample()[0])[:, None], (2, 2, 2, 2))
    data = Dataset("sample", "train", images, None, "embedded", "MIT")
    out = zoo.train(
        "timm_ae", data=data, out=tmp_path / "run", device="cpu",
        config={"size": 32, "channels": 1, "backbone": "mobilenetv3_small_050", "latent_dim": 16},
        settings={"epochs": 15, "batch_size": 16, "lr": 5e-3},
    )  # fmt: skip
    model = zoo.load(f"local-dir:{out}")
    some = images[:100].float() / 255
    error = float((model.reconstruct(some) - some).square().mean())
    assert error < 0.6 * float((some - some.mean(0)).square().mean())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"backbone": "resnet10"}, "timm has no backbone 'resnet10'. Did you mean: resnet10t"),
        ({"backbone": "hf-hub:org/name"}, "timm has no backbone 'hf-hub:org/name'"),
        ({"size": 28}, "makes pictures 32 times smaller; expected a size from 32, got 28"),
        ({"backbone": "vit_tiny_patch16_224", "size": 40}, "takes sizes that 16 divides, got 40"),
        ({"latent_dim": 0}, "latent_dim positive"),
    ],
)
def test_refused_configs(config, message):
    with pytest.raises(SettingsError) as caught:
        zoo.create("timm_ae", **config)
    assert message in str(caught.value)
