"""The folder of a collection: what is written is read, whole or not at all."""

import json
import os

import numpy as np
import pytest

from zoo.collection import store as store_module
from zoo.collection.store import MANIFEST, MEASURES, Manifest, Shard, Store
from zoo.errors import CollectionError
from zoo.files import below


def rows(names, *, reason=None, first=0, source=0):
    """Rows to add, each with features that tell which it is."""
    numbers = np.arange(first, first + len(names))
    columns = {
        "path": [os.fsencode(n).decode("utf-8", "backslashreplace") for n in names],
        "raw": [os.fsencode(n) if "\udcff" in n else None for n in names],
        "member": [None] * len(names),
        "source": [source] * len(names),
        "hash": [f"{n:064x}" for n in numbers],
        "bytes": (numbers + 10).tolist(),
        "container": [None] * len(names),
        "mtime": numbers.tolist(),
        "width": [7] * len(names),
        "height": [5] * len(names),
        "orientation": [1] * len(names),
        "reason": [reason] * len(names),
        "removed": [False] * len(names),
        **{name: [0.5] * len(names) for name in MEASURES},
    }
    features = np.repeat(numbers[:, None].astype(np.float32), 3, 1)
    small = np.zeros((len(names), 32, 32, 3), np.uint8) + numbers[:, None, None, None].astype("u1")
    return Shard(columns, features, small)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A collection of three shards of at most 4 rows."""
    monkeypatch.setattr(Store, "shard_rows", 4)
    model = {"name": "pca", "sha256": None, "weights": None, "features": 3}
    store = Store(tmp_path / "c", Manifest(model, {}, [str(tmp_path / "a\udcff")]))
    with Store.writing(store.folder):
        store.save()
        store.append(rows([f"{i}.png" for i in range(6)]))
        store.append(rows(["bad.png"], reason="empty", first=6))
        store.append(rows(["odd\udcff.png", "z.png"], first=7))
    return store


def test_what_was_written_is_read(made, tmp_path):
    store = Store.open(made.folder)
    assert [shard["rows"] for shard in store.manifest.shards] == [4, 4, 1]
    pictures = store.pictures()
    assert pictures.rows.tolist() == [0, 1, 2, 3, 4, 5, 7, 8]
    assert pictures.paths[0] == str(tmp_path / "a\udcff" / "0.png")
    assert pictures.paths[-2] == str(tmp_path / "a\udcff" / "odd\udcff.png")
    assert pictures.hashes[-1] == f"{8:064x}"
    assert (pictures.widths == 7).all()
    assert set(pictures.measures) == set(MEASURES)
    contents = store.contents()
    assert contents.rows.tolist() == pictures.rows.tolist()
    assert contents.hashes == pictures.hashes
    assert store.unread() == [(str(tmp_path / "a\udcff" / "bad.png"), "empty")]
    wanted = np.array([8, 0, 5, 5])
    assert store.features(wanted)[:, 0].tolist() == [8, 0, 5, 5]
    assert store.features(wanted).dtype == np.float32
    assert store.small(wanted)[:, 3, 3, 1].tolist() == [8, 0, 5, 5]
    assert store.features(slice(None)).shape == (9, 3)
    with pytest.raises(IndexError):
        store.features(np.array([9]))


@pytest.mark.parametrize("root", ["/", "/pictures", "s3://bucket", "s3://bucket/pictures"])
def test_a_path_is_what_lies_below_its_source(tmp_path, root):
    model = {"name": "pca", "sha256": None, "weights": None, "features": 3}
    store = Store(tmp_path / "c", Manifest(model, {}, ["/other", root]))
    names = ["a.png", "", "/b.png", "c/d.png"]
    with Store.writing(store.folder):
        store.save()
        store.append(rows(names, source=1))
    assert store.pictures().paths == [below(root, name) for name in names]


def test_few_shards_stay_mapped_into_memory(made, monkeypatch):
    monkeypatch.setattr(store_module, "MAPPED", 20_000)
    store = Store.open(made.folder)
    small = store.small(np.arange(9))
    assert [small[row, 0, 0, 0] for row in range(9)] == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert 0 < sum(each.nbytes for each in store._maps.values()) <= 20_000
    assert (store.features(np.array([8, 0, 5]))[:, 0] == [8, 0, 5]).all()


def test_rows_beyond_the_manifest_are_not_there(made, monkeypatch):
    before = Store.open(made.folder)
    monkeypatch.setattr(Store, "save", lambda self: 1 / 0)
    with Store.writing(made.folder), pytest.raises(ZeroDivisionError):
        made.append(rows(["new.png"] * 5, first=9))
    after = Store.open(made.folder)
    assert after.pictures().paths == before.pictures().paths
    assert after.features(slice(None)).tolist() == before.features(slice(None)).tolist()
    assert len(made) == 9


def test_the_fingerprint_is_of_what_is_there(made):
    before = made.fingerprint()
    table = made.table(0)
    gone = table.set_column(
        table.schema.get_field_index("removed"), "removed", [[True, False, False, False]]
    )
    made.rewrite(0, gone)
    assert made.fingerprint() != before
    assert made.pictures().rows[0] == 1
    made.rewrite(0, table)
    assert made.fingerprint() == before


def test_one_command_at_a_time(made):
    second = Store.writing(made.folder, wait=0)
    with Store.writing(made.folder), pytest.raises(CollectionError, match="another command"):
        second.__enter__()
    with Store.writing(made.folder, wait=0):
        pass
    assert not (made.folder / "collection.lock").exists()


def test_half_written_files_go(made):
    leftover = made.folder / f".zoo-{'0' * 16}.tmp"
    leftover.write_bytes(b"")
    with Store.writing(made.folder):
        assert not leftover.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "written by a newer zoo: it is of format 2"),
        ({"shards": [{"rows": 0}]}, "damaged: shards"),
        ({"shards": [{"rows": 4}] * 9}, "the file is missing"),
        ({"model": {}}, "damaged: model"),
        ({"sources": [1]}, "damaged: sources"),
        ({"settings": None}, "damaged: settings"),
    ],
)
def test_what_it_says_of_itself_is_checked(made, change, message):
    found = json.loads((made.folder / MANIFEST).read_text())
    (made.folder / MANIFEST).write_text(json.dumps({**found, **change}))
    with pytest.raises(CollectionError, match=message):
        Store.open(made.folder)


def test_no_collection(tmp_path):
    with pytest.raises(CollectionError, match="is no collection"):
        Store.open(tmp_path)
    assert not Store.exists(tmp_path)


@pytest.mark.parametrize(
    "name", ["pictures-00000.parquet", "features-00000.npy", "small-00000.npy"]
)
@pytest.mark.parametrize("damage", [b"", b"no such file of ours"])
def test_damaged_files_are_said(made, name, damage):
    (made.folder / name).write_bytes(damage)
    store = Store.open(made.folder)
    with pytest.raises(CollectionError, match=f"{name} is damaged"):
        (store.pictures(), store.features(slice(None)), store.small(slice(None)))
