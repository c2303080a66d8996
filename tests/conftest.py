"""Clean environments with real, built, installed distributions, for the tests of discovery.

An environment sees the third-party libraries of the one that runs the tests, but no zoo and no
plugin: those come in as wheels.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest

# The importlib mode of pytest does not find modules beside the tests by itself.
sys.path += [str(Path(__file__).parent), str(Path(__file__).parent / "hub")]

from hubserver import HubServer
from preloaded import Preloaded, shared

ROOT = Path(__file__).parents[1]
OURS = ("latentzoo*", "_latentzoo*", "__editable__*", "_editable_impl_*", "zoo*", "*.pth")
"""What of site-packages is ours, or (.pth) leads to what is ours."""


class CleanEnv:
    """A virtual environment of a test's own."""

    server: Preloaded | None = None
    """What its runs are forked from."""

    def __init__(self, folder: Path, third_party: Path):
        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
        self.folder = folder
        self.python = folder / "bin" / "python"
        (self.site_packages,) = (folder / "lib").glob("python3*/site-packages")
        (self.site_packages / "third_party.pth").write_text(f"{third_party}\n")

    @contextmanager
    def preloaded(self) -> "Iterator[CleanEnv]":
        """Its runs have torch from the beginning, which saves two seconds for each; but nothing of
        ours, which may be installed meanwhile."""
        self.server = Preloaded(self.python)
        yield self
        self.server.close()
        self.server = None

    def run(
        self, *args: str, env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run this environment's Python on ``args``, away from the project's tree."""
        if self.server is None:
            return _run(self.python, *args, cwd=self.folder, env=env, check=check)
        done = self.server.run(*args, cwd=self.folder, env=_without_ours(env), timeout=300)
        return _checked(done) if check else done

    def install(self, *wheels: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Install ``wheels``, and nothing else: what they depend on has to be there already."""
        return _run(
            sys.executable,
            *("-m", "pip", "--python", self.python, "--disable-pip-version-check"),
            # Not --no-deps: pip finds what the .pth file leads to, so metadata is checked for real.
            *("install", "--quiet", "--no-index", "--no-build-isolation", "--no-compile"),
            *wheels,
            cwd=self.folder,
            check=check,
        )


def _run(
    *command: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=_without_ours(env),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return _checked(done) if check else done


def _without_ours(env: Mapping[str, str] | None) -> dict[str, str]:
    """The environment of this process, without what is about the zoo, and with ``env``."""
    ours = ("ZOO_", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | dict(env or {})


def _checked(done: "subprocess.CompletedProcess[str]") -> "subprocess.CompletedProcess[str]":
    # Not check=True of subprocess, whose exception keeps the output to itself.
    if done.returncode:
        raise AssertionError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has all installed libraries, and nothing of ours."""
    folder = tmp_path_factory.mktemp("third_party")
    for site in (Path(p) for p in sys.path if p.endswith(("site-packages", "dist-packages"))):
        for entry in site.iterdir() if site.is_dir() else ():
            link = folder / entry.name
            if not link.exists() and not _is_ours(entry):
                link.symlink_to(entry)
    return folder


def _is_ours(entry: Path) -> bool:
    if any(entry.match(pattern) for pattern in OURS):
        return True
    announced = entry / "entry_points.txt"  # of a plugin under a name of somebody else's
    return announced.is_file() and "[zoo]" in announced.read_text("utf-8")


@pytest.fixture(scope="session")
def clean_env(
    tmp_path_factory: pytest.TempPathFactory, third_party: Path
) -> Callable[..., CleanEnv]:
    """``clean_env(*wheels)``: a new environment with these wheels installed."""

    def make(*wheels: Path) -> CleanEnv:
        env = CleanEnv(tmp_path_factory.mktemp("env"), third_party)
        if wheels:
            env.install(*wheels)
        return env

    return make


@pytest.fixture
def preload() -> Iterator[Callable[[CleanEnv], CleanEnv]]:
    """``preload(env)``: ``env.preloaded()`` until the end of the test."""
    with ExitStack() as stack:
        yield lambda env: stack.enter_context(env.preloaded())


@pytest.fixture(scope="session")
def preloaded() -> Preloaded:
    """What forks processes of the environment that the tests run in, with torch in them."""
    return shared()


@pytest.fixture(scope="session")
def build_wheel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """``build_wheel(folder)``: the wheel of a project, built once, in a copy of its tree."""
    wheels = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        wheels = wheels.parent  # that of all workers

    def build(folder: Path) -> Path:
        folder = folder.resolve()
        scratch = wheels / f"wheel-{hashlib.sha256(bytes(folder)).hexdigest()[:16]}"
        with open(f"{scratch}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _built(scratch / "out") or _build(folder, scratch)

    return build


def _built(folder: Path) -> Path | None:
    return next(folder.glob("*.whl"), None)


def _build(folder: Path, scratch: Path) -> Path:
    shutil.rmtree(scratch, ignore_errors=True)  # what was begun before this process was ended
    source, out = scratch / "source", scratch / "out"
    source.mkdir(parents=True)
    # Of the root, which holds plugins, runs and a .venv too, only what the core is made of. The
    # tests come along so that it would show if they got into the wheel.
    names = (
        ("pyproject.toml", "README.md", "LICENSE", "zoo", "tests")
        if folder == ROOT
        else sorted(os.listdir(folder))
    )
    for part in (folder / name for name in names):
        if part.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".zoo-*.tmp")
            shutil.copytree(part, source / part.name, ignore=ignored)
        elif part.exists():
            shutil.copy2(part, source)
    # hatchling leaves out of a wheel what git ignores, which a release would then lack.
    if (ROOT / ".gitignore").exists():
        shutil.copy2(ROOT / ".gitignore", scratch)
    _run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", out, source),
        cwd=scratch,
    )
    wheel = _built(out)
    assert wheel
    return wheel


@pytest.fixture(scope="session")
def core_wheel(build_wheel: Callable[[Path], Path]) -> Path:
    """The wheel of latentzoo itself."""
    return build_wheel(ROOT)


_BUILD_ALL = """
import os, sys
from hatchling.build import build_wheel
for folder in sys.argv[2:]:
    os.chdir(folder)
    print(build_wheel(sys.argv[1]))
"""


@pytest.fixture(scope="session")
def build_plugins(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Sequence[Path]], list[Path]]:
    """``build_plugins(folders)``: their wheels; one process, so a wheel costs milliseconds."""

    def build(folders: Sequence[Path]) -> list[Path]:
        out = tmp_path_factory.mktemp("wheels")
        done = _run(sys.executable, "-c", _BUILD_ALL, out, *folders, cwd=out)
        return [out / name for name in done.stdout.split()]

    return build


@pytest.fixture(scope="session")
def write_plugin() -> Callable[..., Path]:
    """The function below: in the importlib mode of pytest a test cannot import its conftest."""
    return _write_plugin


_numbers = count(1)


def _write_plugin(
    folder: Path,
    distribution: str,
    module: str,
    source: str | Mapping[str, str],
    *,
    entry_points: Mapping[str, str] | None = None,
    version: str | None = None,
    dependencies: Sequence[str] = ("latentzoo",),
) -> Path:
    """Write a minimal project of a plugin into ``folder``, and return it.

    Args:
        folder: will hold pyproject.toml and src/.
        distribution: the name to install it by.
        module: its root package.
        source: of the package's ``__init__.py``; or of several files, by path below the package.
        entry_points: of the group ``zoo``; one, named as the package, unless said otherwise.
        version: one of its own unless said otherwise.
        dependencies: as pyproject.toml has them.
    """
    files = {"__init__.py": source} if isinstance(source, str) else source
    for name, text in files.items():
        path = folder / "src" / module / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    announced = {module: module} if entry_points is None else entry_points
    lines = [
        "[build-system]",
        'requires = ["hatchling"]',
        'build-backend = "hatchling.build"',
        "[project]",
        f'name = "{distribution}"',
        f'version = "{version or f"1.{next(_numbers)}"}"',
        f"dependencies = {list(dependencies)!r}",
        "[project.entry-points.zoo]",
        *(f'{name} = "{value}"' for name, value in announced.items()),
        "[tool.hatch.build.targets.wheel]",
        f'packages = ["src/{module}"]',
    ]
    (folder / "pyproject.toml").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A Hub on loopback, running and empty; see hubserver.py."""
    with HubServer() as server:
        yield server
