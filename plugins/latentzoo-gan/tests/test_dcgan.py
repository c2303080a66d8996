"""The architecture and the two phases of training are the paper's."""

import accelerate
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import zoo
from zoo.errors import InvalidConfig
from zoo.model import Step
from zoo.training import make_recipe
from zoo.training.loop import Players

SMALL = {"width": 4, "latent": 6}


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return zoo.create("dcgan", **SMALL)


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes(size, channels):
    model = zoo.create("dcgan", size=size, channels=channels, **SMALL)
    images = model.generate(2, seed=0)
    assert images.shape == (2, channels, size, size)
    assert model.encode(images).shape == (2, 6)
    assert model.features(images).shape == (2, 16 * 7 * 4)
    layers = model.discriminator.trunk(images)
    assert [tuple(x.shape[1:]) for x in layers] == [
        (4, size // 2, size // 2),
        (8, size // 4, size // 4),
        (16, 4, 4),
    ]


def test_guidelines_of_section_3(model):
    kinds = {type(m) for m in model.modules()}
    assert not {k for k in kinds if "Pool" in k.__name__ or k is nn.Dropout}
    generator, discriminator = model.generator.layers, model.discriminator.trunk.layers
    assert isinstance(generator[-1], nn.Tanh)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in [*generator[3:], *discriminator[0]])
    for block in [*generator[:3], *discriminator[1:]]:
        assert isinstance(block[1], nn.BatchNorm2d)
    assert {type(b[2]) for b in generator[:3]} == {nn.ReLU}
    assert {type(b[-1]) for b in discriminator} == {nn.LeakyReLU}
    assert {b[-1].negative_slope for b in discriminator} == {0.2}


def players(model, phase):
    """The phase's optimisers as the loop makes them: 50 steps an epoch."""
    accelerator = accelerate.Accelerator(cpu=True)
    return Players(phase, make_recipe(model.recipe, {}), 50, accelerator)


def test_optimisers_of_section_4(model):
    game, inversion = model.phases(make_recipe(model.recipe, {}))
    for optimizer in players(model, game).optimizers.values():
        assert isinstance(optimizer, torch.optim.Adam)
        assert optimizer.defaults["lr"] == 2e-4
        assert optimizer.defaults["betas"][0] == 0.5
    encoder = players(model, inversion).optimizers["encoder"]
    trained = {id(p) for g in encoder.param_groups for p in g["params"]}
    assert trained == {id(p) for p in model.encoder.parameters()}
    assert encoder.defaults["lr"] == 1e-3


def test_features_of_section_5_1(model):
    images = torch.rand(3, 1, 28, 28)
    layers = model.discriminator.trunk(images * 2 - 1)
    pooled = [F.max_pool2d(layers[0], 4, stride=3, padding=1)[..., :4, :4], layers[2]]
    features = model.features(images)
    assert features.shape[1] == 16 * (4 + 8 + 16)
    # The last layer is 4 x 4 already; the first value of the first is the maximum of a corner.
    assert torch.equal(features[:, -16 * 16 :], pooled[1].flatten(1))
    assert torch.equal(features[:, 0], layers[0][:, 0, :4, :4].flatten(1).max(1).values)


def test_codes_stay_inside_the_prior(model):
    codes = model.encode(torch.rand(20, 1, 28, 28))
    assert float(codes.abs().max()) <= 1
    drawn = model._sample_codes(1000, torch.Generator().manual_seed(0))
    assert -1 <= float(drawn.min()) < -0.99
    assert 0.99 < float(drawn.max()) <= 1


def _steps(model, phase, n):
    chance = torch.Generator().manual_seed(1)
    images = torch.rand(16, 1, 28, 28, generator=chance)
    made = players(model, phase)
    step = Step(
        0.0, chance, lambda: torch.autocast("cpu", enabled=False), made.update, images
    )  # fmt: skip
    losses = []
    for done in range(n):
        losses.append({k: float(v.detach()) for k, v in phase.step(images, step).items()})
        made.after_step(done + 1)
    return losses, made


def test_the_game_moves_both_players_and_averages_the_generator(model):
    game, _ = model.phases(make_recipe(model.recipe, {}))
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    _, made = _steps(model, game, 5)
    moved = {
        k.split(".")[0] for k, v in model.state_dict().items() if not torch.equal(v, before[k])
    }
    assert moved == {"generator", "discriminator"}
    assert game.averaged is model.generator
    key = "layers.3.weight"
    averaged = made.average.module.state_dict()[key]
    away = (model.generator.state_dict()[key] - before[f"generator.{key}"]).norm()
    assert 0 < float((averaged - before[f"generator.{key}"]).norm()) < 0.1 * float(away)


def test_the_inversion_moves_the_encoder_alone(model):
    _, inversion = model.phases(make_recipe(model.recipe, {}))
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    losses, _ = _steps(model, inversion, 30)
    inversion.finish()
    moved = {
        k.split(".")[0] for k, v in model.state_dict().items() if not torch.equal(v, before[k])
    }
    assert moved == {"encoder"}
    assert losses[-1]["latent"] < losses[0]["latent"]
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("config", [{"size": 64}, {"channels": 2}, {"latent": 0}, {"width": -1}])
def test_refused_configs(config):
    with pytest.raises(InvalidConfig, match="expected channels 1 or 3, size 28 or 32"):
        zoo.create("dcgan", **config)


def test_parts_that_do_not_fit_are_refused(monkeypatch):
    from zoo_gan import dcgan

    # As if somebody changed the generator's middle layer and forgot the discriminator's.
    monkeypatch.setattr(dcgan, "middle_kernel", lambda size: 4)
    with pytest.raises(InvalidConfig) as caught:
        zoo.create("dcgan", **SMALL)
    assert "the generator turns (6, 1, 1) into (1, 32, 32), expected (1, 28, 28)" in str(
        caught.value
    )


def test_strange_pictures_score_higher():
    from zoo.sample import sample

    model = zoo.load("dcgan.fashion_mnist")
    images = model.preprocess(sample()[0])
    noise = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert float(model.score(noise).min()) > float(model.score(images).median())
