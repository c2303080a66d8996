"""Merging collections: each row once, nothing computed, the old ones untouched."""

import json
import os
import shutil
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import main
from zoo.collection import merging
from zoo.collection.decisions import Decisions
from zoo.collection.store import Store
from zoo.errors import CollectionError, FileError, InputError

MODEL = "pca.mnist"


def save(path, number):
    rng = np.random.default_rng(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(path)
    return path


def index(folder, *sources, model=MODEL, **more):
    return zoo.Collection.index(model, sources, folder, **more)


@pytest.fixture
def both(tmp_path):
    """Two collections: of the folders one and two, and of two and three."""
    for i, name in enumerate(("one", "two", "three")):
        for j in range(6):
            save(tmp_path / name / f"{j}.png", 10 * i + j)
    (tmp_path / "one" / "bad.png").write_bytes(b"junk")
    with zipfile.ZipFile(tmp_path / "three" / "some.zip", "w") as archive:
        archive.write(tmp_path / "one" / "3.png", "copy.png")
        archive.write(tmp_path / "one" / "bad.png", "bad.png")
    index(tmp_path / "a", tmp_path / "one", tmp_path / "two")
    index(tmp_path / "b", tmp_path / "two", tmp_path / "three")
    return tmp_path / "a", tmp_path / "b"


def contents(folder):
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("lock")
    }


def known(collection):
    """Of each path its content's hash and features."""
    pictures = collection.pictures()
    assert len(set(pictures.paths)) == len(pictures)
    rows = zip(pictures.hashes, collection.features().tolist(), strict=True)
    return dict(zip(pictures.paths, rows, strict=True))


def test_all_rows_of_both_and_each_once(both, tmp_path, monkeypatch):
    before = [contents(each) for each in both]
    monkeypatch.setattr(Store, "shard_rows", 5)
    merged = zoo.Collection.merge(both, tmp_path / "c")
    assert [contents(each) for each in both] == before
    a, b = map(zoo.Collection, both)
    assert known(merged) == known(a) | known(b)
    assert len(merged) == 19
    assert sorted(merged.unread()) == sorted([*a.unread(), *b.unread()])
    assert merged.merged.rows == [13, 14]
    assert merged.merged.taken == [13, 8]
    assert merged.merged.outdated == 0
    small = merged.store.small(merged.pictures().rows)
    of = dict(zip(merged.pictures().paths, small, strict=True))
    for old in (a, b):
        pictures = old.pictures()
        for path, pixels in zip(pictures.paths, old.store.small(pictures.rows), strict=True):
            np.testing.assert_array_equal(of[path], pixels)
    # Brought up to date, nothing is computed: all that is there is known.
    done = zoo.Collection.index(None, [], tmp_path / "c").report
    assert (done.computed, done.removed, done.kept, done.read) == (0, 0, 19, 19)
    assert {layer.name for layer in merged.group()} >= {"middle"}


def test_of_two_contents_of_a_file_the_later_one_counts(both, tmp_path):
    changed = save(tmp_path / "two" / "1.png", 99)
    later = os.stat(changed).st_mtime_ns + 10**9
    os.utime(changed, ns=(0, later))
    (tmp_path / "two" / "2.png").unlink()
    index(both[1])
    for order in (both, both[::-1]):
        out = tmp_path / f"c-{order[0].name}"
        merged = zoo.Collection.merge(order, out)
        assert known(merged)[str(changed)] == known(zoo.Collection(both[1]))[str(changed)]
        assert merged.merged.outdated == 1
        done = zoo.Collection.index(None, [], out).report
        # The one that only the first has seen is gone, and found to be.
        assert (done.computed, done.removed, done.read) == (0, 1, 18)
        # What it had before is known still.
        save(changed, 11)
        done = zoo.Collection.index(None, [], out).report
        assert (done.computed, done.returned) == (0, 1)
        os.utime(save(changed, 99), ns=(0, later))


def test_a_file_that_could_be_read_later_counts_as_read(tmp_path):
    path = tmp_path / "in" / "x.png"
    save(tmp_path / "in" / "y.png", 1)
    path.write_bytes(b"junk")
    index(tmp_path / "a", tmp_path / "in")
    save(path, 2)
    index(tmp_path / "b", tmp_path / "in")
    merged = zoo.Collection.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert len(merged) == 2
    assert merged.unread() == []


def test_what_was_decided_in_either_holds(both, tmp_path):
    a, b = map(zoo.Collection, both)
    first, second = a.pictures().hashes[0], b.pictures().hashes[-1]
    Decisions(both[0] / "decisions.jsonl").append("name", [first], "cats")
    Decisions(both[1] / "decisions.jsonl").append("name", [first], "dogs")
    Decisions(both[1] / "decisions.jsonl").append("name", [second], "birds")
    with (both[0] / "decisions.jsonl").open("ab") as file:
        file.write(b'{"kind": "of later", "hashes": [], "time": "2020"}\n{"kind": "na')
    shutil.copy(both[1] / "decisions.jsonl", tmp_path / "own")
    merged = zoo.Collection.merge(both, tmp_path / "c")
    read = Decisions(tmp_path / "c" / "decisions.jsonl").read()
    assert [each.value for each in read.decisions] == ["cats", "dogs", "birds"]
    assert read.unknown == {"of later": 1}
    assert (read.torn, merged.merged.torn, merged.merged.decisions) == (0, 1, 4)
    names = dict(zip(merged.pictures().hashes, merged.names(), strict=True))
    assert names[first][0] == "dogs", "the later one counts"
    assert names[second][0] == "birds"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"model": "deep_ae.mnist"}, "deep_ae.mnist"),
        ({"fit": "stretch"}, "fit stretch"),
        ({"background": 1.0}, "background 1.0"),
    ],
)
def test_collections_that_cannot_be_compared(both, tmp_path, other, said):
    index(tmp_path / "other", tmp_path / "one", **other)
    with pytest.raises(CollectionError, match=said):
        zoo.Collection.merge([both[0], tmp_path / "other"], tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_mistakes(both, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for named, out, error, said in (
        ([both[0]], "c", InputError, "two collections at least"),
        ([both[0], both[0]], "c", InputError, "each of them once"),
        ([*both, both[0]], "c", InputError, "each of them once"),
        ([both[0], tmp_path / "one"], "c", CollectionError, "is no collection"),
        (both, "full", CollectionError, "is there already"),
        (both, "a", CollectionError, "is there already"),
        (both, "full/mine.txt/c", FileError, "mine.txt"),
    ):
        with pytest.raises(error, match=said):
            zoo.Collection.merge(named, tmp_path / out)
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    store = Store.open(both[1])
    store.manifest.settings["under_way"] = [0, "some.zip"]
    store.save()
    with pytest.raises(CollectionError, match="zoo index --out"):
        zoo.Collection.merge(both, tmp_path / "c")
    store.manifest.model |= {"weights": "model"}
    store.manifest.settings["under_way"] = None
    store.save()
    assert len(zoo.Collection.merge(both, tmp_path / "c")) == 19
    first = Store.open(both[0])
    first.manifest.model |= {"weights": "model"}
    first.save()
    with pytest.raises(CollectionError, match="local-dir:"):
        zoo.Collection.merge(both, tmp_path / "d")


def test_an_error_in_the_middle_leaves_nothing(both, tmp_path, monkeypatch):
    there = sorted(os.listdir(tmp_path))
    monkeypatch.setattr(merging, "write_atomically", _full)
    Decisions(both[0] / "decisions.jsonl").append("name", ["0" * 64], "cats")
    with pytest.raises(FileError, match="No space"):
        zoo.Collection.merge(both, tmp_path / "c")
    assert sorted(os.listdir(tmp_path)) == there


def _full(path, data):
    raise OSError(28, "No space left on device", str(path))


def test_the_command(both, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["merge", "a", "b", "--out", "c"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        "19 pictures in c: 13 of the 13 rows of a, 8 of the 14 rows of b",
        "Try: zoo group c",
    ]
    done = CliRunner().invoke(main, ["merge", "a", "b", "--out", "d", "--json"])
    said = json.loads(done.stdout)
    assert (said["pictures"], said["taken"], said["out"]) == (19, [13, 8], "d")
    done = CliRunner().invoke(main, ["merge", "a", "b", "--out", "d"])
    assert done.exit_code == 2
    assert "d is there already" in done.stderr
