"""What the features of each family are: its head's own pooling, or another that was chosen."""

import re
from pathlib import Path

import pytest
import timm
import torch
from zoo_timm.model import TimmModel

import zoo
from zoo.errors import CapabilityError


def tiny(architecture: str, **arguments) -> TimmModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = timm.create_model(architecture, num_classes=0, **arguments)
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.05 * torch.randn(p.shape))
    return TimmModel(net.eval())


SWIN = {"embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2)}


@pytest.mark.parametrize(
    ("architecture", "arguments", "pooled"),
    [
        ("test_vit", {}, lambda net, maps: maps[:, 0]),  # the class token
        ("test_vit2", {}, lambda net, maps: net.fc_norm(maps[:, 1:].mean(1))),
        ("test_resnet", {}, lambda net, maps: maps.mean((2, 3))),
        ("test_efficientnet", {}, lambda net, maps: maps.mean((2, 3))),
        ("test_convnext", {}, lambda net, maps: net.head.norm(maps.mean((2, 3), keepdim=True))),
        ("swin_tiny_patch4_window7_224", SWIN, lambda net, maps: maps.mean((1, 2))),
    ],
)
def test_features_are_pooled_as_the_readme_says(architecture, arguments, pooled):
    model = tiny(architecture, **arguments)
    images = torch.rand(2, *model.image_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = model.net.forward_features((images - model.mean) / model.std)
        wanted = pooled(model.net, maps).flatten(1)
    features = model.features(images)
    assert features.std() > 0.01
    torch.testing.assert_close(features, wanted)


def test_another_pooling_of_the_same_maps():
    model = zoo.create("timm:test_vit")
    averaged = zoo.create("timm:test_vit#pool=avg")
    averaged.load_state_dict(model.state_dict())
    images = torch.rand(2, *model.image_shape)
    with torch.no_grad():
        maps = model.net.forward_features((images - model.mean) / model.std)
    torch.testing.assert_close(averaged.features(images), maps[:, 1:].mean(1))
    torch.testing.assert_close(model.features(images), maps[:, 0])


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("test_resnet#size=96", (3, 96, 96)),
        ("test_vit#size=64x96", (3, 64, 96)),
        ("swin_tiny_patch4_window7_224#size=100", (3, 100, 100)),
    ],
)
def test_of_another_size(name, shape):
    record = zoo.info(f"timm:{name}")
    assert record.image_shape == shape
    if name.startswith("test_"):
        model = zoo.create(f"timm:{name}")
        assert model.features(torch.rand(1, *shape)).shape == (1, *record.code_shape)


@pytest.mark.slow
def test_table_of_the_readme():
    """Of each family one net: its own pooling, and those that it takes."""
    text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| .* \| `(\w+)` \| [\w ]+ \(`(\w+)`\) \| ([\w, `]+) \|$", text, re.M)
    assert len(rows) == 8
    for architecture, own, chosen in rows:
        with torch.device("meta"):
            net = timm.create_model(architecture, num_classes=0)
        pool = getattr(net, "global_pool", None) or net.head.global_pool
        assert getattr(pool, "pool_type", pool) == own, architecture
        for each in ("token", "avg", "max"):
            name = f"timm:{architecture}#pool={each}"
            if f"`{each}`" in chosen:
                assert zoo.info(name).code_shape == (net.head_hidden_size,)
            else:
                with pytest.raises(CapabilityError, match=f"cannot make features by {each}"):
                    zoo.info(name)
