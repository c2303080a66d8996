"""The net is Burda's, the bounds are the papers' equations."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from zoo_vae.variational import draw, kl

import zoo
from zoo.data import Dataset
from zoo.errors import SettingsError
from zoo.evaluation.likelihood import Variational, log_likelihood
from zoo.model import Step
from zoo.sample import sample
from zoo.training import make_recipe


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def clothes():
    images = torch.from_numpy(sample()[0])[:, None]
    return Dataset("sample", "train", images, None, "embedded", "MIT")


def binary(n=6, size=28):
    return (torch.rand(n, 1, size, size, generator=rng(3)) > 0.5).float()


def test_layers():
    model = zoo.create("vae")
    shapes = [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]
    assert shapes == [(784, 200), (200, 200), (200, 100), (50, 200), (200, 200), (200, 784)]
    assert sum(isinstance(m, nn.Tanh) for m in model.modules()) == 4
    images = torch.rand(3, 1, 28, 28)
    mean, log_std = model.posterior(images)
    assert torch.equal(model.encode(images), mean)
    assert mean.shape == log_std.shape == (3, 50)


def test_divergence():
    mean, log_std = torch.randn(2, 5, 4, generator=rng())
    by_hand = kl_divergence(Normal(mean, log_std.exp()), Normal(0, 1)).sum(1)
    assert torch.allclose(kl(mean, log_std), by_hand, atol=1e-5)


def test_draws():
    mean, log_std = torch.tensor([[3.0, -1.0]]), torch.tensor([[0.0, -2.0]])
    codes = draw(mean, log_std, 50_000, rng())[0]
    assert torch.allclose(codes.mean(0), mean[0], atol=0.02)
    assert torch.allclose(codes.std(0), log_std[0].exp(), rtol=0.02)


def test_log_weights_by_hand():
    """log p(x, z) - log q(z | x), each density torch's."""
    torch.manual_seed(0)
    model = zoo.create("vae", size=6, hidden=8, latent_dim=3)
    for linear in (m for m in model.modules() if isinstance(m, nn.Linear)):
        nn.init.normal_(linear.bias)
    images = binary(4, 6)
    mean, log_std = model.posterior(images)
    codes = draw(mean, log_std, 7, rng(1))  # N x K x 3
    log_p = Normal(0, 1).log_prob(codes).sum(2)
    pixels = Bernoulli(probs=model.decode(codes.detach().flatten(0, 1)).double())
    seen = images[:, None].expand(4, 7, 1, 6, 6).reshape(28, 1, 6, 6).double()
    log_p = log_p + pixels.log_prob(seen).flatten(1).sum(1).view(4, 7)
    log_q = Normal(mean[:, None], log_std.exp()[:, None]).log_prob(codes).sum(2)
    assert isinstance(model, Variational)
    got = model.log_weights(images, 7, rng(1))
    assert torch.allclose(got.double(), (log_p - log_q).double(), atol=1e-4)


def test_many_log_weights_are_those_of_few():
    """However many rows go through the decoder at once."""
    torch.manual_seed(0)
    model = zoo.create("vae", size=6, hidden=8, latent_dim=3)
    images = binary(3, 6)
    many = model.log_weights(images, 800, generator := rng(1))
    alone = [model.log_weights(image[None], 800, g) for g in [rng(1)] for image in images]
    assert torch.equal(many, torch.cat(alone))
    assert generator.get_state().equal(generator.get_state())


def test_bounds():
    """Equation 8 with k = 1 is the bound; more samples only raise it, and all are below log p."""
    torch.manual_seed(0)
    model = zoo.create("vae", size=6, hidden=8, latent_dim=3)
    images = binary(200, 6)

    def loss(**settings):
        recipe = make_recipe(model.recipe, settings)
        with torch.no_grad():
            return {
                k: float(v)
                for k, v in model.loss(images, Step(images, recipe, generator=rng(5))).items()
            }

    one, many = loss(samples=1), loss(samples=64)
    assert list(one) == ["reconstruction", "kl"]
    assert one["kl"] == pytest.approx(many["kl"])  # in closed form
    assert sum(one.values()) == pytest.approx(sum(many.values()), rel=0.02)
    iwae = [loss(samples=k, iwae=True)["bound"] for k in (1, 5, 64)]
    assert iwae[0] == pytest.approx(sum(one.values()), rel=0.02)
    assert iwae[0] > iwae[1] > iwae[2]
    best = -float(log_likelihood(model, images, samples=2000, generator=rng(2)).mean())
    assert best < iwae[2]
    assert best == pytest.approx(iwae[2], abs=0.5)


def test_the_gradient_of_the_importance_weighted_bound():
    """Equation 13: each sample's gradient counts as much as its normalised weight."""
    torch.manual_seed(0)
    model = zoo.create("vae", size=6, hidden=8, latent_dim=3)
    recipe = make_recipe(model.recipe, {"samples": 5, "iwae": True})
    images = binary(1, 6)
    bias = model.decoder[-1].bias
    (got,) = torch.autograd.grad(
        model.loss(images, Step(images, recipe, generator=rng(4)))["bound"], bias
    )
    g = rng(4)
    torch.bernoulli(images, generator=g)  # the target's, which binary images leave as they are
    weights = model.log_weights(images, 5, g)[0]
    each = torch.stack([torch.autograd.grad(w, bias, retain_graph=True)[0] for w in weights])
    assert torch.allclose(got, -(weights.softmax(0)[:, None] * each).sum(0), atol=1e-5)


def test_targets_are_drawn_anew():
    model = zoo.create("vae")
    grey, recipe = torch.full((50, 1, 28, 28), 0.5), model.recipe()
    one, other = (
        float(model.loss(grey, Step(grey, recipe, generator=rng(s)))["reconstruction"].detach())
        for s in (0, 1)
    )
    assert one != other
    assert (
        float(model.loss(grey, Step(grey, recipe, generator=rng()))["reconstruction"].detach())
        == one
    )


def test_the_output_starts_at_the_mean_image():
    model = zoo.create("vae")
    images = clothes().images[:200].float() / 255
    model._start_at(images, Step(images, model.recipe()))
    expected = images.mean(0).flatten().clamp(0.001, 0.999)
    assert torch.allclose(model.decoder[-1].bias.sigmoid(), expected, atol=1e-5)


def test_score_is_the_bound_at_the_mean():
    torch.manual_seed(0)
    model = zoo.create("vae")
    images = torch.rand(5, 1, 28, 28)
    output = model.reconstruct(images)
    entropy = nn.functional.binary_cross_entropy(output, images, reduction="none")
    expected = kl(*model.posterior(images)) + entropy.flatten(1).sum(1)
    assert torch.allclose(model.score(images), expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("iwae", [False, True])
def test_it_learns(tmp_path, iwae):
    out = zoo.train(
        "vae", data=clothes(), out=tmp_path / "run", config={"hidden": 64, "components": 3},
        settings={"epochs": 15, "batch_size": 20, "lr": 5e-3, "samples": 2, "iwae": iwae},
        device="cpu",
    )  # fmt: skip
    model = zoo.load(f"local-dir:{out}")
    images = torch.bernoulli(clothes().images[:100].float() / 255, generator=rng())
    learnt = -float(log_likelihood(model, images, samples=50, generator=rng()).mean())
    untrained = zoo.create("vae")
    untrained._start_at(images, Step(images, untrained.recipe()))
    start = -float(log_likelihood(untrained, images, samples=50, generator=rng()).mean())
    assert learnt < 0.85 * start
    assert not torch.equal(model.density.means, torch.zeros_like(model.density.means))


def test_the_prior_is_not_fitted():
    model = zoo.create("vae", size=8, hidden=4, latent_dim=2)
    model.fit(lambda: iter([torch.rand(100, 1, 8, 8)]), 0)
    assert torch.equal(model.density.means, torch.zeros(1, 2))
    codes = model._sample_codes(20_000, rng())
    assert float(codes.std()) == pytest.approx(1, abs=0.02)


def test_damage_stays_out_of_the_target(tmp_path):
    """A recipe may corrupt the input: the posterior sees that, and the bound is of the whole."""
    model = zoo.create("vae", size=8, hidden=4, latent_dim=2)
    whole, spoilt = binary(4, 8), torch.zeros(4, 1, 8, 8)
    with torch.no_grad():
        got = model.loss(whole, Step(spoilt, model.recipe(), generator=rng()))
    assert float(got["kl"]) == pytest.approx(float(kl(*model.posterior(spoilt)).mean().detach()))
    best = math.log(2) * 64
    assert 0.3 * best < float(got["reconstruction"]) < 3 * best


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"channels": 2}, "vae: expected 1 or 3 channels, a size from 1 to 512"),
        (
            {"latent_dim": 0},
            "hidden and latent_dim positive, got channels=1, size=28, hidden=200, latent_dim=0",
        ),
        ({"components": -1}, "expected components from 1 to 1,000, or 0 for the prior, got -1"),
    ],
)
def test_refused_configs(config, message):
    with pytest.raises(SettingsError) as caught:
        zoo.create("vae", **config)
    assert message in str(caught.value)


def test_refused_samples():
    model = zoo.create("vae")
    with pytest.raises(SettingsError, match="vae: samples should be from 1, got 0"):
        model.phases(make_recipe(model.recipe, {"samples": 0}))
