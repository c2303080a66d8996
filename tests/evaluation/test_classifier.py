"""The shipped classifiers are what their records say, and are read strictly."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from zoo.data import Dataset, load_data
from zoo.errors import CorruptWeights, DataError, TensorMismatch, UnsafeWeights, WeightsError
from zoo.evaluation import classifier
from zoo.evaluation.classifier import (
    FOLDER,
    RECIPES,
    Classifier,
    ClassifierRecipe,
    has_classifier,
    load_classifier,
    main,
    measured,
    save_classifier,
    train_classifier,
)
from zoo.sample import sample

DATA = ("mnist", "fashion_mnist")
LEAST = {"mnist": 0.99, "fashion_mnist": 0.91}


def record(data, folder=FOLDER):
    return json.loads((folder / data / "config.json").read_text())


def toy(n=200):
    images, labels = sample()
    return Dataset("fashion_mnist", "train", torch.from_numpy(images[:n, None]),
                   torch.from_numpy(labels[:n]).long(), "", "MIT")  # fmt: skip


@pytest.mark.parametrize("data", DATA)
def test_shipped(data):
    network = load_classifier(data)
    assert not network.training
    assert sum(p.numel() for p in network.parameters()) == record(data)["parameters"] < 150_000
    features = network.features(torch.rand(3, 1, 28, 28))
    assert features.shape == (3, network.num_features)
    logits = network(torch.rand(3, 1, 28, 28))
    assert (logits.shape, logits.requires_grad) == ((3, 10), False)
    assert record(data)["test_accuracy"] >= LEAST[data]
    assert record(data)["recipe"] == vars(RECIPES[data])


def test_the_sample_is_recognised():
    images, labels = sample()
    images, labels = torch.from_numpy(images[:, None]), torch.from_numpy(labels).long()
    assert measured(load_classifier("fashion_mnist"), images, labels) > 0.9


def test_none_for_other_data():
    assert has_classifier("mnist")
    assert not has_classifier("cifar10")
    with pytest.raises(DataError, match=r"no classifier for 'cifar10'.*fashion_mnist, mnist"):
        load_classifier("cifar10")


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(FOLDER / "mnist", tmp_path / "mnist")
    return tmp_path


def test_a_changed_byte_is_refused(copy):
    path = copy / "mnist" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptWeights, match="sha256"):
        load_classifier("mnist", copy)


def test_a_pickle_is_refused(copy):
    (copy / "mnist" / "model.pt").write_bytes(b"")
    with pytest.raises(UnsafeWeights):
        load_classifier("mnist", copy)


def test_tensors_of_another_network_are_refused(copy):
    (copy / "mnist" / "model.safetensors").unlink()
    other = Classifier()
    other.head = torch.nn.Linear(96, 7)
    save_classifier(other, copy / "mnist", {})
    with pytest.raises(TensorMismatch, match=r"head\.weight"):
        load_classifier("mnist", copy)


@pytest.mark.parametrize("text", ["{}", '{"size": 3}'])
def test_a_record_without_a_checksum_is_refused(copy, text):
    (copy / "mnist" / "config.json").write_text(text)
    with pytest.raises(WeightsError, match="size and sha256"):
        load_classifier("mnist", copy)


SMALL = ClassifierRecipe(epochs=6, batch_size=20, flip=True)


@pytest.mark.slow
def test_training_learns_and_is_repeatable():
    before = torch.get_rng_state()
    lines = []
    network, _ = train_classifier(toy(), SMALL, report=lines.append)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(lines) == 6
    assert measured(network, toy().images, toy().labels) > 0.5
    again, _ = train_classifier(toy(), SMALL)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(),
                                                 strict=True))  # fmt: skip


@pytest.mark.slow
def test_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(classifier, "load_data", lambda name, split, *args, **more: toy())
    monkeypatch.setitem(RECIPES, "fashion_mnist", SMALL)
    seen = []

    def measured(network, *data):
        seen.append(network.head.weight.clone())
        return classifier_measured(network, *data)

    classifier_measured = classifier.measured
    monkeypatch.setattr(classifier, "measured", measured)
    ran = CliRunner().invoke(main, ["--data", "fashion_mnist", "--out", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    assert "test accuracy" in ran.output
    written = record("fashion_mnist", tmp_path)
    stored = (tmp_path / "fashion_mnist" / "model.safetensors").read_bytes()
    assert written["sha256"] == hashlib.sha256(stored).hexdigest()
    network = load_classifier("fashion_mnist", tmp_path)
    assert torch.equal(seen[-1], network.head.weight), "what is measured is what is stored"
    accuracy = measured(network, toy().images, toy().labels)
    assert written["test_accuracy"] == pytest.approx(accuracy, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("data", DATA)
def test_accuracy_comes_out_again(data):
    folder = Path(os.environ.get("ZOO_DATA_DIR", "."))
    try:
        test = load_data(data, "test", classifier.IMAGES, data_dir=folder)
    except DataError as error:
        pytest.skip(str(error))
    accuracy = measured(load_classifier(data), test.images, test.labels)
    assert accuracy == pytest.approx(record(data)["test_accuracy"], abs=5e-4)
