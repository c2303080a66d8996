"""A plugin that owns a prefix of names, really built and installed, and faulty in every way.

The example of the hook's docstring is one of the plugins. Questions are put to fresh processes.
"""

import inspect
import json
import re
import textwrap

import pytest

from zoo.errors import InvalidName, SpecError
from zoo.hookspecs import zoo_prefixes
from zoo.names import PluginName, PrefixName, parse_name
from zoo.spec import Prefix

PREFIX = {
    "name": "pool",
    "family": "pooling",
    "builder": "my_pool.model:Pool",
    "summary": "Averaged down",
    "example": "pool:4x4",
    "capabilities": ["encode", "features"],
    "paper": "",
    "url": "https://example.org",
    "recommended": [
        {
            "name": "pool:4x4",
            "parameters": 16,
            "licence": "mit",
            "learnt": "nothing",
            "labels": False,
        }
    ],
    "api_version": 1,
}


def blocks(docstring):
    """The indented blocks of code after each ``::``."""
    for part in inspect.cleandoc(docstring).split("::\n")[1:]:
        lines = part.splitlines()[1:]
        end = next((i for i, x in enumerate(lines) if x and not x.startswith(" ")), len(lines))
        if code := textwrap.dedent("\n".join(lines[:end])):
            yield code


ROOT = """
from zoo import ModelSpec, Prefix, hookimpl

def record(name, **more):
    given = dict(name=name, family="test", builder="{module}.model:Model", summary="A test prefix",
                 example=name + ":any")
    return Prefix(**{{**given, **more}})

@hookimpl
def zoo_prefixes():
    return {answer}
"""
BOTH = """
@hookimpl
def zoo_models():
    return [ModelSpec(name="single", family="test", builder="has_both.model:Model",
                      summary="A model", image_shape=(1, 4, 4), code_shape=(2,))]
"""
MODEL = """
import torch
from zoo import ModelSpec
from zoo.errors import UnknownModel
from zoo.model import ZooModel

class Model(ZooModel):
    image_shape, code_shape = (1, 4, 4), (2,)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    @classmethod
    def from_name(cls, rest, *, pretrained):
        if rest == "breaks":
            raise ValueError("inside\\x1b[31m")
        if rest == "unknown":
            raise UnknownModel("no both:unknown")
        return None if rest == "none" else cls()

    @classmethod
    def describe(cls, rest):
        return {"a dict": rest}

    def _encode(self, images):
        raise AssertionError
"""
# name: (what the hook returns, stage, exception, a part of its text)
FAULTS = {
    "bad-reserved": ("[record('hf_hub')]", "call", "SpecError", "none of hf_hub, local_dir"),
    "bad-letter": ("[record('c')]", "call", "SpecError", "two letters or more"),
    "bad-name": ("[record('Not-A-Name')]", "call", "SpecError", "Not-A-Name"),
    "bad-text": ("'timm'", "result", "SpecError", "zoo_prefixes should return Prefix records"),
    "bad-dicts": ("[record('x1').to_dict()]", "result", "SpecError", "Prefix records, got {"),
    "bad-none": ("None", "result", "SpecError", "no hook zoo_models or zoo_prefixes"),
    "bad-twice": ("[record('x2'), record('x2')]", "result", "SpecError", "x2 more than once"),
    "bad-hiding": (
        "[record('twin_a'), record('x3')]",
        "result",
        "SpecError",
        "the prefix twin_a: is the name of an installed plugin distribution",
    ),
}
GOOD = {
    "twin-a": "[record('twin', example='twin:a'), record('only')]",
    "twin-b": "[record('twin', example='twin:b')]",
    "has-both": "[record('both', capabilities=('encode',))]",
}
ASK = """
import json, sys, zoo
from zoo.registry import registry

def error_of(call, *args, **more):
    try:
        call(*args, **more)
    except Exception as error:
        cause = error.__cause__
        return [type(error).__name__, str(error), cause and type(cause).__name__]

def answer(value):
    print(json.dumps(value))
"""


@pytest.fixture(scope="module")
def env(clean_env, core_wheel, write_plugin, build_plugins, tmp_path_factory):
    """The core, the docstring's plugin, good and faulty ones, in one environment."""
    folder = tmp_path_factory.mktemp("prefixes")
    root, model = blocks(zoo_prefixes.__doc__)
    pool = {"__init__.py": root, "model.py": model}
    written = [write_plugin(folder / "my-pool", "my-pool", "my_pool", pool)]
    for name, answer in [*GOOD.items(), *((name, fault[0]) for name, fault in FAULTS.items())]:
        module = name.replace("-", "_")
        source = ROOT.format(module=module, answer=answer) + (BOTH if name == "has-both" else "")
        files = {"__init__.py": source, "model.py": MODEL}
        written.append(write_plugin(folder / name, name, module, files))
    return clean_env(core_wheel, *build_plugins(written))


def ask(env, code, **environ):
    """What ``code``, run in ``env``, gave to ``answer()``."""
    return json.loads(env.run("-c", ASK + code, env=environ).stdout)


def zoo_command(env, *arguments, check=True, **environ):
    """A run of the command line in ``env``."""
    return env.run("-m", "zoo.cli", *arguments, env=environ, check=check)


# -- the record and the name --------------------------------------------------------------------


def test_the_record_goes_through_json():
    prefix = Prefix.from_dict(json.loads(json.dumps(PREFIX)))
    assert prefix.to_dict() == PREFIX
    assert prefix.capabilities == ("encode", "features")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        *(({"name": name}, "a lower-case Python identifier of two letters or more") for name in (
            "Pool", "po-ol", "", "p", None, "hub", "hf_hub", "hfhub", "local_dir", "dir", "file",
            "https", "x" * 64, "_pool",
        )),
        ({"family": ""}, "Prefix pool.family: expected a text"),
        ({"summary": 3}, "Prefix pool.summary: expected a text"),
        ({"url": None}, "Prefix pool.url: expected a text"),
        ({"builder": "a.b.C"}, "'module:Class'"),
        ({"example": "4x4"}, "a name that works, 'pool:...'"),
        ({"example": "pool:"}, "a name that works"),
        ({"example": "pool:\x1b[2J"}, "a name that works"),
        ({"example": None}, "a name that works"),
        ({"capabilities": ["fly"]}, "a tuple out of ('encode'"),
        ({"recommended": [{**PREFIX["recommended"][0], "name": "other:4x4"}]}, "named 'pool:...'"),
        ({"recommended": [{**PREFIX["recommended"][0], "labels": 1}]}, "true or false"),
        ({"recommended": [{**PREFIX["recommended"][0], "parameters": "16"}]}, "whole number"),
        ({"api_version": 2}, "a newer one needs a newer latentzoo"),
        ({"api_version": True}, "a whole number from 1 to 1"),
        ({"colour": "red"}, "only the keys"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_record(changes, text):
    with pytest.raises(SpecError) as caught:
        Prefix.from_dict({**PREFIX, **changes})
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "rest", ["4x4", "a.b", "Any Thing-1", "hf-hub:org/name@v1", "x" * 300, "local-dir:a/b", "é"]
)
def test_name_with_a_prefix(rest):
    assert parse_name(f"pool:{rest}", {"pool"}) == PrefixName(f"pool:{rest}", "pool", rest)


def test_without_the_prefix_it_is_a_distribution():
    assert parse_name("pool:net") == PluginName("pool:net", "net", None, "pool")
    assert parse_name("Pool:net", {"pool"}).distribution == "Pool"


@pytest.mark.parametrize("rest", ["", "  ", "x" * 301, "a\x1b[31m", "a\nb", "a\0"])
def test_wrong_rest(rest):
    with pytest.raises(
        InvalidName, match="expected 1 to 300 printable characters after pool:"
    ) as e:
        parse_name(f"pool:{rest}", {"pool"})
    assert str(e.value).isprintable()


# -- plugins ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(env):
    """What ``zoo plugins`` says, by distribution."""
    plugins = json.loads(zoo_command(env, "plugins", "--json").stdout)
    return {plugin["distribution"]: plugin for plugin in plugins}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_kept(found, name):
    _, stage, exception, part = FAULTS[name]
    fault = found[name]["fault"]
    assert (fault["stage"], fault["exception"]) == (stage, exception), fault
    assert part in fault["message"]
    assert found[name]["prefixes"] == []


def test_faults_disturb_no_other(found):
    assert {name: p["prefixes"] for name, p in found.items() if p["prefixes"]} == {
        "has-both": ["both"],
        "my-pool": ["pool"],
        "twin-a": ["twin", "only"],
        "twin-b": ["twin"],
    }


def test_strict_mode_raises_for_a_prefix_that_hides_a_distribution(env):
    only = {"ZOO_PLUGINS_STRICT": "1", "ZOO_PLUGINS": "bad-hiding,twin-a"}
    kind, text, cause = ask(env, "answer(error_of(zoo.list_models))", **only)
    assert (kind, cause) == ("PluginError", "SpecError")
    assert "whose models are called twin_a:model already" in text


@pytest.mark.slow
def test_docstring_example(env):
    code = """
import torch
model = zoo.create("pool:4x4")
images = torch.rand(3, 1, 28, 28)
answer([model.name, model.spec.to_dict() == zoo.info("pool:4x4").to_dict(), model.training,
        list(model.encode(images).shape), list(model.features(images).shape),
        error_of(model.generate, 1), error_of(zoo.load, "pool:4x4"),
        error_of(zoo.info, "pool:nine"), error_of(zoo.create, "pool:4x4", width=3)])
"""
    name, same, training, codes, features, cannot, load, nine, settings = ask(env, code)
    assert (name, same, training) == ("pool:4x4", True, False)
    assert (codes, features) == ([3, 4, 4], [3, 16])
    assert cannot[0] == "CapabilityError"
    assert "pool:4x4 cannot generate: it declares encode, features" in cannot[1]
    assert "Models that can: single, only:..., twin:..." in cannot[1]
    assert load[:2] == ["UnknownTag", "pool:4x4 has nothing to learn, so nothing pretrained"]
    assert nine[:2] == ["UnknownModel", "no pool:nine; names look like pool:4x4"]
    assert settings[:2] == [
        "SettingsError",
        "pool:4x4: a name with a prefix takes no settings, got width",
    ]


@pytest.mark.slow
def test_two_plugins_with_one_prefix(env):
    code = "answer([error_of(c, 'twin:x') for c in (zoo.info, zoo.load, zoo.create)])"
    for kind, text, _ in ask(env, code):
        assert kind == "AmbiguousName"
        assert "2 plugins own the prefix 'twin': twin-a, twin-b." in text
        assert "ZOO_PLUGINS_BLOCK=twin-b" in text
    # What the message says works.
    error = ask(env, "answer(error_of(zoo.load, 'twin:none'))", ZOO_PLUGINS_BLOCK="twin-b")
    assert "plugin twin-a" in error[1]


@pytest.mark.slow
def test_builder_that_raises_is_its_plugin_s_error_chained(env):
    code = """
from zoo.sources import weights_folder
answer([error_of(zoo.load, "both:breaks"), error_of(zoo.load, "both:unknown"),
        error_of(zoo.load, "both:none"), error_of(zoo.info, "both:x"),
        error_of(weights_folder, "both:x"), error_of(zoo.info, "single") ])
"""
    breaks, unknown, none, described, folder, single = ask(env, code)
    assert (breaks[0], breaks[2]) == ("PluginError", "ValueError")
    assert breaks[1].startswith(
        "both:breaks: has_both.model:Model.from_name of the plugin has-both 1."
    )
    assert unknown[:2] == ["UnknownModel", "no both:unknown"]
    assert none[0] == "PluginError"
    assert "should return a ZooModel, got None" in none[1]
    assert "should return a ModelSpec, got {'a dict': 'x'}" in described[1]
    assert folder[0] == "WeightsNotFound"
    assert "both:x has no weights folder" in folder[1]
    assert single is None


@pytest.mark.slow
def test_command_line(env):
    rows = {row["name"]: row for row in json.loads(zoo_command(env, "list", "--json").stdout)}
    assert rows["pool:..."]["example"] == "pool:4x4"
    assert rows["pool:..."]["weights"] == []
    assert "example" not in rows["single"]
    table = zoo_command(env, "list", "po*").stdout
    assert "pool:..." in table
    assert "(pool:4x4)" in table
    assert "twin" not in table
    assert "single, both:..." in zoo_command(env, "plugins").stdout
    assert "Averaged down to 2 x 3 pixels" in zoo_command(env, "info", "pool:2x3").stdout
    wrong = zoo_command(env, "generate", "both:breaks", check=False)
    assert wrong.returncode == 2
    assert "ValueError: inside?[31m" in wrong.stderr
    assert "\x1b" not in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_looking_imports_nothing_heavy(env):
    code = """
import contextlib, io
from zoo.cli import main
for command in (["list"], ["plugins"]):
    sys.argv = ["zoo", *command]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main()
answer([m for m in ("torch", "my_pool.model") if m in sys.modules])
"""
    assert ask(env, code) == []


@pytest.mark.slow
def test_a_prefix_that_no_plugin_owns(env):
    code = "answer([error_of(zoo.load, n) for n in ('timm:resnet18', 'timm:hf-hub:org/x')])"
    for kind, text, _ in ask(env, code):
        assert kind == "UnknownModel"
        assert re.search(
            r"'timm'\nIf it is one of ours, type: pip install (--find-links \S+ )?latentzoo-timm$",
            text,
        )


@pytest.mark.slow
def test_a_failed_or_blocked_plugin_is_not_called_uninstalled(
    clean_env, core_wheel, write_plugin, build_plugins, tmp_path
):
    folder = write_plugin(tmp_path / "t", "latentzoo-timm", "zoo_timm", "raise OSError('ill')")
    env = clean_env(core_wheel, *build_plugins([folder]))
    code = "answer(error_of(zoo.load, 'timm:resnet18'))"
    kind, text, cause = ask(env, code)
    assert (kind, cause) == ("PluginError", "OSError")
    assert "the plugin latentzoo-timm 1." in text
    kind, text, _ = ask(env, code, ZOO_PLUGINS_BLOCK="latentzoo-timm")
    assert (kind, text) == (
        "UnknownModel",
        "the plugin latentzoo-timm is switched off by ZOO_PLUGINS_BLOCK",
    )
