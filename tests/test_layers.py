"""Imports go downward: what each module of the zoo may know, from the ground up to the commands.

An import inside a function counts too, and so does a name of the package itself: ``zoo.load`` is an
arrow to the module that has it. Only the lazy names of ``zoo/__init__`` and types do not count.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import zoo

TREE = Path(zoo.__file__).parent
LAYERS = (
    # the ground: errors, names, records, files, the process
    "boundary cli.launched corruption data.fingerprint errors files hookspecs installing isolation "
    "listing locks manifest names optional otherkinds picturefile process_state sample spec system",
    # plugins: found, and looked up
    "discovery registry",
    # a name becomes a folder on this machine
    "folder hub sources",
    # the contract of a model, and what authors build one of
    "density images model nn pictures transform",
    # a folder becomes a model
    "api weights",
    # what is said of weights
    "goals report",
    # who knows the model's contract, and never a plugin
    "collection converting data evaluation sklearn training",
    # whole folders: written, published
    "publishing saving",
    # the checks of the contract
    "authoring.checks authoring.processes",
    # what authors check their plugins with
    "authoring testing",
    # the commands know all, and nobody knows them
    "cli __main__",
)


def modules() -> dict[str, Path]:
    """Every module of the package, without those that are a template's."""
    found = {}
    for path in sorted(TREE.rglob("*.py")):
        parts = path.relative_to(TREE).with_suffix("").parts
        if "template" not in parts and parts != ("__init__",):
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def layer_of(module: str) -> int:
    """The layer that names the module, or the nearest package around it."""
    ranks = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}
    parts = module.split(".")
    for size in range(len(parts), 0, -1):
        if (name := ".".join(parts[:size])) in ranks:
            return ranks[name]
    raise AssertionError(f"zoo.{module} is in no layer: give it one in {__file__}")


def arrows(tree: ast.AST, known: dict[str, Path]) -> Iterator[tuple[str, int]]:
    """What is imported, by name of the module within the package, and in which line."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import(names=names):
                for alias in names:
                    if alias.name.startswith("zoo."):
                        yield alias.name.removeprefix("zoo."), node.lineno
            case ast.ImportFrom(module="zoo", names=names):
                for alias in names:
                    home = zoo._HOME.get(alias.name, alias.name)
                    if home in known:
                        yield home, node.lineno
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("zoo."):
                module = module.removeprefix("zoo.")
                for alias in names:
                    inner = f"{module}.{alias.name}"
                    yield inner if inner in known else module, node.lineno
            case ast.Attribute(value=ast.Name(id="zoo"), attr=attr) if attr in zoo._HOME:
                yield zoo._HOME[attr], node.lineno
        yield from arrows(node, known)


def upward(module: str, code: str, known: dict[str, Path]) -> list[str]:
    """The arrows from a module to a higher layer."""
    return [
        f"zoo.{module}:{line} knows zoo.{target}"
        for target, line in arrows(ast.parse(code), known)
        if layer_of(target) > layer_of(module)
    ]


def test_no_import_runs_upward():
    known = modules()
    texts = {module: path.read_text("utf-8") for module, path in known.items()}
    assert [a for module in texts for a in upward(module, texts[module], known)] == []


@pytest.mark.parametrize(
    "code",
    [
        "import zoo.api",
        "from zoo.api import load",
        "from zoo import api",
        "from zoo import load",
        "def f():\n    from zoo.cli import shared",
        "import zoo\ndef f():\n    return zoo.load('ae')",
        "class C:\n    def f(self):\n        if self:\n            import zoo.cli.shared",
    ],
)
def test_an_arrow_that_runs_upward_is_seen(code):
    assert upward("names", code, modules())


def test_types_are_no_arrow():
    code = "if TYPE_CHECKING:\n    import zoo.api"
    assert not upward("names", code, modules())


def test_every_layer_has_modules():
    ranks = {layer_of(module) for module in modules()}
    assert ranks == set(range(len(LAYERS)))
