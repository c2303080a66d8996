"""Every pip command that is printed works, offline here, from where the core was installed."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

TREE = Path(__file__).resolve().parents[1]
PLUGIN = "latentzoo-baseline"

# pip of the environment that the tests run in, for the test's own, without any index.
PIP = """#!/bin/sh
export PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1
unset PYTHONPATH
exec {here} -m pip --python {there} "$@"
"""


class Printed:
    """A new environment whose ``pip`` works without the network."""

    def __init__(self, env):
        self.env = env
        pip = env.folder / "bin" / "pip"
        pip.write_text(
            PIP.format(here=shlex.quote(sys.executable), there=shlex.quote(str(env.python)))
        )
        pip.chmod(0o755)

    def type(self, command: str, folder: Path | None = None) -> None:
        path = f"{self.env.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=folder or self.env.folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    def models(self) -> list[str]:
        return self.env.run("-c", "import zoo; print(*zoo.list_models())").stdout.split()

    def says(self, code: str) -> str:
        return self.env.run("-c", f"from zoo.installing import *; print({code})").stdout.strip()


@pytest.fixture
def printed(clean_env):
    return Printed(clean_env())


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A git repository with the core and a few of the plugins: what a clone is, but smaller."""
    clone = tmp_path_factory.mktemp("a clone") / "latentzoo"
    ignored = shutil.ignore_patterns("__pycache__", "*.tmp", "tests")
    for part in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        clone.mkdir(exist_ok=True)
        shutil.copy2(TREE / part, clone)
    for part in ("zoo", f"plugins/{PLUGIN}", "plugins/latentzoo-timm"):
        shutil.copytree(TREE / part, clone / part, ignore=ignored)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=clone, check=True)
    return clone


@pytest.mark.slow
def test_out_of_a_clone(printed, clone):
    printed.type(f"pip install {shlex.quote(str(clone))}")
    command = printed.says(f"install_command({PLUGIN!r})")
    assert command == f"pip install {shlex.quote(str(clone / 'plugins' / PLUGIN))}"
    printed.type(command)
    assert printed.models() == ["patch_kmeans", "pca"]
    printed.type(printed.says("install_plugins_command()"))
    assert "timm" in printed.env.run("-m", "zoo.cli", "plugins").stdout

    # pip takes the core that is there, and its extras from its metadata: no index is asked.
    command = printed.says("install_command('latentzoo[parquet]')")
    assert command == "pip install 'latentzoo[parquet]'"
    printed.type(command)
    with pytest.raises(AssertionError, match="No matching distribution"):
        printed.type("pip install no-such-distribution-of-the-zoo")


def test_what_a_workflow_of_a_plugin_installs(printed, clone):
    code = f"import sys; sys.path.insert(0, {str(clone)!r}); from zoo.installing import *; "
    git = ["git", "-C", str(clone), "remote"]
    for url, expected in (
        (None, "latentzoo"),
        ("/only/here", "latentzoo"),
        ("https://example.org/a/zoo.git", "git+https://example.org/a/zoo.git"),
    ):
        if url:
            subprocess.run([*git, "add", "origin", url], check=True)
        assert printed.env.run("-c", f"{code}print(core_anywhere())").stdout.strip() == expected
        if url:
            subprocess.run([*git, "remove", "origin"], check=True)


@pytest.mark.slow
def test_out_of_git(printed, clone, clean_env):
    address = f"git+{clone.as_uri()}"
    printed.type(f"pip install {shlex.quote(address)}")
    command = printed.says(f"install_command({PLUGIN!r})")
    part = rf"@[0-9a-f]{{40}}#subdirectory=plugins/{PLUGIN}"
    said = [unquote(word) for word in shlex.split(command)]
    assert said[:2] == ["pip", "install"]
    assert re.fullmatch(re.escape(unquote(address)) + part, said[2])
    printed.type(command)
    assert printed.models() == ["patch_kmeans", "pca"]
    assert unquote(printed.says("upgrade_command()")).startswith("pip install --upgrade 'git+file:")

    other = Printed(clean_env())
    other.type(printed.says(f"install_anywhere({PLUGIN!r})"))
    assert other.models() == ["patch_kmeans", "pca"]


@pytest.mark.slow
def test_on_another_machine_out_of_a_clone(printed, clone):
    done = printed.env.run(
        "-c",
        f"import sys; sys.path.insert(0, {str(clone)!r})\n"
        f"from zoo.installing import install_anywhere; print(install_anywhere({PLUGIN!r}))",
    )
    where, _, command = done.stdout.strip().partition(": ")
    assert where == "in a clone of latentzoo"
    printed.type(command, clone)
    assert printed.models() == ["patch_kmeans", "pca"]


@pytest.mark.slow
def test_what_is_not_installed_comes_along(printed, clone):
    """As with torch.hub, whose folder is on the path alone."""
    done = printed.env.run(
        "-c",
        f"import sys; sys.path.insert(0, {str(clone)!r})\n"
        f"from zoo.installing import install_command\n"
        f"print(install_command({PLUGIN!r})); print(install_command('latentzoo[parquet]'))",
    )
    plugin, extra = done.stdout.splitlines()
    assert extra == f"pip install {shlex.quote(f'{clone}[parquet]')}"
    printed.type(plugin)
    assert printed.models() == ["patch_kmeans", "pca"]


@pytest.mark.slow
def test_out_of_wheels(printed, build_wheel, core_wheel, tmp_path):
    for wheel in (core_wheel, build_wheel(TREE / "plugins" / PLUGIN)):
        shutil.copy2(wheel, tmp_path)
    printed.env.install(tmp_path / core_wheel.name)
    command = printed.says(f"install_command({PLUGIN!r})")
    assert command == f"pip install --find-links {shlex.quote(str(tmp_path))} {PLUGIN}"
    printed.type(command)
    assert printed.models() == ["patch_kmeans", "pca"]


@pytest.mark.slow
def test_from_an_index(printed, core_wheel):
    printed.env.install(core_wheel)
    for note in printed.env.site_packages.glob("latentzoo-*.dist-info/direct_url.json"):
        note.unlink()  # which pip writes for what it did not find on an index
    assert printed.says(f"install_command({PLUGIN!r})") == f"pip install {PLUGIN}"
    assert printed.says(f"install_anywhere({PLUGIN!r})") == f"pip install {PLUGIN}"
    assert printed.says("upgrade_command()") == "pip install --upgrade latentzoo"
    ours = sorted(path.name for path in (TREE / "plugins").iterdir())
    assert printed.says("install_plugins_command()") == f"pip install {' '.join(ours)}"


def test_no_other_code_has_a_command_of_its_own():
    """What prints ``pip install`` of ours asks zoo.installing; the rest is for third parties'."""
    found = {}
    for file in [*TREE.glob("zoo/**/*.py"), *TREE.glob("plugins/*/src/**/*.py")]:
        lines = [x for x in file.read_text("utf-8").splitlines() if "pip install" in x]
        if lines and file.name != "installing.py":
            found[file.stem] = lines
    allowed = re.compile(r"pip install --editable (\{folder\}|\. --editable \./plugins/)")
    wrong = {k: v for k, v in found.items() if not all(allowed.search(line) for line in v)}
    assert not wrong, "use zoo.installing"


def test_it_costs_nothing_before_something_is_missing():
    code = (
        "import sys; before = set(sys.modules); import zoo.installing; zoo.list_models()\n"
        "print(*{'importlib.metadata', 'urllib.request', 'shlex'} & set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
