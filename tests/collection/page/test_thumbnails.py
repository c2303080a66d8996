"""Thumbnails: made once, whole or not at all, by content."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from zoo.collection.page import thumbnails
from zoo.collection.page.thumbnails import EDGE, Thumbnails, webp


def picture(number: int) -> bytes:
    """The file of a picture; the picture 7 cannot be read."""
    buffer = io.BytesIO()
    Image.new("RGB", (400 + number, 100), (number, 0, 0)).save(buffer, "PNG")
    return b"" if number == 7 else buffer.getvalue()


def content(number: int) -> str:
    return hashlib.sha256(picture(number)).hexdigest()


def pictures(*numbers: int) -> list[tuple[str, bytes]]:
    return [(content(i), picture(i)) for i in numbers]


def test_a_picture_that_has_changed_is_not_taken_for_what_it_was(tmp_path: Path):
    shelf = Thumbnails(tmp_path / "thumbnails")
    file = tmp_path / "picture.png"
    file.write_bytes(picture(2))
    made = shelf.make([(content(1), file), (content(2), file)])
    assert made == (1, [(content(1), "it has changed since it was indexed")])


def test_they_are_made_once_and_by_content(tmp_path: Path):
    first = Thumbnails(tmp_path / "thumbnails")
    assert first.make(pictures(*range(5))) == (5, [])
    again = Thumbnails(tmp_path / "thumbnails")
    assert len(again) == 5
    with Image.open(io.BytesIO(again[content(1)])) as picture:
        assert (picture.format, max(picture.size)) == ("WEBP", EDGE)
    with pytest.raises(KeyError):
        again[content(9)]


def test_one_that_cannot_be_read_costs_only_itself(tmp_path: Path):
    told: list[int] = []
    shelf = Thumbnails(tmp_path / "thumbnails")
    made = shelf.make(pictures(*range(10)), told.append)
    assert made.made == 9
    ((failed, reason),) = made.failed
    assert failed == content(7)
    assert "empty" in reason
    assert told == [10]
    assert content(7) not in shelf


def test_they_lie_in_several_shards_that_are_never_written_again(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(thumbnails, "SHARD", 4)
    folder = tmp_path / "thumbnails"
    Thumbnails(folder).make(pictures(*range(7)))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == ["thumbnails-00000.zip", "thumbnails-00001.zip"]
    Thumbnails(folder).make(pictures(8, 9, 10, 11))
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert len(Thumbnails(folder)) == 11


def test_a_damaged_shard_is_made_again_and_left_where_it_is(tmp_path: Path):
    folder = tmp_path / "thumbnails"
    Thumbnails(folder).make(pictures(1))
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:200])
    shelf = Thumbnails(folder)
    assert shelf.make(pictures(1)).made == 1
    assert shelf[content(1)]
    assert path.stat().st_size == 200
    assert len(list(folder.iterdir())) == 2


def test_a_damaged_thumbnail_is_not_there(tmp_path: Path):
    folder = tmp_path / "thumbnails"
    Thumbnails(folder).make(pictures(1))
    (path,) = folder.iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[130:140] = bytes(10)
    path.write_bytes(damaged)
    shelf = Thumbnails(folder)
    with pytest.raises(KeyError):
        shelf[content(1)]
    assert content(1) not in shelf


def test_other_entries_of_a_shard_are_not_taken(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "thumbnails-00000.zip", "w") as archive:
        archive.writestr("../outside.webp", b"x")
        archive.writestr(f"{content(1)}.webp", bytes(2 << 20))
    assert len(Thumbnails(tmp_path)) == 0


def test_nothing_of_the_file_but_pixels_is_kept():
    picture = Image.new("RGB", (30, 20))
    exif = picture.getexif()
    exif[0x010E] = "where I live"
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=exif, icc_profile=b"profile")
    assert b"where I live" in buffer.getvalue()
    data = webp(buffer.getvalue(), 100)
    assert b"where I live" not in data
    assert b"profile" not in data
    buffer = io.BytesIO()
    Image.new("LA", (300, 20), (9, 0)).save(buffer, "PNG")
    with Image.open(io.BytesIO(webp(buffer.getvalue(), 100))) as clear:
        assert clear.mode == "RGBA"
        assert clear.size == (100, 7)
