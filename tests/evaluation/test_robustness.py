"""The probe under damage and on a long tail."""

import pytest
import torch

import zoo
from zoo.corruption import corrupt
from zoo.data import Dataset
from zoo.evaluation.protocol import Context
from zoo.evaluation.recognition import fit_linear
from zoo.evaluation.robustness import long_tail, measure
from zoo.isolation import isolated


def test_long_tail():
    labels = torch.arange(5).repeat(1000)[torch.randperm(5000)]
    chosen = long_tail(labels, 100, torch.Generator().manual_seed(0))
    assert labels[chosen].bincount().tolist() == [1000, 316, 100, 32, 10]
    assert len(chosen.unique()) == len(chosen)


def test_long_tail_of_few_images_keeps_every_class():
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    chosen = long_tail(labels, 100, torch.Generator().manual_seed(0))
    assert labels[chosen].bincount().tolist() == [2, 1, 1]


@pytest.fixture(scope="module")
def context():
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (360,), generator=rng)
    images = torch.rand(360, 1, 12, 12, generator=rng) * 0.6
    for label in range(3):
        images[labels == label, :, 4 * label : 4 * label + 4] += 0.15
    images = (images * 255).byte()
    train = Dataset("three", "train", images[:240], labels[:240], "", "")
    test = Dataset("three", "test", images[240:], labels[240:], "", "")
    with isolated(0):  # which gives the initial weights
        model = zoo.create("ae", size=12, latent_dim=8)
    return Context(model, "ae", train, test, seed=2)


def test_measure(context):
    noise, mask, tail = measure(context)
    assert [f.name for f in (noise, mask, tail)] == [
        "robust_noise",
        "robust_mask",
        "robust_longtail",
    ]
    train = context.train.images.flatten(1).float() / 255
    clean = fit_linear(train, context.train.labels)
    images = context.test.images.float() / 255
    masked = corrupt(images, "mask", 0.5, torch.Generator().manual_seed(2)).flatten(1)
    assert mask.baselines["pixels"] == clean.accuracy(masked, context.test.labels)
    assert mask.baselines["pixels"] < clean.accuracy(images.flatten(1), context.test.labels)
    part = long_tail(context.train.labels, 100, torch.Generator().manual_seed(2))
    fitted = fit_linear(train[part], context.train.labels[part])
    assert tail.baselines["pixels"] == fitted.accuracy(images.flatten(1), context.test.labels)
    assert all(f.seed == 2 and f.samples == 120 for f in (noise, mask, tail))
