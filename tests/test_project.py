"""What surrounds the code: versions, workflows, dependencies, the docs site."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import zoo

TREE = Path(__file__).resolve().parents[1]
PROJECTS = [TREE / "pyproject.toml", *sorted(TREE.glob("plugins/*/pyproject.toml"))]
WORKFLOWS = sorted(TREE.glob(".github/workflows/*.yml"))
PROJECT = tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))


def run(script, *args, cwd=TREE):
    command = [sys.executable, str(cwd / ".github" / script), *args]
    return subprocess.run(command, capture_output=True, text=True)


# -- one version -----------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    """The files that a version stands in."""
    for path in [*PROJECTS, TREE / "zoo" / "__init__.py", TREE / "CHANGELOG.md"]:
        new = tmp_path / path.relative_to(TREE)
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, new)
    shutil.copytree(TREE / ".github", tmp_path / ".github")
    return tmp_path


def test_all_distributions_have_the_version_of_the_core():
    assert run("version.py").stdout.strip() == zoo.__version__
    assert run("version.py", f"v{zoo.__version__}").returncode == 0
    assert run("version.py", "v99.0.0").returncode == 1, "a tag of another version"


def test_a_version_is_written_everywhere(copy):
    assert run("version.py", "7.8.9rc1", cwd=copy).stdout.strip() == "7.8.9rc1"
    assert '__version__ = "7.8.9rc1"' in (copy / "zoo" / "__init__.py").read_text()
    for file in copy.glob("plugins/*/pyproject.toml"):
        project = tomllib.loads(file.read_text())["project"]
        assert project["version"] == "7.8.9rc1"
        assert "latentzoo>=7.8" in project["dependencies"]
    assert re.search(r"^## 7\.8\.9rc1 \(20\d\d-", (copy / "CHANGELOG.md").read_text(), re.M)
    plugin = next(iter(copy.glob("plugins/*/pyproject.toml")))
    plugin.write_text(plugin.read_text().replace("7.8.9rc1", "7.8.8"))
    wrong = run("version.py", cwd=copy)
    assert wrong.returncode == 1
    assert plugin.parent.name in wrong.stderr


def test_every_distribution_has_the_licence():
    """In its own folder, where hatchling finds it for the wheel and the sdist."""
    projects = [*TREE.glob("plugins/*/pyproject.toml"), *TREE.glob("examples/*/pyproject.toml")]
    assert len(projects) >= 10
    for project in projects:
        licence = project.with_name("LICENSE")
        assert licence.read_bytes() == (TREE / "LICENSE").read_bytes(), project.parent.name


def test_the_extra_of_the_plugins_has_them_all():
    extra = PROJECT["project"]["optional-dependencies"]["plugins"]
    assert extra == sorted(path.name for path in (TREE / "plugins").iterdir())


def test_the_core_has_the_version_of_the_module(core_wheel):
    assert core_wheel.name.startswith(f"latentzoo-{zoo.__version__}-")


# -- dependencies ----------------------------------------------------------------------------------


def test_every_library_has_a_lower_bound():
    for file in PROJECTS:
        project = tomllib.loads(file.read_text("utf-8"))["project"]
        extras = project.get("optional-dependencies", {})
        for line in [*project["dependencies"], *(x for e in extras.values() for x in e)]:
            assert line.startswith("latentzoo") or ">=" in line, line


@pytest.mark.parametrize("file", PROJECTS, ids=lambda path: path.parent.name)
def test_every_upper_bound_has_its_reason(file):
    for line in file.read_text("utf-8").splitlines():
        if re.match(r'\s+"[\w.-]+(\[.*\])?[^"]*<', line):
            assert "#" in line, line


# -- commands and workflows ------------------------------------------------------------------------

MAKEFILE = (TREE / "Makefile").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.M))


def commands():
    """Every command that a workflow or .ci/run gives, with where it stands."""
    for file in WORKFLOWS:
        for job in yaml.safe_load(file.read_text("utf-8"))["jobs"].values():
            for step in job["steps"]:
                yield from ((file.name, line) for line in step.get("run", "").splitlines())
    for line in (TREE / ".ci" / "run").read_text("utf-8").splitlines():
        yield ".ci/run", line


def test_what_workflows_call_is_there():
    called = set()
    for where, command in commands():
        if targets := re.match(r"make ([a-z][\w -]*?)(?: [A-Z]+=\S+)?$", command):
            called |= set(targets[1].split())
            assert set(targets[1].split()) <= TARGETS, f"{where}: {command}"
        for script in re.findall(r"(\.github/\S+\.\w+)", command):
            assert (TREE / script).is_file(), f"{where}: {command}"
    assert {"demo", "test", "lint", "types", "site", "coverage", "dist", "test-slow"} <= called
    phony = re.search(r"^\.PHONY: (.*)", MAKEFILE, re.M)[1].split()
    assert set(phony) == TARGETS, "all of them are no files"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_well_formed(file):
    flow = yaml.safe_load(file.read_text("utf-8"))
    assert set(flow) <= {"name", True, "permissions", "concurrency", "env", "jobs"}  # True: on
    assert flow["permissions"], "no more than it needs"
    for name, job in flow["jobs"].items():
        assert {"runs-on", "steps"} <= set(job), name
        assert set(job.get("needs", "").split()) <= set(flow["jobs"]), name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v1)", step.get("uses", "a/b@v1"))


def test_the_matrix_has_every_python_and_system():
    test = yaml.safe_load((TREE / ".github/workflows/test.yml").read_text("utf-8"))["jobs"]["test"]
    matrix = test["strategy"]["matrix"]
    assert {"3.11", "3.12", "3.13", "3.14"} == set(matrix["python"])
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    (row,) = matrix["include"]
    assert row == {"python": oldest, "os": "ubuntu-latest", "libraries": "oldest"}


@pytest.mark.parametrize(
    "file", [*TREE.glob(".github/ISSUE_TEMPLATE/*.yml"), TREE / ".pre-commit-config.yaml"]
)
def test_other_settings_can_be_read(file):
    assert yaml.safe_load(file.read_text("utf-8"))


def test_what_changes_are_compared_with(tmp_path):
    """The place where the branch left main; on main itself, the last commit of another day."""
    shutil.copytree(TREE / ".github", tmp_path / ".github")

    def git(*args, date="2026-01-01T00:00:00Z"):
        env = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date, "HOME": str(tmp_path)}
        names = ("-c", "user.name=a", "-c", "user.email=a@b.example")
        done = subprocess.run(
            ["git", *names, *args],
            cwd=tmp_path, env={**env, "PATH": "/usr/bin:/bin:/usr/local/bin"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def base():
        command = [str(tmp_path / ".github" / "base.sh")]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "old")
    old = git("rev-parse", "HEAD")
    git("commit", "-q", "--allow-empty", "-m", "new", date="2090-01-01T00:00:00Z")
    assert base() == old
    new = git("rev-parse", "HEAD")
    git("switch", "-q", "-c", "branch")
    git("commit", "-q", "--allow-empty", "-m", "mine", date="2090-01-02T00:00:00Z")
    assert base() == new


# -- the site --------------------------------------------------------------------------------------


def test_every_page_is_in_the_navigation():
    """make site builds it; here, without what that needs, only that no page is forgotten."""
    index = (TREE / "docs" / "index.md").read_text("utf-8")
    pages = {path.name for path in (TREE / "docs").glob("*.md")} - {"index.md"}
    assert pages <= set(re.findall(r"\]\(([\w-]+\.md)\)", index))
    settings = (TREE / "mkdocs.yml").read_text("utf-8")
    assert importlib.util.spec_from_file_location("hook", TREE / "docs" / "site.py")
    assert "hooks: [docs/site.py]" in settings
