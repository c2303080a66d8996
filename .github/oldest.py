"""Print the lower bounds of all dependencies as constraints for pip: ``name==oldest``."""

import re
import tomllib
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
EXTRAS = ("train", "evaluate", "parquet", "plugin")
"""Those of users: of what only developers need, the newest will do."""


def bounds() -> dict[str, str]:
    """The highest lower bound of each library, over the core and all plugins."""
    found: dict[str, tuple[int, ...]] = {}
    for file in [TREE / "pyproject.toml", *TREE.glob("plugins/*/pyproject.toml")]:
        project = tomllib.loads(file.read_text("utf-8"))["project"]
        extras = project.get("optional-dependencies", {})
        wanted = [*project["dependencies"], *(line for e in EXTRAS for line in extras.get(e, ()))]
        for requirement in wanted:
            bound = re.match(r"([\w.-]+)\s*>=\s*([\d.]+)", requirement)
            if bound and not bound[1].startswith("latentzoo"):
                version = tuple(map(int, bound[2].split(".")))
                found[bound[1]] = max(found.get(bound[1], ()), version)
    return {name: ".".join(map(str, version)) for name, version in sorted(found.items())}


if __name__ == "__main__":
    for name, version in bounds().items():
        print(f"{name}=={version}")
