"""The architecture for every size that it takes, and the bound by the papers' equations."""

import json

import pytest
import torch
from torch.distributions import Normal
from zoo_vae.variational import draw, kl

import zoo
from zoo.data import Dataset
from zoo.errors import SettingsError
from zoo.model import Step
from zoo.sample import sample
from zoo.training import make_recipe


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def clothes(size=28, channels=1):
    images = torch.from_numpy(sample()[0])[:, None]
    images = torch.nn.functional.interpolate(images.float(), (size, size), mode="bilinear").byte()
    images = images.expand(-1, channels, -1, -1)
    return Dataset("sample", "train", images, None, "embedded", "MIT")


@pytest.mark.parametrize("size", [8, 9, 28, 32, 33, 64, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes(size, channels):
    model = zoo.create("conv_vae", size=size, channels=channels, width=4, latent_dim=5)
    images = torch.rand(2, channels, size, size)
    assert model.reconstruct(images).shape == images.shape
    # As the calls lay images out: another layout changes the last digits.
    mean, log_std = model.posterior(images.contiguous(memory_format=torch.channels_last))
    assert mean.shape == log_std.shape == (2, 5)
    assert torch.equal(model.encode(images), mean)


def test_bound_by_hand():
    torch.manual_seed(0)
    model = zoo.create("conv_vae", size=8, width=4, latent_dim=3)
    images = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        mean, log_std = model.posterior(images)
        codes = draw(mean, log_std, 1, rng(1))[:, 0]
        pixels = Normal(model.decode(codes), model.log_sigma.exp())
        expected = -pixels.log_prob(images).flatten(1).sum(1).mean()
        parts = [
            model.loss(
                images, Step(images, make_recipe(model.recipe, {"beta": beta}), generator=rng(1))
            )
            for beta in (1.0, 4.0)
        ]
    assert torch.allclose(parts[0]["reconstruction"], expected, rtol=1e-4)
    assert torch.equal(parts[0]["reconstruction"], parts[1]["reconstruction"])
    assert torch.allclose(parts[0]["kl"], kl(mean, log_std).mean())
    assert torch.allclose(parts[1]["kl"], 4 * parts[0]["kl"])


def test_score_is_the_bound_at_the_mean():
    torch.manual_seed(0)
    model = zoo.create("conv_vae", width=4)
    images = torch.rand(5, 1, 28, 28)
    pixels = Normal(model.reconstruct(images), model.log_sigma.detach().exp())
    likelihood = pixels.log_prob(images).flatten(1).sum(1)
    expected = kl(*model.posterior(images)) - likelihood
    assert torch.allclose(model.score(images), expected, rtol=1e-4)


def test_the_density_is_of_draws_from_the_posteriors():
    """Wider than the means by the posteriors' own variance, which is 1 of an untrained model."""
    torch.manual_seed(0)
    model = zoo.create("conv_vae", size=8, width=4, latent_dim=2, components=1)
    images = torch.rand(1000, 1, 8, 8, generator=rng())
    model.fit(lambda: iter(images.split(500)), seed=0)
    with torch.no_grad():
        mean, log_std = model.posterior(images)
    expected = mean.var(0) + (2 * log_std).exp().mean(0)
    scale = model.density.scales[0]
    assert torch.allclose((scale @ scale.T).diagonal(), expected, rtol=0.1)
    assert torch.allclose(model.density.means[0], mean.mean(0), atol=0.1)
    prior = zoo.create("conv_vae", size=8, width=4, latent_dim=2, components=0)
    prior.fit(lambda: iter(images.split(500)), seed=0)
    assert torch.equal(prior.density.scales, torch.eye(2)[None])


@pytest.mark.slow
def test_it_learns(tmp_path):
    out = zoo.train(
        "conv_vae", data=clothes(), out=tmp_path / "run",
        config={"width": 8, "latent_dim": 8, "components": 3},
        settings={"epochs": 15, "batch_size": 16, "lr": 5e-3}, device="cpu",
    )  # fmt: skip
    model = zoo.load(f"local-dir:{out}")
    some = clothes().images[:100].float() / 255
    error = float((model.reconstruct(some) - some).square().mean())
    assert error < 0.6 * float((some - some.mean(0)).square().mean())
    assert float(model.log_sigma.detach().exp()) < 0.2  # where it starts
    noise = torch.rand(20, 1, 28, 28, generator=rng())
    assert float(model.score(noise).min()) > float(model.score(some).median())


@pytest.mark.parametrize("size", [32, 64])
def test_colour_pictures(tmp_path, size):
    out = zoo.train(
        "conv_vae", data=clothes(size, channels=3), out=tmp_path / "run", device="cpu",
        config={"size": size, "channels": 3, "width": 4, "latent_dim": 4, "components": 1},
        settings={"epochs": 2, "batch_size": 32, "lr": 5e-3},
    )  # fmt: skip
    lines = [json.loads(t) for t in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["reconstruction"] < lines[0]["reconstruction"]
    assert zoo.load(f"local-dir:{out}").generate(2, seed=0).shape == (2, 3, size, size)


@pytest.mark.parametrize(
    "config", [{"channels": 2}, {"size": 7}, {"size": 257}, {"width": 0}, {"latent_dim": -1}]
)
def test_refused_configs(config):
    with pytest.raises(SettingsError, match="conv_vae: expected 1 or 3 channels, a size from 8"):
        zoo.create("conv_vae", **config)


def test_refused_components():
    with pytest.raises(SettingsError, match="components from 1 to 1,000, or 0 for the prior"):
        zoo.create("conv_vae", components=1001)
