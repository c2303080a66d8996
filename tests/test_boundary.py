"""What a user's mistakes are at the API: errors of the zoo, with what to do."""

import errno
import os

import numpy as np
import pytest
import torch

import zoo
from zoo.boundary import typed, typed_error, usable_device, user_path
from zoo.errors import FileError, ImageError, InputError, OutOfMemory, TrainingError
from zoo.images import to_images
from zoo.pictures import grid, write_png

LONG = "x" * 300


def pictures(folder, n=40):
    path = folder / "data.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8))
    return path


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EACCES, "right"),
        (errno.ENAMETOOLONG, "255 bytes"),
        (errno.ELOOP, "themselves"),
        (errno.EIO, "another path"),  # one without a hint of its own
    ],
)
def test_what_the_system_refuses_is_a_file_error(code, says):
    with pytest.raises(FileError) as caught, typed():
        raise OSError(code, os.strerror(code), "some/file")
    error = caught.value
    assert isinstance(error, zoo.ZooError)
    assert isinstance(error, OSError)
    assert (error.errno, error.filename) == (code, "some/file")
    assert str(error).startswith("some/file cannot be used: ")
    assert says in str(error).lower()
    assert error.__cause__.errno == code


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (MemoryError(), OutOfMemory),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), OutOfMemory),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), InputError),
        (UnicodeEncodeError("charmap", "→", 0, 1, "no such character"), InputError),
        (RuntimeError("Could not determine home directory."), FileError),
        (ValueError("embedded null byte"), InputError),
    ],
)
def test_what_a_user_can_mend_has_a_type(raised, kind):
    assert type(typed_error(raised)) is kind


@pytest.mark.parametrize(
    "bug",
    [
        TypeError("x"),
        KeyError("x"),
        ValueError("x"),
        RuntimeError("x"),
        AssertionError(),
    ],
)
def test_bugs_stay_what_they_are(bug):
    assert typed_error(bug) is None
    with pytest.raises(type(bug)) as caught, typed():
        raise bug
    assert caught.value is bug


def test_memory_that_torch_does_not_get():
    with pytest.raises(OutOfMemory, match="smaller"), typed():
        torch.empty(2**56)
    with pytest.raises(OutOfMemory), typed():
        np.empty(2**56)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda _: zoo.load("local-dir:~nosuchuser/x"), FileError),
        (lambda _: zoo.info("local-dir:~nosuchuser/x"), FileError),
        (lambda _: zoo.load(f"local-dir:{LONG}"), FileError),
        (lambda _: zoo.pull("ae.mnist", to="~nosuchuser/x"), FileError),
        (lambda _: zoo.pull("ae.mnist", to="a\0b"), InputError),
        (lambda _: zoo.pull("ae.mnist", to=""), InputError),
        (lambda at: zoo.train("ae", data=pictures(at), out=""), InputError),
        (lambda at: zoo.train("ae", data=pictures(at), out=f"{at}/{LONG}"), TrainingError),
        (lambda at: zoo.train("ae", data=pictures(at), out="~nosuchuser/x"), FileError),
        (lambda at: zoo.train("ae", data="", out=at / "run"), InputError),
        (lambda at: zoo.train("ae", data="~nosuchuser/x", out=at / "run"), FileError),
        (lambda at: zoo.train("ae", data="mnist", out=at / "r", data_dir="~nosuchuser"), FileError),
        (lambda at: zoo.train("ae", data=pictures(at), out=at / "r", device="gpu"), TrainingError),
        (lambda _: zoo.load("ae.mnist").preprocess(LONG), (FileError, ImageError)),
        (lambda _: zoo.load("ae.mnist").preprocess("a\0b"), (InputError, ImageError)),
        (lambda at: write_png(grid(torch.zeros(1, 1, 4, 4)), pictures(at) / "x.png"), FileError),
        (lambda at: write_png(grid(torch.zeros(1, 1, 4, 4)), at / f"{LONG}.png"), FileError),
    ],
)
def test_calls_raise_errors_of_the_zoo(call, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as caught:
        call(tmp_path)
    assert isinstance(caught.value, zoo.ZooError)
    assert {p.name for p in tmp_path.iterdir()} <= {"data.npz"}  # nothing was left there


def test_users_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert str(user_path("~/x")) == "/somewhere/x"
    assert str(user_path("x~y")) == "x~y"
    assert str(user_path(".")) == "."


@pytest.mark.parametrize("device", ["gpu", "cpu:9x", "meta", "", "gpu:0", None, 3.5, "vulkan"])
def test_devices_that_are_not_there_say_what_is(device):
    with pytest.raises(InputError, match="There is here: cpu") as caught:
        zoo.load("ae.mnist", device=device)
    assert repr(device) in str(caught.value)
    assert len(str(caught.value)) < 400


def test_devices_that_are_there():
    assert usable_device("cpu") == torch.device("cpu")
    assert usable_device(torch.device("cpu", 0)) == torch.device("cpu", 0)
    with torch.device("meta"):  # a default of the caller's
        assert zoo.load("ae.mnist", device="cpu").device.type == "cpu"


IMAGES = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
ODD = {
    "sparse": (lambda x: x.to_sparse(), "to_dense"),
    "csr": (lambda x: x[:, 0].to_sparse_csr(), "to_dense"),
    "meta": (lambda x: x.to("meta"), "meta"),
    "nested": (lambda x: torch.nested.nested_tensor(list(x)), "dense"),
    "quantised": (
        lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), "dequantize",
    ),
    "complex": (lambda x: x.to(torch.complex64), "complex64"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", ODD)
@pytest.mark.parametrize("call", ["preprocess", "encode", "reconstruct", "features", "score"])
def test_tensors_that_no_model_takes(make, call):
    odd, says = ODD[make]
    with pytest.raises(InputError, match=says):
        getattr(zoo.load("ae.mnist"), call)(odd(IMAGES))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", ["sparse", "meta", "nested", "quantised"])
def test_codes_that_no_model_takes(make):
    odd, says = ODD[make]
    with pytest.raises(InputError, match=says):
        zoo.load("ae.mnist").decode(odd(torch.zeros(2, 32)))


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float64"])
def test_tensors_of_few_bits_are_read(dtype):
    dtype = getattr(torch, dtype)
    halves = (IMAGES > 0.5) * 0.5  # which all of them hold
    p = zoo.load("ae.mnist").preprocessing
    assert torch.equal(to_images(halves.to(dtype), p), halves)
