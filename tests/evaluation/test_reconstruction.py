"""Each measure against an independent computation, and the baselines against PCA by hand."""

import math

import numpy as np
import pytest
import torch

import zoo
from zoo.data import Dataset
from zoo.evaluation.protocol import Context
from zoo.evaluation.reconstruction import (
    DAMAGE,
    means,
    measure,
    measure_against,
    measure_repair,
    pca_maker,
    psnr,
    squared_errors,
    ssim,
    ssim_window,
)


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def context():
    """A small deep_ae, untrained, on images near a plane that is cut off at black and white."""
    basis = uniform(4, 144, seed=1)
    pixels = uniform(90, 4, seed=2) @ basis / 4 + 0.05 * uniform(90, 144, seed=3)
    images = ((3 * pixels - 1).clamp(0, 1) * 255).byte().reshape(90, 1, 12, 12)
    train = Dataset("tiny", "train", images[:60], None, "", "")
    test = Dataset("tiny", "test", images[60:], None, "", "")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = zoo.create("deep_ae", size=12, hidden=[20], latent_dim=3)
    return Context(model, "deep_ae", train, test, seed=3)


def test_squared_errors_by_hand():
    images = torch.tensor([[0.0, 1.0], [0.5, 0.5]]).reshape(2, 1, 1, 2)
    rebuilt = torch.tensor([[0.5, 1.0], [0.0, 0.0]]).reshape(2, 1, 1, 2)
    assert squared_errors(images, rebuilt).tolist() == [0.25, 0.5]
    found = means([(images, rebuilt)], ("sse", "mse"))
    assert found == {"sse": 0.375, "mse": 0.1875}


def test_psnr_by_hand():
    images, rebuilt = uniform(3, 1, 8, 8), uniform(3, 1, 8, 8, seed=1)
    by_hand = [
        10 * math.log10(1 / float(np.mean((a - b) ** 2)))
        for a, b in zip(images.double().numpy(), rebuilt.double().numpy(), strict=True)
    ]
    assert psnr(images, rebuilt).tolist() == pytest.approx(by_hand, rel=1e-5)
    assert psnr(images, images).tolist() == [100, 100, 100]


@pytest.mark.parametrize(("size", "sigma"), [(28, 1.5), (12, 1.5), (8, 3 / 3.5)])
def test_ssim_by_hand(size, sigma):
    """Wang et al. 2004, equation 13, around each pixel of the image, reflected at its border."""
    images, rebuilt = uniform(2, 1, size, size), uniform(2, 1, size, size, seed=1)
    window = ssim_window(size, size)
    line = np.exp(-0.5 * (np.arange(window) - window // 2) ** 2 / sigma**2)
    weights = np.outer(line, line) / np.outer(line, line).sum()
    by_hand = []
    for a, b in zip(images[:, 0].double().numpy(), rebuilt[:, 0].double().numpy(), strict=True):
        a, b = (np.pad(image, window // 2, mode="reflect") for image in (a, b))
        values = []
        for row in range(size):
            for column in range(size):
                x = a[row : row + window, column : column + window]
                y = b[row : row + window, column : column + window]
                mx, my = (weights * x).sum(), (weights * y).sum()
                vx, vy = (weights * x * x).sum() - mx**2, (weights * y * y).sum() - my**2
                cov = (weights * x * y).sum() - mx * my
                values.append(
                    (2 * mx * my + 0.01**2)
                    * (2 * cov + 0.03**2)
                    / ((mx**2 + my**2 + 0.01**2) * (vx + vy + 0.03**2))
                )
        by_hand.append(np.mean(values))
    assert ssim(images, rebuilt).tolist() == pytest.approx(by_hand, abs=1e-4)


def test_ssim_of_images_that_are_too_small():
    assert bool(ssim(uniform(2, 1, 2, 2), uniform(2, 1, 2, 2)).isnan().all())


def test_batches_do_not_matter():
    images, rebuilt = uniform(7, 1, 16, 16), uniform(7, 1, 16, 16, seed=1)
    pairs = zip(images.split(3), rebuilt.split(3), strict=True)
    whole = means([(images, rebuilt)], ("sse", "psnr", "ssim"))
    assert means(pairs, ("sse", "psnr", "ssim")) == pytest.approx(whole, rel=1e-5)


def test_figures_and_baselines(context):
    figures = {figure.name: figure for figure in measure(context)}
    assert list(figures) == ["sse", "mse", "psnr", "ssim"]
    train, test = (
        d.images.flatten(1).double().numpy() / 255 for d in (context.train, context.test)
    )
    centred = train - train.mean(0)
    plane = np.linalg.svd(centred, full_matrices=False)[2][:3]
    rebuilt = (test - train.mean(0)) @ plane.T @ plane + train.mean(0)
    sse = figures["sse"]
    assert sse.baselines["pca_unclamped"] == pytest.approx(((rebuilt - test) ** 2).sum(1).mean())
    assert rebuilt.min() < 0
    assert rebuilt.max() > 1
    clipped = rebuilt.clip(0, 1)
    assert sse.baselines["pca"] == pytest.approx(((clipped - test) ** 2).sum(1).mean(), rel=1e-4)
    mean_image = ((test - train.mean(0)) ** 2).sum(1).mean()
    assert sse.baselines["mean_image"] == pytest.approx(mean_image, rel=1e-5)
    images = context.test.images.float() / 255
    own = (context.model.reconstruct(images) - images).square().flatten(1).sum(1).mean()
    assert sse.value == pytest.approx(float(own), rel=1e-5)
    assert figures["mse"].value == pytest.approx(sse.value / 144)
    assert sse.baselines["untrained"] != pytest.approx(sse.value), "other initial weights"
    assert set(figures["ssim"].baselines) == {"mean_image", "pca", "untrained"}
    assert sse.samples == 30
    assert sse.seed is None


def test_repair(context):
    figures = {figure.name: figure for figure in measure_repair(context)}
    assert len(figures) == 2 * len(DAMAGE)
    from zoo.corruption import corrupt

    images = context.test.images.float() / 255
    damaged = corrupt(images, "mask", 0.5, torch.Generator().manual_seed(3))
    figure = figures["repair_mask_0.5_psnr"]
    assert figure.value == pytest.approx(
        float(psnr(images, context.model.reconstruct(damaged)).mean()), rel=1e-4
    )
    assert figure.baselines["corrupted"] == pytest.approx(float(psnr(images, damaged).mean()))
    by_pca = pca_maker(context, 3)(damaged)
    assert figure.baselines["pca"] == pytest.approx(float(psnr(images, by_pca).mean()))
    assert figure.seed == 3
    again = {f.name: f.value for f in measure_repair(context)}
    assert again == {name: f.value for name, f in figures.items()}


@pytest.mark.parametrize("strength", [(0.25, 0.5)])
def test_more_damage_is_worse(context, strength):
    figures = {figure.name: figure for figure in measure_repair(context)}
    little, much = (figures[f"repair_mask_{s}_psnr"].baselines["corrupted"] for s in strength)
    assert little > much


def test_against(tmp_path):
    from zoo import weights
    from zoo.folder import read_config

    images = uniform(8, 1, 12, 12)
    data = Dataset("tiny", "test", (images * 255).byte(), None, "", "")
    folders = []
    for i, rate in enumerate((0.1, 0.2)):
        with torch.random.fork_rng():
            torch.manual_seed(i)
            model = zoo.create("deep_ae", size=12, hidden=[20], latent_dim=3)
        folders.append(tmp_path / str(i))
        facts = {"dataset": "tiny", "licence": "x", "training": {"recipe": {"lr": rate, "a": 1}}}
        weights.save(model, folders[-1], images=images, plugin="latentzoo-ae", facts=facts)
    context = Context(zoo.load(f"local-dir:{folders[0]}"), "", data, data)
    other = zoo.load(f"local-dir:{folders[1]}")
    (figure,) = measure_against(context, read_config(folders[0]), other, read_config(folders[1]))
    assert figure.name == "sse_ablated"
    assert figure.protocol.endswith("of the same model trained with lr = 0.2 instead of 0.1")
    error = (other.reconstruct(data.images / 255) - data.images / 255).square().flatten(1).sum(1)
    assert figure.value == pytest.approx(float(error.mean()), rel=1e-5)
