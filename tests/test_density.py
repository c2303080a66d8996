"""The mixture finds the clusters it was fitted to, and samples them by a seed alone."""

import warnings

import pytest
import torch
from sklearn import mixture

from zoo.model import GaussianMixture


def two_clusters(n=2000):
    rng = torch.Generator().manual_seed(0)
    codes = torch.randn(n, 3, generator=rng) * torch.tensor([0.1, 0.2, 0.3])
    codes[: n // 4] += 5
    return codes


def test_standard_normal_until_fitted():
    drawn = GaussianMixture(3, 4).sample(20_000, torch.Generator().manual_seed(0))
    assert drawn.shape == (20_000, 3)
    assert float(drawn.mean(0).abs().max()) < 0.05
    assert float((drawn.std(0) - 1).abs().max()) < 0.05


def test_fitted():
    density = GaussianMixture(3, 2)
    density.fit(two_clusters())
    drawn = density.sample(20_000, torch.Generator().manual_seed(0))
    high = drawn[:, 0] > 2.5
    assert abs(float(high.float().mean()) - 0.25) < 0.03
    spread = drawn[~high].std(0)
    assert torch.allclose(spread, torch.tensor([0.1, 0.2, 0.3]), rtol=0.1)


def test_fewer_codes_than_components_and_a_dead_unit():
    codes = two_clusters(40)
    codes[:, 1] = 0
    density = GaussianMixture(3, 50)
    density.fit(codes)
    drawn = density.sample(100, torch.Generator().manual_seed(0))
    assert bool(torch.isfinite(drawn).all())
    assert float(drawn[:, 1].abs().max()) < 0.2


def test_fit_and_sample_are_repeatable():
    drawn = []
    for _ in range(2):
        density = GaussianMixture(3, 5)
        density.fit(two_clusters(), seed=1)
        drawn.append(density.sample(10, torch.Generator().manual_seed(2)))
    assert torch.equal(*drawn)


@pytest.mark.parametrize(("rounds", "enough"), [(60, True), (5, False)])
def test_rounds_are_scikit_learns_own_without_its_warning(monkeypatch, rounds, enough):
    monkeypatch.setattr("zoo.density.ROUNDS", rounds)
    codes = torch.randn(500, 3, generator=torch.Generator().manual_seed(1))
    shuffled = codes.double()[torch.randperm(500, generator=torch.Generator().manual_seed(3))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = mixture.GaussianMixture(
            10,
            reg_covar=1e-4 * float(shuffled.var(0).mean()) + 1e-8,
            max_iter=rounds,
            random_state=3,
        ).fit(shuffled.numpy())
    assert expected.converged_ == enough
    fitted = GaussianMixture(3, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.fit(codes, seed=3)
    assert torch.equal(fitted.means, torch.from_numpy(expected.means_).float())
    assert torch.equal(fitted.weights, torch.from_numpy(expected.weights_).float())
