"""Probes and neighbours against brute force and against each other."""

import numpy as np
import pytest
import torch

import zoo
from zoo.data import Dataset
from zoo.evaluation import recognition
from zoo.evaluation.protocol import Context
from zoo.evaluation.recognition import (
    few,
    fit_linear,
    measure_few,
    measure_neighbours,
    measure_probe,
    neighbours,
    standardisation,
    vote,
)
from zoo.isolation import isolated


def blobs(n, width, classes=3, seed=0, spread=1.0):
    """Overlapping clouds, N x F, and their labels; columns of very different scales."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(classes, (n,), generator=rng)
    points = centres[labels] + spread * torch.randn(n, width, generator=rng)
    return points * torch.logspace(-2, 2, width) + 5, labels


def test_standardisation_by_hand():
    features = torch.tensor([[1.0, 7.0, 0.1], [3.0, 7.0, 0.1]])
    mean, scale = standardisation(features)
    assert mean.tolist() == pytest.approx([2, 7, 0.1])
    assert scale.tolist() == [1, 1, 1], "a constant column keeps its scale"
    points, _ = blobs(9000, 5)
    mean, scale = standardisation(points)
    assert np.allclose(mean, points.double().mean(0))
    assert np.allclose(scale, points.double().std(0, correction=0))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_two_solvers_agree(classes, monkeypatch):
    points, labels = blobs(400, 12, classes, spread=3.0)
    narrow = fit_linear(points, labels * 4)
    monkeypatch.setattr(recognition, "WIDE", 1)
    wide = fit_linear(points, labels * 4)
    queries, _ = blobs(1000, 12, classes, seed=1, spread=3.0)
    assert torch.equal(narrow.classes, torch.arange(classes) * 4)

    # Both stop at the same small gradient, near the same minimum.
    def logits(model):
        scores = queries @ model.weight.T + model.bias
        return scores - scores.mean(1, keepdim=True)

    assert torch.allclose(logits(narrow), logits(wide), atol=0.05)
    assert float((narrow.predict(queries) == wide.predict(queries)).double().mean()) > 0.99


def test_probe_is_the_minimum():
    """The gradient of the objective, written down by hand, vanishes at the solution."""
    points, labels = blobs(300, 6, spread=3.0)
    found = fit_linear(points, labels)
    mean, scale = points.double().mean(0), points.double().std(0, correction=0)
    x = ((points.double() - mean) / scale).numpy()
    weight = (found.weight.double() * scale).numpy()
    bias = (found.bias.double() + found.weight.double() @ mean).numpy()
    logits = x @ weight.T + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    residual = p - np.eye(3)[labels.numpy()]
    gradient = residual.T @ x + weight  # C = 1: sum of losses plus |w|^2 / 2
    assert abs(gradient).max() < 0.1
    assert abs(residual.T @ x).max() > 0.5, "the penalty is felt"


def test_neighbours_by_brute_force():
    references, queries = torch.rand(57, 9) + 100, torch.rand(31, 9) + 100
    distances = ((queries[:, None].double() - references[None].double()) ** 2).sum(2)
    expected = distances.argsort(1)[:, :4]
    assert torch.equal(neighbours(references, queries, 4, batch=7), expected)


@pytest.mark.parametrize(
    ("row", "winner"),
    [([3], 3), ([1, 2, 2], 2), ([1, 2, 2, 1], 1), ([4, 2, 2, 1, 1], 2), ([5, 4, 3], 5)],
    ids=str,
)
def test_vote(row, winner):
    assert vote(torch.tensor([row])).tolist() == [winner]


def test_few():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 4)
    chosen = few(labels, 10, torch.Generator().manual_seed(0))
    assert labels[chosen].bincount().tolist() == [10, 10, 4]
    assert len(chosen.unique()) == 24
    other = few(labels, 10, torch.Generator().manual_seed(1))
    assert not torch.equal(chosen.sort().values, other.sort().values)


@pytest.fixture(scope="module")
def context():
    """Two classes of images that differ by where they are bright; some labels are wrong."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (140,), generator=rng)
    images = torch.rand(140, 1, 12, 12, generator=rng) * 0.5
    images[labels == 1, :, :6] += 0.3
    images = (images * 255).byte()
    labels[:14] = 1 - labels[:14]
    train = Dataset("two", "train", images[:100], labels[:100], "", "")
    test = Dataset("two", "test", images[100:], labels[100:], "", "")
    with isolated(0):  # which gives the initial weights
        model = zoo.create("ae", size=12, latent_dim=8)
    return Context(model, "ae", train, test, seed=1)


def test_measure_probe(context):
    (figure,) = measure_probe(context)
    assert figure.name == "probe"
    assert set(figure.baselines) == {"pixels", "pca", "untrained"}
    features = [context.model.features(d.images / 255) for d in (context.train, context.test)]
    fitted = fit_linear(features[0], context.train.labels)
    assert figure.value == fitted.accuracy(features[1], context.test.labels)
    assert figure.baselines["pixels"] > 0.8


def test_measure_neighbours(context):
    knn1, knn20 = measure_neighbours(context)
    assert (knn1.name, knn20.name) == ("knn1", "knn20")
    train, test = (d.images.flatten(1).double() for d in (context.train, context.test))
    order = torch.cdist(test, train).argsort(1)
    votes = context.train.labels[order]
    right = votes[:, 0] == context.test.labels
    assert knn1.baselines["pixels"] == pytest.approx(float(right.double().mean()))
    ones = votes[:, :20].sum(1)
    clear = ones != 10
    agree = (ones > 10).long()[clear] == context.test.labels[clear]
    by_hand = float(agree.sum()) / 40
    assert by_hand <= knn20.baselines["pixels"] <= by_hand + float((~clear).sum()) / 40


def test_measure_few(context):
    (figure,) = measure_few(context)
    assert figure.name == "few10"
    assert figure.seed == 1
    assert figure.spread > 0
    assert 0.5 < figure.baselines["pixels"] <= 1


def test_baselines_of_the_data_are_measured_once(context, monkeypatch):
    (first,) = measure_probe(context)
    other = Context(
        zoo.create("ae", size=12, latent_dim=4), "ae", context.train, context.test, seed=1
    )
    calls = []
    real = recognition.fit_linear
    monkeypatch.setattr(
        recognition, "fit_linear", lambda *a, **k: calls.append(a[0].shape) or real(*a, **k)
    )
    (second,) = measure_probe(other)
    assert calls == [(100, 4), (100, 4)], "the model and its untrained twin alone"
    assert second.baselines["pixels"] == first.baselines["pixels"]
    changed = Dataset("two", "test", 255 - context.test.images, context.test.labels, "", "")
    (third,) = measure_probe(Context(other.model, "ae", context.train, changed, seed=1))
    assert third.baselines["pixels"] != first.baselines["pixels"], "other data, other baselines"


def test_untrained_is_the_same_network_with_other_weights(context):
    own, twin = context.model.state_dict(), context.untrained.state_dict()
    assert own.keys() == twin.keys()
    assert not torch.equal(own["encoder.0.weight"], twin["encoder.0.weight"])
    before = torch.random.get_rng_state()
    again = Context(context.model, "ae", context.train, context.test, seed=1).untrained
    assert torch.equal(torch.random.get_rng_state(), before), "no global random state is used"
    assert torch.equal(again.state_dict()["encoder.0.weight"], twin["encoder.0.weight"])


def flattened(model):
    """``model`` with an encoder that makes the same code of every image."""
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
    return model


def test_the_untrained_baseline_is_not_the_model_itself(context):
    """The model knows nothing here, and its untrained twin does: the figures must differ."""
    model = flattened(zoo.create("ae", size=12, latent_dim=8))
    blind = Context(model, "ae", context.train, context.test, seed=1)
    with torch.no_grad():
        train, test = (
            blind.untrained.features(d.images / 255) for d in (context.train, context.test)
        )
    labels, answers = context.train.labels, context.test.labels
    most = float((answers == labels.mode().values).double().mean())
    (figure,) = measure_probe(blind)
    assert figure.value == most, "one class for all images"
    assert figure.baselines["untrained"] == fit_linear(train, labels).accuracy(test, answers)
    assert figure.baselines["untrained"] > most
    knn1, _ = measure_neighbours(blind)
    nearest = labels[torch.cdist(test.double(), train.double()).argmin(1)]
    assert knn1.baselines["untrained"] == float((nearest == answers).double().mean())
    (figure,) = measure_few(blind)
    assert figure.baselines["untrained"] > max(figure.value, most)


def test_ten_labels_are_of_train_and_so_is_the_scale(context, monkeypatch):
    """Test images of another scale show where labels and standardisation come from."""
    shifted = Dataset("two", "test", context.test.images // 3, context.test.labels, "", "")
    other = Context(context.model, "ae", context.train, shifted, seed=1, with_baselines=False)
    given, real = [], recognition.fit_linear
    monkeypatch.setattr(
        recognition, "fit_linear", lambda *a, **k: given.append((*a, *k.values())) or real(*a, **k)
    )
    (figure,) = measure_few(other)
    features = {
        split: context.model.features(d.images / 255)
        for split, d in (("train", context.train), ("test", shifted))
    }
    mean, scale = standardisation(features["train"])
    rows = {
        tuple(row): int(y)
        for row, y in zip(features["train"].tolist(), context.train.labels, strict=True)
    }
    scores = []
    assert len(given) == 10
    for drawn, labels, (used_mean, used_scale) in given:
        assert torch.equal(used_mean, mean)
        assert torch.equal(used_scale, scale)
        assert labels.bincount().tolist() == [10, 10]
        assert [rows[tuple(row)] for row in drawn.tolist()] == labels.tolist()
        fitted = real(drawn, labels, (mean, scale))
        scores.append(fitted.accuracy(features["test"], shifted.labels))
    assert figure.value == pytest.approx(sum(scores) / 10)
    draws = {tuple(sorted(map(tuple, drawn.tolist()))) for drawn, *_ in given}
    assert len(draws) == 10, "each draw is another"
