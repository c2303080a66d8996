"""Making and updating a collection: each file is accounted for, only what is new is computed."""

import errno
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import zoo
from zoo.collection import indexing
from zoo.collection.entries import read_bytes
from zoo.collection.indexing import update
from zoo.collection.store import MANIFEST, Store
from zoo.errors import CollectionError, FileError, ImageError, InputError
from zoo.model import ZooModel

BYTE = 1 / 255
"""How much a value may differ by, since an index resizes in 8 bits, as Pillow does."""


class Means(ZooModel):
    """Features are the means of quarters; it counts the images that it sees."""

    image_shape = (3, 8, 8)
    name = "means"

    def __init__(self):
        super().__init__()
        self.saw = 0

    def _features(self, images):
        self.saw += len(images)
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


@pytest.fixture
def model():
    return Means()


def picture(number, size=(12, 10)):
    """A picture like no other."""
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def save(path, number, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(number).save(path, **more)
    return path


@pytest.fixture
def pictures(tmp_path):
    for i in range(20):
        save(tmp_path / "in" / f"{'ab'[i % 2]}" / f"{i:02}.png", i)
    return tmp_path / "in"


def adds_up(report):
    parts = ("computed", "kept", "moved", "copied", "returned")
    assert report.read == sum(getattr(report, name) for name in parts)
    assert report.listed == report.read + report.unread
    return {n: getattr(report, n) for n in (*parts, "removed", "unread") if getattr(report, n)}


def vectors(store):
    """Features by the name of each file, to compare two collections."""
    pictures = store.pictures()
    return dict(zip(pictures.paths, store.features(pictures.rows).tolist(), strict=True))


def index(folder, model, *sources, **more):
    with Store.writing(folder):
        report = update(folder, model, sources, **more)
    return adds_up(report), report, Store.open(folder)


def test_an_index_has_what_the_model_makes_of_each_picture(pictures, tmp_path, model):
    counts, _, store = index(tmp_path / "c", model, pictures)
    assert counts == {"computed": 20}
    found = store.pictures()
    assert found.paths == sorted(map(str, pictures.rglob("*.png")))
    expected = model.features(model.preprocess(found.paths)).numpy()
    np.testing.assert_allclose(store.features(found.rows), expected, atol=BYTE)
    assert (found.widths[0], found.heights[0]) == (12, 10)
    assert found.hashes[3] == hashlib.sha256(Path(found.paths[3]).read_bytes()).hexdigest()
    small = np.asarray(Image.open(found.paths[5]).resize((32, 32), Image.Resampling.BOX))
    assert np.abs(store.small(found.rows[5:6])[0].astype(int) - small).max() <= 1
    assert read_bytes(store, 5) == Path(found.paths[5]).read_bytes()


def test_an_update_costs_what_changed(pictures, tmp_path, model):
    index(tmp_path / "c", model, pictures)
    saw = model.saw
    assert index(tmp_path / "c", model)[0] == {"kept": 20}
    save(pictures / "c.png", 100)
    save(pictures / "a" / "00.png", 101)
    assert index(tmp_path / "c", model)[0] == {"computed": 2, "kept": 19, "removed": 1}
    assert model.saw == saw + 2
    os.utime(pictures / "c.png", ns=(1, 1))  # touched, and the same
    assert index(tmp_path / "c", model)[0] == {"kept": 21}
    assert model.saw == saw + 2
    assert 1 in Store.open(tmp_path / "c").pictures().mtimes


def test_moved_renamed_copied_removed_and_back(pictures, tmp_path, model):
    _, _, before = index(tmp_path / "c", model, pictures)
    rows = dict(zip(before.pictures().hashes, before.pictures().rows, strict=True))
    saw = model.saw
    names = sorted(pictures.rglob("*.png"))
    (pictures / "new").mkdir()
    for path in names[:10]:
        path.rename(pictures / "new" / f"renamed-{path.name}")
    shutil.copy2(names[10], pictures / "copy.png")
    names[11].rename(tmp_path / "away.png")
    names[12].unlink()
    counts, _, store = index(tmp_path / "c", model)
    assert counts == {"moved": 10, "copied": 1, "kept": 8, "removed": 2}
    found = store.pictures()
    assert sorted(found.paths) == sorted(map(str, pictures.rglob("*.png")))
    assert all(rows[h] == row for h, row in zip(found.hashes, found.rows, strict=True) if row < 20)
    expected = model.features(model.preprocess(found.paths)).numpy()
    np.testing.assert_allclose(store.features(found.rows), expected, atol=BYTE)
    (tmp_path / "away.png").rename(pictures / "back.png")
    assert index(tmp_path / "c", model)[0] == {"kept": 19, "returned": 1}
    assert model.saw == saw + len(expected)


def test_half_renamed_a_tenth_removed_a_tenth_added(tmp_path, model):
    for i in range(100):
        save(tmp_path / "in" / f"{i:03}.png", i)
    index(tmp_path / "c", model, tmp_path / "in")
    for i in range(50):
        (tmp_path / "in" / f"{i:03}.png").rename(tmp_path / "in" / f"n{i * 37 % 100:03}.png")
    for i in range(50, 60):
        (tmp_path / "in" / f"{i:03}.png").unlink()
    for i in range(10):
        save(tmp_path / "in" / f"added{i}.png", 1000 + i)
    saw = model.saw
    counts, _, _ = index(tmp_path / "c", model)
    assert counts == {"computed": 10, "moved": 50, "kept": 40, "removed": 10}
    assert model.saw == saw + 10


def test_names_that_change_places(pictures, tmp_path, model):
    _, _, before = index(tmp_path / "c", model, pictures)
    swapped = vectors(before)
    first, second = pictures / "a" / "00.png", pictures / "b" / "01.png"
    first.rename(tmp_path / "x")
    second.rename(first)
    (tmp_path / "x").rename(second)
    for path in (first, second):
        os.utime(path, ns=(5, 5))
    saw = model.saw
    _, report, after = index(tmp_path / "c", model)
    assert (report.read, report.computed, model.saw) == (20, 0, saw)
    swapped[str(first)], swapped[str(second)] = swapped[str(second)], swapped[str(first)]
    assert vectors(after) == swapped


def test_a_source_that_is_away_is_kept_and_a_moved_one_known(pictures, tmp_path, model):
    index(tmp_path / "c", model, pictures)
    pictures.rename(tmp_path / "elsewhere")
    counts, report, store = index(tmp_path / "c", model)
    assert counts == {}
    assert "is not there: what is known of its pictures is kept" in report.notes[0]
    assert len(store.pictures()) == 20
    assert index(tmp_path / "c", model, tmp_path / "elsewhere")[0] == {"moved": 20}


# -- awkward files ---------------------------------------------------------------------------------

HEADER = b"IHDR" + (15_500).to_bytes(4) * 2 + b"\x08\x02\0\0\0"
BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + HEADER + zlib.crc32(HEADER).to_bytes(4) + b"\0\0\x20\0IDAT"


def awkward(at):
    """A folder of what users have in folders; the names that are to be read, by kind."""
    at.mkdir()
    good = save(at / "good.png", 1)
    exif = Image.Exif()
    exif[274] = 6
    save(at / "turned.jpg", 2, exif=exif)
    picture(3).convert("CMYK").save(at / "cmyk.jpg")
    Image.fromarray(np.arange(120, dtype=np.uint16).reshape(10, 12) * 500).save(at / "deep.png")
    Image.fromarray(np.linspace(0, 1, 120, dtype=np.float32).reshape(10, 12)).save(at / "f.tiff")
    picture(4).save(at / "moving.gif", save_all=True, append_images=[picture(5)])
    picture(6).quantize(16).save(at / "palette.png")
    Image.fromarray(np.full((10, 12, 4), 128, np.uint8)).save(at / "clear.png")
    shutil.copy(save(at / "wrong.png", 7), at / "no_ending")
    picture(8).save(at / "wrong.jpg", format="PNG")
    picture(9).save(at / "Äpfel und 図.png")
    picture(10).save(os.path.join(os.fsencode(at), b"\xff.png").decode("utf-8", "surrogateescape"))
    read = {path.name for path in at.iterdir()}
    (at / "broken.png").write_bytes(good.read_bytes()[:60])
    (at / "empty.jpg").write_bytes(b"")
    (at / "bomb.png").write_bytes(BOMB + b"\0" * 100)
    (at / "notes.txt").write_text("nothing")
    (at / "raw.cr2").write_bytes(b"some camera's")
    (at / "nowhere.png").symlink_to(at / "gone.png")
    (at / "loop.png").symlink_to(at / "loop.png")
    os.mkfifo(at / "pipe.png")
    unread = {path.name for path in at.iterdir()} | {"nowhere.png", "loop.png"}
    (at / "linked.png").symlink_to(good)
    os.link(good, at / "hard.png")
    (at / "again").symlink_to(at)
    (at / ".hidden.png").write_bytes(good.read_bytes())
    return read, unread - read


def test_every_awkward_file_is_accounted_for(tmp_path, model):
    read, unread = awkward(tmp_path / "in")
    counts, report, store = index(tmp_path / "c", model, tmp_path / "in")
    assert {os.path.basename(path) for path in store.pictures().paths} == read
    reasons = {os.path.basename(path): why for path, why in store.unread()}
    assert set(reasons) == unread
    assert all(reasons.values())
    assert "89,478,485 pixels" in reasons["bomb.png"]
    assert "back to itself" in reasons["loop.png"]
    assert {os.path.basename(again) for again, _ in report.linked} == {"hard.png", "linked.png"}
    assert report.listed == len(read) + len(unread)
    assert counts["computed"] == len(read) - 1  # one is there twice
    assert any("hidden" in note for note in report.notes)
    at = [os.path.basename(path) for path in store.pictures().paths].index("turned.jpg")
    assert (store.pictures().widths[at], store.pictures().heights[at]) == (10, 12)
    again, report, after = index(tmp_path / "c", model, tmp_path / "in")
    assert again == {"kept": len(read), "unread": len(unread)}
    assert after.unread() == store.unread()
    assert len(after) == len(store)


def test_what_could_not_be_read_is_tried_again_when_that_may_have_changed(tmp_path, model):
    save(tmp_path / "in" / "a.png", 1)
    (tmp_path / "in" / "b.png").write_bytes(b"not written to its end")
    assert index(tmp_path / "c", model, tmp_path / "in")[0] == {"computed": 1, "unread": 1}
    save(tmp_path / "in" / "b.png", 2)
    assert index(tmp_path / "c", model)[0] == {"computed": 1, "kept": 1}
    assert Store.open(tmp_path / "c").unread() == []


def test_pictures_that_can_be_read_since_then(tmp_path, model, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    (tmp_path / "in").mkdir()
    heif.from_pillow(picture(1, (64, 64))).save(tmp_path / "in" / "a.heic")
    with monkeypatch.context() as patch:
        patch.setattr("zoo.otherkinds.installed", lambda module: False)
        assert index(tmp_path / "c", model, tmp_path / "in")[0] == {"unread": 1}
        ((_, reason),) = Store.open(tmp_path / "c").unread()
        assert "pillow-heif" in reason
    assert index(tmp_path / "c", model)[0] == {"computed": 1}


def test_a_collection_within_its_source_is_no_picture_of_it(pictures, model):
    folder = pictures / "index"
    assert index(folder, model, pictures)[0] == {"computed": 20}
    Image.new("RGB", (9, 9)).save(folder / "thumbnail.png")
    counts, report, _ = index(folder, model)
    assert counts == {"kept": 20}
    assert any("files of collections left out" in note for note in report.notes)


# -- archives --------------------------------------------------------------------------------------


def encoded(number):
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


def make_zip(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members:
            file.writestr(name, data)


def make_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def make_parquet(path, members):
    rows = [{"bytes": data, "path": name} for name, data in members]
    pyarrow.parquet.write_table(pyarrow.table({"image": rows}), path)


ARCHIVES = {
    "a.zip": make_zip,
    "a.tar": make_tar,
    "a.tar.gz": lambda path, members: make_tar(path, members, "w:gz"),
    "a.parquet": make_parquet,
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_pictures_in_archives(tmp_path, model, name):
    (tmp_path / "in").mkdir()
    members = [("x/1.png", encoded(1)), ("x/2.png", encoded(2)), ("bad.png", b"junk"),
               ("../../3.png", encoded(3))]  # fmt: skip
    if name != "a.parquet":
        members += [("1.txt", b"a text"), (".4.png", encoded(4)), ("x/1.png", encoded(5))]
    ARCHIVES[name](tmp_path / "in" / name, members)
    here = sorted(tmp_path.rglob("*"))
    counts, report, store = index(tmp_path / "c", model, tmp_path / "in")
    assert counts == {"computed": 3 + (name != "a.parquet"), "unread": 1}
    assert sorted(p for p in tmp_path.rglob("*") if tmp_path / "c" not in (p, *p.parents)) == here
    found = store.pictures()
    assert all(path.startswith(f"{tmp_path}/in/{name}/") for path in found.paths)
    for row, member in zip(found.rows, found.members, strict=True):
        data = read_bytes(store, int(row))
        assert model.features(model.preprocess(Image.open(io.BytesIO(data)))).numpy() == (
            pytest.approx(store.features(np.array([row])), abs=BYTE)
        )
        assert member is not None
    if name != "a.parquet":
        assert "1 members are no pictures by their names, 1 are hidden" in report.notes[0]
        assert "x/1.png (2)" in found.members
    saw = model.saw
    assert index(tmp_path / "c", model)[0] == {"kept": counts["computed"], "unread": 1}
    members[0] = ("x/1.png", encoded(6))
    ARCHIVES[name](tmp_path / "in" / name, members)
    expected = {"kept": counts["computed"] - 1, "computed": 1, "removed": 1, "unread": 1}
    assert index(tmp_path / "c", model)[0] == expected
    assert model.saw == saw + 1


@pytest.mark.parametrize("name", ARCHIVES)
def test_damaged_archives_are_rows_with_reasons(tmp_path, model, name):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    ARCHIVES[name](path, [(f"{i}.png", encoded(i)) for i in range(9)])
    whole = path.read_bytes()
    for data in (b"", b"junk" * 300, whole[: len(whole) // 2 + 700]):
        path.write_bytes(data)
        _, report, store = index(tmp_path / f"c{len(data)}", model, tmp_path / "in")
        assert report.unread == 1
        ((where, reason),) = store.unread()
        assert where == str(path)
        assert "damaged" in reason or "archive" in reason or "empty" in reason, reason
        assert report.read < 9


def test_an_archive_that_was_left_halfway_is_read_again(tmp_path, model, monkeypatch):
    (tmp_path / "in").mkdir()
    make_tar(tmp_path / "in" / "a.tar", [(f"{i}.png", encoded(i)) for i in range(20)])
    monkeypatch.setattr(Store, "shard_rows", 4)
    few_at_once(monkeypatch)
    stopped = Stop(3)
    with pytest.raises(KeyboardInterrupt):
        index(tmp_path / "c", model, tmp_path / "in", progress=stopped)
    part = Store.open(tmp_path / "c")
    assert 0 < len(part) < 20
    counts, _, store = index(tmp_path / "c", model)
    assert counts == {"kept": len(part), "computed": 20 - len(part)}
    assert len(store) == 20
    assert index(tmp_path / "c", model)[0] == {"kept": 20}


def test_encrypted_members_are_said(tmp_path, model):
    (tmp_path / "in").mkdir()
    make_zip(tmp_path / "in" / "a.zip", [("1.png", encoded(1))])
    data = bytearray((tmp_path / "in" / "a.zip").read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "in" / "a.zip").write_bytes(data)
    _, _, store = index(tmp_path / "c", model, tmp_path / "in")
    assert "encrypted" in store.unread()[0][1]


# -- stopped, killed, refused ----------------------------------------------------------------------


def few_at_once(monkeypatch):
    """Batches of three pictures or a few more, so that small collections have several."""
    monkeypatch.setattr("zoo.collection.pipeline.BYTES", 3 * 4 * 3 * 8 * 8)
    monkeypatch.setattr("zoo.collection.pipeline.chunk_size", lambda preprocessing: 3)


class Stop:
    """Ctrl-C when progress is told for the n-th time."""

    def __init__(self, times):
        self.times = times

    def __call__(self, done, total):
        self.times -= 1
        if not self.times:
            raise KeyboardInterrupt


class Killed(BaseException):
    """What nobody catches, in the place of SIGKILL."""


def same(one, other):
    """Whether two collections have the same rows."""
    tables = [store.tables().to_pydict() for store in (one, other)]
    assert tables[0] == tables[1]
    np.testing.assert_array_equal(one.features(slice(None)), other.features(slice(None)))
    np.testing.assert_array_equal(one.small(slice(None)), other.small(slice(None)))
    assert one.manifest.shards == other.manifest.shards


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_of_writing_costs_a_shard(tmp_path, model, monkeypatch, step):
    """Whatever file was to take its place next: the next run ends as an undisturbed one does."""
    monkeypatch.setattr(Store, "shard_rows", 5)
    monkeypatch.setattr("zoo.files.os.fsync", lambda number: None)
    few_at_once(monkeypatch)
    for i in range(11):
        save(tmp_path / "in" / f"{i:02}.png", i % 9)
    (tmp_path / "in" / "bad.png").write_bytes(b"junk")
    _, _, whole = index(tmp_path / "whole", model, tmp_path / "in")
    replaced = os.replace
    kills = 0
    while True:
        calls = iter(range(kills))

        def replace(*names, calls=calls):
            if next(calls, None) is None:
                raise Killed
            replaced(*names)

        with monkeypatch.context() as patch:
            patch.setattr("zoo.files.os.replace", replace)
            patch.setattr("zoo.files.Path.unlink", lambda *a, **b: None)  # nobody tidies up
            try:
                index(tmp_path / f"c{kills}", model, tmp_path / "in")
                break
            except Killed:
                pass
        had = len(Store.open(tmp_path / f"c{kills}")) if kills else 0
        saw = model.saw
        _, _, store = index(tmp_path / f"c{kills}", model, tmp_path / "in")
        assert model.saw - saw <= 11 - had + 1
        same(store, whole)
        assert not [*store.folder.glob(".zoo-*")]
        kills += step
    assert kills > 4 * 3


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_while_moves_are_written(tmp_path, model, monkeypatch, step):
    monkeypatch.setattr(Store, "shard_rows", 8)
    monkeypatch.setattr("zoo.files.os.fsync", lambda number: None)
    for i in range(24):
        save(tmp_path / "in" / f"{i:02}.png", i)
    index(tmp_path / "c", model, tmp_path / "in")
    for i in range(0, 24, 2):
        (tmp_path / "in" / f"{i:02}.png").rename(tmp_path / "in" / f"m{i:02}.png")
    (tmp_path / "in" / "01.png").unlink()
    save(tmp_path / "in" / "new.png", 100)
    shutil.copytree(tmp_path / "c", tmp_path / "c0")
    _, _, whole = index(tmp_path / "c", model)
    replaced, kills = os.replace, 0
    while True:
        calls = iter(range(kills))

        def replace(*names, calls=calls):
            if next(calls, None) is None:
                raise Killed
            replaced(*names)

        folder = tmp_path / f"k{kills}"
        shutil.copytree(tmp_path / "c0", folder)
        with monkeypatch.context() as patch:
            patch.setattr("zoo.files.os.replace", replace)
            try:
                index(folder, model)
                break
            except Killed:
                pass
        _, _, store = index(folder, model)
        same(store, whole)
        kills += step
    assert kills >= 4


def test_ctrl_c_keeps_the_shards_that_are_whole(pictures, tmp_path, model, monkeypatch):
    monkeypatch.setattr(Store, "shard_rows", 4)
    few_at_once(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        index(tmp_path / "c", model, pictures, progress=Stop(4))
    had = len(Store.open(tmp_path / "c"))
    assert 0 < had < 20
    assert index(tmp_path / "c", model)[0] == {"kept": had, "computed": 20 - had}


def test_what_took_long_is_written_before_a_shard_is_full(pictures, tmp_path, model, monkeypatch):
    monkeypatch.setattr(indexing, "SECONDS", 0.0)
    few_at_once(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        index(tmp_path / "c", model, pictures, progress=Stop(3))
    assert len(Store.open(tmp_path / "c")) > 0


def test_a_full_disk_is_one_message_and_the_next_run_goes_on(
    pictures, tmp_path, model, monkeypatch
):
    monkeypatch.setattr(Store, "shard_rows", 8)
    fsync, calls = os.fsync, iter(range(7))

    def full(number):
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr("zoo.files.os.fsync", full)
        with pytest.raises(FileError, match="No space left"):
            zoo.Collection.index(model, [pictures], tmp_path / "c")
    collection = zoo.Collection.index(model, [pictures], tmp_path / "c")
    assert len(collection) == 20
    assert not [*collection.folder.glob(".zoo-*")]


def test_a_folder_where_nothing_can_be_written(pictures, tmp_path, model):
    if os.getuid() == 0:
        target = Path("/proc/collection")
    else:
        target = tmp_path / "readonly" / "c"
        target.parent.mkdir()
        target.parent.chmod(0o500)
    with pytest.raises(FileError, match="cannot be used"):
        zoo.Collection.index(model, [pictures], target)


def test_a_collection_is_read_where_nothing_can_be_written(pictures, tmp_path, model, monkeypatch):
    zoo.Collection.index(model, [pictures], tmp_path / "c")
    opened = os.open

    def readonly(path, flags, *more, **others):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return opened(path, flags, *more, **others)

    monkeypatch.setattr("os.open", readonly)
    collection = zoo.Collection(tmp_path / "c")
    assert collection.features().shape == (20, 12)
    with pytest.raises(FileError, match="Read-only file system"):
        zoo.Collection.index(model, [], tmp_path / "c")


def test_two_commands_on_one_collection(pictures, tmp_path, model, monkeypatch):
    monkeypatch.setattr("zoo.collection.store.WAIT", 0.2)
    with Store.writing(tmp_path / "c"), pytest.raises(CollectionError, match="another command"):
        zoo.Collection.index(model, [pictures], tmp_path / "c")
    assert len(zoo.Collection.index(model, [pictures], tmp_path / "c")) == 20


def test_a_newer_collection_is_left_alone(pictures, tmp_path, model):
    zoo.Collection.index(model, [pictures], tmp_path / "c")
    path = tmp_path / "c" / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 9}))
    before = {p.name: p.read_bytes() for p in (tmp_path / "c").iterdir()}
    for call in (
        lambda: zoo.Collection.index(model, [pictures], tmp_path / "c"),
        lambda: zoo.Collection(tmp_path / "c"),
    ):
        with pytest.raises(CollectionError, match="written by a newer zoo"):
            call()
    assert {p.name: p.read_bytes() for p in (tmp_path / "c").iterdir()} == before


def test_a_users_folder_is_left_alone(pictures, tmp_path, model):
    for folder in (pictures, pictures / "a"):
        with pytest.raises(CollectionError, match="is no collection and not empty"):
            zoo.Collection.index(model, [pictures], folder)
    assert not (pictures / "collection.lock").exists()


def test_mistakes_are_one_message(pictures, tmp_path, model):
    with pytest.raises(ImageError, match="there is no such file"):
        zoo.Collection.index(model, [tmp_path / "none"], tmp_path / "c")
    with pytest.raises(InputError, match="name at least one folder"):
        zoo.Collection.index(model, [], tmp_path / "c")
    assert not (tmp_path / "c").exists()
    zoo.Collection.index(model, [pictures], tmp_path / "c")
    other = Means()
    other.name = "others"
    with pytest.raises(CollectionError, match="was made with means, and not with others"):
        zoo.Collection.index(other, [pictures], tmp_path / "c")


def test_features_that_are_no_numbers_are_a_reason(pictures, tmp_path, model, monkeypatch):
    def features(images):
        values = Means._features(model, images)
        values[images.mean((1, 2, 3)) > 0.5] = float("nan")
        values[:, 0] = 1e9
        return values

    monkeypatch.setattr(model, "_features", features)
    counts, _, store = index(tmp_path / "c", model, pictures)
    assert counts["computed"] + counts["unread"] == 20
    assert {why for _, why in store.unread()} == {"the model has no finite features of it"}
    assert np.isfinite(store.features(store.pictures().rows)).all()


def test_nothing_to_index_is_an_empty_collection(tmp_path, model):
    (tmp_path / "in").mkdir()
    assert index(tmp_path / "c", model, tmp_path / "in")[0] == {}
    collection = zoo.Collection(tmp_path / "c")
    assert (len(collection), collection.unread()) == (0, [])
    assert collection.features().shape == (0, 12)
    save(tmp_path / "in" / "a.png", 1)
    assert index(tmp_path / "c", model)[0] == {"computed": 1}


def test_decisions_may_be_there_before_the_collection(pictures, tmp_path, model):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "decisions.jsonl").write_text("")
    assert len(zoo.Collection.index(model, [pictures], tmp_path / "c")) == 20


def test_contents_are_found_in_blocks():
    from zoo.collection.known import Contents

    contents, rng = Contents(), random.Random(0)
    digests = [hashlib.sha256(b"%d" % (i // 2)).digest() for i in range(20_000)]
    digests[7] = bytes(31) + b"\x01"
    digests[8] = b"\x01" + bytes(31)
    contents.add_many(np.array(digests[:9000], "S32"), np.arange(9000))
    for row in range(9000, 20_000):
        contents.add(digests[row], row)
    for row in [7, 8, *(rng.randrange(10, 20_000) for _ in range(300))]:
        expected = [row] if row in (7, 8) else [row // 2 * 2, row // 2 * 2 + 1]
        assert contents.rows(digests[row]) == expected
    assert bytes(32) not in contents
    assert len(contents._blocks) < 8


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pictures(tmp_path):
    """Peaks of two processes, of few and of eight times as many pictures of a hundred bytes."""
    (tmp_path / "many").mkdir()
    (tmp_path / "few").mkdir()
    for i in range(8000):
        data = encoded(i % 40) + b"%d" % i  # each another content
        (tmp_path / "many" / f"{i:05}.png").write_bytes(data)
        if i < 1000:
            (tmp_path / "few" / f"{i:05}.png").write_bytes(data)
    code = (
        "import resource, sys, zoo\n"
        "zoo.Collection.index('pca.mnist', [sys.argv[1]], sys.argv[2])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", code, tmp_path / f, tmp_path / f"c{f}"]))
        for f in ("few", "many")
    ]
    assert peaks[1] < 1.1 * peaks[0], "kilobytes"
