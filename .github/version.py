"""The one version of all distributions of this repository.

python .github/version.py           prints it, and fails where they differ
python .github/version.py v0.3.0    the same, and fails if it is another than that of this tag
python .github/version.py 0.3.0     writes it everywhere
"""

import datetime
import re
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
CORE = TREE / "zoo" / "__init__.py"
"""Its ``__version__`` is the version; pyproject.toml of the core takes it from there."""
VERSION = r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?"


def plugins() -> list[Path]:
    return sorted(TREE.glob("plugins/*/pyproject.toml"))


def core_version() -> str:
    return str(re.findall(rf'^__version__ = "({VERSION})"$', CORE.read_text("utf-8"), re.M)[0])


def differing(version: str) -> list[str]:
    """Where something else than ``version`` stands, as texts."""
    minor = ".".join(version.split(".")[:2])
    wanted = {"version": f'version = "{version}"', "core": f'"latentzoo>={minor}"'}
    return [
        f"{path.relative_to(TREE)}: {text} is missing"
        for path in plugins()
        for text in wanted.values()
        if text not in path.read_text("utf-8")
    ]


def write(version: str) -> None:
    minor = ".".join(version.split(".")[:2])
    _replace(CORE, rf'^__version__ = "{VERSION}"$', f'__version__ = "{version}"')
    for path in plugins():
        _replace(path, rf'^version = "{VERSION}"$', f'version = "{version}"')
        _replace(path, r'"latentzoo(\[\w+\])?>=[\d.]+"', rf'"latentzoo\1>={minor}"')
    today = datetime.datetime.now(datetime.UTC).date()
    heading = f"## Unreleased\n\n## {version} ({today})"
    _replace(TREE / "CHANGELOG.md", r"^## Unreleased$", heading)


def _replace(path: Path, pattern: str, by: str) -> None:
    text, found = re.subn(pattern, by, path.read_text("utf-8"), flags=re.M)
    if not found:
        sys.exit(f"{path.relative_to(TREE)} has nothing like {pattern}")
    path.write_text(text, "utf-8")


def main(argument: str = "") -> None:
    if re.fullmatch(VERSION, argument):
        write(argument)
    version = core_version()
    if wrong := differing(version):
        sys.exit(f"the core is {version}, but\n" + "\n".join(wrong))
    if argument.startswith("v") and argument != f"v{version}":
        sys.exit(f"the tag is {argument}, the version {version}")
    print(version)


if __name__ == "__main__":
    main(*sys.argv[1:])
