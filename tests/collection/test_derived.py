"""Neighbours and groups that are kept in the folder; zoo group and zoo odd."""

import json
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from preloaded import Preloaded

import zoo
from zoo.cli import main
from zoo.collection import derived, neighbours
from zoo.collection.derived import GROUPS, NEIGHBOURS, groups_of, neighbours_of, regroup
from zoo.collection.opened import Opened
from zoo.collection.store import Store
from zoo.errors import CollectionError, InputError
from zoo.sample import sample

pytest.importorskip("faiss")
pytest.importorskip("sknetwork")

MODEL = "pca.fashion_mnist"
KINDS = {1: "trousers", 7: "shoes", 8: "bags"}


LIBRARIES = (
    "faiss", "pyarrow.parquet", "scipy.optimize", "scipy.sparse.linalg", "sknetwork.clustering"
)  # fmt: skip
GROUPING = """
import sys
from pathlib import Path
import {}
from zoo.collection.derived import regroup

print("begins", flush=True)
regroup(Path(sys.argv[1]))
""".format(", ".join(LIBRARIES))


def run(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


def answer(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pictures of three kinds of clothes in folders, and a collection of them."""
    root = tmp_path_factory.mktemp("made")
    images, labels = sample()
    for kind, name in KINDS.items():
        (root / "pictures" / name).mkdir(parents=True)
        for i in np.flatnonzero(labels == kind)[:25]:
            Image.fromarray(images[i]).save(root / "pictures" / name / f"{i:04}.png")
    zoo.Collection.index(MODEL, [root / "pictures"], root / "collection")
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy of both of one's own, in the same state."""
    shutil.copytree(made / "pictures", tmp_path / "pictures")
    zoo.Collection.index(MODEL, [tmp_path / "pictures"], tmp_path / "collection")
    return tmp_path


@pytest.fixture
def collection(made, tmp_path):
    return shutil.copytree(made / "collection", tmp_path / "collection")


def same(a, b):
    assert np.allclose(a.vectors, b.vectors, atol=1e-5)
    assert (a.graph.indices == b.graph.indices).all()
    assert np.allclose(a.graph.similarities, b.graph.similarities, atol=1e-5)


def test_neighbours_are_computed_once(collection, monkeypatch):
    first = neighbours_of(Store.open(collection))
    monkeypatch.setattr(derived, "connect", None)
    monkeypatch.setattr(derived, "extend", None)
    same(neighbours_of(Store.open(collection)), first)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-100],
        lambda data: b"PK" + data[200:],
        lambda data: data.replace(b"rows.npy", b"Rows.npy"),
    ],
)
def test_neighbours_that_are_damaged_are_computed_again(collection, damage):
    first = neighbours_of(Store.open(collection))
    file = collection / NEIGHBOURS
    file.write_bytes(damage(file.read_bytes()))
    same(neighbours_of(Store.open(collection)), first)


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept | {"indices": kept["indices"] + 1000},
        lambda kept: kept | {"indices": kept["indices"][:, :3]},
        lambda kept: kept | {"mean": kept["mean"][:3]},
        lambda kept: kept | {"rows": kept["rows"] + 7},
        lambda kept: kept | {"model": "another"},
    ],
)
def test_neighbours_that_fit_to_no_collection_are_computed_again(collection, change):
    first = neighbours_of(Store.open(collection))
    with np.load(collection / NEIGHBOURS) as file:
        kept = dict(file)
    np.savez(collection / NEIGHBOURS, **change(kept))
    same(neighbours_of(Store.open(collection)), first)


def test_neighbours_of_a_changed_collection_cost_what_changed(root, monkeypatch):
    old = neighbours_of(Store.open(root / "collection"))
    Image.new("L", (28, 28), 90).save(root / "pictures" / "new.png")
    next((root / "pictures" / "bags").iterdir()).unlink()
    zoo.Collection.index(None, [], root / "collection")
    monkeypatch.setattr(derived, "connect", None)
    store = Store.open(root / "collection")
    found = neighbours_of(store)
    assert (found.projection.components == old.projection.components).all()
    pictures = store.pictures()
    vectors = found.projection.apply(store.features(pictures.rows))
    anew = neighbours.connect(vectors, pictures.hashes)
    assert (found.graph.indices == anew.indices).all()


def test_what_may_not_be_written_is_not_kept(collection):
    with Store.writing(collection):
        found = neighbours_of(Store.open(collection))
    assert not (collection / NEIGHBOURS).exists()
    same(neighbours_of(Store.open(collection)), found)
    assert (collection / NEIGHBOURS).exists()


def test_groups_are_kept_with_how_sure_they_are(collection):
    layers = regroup(collection)
    store = Store.open(collection)
    for made, kept in zip(layers, groups_of(store, store.pictures()), strict=True):
        assert made.name == kept.name
        assert (made.labels == kept.labels).all()
        assert np.allclose(made.sureness, kept.sureness)


def test_without_groups_there_are_none(collection):
    store = Store.open(collection)
    assert groups_of(store, store.pictures()) == []


def by_hash(root, layers):
    """The group of each content in the default layer."""
    hashes = Store.open(root / "collection").pictures().hashes
    return dict(zip(hashes, layers[1].labels.tolist(), strict=True))


def test_moved_pictures_stay_in_their_groups(root):
    before = by_hash(root, regroup(root / "collection"))
    for path in sorted((root / "pictures" / "bags").iterdir())[:20]:
        path.rename(root / "pictures" / f"moved-{path.name}")
    zoo.Collection.index(None, [], root / "collection")
    assert by_hash(root, regroup(root / "collection")) == before


def test_groups_keep_their_number_when_others_join_and_leave(root):
    folder = root / "collection"
    before = by_hash(root, regroup(folder))
    gone = next((root / "pictures" / "bags").iterdir())
    data = gone.read_bytes()
    gone.unlink()
    Image.new("L", (28, 28), 90).save(root / "pictures" / "new.png")
    zoo.Collection.index(None, [], folder)
    store = Store.open(folder)
    waiting = groups_of(store, store.pictures())[1]
    assert (waiting.labels == -1).sum() == 1, "the new one is in no group yet"
    after = by_hash(root, regroup(folder))
    assert all(after.get(one, label) == label for one, label in before.items())
    assert len(after) == 75
    gone.write_bytes(data)
    zoo.Collection.index(None, [], folder)
    store = Store.open(folder)
    back = groups_of(store, store.pictures())[1]
    assert (back.labels >= 0).all(), "a picture that is back is in the group that it was in"


def found_anew(folder, **more):
    """Whether ``zoo group`` looks at all pictures."""
    looked = []
    with pytest.MonkeyPatch.context() as patch:
        anew = derived._anew
        patch.setattr(derived, "_anew", lambda *given: looked.append(1) or anew(*given))
        regroup(folder, **more)
    return bool(looked)


def test_groups_are_found_anew_when_they_were_found_otherwise_or_much_was_added(root, monkeypatch):
    monkeypatch.setattr(derived.grouping, "_ORDERS", (1, 1, 1))  # which is enough here, and fast
    folder, images = root / "collection", sample()[0]

    def add(numbers):
        for i in numbers:
            Image.fromarray(images[i]).transpose(Image.Transpose.ROTATE_90).save(
                root / "pictures" / f"{i}.png"
            )
        zoo.Collection.index(None, [], folder)

    assert found_anew(folder)
    assert not found_anew(folder)
    assert found_anew(folder, seed=1)
    assert found_anew(folder, number=4)
    assert not found_anew(folder, number=4)
    assert found_anew(folder)
    assert found_anew(folder, anew=True)
    add(range(12))
    assert not found_anew(folder)
    add(range(12, 24))
    assert not found_anew(folder)
    add(range(24, 30))  # 30 of 105
    assert found_anew(folder)
    assert not found_anew(folder)


def test_a_number_of_groups_is_kept_when_one_is_gone(root):
    before = regroup(root / "collection", number=3)[1]
    paths = Store.open(root / "collection").pictures().paths
    for i in np.flatnonzero(before.labels == 2):
        os.unlink(paths[i])
    zoo.Collection.index(None, [], root / "collection")
    assert len(set(regroup(root / "collection", number=3)[1].labels.tolist())) == 3


def test_another_command_may_group_meanwhile(collection, monkeypatch):
    """Then it is done once more, from what that found."""
    group, befores = derived.grouping.group, []

    def meanwhile(*given):
        befores.append(given[4] if len(given) > 4 else None)
        if len(befores) == 1:
            regroup(collection)
        return group(*given)

    monkeypatch.setattr(derived.grouping, "group", meanwhile)
    regroup(collection)
    first, inner, again = befores
    assert first is None
    assert inner is None
    assert len(again["middle"]) == 75


@pytest.mark.parametrize("key", [derived.MADE_BY, b"another"])
def test_groups_that_do_not_say_how_they_were_found_are_found_anew(collection, key):
    parquet = pytest.importorskip("pyarrow.parquet")
    regroup(collection)
    table = parquet.read_table(collection / GROUPS)
    parquet.write_table(table.replace_schema_metadata({key: b"{}"}), collection / GROUPS)
    assert found_anew(collection)


KILLS = int(os.environ.get("KILLS", 6)) // 2


@pytest.mark.slow
def test_kills_of_zoo_group(root):
    """As soon as something is written, between the two files, and at random moments; of the first
    time and after an update: the end is the undisturbed one."""
    rng = random.Random(3)
    folder = root / "collection"
    server = Preloaded(more=LIBRARIES)

    def start():
        process = server.popen("-c", GROUPING, folder)
        assert process.stdout.readline() == b"begins\n"
        return process

    def state():
        arrays = dict(np.load(folder / NEIGHBOURS).items())
        return (
            sorted(os.listdir(folder)),
            (folder / GROUPS).read_bytes(),
            {name: array.tobytes() for name, array in arrays.items()},
        )

    def files():
        return {entry.name: entry.inode() for entry in os.scandir(folder)}

    def update():
        for path in sorted((root / "pictures" / "bags").iterdir())[:3]:
            path.unlink()
        for i in range(5):
            Image.fromarray(sample()[0][i]).save(root / "pictures" / f"new-{i}.png")
        zoo.Collection.index(None, [], folder)

    for prepare in (lambda: None, update):
        prepare()
        shutil.copytree(folder, root / "before")
        process = start()
        began = time.monotonic()
        assert process.wait() == 0
        seconds, whole = time.monotonic() - began, state()
        killed = 0
        while killed < KILLS:
            shutil.rmtree(folder)
            shutil.copytree(root / "before", folder)
            before, process = files(), start()
            if killed % 3 == 0:
                while process.poll() is None and files() == before:
                    time.sleep(0.0005)
                time.sleep(rng.uniform(0, 0.02))
            elif killed % 3 == 1:
                had = before.get(NEIGHBOURS)
                while process.poll() is None and files().get(NEIGHBOURS) == had:
                    time.sleep(0.0005)
            else:
                time.sleep(rng.uniform(0, seconds))
            process.kill()
            if process.wait() != -signal.SIGKILL:
                continue
            assert files() != before or killed % 3 == 2
            killed += 1
            assert start().wait() == 0
            assert state() == whole
        shutil.rmtree(root / "before")
    server.close()


def test_damaged_groups_are_said_and_can_be_made_anew(collection):
    regroup(collection)
    (collection / GROUPS).write_bytes(b"PAR1 and nothing more")
    store = Store.open(collection)
    with pytest.raises(CollectionError, match=r"groups.parquet is damaged.*\n.*zoo group"):
        groups_of(store, store.pictures())
    regroup(collection)
    assert groups_of(store, store.pictures())


def test_zoo_group_finds_what_is_alike(collection):
    facts = answer("group", collection)
    assert facts["pictures"] == 75
    assert [layer["layer"] for layer in facts["layers"]] == ["coarse", "middle", "fine"]
    for layer in facts["layers"]:
        counted = sum(row["pictures"] for row in layer["groups"]) + layer["few_of_a_kind"]
        assert counted == 75
    kinds = [
        {os.path.basename(os.path.dirname(path)) for path in row["surest"]}
        for row in facts["layers"][1]["groups"]
    ]
    assert sum(len(each) > 1 for each in kinds) <= 1
    assert set.union(*kinds) == {"trousers", "shoes", "bags"}
    shown = run("group", collection).stdout
    assert "such as" in shown
    assert "75 pictures in groups" in shown


def test_zoo_group_takes_a_number_of_groups(collection):
    assert len(answer("group", collection, "--number", 3)["layers"][1]["groups"]) == 3
    result = run("group", collection, "--number", 76)
    assert result.exit_code == 2
    assert "from 1 to 75" in result.stderr
    with pytest.raises(InputError):
        regroup(collection, number=76)


def test_python_has_the_same(collection):
    opened = zoo.Collection(collection)
    assert opened.groups() == []
    made = opened.group(3, seed=1)[1]
    kept = opened.groups()[0]
    assert kept.name == "middle"
    assert (kept.labels == made.labels).all()
    assert set(made.labels.tolist()) == {0, 1, 2}
    strangest = answer("odd", collection, "-n", 1)["odd"][0]
    assert opened.pictures().paths[opened.odd().scores.argmax()] == strangest["path"]


def test_zoo_odd_names_the_strangest_with_its_neighbours(root):
    Image.new("L", (28, 28), 255).save(root / "pictures" / "blank.png")
    zoo.Collection.index(None, [], root / "collection")
    facts = answer("odd", root / "collection", "-n", 5)
    collection = Opened(root / "collection")
    strangest = np.argsort(-collection.odd.scores)[:5]
    plain = collection.projection.uncentred(zoo.Collection(root / "collection").features())
    cosines = np.einsum("pd,pkd->pk", plain, plain[collection.graph.indices])
    expected = 1 - np.sort(cosines)[:, :-4:-1].mean(1)
    assert np.allclose(collection.odd.scores, expected, atol=1e-5)
    paths = collection.pictures.paths
    assert [row["path"] for row in facts["odd"]] == [paths[i] for i in strangest]
    assert facts["odd"][0]["near"] == [paths[i] for i in collection.odd.reasons[strangest[0]]]
    (blank,) = (fault for fault in facts["faults"] if fault["kind"] == "blank")
    assert [os.path.basename(row["path"]) for row in blank["pictures"]] == ["blank.png"]
    shown = run("odd", root / "collection").stdout
    assert os.path.basename(facts["odd"][0]["path"]) in shown
    assert "blank: 1" in shown


def test_zoo_odd_finds_what_lies_in_the_wrong_folder(root):
    stray = sorted((root / "pictures" / "trousers").iterdir())[4]
    stray.rename(root / "pictures" / "bags" / "stray.png")
    zoo.Collection.index(None, [], root / "collection")
    facts = answer("odd", root / "collection", "--within", "folder", "-n", 1)
    assert os.path.basename(facts["odd"][0]["path"]) == "stray.png"
    assert {os.path.basename(os.path.dirname(path)) for path in facts["odd"][0]["near"]} == {
        "trousers"
    }


@pytest.mark.parametrize(("within", "advice"), [("group", "zoo group"), ("name", "zoo name")])
def test_zoo_odd_says_what_has_to_be_there_first(collection, within, advice):
    result = run("odd", collection, "--within", within)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert advice in result.stderr


@pytest.mark.parametrize("command", ["group", "odd"])
def test_a_folder_that_is_no_collection_is_said(tmp_path, command):
    result = run(command, tmp_path)
    assert result.exit_code == 2
    assert "no collection" in result.stderr
