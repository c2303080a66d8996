"""Training: what a run leaves, that it is repeatable, and what it refuses."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import zoo
from zoo.data import Dataset
from zoo.errors import DataError, InputError, SettingsError, TrainingError
from zoo.sample import sample
from zoo.training.rng import affine_maps, generator, seeded, warp

MODELS = ("ae", *(pytest.param(name, marks=pytest.mark.slow) for name in ("deep_ae", "dcgan")))


def tensors(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("model", MODELS)
def test_writes_a_run(tmp_path, train, model):
    lines = []
    folder = train(model, tmp_path / "run", report=lines.append)
    assert folder == tmp_path / "run" / "weights"
    logged = [json.loads(t) for t in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert logged == [line for line in lines if "epoch" in line and "step" not in line]
    lines = logged
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


@pytest.mark.parametrize("model", MODELS)
def test_it_learns(tmp_path, train, model):
    lines = []
    more = {"encoder_epochs": 8} if model == "dcgan" else {}
    train(model, tmp_path / "run", report=lines.append, settings={"batch_size": 8, **more})
    lines = [line for line in lines if "epoch" in line and "step" not in line]
    if model == "dcgan":
        lines = [line for line in lines if line["phase"] == "inversion"]
    assert lines[-1]["sse"] < lines[0]["sse"]


@pytest.mark.parametrize("model", MODELS)
def test_same_seed_same_tensors(tmp_path, train, model):
    before = torch.get_rng_state()
    first = tensors(train(model, tmp_path / "a", seed=3))
    assert torch.equal(torch.get_rng_state(), before), "the global random state is left alone"
    torch.rand(5)
    assert same(first, tensors(train(model, tmp_path / "b", seed=3)))
    assert not same(first, tensors(train(model, tmp_path / "c", seed=4)))


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"resume": True}, TrainingError, "has no checkpoint to resume from"),
        ({"settings": {"epoch": 1}}, SettingsError, "Did you mean epochs?"),
        ({"settings": {"speed": 1}}, SettingsError, "no setting 'speed'; it has: epochs=60"),
        ({"settings": {"epochs": "3"}}, SettingsError, "epochs should be of type int"),
        ({"settings": {"epochs": 0}}, SettingsError, "expected epochs from 1"),
        ({"settings": {"lr": -1.0}}, SettingsError, "lr should be a finite number from 0"),
        ({"settings": {"lr": float("nan")}}, SettingsError, "lr should be a finite number"),
        ({"settings": {"precision": "fp8"}}, SettingsError, "auto, fp32 or bf16, got 'fp8'"),
        ({"settings": {"batch_size": 4096}}, TrainingError, "fewer than a batch of 4096"),
        ({"config": {"size": 32}}, DataError, "--config size=28"),
        ({"seed": -1}, InputError, "expected a seed from 0"),
        ({"data": "no-such-folder"}, DataError, "no data set 'no-such-folder'"),
        ({"settings": {"lr": 1e38}}, TrainingError, "Try a lower rate"),
        ({"settings": {"average": 1.0}}, SettingsError, "average should be below 1"),
        ({"settings": {"decay": 0.0}}, SettingsError, "decay should be over 0"),
        ({"device": "quantum"}, TrainingError, "the device 'quantum' cannot be used"),
    ],
    ids=str,
)
def test_refused(tmp_path, train, changes, kind, text):
    with pytest.raises(kind) as caught:
        train("ae", tmp_path / "run", **changes)
    assert text in str(caught.value)
    assert not (tmp_path / "run" / "weights").exists()


def test_a_finished_run_is_not_overwritten(tmp_path, train):
    train("ae", tmp_path / "run")
    with pytest.raises(TrainingError, match="exists already"):
        train("ae", tmp_path / "run")


def test_a_runs_folder(tmp_path, train):
    folder = train("dcgan", tmp_path / "run", checkpoint_every=0)
    run = tmp_path / "run"
    names = {path.name for path in run.iterdir()}
    assert names == {
        "weights", "checkpoint.safetensors", "checkpoint.previous.safetensors", "recipe.json",
        "log.jsonl", "events", "pictures", "losses.png", "run.json",
    }  # fmt: skip
    assert (folder / "README.md").read_text().startswith("---")
    pictures = {path.stem for path in (run / "pictures").iterdir()}
    assert pictures == {"game-0001", "game-0002", "inversion-0001", "inversion-0002"}
    for path in (*(run / "pictures").iterdir(), run / "losses.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 100
    assert next((run / "events").iterdir()).stat().st_size > 100


def test_events_hold_the_losses(tmp_path, train):
    from tensorboardX.event_file_writer import EventFileWriter  # noqa: F401
    from tensorboardX.proto.event_pb2 import Event

    train("ae", tmp_path / "run")
    (path,) = (tmp_path / "run" / "events").iterdir()
    raw, at, seen = path.read_bytes(), 0, {}
    while at < len(raw):  # TFRecord: length, checksum, data, checksum
        length = int.from_bytes(raw[at : at + 8], "little")
        for value in Event.FromString(raw[at + 12 : at + 12 + length]).summary.value:
            seen[value.tag] = value.simple_value
        at += 16 + length
    assert {"reconstruction/sse", "reconstruction/val_sse"} <= seen.keys()
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert seen["reconstruction/sse"] == pytest.approx(last["sse"], rel=1e-4)


def test_averaged_weights_are_what_ships(tmp_path, train):
    plain = tensors(train("ae", tmp_path / "plain"))
    slow = tensors(train("ae", tmp_path / "slow", settings={"average": 0.999}))
    with seeded(0):
        start = zoo.create("ae", hidden=8, latent_dim=4).state_dict()
    key = "decoder.0.bias"
    moved, averaged = (float((t[key].float() - start[key]).norm()) for t in (plain, slow))
    assert 0.5 * moved < averaged < moved, "an average over a thousand is warmed up in 24 steps"


def test_a_clipped_gradient(tmp_path, train):
    """With plain descent, momentum 0.9, 24 steps together go at most 24 x 10 times the norm."""
    settings = {"optimizer": "sgd", "lr": 0.1, "schedule": "constant"}
    with seeded(0):
        start = zoo.create("ae", hidden=8, latent_dim=4).state_dict()
    moved = {}
    for clip in (0.0, 0.01):
        learnt = tensors(train("ae", tmp_path / str(clip), settings={**settings, "clip": clip}))
        weights = [key for key in learnt if "density" not in key]
        moved[clip] = sum(float((learnt[k].float() - start[k]).norm()) ** 2 for k in weights) ** 0.5
    assert moved[0.0] > 1
    assert 0.01 < moved[0.01] <= 24 * 10 * 0.1 * 0.01


@pytest.mark.parametrize(
    "kind", ["mask", *(pytest.param(k, marks=pytest.mark.slow) for k in ("noise", "blur", "salt"))]
)
def test_learning_to_repair(tmp_path, train, kind):
    clean = tensors(train("ae", tmp_path / "clean"))
    settings = {"corrupt": kind, "corrupt_strength": 0.5}
    assert not same(clean, tensors(train("ae", tmp_path / "a", settings=settings)))
    again = tensors(train("ae", tmp_path / "b", settings=settings))
    assert same(again, tensors(train("ae", tmp_path / "c", settings=settings)))


@pytest.mark.slow
def test_repair_aims_at_the_clean_image(tmp_path, train):
    from zoo.corruption import corrupt

    settings = {"epochs": 150, "lr": 5e-3, "batch_size": 32}
    images = torch.from_numpy(sample()[0][:100, None]).float() / 255
    spoiled = corrupt(images, "mask", 0.5, torch.Generator().manual_seed(0))
    errors = {}
    for kind in ("", "mask"):
        more = {**settings, "corrupt": kind, "corrupt_strength": 0.5}
        config = {"hidden": 32, "latent_dim": 16}
        run = tmp_path / f"run{kind}"
        train("ae", run, settings=more, config=config)
        rebuilt = zoo.load(f"local-dir:{run}").reconstruct(spoiled)
        errors[kind] = float((rebuilt - images).square().mean())
    assert errors["mask"] < 0.7 * errors[""]


def test_data_may_be_a_data_set(tmp_path, train):
    from zoo.data import Dataset

    images = torch.from_numpy(sample()[0][:, None])
    data = Dataset("ours", "train", images, None, "memory", "ours")
    folder = train("ae", tmp_path / "run", data=data)
    assert json.loads((folder / "config.json").read_text())["dataset"] == "ours"


@pytest.mark.slow
def test_schedules_and_optimisers_by_timms_names(tmp_path, train):
    for i, settings in enumerate(
        ({"optimizer": "lion"}, {"schedule": "wsd"}, {"optimizer": "sgd"})
    ):
        train("ae", tmp_path / str(i), settings=settings)
    for settings, text in (
        ({"optimizer": "nonsense"}, "optimizer='nonsense' cannot be used"),
        ({"schedule": "nonsense"}, "schedule='nonsense' cannot be used"),
    ):
        with pytest.raises(SettingsError, match=text):
            train("ae", tmp_path / "refused", settings=settings)


def test_affine_maps():
    images = torch.from_numpy(sample()[0][:50, None]).float() / 255
    moved = warp(images, affine_maps(50, 1.0, generator(0)))
    assert moved.shape == images.shape
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert float((moved - images).abs().mean(dim=(1, 2, 3)).min()) > 0.01, "every image is moved"
    assert float((warp(images, affine_maps(50, 1e-6, generator(0))) - images).abs().max()) < 0.01

    def sharpness(x):
        return float(x.diff(dim=2).square().sum())

    turned = warp(images, affine_maps(50, 0.3, generator(0)))
    assert sharpness(turned) > 0.7 * sharpness(images), "bilinear maps leave 0.56"


def test_a_full_name(tmp_path, train):
    """As it has to be written where two plugins declare one model."""
    folder = train("latentzoo-ae:ae", tmp_path / "run")
    assert json.loads((folder / "config.json").read_text())["plugin"] == "latentzoo-ae"


def test_a_model_that_learns_nothing(tmp_path, train):
    with pytest.raises(TrainingError, match="timm:test_vit cannot be trained"):
        train("timm:test_vit", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_images_without_a_label_are_left_out_of_what_learns_from_labels(tmp_path, train):
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(100) % 4 - 2  # -2 and -1 are no classes
    images = torch.randint(0, 256, (100, 1, 28, 28), generator=rng, dtype=torch.uint8)
    data, said = Dataset("some", "train", images, labels, "made here", "MIT"), []
    out = train(
        "dcgan", tmp_path / "run", data=data, report=said.append,
        config={"width": 2, "latent_dim": 3, "classes": 2},
        settings={"epochs": 1, "encoder_epochs": 1, "labels": True, "batch_size": 16},
    )  # fmt: skip
    facts = json.loads((out / "config.json").read_text())["training"]
    assert facts["images"] + facts["validation"] == 50
    notes = [line["note"] for line in said if "note" in line]
    assert notes == ["50 of 100 images have no label: they are left out"]
    known, whole = (
        train("ae", tmp_path / name, data=part, settings={"epochs": 1, "batch_size": 16})
        for name, part in (("known", data.labelled()), ("whole", data))
    )
    counts = [json.loads((w / "config.json").read_text())["training"] for w in (known, whole)]
    assert [c["images"] + c["validation"] for c in counts] == [50, 100]  # where none are asked for


def test_labels_that_cannot_be_used_are_named_when_they_are_asked_for(tmp_path, train):
    images = np.zeros((40, 28, 28), np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.array(["a", "b"] * 20))
    with pytest.raises(TrainingError, match=r"mine has no labels[\s\S]*whole numbers, got <U1 40"):
        train("dcgan", tmp_path / "run", data=tmp_path / "mine.npz",
              config={"latent_dim": 3, "classes": 2}, settings={"labels": True})  # fmt: skip
