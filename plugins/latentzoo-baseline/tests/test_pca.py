"""PCA is what scikit-learn's is, behind the zoo's calls."""

import pytest
import torch

import zoo
from zoo.errors import SettingsError


def images(n=200, channels=1, size=6):
    rng = torch.Generator().manual_seed(3)
    basis = torch.rand(5, channels * size * size, generator=rng)
    pixels = torch.rand(n, 5, generator=rng) @ basis / 5
    noise = 0.02 * torch.rand(pixels.shape, generator=rng)
    return (pixels + noise).clamp(0, 1).reshape(n, channels, size, size)


@pytest.fixture(scope="module")
def fitted():
    model = zoo.create("pca", size=6, latent_dim=4)
    model.fit(lambda: iter(images().split(64)), seed=0)
    return model


def test_fit_is_that_of_scikit_learn(fitted):
    decomposition = pytest.importorskip("sklearn.decomposition")
    x = images()
    reference = decomposition.PCA(4, svd_solver="full").fit(x.flatten(1).double().numpy())
    assert torch.allclose(fitted.mean.double(), torch.from_numpy(reference.mean_), atol=1e-6)
    components = torch.from_numpy(reference.components_)
    aligned = (components * fitted.components.double()).sum(1, keepdim=True).sign() * components
    assert torch.allclose(fitted.components.double(), aligned, atol=1e-5)
    # scikit-learn divides by N - 1
    expected = torch.from_numpy(reference.explained_variance_) * 199 / 200
    assert torch.allclose(fitted.variances.double(), expected, rtol=1e-4)
    rebuilt = reference.inverse_transform(reference.transform(x.flatten(1).double().numpy()))
    assert torch.allclose(
        fitted.reconstruct(x).flatten(1), torch.from_numpy(rebuilt).float().clamp(0, 1), atol=1e-5
    )


def test_batches_do_not_matter(fitted):
    other = zoo.create("pca", size=6, latent_dim=4)
    other.fit(lambda: iter([images()]), seed=1)
    for name, buffer in fitted.named_buffers():
        assert torch.allclose(buffer, dict(other.named_buffers())[name], atol=1e-5), name


def test_features_are_white(fitted):
    features = fitted.features(images())
    covariance = features.T @ features / len(features)
    assert torch.allclose(covariance, torch.eye(4), atol=1e-3)


def test_generates_from_its_gaussian(fitted):
    codes = fitted._sample_codes(20_000, torch.Generator().manual_seed(0))
    assert torch.allclose(codes.var(0), fitted.variances, rtol=0.05)
    assert torch.allclose(codes.mean(0) / fitted.variances.sqrt(), torch.zeros(4), atol=0.05)


def test_noise_is_stranger(fitted):
    noise = torch.rand(50, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    assert float(fitted.score(noise).min()) > float(fitted.score(images()).max())


def test_fewer_images_than_components():
    model = zoo.create("pca", size=6, latent_dim=10)
    x = images(3)
    model.fit(lambda: iter([x]), seed=0)
    assert torch.allclose(model.reconstruct(x), x, atol=1e-4)
    assert bool(torch.isfinite(model.features(x)).all())


def test_untrained_components_are_orthonormal():
    model = zoo.create("pca")
    products = model.components @ model.components.T
    assert torch.allclose(products, torch.eye(30), atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [{"channels": 2}, {"latent_dim": 0}, {"latent_dim": 785}, {"size": 0}, {"size": 200}],
    ids=str,
)
def test_refused_configs(config):
    with pytest.raises(SettingsError, match="pca: expected 1 or 3 channels"):
        zoo.create("pca", **config)
