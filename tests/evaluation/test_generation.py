"""Each measure of generated images against the formula by hand, and the protocol as a whole."""

import importlib
import math
import os
import urllib.error
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

import zoo
from zoo.data import Dataset, ImageFile
from zoo.data.imagefile import write
from zoo.evaluation import generation
from zoo.evaluation.generation import (
    class_shares,
    frechet_distance,
    inception_distances,
    kernel_distance,
    manifolds,
    nearest_accuracy,
)
from zoo.evaluation.protocol import Context, ProtocolSkipped
from zoo.sample import sample


def points(n, seed, shift=0.0, width=4):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=rng) @ torch.diag(
        torch.arange(1.0, width + 1)
    ) + shift  # fmt: skip


def test_frechet_by_matrix_roots():
    real, made = points(80, 0), points(60, 1, 0.5)
    a, b = real.double().numpy(), made.double().numpy()
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    by_hand = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_distance(real, made) == pytest.approx(by_hand, rel=1e-9)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)


def test_frechet_of_two_gaussians_in_one_dimension():
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(200_000, 1, generator=rng)
    made = 3 + 2 * torch.randn(200_000, 1, generator=rng)
    assert frechet_distance(real, made) == pytest.approx(3**2 + (2 - 1) ** 2, rel=0.02)


def test_kernel_by_two_loops():
    real, made = points(30, 0), points(30, 1, 0.5)

    def kernel(x, y):
        return (float(x.double() @ y.double()) / 4 + 1) ** 3

    def within(x):
        return sum(kernel(x[i], x[j]) for i in range(30) for j in range(30) if i != j) / (30 * 29)

    across = sum(kernel(a, b) for a in real for b in made) / 900
    mean, spread = kernel_distance(real, made)  # all subsets of 30 of 30 are the same
    assert mean == pytest.approx(within(real) + within(made) - 2 * across)
    assert spread == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_kernel_is_repeatable_and_leaves_chance_alone():
    real, made = points(1200, 0), points(1500, 1, 0.5)
    before = torch.get_rng_state()
    first = kernel_distance(real, made, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert first == kernel_distance(real, made, seed=1)
    assert first != kernel_distance(real, made, seed=2)
    assert first[1] > 0


def manifolds_by_loops(real, made, k):
    real, made = real.double().numpy(), made.double().numpy()

    def distance(x, y):
        return math.sqrt(((x - y) ** 2).sum())

    def radius(x, among):
        return sorted(distance(x, y) for y in among)[k]  # the first is itself

    real_radii = [radius(x, real) for x in real]
    made_radii = [radius(x, made) for x in made]
    within = [
        [distance(x, y) <= r for x, r in zip(real, real_radii, strict=True)] for y in made
    ]  # M x N: is the generated y in the ball of the real x
    return {
        "precision": np.mean([any(row) for row in within]),
        "recall": np.mean(
            [any(distance(x, y) <= r for y, r in zip(made, made_radii, strict=True)) for x in real]
        ),
        "density": np.sum(within) / (k * len(made)),
        "coverage": np.mean(np.any(within, axis=0)),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_manifolds_by_loops(k, shift):
    real, made = points(40, 0), points(25, 1, shift)
    assert manifolds(real, made, k) == pytest.approx(manifolds_by_loops(real, made, k))


def test_manifolds_in_parts():
    real, made = points(1100, 0), points(2300, 1, 1.0)
    whole = torch.cdist(made.double(), real.double())
    inside = whole <= generation._radii(real.double(), 5)
    got = manifolds(real, made)
    assert got["precision"] == pytest.approx(float(inside.any(1).double().mean()))
    assert got["coverage"] == pytest.approx(float(inside.any(0).double().mean()))
    prc = pytest.importorskip("torch_fidelity.metric_prc")
    precision, recall = prc.calculate_precision_recall_full(made.double(), real.double(), 5)
    assert (got["precision"], got["recall"]) == pytest.approx((precision, recall))


def test_a_generator_of_one_image_covers_nothing():
    real = points(200, 0)
    got = manifolds(real, real[:1].repeat(50, 1))
    assert got["precision"] == 1
    assert got["recall"] <= 1 / 200
    assert got["coverage"] < 0.1


def test_class_shares():
    classes = torch.tensor([0, 0, 2, 2, 2, 2, 4, 4])
    covered, entropy = class_shares(classes, 10)
    assert covered == 3
    assert entropy == pytest.approx(-(2 * 0.25 * math.log(0.25) + 0.5 * math.log(0.5)))
    assert class_shares(torch.arange(10), 10) == (10, pytest.approx(math.log(10)))
    assert class_shares(torch.zeros(5, dtype=torch.long), 10) == (1, 0)


def test_nearest_by_brute_force():
    references, queries = points(60, 0), points(40, 1)
    labels, answers = torch.arange(60) % 3, torch.arange(40) % 3
    nearest = [min(range(60), key=lambda i: float((references[i] - q).norm())) for q in queries]
    by_hand = np.mean([int(labels[i]) == int(y) for i, y in zip(nearest, answers, strict=True)])
    assert nearest_accuracy(references, labels, queries, answers) == pytest.approx(by_hand)


class Noisy:
    """Generates the train part with some noise: all classes, near but not the same."""

    device = torch.device("cpu")

    def __init__(self, images):
        self.images = images

    def generate(self, n, *, seed):
        rng = torch.Generator().manual_seed(seed)
        which = torch.randint(0, len(self.images), (n,), generator=rng)
        images = self.images[which].float() / 255
        return (images + 0.03 * torch.randn(images.shape, generator=rng)).clamp(0, 1)


@pytest.fixture
def context(monkeypatch):
    monkeypatch.setattr(generation, "SAMPLES", 100)
    monkeypatch.setattr(generation, "REFERENCES", 150)
    images, labels = (torch.from_numpy(a) for a in sample())
    parts = [
        Dataset("fashion_mnist", split, images[rows][:, None], labels[rows].long(), "", "")
        for split, rows in (("train", slice(0, 150)), ("test", slice(150, 300)))
    ]
    return Context(model=Noisy(parts[0].images), name="noisy", train=parts[0], test=parts[1])


def test_measure(context):
    figures = {f.name: f for f in generation.measure(context)}
    assert list(figures) == [
        *("frechet", "kernel", "precision", "recall", "density", "coverage"),
        *("classes_covered", "class_entropy", "generated_1nn"),
    ]
    frechet = figures["frechet"]
    assert 0 < frechet.baselines["train_set"] < frechet.value < frechet.baselines["pca"]
    assert figures["coverage"].baselines["train_set"] > figures["coverage"].baselines["pca"]
    assert figures["classes_covered"].value == 10
    assert figures["class_entropy"].value == pytest.approx(math.log(10), abs=0.2)
    nearest = figures["generated_1nn"]
    assert 0.5 < nearest.value <= nearest.baselines["train_set"] + 0.1
    assert nearest.baselines.keys() == {"train_set"}
    assert figures["kernel"].spread is not None
    assert [f.value for f in generation.measure(context)] == [f.value for f in figures.values()]


class OfClasses(Noisy):
    """A generator of classes: code n is the n-th image of the train part, asked for by name."""

    def __init__(self, images, classes):
        super().__init__(images)
        self.classes = classes

    def _sample_codes(self, n, generator):
        return torch.randint(0, len(self.images), (n, 1), generator=generator)

    def classes_of(self, codes):
        return None if self.classes is None else self.classes[codes[:, 0]]

    def decode(self, codes):
        return self.images[codes[:, 0]].float() / 255


def test_images_that_lie_in_a_file_are_measured_alike(context, tmp_path, monkeypatch):
    in_file = {}
    for split in ("train", "test"):
        data = context.data(split)
        write([data.images], len(data), tuple(data.images.shape[1:]), tmp_path / split)
        in_file[split] = replace(data, images=ImageFile(tmp_path / split))
    expected = list(generation.measure(context))
    monkeypatch.setattr("zoo.evaluation.protocol._OF_DATA", {})  # else it is not measured again
    assert list(generation.measure(replace(context, **in_file))) == expected


def figure(context, name="generated_1nn"):
    return next(f for f in generation.measure(context) if f.name == name)


def test_a_generator_of_classes_labels_its_own_images(context):
    """Even where they are not what the classifier sees in them."""
    images, labels = context.train.images, context.train.labels
    context.model = OfClasses(images, labels)
    right = figure(context)
    assert "labelled by the class that its code asked for" in right.protocol
    assert right.value == pytest.approx(right.baselines["train_set"], abs=0.15)
    context.model = OfClasses(images, (labels + 1) % 10)
    wrong = figure(context)
    assert wrong.value < 0.2 < 0.5 < right.value
    made, asked = generation.generated_classes(context, 20)
    drawn = [int((images == image).flatten(1).all(1).nonzero()[0, 0]) for image in made]
    assert torch.equal(asked, (labels[drawn] + 1) % 10)


def test_a_model_that_could_know_classes_but_does_not(context):
    context.model = OfClasses(context.train.images, None)
    assert "labelled by the zoo's classifier" in figure(context).protocol
    assert figure(context).value > 0.5


def test_other_data_are_left_out(context):
    context.test = Dataset("holidays", "test", context.test.images, None, "", "")
    with pytest.raises(ProtocolSkipped, match="ships no classifier for holidays"):
        list(generation.measure(context))


def test_other_sizes_are_left_out(context):
    context.test = Dataset("mnist", "test", context.test.images[..., :20, :20], None, "", "")
    with pytest.raises(ProtocolSkipped, match="ships no classifier for mnist"):
        list(generation.measure(context))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Where torch.hub keeps what it has fetched, and nothing is to be fetched."""

    def offline(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known\nand more")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("was-run"),))


def test_a_pickle_for_inception_runs_nothing(hub, monkeypatch):
    monkeypatch.chdir(hub)
    importlib.import_module("torch_fidelity")  # which imports torch's compiler, and that sets one
    environment = dict(os.environ)
    torch.save({"weight": Evil()}, hub / "weights-inception-2015-12-05-6726825d.pth")
    images = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    with pytest.raises(ProtocolSkipped, match="Inception's weights cannot be fetched"):
        inception_distances(images, images)
    assert not (hub / "was-run").exists()
    assert environment == os.environ


def test_inception_without_weights(hub, capsys):
    """What happens offline, in torch-fidelity's own words; none of them into --json's output."""
    images = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    with pytest.raises(
        ProtocolSkipped, match=r"^Inception's weights cannot be fetched: .*not known$"
    ):
        inception_distances(images, images)
    assert capsys.readouterr().out == ""


def test_inception_with_weights(context, hub, monkeypatch):
    """What torch-fidelity is asked, and where its answers go; its weights are not here."""
    tensors = {"weight": torch.arange(3.0)}
    torch.save(tensors, hub / "weights-inception-2015-12-05-6726825d.pth")
    asked = []

    def calculate_metrics(*, input1, input2, feature_extractor_weights_path, **settings):
        given = torch.load(feature_extractor_weights_path, weights_only=True)
        assert torch.equal(given["weight"], tensors["weight"])
        asked.append((input1, input2, settings))
        return {
            "frechet_inception_distance": 10.0 / len(asked),
            "kernel_inception_distance_mean": 2.0,
            "kernel_inception_distance_std": 0.5,
            "inception_score_mean": 3.0,
            "inception_score_std": 0.25,
        }

    monkeypatch.setattr("torch_fidelity.calculate_metrics", calculate_metrics)
    figures = {f.name: f for f in generation.measure_inception(context)}
    assert list(figures) == ["inception_frechet", "inception_kernel", "inception_score"]
    frechet = figures["inception_frechet"]
    assert (frechet.value, frechet.baselines) == (10, {"train_set": 5})
    assert figures["inception_score"].spread == 0.25
    (made, real, settings), (train, again, _) = asked
    assert [len(s) for s in (made, real, train, again)] == [100, 150, 100, 150]
    assert (made[0].shape, made[0].dtype) == ((3, 28, 28), torch.uint8)
    assert torch.equal(real[3][2], context.test.images[3, 0])
    assert all(settings[metric] for metric in ("fid", "kid", "isc"))


def test_as_many_images_as_one_asks_for(context):
    figures = {f.name: f for f in generation.measure(replace(context, samples=40))}
    assert {f.samples for name, f in figures.items() if name != "generated_1nn"} == {40}
    assert "of 40 generated images" in figures["frechet"].protocol
    assert "among 40 generated images" in figures["class_entropy"].protocol
    assert "that knows 40 generated images" in figures["generated_1nn"].protocol
    more = {f.name: f for f in generation.measure(context)}
    assert more["frechet"].samples == 100, "baselines of other numbers are not taken for these"
    assert more["frechet"].baselines != figures["frechet"].baselines


@pytest.mark.parametrize("name", ["dcgan", "vae", "ae", "pca"])
def test_images_made_by_batches_are_those_of_generate(name, tmp_path):
    if name in ("ae", "pca"):  # whose density has to be fitted
        model = zoo.load(f"{name}.mnist") if name == "pca" else zoo.load("deep_ae.mnist")
    else:
        config = {"dcgan": {"width": 2, "latent_dim": 3}, "vae": {"hidden": 8, "latent_dim": 3}}[
            name
        ]
        model = zoo.create(name, **config)
    told = []
    context = Context(model, name, None, None, seed=3, advance=lambda *step: told.append(step))
    got = generation.generated(context, 1001)
    expected = (model.generate(1001, seed=3) * 255).round().to(torch.uint8)
    assert torch.equal(got, expected)
    parts = math.ceil(1001 / model._at_once)
    assert parts > 1
    assert [step[1:] for step in told] == [(part, parts) for part in range(parts + 1)]
