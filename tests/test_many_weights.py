"""What ships costs nothing until somebody looks at it, and a broken set costs only itself."""

import copy
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.errors import SpecError, WeightsError
from zoo.folder import bundled_weights, weights_record
from zoo.spec import Weights

ROOT = """
from zoo import ModelSpec, bundled_weights, hookimpl

@hookimpl
def zoo_models():
    weights = bundled_weights(__file__, "many")
    return [
        ModelSpec(
            name="many", family="none", builder="zoo_many.none:None_", summary="Made up",
            image_shape=(1, 2, 2), code_shape=(2,), weights=weights, default_tag=weights[0].tag,
        )
    ]
"""
METRIC = {
    "name": "sse", "value": 1.5, "dataset": "mnist", "split": "test", "protocol": "p", "samples": 3,
}  # fmt: skip
LISTED = """
import json, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from zoo.cli import main
try:
    main({arguments!r})
finally:
    print(json.dumps([name for name in opened if "zoo_many" in name]), file=sys.stderr)
"""


def write_set(folder: Path, tag: str) -> None:
    folder.mkdir(parents=True)
    config = {
        "api_version": 1, "model": "many", "plugin": "latentzoo-many", "config": {}, "size": 3,
        "sha256": "0" * 64, "parameters": 7, "dataset": f"data of {tag}", "licence": "MIT",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.json").write_text(json.dumps({"metrics": [METRIC]}))


def install(folder: Path, count: int) -> Path:
    """A plugin with so many sets of weights, as pip would leave it in ``folder``."""
    package, info = folder / "zoo_many", folder / "latentzoo_many-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(ROOT)
    for i in range(count):
        write_set(package / "weights" / f"many.t{i:03}", f"t{i:03}")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: latentzoo-many\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[zoo]\nmany = zoo_many\n")
    return package / "weights"


def zoo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process that sees the plugin in ``folder`` beside the installed ones."""
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-c", LISTED.format(arguments=list(arguments))],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


def opened(run: subprocess.CompletedProcess[str]) -> list[str]:
    return json.loads(run.stderr.splitlines()[-1])


@pytest.mark.parametrize("arguments", [["list", "--json"], ["list"], ["list", "m*"]])
def test_list_opens_no_more_files_however_many_weights_there_are(tmp_path, arguments):
    runs = {}
    for count in (3, 300):
        install(tmp_path / str(count), count)
        runs[count] = zoo(tmp_path / str(count), *arguments)
        assert runs[count].returncode == 0, runs[count].stderr
    # The entry point, and the root module as source and perhaps as bytecode.
    assert len(opened(runs[300])) == len(opened(runs[3])) <= 3
    assert not any("weights" in name for name in opened(runs[300]))
    assert "many.t000" in runs[300].stdout
    assert "many.t299" in runs[300].stdout


def test_what_is_asked_for_is_read_and_nothing_else(tmp_path):
    install(tmp_path, 30)
    run = zoo(tmp_path, "info", "many.t007", "--json")
    assert json.loads(run.stdout)["weights"][0]["dataset"] == "data of t007"
    assert {Path(name).parent.name for name in opened(run) if "weights" in name} == {"many.t007"}


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def break_metrics(folder: Path) -> None:
    (folder / "metrics.json").write_text(json.dumps({"metrics": [{**METRIC, "samples": 0}]}))


def drop_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def make_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [break_config, break_metrics, drop_config, make_a_file])
def test_a_broken_set_costs_only_itself_and_is_named(tmp_path, damage):
    damage(install(tmp_path, 3) / "many.t001")
    listed = zoo(tmp_path, "list", "--json")
    assert listed.returncode == 0
    assert "many.t001" in listed.stdout
    for command in (["info", "many.t001"], ["info", "many"], ["card", "many.t001"]):
        run = zoo(tmp_path, *command)
        assert run.returncode == 2, command
        assert "many.t001" in run.stderr
        assert "Traceback" not in run.stderr
    assert zoo(tmp_path, "info", "many.t002").returncode == 0
    plugins = zoo(tmp_path, "plugins", "--json")
    (many,) = [p for p in json.loads(plugins.stdout) if p["distribution"] == "latentzoo-many"]
    assert many["fault"] is None
    assert list(many["broken_weights"]) == ["many.t001"]
    assert "The weights many.t001 of latentzoo-many" in zoo(tmp_path, "plugins").stderr
    board = zoo(tmp_path, "leaderboard", "--json")
    assert board.returncode == 0
    assert "many.t001" not in board.stdout
    assert "many.t002" in board.stdout
    assert "The weights many.t001 are left out" in board.stderr
    checked = zoo(tmp_path, "check", "many.t001")
    assert checked.returncode in (1, 2)
    assert "many.t001" in checked.stdout + checked.stderr


@pytest.fixture
def weights(tmp_path) -> tuple[Weights, Weights]:
    """A record that nobody has looked at, and what it should be."""
    folder = install(tmp_path, 1)
    (unread,) = bundled_weights(str(folder.parent / "__init__.py"), "many")
    return unread, weights_record(folder / "many.t000", "t000")


@pytest.mark.parametrize(
    "look",
    [
        lambda unread, read: unread == read,
        lambda unread, read: read == unread,
        lambda unread, read: hash(unread) == hash(read),
        lambda unread, read: repr(unread) == repr(read),
        lambda unread, read: unread.to_dict() == read.to_dict(),
        lambda unread, read: copy.deepcopy(unread) == read,
        lambda unread, read: dataclasses.replace(unread, tag="b") == dataclasses.replace(
            read, tag="b"
        ),
        lambda unread, read: unread.metrics[0].value == 1.5,
        lambda unread, read: isinstance(unread, Weights) and unread.preprocessing is None,
    ],
)  # fmt: skip
def test_nobody_can_tell_a_record_that_was_read_late(weights, look):
    assert look(*weights)


def test_records_that_were_read_late_are_frozen(weights):
    for _ in range(2):  # before and after it was read
        with pytest.raises(dataclasses.FrozenInstanceError):
            weights[0].dataset = "another"
        assert weights[0] == weights[1]


@pytest.mark.parametrize(
    "look",
    [
        lambda old, record: old.__getattribute__(record, "dataset"),
        lambda old, record: old.__repr__(record),
        lambda old, record: old.__hash__(record),
        lambda old, record: old.__eq__(record, record),
        lambda old, record: old.__reduce__(record),
    ],
)
def test_a_record_may_be_read_while_another_thread_looks_at_it(weights, look):
    unread, read = weights
    old = type(unread)  # whose method a thread is in, when another has read the record
    assert unread.parameters == read.parameters
    assert type(unread) is Weights
    assert look(old, unread)


def test_a_folder_that_is_missing_when_it_is_read_raises_each_time(weights, tmp_path):
    shutil.rmtree(tmp_path / "zoo_many" / "weights")
    for _ in range(2):
        with pytest.raises(WeightsError, match=r"many\.t000"):
            weights[0].to_dict()
    assert weights[0].tag == "t000"


def test_a_name_that_holds_no_tag_is_refused_when_it_is_discovered(tmp_path):
    folder = install(tmp_path, 1)
    (folder / "many.Not a tag").mkdir()
    with pytest.raises(SpecError, match="Not a tag"):
        bundled_weights(str(folder.parent / "__init__.py"), "many")
