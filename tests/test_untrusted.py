"""Files that are read back may hold anything: they work or are refused, and never run code.

Each test damages a whole file at random. Whatever comes of it, it is the result or a ZooError; and
nothing may be unpickled meanwhile.
"""

import contextlib
import gzip
import hashlib
import io
import json
import pickle
import shutil
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import zoo
from zoo import weights
from zoo.data import load_data
from zoo.errors import ZooError
from zoo.folder import TENSORS, VECTORS, read_json, weights_record
from zoo.spec import Preprocessing

tries = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,  # CI must not fail by chance; without it, other damage at each run
    database=None,
    suppress_health_check=list(HealthCheck),
)
few = settings(tries, max_examples=40)
WANTED = Preprocessing(channels=1, height=8, width=8)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)


class Unpickled(BaseException):
    """Not an Exception, so that nothing swallows it."""


class Unpickler:
    """Stands for all that unpickles: its functions, and the classes that others derive from."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise Unpickled


def survives(call: Callable[[], Any]) -> Any:
    """What ``call`` gives, or the ZooError that it raises."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on damaged pictures
        for name in ("load", "loads", "_load", "_loads", "Unpickler", "_Unpickler"):
            patch.setattr(pickle, name, Unpickler)
        try:
            return call()
        except ZooError as error:
            return error


def test_the_guard_sees_unpickling(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    torch.save({}, tmp_path / "a.pt")
    for call in (
        lambda: np.load(tmp_path / "a.npy", allow_pickle=True),
        lambda: torch.load(tmp_path / "a.pt", weights_only=False),
    ):
        with pytest.raises(Unpickled):
            survives(call)


@st.composite
def damaged(draw: st.DrawFn, data: bytes, at_most: int | None = None) -> bytes:
    """``data`` with some bytes changed, and perhaps cut off, or something left out or put in."""
    changed = bytearray(data)
    place = st.integers(0, min(len(data), at_most or len(data)) - 1)
    for at, value in draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=4)):
        changed[at] = value
    how, at = draw(st.sampled_from(["leave", "cut", "drop", "insert"])), draw(place)
    if how == "cut":
        del changed[at:]
    elif how == "drop":
        del changed[at : at + draw(st.integers(1, 16))]
    elif how == "insert":
        changed[at:at] = draw(st.binary(min_size=1, max_size=16))
    return bytes(changed)


numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 10**30, 1e308])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def changed_json(draw: st.DrawFn, value: Any) -> Any:
    """``value`` with another value in one place, at any depth, or without it."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 4)) == 0:
        return draw(values)
    copy = value.copy()
    key = draw(st.sampled_from(list(copy) if isinstance(copy, dict) else range(len(copy))))
    if draw(st.integers(0, 5)) == 0:
        del copy[key]
    else:
        copy[key] = draw(changed_json(copy[key]))
    return copy


# -- the weights folder --------------------------------------------------------------------------

METRICS = {
    "metrics": [
        {"name": "sse", "value": 1.5, "dataset": "mnist", "split": "test", "protocol": "all",
         "samples": 10, "seed": 0, "seconds": 1.0}
    ],
    "versions": {"torch": "2"},
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "weights"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = zoo.create("ae", hidden=6, latent_dim=4)
    images = torch.rand(2, *model.image_shape, generator=torch.Generator().manual_seed(1))
    facts = {"dataset": "none", "licence": "none"}
    weights.save(model, folder, images=images, plugin="latentzoo-ae", facts=facts)
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "w")
    return tmp_path / "w"


def every_reader(folder: Path) -> list[Any]:
    return [
        survives(lambda: read_json(folder / "config.json")),
        survives(lambda: weights_record(folder, "mine")),
        survives(lambda: zoo.info(f"local-dir:{folder}")),
        survives(lambda: zoo.load(f"local-dir:{folder}")),
    ]


def test_the_whole_folder_is_read(folder: Path):
    assert not [r for r in every_reader(folder) if isinstance(r, ZooError)]


@pytest.mark.slow
@tries
@given(data=st.data())
def test_config_and_metrics_with_other_values(whole: Path, folder: Path, data: st.DataObject):
    for name in ("config.json", "metrics.json"):
        value = json.loads((whole / name).read_bytes())
        (folder / name).write_text(json.dumps(data.draw(changed_json(value), name)))
    every_reader(folder)


@tries
@given(data=st.data(), name=st.sampled_from(["config.json", "metrics.json"]))
def test_config_and_metrics_with_other_bytes(
    whole: Path, folder: Path, data: st.DataObject, name: str
):
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(data.draw(damaged((whole / name).read_bytes())))
    every_reader(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, "NaN", '"\\ud800"'])
def test_json_that_is_hard_on_a_parser(folder: Path, text: str):
    for name in ("config.json", "metrics.json"):
        (folder / name).write_text(text)
        assert any(isinstance(r, ZooError) for r in every_reader(folder))


@tries
@given(data=st.data())
def test_tensors(whole: Path, folder: Path, data: st.DataObject):
    tensors = data.draw(damaged((whole / TENSORS).read_bytes(), at_most=1500))
    (folder / TENSORS).write_bytes(tensors)
    config = json.loads((whole / "config.json").read_bytes())
    # Whoever writes damaged tensors can write their size and sha256 too.
    config |= {"size": len(tensors), "sha256": hashlib.sha256(tensors).hexdigest()}
    (folder / "config.json").write_text(json.dumps(config))
    survives(lambda: zoo.load(f"local-dir:{folder}"))


@tries
@given(data=st.data())
def test_vectors(whole: Path, folder: Path, data: st.DataObject):
    vectors = data.draw(damaged((whole / VECTORS).read_bytes(), at_most=1500))
    (folder / VECTORS).write_bytes(vectors)
    model = zoo.load(f"local-dir:{whole}")
    survives(lambda: weights.verify(model, folder))


# -- data sets -----------------------------------------------------------------------------------


@contextlib.contextmanager
def bounded_memory(limit: int):
    """Fails when more than ``limit`` bytes more than now are taken, by numpy or Python."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def read(path: Path, name: str | None = None) -> Any:
    how = {"data_dir": path if name else None, "memory": 10_000_000, "cache": path.parent / "cache"}
    return survives(lambda: load_data(name or str(path), "train", WANTED, **how))


def write_npz(path: Path, save: Callable[..., None] = np.savez) -> bytes:
    save(path, train_images=PIXELS, train_labels=np.arange(6))
    return path.read_bytes()


@tries
@given(data=st.data(), packed=st.booleans())
def test_npz(tmp_path: Path, data: st.DataObject, packed: bool):
    path = tmp_path / "a.npz"
    content = write_npz(path, np.savez_compressed if packed else np.savez)
    assert not isinstance(read(path), ZooError)
    path.write_bytes(data.draw(damaged(content)))
    read(path)


@tries
@given(
    shape=st.lists(numbers | st.integers(0, 9), max_size=5),
    dtype=st.sampled_from(["|u1", "|O", "<f4", "|V8", "|S0", "[('a','u1')]", "<M8[s]"]),
    fortran=st.booleans(),
    rest=st.binary(max_size=64),
)
def test_npz_whose_header_lies(
    tmp_path: Path, shape: list[Any], dtype: str, fortran: bool, rest: bytes
):
    header = {"descr": dtype, "fortran_order": fortran, "shape": tuple(shape)}
    text = repr(header).encode("latin-1") + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + rest
    for name in ("images", "train_labels"):
        write_npz(tmp_path / "a.npz")
        kept = {} if name == "images" else {"train_images": PIXELS}
        np.savez(tmp_path / "a.npz", **kept)
        with zipfile.ZipFile(tmp_path / "a.npz", "a") as file:
            file.writestr(f"{name}.npy", array)
        with bounded_memory(30_000_000):
            read(tmp_path / "a.npz")


@few
@given(data=st.data(), packed=st.booleans())
def test_idx(tmp_path: Path, data: st.DataObject, packed: bool):
    files = {
        "train-images-idx3-ubyte": struct.pack(">4i", 2051, *PIXELS.shape) + PIXELS.tobytes(),
        "train-labels-idx1-ubyte": struct.pack(">2i", 2049, 6) + bytes(range(6)),
    }
    which = data.draw(st.sampled_from(list(files)))
    for name, content in files.items():
        packed_content = gzip.compress(content) if packed else content
        path = tmp_path / f"{name}{'.gz' if packed else ''}"
        path.write_bytes(packed_content)
        if name == which:
            path.write_bytes(data.draw(damaged(packed_content, at_most=60)))
    read(tmp_path, "mnist")
    for path in tmp_path.glob("train-*"):
        path.unlink()


def parquet(**how: Any) -> bytes:
    pictures = []
    for pixels in PIXELS:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        pictures.append({"bytes": buffer.getvalue(), "path": "a.png"})
    buffer = io.BytesIO()
    table = pyarrow.table({"image": pictures, "label": list(range(6))})
    pyarrow.parquet.write_table(table, buffer, row_group_size=2, **how)
    return buffer.getvalue()


@tries
@given(data=st.data(), compression=st.sampled_from(["none", "snappy", "zstd"]))
def test_parquet(tmp_path: Path, data: st.DataObject, compression: str):
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(compression=compression))
    assert not isinstance(read(path), ZooError)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    read(path)


@tries
@given(data=st.data())
def test_parquet_whose_end_is_damaged(tmp_path: Path, data: st.DataObject):
    """Its metadata lie there: names, types, numbers of rows, places."""
    content = parquet()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    path = tmp_path / "a.parquet"
    path.write_bytes(content[:start] + data.draw(damaged(content[start:])))
    read(path)


@few
@given(data=st.data(), ending=st.sampled_from([".npy", ".json"]))
def test_decoded_images_of_an_earlier_run(tmp_path: Path, data: st.DataObject, ending: str):
    path, cache = tmp_path / "a.npz", tmp_path / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    if not path.exists():
        write_npz(path)
    load_data(str(path), "train", WANTED, memory=0, cache=cache)
    (kept,) = cache.glob(f"*{ending}")
    kept.write_bytes(data.draw(damaged(kept.read_bytes())))
    got = survives(lambda: load_data(str(path), "train", WANTED, memory=0, cache=cache))
    assert not isinstance(got, ZooError)  # in doubt it is read again
    assert got.images[:].shape[1:] == (1, 8, 8)
