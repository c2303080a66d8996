"""HEIC, AVIF and JPEG XL: read where their library is installed, else the reason names it."""

import numpy as np
import pytest
from PIL import Image

from zoo.errors import ImageError
from zoo.images import decode, to_images, why_not_opened
from zoo.spec import Preprocessing

WANTED = Preprocessing(channels=3, height=8, width=8)
PIXELS = np.zeros((40, 60, 3), np.uint8)
PIXELS[:20, :30] = 255, 0, 0
EXIF = Image.Exif()
EXIF[274] = 6  # the right side of what is stored is the bottom


def heic(path, **more):
    pytest.importorskip("pillow_heif").from_pillow(Image.fromarray(PIXELS)).save(path, **more)


def avif(path, **more):
    pytest.importorskip("PIL.AvifImagePlugin")
    Image.fromarray(PIXELS).save(path, **more)


def jxl(path, **more):
    pytest.importorskip("pillow_jxl")
    Image.fromarray(PIXELS).save(path, lossless=True, **more)


KINDS = {"a.heic": heic, "a.avif": avif, "a.jxl": jxl}


@pytest.mark.parametrize("name", KINDS)
def test_they_are_read(tmp_path, name):
    KINDS[name](tmp_path / name)
    assert why_not_opened(name) == ""
    got = decode(tmp_path / name, WANTED)
    assert (got.width, got.height, got.orientation) == (60, 40, 1)
    image = to_images(tmp_path / name, WANTED)[0]
    assert image[0, 1, 1] > 0.9
    assert image[:, 6, 6].max() < 0.1


def test_they_are_upright(tmp_path):
    avif(tmp_path / "a.avif", exif=EXIF)
    got = decode(tmp_path / "a.avif", WANTED)
    assert (got.width, got.height, got.orientation) == (40, 60, 6)
    assert to_images(tmp_path / "a.avif", WANTED)[0, 0, 1, 6] > 0.9  # red is at the upper right


@pytest.mark.parametrize("name", KINDS)
def test_without_the_library_its_name_is_said(tmp_path, name, monkeypatch):
    KINDS[name](tmp_path / name)
    monkeypatch.setattr("zoo.otherkinds.installed", lambda module: False)
    reason = why_not_opened(name)
    assert "Type: pip install pillow-" in reason
    with pytest.raises(ImageError, match="Type: pip install pillow-"):
        decode(tmp_path / name, WANTED)


@pytest.mark.parametrize("name", KINDS)
def test_cut_off_files_are_said(tmp_path, name):
    KINDS[name](tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:33])
    with pytest.raises(ImageError, match=r"damaged|not a picture"):
        decode(tmp_path / name, WANTED)
