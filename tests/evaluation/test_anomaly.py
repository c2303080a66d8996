"""One class against the others: the area by counting pairs, the PCA by hand, and real trainings."""

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.data import Dataset, load_data
from zoo.errors import DataError
from zoo.evaluation import anomaly
from zoo.evaluation.anomaly import auroc, only, pca_error
from zoo.evaluation.protocol import Context, ProtocolSkipped
from zoo.isolation import isolated
from zoo.sample import sample
from zoo.spec import Preprocessing


def test_auroc_by_counting_pairs():
    rng = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 8, (40,), generator=rng).float()  # with ties
    strange = torch.rand(40, generator=rng) < 0.3
    pairs = list(product(scores[strange].tolist(), scores[~strange].tolist()))
    by_hand = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    assert auroc(scores, strange) == pytest.approx(by_hand)
    assert auroc(strange.float(), strange) == 1, "strange images have the higher scores"


def test_pca_error_by_singular_values():
    rng = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 9, generator=rng) for n in (30, 5))
    mean = train.double().mean(0)
    _, _, rows = torch.linalg.svd(train.double() - mean, full_matrices=False)
    centred = test.double() - mean
    rest = centred - centred @ rows[:4].T @ rows[:4]
    assert torch.allclose(pca_error(train, test, 4), rest.square().sum(1))
    assert pca_error(train, test, 30).shape == (5,), "no more components than there are"


def data(split, classes=(0, 1, 8)):
    images, labels = (torch.from_numpy(a) for a in sample())
    rows = torch.isin(labels, torch.tensor(classes))
    images, labels = images[rows][:, None], labels[rows].long()
    half = slice(0, None, 2) if split == "train" else slice(1, None, 2)
    return Dataset("toy", split, images[half], labels[half], "", "")


def test_only():
    one = only(data("train"), 8)
    assert torch.equal(one.images, data("train").images[data("train").labels == 8])
    assert one.labels is None
    assert one.name == "toy, class 8 alone"


def context(**more):
    with isolated(0):  # which gives the initial weights
        model = zoo.create("ae", hidden=8, latent_dim=4)
    return Context(model=model, name="ae", train=data("train", **more), test=data("test", **more))


class Mean:
    """Finds strange what is far from the mean of the images that it was given."""

    def __init__(self, images):
        self.mean = images.float().mean(0) / 255

    def score(self, images):
        return (images - self.mean).square().flatten(1).sum(1)


def test_measure(monkeypatch):
    given = []

    def trained_on(model, data, *, seed, settings, report):
        given.append((data.name, len(data), seed, settings))
        return Mean(data.images)

    monkeypatch.setattr(anomaly, "trained_on", trained_on)
    figures = list(anomaly.measure(context(), {"epochs": 3}))
    assert [f.name for f in figures] == [
        "oneclass_auroc",
        "oneclass_auroc_0",
        "oneclass_auroc_1",
        "oneclass_auroc_8",
    ]
    counts = torch.bincount(data("train").labels)
    assert given == [(f"toy, class {c} alone", counts[c], 0, {"epochs": 3}) for c in (0, 1, 8)]
    mean, *each = figures
    for label, figure in zip((0, 1, 8), each, strict=True):
        scores = Mean(only(data("train"), label).images).score(data("test").images.float() / 255)
        assert figure.value == pytest.approx(auroc(scores, data("test").labels != label))
        assert f"class {label} alone" in figure.protocol
    assert mean.value == pytest.approx(np.mean([f.value for f in each]))
    assert mean.value > 0.8, "trousers, shirts and bags differ"
    for baseline in ("pca", "untrained"):
        assert mean.baselines[baseline] == pytest.approx(
            np.mean([f.baselines[baseline] for f in each])
        )
    assert mean.baselines["pca"] > 0.8
    assert mean.baselines["untrained"] < 0.7
    assert "epochs=3" in mean.protocol
    assert mean.samples == len(data("test"))


@pytest.mark.slow
def test_real_training_is_repeatable():
    settings = {"epochs": 2, "batch_size": 4, "precision": "fp32"}
    model, shirts = zoo.create("ae", hidden=8, latent_dim=4), only(data("train"), 0)
    first, again = (anomaly.trained_on(model, shirts, seed=1, settings=settings) for _ in range(2))
    assert first.config == model.config
    images = data("test").images.float() / 255
    assert torch.equal(first.score(images), again.score(images))
    other = anomaly.trained_on(model, shirts, seed=2, settings=settings)
    assert not torch.equal(first.score(images), other.score(images))


def test_a_single_class_is_left_out():
    with pytest.raises(ProtocolSkipped, match="has one class"):
        list(anomaly.measure(context(classes=(0,))))


def test_too_few_images_to_train_on():
    with pytest.raises(ProtocolSkipped, match=r"class 0 of toy: .* fewer than a batch"):
        list(anomaly.measure(context(), {"batch_size": 500}))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "known"), [("mnist", 0.957), ("fashion_mnist", 0.905)])
def test_pca_reaches_what_it_is_known_to_reach(name, known):
    grey = Preprocessing(channels=1, height=28, width=28)
    folder = Path(os.environ.get("ZOO_DATA_DIR", "."))
    try:
        train, test = (load_data(name, s, grey, data_dir=folder) for s in ("train", "test"))
    except DataError as error:
        pytest.skip(str(error))
    pixels = [d.images.flatten(1).float() / 255 for d in (train, test)]
    areas = [
        auroc(pca_error(pixels[0][train.labels == c], pixels[1]), test.labels != c)
        for c in range(10)
    ]
    assert np.mean(areas) == pytest.approx(known, abs=0.001)
