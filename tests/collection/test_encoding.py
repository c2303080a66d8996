"""``zoo encode``: tables of any number of pictures, as numpy and safetensors would write them."""

import json
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from zoo.collection.encoding import Table, encode_files, writing
from zoo.errors import ImageError
from zoo.images import to_images
from zoo.spec import Preprocessing

WANTED = Preprocessing(channels=3, height=4, width=4)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".parquet"])
def test_tables(tmp_path, ending, shape, monkeypatch):
    monkeypatch.setattr("zoo.collection.encoding.ROWS", 3)
    values = torch.rand(11, *shape)
    paths = [tmp_path / f"{i}.png" for i in range(11)]
    out = tmp_path / "new" / f"t{ending}"
    with writing(out, "codes") as table:
        for i in range(0, 11, 4):
            table.add(paths[i : i + 4], values[i : i + 4])
    if ending == ".npz":
        with np.load(out, allow_pickle=False) as file:
            found, names = file["codes"], list(file["paths"])
    elif ending == ".safetensors":
        assert out.read_bytes()[8:9] == b"{"
        found = safetensors.torch.load_file(out)["codes"].numpy()
        with safetensors.safe_open(out, "pt") as file:
            names = json.loads(file.metadata()["paths"])
    else:
        import pyarrow.parquet

        read = pyarrow.parquet.read_table(out)
        names = read["path"].to_pylist()
        found = np.array(read["codes"].to_pylist(), np.float32).reshape(11, *shape)
        assert pyarrow.parquet.ParquetFile(out).num_row_groups == 4
    np.testing.assert_array_equal(found, values.numpy())
    assert names == list(map(str, paths))
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_the_model_sees_the_images_of_to_images(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(30)]
    for i, path in enumerate(paths):
        pixels = rng.integers(0, 256, (9 + i % 3, 11, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "bad.png").write_bytes(b"junk")
    skipped = []
    table = Table(tmp_path / "t.npz", "images")
    encode_files(
        [*paths, tmp_path / "bad.png", tmp_path / "b.txt"], skipped, lambda x: x, WANTED, table
    )
    table.write()
    with np.load(tmp_path / "t.npz") as file:
        np.testing.assert_array_equal(file["images"], to_images(paths, WANTED).numpy())
    assert [path.name for path, _ in skipped] == ["bad.png", "b.txt"]
    with pytest.raises(ImageError, match=r"bad.png: not a picture"):
        encode_files([tmp_path / "bad.png"], [], lambda x: x, WANTED, table, strict=True)
    with pytest.raises(ImageError, match="no picture could be read"):
        encode_files([], [], lambda x: x, WANTED, Table(tmp_path / "u.npz", "images"))


MANY = """
import resource, sys
from pathlib import Path
from zoo.collection.encoding import encode_files, writing
from zoo.spec import Preprocessing

def work(times):
    with writing(Path(sys.argv[2]), "scores") as table:
        encode_files([Path(sys.argv[1])] * times, [], lambda x: x.flatten(1).mean(1),
                     Preprocessing(channels=3, height=32, width=32), table)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

print(work(300), work(3000))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pictures(tmp_path):
    """Of 3,000 images of 32 pixels squared, 37 MB in float32, none are kept."""
    Image.fromarray(np.zeros((300, 300, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = ["-c", MANY, str(tmp_path / "a.png"), str(tmp_path / "t.npz")]
    few, many = map(int, subprocess.check_output([sys.executable, *arguments]).split())
    assert many - few < 20_000, "kilobytes"
