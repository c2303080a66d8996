"""Discovery, with plugins that are really built, installed, and faulty in every way we know.

The questions are put to fresh processes. Their plugins stay away from torch, whose import costs
seconds: a wheel of our own with a module ``jax`` plays the heavy library.
"""

import json
import re
from pathlib import Path

import pytest

MODEL = """
from zoo import ModelSpec, hookimpl

def record(name, **more):
    given = dict(name=name, family="test", builder="{module}.model:Model", summary="A test model",
                 image_shape=(1, 4, 4), code_shape=(2,))
    return ModelSpec(**{{**given, **more}})
"""
HOOK = """
@hookimpl
def zoo_models():
    return {answer}
"""


def source(module, answer, before=""):
    """A plugin's root module: ``answer`` is what its hook returns, ``before`` runs at import."""
    return MODEL.format(module=module) + before + HOOK.format(answer=answer)


# name: (source after the common beginning, stage, exception, a part of its text)
FAULTS = {
    "import-missing": ("import not_there_at_all", "import", "ModuleNotFoundError", "not_there"),
    "import-raises": (
        "raise RuntimeError('boom,\\n  at import')",
        "import",
        "RuntimeError",
        "boom",
    ),
    "import-syntax": ("def broken(:\n    pass", "import", "SyntaxError", "invalid syntax"),
    "import-exits": ("import sys; sys.exit('good bye')", "import", "SystemExit", "good bye"),
    "import-record": ("record('Not-A-Name')", "import", "SpecError", "Not-A-Name"),
    "hooks-signature": (
        "@hookimpl\ndef zoo_models(kind):\n    return [record('hidden')]",
        "hooks",
        "PluginValidationError",
        "kind",
    ),
    "hooks-misspelt": (
        "@hookimpl\ndef zoo_model():\n    return [record('hidden')]",
        "hooks",
        "SpecError",
        "zoo_model",
    ),
    "hooks-half-misspelt": (
        HOOK.format(answer="[record('hidden')]") + "\n@hookimpl\ndef zoo_modles():\n    return []",
        "hooks",
        "SpecError",
        "zoo_modles",
    ),
    "call-raises": (HOOK.format(answer="[1 / 0]"), "call", "ZeroDivisionError", "division"),
    "call-exits": (HOOK.format(answer="exit('enough')"), "call", "SystemExit", "enough"),
    "call-record": (
        HOOK.format(answer="[record('flat', image_shape=(28, 28))]"),
        "call",
        "SpecError",
        "image_shape",
    ),
    "call-newer": (
        HOOK.format(answer="[record('newer', api_version=999)]"),
        "call",
        "SpecError",
        "newer latentzoo",
    ),
    "result-no-hook": ("zoo_modles = None", "result", "SpecError", "no hook zoo_models"),
    "result-unmarked": (
        "def zoo_models():\n    return [record('hidden')]",
        "result",
        "SpecError",
        "no hook zoo_models",
    ),
    "result-none": (HOOK.format(answer="None"), "result", "SpecError", "None"),
    "result-number": (HOOK.format(answer="42"), "result", "SpecError", "42"),
    "result-text": (HOOK.format(answer="'deep_ae'"), "result", "SpecError", "deep_ae"),
    "result-dict": (HOOK.format(answer="{'name': 'deep_ae'}"), "result", "SpecError", "deep_ae"),
    "result-bare": (HOOK.format(answer="record('bare')"), "result", "SpecError", "bare"),
    "result-dicts": (
        HOOK.format(answer="[record('hidden').to_dict()]"),
        "result",
        "SpecError",
        "hidden",
    ),
    "result-mixed": (HOOK.format(answer="[record('hidden'), None]"), "result", "SpecError", "None"),
    "result-twice": (
        HOOK.format(answer="[record('again'), record('again')]"),
        "result",
        "SpecError",
        "again more than once",
    ),
    "result-breaks-off": (
        HOOK.format(answer="(record(name) for name in ['hidden', 1 / 0])").replace(
            "['hidden', 1 / 0]", "iter(lambda: {}['gone'], None)"
        ),
        "result",
        "KeyError",
        "gone",
    ),
}
GOOD = {
    "zoo-good": source(
        "zoo_good",
        "count() or [record('good'), record('fresh', renamed_from=('stale', 'mouldy')), "
        "record('lost', builder='zoo_good.model:Gone'), "
        "record('astray', builder='zoo_good.nowhere:Model')]",
        before="\nCALLS = []\ndef count():\n    CALLS.append(1)\n",
    ),
    "twin-a": source("twin_a", "[record('twin'), record('only_a')]"),
    "twin-b": source("twin_b", "[record('twin', code_shape=(3,)), record('only_b')]"),
    "heavy": source("heavy", "[record('stone')]", before="\nimport jax\n"),
}
ANSWERS = """
import json, sys, zoo
from zoo.registry import builder, registry

def error_of(call, *args):
    try:
        call(*args)
    except BaseException as error:
        cause = error.__cause__
        return {"type": type(error).__name__, "text": str(error),
                "bases": [c.__name__ for c in type(error).__mro__],
                "cause": cause and type(cause).__name__, "cause_text": text_of(cause)}

def text_of(cause):
    try:
        return str(cause)
    except ValueError:  # one of the plugins raises an exception that has no text
        return ""

def report():
    return [
        {"distribution": p.distribution, "version": p.candidate.version,
         "entry_point": p.candidate.entry_point, "models": [s.name for s in p.specs],
         "stage": p.fault and p.fault.stage, "fatal": p.fault and p.fault.fatal,
         "exception": p.fault and type(p.fault.exception).__name__,
         "text": p.fault and str(p.fault.exception), "line": p.fault and str(p.fault)}
        for p in registry().plugins
    ]

def answer(value):
    print(json.dumps(value))
"""


def ask(env, code, **environ):
    """What ``code``, run in ``env``, gave to ``answer()``."""
    return json.loads(env.run("-c", ANSWERS + code, env=environ).stdout)


@pytest.fixture(scope="module")
def crowd(clean_env, core_wheel, write_plugin, build_plugins, tmp_path_factory):
    """The core, every faulty plugin, and good ones, in one environment."""
    folder = tmp_path_factory.mktemp("crowd")

    def write(name, text, entry_points=None):
        module = name.replace("-", "_")
        return write_plugin(folder / name, name, module, text, entry_points=entry_points)

    stand_in = folder / "pretend-jax"
    write_plugin(stand_in, "pretend-jax", "jax", "", entry_points={}, dependencies=[])
    broken = [
        write(name, MODEL.format(module=name.replace("-", "_")) + "\n" + text)
        for name, (text, *_) in FAULTS.items()
    ]
    good = {**GOOD, "zoo-good": {"__init__.py": GOOD["zoo-good"], "model.py": "class Model: ..."}}
    others = [
        write(name, text, {"twin": name.replace("-", "_")} if name.startswith("twin") else None)
        for name, text in good.items()
    ]
    double = {"first": "double", "second": "double"}
    mixed = {"__init__.py": source("mixed", "[record('half')]"), "worse.py": "raise OSError('ill')"}
    others += [
        write("absent", "", {"absent": "absent_module"}),
        write("double", source("double", "[record('pair')]"), double),
        write("mixed", mixed, {"better": "mixed", "worse": "mixed.worse"}),
    ]
    return clean_env(core_wheel, *build_plugins([stand_in, *broken, *others]))


@pytest.fixture(scope="module")
def bare(clean_env, core_wheel):
    """The core alone."""
    return clean_env(core_wheel)


@pytest.fixture(scope="module")
def report(crowd):
    """What discovery says about every plugin of the crowd."""
    return ask(crowd, "answer(report())")


def of(report, distribution):
    """The entries of one distribution."""
    return [entry for entry in report if entry["distribution"] == distribution]


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_kept_whole(report, name):
    (entry,) = of(report, name)
    _, stage, exception, part = FAULTS[name]
    assert (entry["stage"], entry["exception"]) == (stage, exception), entry
    assert part in entry["text"]
    assert re.fullmatch(r"1\.\d+", entry["version"])
    assert entry["fatal"]
    assert entry["models"] == []
    assert "\n" not in entry["line"]
    assert entry["line"].startswith(f"{stage}: {exception}: ")


def test_entry_point_to_a_module_that_is_not_there(report):
    (entry,) = of(report, "absent")
    assert (entry["stage"], entry["exception"]) == ("import", "ModuleNotFoundError")


def test_faulty_plugins_disturb_no_other(report):
    assert {e["distribution"]: e["models"] for e in report if e["models"]} == {
        "zoo-good": ["good", "fresh", "lost", "astray"],
        "twin-a": ["twin", "only_a"],
        "twin-b": ["twin", "only_b"],
        "heavy": ["stone"],
        "double": ["pair"],
        "mixed": ["half"],
    }
    sound = [e["distribution"] for e in report if not e["stage"]]
    assert sound == ["double", "mixed", "twin-a", "twin-b", "zoo-good"]


@pytest.mark.parametrize("command", [["list"], ["leaderboard"], ["leaderboard", "--json"]])
def test_plugins_that_are_left_out_are_named(report, crowd, command):
    """Nothing that is missing in a table is missing in silence."""
    said = crowd.run("-m", "zoo.cli", *command).stderr
    for name in FAULTS:
        (entry,) = of(report, name)
        assert f"{name} {entry['version']}" in said, name
    assert said.count("failed to load: ") == len([e for e in report if e["fatal"]])
    assert "zoo-good" not in said


def test_order_is_that_of_the_names(report):
    names = [(entry["distribution"], entry["entry_point"]) for entry in report]
    assert names == sorted(names)
    assert len(names) == len(FAULTS) + len(GOOD) + 1 + 2 + 2  # absent, double, mixed


def test_plugins_are_found_once_and_only_when_needed(crowd):
    code = """
import zoo.api, zoo.cli, zoo.hookspecs
zoo.ModelSpec, zoo.load
before = "zoo_good" in sys.modules
zoo.list_models(), zoo.info("good"), zoo.list_models("good")
answer([before, len(sys.modules["zoo_good"].CALLS), "torch" in sys.modules])
"""
    assert ask(crowd, code) == [False, 1, False]


def test_help_and_version_find_no_plugins(crowd):
    for option in ("--help", "--version"):
        code = f"""
import contextlib, io
from zoo.cli import main
sys.argv = ["zoo", "{option}"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
answer([name for name in ("zoo_good", "twin_a", "torch") if name in sys.modules])
"""
        assert ask(crowd, code) == []


def test_two_equal_entry_point_names_both_work(report, crowd):
    assert [e["entry_point"] for e in report if e["distribution"].startswith("twin")] == [
        "twin"
    ] * 2
    code = "answer([zoo.info(name).name for name in ('only_a', 'only_b')])"
    assert ask(crowd, code) == ["only_a", "only_b"]


@pytest.mark.slow
def test_one_model_name_in_two_plugins(crowd):
    code = """
answer([error_of(zoo.info, "twin"), error_of(zoo.create, "twin"), error_of(zoo.load, "twin"),
        zoo.info("twin-a:twin").code_shape, zoo.info("twin-b:twin").code_shape,
        zoo.list_models("*twin*")])
"""
    *errors, a, b, listed = ask(crowd, code)
    for error in errors:
        assert error["type"] == "AmbiguousName"
        assert "twin-a:twin" in error["text"]
        assert "twin-b:twin" in error["text"]
    assert (a, b) == ([2], [3])
    assert listed == ["twin-a:twin", "twin-b:twin"]


@pytest.mark.parametrize("spelling", ["Twin-A", "twin_a", "TWIN.A"])
def test_distribution_is_spelt_as_in_pip(crowd, spelling):
    assert ask(crowd, f"answer(zoo.info('{spelling}:twin').code_shape)") == [2]


def test_heavy_import_is_reported_and_the_models_work(report, crowd):
    (entry,) = of(report, "heavy")
    assert (entry["stage"], entry["exception"]) == ("heavy", "ImportWarning")
    assert "jax" in entry["text"]
    assert not entry["fatal"]
    code = "answer([zoo.info('stone').name, zoo.info('heavy:stone').name])"
    assert ask(crowd, code) == ["stone", "stone"]


def test_second_entry_point_of_one_module_is_reported(report, crowd):
    first, second = of(report, "double")
    assert (first["entry_point"], first["stage"]) == ("first", None)
    assert (second["entry_point"], second["stage"]) == ("second", "hooks")
    code = "answer([zoo.info(n).name for n in ('pair', 'double:pair')])"
    assert ask(crowd, code) == ["pair", "pair"]


def test_distribution_that_failed_in_part(crowd):
    code = "answer([zoo.info('half').name, zoo.info('mixed:half').name, " + (
        "error_of(zoo.info, 'mixed:other')])"
    )
    *found, error = ask(crowd, code)
    assert found == ["half", "half"]
    assert (error["type"], error["cause"], error["cause_text"]) == ("PluginError", "OSError", "ill")


def test_old_name_gives_the_model_with_a_warning(crowd):
    code = """
import warnings
def look(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = zoo.info(name).name
    return [found, [[w.category.__name__, str(w.message), w.filename] for w in caught]]
answer([look(n) for n in ("stale", "mouldy", "zoo-good:stale", "fresh")] + [zoo.list_models("*")])
"""
    *old, new, listed = ask(crowd, code)
    for found, [(category, text, where)] in old:
        assert (found, category) == ("fresh", "FutureWarning")
        assert "'fresh'" in text
        assert where == "<string>"  # it points at the caller
    assert new == ["fresh", []]
    assert "stale" not in listed


def test_unknown_name_gives_close_matches_and_failed_plugins(crowd):
    error = ask(crowd, "answer(error_of(zoo.info, 'goood'))")
    assert error["type"] == "UnknownModel"
    assert {"ModelNameError", "ZooError"} <= set(error["bases"])
    assert "'goood'" in error["text"]
    assert re.search(r"Did you mean: .*\bgood\b", error["text"])
    for name in [*FAULTS, "absent"]:
        assert re.search(rf"failed to load.*: {name} 1\.\d+ ", error["text"]), name
    assert "heavy 1." not in error["text"]
    assert error["cause"]


def test_unknown_distribution_names_those_there_are(crowd):
    error = ask(crowd, "answer(error_of(zoo.info, 'no-such:good'))")
    assert error["type"] == "UnknownModel"
    assert re.search(r"type: pip install (--find-links \S+ )?no-such$", error["text"])
    assert "zoo-good" in error["text"]


def test_good_distribution_without_the_model(crowd):
    error = ask(crowd, "answer(error_of(zoo.info, 'zoo-good:twin'))")
    assert error["type"] == "UnknownModel"
    assert "zoo-good" in error["text"]


def test_model_of_a_failed_plugin_raises_its_exception_chained(crowd):
    names = [*FAULTS, "absent"]
    code = f"answer([error_of(c, n + ':any') for n in {names} for c in (zoo.load, zoo.create)])"
    errors = ask(crowd, code)
    assert len(errors) == 2 * len(names)
    for name, error in zip((n for n in names for _ in range(2)), errors, strict=True):
        assert error["type"] == "PluginError"
        assert name in error["text"]
        assert error["cause"] == (FAULTS[name][2] if name in FAULTS else "ModuleNotFoundError")


@pytest.mark.parametrize(
    ("model", "cause"), [("lost", "AttributeError"), ("astray", "ModuleNotFoundError")]
)
def test_builder_that_is_not_there(crowd, model, cause):
    error = ask(crowd, f"answer(error_of(zoo.create, '{model}'))")
    assert (error["type"], error["cause"]) == ("PluginError", cause)
    assert "zoo_good." in error["text"]


def test_allow_list(crowd):
    code = "answer([zoo.list_models(), len(report()), 'twin_b' in sys.modules])"
    names, plugins, imported = ask(crowd, code, ZOO_PLUGINS="Twin_A, zoo.good,,not-installed")
    assert names == ["astray", "fresh", "good", "lost", "only_a", "twin"]
    assert (plugins, imported) == (2, False)


def test_deny_list(crowd, report):
    code = "answer([zoo.info('twin').code_shape, len(report()), 'twin_a' in sys.modules])"
    shape, plugins, imported = ask(crowd, code, ZOO_PLUGINS_BLOCK="Twin_A, call-raises")
    assert shape == [3]
    assert plugins == len(report) - 2
    assert not imported


def test_deny_list_wins_over_allow_list(crowd):
    environ = {"ZOO_PLUGINS": "twin-a,twin-b", "ZOO_PLUGINS_BLOCK": "twin-b"}
    assert ask(crowd, "answer(zoo.list_models())", **environ) == ["only_a", "twin"]


def test_switched_off_is_not_called_uninstalled(crowd):
    code = "answer(error_of(zoo.info, 'twin-a:twin'))"
    for environ in ({"ZOO_PLUGINS": "zoo-good"}, {"ZOO_PLUGINS_BLOCK": "twin-a"}):
        error = ask(crowd, code, **environ)
        assert error["type"] == "UnknownModel"
        assert "pip install" not in error["text"]
        assert next(iter(environ)) in error["text"]


STRICT = """
answer([error_of(zoo.list_models), "zoo_good" in sys.modules, error_of(zoo.list_models)])
"""


@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
        ("import-raises", "RuntimeError"),
        ("import-exits", "SystemExit"),
        ("hooks-misspelt", "SpecError"),
        ("call-raises", "ZeroDivisionError"),
        ("result-none", "SpecError"),
        ("heavy", "ImportWarning"),
    ],
)
def test_strict_mode_raises_at_once(crowd, plugin, cause):
    error, went_on, again = ask(
        crowd, STRICT, ZOO_PLUGINS_STRICT="1", ZOO_PLUGINS=f"{plugin},zoo-good"
    )
    assert (error["type"], error["cause"]) == ("PluginError", cause)
    assert plugin in error["text"]
    assert not went_on
    if plugin != "heavy":  # by then the library is there, and costs nothing any more
        assert again == error


def test_strict_mode_lets_good_plugins_be(crowd):
    environ = {"ZOO_PLUGINS_STRICT": "1", "ZOO_PLUGINS": "zoo-good,twin-a"}
    assert "good" in ask(crowd, "answer(zoo.list_models())", **environ)


@pytest.mark.parametrize("value", ["", "0"])
def test_strict_mode_can_be_off(crowd, value):
    code = "answer(zoo.list_models('good'))"
    assert ask(crowd, code, ZOO_PLUGINS_STRICT=value, ZOO_PLUGINS="zoo-good,call-raises") == [
        "good"
    ]


@pytest.mark.slow
def test_no_plugin_at_all(bare):
    names, error = ask(bare, "answer([zoo.list_models(), error_of(zoo.info, 'ae')])")
    assert names == []
    assert error["type"] == "UnknownModel"
    assert "latentzoo-ae latentzoo-baseline" in error["text"].partition("pip install")[2]


# -- plugins that could disturb others by more than an exception -----------------------------------

SPITEFUL = {
    # What these do goes on to the plugins after them, so they come first in the alphabet.
    "a-object": source("a_object", "[]").split("@hookimpl")[0]
    + """
class Plugin(dict):
    @hookimpl
    def zoo_models(self):
        return [record("of_an_object")]

plugin = Plugin()
""",
    "a-other-name": source("a_other_name", "[]").split("@hookimpl")[0]
    + """
@hookimpl(specname="zoo_models")
def models():
    return [record("of_another_name")]
""",
    "a-wrapper": source("a_wrapper", "[]").split("@hookimpl")[0]
    + """
@hookimpl(wrapper=True)
def zoo_models():
    yield
    raise RuntimeError("wraps everybody")
""",
    "a-asks-back": source("a_asks_back", "zoo.list_models() and []", before="\nimport zoo\n"),
    "a-unprintable": source("a_unprintable", "[]").split("@hookimpl")[0]
    + """
class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no text")

raise Unprintable
""",
}


@pytest.fixture(scope="module")
def spiteful(clean_env, core_wheel, write_plugin, build_plugins, tmp_path_factory):
    """The core, plugins that reach for others, and a good one."""
    folder = tmp_path_factory.mktemp("spiteful")
    projects = []
    for name, text in {**SPITEFUL, "zoo-good": GOOD["zoo-good"]}.items():
        module = name.replace("-", "_")
        value = f"{module}:plugin" if name == "a-object" else module
        projects.append(
            write_plugin(folder / name, name, module, text, entry_points={"one": value})
        )
    return clean_env(core_wheel, *build_plugins(projects))


@pytest.mark.parametrize("name", SPITEFUL)
def test_spiteful_plugin_disturbs_no_other(spiteful, name):
    code = """
answer([{p.distribution: p.fault and p.fault.stage for p in registry().plugins},
        zoo.info("good").name, error_of(zoo.info, "nope")["type"]])
"""
    stages, found, error = ask(spiteful, code, ZOO_PLUGINS=f"{name},zoo-good")
    assert stages.keys() == {name, "zoo-good"}
    assert stages["zoo-good"] is None
    assert (found, error) == ("good", "UnknownModel")


def test_hook_under_another_name_is_allowed(spiteful):
    names = ask(spiteful, "answer(zoo.list_models())", ZOO_PLUGINS="a-other-name")
    assert names == ["of_another_name"]


@pytest.fixture(scope="module")
def wreck(clean_env, core_wheel, write_plugin, build_plugins, tmp_path_factory):
    """An environment with what failed uninstallations and disk errors leave behind."""
    folder = tmp_path_factory.mktemp("wreck")
    names = ("zoo-good", "no-metadata", "bad-entry-points", "no-text")
    env = clean_env(
        core_wheel,
        *build_plugins(
            [
                write_plugin(folder / n, n, n.replace("-", "_"), GOOD["zoo-good"], version="1.0")
                for n in names
            ]
        ),
    )
    (env.site_packages / "no_metadata-1.0.dist-info" / "METADATA").unlink()
    entry_points = {
        "bad_entry_points": b"[zoo]\nno equals sign\n",
        "no_text": b"[zoo]\n\xff\xfe = a",
    }
    for name, text in entry_points.items():
        (env.site_packages / f"{name}-1.0.dist-info" / "entry_points.txt").write_bytes(text)
    return env


@pytest.mark.slow
def test_damaged_installation_disturbs_no_plugin(wreck):
    entries, names = ask(wreck, "answer([report(), zoo.list_models()])")
    # Name and version stand in the folder's name, so that a lost METADATA harms nobody.
    assert {"no-metadata:good", "zoo-good:good"} <= set(names)
    (good,) = of(entries, "zoo-good")
    assert good["stage"] is None
    (bad,) = of(entries, "bad-entry-points")
    assert bad["fatal"]
    assert bad["version"] == "1.0"


# -- plugins that lie in a tree --------------------------------------------------------------------


@pytest.fixture
def tree(write_plugin, tmp_path):
    """A checkout with two plugins, which nobody installed."""
    for name, text in {"zoo-good": GOOD["zoo-good"], "a-bad": "raise OSError('ill')"}.items():
        write_plugin(tmp_path / "plugins" / name, name, name.replace("-", "_"), text, version="7.0")
    return tmp_path


TREE = """
from pathlib import Path
from zoo.registry import add_tree
add_tree(Path(%r))
answer([zoo.list_models(), report()])
"""


@pytest.mark.slow
def test_plugins_in_a_tree_need_no_installation(bare, tree):
    names, (bad, good) = ask(bare, TREE % str(tree))
    assert names == ["astray", "fresh", "good", "lost"]
    assert (bad["distribution"], bad["stage"], bad["version"]) == ("a-bad", "import", "7.0")
    assert (good["distribution"], good["stage"]) == ("zoo-good", None)


def test_plugin_in_a_tree_comes_before_an_installed_one(crowd, tree):
    _, entries = ask(crowd, TREE % str(tree))
    assert [e["version"] for e in of(entries, "zoo-good")] == ["7.0"]


def test_broken_project_in_a_tree_disturbs_no_other(bare, tree: Path):
    (tree / "plugins" / "a-bad" / "pyproject.toml").write_text("[project\n")
    assert "good" in ask(bare, TREE % str(tree))[0]


# -- the real heavy library ------------------------------------------------------------------------


@pytest.mark.slow
def test_real_torch_is_reported_and_the_model_works(
    clean_env, core_wheel, write_plugin, build_plugins, tmp_path
):
    text = """
import torch
from zoo.model import ZooModel

class Model(ZooModel):
    image_shape, code_shape = (1, 4, 4), (16,)

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def _encode(self, images):
        return images.flatten(1)
"""
    root = source("slow_plugin", "[record('slow', builder='slow_plugin:Model')]", before=text)
    folder = write_plugin(tmp_path, "slow-plugin", "slow_plugin", root)
    env = clean_env(core_wheel, *build_plugins([folder]))
    code = """
import torch
answer([report(), list(zoo.create("slow").encode(torch.zeros(2, 1, 4, 4)).shape)])
""".replace("import torch\n", "from_registry = report()\nimport torch\n").replace(
        "[report(),", "[from_registry,"
    )
    (entry,), shape = ask(env, code)
    assert (entry["stage"], entry["fatal"]) == ("heavy", False)
    assert "torch" in entry["text"]
    assert shape == [2, 16]
