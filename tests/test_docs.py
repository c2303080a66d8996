"""The guides say what is so: their blocks run, and nothing of the code is left out of them."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from zoo import hookspecs
from zoo.cli import COMMANDS
from zoo.spec import CAPABILITIES

TREE = Path(__file__).resolve().parents[1]
GUIDE = (TREE / "docs" / "plugins.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def reference():
    """The module that writes the reference."""
    spec = importlib.util.spec_from_file_location("reference", TREE / "docs" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_is_that_of_the_code(reference):
    assert reference.PAGE.read_text("utf-8") == reference.page(), "type: python docs/reference.py"


@pytest.mark.slow
def test_everything_is_in_the_reference(reference):
    """Found in the code by other means than the page is written by."""
    page = reference.PAGE.read_text("utf-8")
    sections = dict(re.findall(r"^### zoo ([\w-]+)\n(.*?)(?=^##)", page, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(COMMANDS)
    for name, section in sections.items():
        done = subprocess.run(
            [sys.executable, "-m", "zoo.cli", name, "--help"], capture_output=True, text=True
        )
        options = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", done.stdout, re.MULTILINE))
        assert "--help" in options
        missing = [option for option in options - {"--help"} if f"{option}" not in section]
        assert not missing, f"zoo {name} has them too"
    for name in [n for n in vars(hookspecs) if n.startswith("zoo_")]:
        assert f"| `{name}` |" in page
    for name in CAPABILITIES:
        assert f"| `{name}(" in page
        assert f"| `{name}` |" in GUIDE, "what an author writes for it"


def test_every_variable_of_the_environment_is_documented(reference):
    code = [TREE / "hubconf.py", *TREE.glob("zoo/**/*.py"), *TREE.glob("plugins/*/src/**/*.py")]
    read = {name for file in code for name in re.findall(r"\bZOO_[A-Z_]+", file.read_text("utf-8"))}
    assert read == set(reference.VARIABLES)


def test_every_hook_is_in_the_guide():
    for name in [n for n in vars(hookspecs) if n.startswith("zoo_")]:
        assert name in GUIDE


def test_links():
    pages = [*TREE.glob("*.md"), *TREE.glob("docs/*.md"), *TREE.glob("examples/*/*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


SHOWN = (
    r"\. (\./plugins/[\w-]+)( +# in a clone of latentzoo)?",  # tests/test_installing.py types it
    r"(\.|\./plugins/NAME)",
    r"--editable (\.|'\.\[dev\]'|latentzoo-mine)",
    r"'(?:latentzoo|\.)\[([\w,]+)\]'",  # the same
    r'"git\+ADDRESS" "git\+ADDRESS#subdirectory=(plugins/[\w-]+)"',  # the same
    r"(timm|tokenizers|pythae|pre-commit)",  # on the index
)


def test_the_map_of_the_code_is_true():
    """Every path of CONTRIBUTING.md is there, and every target that it names."""
    page = (TREE / "CONTRIBUTING.md").read_text("utf-8")
    for path in re.findall(
        r"`((?:zoo|plugins|examples|tests|docs|benchmarks|model_cards)/[\w./-]*)`", page
    ):
        if not re.search(r"[A-Z]{4}", path):  # NAME, PLUGIN
            module = TREE / f"{path.rstrip('/')}.py"
            assert (TREE / path).exists() or module.is_file(), path
    rows = set(re.findall(r"`zoo/(\w+)/`", page)) | {"sample"}  # pictures for the demo
    folders = {path.parent.name for path in (TREE / "zoo").glob("*/__init__.py")}
    assert folders <= rows, "every package is in the table"


def test_the_extras_are_in_the_page():
    extras = tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))["project"]
    page = (TREE / "docs" / "install.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == set(extras["optional-dependencies"])


def test_every_pip_command_that_is_shown_works():
    """All are of forms that tests/test_installing.py types, with folders and extras that exist."""
    extras = tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))["project"]
    extras = set(extras["optional-dependencies"])
    pages = [*TREE.glob("*.md"), *TREE.glob("docs/*.md"), *TREE.glob("*/*/README.md")]
    for page in pages:
        text = page.read_text("utf-8")
        if page.name == "install.md":  # what will work after a release, and says so
            text = re.sub(r"(?s)## From an index, after a release\n.*?\n## ", "", text)
        for command in re.findall(r"pip install ([^`\n]+)", text):
            found = [m for form in SHOWN if (m := re.fullmatch(form, command))]
            assert found, f"{page.name}: pip install {command}"
            for part in filter(None, found[0].groups()):
                if "plugins/" in part and "NAME" not in part:
                    assert (TREE / part).is_dir(), f"{page.name}: {part}"
                elif "[" in command and "editable" not in command:
                    assert set(part.split(",")) <= extras, f"{page.name}: {part}"


@pytest.mark.slow
def test_weights_of_ones_own(preloaded, tmp_path):
    """The section on zoo.save runs, block by block, in an empty folder."""
    guide = (TREE / "docs" / "training.md").read_text("utf-8")
    section = guide.partition("## Weights that `zoo train` did not make")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "sh"]
    for kind, text in blocks:
        done = preloaded.block(kind, text, tmp_path)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    card = (tmp_path / "weights" / "mine" / "README.md").read_text("utf-8")
    assert "256 pictures of noise" in card
    assert "- optimizer: AdamW, 1e-3" in card


PIP = """#!/bin/sh
# pip of this environment, without the network: not editable, which takes a library more.
test "$1 $2" = "install --editable" || exit 9
exec {python} -m pip install --quiet --no-index --no-build-isolation --no-deps \\
    --force-reinstall "./$3"
"""


@pytest.fixture
def place(clean_env, preload, core_wheel, hub, tmp_path):
    """A folder with pictures, a new environment with the core alone, and somebody logged in."""
    env = preload(clean_env(core_wheel))
    pip = env.folder / "bin" / "pip"
    pip.write_text(PIP.format(python=shlex.quote(str(env.python))))
    pip.chmod(0o755)
    (env.folder / "pictures").mkdir()
    env.run(
        "-c",
        "from PIL import Image; from zoo.sample import sample\n"
        "for i, pixels in enumerate(sample()[0][:64]):\n"
        "    Image.fromarray(pixels).save(f'pictures/{i}.png')",
    )
    hub.add_user("you", "secret-token")
    environ = os.environ | hub.env(tmp_path / "home", token="secret-token")

    def run(kind: str, text: str) -> None:
        done = env.server.block(kind, text, env.folder, environ)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"

    run.folder = env.folder
    return run


@pytest.mark.slow
def test_the_guide_to_plugins(place, hub):
    """All its blocks in their order, in one environment, from nothing to weights on the Hub."""
    kinds = [kind for kind, _ in BLOCKS]
    assert set(kinds) == {"sh", "python", "console"}
    assert kinds.count("console") == 1, "only building and uploading is not run"
    for kind, text in BLOCKS:
        if kind != "console":
            place(kind, text)
    table = GUIDE[GUIDE.index("| in `latentzoo-mine/` |") :].partition("\n\n")[0]
    files = re.findall(r"^\| `([\w./]+)` \| ", table, re.MULTILINE)
    assert len(files) > 5, "the table of what is written"
    for file in files:
        assert (place.folder / "latentzoo-mine" / file).exists(), file
    assert "v1" in str(hub.tags("you/mine"))


def test_reliability_has_every_kind_and_its_tests_are_there():
    page = (TREE / "docs" / "reliability.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", page, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 25))
    for number, tests in rows:
        files = re.findall(r"`([\w/]+\.py)`", tests)
        assert files, number
        for file in files:
            assert (TREE / "tests" / file).is_file(), f"{number}: {file}"
