"""``zoo check`` finds what is wrong with a plugin, says where, and leaves with the right code."""

import inspect
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import zoo
import zoo.registry
from zoo import hookspecs, testing
from zoo.authoring.checking import check, names_of
from zoo.authoring.checks import EXPENSIVE
from zoo.authoring.scaffold import new_plugin
from zoo.cli import main
from zoo.errors import InvalidName, PluginError, UnknownModel, WeightsError, WeightsNotFound
from zoo.publishing import prepare
from zoo.sources import weights_folder

TREE = Path(__file__).resolve().parents[2]
BROKEN = [
    # what is replaced in the template's files, by what, the check that says so, what came, where
    (
        "return self.encoder(images.flatten(1))",
        "x = self.encoder(images.flatten(1)); return x - x.mean(0)",
        "check_batch_independence", "codes of a batch: off by", "(class {}AE)",
    ),
    (
        "return self.decoder(codes)",
        "return 1 / 0 * self.decoder(codes)",
        "check_shapes_and_range", "ZeroDivisionError: division by zero", "(in _decode)",
    ),
    (
        "return self.decoder(codes)",
        "return 2 * self.decoder(codes)",
        "check_shapes_and_range", "decoded: expected values in [0, 1], got ", "(class {}AE)",
    ),
    (
        "error = self._reconstruct(step.seen) - images",
        "error = (self._reconstruct(step.seen) - images) / 0",
        "check_training", "TrainingError: the loss is no longer finite", "(class {}AE)",
    ),
    (
        "code_shape=(32,)",
        "code_shape=(31,)",
        "check_record", "code_shape of the default config: expected (31,), got (32,)", "",
    ),
    (
        '"hidden": 256, ',
        "",
        "check_record", "settings of the record, as the builder's: expected ['channels', 'hidden',",
        "",
    ),
    (
        "def loss",
        "def _sample_codes(self, n, generator):\n"
        "        import numpy, torch\n\n"
        "        return torch.from_numpy(numpy.random.rand(n, *self.code_shape)).float()\n\n"
        "    def loss",
        "check_generate", "AssertionError: the same seed, other images", "",
    ),
    (
        "return self.encoder(images.flatten(1))",
        "next(self.encoder.parameters()).data.add_(1); return self.encoder(images.flatten(1))",
        "check_train_mode", "AssertionError: a call in train mode changes encoder.0.weight", "",
    ),
    (
        "return self.encoder(images.flatten(1))",
        "import numpy; return self.encoder(images.flatten(1)) + numpy.random.rand()",
        "check_process", "changed for the whole process: NumPy's random state was", "",
    ),
    (
        "return self.encoder(images.flatten(1))",
        "import os; os.environ['MINE'] = '1'; return self.encoder(images.flatten(1))",
        "check_process", "changed for the whole process: the environment was", "",
    ),
    (
        "return self.encoder(images.flatten(1))",
        "import torch; return self.encoder(images.flatten(1)).to(torch.get_default_dtype())",
        "check_torch_defaults",
        "with torch.set_default_dtype(torch.float64): InputError: expected float32 codes", "",
    ),
    (
        "return self.decoder(codes)",
        "import torch; return self.decoder(codes * torch.Tensor([1.0]))",
        "check_torch_defaults", "with torch.set_default_dtype(torch.float64)", "",
    ),
]  # fmt: skip
"""One mistake each."""


def numbered(mistakes):
    """The numbers of the mistakes; those that a check finds in processes of its own are slow."""
    expensive = [check.__name__ for check in EXPENSIVE]
    return [
        pytest.param(number, marks=pytest.mark.slow if which in expensive else ())
        for number, (_, _, which, *_) in enumerate(mistakes)
    ]


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """``plugin(name, (old, new), ...)``: the template's plugin, changed, as if installed."""

    def make(name: str, *changes: tuple[str, str]) -> Path:
        folder = new_plugin(name, tmp_path / name)
        for old, new in changes:
            files = list((folder / "src").rglob("*.py"))
            texts = {file: file.read_text("utf-8") for file in files}
            assert sum(old in text for text in texts.values()) == 1, old
            for file, text in texts.items():
                file.write_text(text.replace(old, new), "utf-8")
        info = folder / "src" / f"latentzoo_{name}-0.1.0.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[zoo]\n{name} = zoo_{name}\n")
        monkeypatch.syspath_prepend(str(folder / "src"))
        monkeypatch.setattr(zoo.registry, "_registry", None)
        return folder

    yield make
    monkeypatch.undo()
    zoo.registry._registry = None
    for module in [m for m in sys.modules if m.startswith("zoo_") and tmp_path.name in str(
        getattr(sys.modules[m], "__file__", "")
    )]:  # fmt: skip
        del sys.modules[module]


def only(monkeypatch, *checks):
    """Run these checks alone, which is quicker."""
    monkeypatch.setattr(
        "zoo.authoring.checks.CHECKS", tuple(getattr(testing, name) for name in checks)
    )


@pytest.mark.slow
def test_the_template_is_well(plugin):
    plugin("good")
    results = check("latentzoo-good")
    assert [r.check for r in results] == [c.__name__ for c in testing.CHECKS]
    nothing = {r.check: r.reason for r in results if r.state == "not applicable"}
    assert nothing == {
        "check_weights_folders": "its plugin ships no weights",
        "check_density": "it has no weights; check_training looks at it after training",
        "check_vectors": "it has no weights",
        "check_publishable": "it has no weights",
    }
    assert {r.state for r in results if r.check not in nothing} == {"passed"}
    assert all(r.well and r.expected.endswith(".") and not r.look for r in results)


@pytest.mark.parametrize("number", numbered(BROKEN))
def test_mistakes_are_found(plugin, monkeypatch, number):
    monkeypatch.setenv("MINE", "0")
    old, new, which, got, look = BROKEN[number]
    name = f"broken{number}"
    folder = plugin(name, (old, new))
    only(monkeypatch, which)
    (result,) = check(name)
    assert result.state == "failed"
    assert got in result.got
    assert look.format(name.capitalize()) in result.look
    file, _, line = result.look.split(" ")[0].rpartition(":")
    where = "__init__.py" if which == "check_record" else "model.py"  # where the mistake is
    assert Path(file) == folder / "src" / f"zoo_{name}" / where
    text = Path(file).read_text("utf-8").splitlines()
    start = new if "(in _decode)" in look else f"class {name.capitalize()}AE"
    assert (f'name="{name}"' if which == "check_record" else start) in text[int(line) - 1]


def test_a_model_that_cannot_be_made_is_one_result(plugin):
    plugin("unmade", ("self.code_shape = (latent_dim,)", "raise RuntimeError('no luck')"))
    (result,) = check("unmade")
    assert (result.check, result.state) == ("create", "failed")
    assert result.got == "RuntimeError: no luck"
    assert "(in __init__)" in result.look
    plugin("unfound", ("model:UnfoundAE", "model:Other"))
    (result,) = check("unfound")
    assert result.got.startswith("PluginError: the builder zoo_unfound.model:Other of unfound")


DECODE = ("return self.decoder(codes)", "return 2 * self.decoder(codes)")


def expecting(reasons):
    return ("recipe = Recipe\n", f"recipe = Recipe\n    expected_failures = {reasons}\n")


def test_expected_failures(plugin, monkeypatch):
    only(monkeypatch, "check_shapes_and_range", "check_defaults")
    reasons = {"check_shapes_and_range": "made to be too bright"}
    plugin("bright", DECODE, expecting(reasons))
    results = check("bright")
    assert [(r.state, r.reason, r.well) for r in results] == [
        ("failed as expected", "made to be too bright", True),
        ("passed", "", True),
    ]
    plugin("cured", expecting(reasons))
    results = check("cured")
    assert [(r.state, r.well) for r in results] == [("passed after all", False), ("passed", True)]
    shown = CliRunner().invoke(main, ["check", "cured"])
    assert shown.exit_code == 1
    assert "to do     take it out of expected_failures" in shown.output
    assert "reason    made to be too bright" in shown.output
    plugin("misspelt", expecting({"check_shape": "a slip"}))
    (result,) = check("misspelt")
    assert "no check 'check_shape'; there are ['check_shapes_and_range'," in result.got
    plugin("silent", expecting({"check_defaults": " "}))
    (result,) = check("silent")
    assert "check_defaults needs a reason" in result.got


@pytest.mark.slow
def test_undeclared_calls_are_refused_not_checked(plugin, monkeypatch):
    declared = ("code_shape=(32,),", "code_shape=(32,), capabilities=('encode', 'features'),")
    plugin("halfway", declared, DECODE)
    only(
        monkeypatch, "check_shapes_and_range", "check_undeclared_capability", "check_training",
        "check_generate", "check_reconstruct", "check_refused_codes",
    )  # fmt: skip
    assert [(r.state, r.reason) for r in check("halfway")] == [
        *[("passed", "")] * 3,
        ("not applicable", "it does not declare generate"),
        ("not applicable", "it does not declare decode and reconstruct"),
        ("not applicable", "it does not declare decode"),
    ]
    shown = CliRunner().invoke(main, ["check", "halfway"])
    assert shown.exit_code == 0
    assert shown.output.splitlines()[-2:] == [
        "not applicable: check_refused_codes, since it does not declare decode",
        "halfway: 3 passed, 3 not applicable",
    ]
    said = json.loads(CliRunner().invoke(main, ["check", "halfway", "--json"]).stdout)
    assert said["counts"] == {
        "passed": 3, "failed as expected": 0, "not applicable": 3, "passed after all": 0,
        "failed": 0,
    }  # fmt: skip
    assert [r["state"] for r in said["results"]][3:] == ["not applicable"] * 3


def test_the_command(plugin, monkeypatch):
    only(monkeypatch, "check_shapes_and_range", "check_defaults")
    folder = plugin("shown", DECODE)
    shown = CliRunner().invoke(main, ["check", str(folder)])
    assert shown.exit_code == 1
    first, expected, got, look, _, last, *rest = shown.output.split("\n")
    assert first == "shown: check_shapes_and_range failed"
    assert expected.startswith("  expected  Every declared call gives the shapes of the")
    assert got.startswith("  got       AssertionError: decoded: expected values in [0, 1], got ")
    assert look.startswith(f"  look at   {folder / 'src' / 'zoo_shown' / 'model.py'}:")
    assert last == "shown: 1 passed, 1 failed"
    assert rest == [""]
    as_json = CliRunner().invoke(main, ["check", "shown", "--json"])
    assert as_json.exit_code == 1
    said = json.loads(as_json.stdout)
    assert (said["target"], said["well"]) == ("shown", False)
    assert [r["well"] for r in said["results"]] == [False, True]
    assert CliRunner().invoke(main, ["check", "ae"]).exit_code == 0


def test_control_characters_of_a_plugin_are_not_shown(plugin, monkeypatch):
    only(monkeypatch, "check_shapes_and_range")
    plugin("loud", ("return self.decoder(codes)", "raise ValueError('\\x1b[2J\\x07 gone')  #"))
    shown = CliRunner().invoke(main, ["check", "loud"])
    assert "\x1b" not in shown.output
    assert "?[2J? gone" in shown.output


def test_a_plugin_that_calls_exit_is_only_a_failure(plugin, monkeypatch):
    only(monkeypatch, "check_shapes_and_range")
    plugin("leaving", ("return self.decoder(codes)", "raise SystemExit(0)  #"))
    assert check("leaving")[0].got == "SystemExit: 0"


def test_names_of():
    weights = ["ae", "ae.fashion_mnist", "ae.mnist"]
    assert names_of("ae") == weights
    assert names_of("ae.mnist") == ["ae.mnist"]
    assert names_of("Latentzoo_AE")[:3] == weights
    assert names_of(str(TREE / "plugins" / "latentzoo-ae"))[:3] == weights


@pytest.mark.slow
def test_a_prefix_is_checked_by_its_example(plugin, monkeypatch):
    """The plugin of the hook's own docstring, which can encode and give features alone."""
    text = textwrap.dedent(inspect.getdoc(hookspecs.zoo_prefixes).partition("plugin module::")[2])
    record, _, rest = text.partition("and the builder that it names, in ``my_pool/model.py``::")
    model = rest.partition("\nThen ``zoo.create")[0]
    folder = plugin("pooling")
    source = folder / "src" / "zoo_pooling"
    changed = [textwrap.dedent(t).replace("my_pool", "zoo_pooling") for t in (record, model)]
    (source / "__init__.py").write_text(changed[0])
    (source / "model.py").write_text(changed[1])
    assert names_of("latentzoo-pooling") == names_of("pool:4x4") == ["pool:4x4"]
    failed = [(r.check, r.got) for r in check("latentzoo-pooling") if not r.well]
    assert not failed
    with pytest.raises(UnknownModel, match="no pool:4by4"):
        names_of("pool:4by4")


def test_a_weights_folder(monkeypatch, tmp_path):
    only(monkeypatch, "check_record", "check_vectors", "check_training", "check_round_trip")
    folder = tmp_path / "weights"
    shutil.copytree(weights_folder("ae.fashion_mnist"), folder)
    states = ["passed", "passed", "not applicable", "passed"]  # weights are not trained
    assert [r.state for r in check(str(folder))] == states
    assert [r.name for r in check(f"local-dir:{folder}")] == [f"local-dir:{folder}"] * 4
    shutil.copyfile(
        weights_folder("ae.mnist") / "vectors.safetensors", folder / "vectors.safetensors"
    )
    record, vectors, *_ = check(str(folder))
    assert (record.state, vectors.state) == ("passed", "failed")
    assert "results differ from the recorded ones" in vectors.got
    (folder / "model.safetensors").write_bytes(b"short")
    (result,) = check(str(folder))
    assert (result.check, result.state) == ("load", "failed")
    assert "CorruptWeights" in result.got


@pytest.mark.parametrize(
    ("target", "error", "text"),
    [
        ("no such", InvalidName, "To check a whole plugin, give its distribution; installed: late"),
        ("deep_aee", UnknownModel, "Did you mean: deep_ae"),
        ("latentzoo-nothing", InvalidName, "'latentzoo-nothing' is not a name of the zoo"),
        ("local-dir:nowhere", WeightsNotFound, "there is no folder 'nowhere'"),
        (".", WeightsError, "has no config.json"),
    ],
)
def test_targets_that_mean_nothing(target, error, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        names_of(target)
    assert text in str(caught.value)
    shown = CliRunner().invoke(main, ["check", target])
    assert shown.exit_code == 2
    assert text in shown.stderr


def test_projects_that_cannot_be_checked(tmp_path, plugin, monkeypatch):
    folder = new_plugin("absent", tmp_path / "absent")
    with pytest.raises(UnknownModel) as caught:
        names_of(str(folder))
    assert "latentzoo-absent is not installed here as a plugin of the zoo" in str(caught.value)
    assert f"type: pip install --editable {folder}" in str(caught.value)
    (folder / "pyproject.toml").write_text("[tool]\n")
    with pytest.raises(InvalidName, match="names no project: KeyError"):
        names_of(str(folder))
    plugin("faulty", ("@hookimpl", "import nothing_of_this_name\n\n\n@hookimpl"))
    with pytest.raises(PluginError, match="import: ModuleNotFoundError: No module named"):
        names_of("latentzoo-faulty")
    monkeypatch.setenv("ZOO_PLUGINS_BLOCK", "latentzoo-ae")
    monkeypatch.setattr(zoo.registry, "_registry", None)
    with pytest.raises(UnknownModel, match="latentzoo-ae is switched off by ZOO_PLUGINS_BLOCK"):
        names_of("latentzoo-ae")


@pytest.mark.slow
def test_the_three_lines_of_a_plugins_test(plugin):
    """pytest shows an expected failure with its reason, and one that passes after all fails."""
    reasons = {"check_shapes_and_range": "too bright", "check_defaults": "never true"}
    folder = plugin("tested", DECODE, expecting(reasons))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rxXs", "-p", "no:cacheprovider", "-k",
         "check_shapes or check_defaults or refused or vectors", "tests/test_contract.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "src"), *sys.path])},
        capture_output=True, text=True,
    )  # fmt: skip
    assert "1 failed, 2 passed, 1 skipped" in done.stdout.splitlines()[-1], done.stdout
    assert ": it has no weights" in done.stdout, "why check_vectors is skipped"
    assert "1 xfailed" in done.stdout.splitlines()[-1]
    assert "test_contract[tested-check_shapes_and_range] - too bright" in done.stdout
    assert "[XPASS(strict)] never true" in done.stdout


ENCODE = "return self.encoder(images.flatten(1))"
NEW = [
    # replaced in the template, by what, the check that says so, what came, the line to look at
    ("@hookimpl\n", "import torch\n\n\n@hookimpl\n", "check_import",
     "torch imported when the plugin is discovered", "import torch"),
    ("    return [\n", "    import scipy\n    return [\n", "check_import",
     "scipy imported when the plugin is discovered", "import scipy"),
    ("@hookimpl\n", "print('hello')\n\n\n@hookimpl\n", "check_import",
     "it prints when it is imported: 'hello", 'name="{}"'),
    ("def loss", "def fit(self, images, seed):\n        pass\n\n    def loss",
     "check_training", "density is the untouched standard normal distribution after training",
     "def fit"),
    (ENCODE, "images.mul_(0.5); " + ENCODE, "check_inputs",
     "encode changes the tensor that it is given", "class "),
    (ENCODE, "return images.flatten(1)[:, :32]", "check_inputs",
     "what encode gives is a view of what it was given", "class "),
    (ENCODE, "return self.decoder[0].weight.detach()[0][None].expand(len(images), -1)",
     "check_inputs", "what encode gives is the model's own decoder.0.weight", "class "),
    (ENCODE, "print('encoding'); " + ENCODE, "check_quiet", "it prints: 'encoding", "class "),
    (ENCODE, "open('log.txt', 'a').close(); " + ENCODE, "check_quiet",
     "it writes files where it runs: log.txt", "class "),
    ("def loss(",
     "def _features(self, images):\n        return self._encode(images).detach()\n\n    def loss(",
     "check_forward", "no gradient flows through _features", "class "),
    ("super().__init__()", "super().__init__(); import random; self.odd = random.random()",
     "check_generate_across_processes", "sha256 of the images of seed 11, elsewhere", "class "),
    ("def _encode", "def encode_", "check_shapes_and_range",
     "AE has no _encode(self, images): write it in the class at ", "class "),
    ("def _decode", "def decode_", "check_shapes_and_range",
     "AE has no _decode(self, codes): write it in the class at ", "class "),
    ("def loss", "def lose", "check_training",
     "AE has no loss(self, images, step): write it in the class at ", "class "),
    ("self.density = Gauss",
     "import torch; self.mask = torch.ones(latent_dim); self.density = Gauss",
     "check_round_trip", "has tensors that no state_dict holds: 'mask'", "class "),
]  # fmt: skip


@pytest.mark.parametrize("number", numbered(NEW))
def test_more_mistakes_are_found(plugin, monkeypatch, number):
    """Also a library that is imported in this process already, as torch is."""
    old, new, which, got, look = NEW[number]
    name = f"faulty{number}"
    more = ()
    if which == "check_generate_across_processes":
        more = (("return self.decoder(codes)", "return self.odd * self.decoder(codes)"),)
    folder = plugin(name, (old, new), *more)
    only(monkeypatch, which)
    (result,) = check(name)
    assert result.state == "failed", result
    assert got in result.got
    file, _, line = result.look.split(" ")[0].rpartition(":")
    assert Path(file).is_relative_to(folder / "src")
    assert look.format(name) in Path(file).read_text("utf-8").splitlines()[int(line) - 1]


def ship(folder, name, *, fit=True):
    """Weights of the plugin's model in its own tree."""
    model = zoo.create(name)
    if fit:
        model.fit(lambda: iter([torch.rand(60, 1, 28, 28)]), 0)
    zoo.save(
        model, folder / "src" / f"zoo_{name}" / "weights" / f"{name}.first", dataset="noise",
        licence="MIT",
    )  # fmt: skip
    zoo.registry._registry = None  # the new tag is found


def test_weights_with_an_unfitted_density(plugin, monkeypatch):
    only(monkeypatch, "check_density", "check_publishable", "check_weights_folders")
    ship(plugin("unfitted"), "unfitted", fit=False)
    results = [r for r in check("latentzoo-unfitted") if r.name == "unfitted.first"]
    assert [r.state for r in results] == ["failed", "passed", "passed"]
    assert "density is the untouched standard normal distribution in its weights" in results[0].got
    assert "(class UnfittedAE)" in results[0].look
    ship(plugin("fitted"), "fitted")
    assert {r.state for r in check("fitted.first")} == {"passed"}
    ship(plugin("vague", ("components=10)", "components=10, prior=True)")), "vague", fit=False)
    (density, *_) = check("vague.first")
    assert (density.state, density.reason) == ("not applicable", "it has no GaussianMixture to fit")


def rename(folder, name, *, inside=False):
    """The plugin's model has another name now: in its record, and in the name of the folder."""
    source = folder / "src" / f"zoo_{name}"
    text = (source / "__init__.py").read_text("utf-8")
    text = text.replace(f'name="{name}"', 'name="fresh"').replace(f'__file__, "{name}"',
                                                                  '__file__, "fresh"')  # fmt: skip
    (source / "__init__.py").write_text(text, "utf-8")
    if inside:
        (source / "weights" / f"{name}.first").rename(source / "weights" / "fresh.first")
    del sys.modules[f"zoo_{name}"]
    zoo.registry._registry = None
    return source


def test_a_renamed_model_whose_weights_kept_the_old_name(plugin, monkeypatch):
    only(monkeypatch, "check_weights_folders")
    folder = plugin("former")
    ship(folder, "former")
    assert {r.state for r in check("latentzoo-former")} == {"passed"}
    source = rename(folder, "former")
    (result,) = check("latentzoo-former")
    assert (result.name, result.state) == ("fresh", "failed")
    assert "no model of the plugin has the weights in former.first: it declares fr" in result.got
    assert result.look == f"{source / 'weights' / 'former.first' / 'config.json'}:1"


def test_a_renamed_weights_folder_with_the_old_name_inside(plugin, monkeypatch):
    only(monkeypatch, "check_weights_folders")
    folder = plugin("earlier")
    ship(folder, "earlier")
    source = rename(folder, "earlier", inside=True)
    bare, weights = check("latentzoo-earlier")
    assert (bare.state, weights.name, weights.state) == ("passed", "fresh.first", "failed")
    assert "config.json says model 'earlier', the record 'fresh'" in weights.got
    file = source / "__init__.py"
    text = file.read_text("utf-8")
    file.write_text(text.replace("family=", 'renamed_from=("earlier",), family='), "utf-8")
    del sys.modules["zoo_earlier"]
    zoo.registry._registry = None
    assert [r.state for r in check("latentzoo-earlier")] == ["passed", "passed"]


@pytest.mark.slow
def test_two_plugins_with_a_model_of_the_same_name(plugin):
    """Neither fails for the other: every check goes by the full name."""
    plugin("twin_a", ('name="twin_a"', 'name="twin"'))
    plugin("twin_b", ('name="twin_b"', 'name="twin"'))
    for one in ("a", "b"):
        results = check(f"latentzoo-twin-{one}")
        assert {r.name for r in results} == {f"latentzoo-twin-{one}:twin"}
        assert not [r for r in results if not r.well]
        assert sum(r.state == "passed" for r in results) == len(results) - 4


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        ("zoo_model", "the hooks are zoo_models, zoo_prefixes. Did you mean zoo_models?"),
        ("zoo_prefix", "there is no hook 'zoo_prefix' ("),
        ("register", "the hooks are zoo_models, zoo_prefixes."),
    ],
)
def test_unknown_hooks_name_the_known_ones(plugin, hook, text):
    name = f"hooked_{hook}"
    folder = plugin(name, ("def zoo_models", f"def {hook}"))
    with pytest.raises(PluginError) as caught:
        names_of(f"latentzoo-{name}")
    assert text in " ".join(str(caught.value).split())
    assert f"{folder / 'src' / f'zoo_{name}' / '__init__.py'}:8" in str(caught.value)
    assert ("Did you mean" in str(caught.value)) == (hook != "register")


def test_a_hook_without_its_mark_is_named(plugin):
    plugin("unmarked", ("@hookimpl\n", ""))
    with pytest.raises(PluginError, match="zoo_models is there, and @hookimpl is missing"):
        names_of("latentzoo-unmarked")


def test_a_folder_is_checked_as_it_would_be_published(plugin, monkeypatch, tmp_path):
    """One function: what zoo publish refuses, zoo check refuses with the same words."""
    only(monkeypatch, "check_publishable")
    folder = zoo.save(
        zoo.create("ae", hidden=4, latent_dim=2), tmp_path / "w", dataset="d", licence="l"
    )
    assert [r.state for r in check(str(folder))] == ["passed"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "licence": ""}))
    (result,) = check(str(folder))
    assert result.state == "failed"
    with pytest.raises(WeightsError) as caught:
        prepare(folder, tmp_path, "hf-hub:someone/checked")
    assert str(caught.value) in result.got
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vectors.safetensors").unlink()
    assert "has no vectors.safetensors, without which nothing is published" in (
        check(str(folder))[0].got
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "the check gives no reason"),
        (("",), "the check gives no reason"),
        (("it has no weights",), "it has no weights"),
        ((0,), "0"),
    ],
)
def test_not_applicable_is_never_a_pass(monkeypatch, arguments, reason):
    def check_nothing(name):
        """Nothing is looked at."""
        raise testing.NotApplicable(*arguments)

    monkeypatch.setattr("zoo.authoring.checks.CHECKS", (check_nothing,))
    results = check("ae.mnist")
    assert [(r.state, r.reason) for r in results] == [("not applicable", reason)]
