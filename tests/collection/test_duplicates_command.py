"""zoo duplicates and zoo export, as a person types them."""

import csv
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import main
from zoo.collection import duplicates, matching
from zoo.collection.decisions import Decisions
from zoo.collection.opened import Opened
from zoo.sample import sample


def run(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


def answer(*arguments):
    """What a command answers in JSON."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments):
    """The one message of a user's mistake."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Clothes, a photograph, its copies, and a file that is none; and their collection."""
    import sklearn

    root = tmp_path_factory.mktemp("made")
    folder = root / "pictures"
    folder.mkdir()
    images, _ = sample()
    for i in range(12):
        Image.fromarray(images[i]).save(folder / f"{i}.png")
    with Image.open(Path(sklearn.__file__).parent / "datasets/images/china.jpg") as image:
        photo = image.resize((160, 106))
    photo.save(folder / "photo.png")
    photo.resize((80, 53)).save(folder / "small.png")
    photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "mirrored.jpg", quality=60)
    shutil.copy(folder / "0.png", folder / "0 again.png")
    os.utime(folder / "0.png", (1e9, 1e9))
    (folder / "broken.png").write_bytes(b"no picture")
    zoo.Collection.index("pca.fashion_mnist", [folder], root / "collection")
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy of it all, which a test may change."""
    shutil.copytree(made / "pictures", tmp_path / "pictures")
    zoo.Collection.index("pca.fashion_mnist", [tmp_path / "pictures"], tmp_path / "collection")
    if (made / "collection" / "duplicates.parquet").exists():
        shutil.copy(made / "collection" / "duplicates.parquet", tmp_path / "collection")
    return tmp_path


def names(each):
    return Path(each["keep"]).name, {Path(path).name for path in each["copies"]}


def test_copies_are_found(made):
    found = answer("duplicates", made / "collection")
    assert list(map(names, found["same_picture"])) == [("photo.png", {"small.png", "mirrored.jpg"})]
    assert list(map(names, found["same_file"])) == [("0.png", {"0 again.png"})]
    assert found["counts"]["same_picture"]["extra"] == 2
    assert found["not_compared"] == []
    text = run("duplicates", made / "collection").stdout
    assert "same picture: 1 set, 2 more than one each" in text
    assert "photo.png (of the largest the least compressed:" in text
    assert "0.png (otherwise equal, and the oldest)" in text


def test_what_is_to_be_compared_is_looked_for_once(made, monkeypatch):
    first = answer("duplicates", made / "collection")
    monkeypatch.setattr(matching, "candidates", lambda *args, **more: pytest.fail("again"))
    assert answer("duplicates", made / "collection") == first


def test_thresholds(made):
    rows = answer("duplicates", made / "collection", "--preview")["preview"]
    counts = [row["pictures"] for row in rows]
    assert counts == sorted(counts, reverse=True)
    found = answer("duplicates", made / "collection", "--alike", "--threshold", "-1")
    assert found["counts"]["alike"]["sets"] >= 1
    assert "threshold" in run("duplicates", made / "collection", "--preview").stdout


def test_what_was_compared_is_kept_also_when_it_is_interrupted(tmp_path, monkeypatch):
    import sklearn

    (tmp_path / "in").mkdir()
    for name in ("china", "flower"):
        with Image.open(Path(sklearn.__file__).parent / f"datasets/images/{name}.jpg") as image:
            image.resize((160, 106)).save(tmp_path / "in" / f"{name}.png")
            image.resize((120, 80)).save(tmp_path / "in" / f"{name}.jpg")
    zoo.Collection.index("simclr.cifar10", [tmp_path / "in"], tmp_path / "c")
    compared, compare = [], matching.compare
    monkeypatch.setattr(matching, "compare", lambda *a: compared.append(1) or compare(*a))
    monkeypatch.setattr(duplicates, "SECONDS", -1.0)

    def interrupted(done, of):
        if done == of:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        duplicates.find(Opened(tmp_path / "c"), interrupted)
    assert compared
    before = len(compared)
    kept = duplicates.Verdicts.load(tmp_path / "c")
    assert kept.same
    assert kept.new == 0
    assert len(duplicates.find(Opened(tmp_path / "c")).same_picture) == 2
    assert len(compared) - before < before


def test_decisions_are_kept_in_mind(root):
    collection, folder = root / "collection", root / "pictures"
    both = ("--keep-both", folder / "photo.png", "--keep-both", folder / "small.png")
    answer("duplicates", collection, *both, "--keep-both", folder / "mirrored.jpg")
    assert answer("duplicates", collection)["same_picture"][0]["kept"]
    apart = ("--not-duplicate", folder / "photo.png", "--not-duplicate", folder / "small.png")
    answer("duplicates", collection, *apart)
    found = answer("duplicates", collection)["same_picture"]
    assert [names(each) for each in found] == [("photo.png", {"mirrored.jpg"})]
    answer("duplicates", collection, *apart, "--undo")
    assert len(answer("duplicates", collection)["same_picture"][0]["copies"]) == 2
    assert len(Decisions(collection / "decisions.jsonl").read().decisions) == 3


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--threshold", "0.9"], "--alike"),
        (["--undo"], "--keep-both"),
        (["--not-duplicate", "a"], "two pictures"),
        (["--keep-both", "a", "--not-duplicate", "b"], "one at a time"),
        (["--keep-both", "nowhere.png"], "is no file"),
    ],
)
def test_mistakes_about_duplicates(made, typed, said):
    assert said in refused("duplicates", made / "collection", *typed)


def test_what_is_no_collection(tmp_path):
    for command in (["duplicates", tmp_path], ["export", tmp_path, "--out", tmp_path / "t.csv"]):
        assert "is no collection" in refused(*command)


# -- export --------------------------------------------------------------------------------------


def test_a_table_has_a_row_for_every_file(made, tmp_path):
    counts = answer("export", made / "collection", "--out", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert counts["rows"] == len(rows) == len(list((made / "pictures").iterdir()))
    assert (counts["pictures"], counts["unread"], counts["copies"]) == (16, 1, 3)
    by_name = {Path(row["path"]).name: row for row in rows}
    assert by_name["broken.png"]["unread"]
    assert by_name["photo.png"]["same_picture"] == by_name["mirrored.jpg"]["same_picture"] == "1"
    assert by_name["0.png"]["same_file"] == by_name["0 again.png"]["same_file"] == "1"
    assert by_name["1.png"]["same_picture"] == ""
    assert float(by_name["1.png"]["odd"]) >= 0


def test_features_and_arrays(made, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    answer("export", made / "collection", "--out", tmp_path / "t.parquet", "--features")
    table = parquet.read_table(tmp_path / "t.parquet")
    facts = answer("export", made / "collection", "--arrays", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert arrays["X"].shape == (16, facts["features"])
        np.testing.assert_array_equal(table["features"].to_pylist()[3], arrays["X"][3])
    assert table["features"].to_pylist()[-1] is None


def test_another_file_is_not_overwritten(made, tmp_path):
    (tmp_path / "t.csv").write_text("my,own,table\n")
    assert "not overwritten" in refused("export", made / "collection", "--out", tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "my,own,table\n"
    answer("export", made / "collection", "--out", tmp_path / "u.csv")
    answer("export", made / "collection", "--out", tmp_path / "u.csv")  # ours is


def test_links(made, tmp_path):
    found = answer("export", made / "collection", "--links", tmp_path / "sorted")
    assert (found["made"], found["folders"], found["left_out"]) == (16, 1, [])
    assert (tmp_path / "sorted" / "unnamed" / "photo.png").is_symlink()
    assert "already" in refused("export", made / "collection", "--links", tmp_path / "sorted")


def test_copies_are_moved_after_a_dry_run_and_back(root):
    collection, folder, out = root / "collection", root / "pictures", root / "out"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    typed = ("export", collection, "--move", out, "--what", "copies")
    assert "--dry-run" in refused(*typed)
    planned = answer(*typed, "--dry-run")
    assert planned["moves"] == 3
    assert not out.exists()
    assert "dry run" in refused("export", collection, "--move", out)  # all, which was not shown
    done = answer(*typed)
    assert done["moved"] == 3
    left = {path.name for path in folder.iterdir()}
    assert set(before) - left == {"small.png", "mirrored.jpg", "0 again.png"}
    assert answer("export", collection, "--undo", done["log"])["moved"] == 3
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not out.exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "type one of"),
        (["--out", "a.txt"], ".csv or .parquet"),
        (["--out", "a.csv", "--features"], ".parquet"),
        (["--out", "a.csv", "--links", "b"], "got 2"),
        (["--arrays", "a.txt"], ".npz"),
        (["--out", "a.csv", "--dry-run"], "--move"),
        (["--links", "b", "--by", "group"], "zoo group"),
    ],
)
def test_mistakes_about_exports(made, tmp_path, monkeypatch, typed, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused("export", made / "collection", *typed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_page_is_true(root, monkeypatch, capsys):
    """The blocks of docs/duplicates.md, one after the other."""
    page = (Path(__file__).parents[2] / "docs" / "duplicates.md").read_text("utf-8")
    (root / "collection").rename(root / "index")
    monkeypatch.chdir(root)
    for kind, block in re.findall(r"^```(sh|python)\n(.*?)^```", page, re.M | re.S):
        for line in block.splitlines() if kind == "sh" else []:
            result = run(*shlex.split(line)[1:])
            assert result.exit_code == 0, f"{line}: {result.stderr}"
        if kind == "python":
            exec(block, {})
    assert len([path for path in (root / "copies").rglob("*") if path.is_file()]) == 3
    assert "keep" in capsys.readouterr().out


def test_the_same_in_python(made):
    collection = zoo.Collection(made / "collection")
    found = collection.duplicates()
    assert [len(each.members) for each in found.same_picture] == [3]
    table = collection.table()
    assert sum(each is not None for each in table["same_picture"]) == 3
    assert len(table["path"]) == len(collection) + 1
