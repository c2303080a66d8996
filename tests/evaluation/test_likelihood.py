"""The estimate against a model whose likelihood is known exactly, and the formula by hand."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from zoo.data import Dataset
from zoo.evaluation import likelihood
from zoo.evaluation.likelihood import binarised, independent_pixels, log_likelihood
from zoo.evaluation.protocol import Context, ProtocolSkipped


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


class LinearGaussian:
    """z ~ N(0, I), x | z ~ N(W z + b, s^2 I), so that x ~ N(b, W W' + s^2 I)."""

    device = torch.device("cpu")

    def __init__(self, exact, pixels=6, latent_dim=2, noise=0.7):
        self.weight = torch.randn(pixels, latent_dim, generator=rng(1)).double()
        self.bias = torch.randn(pixels, generator=rng(2)).double()
        self.noise, self.exact = noise, exact

    def log_weights(self, images, samples, generator):
        x = images.flatten(1).double()
        precision = torch.eye(2).double() + self.weight.T @ self.weight / self.noise**2
        covariance = precision.inverse()
        mean = (x - self.bias) @ self.weight @ covariance / self.noise**2  # N x 2
        if not self.exact:
            mean, covariance = mean + 0.2, 1.5 * covariance
        scale = torch.linalg.cholesky(covariance)
        noise = torch.randn(len(x), samples, 2, generator=generator, dtype=torch.float64)
        z = mean[:, None] + noise @ scale.T  # N x K x 2
        log_q = Normal(0, 1).log_prob(noise).sum(2) - scale.logdet()
        log_p = Normal(0, 1).log_prob(z).sum(2)
        rebuilt = z @ self.weight.T + self.bias
        return log_p + Normal(rebuilt, self.noise).log_prob(x[:, None]).sum(2) - log_q

    def exactly(self, images):
        covariance = self.weight @ self.weight.T + self.noise**2 * torch.eye(6)
        marginal = torch.distributions.MultivariateNormal(self.bias, covariance)
        return marginal.log_prob(images.flatten(1).double())


IMAGES = (torch.rand(7, 1, 2, 3, generator=rng(3)) > 0.5).float()


def test_the_exact_posterior_needs_one_sample():
    model = LinearGaussian(exact=True)
    got = log_likelihood(model, IMAGES, samples=1, generator=rng())
    assert got.shape == (7,)
    assert torch.allclose(got, model.exactly(IMAGES), atol=1e-9)


def test_any_posterior_needs_many():
    model = LinearGaussian(exact=False)
    many = log_likelihood(model, IMAGES, samples=5000, generator=rng())
    assert torch.allclose(many, model.exactly(IMAGES), atol=0.05)
    runs = [log_likelihood(model, IMAGES, samples=2, generator=rng(s)) for s in range(200)]
    bound = torch.stack(runs).mean(0)
    assert bool((bound < model.exactly(IMAGES) - 0.02).all()), "from below: a bound"


class Given:
    """Log-weights that were written down."""

    device = torch.device("cpu")

    def __init__(self, weights):
        self.weights, self.calls = weights, []

    def log_weights(self, images, samples, generator):
        # Each image is one number, its row; each call takes the next columns.
        rows = images.flatten(1)[:, 0].long()
        start = sum(k for n, k in self.calls if n == int(rows[0]))
        self.calls.append((int(rows[0]), samples))
        return self.weights[rows, start : start + samples]


def test_equation_8_by_hand_in_any_chunks():
    weights = 30 * torch.randn(5, 1201, generator=rng()) - 900  # exp of it is 0 in floats
    model = Given(weights)
    images = torch.arange(5.0)[:, None, None, None]
    got = log_likelihood(model, images, samples=1201, generator=rng(), at_once=1000)
    numbers = weights.double().numpy()
    largest = numbers.max(1)
    by_hand = largest + np.log(np.exp(numbers - largest[:, None]).mean(1))
    assert np.allclose(got.numpy(), by_hand)
    assert {samples for _, samples in model.calls} == {500, 201}


def test_binarised():
    grey = torch.tensor([0.0, 0.3, 1.0])[:, None, None, None].expand(3, 1, 100, 100)
    binary = binarised(grey, rng())
    assert set(binary.unique().tolist()) == {0.0, 1.0}
    assert binary.mean((1, 2, 3)).tolist() == pytest.approx([0, 0.3, 1], abs=0.02)
    assert torch.equal(binary, binarised(grey, rng()))
    assert not torch.equal(binary, binarised(grey, rng(1)))


def test_independent_pixels_by_hand():
    train = torch.tensor([[0.0, 1.0], [0.0, 0.5]])[:, None, None]  # means 0 and 0.75
    p = [(0 + 1) / 4, (1.5 + 1) / 4]
    images = torch.tensor([[0.0, 1.0], [1.0, 0.0]])[:, None, None]
    expected = [math.log(1 - p[0]) + math.log(p[1]), math.log(p[0]) + math.log(1 - p[1])]
    assert independent_pixels(train, images).tolist() == pytest.approx(expected)


def context(model):
    images = torch.randint(0, 256, (20, 1, 2, 3), generator=rng()).byte()
    parts = [Dataset("toy", split, images, None, "", "") for split in ("train", "test")]
    return Context(model=model, name="toy", train=parts[0], test=parts[1], seed=3)


def test_measure():
    model = LinearGaussian(exact=True)
    (figure,) = likelihood.measure(context(model))
    images = binarised(context(model).test.images.float() / 255, rng(3))
    assert figure.name == "nll"
    assert figure.value == pytest.approx(-float(model.exactly(images).mean()))
    assert 3 < figure.baselines["mean_image"] < 6  # six pixels, none of them certain
    assert (figure.samples, figure.seed) == (20, 3)


def test_other_models_are_left_out():
    with pytest.raises(ProtocolSkipped, match="toy is not variational: it has no log_weights"):
        list(likelihood.measure(context(object())))
