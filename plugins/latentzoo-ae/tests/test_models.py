"""The architectures and losses are the papers'."""

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import InvalidConfig
from zoo.training import make_recipe


def test_ae_layers():
    model = zoo.create("ae")
    shapes = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(784, 32), (32, 32), (32, 784)]
    images = torch.rand(5, 1, 28, 28)
    first, _, second, _ = model.encoder
    by_hand = second(first(images.flatten(1)).clamp(min=0)).clamp(min=0)
    assert torch.allclose(model.encode(images), by_hand)
    pixels = torch.sigmoid(model.decoder[0](by_hand)).reshape(5, 1, 28, 28)
    assert torch.allclose(model.reconstruct(images), pixels)


def test_ae_generates_from_codes_that_relu_can_give():
    model = zoo.create("ae")
    codes = model._sample_codes(100, torch.Generator().manual_seed(0))
    assert float(codes.min()) == 0


def test_deep_ae_layers():
    model = zoo.create("deep_ae")
    shapes = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    up = [(784, 1000), (1000, 500), (500, 250), (250, 30)]
    assert shapes == up + [(b, a) for a, b in reversed(up)]
    # A linear code: scaling the last layer of the encoder scales the code.
    images = torch.rand(2, 1, 28, 28)
    before = model.encode(images)
    model.encoder[-1].weight.data *= -2
    assert torch.allclose(model.encode(images), -2 * before, atol=1e-5)


def test_hidden_loss():
    model = zoo.create("deep_ae", hidden=[20, 10], code=4)
    images = torch.rand(3, 1, 28, 28)
    off = model.losses(images, images, make_recipe(model.recipe, {"hidden_weight": 0.0}))
    on = model.losses(images, images, make_recipe(model.recipe, {"hidden_weight": 0.5}))
    assert list(off) == ["sse"]
    assert torch.allclose(off["sse"], on["sse"])
    error = (model.reconstruct(images) - images).square().sum() / 3
    assert torch.allclose(off["sse"], error)
    act, (e1, e2, e3), (d3, d2, _) = nn.SiLU(), model.encoder, model.decoder
    h1 = act(e1(images.flatten(1)))
    h2 = act(e2(h1))
    g2 = act(d3(e3(h2)))
    g1 = act(d2(g2))
    by_hand = ((h1 - g1).square().sum() + (h2 - g2).square().sum()) / 3
    assert torch.allclose(on["hidden"], 0.5 * by_hand)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("ae", {"channels": 2}, "expected 1 or 3 channels"),
        ("ae", {"code": 0}, "positive widths"),
        ("ae", {"code": 2.5}, "of type int"),
        ("ae", {"width": 3}, "ae has no setting 'width'; it has: channels=1"),
        ("deep_ae", {"hidden": []}, "1 to 16 hidden widths"),
        ("deep_ae", {"hidden": [10, -1]}, "all positive"),
        ("deep_ae", {"hidden": ["a"]}, "all positive"),
        ("deep_ae", {"activation": "os.system"}, "one of ['silu', 'relu', 'sigmoid', 'tanh']"),
    ],
)
def test_refused_configs(name, config, message):
    with pytest.raises(InvalidConfig) as caught:
        zoo.create(name, **config)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["ae", "deep_ae"])
def test_other_shapes(name):
    model = zoo.create(name, channels=3, size=16)
    assert model.generate(2, seed=0).shape == (2, 3, 16, 16)
    assert model.preprocessing.channels == 3


@pytest.mark.parametrize("name", zoo.list_models("*ae*", pretrained=True))
def test_weights_have_learnt(name):
    """Clothes are rebuilt far better than by a flat grey, and noise is stranger than clothes."""
    if not name.endswith("fashion_mnist"):
        pytest.skip("the embedded sample is Fashion-MNIST")
    from zoo.sample import sample

    model = zoo.load(name)
    images = model.preprocess(sample()[0])
    error = (model.reconstruct(images) - images).square().mean()
    assert float(error) < 0.25 * float((images - images.mean()).square().mean())
    noise = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert float(model.score(noise).min()) > float(model.score(images).median())
