"""Sources on object stores: the same rows as local ones, and faults that end well."""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from tests.collection.s3server import Server
from zoo.cli import main
from zoo.collection import remote
from zoo.collection.entries import read_bytes
from zoo.collection.exporting import link, plan
from zoo.collection.indexing import update
from zoo.collection.page.thumbnails import Thumbnails
from zoo.collection.store import Store
from zoo.data import load_data
from zoo.errors import CollectionError, DataError, ImageError, InputError, MissingDependency
from zoo.files import below
from zoo.listing import list_folder
from zoo.model import ZooModel
from zoo.spec import Preprocessing

GOOD = ["s3://bucket", "s3://bucket/a b/c.zip", "gs://bucket/ü", "hf://datasets/you/set@main/data"]
BAD = [
    "file:///etc", "file:/etc", "local://etc", "local:/etc", "zip::s3://bucket/a.zip",
    "s3://bucket/a.zip::file:///etc", "http://example.org/a.png", "s3:///etc", "s3://",
    "s3://../etc", "hf://models/you/set", "s3://bucket/a\nb", "memory://a",
]  # fmt: skip


class Means(ZooModel):
    """Features are the means of quarters."""

    image_shape = (3, 8, 8)
    name = "means"

    def _features(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def png(number, size=(12, 10)):
    rng = np.random.default_rng(number)
    written = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(
        written, "png"
    )
    return written.getvalue()


def objects():
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("in/one.png", png(100))
        archive.writestr("in/two.png", png(101))
    rows = io.BytesIO()
    table = pyarrow.table({"image": [{"bytes": png(102), "path": None}]})
    pyarrow.parquet.write_table(table, rows)
    names = [
        "a.png",
        "b/[1].png",
        "b/*.png",
        "b/x?versionId=1.png",
        "b/a+b c%20#1&=.png",
        "ü/ü.png",
        "b.png",
        "b/c/d.png",
    ]
    return {
        **{name: png(i) for i, name in enumerate(names)},
        "again.png": png(0), "bad.png": b"junk", "empty.png": b"", "notes.txt": b"no picture",
        ".hidden/a.png": png(50), "some.zip": zipped.getvalue(), "rows.parquet": rows.getvalue(),
    }  # fmt: skip


def indexed(folder, *sources):
    """Bring the collection up to date; the report, and the collection."""
    folder = Path(folder)
    with Store.writing(folder):
        done = update(folder, Means(), sources)
    return done, Store.open(folder)


def told(store):
    """Of each row all that does not say where its source is."""
    table = store.tables(("path", "member", "hash", "bytes", "width", "reason", "removed"))
    return table.to_pylist()


# -- without a server ------------------------------------------------------------------------------


@pytest.mark.parametrize("url", GOOD)
def test_addresses_of_stores_are_read(url):
    assert remote.is_url(url)
    assert remote.checked(url + "/") == url


@pytest.mark.parametrize("url", BAD)
def test_other_addresses_are_refused_in_one_message(url, tmp_path):
    assert remote.is_url(url)
    with pytest.raises(InputError, match="no address that is read; expected one of s3://BUCKET"):
        remote.checked(url)
    done = CliRunner().invoke(main, ["index", "pca.mnist", url, "--out", str(tmp_path / "c")])
    assert done.exit_code == 2
    assert "no address that is read" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("path", ["/a/b", "a:b.png", "C:\\a", "./s3://a", "hf-hub:you/model"])
def test_paths_are_no_addresses(path):
    assert not remote.is_url(path)


def test_an_address_in_a_foreign_collection_is_refused_too(tmp_path, memory):
    memory.pipe("/bucket/a.png", png(0))
    indexed(tmp_path / "c", "gs://bucket")
    manifest = tmp_path / "c" / "collection.json"
    manifest.write_text(manifest.read_text().replace("gs://bucket", "file:///etc"))
    with pytest.raises(InputError, match="no address that is read"):
        indexed(tmp_path / "c")


def test_a_missing_library_is_said_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    remote._made.cache_clear()
    with pytest.raises(MissingDependency, match=r"latentzoo\[s3\]|\[s3\]"):
        indexed(tmp_path / "c", "s3://bucket")
    assert not (tmp_path / "c").exists()


def test_names_are_in_the_order_that_a_folders_are(tmp_path):
    names = ["b.png", "a/z.png", "a/b/c.png", "a-b/c.png", "a.png", "a/a", "ab/c", "a b/c"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert remote.in_order(names) == list_folder(tmp_path).names


def test_a_name_in_a_store_is_no_path_of_this_machine():
    assert below("s3://bucket/a", "/etc/passwd") == "s3://bucket/a//etc/passwd"


@pytest.fixture
def memory(monkeypatch):
    """A store in memory in the place of all others."""
    import fsspec

    store = fsspec.filesystem("memory", skip_instance_cache=True)
    store.store.clear()
    monkeypatch.setattr(remote, "_store", lambda protocol: store)
    yield store
    store.store.clear()


def test_a_store_of_another_library(memory, tmp_path):
    memory.pipe({f"/bucket/in/{name}": data for name, data in objects().items()})
    done, store = indexed(tmp_path / "c", "gs://bucket/in")
    assert (done.listed, done.unread, done.computed) == (15, 3, 11)
    assert "1 hidden or system files left out" in done.notes[0]
    assert store.pictures().paths[0] == "gs://bucket/in/a.png"
    memory.rm("/bucket/in/b.png")
    memory.pipe("/bucket/in/new.png", png(70))
    done, _ = indexed(tmp_path / "c")
    assert (done.kept, done.computed, done.removed) == (11, 1, 1)
    memory.rm("/bucket/in", recursive=True)
    done, store = indexed(tmp_path / "c")
    assert "gs://bucket/in is not there: what is known of its pictures is kept" in done.notes
    with pytest.raises(ImageError, match="there is nothing in this store by that name"):
        indexed(tmp_path / "d", "gs://bucket/other")
    assert not (tmp_path / "d").exists()


def test_what_lies_in_a_store_is_copied_and_never_moved(memory, tmp_path):
    memory.pipe("/bucket/a.png", png(0))
    _, store = indexed(tmp_path / "c", "gs://bucket")
    pictures = store.pictures()
    places = [(0, "all", "a.png")]
    assert link(pictures, places, tmp_path / "out", read=lambda i: read_bytes(store, i)) == []
    assert (tmp_path / "out" / "all" / "a.png").read_bytes() == png(0)
    made = plan(pictures, places, tmp_path / "moved")
    assert (made.steps, made.left_out) == ([], [("gs://bucket/a.png", "it lies in a store")])


def test_thumbnails_of_what_lies_in_a_store(memory, tmp_path):
    memory.pipe({"/bucket/a.png": png(0), "/bucket/b.png": png(1)})
    _, store = indexed(tmp_path / "c", "gs://bucket")
    memory.pipe("/bucket/b.png", png(2))
    pictures = store.pictures()
    sources = [*zip(pictures.hashes, pictures.paths, strict=True), ("0" * 64, "gs://bucket/none")]
    thumbnails = Thumbnails(tmp_path / "thumbnails")
    made = thumbnails.make(sources)
    assert made.made == 1
    with Image.open(io.BytesIO(thumbnails[pictures.hashes[0]])) as image:
        assert image.size == (12, 10)
    changed, gone = made.failed
    assert changed == (pictures.hashes[1], "it has changed since it was indexed")
    assert gone[1].startswith("there is nothing by that name")
    thumbnails.close()


# -- a server of S3's protocol ---------------------------------------------------------------------

slow = pytest.mark.slow


@pytest.mark.parametrize("memory_of", ["1kB", None])
def test_what_is_in_a_store_is_learnt_from(memory, tmp_path, memory_of):
    """As what is in a folder, whether it is decoded on the way or at the beginning."""
    for name, data in objects().items():
        memory.pipe(f"/bucket/in/{name}", data)
        (path := tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    size = Preprocessing(height=8, width=8, channels=3)
    stream = {} if memory_of is None else {"stream": True, "memory": 1000}
    sets = []
    for source, folder in (("gs://bucket/in", "a"), (str(tmp_path / "in"), "b")):
        indexed(tmp_path / folder, source)
        sets.append(load_data(str(tmp_path / folder), "train", size, **stream))
    stored, local = (each.images[torch.arange(len(each))] for each in sets)
    assert len(stored) == 12
    assert torch.equal(stored, local)


def test_a_picture_that_cannot_be_fetched_ends_a_training(memory, tmp_path):
    memory.pipe({f"/bucket/{i}.png": png(i) for i in range(4)})
    indexed(tmp_path / "c", "gs://bucket")
    memory.rm("/bucket/2.png")
    with pytest.raises(
        DataError, match=r"gs://bucket/2.png cannot be read.*\. Type the same again"
    ):
        load_data(str(tmp_path / "c"), "train", Preprocessing(height=8, width=8, channels=3))


def test_an_address_is_learnt_from_through_a_collection():
    with pytest.raises(DataError, match="zoo index s3://bucket/in --out FOLDER"):
        load_data("s3://bucket/in", "train", Preprocessing(height=8, width=8, channels=3))


@pytest.fixture
def server(monkeypatch):
    found = Server()
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("zoo.collection.s3.ATTEMPTS", 3)
    remote._made.cache_clear()
    yield found
    remote._made.cache_clear()
    found.stop()


@slow
def test_s3_gives_the_rows_that_a_folder_gives(server, tmp_path):
    for name, data in objects().items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    server.put("bucket", {f"in/{name}": data for name, data in objects().items()})
    server.put("bucket", {"in/folder/": b"", "inside.png": png(80)})
    server.page = 3
    done, store = indexed(tmp_path / "s3", "s3://bucket/in/")
    local, here = indexed(tmp_path / "local", tmp_path / "in")
    assert told(store) == told(here)
    np.testing.assert_array_equal(store.features(slice(None)), here.features(slice(None)))
    assert done.computed == local.computed == 11
    assert server.asked["GET LIST"] >= 5
    assert {path.suffix for path in (tmp_path / "s3").iterdir()} == {".json", ".parquet", ".npy"}

    before = server.asked["GET a.png"]
    server.put("bucket", {"in/b.png": png(90)})  # of the same size, within the same second
    server.client().delete_object(Bucket="bucket", Key="in/ü/ü.png")
    done, store = indexed(tmp_path / "s3")
    assert (done.computed, done.kept, done.removed) == (1, 10, 2)
    assert server.asked["GET a.png"] == before
    server.put("other", {"in//etc/passwd.png": png(60)})
    _, other = indexed(tmp_path / "other", "s3://other/in")
    assert other.pictures().paths == ["s3://other/in//etc/passwd.png"]
    row = store.pictures().paths.index("s3://bucket/in/b/[1].png")
    assert read_bytes(store, int(store.pictures().rows[row])) == png(1)


@slow
def test_every_key_of_a_bucket_can_be_read(server, tmp_path):
    """Also those that no folder could have, or that other programs take for something else."""
    keys = ["/lead.png", "a/../up.png", "../out.png", "./dot.png", "a//b.png", "end?.png",
            "x?versionId=1.png", "x#part.png", "100%.png", "%2e%2e/x.png", "a\\b.png",
            "s3://other/x.png", "é.png", "e\u0301.png", "a::b.png", "~.png", "$A.png"]  # fmt: skip
    server.put("bucket", {f"in/{key}": png(i) for i, key in enumerate(keys)})
    done, store = indexed(tmp_path / "c", "s3://bucket/in")
    pictures = store.pictures()
    assert (done.computed, done.unread) == (len(keys), 0), store.unread()
    assert {*pictures.paths} == {f"s3://bucket/in/{key}" for key in keys}
    for path, row in zip(pictures.paths, pictures.rows, strict=True):
        assert read_bytes(store, int(row)) == png(keys.index(path.removeprefix("s3://bucket/in/")))
    done, _ = indexed(tmp_path / "c")
    assert (done.kept, done.computed, done.removed) == (len(keys), 0, 0)
    remote.fetched(["s3://bucket/in/a\nb.png"])  # moto has no such keys: that it is asked for
    assert server.asked["GET a\nb.png"] == 1


@slow
def test_faults_that_pass_are_waited_for(server, tmp_path):
    server.put("bucket", {f"{i}.png": png(i) for i in range(6)})
    server.faults = {"1.png": ("503", 2), "2.png": ("cut", 1), "3.png": ("slow", 1),
                     "LIST": ("503", 1)}  # fmt: skip
    done, store = indexed(tmp_path / "c", "s3://bucket")
    assert (done.computed, done.unread) == (6, 0), store.unread()
    assert all(left == 0 for _, left in server.faults.values())


@slow
def test_a_store_that_is_silent_is_not_waited_for_without_end(server, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.collection.s3.SILENCE", 1.5)
    monkeypatch.setattr("zoo.collection.s3.LONGEST", 12)
    server.put("bucket", {f"{i}.png": png(i) for i in range(4)})
    server.faults = {"1.png": ("slow", 1), "2.png": ("slow", 99), "3.png": ("trickle", 99)}
    done, store = indexed(tmp_path / "c", "s3://bucket")
    assert done.computed == 2
    reasons = dict(store.unread())
    assert "imeout" in reasons["s3://bucket/2.png"]
    assert reasons["s3://bucket/3.png"] == "cannot be read: not there after 12 seconds"
    assert server.asked["GET 2.png"] == 3


@slow
def test_what_stays_broken_is_a_row_with_its_reason(server, tmp_path):
    server.put("bucket", {f"{i}.png": png(i) for i in range(6)})
    server.faults = {"1.png": ("503", 99), "2.png": ("cut", 99)}
    done, store = indexed(tmp_path / "c", "s3://bucket")
    assert (done.computed, done.unread) == (4, 2)
    reasons = dict(store.unread())
    assert list(reasons) == ["s3://bucket/1.png", "s3://bucket/2.png"]
    assert all(reason.startswith("cannot be read: ") for reason in reasons.values()), reasons
    server.faults = {}
    done, _ = indexed(tmp_path / "c")
    assert (done.computed, done.kept, done.unread) == (2, 4, 0)


@slow
def test_a_bucket_that_is_not_there_or_not_reachable_is_one_message(server, tmp_path):
    def typed():
        done = CliRunner().invoke(main, ["index", "s3://bucket/in", "--out", str(tmp_path / "c")])
        assert (done.exit_code, done.stdout) == (2, "")
        assert "s3://bucket/in cannot be read: " in done.stderr
        assert "credentials, and type the same again" in done.stderr
        assert not (tmp_path / "c").exists()
        return done.stderr

    assert "nothing by that name" in typed()
    server.faults = {"LIST": ("503", 999)}
    assert "Service Unavailable" in typed()
    server.stop()
    assert "onnect" in typed()


@slow
def test_a_store_that_goes_away_ends_the_update_and_it_goes_on_later(server, tmp_path, monkeypatch):
    server.put("bucket", {f"{i:02}.png": png(i) for i in range(40)})
    monkeypatch.setattr("zoo.collection.indexing.SECONDS", 0.0)
    monkeypatch.setattr("zoo.collection.pipeline.BYTES", 8_000)  # a few pictures at once
    whole = remote.fetched
    asked = []

    def until_half(paths):
        asked.extend(paths)
        if len(asked) > 25 and not server.faults:
            server.faults = {f"{i:02}.png": ("503", 999) for i in range(40)}
            server.faults["LIST"] = ("503", 999)
        return whole(paths)

    monkeypatch.setattr(remote, "fetched", until_half)
    with pytest.raises(CollectionError, match=r"cannot be read: (.|\n)*what was done is kept"):
        indexed(tmp_path / "c", "s3://bucket")
    kept = len(Store.open(tmp_path / "c").pictures())
    assert 0 < kept < 40
    server.faults = {"later": ("503", 0)}
    done, _ = indexed(tmp_path / "c")
    assert (done.kept, done.computed, done.unread) == (kept, 40 - kept, 0)
