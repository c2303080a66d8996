"""A collection on a store: what a crash, a second machine and a foreign hand leave of it."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

import zoo
from tests.collection.s3server import Server
from tests.collection.test_remote import Means, png
from zoo.cli import main
from zoo.collection import mirror, remote, s3
from zoo.collection.store import COLUMNS, Store
from zoo.errors import CollectionError, InputError

URL = "s3://bucket/my/index"
pytestmark = pytest.mark.slow


@pytest.fixture
def server(monkeypatch, tmp_path):
    found = Server()
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("zoo.collection.s3.ATTEMPTS", 2)
    monkeypatch.setattr(Store, "shard_rows", 4)
    remote._made.cache_clear()
    found.put("bucket", {"other.txt": b"another program's"})
    yield found
    remote._made.cache_clear()
    found.stop()


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(6):
        (folder / f"{i}.png").write_bytes(png(i))
    return folder


def keys(server):
    found = server.client().list_objects_v2(Bucket="bucket").get("Contents", ())
    return {each["Key"] for each in found}


def assert_same(one, other):
    one, other = one.store, other.store
    assert one.manifest == other.manifest
    assert one.tables(COLUMNS).equals(other.tables(COLUMNS))
    everything = slice(None)
    np.testing.assert_array_equal(one.features(everything), other.features(everything))
    np.testing.assert_array_equal(one.small(everything), other.small(everything))


def another_machine(monkeypatch, tmp_path, name="another"):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))


def test_it_is_what_a_folder_is_on_any_machine(server, pictures, tmp_path, monkeypatch):
    made = zoo.Collection.index(Means(), [pictures], URL)
    assert made.report.computed == 6
    zoo.Collection.index(Means(), [pictures], tmp_path / "here")
    asked = server.asked.copy()
    assert_same(zoo.Collection(URL), zoo.Collection(tmp_path / "here"))
    # What this machine wrote it need not fetch.
    assert not [each for each in server.asked - asked if "pictures-" in each]
    another_machine(monkeypatch, tmp_path)
    assert_same(zoo.Collection(URL), zoo.Collection(tmp_path / "here"))

    (pictures / "6.png").write_bytes(png(6))
    (pictures / "0.png").unlink()
    before = keys(server)
    asked = server.asked.copy()
    for folder in (URL, tmp_path / "here"):
        made = zoo.Collection.index(Means(), [], folder)
        assert (made.report.kept, made.report.computed, made.report.removed) == (5, 1, 1)
    assert_same(zoo.Collection(URL), zoo.Collection(tmp_path / "here"))
    # The features of a full shard stay; what no manifest names any more is gone, and no more.
    written = [each for each in server.asked - asked if each.startswith("PUT")]
    assert not [each for each in written if "features-00000" in each]
    assert {"other.txt"} < keys(server)
    assert len(keys(server)) == len(before)
    asked = server.asked.copy()
    zoo.Collection.index(Means(), [], URL)  # nothing changed, and nothing is written
    assert not [each for each in server.asked - asked if each.startswith(("PUT", "DELETE"))]


def test_a_crash_leaves_the_old_one_and_the_next_goes_on(server, pictures, tmp_path, monkeypatch):
    zoo.Collection.index(Means(), [pictures], URL)
    for i in range(6, 12):
        (pictures / f"{i}.png").write_bytes(png(i))
    put, done = s3.put, []

    def until(last):
        def some(*given, **more):
            if len(done) == last:
                raise KeyboardInterrupt
            done.append(given[1])
            return put(*given, **more)

        return some

    expected = None
    for last in range(50):
        done.clear()
        monkeypatch.setattr(s3, "put", until(last))
        try:
            made = zoo.Collection.index(Means(), [], URL)
        except KeyboardInterrupt:
            with monkeypatch.context() as patch:
                another_machine(patch, tmp_path, f"machine-{last}")
                assert len(zoo.Collection(URL)) == 6
            continue
        expected = last
        break
    assert expected >= 4
    assert done[-1].endswith("collection.json")
    assert made.report.computed == 0  # the first of them had done so, before it was killed
    another_machine(monkeypatch, tmp_path)
    assert len(zoo.Collection(URL)) == 12


def test_of_two_machines_the_second_is_refused(server, pictures, tmp_path, monkeypatch):
    zoo.Collection.index(Means(), [pictures], URL)
    (pictures / "6.png").write_bytes(png(6))
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.png").write_bytes(png(60))
    names = mirror._names

    def meanwhile(folder):
        monkeypatch.setattr(mirror, "_names", names)
        with monkeypatch.context() as patch:
            another_machine(patch, tmp_path)
            zoo.Collection.index(Means(), [other], URL)
        return names(folder)

    monkeypatch.setattr(mirror, "_names", meanwhile)
    (pictures / "7.png").write_bytes(png(7))
    with pytest.raises(CollectionError, match="another machine meanwhile, which stays"):
        zoo.Collection.index(Means(), [], URL)
    for machine in ("cache", "another", "third"):
        another_machine(monkeypatch, tmp_path, machine)
        assert zoo.Collection(URL).store.manifest.sources == [str(pictures), str(other)]
    made = zoo.Collection.index(Means(), [], URL)
    assert len(made) == 9


def test_an_answer_that_is_lost_is_no_second_machine(server, pictures, monkeypatch):
    put = s3.put

    def twice(store, path, data, **more):
        tag = put(store, path, data, **more)
        return put(store, path, data, **more) if more else tag

    monkeypatch.setattr(s3, "put", twice)
    zoo.Collection.index(Means(), [pictures], URL)
    assert len(zoo.Collection(URL)) == 6


def test_a_store_that_fails_at_the_end_keeps_the_old_one(server, pictures, monkeypatch):
    zoo.Collection.index(Means(), [pictures], URL)
    names = mirror._names

    def failing(times):
        def some(folder):
            server.faults["collection.json"] = ("503", times)
            return names(folder)

        return some

    def refuse(store, path):
        raise PermissionError("no right to remove")

    (pictures / "6.png").write_bytes(png(6))
    monkeypatch.setattr(mirror, "_names", failing(99))
    with pytest.raises(CollectionError, match=f"{URL} cannot be written: Service Unavail"):
        zoo.Collection.index(Means(), [], URL)
    server.faults.clear()
    assert len(zoo.Collection(URL)) == 6
    monkeypatch.setattr(mirror, "_names", failing(1))
    monkeypatch.setattr(s3, "delete", refuse)
    assert zoo.Collection.index(Means(), [], URL).report.computed == 0
    assert server.faults["collection.json"] == ("503", 0)
    assert len(zoo.Collection(URL)) == 7


def test_what_a_manifest_names_is_checked(server, pictures, tmp_path, monkeypatch):
    zoo.Collection.index(Means(), [pictures], URL)
    client = server.client()
    key = "my/index/collection.json"
    good = json.loads(client.get_object(Bucket="bucket", Key=key)["Body"].read())
    digest = good["files"]["pictures-00000.parquet"]
    for number, (files, why) in enumerate(
        [
            ({"../../escape": digest}, "names no files as zoo index does"),
            ({"model/../../x": digest}, "names no files as zoo index does"),
            ({"pictures-00000.parquet": "../up"}, "names no files as zoo index does"),
            (None, "names no files as zoo index does"),
            ({**good["files"], "pictures-00000.parquet": "0" * 64}, "is damaged: it has no "),
        ]
    ):
        another_machine(monkeypatch, tmp_path, f"machine-{number}")
        said = {**good, "files": files} if files else {k: good[k] for k in good if k != "files"}
        client.put_object(Bucket="bucket", Key=key, Body=json.dumps(said).encode())
        with pytest.raises(CollectionError, match=why):
            zoo.Collection(URL)
    client.put_object(Bucket="bucket", Key=key, Body=json.dumps(good).encode())
    client.put_object(
        Bucket="bucket", Key=f"my/index/pictures-00000.parquet.{digest[:16]}", Body=b"junk"
    )
    with pytest.raises(CollectionError, match="is not what was written"):
        zoo.Collection(URL)


def test_the_commands(server, pictures, tmp_path):
    def typed(*words):
        done = CliRunner().invoke(main, [*map(str, words)])
        assert "Traceback" not in done.stderr
        return done

    done = typed("group", URL)
    assert done.exit_code == 2
    assert f"{URL} is no collection" in done.stderr
    for words in (
        ("index", "pca.mnist", pictures, "--out", "s3://nobodys/index"),
        ("group", "s3://nobodys/index"),
    ):
        done = typed(*words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "nothing by that name" in done.stderr
    done = typed("index", "pca.mnist", pictures, "--out", "gs://bucket/index")
    assert done.exit_code == 2
    assert "or at s3://BUCKET/FOLDER" in done.stderr
    done = typed("index", "pca.mnist", pictures, "--out", URL)
    assert done.exit_code == 0, done.stderr
    assert f"6 pictures in {URL}" in done.stdout
    for words in (("group", URL), ("odd", URL), ("find", URL, pictures / "3.png")):
        done = typed(*words)
        assert done.exit_code == 0, done.stderr
    for command in ("name", "duplicates", "export", "browse", "recognise"):
        done = typed(command, URL)
        assert done.exit_code == 2
        assert "takes no address" in done.stderr
    for words in (("merge", URL, URL, "--out", URL), ("merge", URL, "--out", "s3://bucket/new")):
        assert "takes no address" in typed(*words).stderr
    with pytest.raises(InputError, match="takes no address"):
        zoo.Collection.merge([URL, URL], "s3://bucket/new")
    zoo.Collection.index("pca.mnist", [pictures], tmp_path / "here")
    done = typed("merge", URL, tmp_path / "here", "--out", tmp_path / "both")
    assert done.exit_code == 0, done.stderr
    # A source that has the collection in it has its objects left out.
    server.put("bucket", {"my/picture.png": png(9)})
    made = zoo.Collection.index("pca.mnist", ["s3://bucket/my"], tmp_path / "c")
    assert made.report.listed == 1
    with pytest.raises(InputError, match="takes no address"):
        zoo.Collection(URL).name("cat", [pictures / "3.png"])
    assert "takes no address" in typed("duplicates", zoo.Collection(URL).folder).stderr
    copied = shutil.copytree(zoo.Collection(URL).folder, tmp_path / "copied")
    zoo.Collection(copied).name("cat", [pictures / "3.png"])
    assert zoo.Collection(copied).names()[3][0] == "cat"


def test_a_model_that_learnt_from_the_pictures_is_stored_too(
    server, pictures, tmp_path, monkeypatch
):
    zoo.Collection.index("pca", [pictures], URL, learn=True)
    another_machine(monkeypatch, tmp_path)
    (pictures / "6.png").write_bytes(png(6))
    made = zoo.Collection.index(None, [], URL)
    assert (made.report.computed, made.report.kept) == (1, 6)


def test_only_s3_is_written():
    with pytest.raises(InputError, match="or at s3://BUCKET/FOLDER"):
        zoo.Collection("hf://datasets/you/index")
