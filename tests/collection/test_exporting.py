"""What leaves a collection: tables that hold what is known, links and moves that lose nothing."""

import csv
import json
import os
import sys

import numpy as np
import pytest

from zoo.collection import exporting
from zoo.collection.exporting import (
    COLUMNS,
    Facts,
    Plan,
    arranged,
    columns,
    link,
    move,
    plan,
    safe_name,
    undo,
    write_arrays,
    write_csv,
    write_parquet,
)
from zoo.collection.store import Pictures
from zoo.errors import InputError


def pictures(paths, members=None):
    """Pictures at these paths, some of which may be there."""
    count = len(paths)
    found = [os.lstat(p) if os.path.lexists(p) else None for p in paths]
    return Pictures(
        rows=np.arange(count),
        paths=[str(p) for p in paths],
        members=members or [None] * count,
        hashes=[f"{i:064x}" for i in range(count)],
        bytes=np.array([each.st_size if each else 10 for each in found]),
        mtimes=np.array([each.st_mtime_ns if each else 0 for each in found]),
        widths=np.full(count, 4),
        heights=np.full(count, 3),
        measures={},
    )


@pytest.fixture
def facts():
    return Facts(
        pictures(["/p/=1+1.png", "/p/b\udcff.png", "/p/c,\n.png"]),
        layers={
            "middle": np.array([0, 1, -1]),
            "coarse": np.array([0, 0, 0]),
            "fine": np.array([2, 1, 0]),
        },
        sureness=np.array([1, 0.5, 0.25], np.float32),
        names=["=HYPERLINK(0)", "", "cats"],
        probabilities=np.array([1, np.nan, 0.75], np.float32),
        odd=np.array([0.1, 0.2, 0.3], np.float32),
        same_file=np.array([0, 1, 1]),
        same_picture=np.array([0, 0, 0]),
        extra=frozenset([2]),
        unread=[("/p/bad.png", "damaged")],
    )


def test_the_columns_are_those_that_are_promised(facts):
    table = columns(facts)
    assert list(table) == [*COLUMNS[:3], "coarse", "fine", *COLUMNS[3:]]
    assert {len(column) for column in table.values()} == {4}
    assert table["group"] == [0, 1, -1, None]
    assert table["fine"] == [2, 1, 0, None]
    assert table["name"] == ["=HYPERLINK(0)", None, "cats", None]
    assert table["probability"] == [1, None, 0.75, None]
    assert table["same_file"] == [None, 1, 1, None]
    assert table["unread"] == [None, None, None, "damaged"]
    assert table["path"][-1] == "/p/bad.png"


def test_what_is_not_known_is_empty():
    table = columns(Facts(pictures(["/a"])))
    assert list(table) == list(COLUMNS)
    assert [name for name, values in table.items() if values != [None]] == ["path", "hash"]


def test_a_spreadsheet_runs_nothing_in_a_csv(facts, tmp_path):
    write_csv(tmp_path / "t.csv", columns(facts))
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["'=HYPERLINK(0)", "", "cats", ""]
    assert [row["path"] for row in rows][1:3] == ["/p/b\\udcff.png", "/p/c,\n.png"]
    assert rows[0]["group"] == "0"
    assert rows[2]["group"] == "-1"  # a number stays one
    assert rows[3]["unread"] == "damaged"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_every_beginning_of_a_formula(first, tmp_path):
    write_csv(tmp_path / "t.csv", {"name": [f"{first}1"], "n": [-1.0]})
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file))[1] == [f"'{first}1", "-1.0"]


def test_parquet_has_types_and_features(facts, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    write_parquet(tmp_path / "t.parquet", columns(facts), iter([features[:2], features[2:]]))
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table["features"].to_pylist() == [[0, 1], [2, 3], [4, 5], None]
    assert table["name"].to_pylist()[0] == "=HYPERLINK(0)"
    assert str(table.schema.field("group").type) == "int64"
    assert str(table.schema.field("odd").type) == "float"
    write_parquet(tmp_path / "t.parquet", columns(facts))
    assert "features" not in parquet.read_table(tmp_path / "t.parquet").column_names


def test_arrays_need_no_pickle(facts, tmp_path):
    write_arrays(tmp_path / "a.npz", facts, np.ones((3, 2), np.float16))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["X"].dtype == np.float32
        assert arrays["names"].tolist() == ["=HYPERLINK(0)", "", "cats"]
        assert arrays["group_middle"].tolist() == [0, 1, -1]
        assert arrays["paths"][1] == "/p/b\\udcff.png"


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("cats", "cats"),
        ("a/b\\c", "a_b_c"),
        ("..", "_"),
        ("CON", "_CON"),
        ("com1.png", "_com1.png"),
        ("a. ", "a"),
        ('<>:"|?*\x01', "________"),
        ("", "_"),
        ("Ärger 猫.png", "Ärger 猫.png"),
        ("b\udcff.png", "b_udcff.png"),
    ],
)
def test_names_that_any_system_takes(given, wanted):
    assert safe_name(given) == wanted


def test_long_names_keep_their_ending():
    name = safe_name("ä" * 300 + ".jpeg")
    assert name.endswith(".jpeg")
    assert len(name.encode()) <= 200


def test_no_two_pictures_get_one_name():
    found = arranged(
        Facts(
            pictures(["/a/x.png", "/b/X.PNG", "/c/x.png", "/d/x (2).png", "/e/x.png"]),
            names=["cats", "cats", "cats", "cats", "CATS"],
        )
    )
    assert [place.folder for place in found] == ["cats"] * 4 + ["CATS (2)"]
    names = [place.name.casefold() for place in found[:4]]
    assert len(set(names)) == 4
    assert names[0] == "x.png"


def test_folders_by_group(facts):
    assert [place.folder for place in arranged(facts, "group")] == [
        "group 0", "group 1", "few of a kind",
    ]  # fmt: skip
    assert [place.picture for place in arranged(facts, "name", [2, 0])] == [0, 2]
    assert arranged(facts)[1].folder == "unnamed"
    with pytest.raises(InputError, match="zoo group"):
        arranged(Facts(pictures(["/a"])), "group")


# -- links and moves -----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Three files, one of whose names is no UTF-8 where the system has such names."""
    source = tmp_path / "source"
    source.mkdir()
    odd = "odd\udcff.png" if sys.platform == "linux" else "odd.png"
    for name in ("a.png", odd, "c.png"):
        (source / name).write_bytes(os.fsencode(name) * 9)
    return source


@pytest.fixture
def there(folder):
    paths = sorted(folder.iterdir(), key=os.fspath)
    return Facts(pictures(paths), names=["cats", "cats", ""])


def held(folder):
    """The content of each file below a folder."""
    return {
        os.path.relpath(os.path.join(root, name), folder): open(
            os.path.join(root, name), "rb"
        ).read()
        for root, _, names in os.walk(folder)
        for name in names
    }


@pytest.mark.parametrize("how", exporting.HOW)
def test_a_folder_of_links(there, folder, tmp_path, how):
    before = held(folder)
    assert link(there.pictures, arranged(there), tmp_path / "out", how) == []
    made = held(tmp_path / "out")
    assert sorted(made.values()) == sorted(before.values())
    assert {os.path.dirname(name) for name in made} == {"cats", "unnamed"}
    assert held(folder) == before
    assert (tmp_path / "out" / "cats" / "a.png").is_symlink() == (how == "symlink")
    assert (folder / "a.png").stat().st_nlink == (2 if how == "hardlink" else 1)


def test_links_go_into_a_new_folder_only(there, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("out", "dangling"):
        with pytest.raises(InputError, match="is there already"):
            link(there.pictures, arranged(there), tmp_path / name)
    assert held(tmp_path / "out") == {}


def test_what_cannot_be_linked_is_named(there, folder, tmp_path):
    (folder / "a.png").unlink()
    members = [None, None, "in.png"]
    found = pictures(there.pictures.paths, members)
    left_out = link(found, arranged(there), tmp_path / "out", read=lambda i: b"bytes of it")
    assert [path for path, _ in left_out] == [str(folder / "a.png")]
    assert b"bytes of it" in held(tmp_path / "out").values()  # a member of an archive is copied


def test_a_move_and_its_undoing(there, folder, tmp_path):
    before, out, log = held(folder), tmp_path / "out", tmp_path / "log.jsonl"
    planned = plan(there.pictures, arranged(there), out)
    assert len(planned.steps) == 3
    assert not out.exists()
    planned.save(tmp_path)
    assert Plan.load(tmp_path) == planned  # odd bytes too
    assert move(planned, log).moved == 3
    assert held(folder) == {}
    assert sorted(held(out).values()) == sorted(before.values())
    assert undo(log).moved == 3
    assert held(folder) == before
    assert not out.exists()
    assert undo(log).moved == 0


def test_a_move_overwrites_nothing(there, folder, tmp_path):
    out = tmp_path / "out"
    planned = plan(there.pictures, arranged(there), out)
    (out / "cats").mkdir(parents=True)
    (out / "cats" / "a.png").write_text("mine")
    assert [path for path, _ in plan(there.pictures, arranged(there), out).left_out] == [
        str(folder / "a.png")
    ]
    done = move(planned, tmp_path / "log")
    assert done.moved == 2
    assert "is there already" in done.left_out[0][1]
    assert (out / "cats" / "a.png").read_text() == "mine"
    assert (folder / "a.png").exists()
    (folder / "c.png").write_text("new")
    undone = undo(tmp_path / "log")
    assert undone.moved == 1
    assert "is there again" in undone.left_out[0][1]
    assert (folder / "c.png").read_text() == "new"
    assert (out / "cats" / "a.png").read_text() == "mine"


def test_what_changed_since_is_not_moved(there, folder, tmp_path):
    planned = plan(there.pictures, arranged(there), tmp_path / "out")
    (folder / "a.png").write_text("changed")
    done = move(planned, tmp_path / "log")
    assert done.moved == 2
    assert done.left_out == [(str(folder / "a.png"), "it was changed since the dry run")]
    again = plan(there.pictures, arranged(there), tmp_path / "other")
    assert "zoo index" in dict(again.left_out)[str(folder / "a.png")]


def test_links_and_members_stay_where_they_are(folder, tmp_path):
    (folder / "link.png").symlink_to(folder / "a.png")
    found = pictures([folder / "link.png", folder / "a.zip/b.png"], [None, "b.png"])
    planned = plan(found, arranged(Facts(found)), tmp_path / "out")
    assert planned.steps == []
    assert [why for _, why in planned.left_out] == ["it is a link", "it lies in an archive"]


def test_to_another_file_system(there, folder, tmp_path, monkeypatch):
    def refuse(*args, **more):
        raise OSError(18, "Invalid cross-device link")

    before = held(folder)
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(os, "link", refuse)
    planned = plan(there.pictures, arranged(there), tmp_path / "out")
    assert move(planned, tmp_path / "log").moved == 3
    assert undo(tmp_path / "log").moved == 3
    assert held(folder) == before
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_what_came_to_the_new_place_meanwhile_stays(there, folder, tmp_path, monkeypatch):
    def refuse(old, new, **more):
        os.makedirs(os.path.dirname(new), exist_ok=True)
        with open(new, "w") as file:
            file.write("somebody else's")
        os.unlink(old)  # and the old one is gone, too
        raise OSError(18, "Invalid cross-device link")

    planned = plan(there.pictures, arranged(there), tmp_path / "out")
    monkeypatch.setattr(os, "link", refuse)
    done = move(planned, tmp_path / "log")
    assert (done.moved, len(done.left_out)) == (0, 3)
    for step in planned.steps:
        with open(step["to"]) as file:
            assert file.read() == "somebody else's"


def test_a_killed_move_is_undone(there, folder, tmp_path, monkeypatch):
    before = held(folder)
    planned = plan(there.pictures, arranged(there), tmp_path / "out")
    calls = []

    def killed(path):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt  # the second file has both names now

    real = os.unlink
    monkeypatch.setattr(os, "unlink", lambda path: (killed(path), real(path)))
    with pytest.raises(KeyboardInterrupt):
        move(planned, tmp_path / "log")
    monkeypatch.setattr(os, "unlink", real)
    with (tmp_path / "log").open("a") as file:
        file.write('{"from": "/cut o')
    assert undo(tmp_path / "log").moved == 2
    assert held(folder) == before
    assert not (tmp_path / "out").exists()


def test_what_is_no_log_is_refused(tmp_path):
    for text in ("hello\n", json.dumps(["a"]) + "\n", '{"from": "a"}\n'):
        (tmp_path / "log").write_text(text)
        with pytest.raises(InputError, match="line 1"):
            undo(tmp_path / "log")
