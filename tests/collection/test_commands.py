"""zoo name, zoo recognise and zoo find, as a person types them."""

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import main
from zoo.collection import finding, recognising
from zoo.collection.decisions import Decisions
from zoo.collection.derived import GROUPS
from zoo.collection.opened import Layer, Opened
from zoo.collection.recognising import KEPT, RECORD, TENSORS
from zoo.collection.store import Store
from zoo.errors import CapabilityError, InputError
from zoo.sample import sample

MODEL = "pca.fashion_mnist"
SHIRT, TROUSERS, BAG = 0, 1, 8


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
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of 120 pictures of clothes, and a collection of them that nobody touches."""
    root = tmp_path_factory.mktemp("made")
    images, labels = sample()
    (root / "pictures").mkdir()
    for i in range(120):
        Image.fromarray(images[i]).save(root / "pictures" / f"{labels[i]}-{i:03}.png")
    zoo.Collection.index(MODEL, [root / "pictures"], root / "collection")
    return root


@pytest.fixture
def collection(made, tmp_path):
    return shutil.copytree(made / "collection", tmp_path / "collection")


@pytest.fixture
def pictures(made):
    """The pictures of each kind, by its number."""
    found = {}
    for path in sorted((made / "pictures").iterdir()):
        found.setdefault(int(path.name[0]), []).append(path)
    return found


@pytest.fixture
def grouped(collection, monkeypatch):
    """The collection, grouped by what its pictures are."""

    def layers(self):
        kinds = np.array([int(path.rsplit("/", 1)[1][0]) for path in self.pictures.paths])
        sure = np.full(len(kinds), 0.9, np.float32)
        return [Layer("coarse", kinds // 5, sure), Layer("middle", kinds, sure)]

    monkeypatch.setattr(Opened, "_grouped", property(layers))
    return collection


# -- zoo name ------------------------------------------------------------------------------------


def test_a_group_is_named_by_one_click(grouped, pictures):
    facts = answer("name", grouped, "--group", TROUSERS, "trousers")
    assert facts["decided"] == len(pictures[TROUSERS])
    assert facts["name"] == "trousers"
    (row,) = facts["names"]
    # Thirty neighbours of each are a quarter of this small collection: some are of other groups.
    assert len(pictures[TROUSERS]) <= row["pictures"] <= len(pictures[TROUSERS]) + 5
    assert (row["by_person"], facts["by_person"], facts["pictures"]) == (0, 0, 120)
    (decision,) = Decisions(grouped / "decisions.jsonl").read().decisions
    assert (decision.kind, decision.value, decision.group) == ("name", "trousers", TROUSERS)


def test_pictures_are_named_and_stay_so(grouped, pictures):
    one, two, three = pictures[BAG][:3]
    said = run("name", grouped, one, two, "--as", "hand  bags")
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("2 pictures named hand bags; ")
    run("name", grouped, "--group", BAG, "bags")
    facts = answer("name", grouped)
    assert {row["name"]: row["by_person"] for row in facts["names"]} == {"bags": 0, "hand bags": 2}
    names = Opened(grouped).naming
    by_path = dict(zip(Opened(grouped).pictures.paths, range(120), strict=True))
    assert names.of(by_path[str(one)]) == "hand bags"
    assert names.of(by_path[str(three)]) in ("bags", "hand bags")


def test_names_are_taken_away(grouped, pictures):
    run("name", grouped, pictures[BAG][0], "--as", "bag")
    run("name", grouped, "--group", BAG, "bags")
    assert answer("name", grouped, "--group", BAG, "--remove")["by_person"] == 1
    facts = answer("name", grouped, pictures[BAG][0], "--remove")
    assert (facts["named"], facts["names"], facts["name"]) == (0, [], None)
    assert len(Decisions(grouped / "decisions.jsonl").read().decisions) == 4, "all is still told"


def test_what_is_worth_asking(grouped, pictures):
    facts = answer("name", grouped, "-n", 4)
    assert len(facts["questions"]) == 4
    first = facts["questions"][0]
    largest = max(pictures, key=lambda kind: len(pictures[kind]))
    assert (first["layer"], first["group"]) == ("middle", largest)
    assert first["pictures"] == len(pictures[largest])
    assert set(first["such_as"]) <= {str(path) for path in pictures[largest]}
    said = run("name", grouped)
    assert f"Type: zoo name {grouped} --group {largest} NAME" in said.stdout
    run("name", grouped, "--group", largest, "x")
    assert all(q["group"] != largest for q in answer("name", grouped)["questions"])


def test_without_groups_they_are_made_first(collection):
    assert "has no groups yet. Type: zoo group" in refused("name", collection, "--group", 3, "x")
    facts = answer("name", collection)
    assert facts["questions"][0]["group"] is not None
    (note,) = facts["notes"]
    assert note.startswith("there were no groups yet: grouped into ")
    assert answer("name", collection)["notes"] == []
    (collection / GROUPS).unlink()
    assert "there were no groups yet" in run("name", collection).stderr


def test_where_no_groups_can_be_made_pictures_are_asked(collection, monkeypatch):
    with Store.writing(collection):
        monkeypatch.setattr("zoo.collection.store.WAIT", 0)
        facts = answer("name", collection)
        assert "--as NAME" in run("name", collection).stdout
    assert {question["group"] for question in facts["questions"]} == {None}
    assert facts["notes"][0].startswith("there are no groups yet, and they cannot be made: ")


def test_a_picture_is_known_by_its_content(grouped, pictures, tmp_path):
    moved = shutil.copy(pictures[BAG][0], tmp_path / "elsewhere.png")
    assert answer("name", grouped, moved, "--as", "bag")["by_person"] == 1


def test_a_torn_line_is_said(grouped, pictures):
    run("name", grouped, pictures[BAG][0], "--as", "bag")
    with (grouped / "decisions.jsonl").open("ab") as file:
        file.write(b'{"kind": "name", "hash')
    result = run("name", grouped)
    assert "1 line of decisions.jsonl cannot be read" in result.stderr
    assert answer("name", grouped)["by_person"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--group", "99", "x"], "there is no group 99 in the layer middle"),
        (["--group", "99", "x"], "expected one of 0 to 9. To see them, type: zoo group"),
        (["--group", "-1", "x"], "there is no group -1"),
        (["--group", "1"], "--group 1 takes one name, got none"),
        (["--group", "1", "a", "b"], "in quotes"),
        (["--group", "1", "x", "--layer", "finest"], "expected one of middle, coarse"),
        (["--group", "1", " "], "at least one letter"),
        (["--group", "1", "x" * 101], "100 characters"),
        (["--group", "1", "x", "--remove"], "got both"),
        (["--as", "x"], "name at least one picture"),
        (["--remove"], "name at least one picture"),
        (["a.png"], "how should a.png be named"),
        (["a.png", "--as", "x"], "a.png is no file, and not in the collection"),
        (["a.png", "--as", "x", "--remove"], "leave one of them out"),
        (["", "--as", "x"], "is empty"),
    ],
)
def test_mistakes_at_naming(grouped, arguments, message):
    assert message in refused("name", grouped, *arguments)
    assert not (grouped / "decisions.jsonl").exists()


def test_no_collection(tmp_path):
    for command in (["name"], ["find", "x"], ["recognise", "x"]):
        command.insert(1, tmp_path)
        (tmp_path / "x.png").touch()
        assert "is no collection" in refused(*command)


def test_the_same_in_python(grouped, pictures, tmp_path):
    collection = zoo.Collection(grouped)
    collection.name("trousers", group=TROUSERS)
    collection.name("bag", [pictures[BAG][0]])
    by_path = dict(zip(collection.pictures().paths, collection.names(), strict=True))
    assert by_path[str(pictures[BAG][0])] == ("bag", 1.0)
    assert by_path[str(pictures[TROUSERS][0])][0] == "trousers"
    recogniser = collection.recogniser()
    assert recogniser.names == ["bag", "trousers"]
    assert len(recogniser.recognise(collection.features()).none) == 120
    found = collection.find(pictures[TROUSERS][0], unlike=[pictures[BAG][0]], number=2)
    assert [path.rsplit("/", 1)[1][0] for path, _ in found] == ["1", "1"]
    collection.name(None, [pictures[BAG][0]])
    assert "bag" not in {name for name, _ in collection.names()}
    for wrong in (
        lambda: collection.name("x"),
        lambda: collection.name("x", [tmp_path / "no.png"]),
        lambda: collection.name("", group=TROUSERS),
        lambda: collection.find(),
        lambda: collection.find("a.png", words="a car"),
    ):
        with pytest.raises(InputError):
            wrong()
    with pytest.raises(CapabilityError):
        collection.find(words="a car")


# -- zoo recognise -------------------------------------------------------------------------------


@pytest.fixture
def named(grouped):
    for kind, name in ((TROUSERS, "trousers"), (BAG, "bags"), (9, "boots")):
        run("name", grouped, "--group", kind, name)
    return grouped


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    """Pictures that the collection does not have, and a file that is none."""
    folder = tmp_path_factory.mktemp("new")
    images, labels = sample()
    for i in range(120, 300):
        Image.fromarray(images[i]).save(folder / f"{labels[i]}-{i:03}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_new_pictures_are_recognised_or_none_of_these(named, new, tmp_path):
    facts = answer("recognise", named, new, "--save", tmp_path / "kept")
    assert (facts["pictures"], facts["unread"]) == (180, 1)
    assert facts["recognised"] + facts["none_of_these"] == 180
    assert facts["names"] == ["bags", "boots", "trousers"]
    kinds = {TROUSERS: "trousers", BAG: "bags", 9: "boots"}
    rows = [(int(row["path"].rsplit("/", 1)[1][0]), row) for row in facts["results"]]
    known = [row["name"] == kinds[kind] for kind, row in rows if kind in kinds]
    strangers = [row["name"] is None for kind, row in rows if kind not in kinds]
    assert np.mean(known) > 0.6
    assert np.mean(strangers) > 0.5
    assert all(0 <= row["probability"] <= 1 for _, row in rows)
    assert "not a picture" in facts["unread_files"][0]["reason"]
    again = answer("recognise", tmp_path / "kept", new)
    assert again["results"] == facts["results"]


def test_a_recogniser_is_learnt_once_for_the_names_that_there_are(named, pictures, monkeypatch):
    learn, learnt = recognising.learn, []
    monkeypatch.setattr(recognising, "learn", lambda *a, **b: learnt.append(1) or learn(*a, **b))

    def times():
        """How often one was learnt since the last time."""
        before = len(learnt)
        facts = answer("recognise", named, pictures[SHIRT][0])
        assert facts["names"] == sorted(row["name"] for row in answer("name", named)["names"])
        return len(learnt) - before

    assert [times(), times()] == [1, 0]
    run("name", named, pictures[SHIRT][1], "--as", "shirt")
    assert [times(), times()] == [1, 0]
    (named / KEPT / TENSORS).write_bytes(b"damaged")
    assert [times(), times()] == [1, 0]
    zoo.Collection(named).group()
    assert [times(), times()] == [1, 0], "names of groups spread to others now"
    run("name", named, pictures[SHIRT][1], "--as", "top")
    with Store.writing(named):  # so that nothing can be kept
        assert [times(), times()] == [1, 1]


def test_recognised_pictures_in_words(named, pictures, tmp_path):
    said = run("recognise", named, pictures[TROUSERS][0], "--save", tmp_path / "kept")
    assert said.exit_code == 0, said.output
    assert "1 recognised, 0 none of these, 0 not read" in said.stdout
    assert f"A recogniser of 3 names in {tmp_path / 'kept'}" in said.stdout
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == [RECORD, TENSORS]


def test_mistakes_at_recognising(named, collection, new, tmp_path):
    assert "name at least one picture" in refused("recognise", named)
    assert "no such file or folder" in refused("recognise", named, tmp_path / "nothing")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    assert "is not empty" in refused("recognise", named, "--save", tmp_path / "mine")
    (named / "decisions.jsonl").unlink()
    assert "has no names yet" in refused("recognise", named, new)


def test_a_recogniser_of_another_model(named, new, tmp_path):
    run("recognise", named, "--save", tmp_path / "kept")
    record = json.loads((tmp_path / "kept" / RECORD).read_text())
    for model, message in (
        ({"name": "pca.mnist"}, "whose weights are other"),
        ({"name": "no_such_model"}, "no_such_model"),
        ({"sha256": "0" * 64}, "whose weights are other"),
    ):
        changed = record | {"model": record["model"] | model}
        (tmp_path / "kept" / RECORD).write_text(json.dumps(changed))
        assert message in refused("recognise", tmp_path / "kept", new)


# -- zoo find ------------------------------------------------------------------------------------


def test_the_nearest_of_a_picture_of_the_collection(grouped, pictures, tmp_path):
    picture = pictures[TROUSERS][0]
    run("name", grouped, "--group", TROUSERS, "trousers")
    facts = answer("find", grouped, picture, "-n", 3, "--out", tmp_path / "found.png")
    assert facts["count"] == 3
    assert str(picture) not in [row["path"] for row in facts["found"]]
    assert {row["name"] for row in facts["found"]} == {"trousers"}
    similarities = [row["similarity"] for row in facts["found"]]
    assert similarities == sorted(similarities, reverse=True)
    assert Image.open(tmp_path / "found.png").size == (2 * 132 + 4, 2 * 132 + 4)
    assert "The nearest 3 of 120 pictures" in run("find", grouped, picture, "-n", 3).stdout


def test_the_nearest_of_a_picture_from_elsewhere(collection, pictures, tmp_path):
    """Turned into another format it has another content, and is found all the same."""
    Image.open(pictures[BAG][0]).save(tmp_path / "same.bmp")
    facts = answer("find", collection, tmp_path / "same.bmp", "-n", 1)
    assert facts["found"][0]["path"] == str(pictures[BAG][0])
    assert facts["found"][0]["similarity"] == pytest.approx(1, abs=0.01)
    assert facts["found"][0]["name"] is None


def test_several_pictures_and_none_like_another(collection, pictures):
    bags, trousers = pictures[BAG][:2], pictures[TROUSERS][:2]
    both = answer("find", collection, *bags, *trousers, "-n", 20)
    kinds = {row["path"].rsplit("/", 1)[1][0] for row in both["found"]}
    assert {"1", "8"} <= kinds
    without = answer("find", collection, *bags, "--not", trousers[0], "-n", 20)
    assert not any("/1-" in row["path"] for row in without["found"])


def test_a_part_of_a_picture(collection, pictures):
    picture = pictures[BAG][0]
    whole = answer("find", collection, picture, "--crop", "0,0,1,1", "-n", 1)
    assert whole["found"][0]["path"] == str(picture), "a part is no picture of the collection"
    part = answer("find", collection, picture, "--crop", "0,0,14,28", "-n", 1)
    assert part["found"][0]["similarity"] < 0.99


def test_words(collection, monkeypatch):
    assert "'a red' is no file" in refused("find", collection, "a red").replace(" car", "")
    store = Opened(collection).store
    wanted = store.features(np.array([7]))[0]
    monkeypatch.setattr(
        finding, "embedded_words", lambda model, words, folder: finding.unit(wanted[None])[0]
    )
    facts = answer("find", collection, "a", "red", "car", "-n", 1)
    assert facts["found"][0]["path"] == Opened(collection).pictures.paths[7]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a picture, or some words"),
        ([""], "name a picture, or some words"),
        (["nothing.png"], "nothing.png: there is no such file"),
        (["some/where"], "some/where: there is no such file"),
        (["."], ".: is a folder"),
        (["words", "--crop", "0,0,5,5"], "--crop is a part of one picture"),
        (["words", "--not", "x.png"], "--not goes with pictures"),
        (["PICTURE", "PICTURE", "--crop", "0,0,5,5"], "--crop is a part of one picture"),
        (["PICTURE", "words"], "words: there is no such file; name pictures, or words alone"),
        (["PICTURE", "--crop", "0,0"], "left,top,right,bottom"),
        (["PICTURE", "--not", "nothing.png"], "nothing.png: there is no such file"),
        (["PICTURE", "--not", "PICTURE"], "nothing is left to look for"),
        (["PICTURE", "--out", "PICTURE"], "is one of the pictures"),
    ],
)
def test_mistakes_at_finding(collection, pictures, arguments, message):
    arguments = [pictures[BAG][0] if each == "PICTURE" else each for each in arguments]
    assert message in refused("find", collection, *arguments)


@pytest.mark.slow
def test_the_guide(tmp_path, monkeypatch):
    """What docs/naming.md tells to type, one line after the other."""
    monkeypatch.chdir(tmp_path)
    images, _ = sample()
    for folder, first, last in (("pictures", 0, 200), ("new", 200, 220)):
        (tmp_path / folder).mkdir()
        for i in range(first, last):
            Image.fromarray(images[i]).save(tmp_path / folder / f"{i - first}.png")
    text = (Path(__file__).parents[2] / "docs" / "naming.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    typed = [shlex.split(line) for block in blocks for line in block.splitlines()]
    for command, *arguments in typed:
        result = run(*arguments)
        assert (command, result.exit_code) == ("zoo", 0), result.output
    assert len(typed) == 12
    assert (tmp_path / "found.png").is_file()
    facts = answer("name", "index")
    assert {row["name"] for row in facts["names"]} == {"sandals", "trainers"}
    assert facts["named"] > 10


KILLS = int(os.environ.get("KILLS", 6))


@pytest.mark.slow
def test_kills_of_zoo_name(collection, pictures):
    """Killed at random moments; what was acknowledged holds, and the next command goes on."""
    rng = random.Random(0)
    every = [path for kind in pictures.values() for path in kind]
    acknowledged = {}
    for number in range(KILLS):
        command = ["name", str(collection), str(every[number]), "--as", f"n{number}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo", *command], stdout=subprocess.PIPE, text=True
        )
        # Half of them anywhere on the way, half about when they write.
        if number % 2:
            time.sleep(rng.uniform(0, 2))
        else:
            size = (collection / "decisions.jsonl").stat().st_size if acknowledged else 0
            while process.poll() is None and not _has_grown(collection, size):
                time.sleep(0.001)
        process.kill()
        if "named" in process.communicate()[0] or not number % 2:
            acknowledged[str(every[number])] = f"n{number}"
    facts = answer("name", collection)
    by_person = {row["name"] for row in facts["names"] if row["by_person"]}
    assert by_person >= set(acknowledged.values())
    assert not list(collection.glob(".zoo-*"))
    assert run("name", collection, every[0], "--as", "again").exit_code == 0


def _has_grown(collection, size):
    """Whether a whole line more is in the file of decisions."""
    path = collection / "decisions.jsonl"
    return path.is_file() and path.stat().st_size > size and path.read_bytes().endswith(b"\n")
