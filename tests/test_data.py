"""Named data sets are found in the documented places; folders, .npz and Parquet are read."""

import gzip
import hashlib
import io
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import zoo.data.folder
from zoo.data import NAMED, ImageFile, ImageRows, imagefile, load_data, split_validation
from zoo.errors import DataError, ImageError
from zoo.images import decode_many
from zoo.spec import Preprocessing

GREY = Preprocessing(channels=1, height=28, width=28)
CHANCE = np.random.default_rng(0)
IMAGES = CHANCE.integers(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 10


@pytest.fixture(scope="module")
def real_data():
    """Where real data sets lie, as the environment says before a test hides it."""
    return Path(os.environ["ZOO_DATA_DIR"])


@pytest.fixture(autouse=True)
def nowhere_else(request, tmp_path, monkeypatch):
    """No cache, no network, no package of the machine: only what a test puts there."""
    import torchvision.datasets as tv

    if "real_data" in request.fixturenames:
        request.getfixturevalue("real_data")
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
    assert len(load_data(str(tmp_path), "train", GREY, strict=True)) == len(IMAGES)
    (tmp_path / "bad.png").write_text("hello")
    with pytest.raises(ImageError, match=r"bad\.png"):
        load_data(str(tmp_path), "train", GREY, strict=True)


def test_other_shape_than_the_models(tmp_path):
    write_npz(tmp_path / "mnist.npz")
    wanted = Preprocessing(channels=3, height=32, width=32)
    with pytest.raises(DataError, match="--config size=28 --config channels=1"):
        load_data("mnist", "train", wanted, data_dir=tmp_path)


def test_unknown_name(tmp_path):
    with pytest.raises(DataError, match="no data set 'mnits': expected mnist, fashion_mnist, "):
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


# -- folders, .npz and Parquet -------------------------------------------------------------------

COLOUR = Preprocessing(channels=3, height=16, width=16)
PIXELS = CHANCE.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
EXPECTED = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(folder: Path, names: list[str]) -> Path:
    """Picture i of PIXELS under the i-th name, in the order of names."""
    for name, pixels in zip(sorted(names), PIXELS, strict=False):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels))
    return folder


def many(folder: Path) -> Path:
    return write_folder(folder, [f"{i:02}.png" for i in range(40)])


def test_subfolders_are_classes(tmp_path):
    names = ["cat/0.png", "cat/1.png", "dog/0.png", "owl/0.png"]
    write_folder(tmp_path, names)
    (tmp_path / "dog" / "notes.txt").write_text("good")
    (tmp_path / "cat" / "2.png").write_bytes(b"damaged")
    data = load_data(str(tmp_path), "train", COLOUR)
    assert data.classes == ("cat", "dog", "owl")
    assert data.labels.tolist() == [0, 0, 1, 2]
    assert torch.equal(data.images, EXPECTED[:4])
    assert {path.name for path, _ in data.skipped} == {"2.png", "notes.txt"}
    assert data.split == "all"


@pytest.mark.parametrize(
    "names", [["cat/0.png", "dog/0.png", "1.png"], ["cat/0.png", "dog/small/0.png"], ["a/0.png"]]
)
def test_other_subfolders_are_no_classes(tmp_path, names):
    data = load_data(str(write_folder(tmp_path, names)), "train", COLOUR)
    assert data.labels is None
    assert data.classes == ()
    assert len(data) == len(names)


def test_a_folder_has_parts(tmp_path):
    names = ["train/cat/0.png", "train/dog/0.png", "test/dog/0.png", "test/owl/0.png", "x.png"]
    write_folder(tmp_path, names)
    train, test = (load_data(str(tmp_path), split, COLOUR) for split in ("train", "test"))
    assert (train.split, len(train), test.split, len(test)) == ("train", 2, "test", 2)
    assert train.classes == test.classes == ("cat", "dog", "owl")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1], [1, 2])
    assert torch.equal(train.images, EXPECTED[2:4])
    with pytest.raises(DataError, match="expected the part train or test, got 'all'"):
        load_data(str(tmp_path), "all", COLOUR)


def test_an_empty_folder_and_a_link_to_nowhere(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        load_data(str(tmp_path), "train", COLOUR)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match=r"out of 1 files\n.*gone\.png: there is no such file"):
        load_data(str(tmp_path), "train", COLOUR)


@pytest.mark.parametrize("memory", [None, 0])
def test_a_folder_that_vanishes_is_named(tmp_path, memory, monkeypatch):
    folder = many(tmp_path / "pictures")

    def gone(*args):
        shutil.rmtree(folder)
        return decode_many(*args)

    monkeypatch.setattr(zoo.data.folder, "decode_many", gone)
    with pytest.raises(DataError, match=r"00\.png was there .*Type the same again"):
        load_data(str(folder), "train", COLOUR, memory=memory, cache=tmp_path / "cache")
    assert list(tmp_path.rglob("*.np*")) == []


def test_progress_is_told(tmp_path):
    seen = []
    folder = str(many(tmp_path))
    load_data(folder, "train", COLOUR, progress=lambda done, of: seen.append((done, of)))
    assert seen == sorted(seen)
    assert seen[-1] == (40, 40)


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("images", ["images", "train_images"])
@pytest.mark.parametrize("memory", [None, 0])
def test_npz(tmp_path, labels, images, memory):
    arrays = {images: PIXELS}
    if labels:
        arrays[images.replace("images", "labels")] = np.arange(40)
    np.savez_compressed(tmp_path / "mine.npz", **arrays)
    data = load_data(str(tmp_path / "mine.npz"), "train", COLOUR, memory=memory, cache=tmp_path)
    assert torch.equal(data.images[:], EXPECTED)
    assert (data.labels.tolist() == list(range(40))) if labels else (data.labels is None)
    assert (data.name, data.split) == ("mine", "all" if images == "images" else "train")
    with pytest.raises(DataError, match="--config size=16 --config channels=3"):
        load_data(str(tmp_path / "mine.npz"), "train", GREY)
    if images == "train_images":
        with pytest.raises(DataError, match="does not hold test_images or images"):
            load_data(str(tmp_path / "mine.npz"), "test", COLOUR)


def write_parquet(path: Path, start: int, stop: int, plain: bool = False, **more) -> None:
    pictures = [png(pixels) for pixels in PIXELS[start:stop]]
    column = (
        pictures if plain else [{"bytes": p, "path": f"{i}.png"} for i, p in enumerate(pictures)]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({"image": column, "label": list(range(start, stop)), **more})
    pyarrow.parquet.write_table(table, path, row_group_size=7)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("memory", [None, 0])
def test_parquet(tmp_path, plain, memory):
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", 0, 20, plain)
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", 20, 30, plain)
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", 30, 40, plain)
    how = {"memory": memory, "cache": tmp_path / "cache"}
    train = load_data(str(tmp_path), "train", COLOUR, **how)
    assert torch.equal(train.images[:], EXPECTED[:30])
    assert train.labels.tolist() == list(range(30))
    test = load_data(str(tmp_path), "test", COLOUR, **how)
    assert torch.equal(test.images[:], EXPECTED[30:])
    one = tmp_path / "data" / "test-00000-of-00001.parquet"
    alone = load_data(str(one), "train", COLOUR, **how)
    assert (alone.split, alone.labels.tolist()) == ("all", list(range(30, 40)))


def test_parquet_without_parts_or_with_others(tmp_path):
    write_parquet(tmp_path / "some.parquet", 0, 5)
    assert load_data(str(tmp_path), "test", COLOUR).split == "all"
    (tmp_path / "some.parquet").rename(tmp_path / "validation.parquet")
    with pytest.raises(DataError, match=r"has no part test; its files .* validation\.parquet"):
        load_data(str(tmp_path), "test", COLOUR)


def test_parquet_rows_without_a_picture_or_a_label(tmp_path):
    rows = [
        {"bytes": png(PIXELS[0])},
        None,
        {"bytes": None},
        {"bytes": b"x"},
        {"bytes": png(PIXELS[1])},
    ]
    table = pyarrow.table({"picture": rows, "label": [1, 2, 3, 4, None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    data = load_data(str(tmp_path / "a.parquet"), "train", COLOUR)
    assert torch.equal(data.images, EXPECTED[:2])
    assert data.labels.tolist() == [1, -1]
    named = [(path.name, reason[:22]) for path, reason in data.skipped]
    assert named == [("row 1", "the row has no picture"), ("row 2", "the row has no picture"),
                     ("row 3", "not a picture of a kno")]  # fmt: skip
    with pytest.raises(ImageError, match="row 1: the row has no picture"):
        load_data(str(tmp_path / "a.parquet"), "train", COLOUR, strict=True)


def test_parquet_without_pictures(tmp_path):
    pyarrow.parquet.write_table(
        pyarrow.table({"label": [1], "text": ["a"]}), tmp_path / "a.parquet"
    )
    with pytest.raises(DataError, match=r"no column of pictures.*label \(int64\), text \(string\)"):
        load_data(str(tmp_path), "train", COLOUR)


def test_a_data_set_is_only_checked(tmp_path):
    data = load_data(str(many(tmp_path)), "train", COLOUR)
    assert load_data(data, "train", COLOUR) is data
    with pytest.raises(DataError, match="the model takes"):
        load_data(data, "train", GREY)


# -- named sets of other kinds -------------------------------------------------------------------


def test_cifar10_as_differences_and_as_the_original_files(tmp_path):
    planes = EXPECTED.permute(1, 0, 2, 3).numpy()  # C x N x H x W
    less_green = np.stack([planes[0] - planes[1], planes[1], planes[2] - planes[1]])
    across = np.diff(less_green, axis=3, prepend=np.uint8(0))
    down = np.diff(across, axis=2, prepend=np.uint8(0))
    np.savez(tmp_path / "cifar10.npz", train_residuals=down, train_labels=np.arange(40))
    data = load_data("cifar10", "train", COLOUR, data_dir=tmp_path)
    assert torch.equal(data.images, EXPECTED)
    assert data.labels.tolist() == list(range(40))

    folder = tmp_path / "other" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    rows = CHANCE.integers(0, 256, (6, 2, 3073), dtype=np.uint8)
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for name, values in zip(names, rows, strict=True):
        (folder / name).write_bytes(values.tobytes())
    large = Preprocessing(channels=3, height=32, width=32)
    train = load_data("cifar10", "train", large, data_dir=tmp_path / "other")
    assert train.labels.tolist() == rows[:5, :, 0].flatten().tolist()
    assert train.images[3].flatten().tolist() == rows[1, 1, 1:].tolist()
    assert len(load_data("cifar10", "test", large, data_dir=tmp_path / "other")) == 2
    (folder / "test_batch.bin").write_bytes(b"cut off")
    with pytest.raises(DataError, match="7 bytes, expected a multiple of 3,073"):
        load_data("cifar10", "test", large, data_dir=tmp_path / "other")


def test_usps_is_scaled(tmp_path):
    images = np.array([0, 4, 1000, 2000], np.uint16).repeat(256).reshape(4, 16, 16)
    np.savez(tmp_path / "usps.npz", test_images=images, test_labels=np.arange(4))
    data = load_data(
        "usps", "test", Preprocessing(channels=1, height=16, width=16), data_dir=tmp_path
    )
    assert data.images[:, 0, 0, 0].tolist() == [0, 1, 128, 255]


def test_olivetti_faces_are_split_by_people(tmp_path):
    images = np.arange(40, dtype=np.uint8).repeat(64 * 64).reshape(40, 64, 64)
    np.savez(tmp_path / "olivetti_faces.npz", images=images, labels=np.arange(40, dtype=np.uint8))
    wanted = Preprocessing(channels=1, height=64, width=64)
    train = load_data("olivetti_faces", "train", wanted, data_dir=tmp_path)
    test = load_data("olivetti_faces", "test", wanted, data_dir=tmp_path)
    assert train.labels.tolist() == train.images[:, 0, 0, 0].tolist() == list(range(30))
    assert test.labels.tolist() == test.images[:, 0, 0, 0].tolist() == list(range(30, 40))
    with pytest.raises(DataError, match=r"Put olivetti_faces\.npz \(images, labels\)"):
        load_data("olivetti_faces", "train", wanted, data_dir=tmp_path / "elsewhere")


@pytest.mark.slow
@pytest.mark.skipif("ZOO_DATA_DIR" not in os.environ, reason="ZOO_DATA_DIR names no data sets")
def test_the_real_sets(real_data: Path):
    digest = hashlib.md5(usedforsecurity=False)
    size = {"usps": 16, "cifar10": 32, "olivetti_faces": 64}
    shapes = {}
    for name in NAMED:
        wanted = Preprocessing(channels=3 if name == "cifar10" else 1,
                               height=size.get(name, 28), width=size.get(name, 28))  # fmt: skip
        for split in ("train", "test"):
            data = load_data(name, split, wanted, data_dir=real_data)
            shapes[name, split] = len(data), data.labels.max().item()
    assert shapes == {
        ("mnist", "train"): (60_000, 9), ("mnist", "test"): (10_000, 9),
        ("fashion_mnist", "train"): (60_000, 9), ("fashion_mnist", "test"): (10_000, 9),
        ("cifar10", "train"): (50_000, 9), ("cifar10", "test"): (10_000, 9),
        ("usps", "train"): (7_291, 9), ("usps", "test"): (2_007, 9),
        ("olivetti_faces", "train"): (300, 29), ("olivetti_faces", "test"): (100, 39),
    }  # fmt: skip
    cifar = load_data("cifar10", "test", Preprocessing(channels=3, height=32, width=32),
                      data_dir=real_data)  # fmt: skip
    rows = torch.cat([cifar.labels[:, None].to(torch.uint8), cifar.images.flatten(1)], dim=1)
    digest.update(rows.numpy().tobytes())
    assert digest.hexdigest() == "803d5f7f4d78ea53de84dbe85f74fb6d"  # of test_batch.bin


# -- images that do not fit into memory ----------------------------------------------------------


def in_file(folder: Path, cache: Path, **more):
    data = load_data(str(folder), "train", COLOUR, memory=1, cache=cache, **more)
    assert isinstance(data.images, ImageFile)
    return data


def test_image_file_is_indexed_as_a_tensor(tmp_path):
    data = in_file(many(tmp_path / "pictures"), tmp_path / "cache")
    images = data.images
    assert images.shape == (40, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert len(images) == len(data) == 40
    for index in (
        torch.tensor([3, 39, 0, 3, -1]), torch.tensor([], dtype=torch.int64), torch.arange(40) > 30,
        slice(None), slice(5, 12), slice(-3, None), slice(30, 99), slice(4, 2), slice(0, 40, 7),
        7, -2,
    ):  # fmt: skip
        assert torch.equal(images[index], EXPECTED[index]), index
    assert torch.equal(torch.cat(list(data.batches(9))), EXPECTED.float() / 255)
    for wrong in (torch.tensor([40]), torch.tensor([-41]), 40):
        with pytest.raises(IndexError, match="expected indices under 40"):
            images[wrong]


def test_a_second_run_reuses_the_file(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "pictures", ["cat/0.png", "cat/1.png", "dog/0.png"])
    (folder / "cat" / "bad.png").write_bytes(b"x")
    first = in_file(folder, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(zoo.data.folder, "decode_many", None)
        again = in_file(folder, tmp_path / "cache")
        with pytest.raises(ImageError, match=r"bad\.png"):
            in_file(folder, tmp_path / "cache", strict=True)
    assert torch.equal(again.images[:], EXPECTED[:3])
    assert again.labels.tolist() == first.labels.tolist() == [0, 0, 1]
    assert again.skipped == first.skipped != []
    assert again.classes == ("cat", "dog")
    write_folder(folder, ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"])
    assert len(in_file(folder, tmp_path / "cache")) == 4
    other = load_data(str(folder), "train", GREY, memory=1, cache=tmp_path / "cache")
    assert other.images.shape == (4, 1, 28, 28)


@pytest.mark.parametrize("ending", [".json", ".npy"])
@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", None])
def test_a_damaged_file_is_written_anew(tmp_path, ending, damage):
    folder = many(tmp_path / "pictures")
    in_file(folder, tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob(f"*{ending}")
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    assert torch.equal(in_file(folder, tmp_path / "cache").images[:], EXPECTED)


def test_a_file_that_is_cut_off_while_it_is_open(tmp_path):
    images = in_file(many(tmp_path / "pictures"), tmp_path / "cache").images
    os.truncate(images.path, images.path.stat().st_size - 700)
    assert torch.equal(images[:39], EXPECTED[:39])
    for index in (slice(None), torch.tensor([39]), 39):
        with pytest.raises(DataError, match=r"was cut off or replaced. Type the same again"):
            images[index]


def test_a_file_that_is_deleted_while_it_is_open_goes_on(tmp_path):
    images = in_file(many(tmp_path / "pictures"), tmp_path / "cache").images
    shutil.rmtree(tmp_path / "cache")
    assert torch.equal(images[:], EXPECTED)
    with pytest.raises(DataError, match="is not a file of decoded images"):
        ImageFile(images.path)


@pytest.mark.slow
def test_a_full_disk(tmp_path):
    """A limit on the size of files stands for it, and shows as the same kind of error."""
    folder = many(tmp_path / "pictures")
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from zoo.data import load_data; from zoo.spec import Preprocessing\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "p = Preprocessing(channels=3, height=16, width=16)\n"
        "load_data(sys.argv[1], 'train', p, memory=1, cache=Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "zoo.errors.DataError" in done.stderr
    assert "cannot be written: File too large. The decoded images take 0 MB there: make room" in (
        done.stderr
    )
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
def test_two_processes_at_the_same_time(tmp_path):
    folder = many(tmp_path / "pictures")
    code = (
        "import sys; from pathlib import Path\n"
        "from zoo.data import load_data; from zoo.spec import Preprocessing\n"
        "p = Preprocessing(channels=3, height=16, width=16)\n"
        "sys.stdin.readline()\n"  # both start together
        "data = load_data(sys.argv[1], 'train', p, memory=1, cache=Path(sys.argv[2]))\n"
        "print(int(data.images[:].sum()))\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "cache")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    sums = [int(process.communicate(timeout=120)[0]) for process in both]
    assert sums == [int(EXPECTED.sum())] * 2
    left = sorted((tmp_path / "cache").iterdir())
    assert [path.suffix for path in left] == [".json", ".npy"]
    assert all(path.name.startswith("data-all-") for path in left)


RESIDENT = """
import sys
from pathlib import Path
import torch
from zoo.data import ImageFile

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))

images = ImageFile(Path(sys.argv[1]))
places = torch.randperm(len(images)).split(256)
for index in places[:10]:  # libraries load what they need
    images[index].sum()
before = resident()
for index in places:
    assert images[index].sum() == len(index) * 3 * 32 * 32 * 7
print(resident() - before)
"""


@pytest.mark.slow
def test_images_in_a_file_take_no_memory(tmp_path):
    """In a process of its own: this one has other tests' memory, which comes and goes."""
    part = torch.full((1000, 3, 32, 32), 7, dtype=torch.uint8)
    path = tmp_path / "images.npy"
    imagefile.write((part for _ in range(50)), 50_000, (3, 32, 32), path)
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT, path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20_000_000  # of 153,600,000


# -- labels --------------------------------------------------------------------------------------

NAN = float("nan")
USABLE = {  # labels as somebody stores them, and what they are
    "negative": (np.array([2, -1, 0, -7]), [2, -1, 0, -1]),
    "int8": (np.array([1, -128, 0, 127], np.int8), [1, -1, 0, 127]),
    "uint8": (np.array([255, 0, 1, 2], np.uint8), [255, 0, 1, 2]),
    "uint64": (np.array([2**62, 0, 1, 2], np.uint64), [2**62, 0, 1, 2]),
    "bool": (np.array([True, False, False, True]), [1, 0, 0, 1]),
    "NaN": (np.array([1.0, NAN, 0.0, -3.0], np.float32), [1, -1, 0, -1]),
    "N x 1": (np.array([[3], [-1], [0], [1]]), [3, -1, 0, 1]),
    "big-endian": (np.array([1, -2, 3, 4], ">i4"), [1, -1, 3, 4]),
}
UNUSABLE = {  # and what is said of those that are none
    "text": (np.array(["a", "b", "c", "d"]), "expected 4 whole numbers, got <U1 4"),
    "object": (np.array(["a", None, 1, 2.0], object), "expected numbers row by row"),
    "fractions": (np.array([0.5, 1, 2, 3]), "with fractions"),
    "infinity": (np.array([np.inf, 1, 2, 3]), "with fractions"),
    "one-hot": (np.eye(4, dtype=np.uint8), "got uint8 4 x 4; of one for each class, take argmax"),
    "too few": (np.array([1, 2]), "expected 4 whole numbers, got int64 2"),
    "over 2**63": (np.array([2**63, 0, 1, 2], np.uint64), "under 2**63"),
    "complex": (np.array([1j, 0, 1, 2]), "got complex128 4"),
}


@pytest.mark.parametrize("kind", USABLE)
@pytest.mark.parametrize("memory", [None, 0])
def test_labels_of_every_type_in_npz(tmp_path, kind, memory):
    labels, expected = USABLE[kind]
    np.savez(tmp_path / "a.npz", images=PIXELS[:4], labels=labels)
    for _ in range(2):  # and from the cache
        data = load_data(str(tmp_path / "a.npz"), "train", COLOUR, memory=memory, cache=tmp_path)
        assert data.labels.dtype == torch.int64
        assert data.labels.tolist() == expected
        assert data.unlabelled == expected.count(-1)
        assert data.notes == []
        known = data.labelled()
        rows = [i for i, label in enumerate(expected) if label >= 0]
        assert known.labels.tolist() == [expected[i] for i in rows]
        assert torch.equal(known.images[:], EXPECTED[rows])


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("memory", [None, 0])
def test_labels_that_are_none_do_not_refuse_the_images(tmp_path, kind, memory):
    labels, said = UNUSABLE[kind]
    np.savez(tmp_path / "a.npz", images=PIXELS[:4], labels=labels)
    for _ in range(2):
        data = load_data(str(tmp_path / "a.npz"), "train", COLOUR, memory=memory, cache=tmp_path)
        assert torch.equal(data.images[:], EXPECTED[:4])
        assert data.labels is None
        (note,) = data.notes
        assert note.startswith("the labels are left out: ")
        assert said in note


PARQUET_LABELS = {
    "null": (pyarrow.array([3, None, 0, -5]), [3, -1, 0, -1]),
    "NaN": (pyarrow.array([1.0, NAN, None, 2.0]), [1, -1, -1, 2]),
    "bool": (pyarrow.array([True, None, False, True]), [1, -1, 0, 1]),
    "uint8": (pyarrow.array([0, 255, None, 1], pyarrow.uint8()), [0, 255, -1, 1]),
    "uint64": (pyarrow.array([0, 2**62 + 1, None, 1], pyarrow.uint64()), [0, 2**62 + 1, -1, 1]),
    "large": (pyarrow.array([2**53 + 1, None, 1, 0]), [2**53 + 1, -1, 1, 0]),
    "all null": (pyarrow.array([None] * 4, pyarrow.int64()), None),
    "all negative": (pyarrow.array([-1] * 4), None),
    "text": (pyarrow.array(["a", "b", "c", "d"]), "should be whole numbers, it is string"),
    "fractions": (pyarrow.array([0.0, 1.0, 2.0, 0.5]), "with fractions"),
    "over 2**63": (pyarrow.array([0, 2**63, None, 1], pyarrow.uint64()), "under 2**63"),
}


@pytest.mark.parametrize("kind", PARQUET_LABELS)
def test_labels_of_every_type_in_parquet(tmp_path, kind):
    labels, expected = PARQUET_LABELS[kind]
    table = pyarrow.table({"image": [png(pixels) for pixels in PIXELS[:4]], "label": labels})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    data = load_data(str(tmp_path / "a.parquet"), "train", COLOUR)
    assert torch.equal(data.images, EXPECTED[:4])
    if isinstance(expected, list):
        assert (data.labels.tolist(), data.notes) == (expected, [])
    else:
        assert data.labels is None
        assert len(data.notes) == (expected is not None)
        assert expected is None or expected in data.notes[0]


def test_negative_labels_of_a_named_set_are_unknown(tmp_path):
    write_npz(tmp_path / "mnist.npz", train_labels=np.array([5, -1, -3, *range(9)], np.int8))
    data = load_data("mnist", "train", GREY, data_dir=tmp_path)
    assert data.labels.tolist() == [5, -1, -1, *range(9)]
    assert len(data.labelled()) == 10
    write_npz(tmp_path / "mnist.npz", train_labels=np.full(12, -1))
    assert load_data("mnist", "train", GREY, data_dir=tmp_path).labels is None


def test_labelled_images_of_a_file_are_not_read_into_memory(tmp_path):
    labels = np.where(np.arange(40) % 3 == 0, -1, np.arange(40))
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=labels)
    data = load_data(str(tmp_path / "a.npz"), "train", COLOUR, memory=0, cache=tmp_path)
    known, rows = data.labelled(), np.flatnonzero(labels >= 0)
    assert isinstance(known.images, ImageRows)
    assert (len(known), known.images.shape) == (26, (26, 3, 16, 16))
    for index in (slice(3, 9), torch.tensor([25, 0, -1]), torch.arange(26) > 20, 4, -2):
        assert torch.equal(known.images[index], EXPECTED[rows][index])
    assert torch.equal(torch.cat(list(known.batches(7))), EXPECTED[rows].float() / 255)


# -- layouts of .npz ------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("channels", [1, 3])
def test_npz_with_channels_first(tmp_path, channels, memory):
    first = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2)[:, :channels])
    np.savez(tmp_path / "a.npz", images=first)
    wanted = Preprocessing(channels=channels, height=16, width=16)
    data = load_data(str(tmp_path / "a.npz"), "train", wanted, memory=memory, cache=tmp_path)
    assert torch.equal(data.images[:], EXPECTED[:, :channels])
    with pytest.raises(DataError, match=f"--config size=16 --config channels={channels}"):
        load_data(str(tmp_path / "a.npz"), "train", GREY)


def test_npz_whose_layout_could_be_either(tmp_path):
    images = PIXELS[:2, :3, :, :]  # 2 x 3 x 16 x 3: three rows, or three channels of three columns
    np.savez(tmp_path / "a.npz", images=images)
    last, first = (
        load_data(str(tmp_path / "a.npz"), "train",
                  Preprocessing(channels=3, height=height, width=width))
        for height, width in ((3, 16), (16, 3))
    )  # fmt: skip
    assert torch.equal(last.images, EXPECTED[:2, :, :3])
    assert torch.equal(first.images, torch.from_numpy(images))
    with pytest.raises(DataError, match=r"images is 2 x 3 x 16 x 3, which may be N x H x W x C or"):
        load_data(str(tmp_path / "a.npz"), "train", COLOUR)
    np.savez(tmp_path / "b.npz", images=PIXELS[:2, :3, :3, :])  # square: nothing tells which
    with pytest.raises(DataError, match="2 x 3 x 3 x 3, which may be"):
        load_data(str(tmp_path / "b.npz"), "train", Preprocessing(channels=3, height=3, width=3))


def test_npz_column_by_column_says_what_to_type(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.asfortranarray(PIXELS))
    with pytest.raises(DataError, match=r"as np\.ascontiguousarray gives them.*column by column"):
        load_data(str(tmp_path / "a.npz"), "train", COLOUR)
