"""The architectures and losses are the papers'."""

import itertools
import json

import pytest
import torch
from torch import nn
from zoo_ae.rbm import RBM

import zoo
from zoo.data import Dataset
from zoo.errors import SettingsError
from zoo.model import Step
from zoo.sample import sample
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
    model = zoo.create("deep_ae", hidden=[20, 10], latent_dim=4)
    images = torch.rand(3, 1, 28, 28)
    off = model.loss(images, Step(images, make_recipe(model.recipe, {"hidden_weight": 0.0})))
    on = model.loss(images, Step(images, make_recipe(model.recipe, {"hidden_weight": 0.5})))
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


def test_the_free_energy_sums_out_what_is_above():
    """Against all 2^3 states of the upper layer; for linear units, against their mean."""
    torch.manual_seed(0)
    up, bias, below = nn.Linear(5, 3), nn.Parameter(torch.randn(5)), torch.rand(4, 5)
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))
    energies = -(below @ bias)[:, None] - (up(below) @ states.T)
    by_hand = -torch.logsumexp(-energies, 1)
    assert torch.allclose(RBM(up, bias, linear=False).free_energy(below), by_hand, atol=1e-5)
    # The gradient to their bias is minus their mean, which is linear in what is below.
    RBM(up, bias, linear=True).free_energy(below).sum().backward()
    assert torch.allclose(up.bias.grad, -up(below).sum(0), atol=1e-5)


@pytest.mark.slow
def test_pretraining(tmp_path):
    """A pair of layers learns to rebuild what is below it, and the decoder starts as its mirror."""
    images = torch.from_numpy(sample()[0])[:, None]
    data = Dataset("sample", "train", images, None, "embedded", "MIT")
    model = zoo.create("deep_ae", hidden=[64], latent_dim=8, activation="sigmoid")
    recipe = make_recipe(model.recipe, {"pretrain": "rbm"})
    phases = model.phases(recipe)
    assert [p.name for p in phases] == ["rbm 784-64", "rbm 64-8", "reconstruction"]
    phases[0].finish()
    assert torch.equal(model.decoder[-1].weight, model.encoder[0].weight.T)
    zoo.train(
        "deep_ae", data=data, out=tmp_path / "run", config=dict(model.config),
        settings={"pretrain": "rbm", "pretrain_epochs": 30, "pretrain_lr": 1e-2, "epochs": 1,
                  "batch_size": 32},
    )  # fmt: skip
    lines = [json.loads(t) for t in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    for pair in ("rbm 784-64", "rbm 64-8"):
        errors = [line["sse"] for line in lines if line["phase"] == pair]
        assert errors[-1] < 0.6 * errors[0], pair


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ({}, {"pretrain": "rbm"}, "add --config activation=sigmoid"),
        ({"activation": "sigmoid"}, {"pretrain": "dbm"}, "should be rbm or empty, got 'dbm'"),
    ],
)
def test_refused_pretraining(config, settings, message):
    model = zoo.create("deep_ae", **config)
    with pytest.raises(SettingsError) as caught:
        model.phases(make_recipe(model.recipe, settings))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("ae", {"channels": 2}, "expected 1 or 3 channels"),
        ("ae", {"latent_dim": 0}, "positive widths"),
        ("ae", {"latent_dim": 2.5}, "of type int"),
        ("ae", {"width": 3}, "ae has no setting 'width'; it has: channels=1"),
        ("deep_ae", {"hidden": []}, "1 to 16 hidden widths"),
        ("deep_ae", {"hidden": [10, -1]}, "all positive"),
        ("deep_ae", {"hidden": ["a"]}, "all positive"),
        ("deep_ae", {"activation": "os.system"}, "one of ['silu', 'relu', 'sigmoid', 'tanh']"),
    ],
)
def test_refused_configs(name, config, message):
    with pytest.raises(SettingsError) as caught:
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
    model = zoo.load(name)
    images = model.preprocess(sample()[0])
    error = (model.reconstruct(images) - images).square().mean()
    assert float(error) < 0.25 * float((images - images.mean()).square().mean())
    noise = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert float(model.score(noise).min()) > float(model.score(images).median())
