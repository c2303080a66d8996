"""The commands that install something from where this zoo itself was installed.

A zoo out of a clone, a git address or a folder of wheels finds its plugins there and not on an
index, where they may not be at all; one out of an index finds them on that. Nothing is imported or
read before somebody asks: ``importlib.metadata`` alone takes longer than ``import zoo``.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import Distribution

CORE = "latentzoo"
PLUGINS = "plugins"
"""The folder of our plugins in a clone, and the extra of the core that has all their names."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the core came from: one of these, or, with none of them, an index of packages."""

    tree: Path | None = None
    """A folder with the sources of the core and of its plugins."""
    git: str | None = None
    """An address that pip takes, such as ``git+https://example.org/latentzoo``."""
    commit: str | None = None
    wheels: Path | None = None
    """A folder that held the core's wheel."""


def install_command(*wanted: str) -> str:
    """The pip command that installs these: distributions, or ``latentzoo[extra]``.

    An extra is taken from the metadata of the core, so that its name is enough wherever the core
    came from, if only it is installed.
    """
    origin, parts = _origin(), []
    if not _core() and not any(_name(each) == CORE for each in wanted):
        wanted = (CORE, *wanted)
    for each in wanted:
        parts.append(_quote(each if _is_here(each) else _from(origin, each)))
    links = ["--find-links", _quote(str(origin.wheels))] if origin.wheels else []
    return " ".join(["pip", "install", *links, *parts])


def upgrade_command() -> str:
    """The command that installs the newest core, from where this one came."""
    origin = _origin()
    if origin.tree:
        tree = _quote(str(origin.tree))
        return f"git -C {tree} pull && pip install --editable {tree}"
    if origin.git:
        return f"pip install --upgrade {_quote(origin.git)}"
    return f"pip install --upgrade {CORE}"


def install_plugins_command() -> str:
    """The pip command that installs all plugins of ours."""
    origin = _origin()
    if origin.tree:
        core = "" if _core() else _quote(str(origin.tree)) + " "
        return f"pip install {core}{_quote(str(origin.tree / PLUGINS))}/*"
    return install_command(*_plugins())


def install_anywhere(plugin: str) -> str:
    """How somebody on another machine installs the core and a plugin: for a model card."""
    origin = _origin()
    if origin.tree and (origin.tree / PLUGINS / plugin).is_dir():
        return f"in a clone of {CORE}: pip install . ./{PLUGINS}/{plugin}"
    if origin.git and plugin in _plugins():
        parts = (origin.git, f"{origin.git}#subdirectory={PLUGINS}/{plugin}")
        return f"pip install {' '.join(map(_quote, parts))}"
    return f"pip install {plugin}"


def core_anywhere() -> str:
    """What another machine gives pip to get the core: for the workflow of a plugin."""
    origin = _origin()
    address = origin.git or (origin.tree and _remote(origin.tree))
    return _quote(address) if address else CORE


def _name(requirement: str) -> str:
    return requirement.partition("[")[0]


def _is_here(requirement: str) -> bool:
    return "[" in requirement and _name(requirement) == CORE and _core() is not None


def _from(origin: Origin, requirement: str) -> str:
    """``requirement`` as pip finds it where the core came from; itself if it is not there."""
    name = _name(requirement)
    extra = requirement.removeprefix(name)
    folder = "" if name == CORE else f"{PLUGINS}/{name}"
    if origin.tree and (origin.tree / folder / "pyproject.toml").is_file():
        return f"{origin.tree / folder}{extra}"
    if origin.git and name in (CORE, *_plugins()):
        at = f"{origin.git}@{origin.commit}" if origin.commit else origin.git
        return f"{at}#subdirectory={folder}" if folder else at
    return requirement


@cache
def _origin() -> Origin:
    import json
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    here = Path(__file__).resolve().parents[1]
    if _is_tree(here):
        return Origin(tree=here)
    core = _core()
    note = json.loads((core and core.read_text("direct_url.json")) or "{}")
    url, vcs = note.get("url", ""), note.get("vcs_info", {})
    if vcs.get("vcs") == "git":
        return Origin(git=f"git+{url}", commit=vcs.get("commit_id"))
    if urlsplit(url).scheme != "file":
        return Origin()
    path = Path(url2pathname(urlsplit(url).path))
    if _is_tree(path):
        return Origin(tree=path)
    return Origin(wheels=path.parent) if path.suffix == ".whl" else Origin()


def _remote(tree: Path) -> str | None:
    """The address that a clone was made from, if anybody can read there."""
    import subprocess

    command = ["git", "-C", str(tree), "remote", "get-url", "origin"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    url = done.stdout.strip()
    return f"git+{url}" if url.startswith("https://") else None


def _is_tree(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file() and (folder / PLUGINS).is_dir()


@cache
def _core() -> "Distribution | None":
    """The core's distribution; none where its folder is but on the path, as with torch.hub."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        return distribution(CORE)
    except PackageNotFoundError:
        return None


@cache
def _plugins() -> tuple[str, ...]:
    """The distributions that the core's extra for plugins has."""
    import re

    core = _core()
    extra = rf"""\bextra\s*==\s*["']{PLUGINS}["']"""
    wanted = (core and core.requires) or []
    return tuple(re.split(r"[^\w.-]", line)[0] for line in wanted if re.search(extra, line))


def _quote(text: str) -> str:
    import shlex

    return shlex.quote(text)
