"""Search by words from end to end: two small towers learn shapes and colours, are published to a
Hub of the test's own, index a folder, and find in it what is said: by command and on the page.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from hubserver import HubServer
from preloaded import shared

pytest.importorskip("open_clip")
pytest.importorskip("zoo_clip")
pytestmark = pytest.mark.slow

import shapes  # noqa: E402  open_clip takes seconds to import

NAME = "clip:hf-hub:org/shapes"
LISTED = "clip:ViT-B-32.laion2b_s34b_b79k"
GUIDE = (Path(__file__).parents[1] / "docs" / "words.md").read_text("utf-8")
EACH = 20


class Shell:
    """A folder with pictures in it, and commands that know one Hub alone."""

    def __init__(self, folder: Path, hub: HubServer):
        self.folder = folder
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ZOO_"))}
        self.env = env | hub.env(folder / "home")
        self.captions = shapes.folder(folder / "pictures", EACH, seed=5)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "zoo", *arguments], env=self.env, cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str) -> str:
        done = shared().run("-m", "zoo", *arguments, env=self.env, cwd=self.folder, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, code: str) -> str:
        done = shared().run("-c", code, env=self.env, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def caption(self, path: str) -> str:
        return self.captions[int(Path(path).stem)]


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """With the towers published, and the pictures indexed by them."""
    folder = tmp_path_factory.mktemp("words")
    shapes.learnt(folder / "towers")
    with HubServer() as hub:
        hub.put("org/shapes", {p.name: p.read_bytes() for p in (folder / "towers").iterdir()})
        shell = Shell(folder, hub)
        shell.run("index", NAME, "pictures", "--out", "index")
        hub.stop()  # what was indexed is searched without the Hub
        yield shell


def test_words_find_pictures(shell):
    code = f"""
import json, pathlib
from zoo.collection.finding import saying
from zoo.collection.opened import Opened
collection = Opened(pathlib.Path("index"))
print(json.dumps({{
    caption: [collection.pictures.paths[i] for i in saying(collection, caption, {EACH}).pictures]
    for caption in {shapes.CAPTIONS!r}
}}))
"""
    found = json.loads(shell.python(code))
    right = {
        caption: sum(shell.caption(path) == caption for path in paths) / EACH
        for caption, paths in found.items()
    }
    mean = sum(right.values()) / len(right)
    assert mean > 0.85, right
    stated = re.search(r"mean precision of (\.\d\d)", GUIDE)
    assert abs(float(stated[1]) - mean) < 0.1, mean
    typed = json.loads(shell.run("find", "index", "a", "red", "circle", "-n", "20", "--json"))
    assert [row["path"] for row in typed["found"]] == found["a red circle"]


def test_words_on_the_page(shell):
    process = shell.start("browse", "index", "--json")
    try:
        said = "".join(iter(process.stdout.readline, "}\n")) + "}"
        address = json.loads(said)["address"]
        with urllib.request.urlopen(f"{address}collection") as answer:
            collection = json.load(answer)
        assert collection["can"]["words"] is True
        request = urllib.request.Request(
            f"{address}find/words",
            json.dumps({"words": "a green triangle"}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            found = json.load(answer)["found"]
        first = [shell.caption(collection["paths"][i]) for i, _ in found[:10]]
        assert first.count("a green triangle") >= 8
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_names_for_groups(shell):
    shell.run("group", "index")
    words = ",".join(caption.removeprefix("a ") for caption in shapes.CAPTIONS)
    typed = ["name", "index", "--words", words, "--template", "a {}"]
    decided = shell.folder / "index" / "decisions.jsonl"
    answer = json.loads(shell.run(*typed, "--json"))
    assert not decided.exists()
    assert answer["written"] == 0
    right = weight = 0
    for group in answer["groups"]:
        shown = [shell.caption(path) == f"a {group['word']}" for path in group["such_as"]]
        right += sum(shown) * group["pictures"]
        weight += len(shown) * group["pictures"]
        assert 0 < group["share"] <= 1
        assert group["second_share"] <= group["share"]
    assert right / weight > 0.8
    assert "Nothing was named" in shell.run(*typed)
    written = json.loads(shell.run(*typed, "--write", "--json"))
    sure = [group for group in answer["groups"] if group["share"] >= 0.5]
    assert written["written"] == len(sure) > 0
    again = json.loads(shell.run(*typed, "--write", "--json"))
    assert again["written"] == 0, "a name that is there stays"
    named = {row["name"] for row in json.loads(shell.run("name", "index", "--json"))["names"]}
    assert named == {group["word"] for group in sure}


def test_evaluate_and_models_without_words(shell, tmp_path):
    sorted_by = tmp_path / "labelled"
    for i, caption in enumerate(shell.captions[:60]):
        (sorted_by / caption.split()[1]).mkdir(parents=True, exist_ok=True)
        source = shell.folder / "pictures" / f"{i:03d}.png"
        (sorted_by / caption.split()[1] / source.name).write_bytes(source.read_bytes())
    # Pinned, since the Hub is away.
    (commit,) = (shell.folder / "home").glob("**/snapshots/*")
    out = shell.run(
        "evaluate", f"{NAME}@{commit.name}", "--data", str(sorted_by), "--protocol", "knn", "--json"
    )
    measured = {m["name"]: m["value"] for m in json.loads(out)["metrics"]}
    assert measured["knn1"] > 0.8


def test_the_guide(shell, tmp_path_factory):
    """What docs/words.md tells to type, with the small towers instead of those on the Hub."""
    folder = tmp_path_factory.mktemp("guide")
    with HubServer() as hub:
        towers = shell.folder / "towers"
        hub.put("org/shapes", {p.name: p.read_bytes() for p in towers.iterdir()})
        fresh = Shell(folder, hub)
        blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
        typed = [shlex.split(line) for block in blocks for line in block.splitlines()]
        for command, *arguments in typed:
            assert command == "zoo"
            fresh.run(*(NAME if each == LISTED else each for each in arguments))
        assert len(typed) == 8
        assert (folder / "found.png").is_file()
        (code,) = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
        code = code.replace(LISTED, NAME) + "\nassert words.shape[1:] == pictures.shape[1:]\n"
        fresh.python(code)
