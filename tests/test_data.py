"""Named data sets are found in the documented places; folders of pictures are read."""

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data import load_data, split_validation
from zoo.errors import DataError, ImageError
from zoo.spec import Preprocessing

GREY = Preprocessing(channels=1, height=28, width=28)
CHANCE = np.random.default_rng(0)
IMAGES = CHANCE.integers(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 10


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path, monkeypatch):
    """No cache, no network, no package of the machine: only what a test puts there."""
    import torchvision.datasets as tv

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ZOO_DATA_DIR", raising=False)
    for kind in (tv.MNIST, tv.FashionMNIST):
        monkeypatch.setattr(kind, "mirrors", ["http://127.0.0.1:9/"])


def write_npz(path, **changes):
    parts = {f"{s}_{k}": v for s in ("train", "test")
             for k, v in (("images", IMAGES), ("labels", LABELS))}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{k: v for k, v in {**parts, **changes}.items() if v is not None})


def write_idx(folder, ending=""):
    folder.mkdir(parents=True, exist_ok=True)
    open_ = gzip.open if ending else open
    for split in ("train", "t10k"):
        with open_(folder / f"{split}-images-idx3-ubyte{ending}", "wb") as file:
            file.write(struct.pack(">4i", 2051, *IMAGES.shape) + IMAGES.tobytes())
        with open_(folder / f"{split}-labels-idx1-ubyte{ending}", "wb") as file:
            file.write(struct.pack(">2i", 2049, len(LABELS)) + LABELS.tobytes())


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_npz(folder / "mnist.npz"),
        lambda folder: write_idx(folder),
        lambda folder: write_idx(folder, ".gz"),
        lambda folder: write_idx(folder / "MNIST" / "raw"),
    ],
    ids=["npz", "idx", "idx.gz", "torchvision"],
)
def test_layouts(tmp_path, write, split):
    write(tmp_path / "data")
    data = load_data("mnist", split, GREY, data_dir=tmp_path / "data")
    assert torch.equal(data.images, torch.from_numpy(IMAGES)[:, None])
    assert data.images.dtype == torch.uint8
    assert data.labels.tolist() == LABELS.tolist()
    assert "CC BY-SA" in data.licence
    first = next(data.batches(5))
    assert torch.equal(first, torch.from_numpy(IMAGES[:5, None]).float() / 255)


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    write_npz(tmp_path / "data" / "mnist.npz")
    monkeypatch.setenv("ZOO_DATA_DIR", str(tmp_path / "data"))
    assert len(load_data("mnist", "train", GREY)) == 12


def test_the_cache_is_looked_into(tmp_path):
    write_idx(tmp_path / "cache" / "latentzoo" / "data" / "MNIST" / "raw")
    assert len(load_data("mnist", "train", GREY)) == 12


def test_not_found_says_where_it_looked(tmp_path):
    with pytest.raises(DataError) as caught:
        load_data("mnist", "train", GREY, data_dir=tmp_path / "data")
    text = str(caught.value)
    for place in (
        tmp_path / "data" / "mnist.npz",
        tmp_path / "data" / "train-images-idx3-ubyte",
        tmp_path / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte",
        tmp_path / "cache" / "latentzoo" / "data" / "mnist.npz",
        "torchvision's download",
        "--data-dir",
    ):
        assert str(place) in text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"train_labels": None}, "train_labels"),
        ({"train_images": IMAGES.astype(np.float32)}, "expected uint8 images"),
        ({"train_images": IMAGES[:5]}, "as many labels"),
        ({"train_images": np.array([{}], dtype=object)}, "does not hold"),  # a pickle
    ],
)
def test_wrong_npz(tmp_path, changes, text):
    write_npz(tmp_path / "mnist.npz", **changes)
    with pytest.raises(DataError, match=r"mnist\.npz") as caught:
        load_data("mnist", "train", GREY, data_dir=tmp_path)
    assert text in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"PK\x03\x04 cut off"])
def test_damaged_npz(tmp_path, data):
    (tmp_path / "mnist.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"mnist\.npz"):
        load_data("mnist", "train", GREY, data_dir=tmp_path)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_damaged_idx(tmp_path, ending):
    write_idx(tmp_path, ending)
    path = tmp_path / f"train-images-idx3-ubyte{ending}"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="is not an idx file"):
        load_data("mnist", "train", GREY, data_dir=tmp_path)


def test_a_folder(tmp_path):
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    (tmp_path / "notes.txt").write_text("hello")
    data = load_data(str(tmp_path), "train", GREY)
    assert torch.equal(data.images[:, 0], torch.from_numpy(IMAGES))
    assert data.labels is None
    assert [(path.name, reason) for path, reason in data.skipped] == [
        ("notes.txt", "its name has no ending of a picture")
    ]
    with pytest.raises(ImageError, match=r"notes\.txt"):
        load_data(str(tmp_path), "train", GREY, strict=True)


def test_other_shape_than_the_models(tmp_path):
    write_npz(tmp_path / "mnist.npz")
    wanted = Preprocessing(channels=3, height=32, width=32)
    with pytest.raises(DataError, match="--config size=28 --config channels=1"):
        load_data("mnist", "train", wanted, data_dir=tmp_path)


def test_unknown_name(tmp_path):
    with pytest.raises(DataError, match="no data set 'mnits': expected mnist, fashion_mnist, cifar10"):
        load_data("mnits", "train", GREY)


def test_validation_part(tmp_path):
    write_npz(tmp_path / "mnist.npz")
    data = load_data("mnist", "train", GREY, data_dir=tmp_path)
    chosen, held_out = split_validation(data, 0.25, seed=5)
    assert len(held_out) == 3
    assert sorted([*chosen.tolist(), *held_out.tolist()]) == list(range(12))
    again, _ = split_validation(data, 0.25, seed=5)
    assert torch.equal(chosen, again)
    assert not torch.equal(chosen, split_validation(data, 0.25, seed=6)[0])
