"""The fully connected and the stacked models: their papers' nets, and a few steps of each phase."""

import math

import pytest
import torch
from torch import nn

import zoo
from zoo.data import Dataset
from zoo.errors import SettingsError
from zoo.model import Step
from zoo.sample import sample
from zoo.training import make_recipe

SMALL = {
    "dcgan": {"width": 4, "latent_dim": 6},
    "gan": {"hidden": 16, "units": 8, "pieces": 3, "latent_dim": 6, "encoder_hidden": 16},
    "bigan": {"hidden": 16, "latent_dim": 6},
    "stacked_gan": {"width": 4, "hidden": 12, "latent_dim": 3, "noise": 5},
}


def small(name, **config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return zoo.create(name, **SMALL[name], **config)


def pictures(channels, size, n=64):
    """The embedded sample, in this size and in so many channels."""
    grey = torch.from_numpy(sample()[0])[:n, None].float() / 255
    images = nn.functional.interpolate(grey, (size, size), mode="bilinear", antialias=True)
    return (images.expand(-1, channels, -1, -1) * 255).round().to(torch.uint8)


@pytest.mark.parametrize(
    ("channels", "size"),
    [(1, 28), *(pytest.param(*shape, marks=pytest.mark.slow) for shape in [(3, 32), (3, 64)])],
)
@pytest.mark.parametrize(
    "name",
    ["gan", "bigan", *(pytest.param(n, marks=pytest.mark.slow) for n in ("dcgan", "stacked_gan"))],
)
def test_a_few_steps_from_data_to_a_weights_folder(name, channels, size, tmp_path):
    data = Dataset("some", "train", pictures(channels, size), None, "embedded", "MIT")
    kind = small(name).recipe
    short = {k: 1 for k in vars(kind()) if k.endswith("epochs")}
    out = zoo.train(
        name, data=data, out=tmp_path / "run", settings={**short, "batch_size": 16},
        config={**SMALL[name], "channels": channels, "size": size}, device="cpu",
    )  # fmt: skip
    model = zoo.load(f"local-dir:{out}")
    images = model.generate(3, seed=0)
    assert images.shape == (3, channels, size, size)
    assert model.reconstruct(images).shape == images.shape
    assert bool(torch.isfinite(model.score(images)).all())
    fresh = small(name, channels=channels, size=size)
    before = {k: v.detach().half().float() for k, v in fresh.named_parameters()}  # as stored
    still = {k for k, v in model.named_parameters() if torch.equal(v, before[k])}
    moved = {k.split(".")[0] for k in before.keys() - still}
    assert moved == {k.split(".")[0] for k in before}, "every part has learnt"


class Updates:
    """What a phase's steps hand to the optimisers: gradients of each player, and plain descent."""

    def __init__(self, phase):
        self.phase, self.norms = phase, {}

    def __call__(self, player, loss):
        module = self.phase.players[player]
        for parameter in module.parameters():
            parameter.grad = None
        loss.backward()
        grads = [p.grad for p in module.parameters() if p.grad is not None]
        self.norms[player] = math.sqrt(sum(float(g.square().sum()) for g in grads))


def one_step(model, phase):
    rng = torch.Generator().manual_seed(1)
    images = pictures(1, 28, 16).float() / 255
    updates = Updates(phase)
    step = Step(images, make_recipe(model.recipe, {}), generator=rng, update=updates)
    return {k: float(v.detach()) for k, v in phase.step(images, step).items()}, updates.norms


def phases(model, **settings):
    return {p.name: p for p in model.train().phases(make_recipe(model.recipe, settings))}


# -- gan ------------------------------------------------------------------------------------------


def test_the_first_gan_is_that_of_its_authors():
    model = zoo.create("gan")
    linear = [m for m in model.generator if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [
        (100, 1200), (1200, 1200), (1200, 784),
    ]  # fmt: skip
    assert [type(m) for m in model.generator if not isinstance(m, nn.Linear)] == [
        nn.BatchNorm1d, nn.ReLU, nn.BatchNorm1d, nn.ReLU, nn.Sigmoid, nn.Unflatten,
    ]  # fmt: skip
    discriminator = model.discriminator
    x = torch.rand(3, 784)
    pieces = discriminator.first.linear(x).reshape(3, 240, 5)
    assert torch.equal(discriminator.first(x), pieces.max(2).values)
    assert (discriminator.input_dropout.p, discriminator.dropout.p) == (0.2, 0.5)
    assert model.features(x.reshape(3, 1, 28, 28)).shape == (3, 480)
    for part, bound in ((model.generator, 0.05), (discriminator, 0.005)):
        linear = [m.weight.detach() for m in part.modules() if isinstance(m, nn.Linear)]
        # A bound is drawn too, and in float32 .05 is more than .05.
        most = float(torch.tensor(bound))
        assert all(0.95 * bound < float(w.abs().max()) <= most for w in linear[:-1])


# -- bigan ----------------------------------------------------------------------------------------


def test_bigan_is_the_permutation_invariant_net_of_section_4_1():
    model = zoo.create("bigan")
    for part, first, last, norms in (
        (model.generator, 50, 784, 2),
        (model.encoder, 784, 50, 2),
        (model.discriminator, 834, 1, 1),
    ):
        linear = [m for m in part if isinstance(m, nn.Linear)]
        assert [m.in_features for m in linear] == [first, 1024, 1024]
        assert linear[-1].out_features == last
        assert sum(isinstance(m, nn.BatchNorm1d) for m in part) == norms
    images = torch.rand(4, 1, 28, 28)
    features = model.features(images)
    assert features.shape == (4, 1024)
    assert torch.allclose(model.encoder[-1](features), model.encode(images), atol=1e-5)


def test_bigan_turns_both_kinds_of_pairs_round():
    model = small("bigan")
    (game,) = phases(model).values()
    with torch.no_grad():
        model.discriminator[-1].weight.zero_()
        model.discriminator[-1].bias.fill_(2.0)  # it takes all pairs for real ones
    losses, norms = one_step(model, game)
    real, fake = (float(nn.functional.softplus(torch.tensor(x))) for x in (-2.0, 2.0))
    assert losses["discriminator"] == pytest.approx(real + fake)
    assert losses["generator"] == pytest.approx(real)  # what it wants
    assert losses["encoder"] == pytest.approx(fake)  # its pairs should seem made
    assert norms["discriminator"] > 0


def test_bigan_reaches_generator_and_encoder_through_the_discriminator():
    model = small("bigan")
    (game,) = phases(model).values()
    one_step(model, game)
    for part in (model.generator, model.encoder):
        assert all(float(p.grad.abs().sum()) > 0 for p in [part[0].weight, part[-1].weight])
    assert all(p.requires_grad for p in model.parameters())


# -- stacked_gan ----------------------------------------------------------------------------------


def test_codes_of_the_stack_are_the_top_and_the_noise_of_both():
    model = small("stacked_gan")
    assert model.code_shape == (3 + 5 + 5,)
    images = pictures(1, 28, 4).float() / 255
    image, hidden, top = model._read(images)
    codes = model.encode(images)
    assert torch.equal(codes[:, :3], top)
    assert torch.equal(codes[:, 3:8], model.judges[1](hidden)[1])
    assert torch.equal(codes[:, 8:], model.judges[0](image)[1])
    level = model.generators[1](codes[:, :8])
    again = model.generators[0](torch.cat([level, codes[:, 8:]], dim=1))
    assert torch.equal(model.decode(codes), (again + 1) / 2)
    assert torch.equal(model.features(images), hidden)


def test_the_stack_learns_level_by_level_and_then_together():
    model = small("stacked_gan")
    made = phases(model)
    assert list(made) == ["encoder", "top generator", "bottom generator", "both generators"]
    for name, levels in (
        ("top generator", {1}), ("bottom generator", {0}), ("both generators", {0, 1}),
    ):  # fmt: skip
        before = {k: v.clone() for k, v in model.encoders.state_dict().items()}
        losses, norms = one_step(model, made[name])
        kinds = ("judge", "q", "adversarial", "conditional", "entropy")
        assert set(losses) == {f"{kind}_{i}" for kind in kinds for i in levels}, name
        assert all(map(math.isfinite, losses.values()))
        assert min(norms.values()) > 0
        learnt = {i for i in (0, 1) if next(model.generators[i].parameters()).grad is not None}
        assert learnt >= levels
        after = model.encoders.state_dict()
        assert all(torch.equal(after[k], v) for k, v in before.items()), "the encoder rests"
        assert all(p.grad is None for p in model.encoders.parameters())
        assert all(p.requires_grad for p in model.parameters())


def test_together_the_lower_generator_hears_of_the_upper_one():
    """Its losses reach the upper generator, since it writes from what that made."""
    model = small("stacked_gan")
    both = phases(model, conditional_weight=0.0, entropy_weight=0.0)["both generators"]
    with torch.no_grad():  # the upper judge says nothing
        model.judges[1].real.weight.zero_()
    one_step(model, both)
    assert float(model.generators[1][0].weight.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("name", "config", "text"),
    [
        ("gan", {"size": 0}, "gan: expected 1 or 3 channels, a size from 1 to 128"),
        ("gan", {"pieces": 0}, "pieces=0"),
        ("bigan", {"channels": 2}, "bigan: expected 1 or 3 channels, a size from 1 to 128"),
        ("bigan", {"hidden": 0}, "hidden=0"),
        ("stacked_gan", {"size": 48}, "stacked_gan: expected channels 1 or 3, size 28, 32 or 64"),
        ("stacked_gan", {"noise": 0}, "noise=0"),
    ],
)
def test_refused_configs(name, config, text):
    with pytest.raises(SettingsError, match=text):
        zoo.create(name, **config)


@pytest.mark.parametrize("name", SMALL)
def test_an_unknown_loss_is_refused(name):
    model = small(name)
    with pytest.raises(SettingsError, match="should be non_saturating or hinge, got 'wasserstein'"):
        model.phases(make_recipe(model.recipe, {"loss": "wasserstein"}))
