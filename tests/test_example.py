"""The example plugin, as a third party's: its wheel in a clean environment, alone and with all."""

import json
import re
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[1]
EXAMPLE = TREE / "examples" / "latentzoo-example"
PLUGINS = sorted((TREE / "plugins").glob("*/pyproject.toml"))
ZOO = ("-m", "zoo.cli")


@pytest.fixture(scope="module")
def alone(clean_env, core_wheel, build_wheel):
    return clean_env(core_wheel, build_wheel(EXAMPLE))


@pytest.fixture(scope="module")
def together(clean_env, core_wheel, build_wheel):
    folders = [EXAMPLE, *(file.parent for file in PLUGINS)]
    return clean_env(core_wheel, *map(build_wheel, folders))


def faults(env):
    return {
        p["distribution"]: p["fault"] for p in json.loads(env.run(*ZOO, "plugins", "--json").stdout)
    }


@pytest.mark.slow
def test_found_alone(alone):
    read = "importlib.metadata.distribution('latentzoo-example').read_text('licenses/LICENSE')"
    licence = alone.run("-c", f"import importlib.metadata; print({read}, end='')").stdout
    assert licence == (TREE / "LICENSE").read_text("utf-8")
    assert faults(alone) == {"latentzoo-example": None}
    (model,) = json.loads(alone.run(*ZOO, "list", "--json").stdout)
    assert model["name"] == "k_sparse_ae"


@pytest.mark.slow
def test_its_own_tests_and_the_contract(alone):
    tests = str(EXAMPLE / "tests")
    done = alone.run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        tests,
        f"--confcutdir={tests}",
        tests,
    )
    assert re.search(r"^\d+ passed", done.stdout.splitlines()[-1]), done.stdout
    said = json.loads(alone.run(*ZOO, "check", "latentzoo-example", "--json").stdout)
    assert said["well"]
    assert len(said["results"]) >= 15


@pytest.mark.slow
def test_its_readme(alone):
    text = (EXAMPLE / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "sh"]
    alone.run("-c", blocks[0][1] + "assert int((codes != 0).sum(1).max()) <= 5\n")
    assert "zoo check latentzoo-example\n" in blocks[1][1], "which the test above runs"


def test_it_is_as_small_as_is_said():
    text = (EXAMPLE / "src" / "zoo_example" / "k_sparse_ae.py").read_text("utf-8")
    body = text[text.index("class KSparseAE") :]
    assert len([line for line in body.splitlines() if line.strip()]) <= 40


@pytest.mark.slow
def test_all_together(together):
    found = faults(together)
    assert "latentzoo-example" in found
    assert len(found) == len(PLUGINS) + 1
    assert not any(found.values())
    names = [model["name"] for model in json.loads(together.run(*ZOO, "list", "--json").stdout)]
    assert len(set(names)) == len(names), "no two plugins claim one name"
    assert not [name for name in names if ":" in name and not name.endswith(":...")]  # prefixes
    assert json.loads(together.run(*ZOO, "check", "k_sparse_ae", "--json").stdout)["well"]


# Plugins whose only models are those of another library, and how zoo info ends for their example
# where there is no Hub: of diffusers, a repository alone says what a model is. Their own tests hold
# small ones of them to the contract, on a Hub on loopback.
OF_LIBRARIES = {"latentzoo-clip": 0, "latentzoo-diffusers": 2}


@pytest.mark.slow
@pytest.mark.parametrize("plugin", [file.parent.name for file in PLUGINS])
def test_first_party_alone(clean_env, core_wheel, build_wheel, plugin):
    env = clean_env(core_wheel, build_wheel(TREE / "plugins" / plugin))
    assert faults(env) == {plugin: None}
    if plugin in OF_LIBRARIES:
        prefix = plugin.removeprefix("latentzoo-")
        example = json.loads(env.run(*ZOO, "info", f"{prefix}:", "--json").stdout)["example"]
        nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(env.folder / "hub")}
        done = env.run(*ZOO, "info", example, env=nowhere, check=False)
        assert done.returncode == OF_LIBRARIES[plugin], done.stdout + done.stderr
        assert (done.returncode == 0) == ("3 x 224 x 224" in done.stdout)
        assert (done.returncode == 2) == ("cannot be reached" in done.stderr)
        return
    # The plugin's own tests hold each of its models to the contract; here one without the others.
    names = [model["name"] for model in json.loads(env.run(*ZOO, "list", "--json").stdout)]
    first = next((name for name in names if ":" not in name), plugin)
    done = env.run(*ZOO, "check", first, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
