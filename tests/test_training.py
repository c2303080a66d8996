"""The training loop: repeatable, resumable, and clear about what it refuses."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

import zoo
from zoo.errors import DataError, InputError, InvalidConfig, TrainingError
from zoo.sample import sample
from zoo.training import make_recipe, random_affine

SMALL = {
    "ae": ({"hidden": 8, "code": 4}, {"epochs": 3}),
    "deep_ae": ({"hidden": [16, 8], "code": 4}, {"epochs": 3}),
    "dcgan": ({"width": 2, "latent": 3}, {"epochs": 2, "encoder_epochs": 2}),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    images, labels = sample()
    parts = {"train_images": images, "train_labels": labels, "test_images": images[:10],
             "test_labels": labels[:10]}  # fmt: skip
    np.savez(folder / "mnist.npz", **parts)
    return folder


def train(model, out, folder, **more):
    config, settings = SMALL[model]
    settings = {**settings, "batch_size": 32, "precision": "fp32", **more.pop("settings", {})}
    more = {"config": config, "data": "mnist", "data_dir": folder, **more}
    return zoo.train(model, out=out, settings=settings, **more)


def tensors(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("model", SMALL)
def test_writes_a_run(tmp_path, data, model):
    lines = []
    folder = train(model, tmp_path / "run", data, report=lines.append)
    assert folder == tmp_path / "run" / "weights"
    logged = [json.loads(t) for t in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert logged == lines
    assert [line["epoch"] for line in lines] == ([1, 2, 1, 2] if model == "dcgan" else [1, 2, 3])
    assert all(line["images_per_second"] > 0 for line in lines)
    assert lines[-1]["seconds_left"] == 0
    config = json.loads((folder / "config.json").read_text())
    assert config["training"]["images"] == 285
    assert config["training"]["validation"] == 15
    assert config["training"]["recipe"]["batch_size"] == 32
    assert config["dataset"] == "mnist"
    assert "CC BY-SA" in config["licence"]
    loaded = zoo.load(f"local-dir:{tmp_path / 'run'}")
    zoo.weights.verify(loaded, folder)


@pytest.mark.parametrize("model", SMALL)
def test_it_learns(tmp_path, data, model):
    lines = []
    train(model, tmp_path / "run", data, report=lines.append, settings={"batch_size": 8})
    if model == "dcgan":
        lines = [line for line in lines if line["phase"] == "inversion"]
    assert lines[-1]["sse"] < lines[0]["sse"]


@pytest.mark.parametrize("model", SMALL)
def test_same_seed_same_tensors(tmp_path, data, model):
    before = torch.get_rng_state()
    first = tensors(train(model, tmp_path / "a", data, seed=3))
    assert torch.equal(torch.get_rng_state(), before), "the global random state is left alone"
    torch.rand(5)
    assert same(first, tensors(train(model, tmp_path / "b", data, seed=3)))
    assert not same(first, tensors(train(model, tmp_path / "c", data, seed=4)))


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("model", "after"), [("ae", 1), ("deep_ae", 2), ("dcgan", 1), ("dcgan", 2), ("dcgan", 3)]
)
def test_resumed_is_bit_identical(tmp_path, data, model, after):
    whole = tensors(train(model, tmp_path / "whole", data))
    seen = []

    def interrupt(line):
        seen.append(line)
        if len(seen) == after + 1:  # the checkpoint of the epoch before is written by then
            raise Stop

    with pytest.raises(Stop):
        train(model, tmp_path / "cut", data, report=interrupt)
    with pytest.raises(TrainingError, match="holds an unfinished run; add --resume"):
        train(model, tmp_path / "cut", data)
    with pytest.raises(TrainingError, match=r"of another run: its recipe is .*'lr'"):
        train(model, tmp_path / "cut", data, resume=True, settings={"lr": 0.5})
    assert same(whole, tensors(train(model, tmp_path / "cut", data, resume=True)))


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"resume": True}, TrainingError, "has no checkpoint to resume from"),
        ({"settings": {"speed": 1}}, InvalidConfig, "no setting 'speed'; it has: epochs=60"),
        ({"settings": {"epochs": "3"}}, InvalidConfig, "epochs should be of type int"),
        ({"settings": {"epochs": 0}}, InvalidConfig, "expected epochs from 1"),
        ({"settings": {"lr": -1.0}}, InvalidConfig, "lr should be a finite number from 0"),
        ({"settings": {"lr": float("nan")}}, InvalidConfig, "lr should be a finite number"),
        ({"settings": {"precision": "fp8"}}, InvalidConfig, "auto, fp32 or bf16, got 'fp8'"),
        ({"settings": {"batch_size": 4096}}, TrainingError, "fewer than a batch of 4096"),
        ({"config": {"size": 32}}, DataError, "--config size=28"),
        ({"seed": -1}, InputError, "expected a seed from 0"),
        ({"data": "no-such-folder"}, DataError, "no data set 'no-such-folder'"),
        ({"settings": {"lr": 1e38}}, TrainingError, "Try a lower rate"),
    ],
    ids=str,
)
def test_refused(tmp_path, data, changes, kind, text):
    with pytest.raises(kind) as caught:
        train("ae", tmp_path / "run", data, **changes)
    assert text in str(caught.value)
    assert not (tmp_path / "run" / "weights").exists()


def test_a_finished_run_is_not_overwritten(tmp_path, data):
    train("ae", tmp_path / "run", data)
    with pytest.raises(TrainingError, match="exists already"):
        train("ae", tmp_path / "run", data)


def test_a_damaged_checkpoint_is_refused(tmp_path, data):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"nonsense")
    with pytest.raises(TrainingError, match="is not a checkpoint"):
        train("ae", tmp_path / "run", data, resume=True)


def test_recipe_is_over_the_models_own():
    recipe = make_recipe(zoo.create("deep_ae").recipe, {"lr": 1, "hidden_weight": 0.0})
    assert (recipe.lr, recipe.hidden_weight, recipe.batch_size) == (1, 0.0, 64)


def test_affine_maps():
    images = torch.from_numpy(sample()[0][:50, None]).float() / 255
    chance = torch.Generator().manual_seed(0)
    moved = random_affine(images, 1.0, chance)
    assert moved.shape == images.shape
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert float((moved - images).abs().mean(dim=(1, 2, 3)).min()) > 0.01, "every image is moved"
    assert float((random_affine(images, 1e-6, chance) - images).abs().max()) < 0.01
