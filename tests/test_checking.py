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
from click.testing import CliRunner

import zoo.registry
from zoo import hookspecs, testing
from zoo.api import weights_folder
from zoo.checking import check, names_of
from zoo.cli import main
from zoo.errors import InvalidName, PluginError, UnknownModel, WeightsError, WeightsNotFound
from zoo.scaffold import new_plugin

TREE = Path(__file__).resolve().parents[1]
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
        "error = self._reconstruct(seen) - images",
        "error = (self._reconstruct(seen) - images) / 0",
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
        "check_record", "settings of the record, as the builder's: expected ['channels', 'code',",
        "",
    ),
    (
        "def losses",
        "def _sample_codes(self, n, generator):\n"
        "        import numpy, torch\n\n"
        "        return torch.from_numpy(numpy.random.rand(n, *self.code_shape)).float()\n\n"
        "    def losses",
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
    monkeypatch.setattr(testing, "CHECKS", tuple(getattr(testing, name) for name in checks))


def test_the_template_is_well(plugin):
    plugin("good")
    results = check("latentzoo-good")
    assert [r.check for r in results] == [c.__name__ for c in testing.CHECKS]
    assert [r.state for r in results] == ["passed"] * len(results)
    assert all(r.expected.endswith(".") and not r.look for r in results)


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_mistakes_are_found(plugin, monkeypatch, number):
    monkeypatch.setenv("MINE", "0")
    old, new, which, came, look = BROKEN[number]
    name = f"broken{number}"
    folder = plugin(name, (old, new))
    only(monkeypatch, which)
    (result,) = check(name)
    assert result.state == "failed"
    assert came in result.came
    assert look.format(name.capitalize()) in result.look
    file, _, line = result.look.split(" ")[0].rpartition(":")
    text = (folder / "src" / f"zoo_{name}" / "model.py").read_text("utf-8").splitlines()
    assert Path(file).name == "model.py"
    start = new if "(in _decode)" in look else f"class {name.capitalize()}AE"
    assert start in text[int(line) - 1]


def test_a_model_that_cannot_be_made_is_one_result(plugin):
    plugin("unmade", ("self.code_shape = (code,)", "raise RuntimeError('no luck')"))
    (result,) = check("unmade")
    assert (result.check, result.state) == ("create", "failed")
    assert result.came == "RuntimeError: no luck"
    assert "(in __init__)" in result.look
    plugin("unfound", ("model:UnfoundAE", "model:Other"))
    (result,) = check("unfound")
    assert result.came.startswith("PluginError: the builder zoo_unfound.model:Other of unfound")


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
    assert "no check 'check_shape'; there are ['check_shapes_and_range'," in result.came
    plugin("silent", expecting({"check_defaults": " "}))
    (result,) = check("silent")
    assert "check_defaults needs a reason" in result.came


def test_undeclared_calls_are_refused_not_checked(plugin, monkeypatch):
    declared = ("code_shape=(32,),", "code_shape=(32,), capabilities=('encode', 'features'),")
    plugin("halfway", declared, DECODE)
    only(monkeypatch, "check_shapes_and_range", "check_undeclared_capability", "check_training")
    assert [r.state for r in check("halfway")] == ["passed"] * 3


def test_the_command(plugin, monkeypatch):
    only(monkeypatch, "check_shapes_and_range", "check_defaults")
    folder = plugin("shown", DECODE)
    shown = CliRunner().invoke(main, ["check", str(folder)])
    assert shown.exit_code == 1
    first, expected, came, look, _, last, *rest = shown.output.split("\n")
    assert first == "shown: check_shapes_and_range failed"
    assert expected.startswith("  expected  Every declared call gives what the contract says")
    assert came.startswith("  came      AssertionError: decoded: expected values in [0, 1], got ")
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
    assert check("leaving")[0].came == "SystemExit: 0"


def test_names_of():
    weights = ["ae", "ae.fashion_mnist", "ae.mnist"]
    assert names_of("ae") == weights
    assert names_of("ae.mnist") == ["ae.mnist"]
    assert names_of("Latentzoo_AE")[:3] == weights
    assert names_of(str(TREE / "plugins" / "latentzoo-ae"))[:3] == weights


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
    failed = [(r.check, r.came) for r in check("latentzoo-pooling") if not r.well]
    assert not failed
    with pytest.raises(UnknownModel, match="no pool:4by4"):
        names_of("pool:4by4")


def test_a_weights_folder(monkeypatch, tmp_path):
    only(monkeypatch, "check_record", "check_vectors", "check_training", "check_round_trip")
    folder = tmp_path / "weights"
    shutil.copytree(weights_folder("ae.fashion_mnist"), folder)
    assert [r.state for r in check(str(folder))] == ["passed"] * 4
    assert [r.name for r in check(f"local-dir:{folder}")] == [f"local-dir:{folder}"] * 4
    shutil.copyfile(
        weights_folder("ae.mnist") / "vectors.safetensors", folder / "vectors.safetensors"
    )
    record, vectors, *_ = check(str(folder))
    assert (record.state, vectors.state) == ("passed", "failed")
    assert "results differ from the recorded ones" in vectors.came
    (folder / "model.safetensors").write_bytes(b"short")
    (result,) = check(str(folder))
    assert (result.check, result.state) == ("load", "failed")
    assert "CorruptWeights" in result.came


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


def test_the_three_lines_of_a_plugins_test(plugin):
    """pytest shows an expected failure with its reason, and one that passes after all fails."""
    reasons = {"check_shapes_and_range": "too bright", "check_defaults": "never true"}
    folder = plugin("tested", DECODE, expecting(reasons))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rxX", "-p", "no:cacheprovider", "-k",
         "shapes or check_defaults or refused", "tests/test_contract.py"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(folder / "src")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert "1 failed, 2 passed" in done.stdout.splitlines()[-1], done.stdout
    assert "1 xfailed" in done.stdout.splitlines()[-1]
    assert "test_contract[tested-check_shapes_and_range] - too bright" in done.stdout
    assert "[XPASS(strict)] never true" in done.stdout
