"""The k-means net does what its paper says, computed here another way."""

import pytest
import torch
from torch.nn import functional as F
from zoo_baseline.patch_kmeans import CONTRAST, even

import zoo
from zoo.errors import SettingsError, TrainingError
from zoo.sample import sample


def clothes(n=60):
    return torch.from_numpy(sample()[0][:n]).float()[:, None] / 255


@pytest.fixture(scope="module")
def fitted():
    pytest.importorskip("sklearn")
    model = zoo.create("patch_kmeans", centroids=24, grid=2)
    model.fit(lambda: iter(clothes().split(16)), seed=0)
    return model


def white_patches(model, image):
    """Every patch of 1 x 28 x 28, one after another, as the paper has them: 529 x 36."""
    rows = []
    for y in range(23):
        for x in range(23):
            patch = image[:, y : y + 6, x : x + 6].flatten().double()
            patch = (patch - patch.mean()) / (patch.var(correction=0) + CONTRAST).sqrt()
            rows.append(model.whitening.double() @ (patch - model.mean.double()))
    return torch.stack(rows)


def test_codes_are_the_triangle_of_squared_distances(fitted):
    image = clothes()[7]
    squares = torch.cdist(white_patches(fitted, image), fitted.centroids.double()) ** 2
    nearer = (squares.mean(1, keepdim=True) - squares).relu() / 2  # 529 x K
    maps = nearer.T.reshape(1, 24, 23, 23)
    expected = F.adaptive_avg_pool2d(maps, 2).float()
    codes = fitted.encode(image[None])
    assert codes.shape == (1, 24, 2, 2)
    assert torch.allclose(codes, expected, rtol=1e-3, atol=1e-3)
    assert float(expected.max()) > 1


def test_score_is_the_distance_to_the_nearest_centroid(fitted):
    image = clothes()[7]
    distances = torch.cdist(white_patches(fitted, image), fitted.centroids.double())
    expected = float(distances.min(1).values.square().mean())
    assert float(fitted.score(image[None])) == pytest.approx(expected, rel=1e-3)


def test_features_are_roots_of_the_codes(fitted):
    images = clothes(5)
    assert torch.allclose(fitted.features(images) ** 2, fitted.encode(images).flatten(1), atol=1e-4)


def test_patches_come_out_white(fitted):
    """All directions that vary more than noise have about the variance 1."""
    x = torch.cat([white_patches(fitted, image) for image in clothes(20)])
    variances = torch.linalg.eigvalsh(x.T.cov())
    assert float(x.mean(0).abs().max()) < 0.2
    assert 0.7 < float(variances[-1]) < 1.3
    assert float(variances[-10]) > 0.5


def test_noise_is_stranger(fitted):
    noise = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert float(fitted.score(noise).min()) > float(fitted.score(clothes()).median())


def test_brightness_and_contrast_of_a_picture_hardly_matter(fitted):
    images = clothes(20)
    dimmed = fitted.features(images * 0.5 + 0.25)
    features = fitted.features(images)
    moved = (dimmed - features).norm(dim=1)
    assert float((moved / features.norm(dim=1)).max()) < 0.3
    others = (features - features.roll(1, 0)).norm(dim=1)
    assert float(moved.mean()) < 0.5 * float(others.mean())


def test_a_seed_gives_the_same_centroids(fitted):
    again, other = (zoo.create("patch_kmeans", centroids=24, grid=2) for _ in range(2))
    again.fit(lambda: iter(clothes().split(16)), seed=0)
    other.fit(lambda: iter(clothes().split(16)), seed=1)
    assert torch.equal(again.centroids, fitted.centroids)
    assert not torch.equal(other.centroids, fitted.centroids)


def test_an_even_picture_has_no_patches_to_compare():
    assert torch.equal(even(torch.full((3, 36), 0.7)), torch.zeros(3, 36))


def test_few_pictures_lend_all_their_patches():
    pytest.importorskip("sklearn")
    model = zoo.create("patch_kmeans", size=8, centroids=9, grid=2)
    model.fit(lambda: iter([clothes(2)[:, :, 10:18, 10:18]]), seed=0)  # 2 x 9 patches
    assert bool(torch.isfinite(model.centroids).all())


def test_too_few_pictures():
    model = zoo.create("patch_kmeans", size=8, centroids=100, grid=2)
    with pytest.raises(TrainingError) as error:
        model.fit(lambda: iter([clothes(2)[:, :, 10:18, 10:18]]), seed=0)
    assert str(error.value) == (
        "patch_kmeans: 32 patches of more than one colour, fewer than its 100 centroids; take more "
        "pictures, or --config centroids=3"
    )


def test_patches_of_one_colour_are_no_centroids():
    pytest.importorskip("sklearn")
    model = zoo.create("patch_kmeans", centroids=24, grid=2)
    framed = F.pad(clothes()[:, :, 10:18, 10:18], (10, 10, 10, 10))  # three of four are empty
    model.fit(lambda: iter([framed]), seed=0)
    apart = torch.cdist(model.centroids, model.centroids).fill_diagonal_(1)
    assert float(apart.min()) > 0.1
    with pytest.raises(TrainingError, match=r"^patch_kmeans: 0 patches of more than one colour"):
        model.fit(lambda: iter([torch.full((9, 1, 28, 28), 0.3)]), seed=0)


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (3, 64)])
def test_learns_at_the_sizes_it_claims(channels, size):
    pytest.importorskip("sklearn")
    model = zoo.create("patch_kmeans", channels=channels, size=size, centroids=16, grid=2)
    images = F.interpolate(clothes(12), (size, size)).expand(-1, channels, -1, -1).contiguous()
    before = model.centroids.clone()
    model.fit(lambda: iter(images.split(5)), seed=0)
    assert not torch.equal(before, model.centroids)
    assert model.features(images).shape == (12, 64)


@pytest.mark.parametrize(
    "config",
    [{"channels": 2}, {"size": 7}, {"patch": 1}, {"size": 8}, {"centroids": 1},
     {"grid": 0}, {"grid": 9}],
    ids=str,
)  # fmt: skip
def test_refused_configs(config):
    with pytest.raises(SettingsError, match="patch_kmeans: expected 1 or 3 channels"):
        zoo.create("patch_kmeans", **config)
