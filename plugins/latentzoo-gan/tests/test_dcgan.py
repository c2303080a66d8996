"""The architecture and the two phases of training are the paper's."""

import json
import math
from functools import partial

import accelerate
import pytest
import safetensors
import torch
from torch import nn
from torch.nn import functional as F
from zoo_gan.adversarial import discriminator_loss, generator_loss
from zoo_gan.options import r1_penalty

import zoo
from zoo.data import Dataset
from zoo.errors import SettingsError, TrainingError
from zoo.model import Step
from zoo.sources import weights_folder
from zoo.training import make_recipe
from zoo.training.loop import PhaseOptimizers

SMALL = {"width": 4, "latent_dim": 6}


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return zoo.create("dcgan", **SMALL)


@pytest.mark.parametrize("norm", ["batch", "spectral", "none"])
@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes(size, channels, norm):
    model = zoo.create("dcgan", size=size, channels=channels, norm=norm, **SMALL)
    images = model.generate(2, seed=0)
    assert images.shape == (2, channels, size, size)
    assert model.encode(images).shape == (2, 6)
    layers = [tuple(x.shape[1:]) for x in model.discriminator.trunk(images)]
    if size == 64:  # the paper's four layers
        assert layers == [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]
    else:
        assert layers == [(4, size // 2, size // 2), (8, size // 4, size // 4), (16, 4, 4)]
    assert model.features(images).shape == (2, 16 * sum(c for c, _, _ in layers))


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
    return PhaseOptimizers(phase, make_recipe(model.recipe, {}), 50, accelerator)


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
    rng = torch.Generator().manual_seed(1)
    images = torch.rand(16, 1, 28, 28, generator=rng)
    made = players(model, phase)
    step = Step(
        images, make_recipe(model.recipe, {}), generator=rng, update=made.update,
        labels=torch.arange(16) % 3,
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
    away = float((model.generator.state_dict()[key] - before[f"generator.{key}"]).norm())
    assert 0.5 * away < float((averaged - before[f"generator.{key}"]).norm()) < away


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


@pytest.mark.parametrize(
    "config", [{"size": 48}, {"channels": 2}, {"latent_dim": 0}, {"width": -1}]
)
def test_refused_configs(config):
    with pytest.raises(SettingsError, match="expected channels 1 or 3, size 28, 32 or 64"):
        zoo.create("dcgan", **config)


def test_parts_that_do_not_fit_are_refused(monkeypatch):
    from zoo_gan import dcgan

    # As if somebody changed the generator's middle layer and forgot the discriminator's.
    monkeypatch.setattr(dcgan, "middle_kernel", lambda size: 4)
    with pytest.raises(SettingsError) as caught:
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


@pytest.mark.parametrize("name", ["dcgan.mnist", "dcgan.fashion_mnist"])
def test_shipped_weights_of_before_the_options_load_as_they_were(name):
    with safetensors.safe_open(weights_folder(name) / "model.safetensors", "pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    model = zoo.load(name)
    assert model.state_dict().keys() == stored.keys()
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, stored[key].to(tensor.dtype)), key
    assert (model.config["norm"], model.config["classes"]) == ("batch", 0)


# -- the options ----------------------------------------------------------------------------------


def test_spectral_norm_bounds_every_layer_of_the_discriminator():
    with torch.random.fork_rng(devices=[]):  # one start in a hundred takes more than 30 passes
        torch.manual_seed(0)
        model = zoo.create("dcgan", norm="spectral", classes=3, **SMALL)
    discriminator = model.discriminator.train()
    assert not [m for m in discriminator.modules() if isinstance(m, nn.BatchNorm2d)]
    for _ in range(30):  # of the power iteration, one a pass
        discriminator(torch.zeros(1, 1, 28, 28), torch.eye(3)[:1])
    layers = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 4
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert float(largest) == pytest.approx(1, abs=0.02)


def test_r1_is_the_slope_at_real_images():
    model = zoo.create("dcgan", norm="none", **SMALL)
    x = torch.rand(16, 1, 28, 28) * 2 - 1
    penalty = float(r1_penalty(model.discriminator, x, (), 3.0).detach())
    # By differences, along the slope itself.
    seen = x[::8].clone().requires_grad_()
    (slope,) = torch.autograd.grad(model.discriminator(seen).sum(), seen)
    unit = slope / slope.flatten(1).norm(dim=1)[:, None, None, None]
    model.double()
    ahead, behind = (model.discriminator((seen + e * unit).double()) for e in (1e-3, -1e-3))
    slopes = (ahead - behind) / 2e-3
    assert penalty == pytest.approx(1.5 * float(slopes.square().mean().detach()), rel=1e-3)


def test_hinge_is_that_of_the_paper():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.5, 0.0])
    assert float(discriminator_loss("hinge", real, fake)) == pytest.approx((2.5 + 2.5) / 3)
    assert float(generator_loss("hinge", fake)) == pytest.approx(0.5)
    assert float(discriminator_loss("non_saturating", real, fake)) == pytest.approx(
        float(F.binary_cross_entropy_with_logits(real, torch.ones(3)))
        + float(F.binary_cross_entropy_with_logits(fake, torch.zeros(3)))
    )


def test_a_code_names_its_class():
    model = zoo.create("dcgan", classes=3, **SMALL)
    assert model.code_shape == (6 + 3,)
    codes = model._sample_codes(3000, torch.Generator().manual_seed(0))
    assert torch.equal(codes[:, 6:].sum(1), torch.ones(3000))
    shares = torch.bincount(model.classes_of(codes)) / 3000
    assert float((shares - 1 / 3).abs().max()) < 0.05
    of_two = model._of_classes(codes, torch.full((3000,), 2))
    assert torch.equal(of_two[:, :6], codes[:, :6])
    assert set(model.classes_of(of_two).tolist()) == {2}
    encoded = model.encode(torch.rand(5, 1, 28, 28))
    assert torch.allclose(encoded[:, 6:].sum(1), torch.ones(5))
    assert zoo.create("dcgan", **SMALL).classes_of(codes) is None


OPTIONS = [
    ({"norm": "spectral"}, {"loss": "hinge", "r1": 1.0}),
    ({"norm": "spectral", "classes": 3}, {"loss": "hinge", "labels": True}),
    ({"norm": "none", "classes": 3}, {"r1": 1.0, "labels": True}),
    ({"classes": 3}, {"labels": True}),
]


@pytest.mark.parametrize(("config", "settings"), OPTIONS, ids=str)
def test_the_game_moves_every_tensor_of_both_players(config, settings):
    model = zoo.create("dcgan", **SMALL, **config)
    recipe = make_recipe(model.recipe, settings)
    game, _ = model.phases(recipe)
    model.train()
    before = {k: v.clone() for k, v in model.named_parameters()}
    losses, _ = _steps(model, game, 3)
    assert all(map(math.isfinite, losses[-1].values()))
    still = {k for k, v in model.named_parameters() if torch.equal(v, before[k])}
    # All of hinge's logits are inside its margins at first: as much draws the last bias up as down.
    assert {k for k in still if not k.startswith("encoder.")} <= {"discriminator.head.bias"}


def test_labels_have_to_be_asked_for_and_fit():
    conditional, plain = (zoo.create("dcgan", classes=n, **SMALL) for n in (3, 0))
    with pytest.raises(SettingsError, match=r"learns from the labels.*--set labels=true"):
        conditional.phases(make_recipe(conditional.recipe, {}))
    with pytest.raises(SettingsError, match="without classes it has no use for labels"):
        plain.phases(make_recipe(plain.recipe, {"labels": True}))
    with pytest.raises(SettingsError, match="--config norm=spectral"):
        plain.phases(make_recipe(plain.recipe, {"r1": 1.0}))
    with pytest.raises(SettingsError, match="non_saturating or hinge, got 'wasserstein'"):
        plain.phases(make_recipe(plain.recipe, {"loss": "wasserstein"}))
    with pytest.raises(SettingsError, match="norm should be batch, spectral or none, got 'layer'"):
        zoo.create("dcgan", norm="layer")
    for classes in (1, -2, 10_001):
        with pytest.raises(SettingsError, match=f"2 to 10,000, got {classes}"):
            zoo.create("dcgan", classes=classes)
    few = zoo.create("dcgan", classes=2, **SMALL)
    game, _ = few.phases(make_recipe(few.recipe, {"labels": True}))
    with pytest.raises(TrainingError, match=r"labels up to 2\. Type: --config classes=3"):
        _steps(few.train(), game, 1)


@pytest.mark.slow
def test_a_conditional_generator_learns_what_the_labels_say(tmp_path):
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (256,), generator=rng)
    images = torch.randint(0, 60, (256, 1, 28, 28), generator=rng, dtype=torch.uint8)
    images[labels == 1] += 190  # the second class is bright
    data = Dataset("two kinds", "train", images, labels, "made here", "MIT")
    settings = {"epochs": 30, "batch_size": 32, "lr": 2e-3, "encoder_epochs": 1, "average": 0.9}
    train = partial(
        zoo.train, "dcgan", data=data, config={**SMALL, "classes": 2}, device="cpu"
    )  # fmt: skip
    out = train(out=tmp_path / "run", settings={**settings, "labels": True})
    model = zoo.load(f"local-dir:{out}")
    codes = model._sample_codes(64, torch.Generator().manual_seed(1))
    dark, bright = (
        float(model.decode(model._of_classes(codes, torch.full((64,), c))).mean()) for c in (0, 1)
    )
    assert bright - dark > 0.5
    assert json.loads((out / "config.json").read_text())["training"]["recipe"]["labels"] is True

    unlabelled = Dataset("no kinds", "train", images, None, "made here", "MIT")
    with pytest.raises(TrainingError, match="labels=true, but no kinds has no labels"):
        train(
            data=unlabelled, out=tmp_path / "other", settings={**settings, "labels": True}
        )  # fmt: skip
