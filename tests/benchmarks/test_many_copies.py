"""benchmarks/many_copies.py: the files that it makes, and one small run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """Two pictures that have copies, and one that is too narrow for that."""
    folder = tmp_path_factory.mktemp("drawings")
    noise = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    for name, pixels in zip("ab", noise, strict=True):
        Image.fromarray(pixels).resize((80, 60)).save(folder / f"{name}.png")
    Image.fromarray(noise[0]).resize((80, 4)).save(folder / "narrow.png")
    return folder


@pytest.fixture(scope="module")
def many(drawings):
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import many_copies
    finally:
        sys.path.remove(str(BENCHMARKS))
    return many_copies


def test_each_file_and_where_it_is_from(many, drawings, tmp_path, capfd):
    paths = sorted(drawings.iterdir())
    made = many.write_some(paths, 5, tmp_path, few=None)
    assert "narrow.png" in capfd.readouterr().err
    assert {file for _, file, _ in made} == set(map(str, tmp_path.iterdir()))
    assert [Path(file).name for _, file, kind in made if not kind] == ["000005.png", "000006.png"]
    assert len(made) == 2 * (1 + len(list(many.copies(Image.new("RGB", (32, 32))))))
    assert all(Path(file).name[:6] == Path(original).stem for original, file, _ in made)
    (few := tmp_path / "few").mkdir()
    assert len(many.write_some(paths[:2], 0, few, few=2)) == 6


def test_drawings_that_are_the_same_file_are_one_original(many, tmp_path):
    files = [tmp_path / name for name in ("0.png", "0.jpg", "1.png", "1.jpg", "2.png")]
    for file, data in zip(files, (b"same", b"a", b"same", b"b", b"other"), strict=True):
        file.write_bytes(data)
    first, one, second, two, third = map(str, files)
    made = [(first, first, ""), (first, one, "jpeg"), (second, second, ""), (second, two, "jpeg")]
    made.append((third, third, ""))
    assert many.origins(made) == {**dict.fromkeys([first, one, second, two], first), third: third}


def test_a_command_that_is_killed_and_one_that_fails(many):
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert many.run(sleeping, lambda seconds: seconds > 0.2)["seconds"] < 30
    with pytest.raises(SystemExit, match="no such thing"):
        many.run([sys.executable, "-c", "raise SystemExit('no such thing')"])


@pytest.mark.slow
def test_a_small_run(drawings, tmp_path):
    run = [sys.executable, BENCHMARKS / "many_copies.py", drawings, "--folder", tmp_path]
    done = subprocess.run(
        [*run, "--files", "200", "--model", "simclr.cifar10"],
        capture_output=True, text=True, env={**os.environ, "ZOO_DATA_DIR": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "50 files instead of 200: there are 0 photographs" in done.stderr
    decoder, rest, found = json.JSONDecoder(), done.stdout, {}
    while rest := rest.strip():
        part, end = decoder.raw_decode(rest)
        found, rest = found | part, rest[end:]
    assert found["compared"]["not there"] == found["compared"]["of another hash"] == 0
    assert found["compared"]["twice"] == 0
    assert found["compared"]["files"] == 50
    assert found["index"]["runs"] == 3
    assert found["duplicates"]["precision"] > 0.9
