"""What lies in place of a file (a git-LFS pointer, a saved web page, nothing) is named as it is."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo import weights
from zoo.cli import main
from zoo.data import load_data
from zoo.errors import CorruptWeights, DataError, ImageError, InvalidConfig, ZooError
from zoo.files import placeholder
from zoo.folder import weights_record
from zoo.images import decode_many, read_pictures, to_images
from zoo.report.card import vector_images
from zoo.spec import Preprocessing

GREY = Preprocessing(channels=1, height=8, width=8)
LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
FETCH = "type in its repository's folder: git lfs pull"
INSTEAD = {
    "lfs": (LFS, f"a git-LFS pointer and not the file itself; {FETCH}"),
    "hawser": (LFS.replace(b"git-lfs", b"hawser"), FETCH),
    "xet": (b"# xet version 0\nfilename = 'a'\n", "a pointer of git-xet"),
    "annex": (b"/annex/objects/MD5E-s12--0cc175b9c0f1b6a831c399e269772661.png\n", "git annex get"),
    "page": (b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html class=''>", "/resolve/ and not /blob/"),
    "page 2": (b"<HTML><head>", "a web page and not the file itself"),
    "error": (b"Entry not found", "a server's error message"),
    "error 2": (b'{"error":"Repository not found"}', "download it again"),
    "shortcut": (b"L\0\0\0\1\x14\2\0\0\0\0\0\xc0", "a shortcut and not the file itself"),
    "alias": (b"book\0\0\0\0mark\0\0\0\0", "a shortcut and not the file itself"),
    "attributes": (b"\0\5\x16\7\0\2\0\0Mac OS X", "what macOS keeps of a file's attributes"),
    "empty": (b"", "empty (0 bytes)"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "weights"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = zoo.create("ae", size=8, hidden=6, latent_dim=4)
    facts = {"dataset": "none", "licence": "none"}
    weights.save(
        model, folder, images=torch.rand(2, 1, 8, 8), plugin="latentzoo-ae", facts=facts
    )  # fmt: skip
    (folder / "metrics.json").write_text('{"metrics": []}')
    return folder


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "w")


def named(call, error: type[ZooError], path: Path, said: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", INSTEAD)
def test_in_place_of_a_file_of_a_weights_folder(folder, kind):
    data, said = INSTEAD[kind]
    name = f"local-dir:{folder}"
    model = zoo.load(name)
    readers = {
        "vectors.safetensors": (CorruptWeights, [lambda: weights.verify(model, folder),
                                                 lambda: vector_images(folder)]),
        "model.safetensors": (CorruptWeights, [lambda: zoo.load(name)]),
        "metrics.json": (InvalidConfig, [lambda: weights_record(folder, "mine")]),
        "config.json": (InvalidConfig, [lambda: zoo.load(name), lambda: zoo.info(name)]),
    }  # fmt: skip
    for file, (error, calls) in readers.items():
        good = (folder / file).read_bytes()
        (folder / file).write_bytes(data)
        for call in calls:
            named(call, error, folder / file, said)
        (folder / file).write_bytes(good)


@pytest.mark.parametrize("kind", INSTEAD)
def test_in_place_of_pictures(tmp_path, kind):
    data, said = INSTEAD[kind]
    (tmp_path / "a.png").write_bytes(data)
    Image.new("L", (8, 8)).save(tmp_path / "b.png")
    named(lambda: to_images(tmp_path / "a.png", GREY), ImageError, tmp_path / "a.png", said)
    ((path, reason),) = read_pictures([tmp_path], GREY).skipped
    assert path.name == "a.png"
    assert said in reason
    assert load_data(str(tmp_path), "train", GREY).skipped == [(path, reason)]
    ((_, (reason,)),) = decode_many([[data]], GREY)
    assert said in reason


@pytest.mark.parametrize("kind", INSTEAD)
def test_in_place_of_data_sets(tmp_path, kind):
    data, said = INSTEAD[kind]
    for name in ("a.npz", "a.parquet"):
        (tmp_path / name).write_bytes(data)
        named(lambda n=name: load_data(str(tmp_path / n), "train", GREY), DataError,
              tmp_path / name, said)  # fmt: skip
    shards = tmp_path / "set"
    shards.mkdir()
    table = pyarrow.table({"image": [b""], "label": [1]})
    pyarrow.parquet.write_table(table, shards / "train-00000-of-00002.parquet")
    (shards / "train-00001-of-00002.parquet").write_bytes(data)
    bad = shards / "train-00001-of-00002.parquet"
    named(lambda: load_data(str(shards), "train", GREY), DataError, bad, said)
    (tmp_path / "mnist.npz").write_bytes(data)
    named(lambda: load_data("mnist", "train", GREY, data_dir=tmp_path), DataError,
          tmp_path / "mnist.npz", said)  # fmt: skip
    (tmp_path / "mnist.npz").unlink()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(data)
    named(lambda: load_data("mnist", "train", GREY, data_dir=tmp_path), DataError,
          tmp_path / "train-images-idx3-ubyte", said)  # fmt: skip


def test_the_command_line_says_it_in_one_message(folder):
    (folder / "model.safetensors").write_bytes(LFS)
    done = CliRunner().invoke(main, ["generate", f"local-dir:{folder}"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert FETCH in done.stderr


def test_whole_files_are_no_placeholders(folder, tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 8, 8), np.uint8))
    for ending in ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm"):
        Image.new("L", (8, 8)).save(tmp_path / f"a.{ending}")
    files = [*tmp_path.glob("a.*"), *folder.iterdir()]
    assert len(files) >= 12
    for path in files:
        assert placeholder(path.read_bytes()[:1024]) == "", path
    for odd in (
        b"version 2",
        b'{"errors": 0.1}',
        b"Entry",
        struct.pack("<Q", 60) + b'{"a"',
        b"<svg",
    ):
        assert placeholder(odd) == ""
