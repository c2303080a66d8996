"""torch.hub, in a process that has the third-party libraries and no zoo."""

import json
import re
import shutil
from pathlib import Path

import pytest

import zoo

TREE = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def env(clean_env):
    """Neither the core nor a plugin is installed."""
    with clean_env().preloaded() as environment:
        absent = environment.run("-c", "import zoo", check=False)
        assert "No module named 'zoo'" in absent.stderr
        yield environment


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The folder in which torch.hub keeps a checkout of OWNER/latentzoo at main."""
    hub = tmp_path_factory.mktemp("hub")
    ours = shutil.ignore_patterns(".*", "__pycache__", "out", "runs", "tests")
    shutil.copytree(TREE, hub / "OWNER_latentzoo_main", ignore=ours)
    return hub


@pytest.mark.slow
def test_list_and_help(env, checkout):
    script = (
        "import json, sys, torch\n"
        f"torch.hub.set_dir({str(checkout)!r})\n"
        "how = dict(skip_validation=True, trust_repo=True)\n"
        "names = torch.hub.list('OWNER/latentzoo:main', **how)\n"
        "texts = [torch.hub.help('OWNER/latentzoo:main', n, **how) for n in names]\n"
        "print(json.dumps([names, texts, [m for m in ('timm', 'zoo.model') if m in sys.modules]]))"
    )
    names, texts, imported = json.loads(env.run("-c", script).stdout.splitlines()[-1])
    assert sorted(names) == zoo.list_models(), "an entry point for each model of the tree"
    for name, text in zip(names, texts, strict=True):
        tags = re.search(r"Tags: (.+?)\.", text)
        said = re.sub(r" \(default\)", "", tags[1]).split(", ") if tags else []
        assert sorted(said) == sorted(w.tag for w in zoo.info(name).weights), name
        assert zoo.info(name).summary in text
    assert imported == []


@pytest.mark.slow
def test_load_as_from_github(env, checkout):
    script = (
        "import torch\n"
        f"torch.hub.set_dir({str(checkout)!r})\n"
        "model = torch.hub.load('OWNER/latentzoo:main', 'deep_ae', pretrained='fashion_mnist',\n"
        "                       skip_validation=True, trust_repo=True)\n"
        "import zoo\nprint(model.name, zoo.__file__)"
    )
    name, file = env.run("-c", script).stdout.splitlines()[-1].split()
    assert name == "deep_ae.fashion_mnist"
    assert Path(file).is_relative_to(checkout)


def test_load(env):
    script = (
        "import sys, torch\n"
        f"load = lambda *a, **k: torch.hub.load({str(TREE)!r}, *a, source='local', **k)\n"
        "model = load('dcgan', pretrained=True)\n"
        "assert model.name == 'dcgan.mnist', model.name\n"
        "assert model.generate(2, seed=0).shape == (2, 1, 28, 28)\n"
        "assert load('deep_ae', pretrained='fashion_mnist').name == 'deep_ae.fashion_mnist'\n"
        "assert load('ae', pretrained=False, latent_dim=5).code_shape == (5,)\n"
        "for bad in (dict(pretrained='cifar'), dict(latent_dim=5), dict(pretrained=3)):\n"
        "    try: load('ae', **bad)\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
        "print(sorted({'torchvision', 'timm', 'sklearn'} & set(sys.modules)))"
    )
    lines = env.run("-c", script).stdout.splitlines()
    assert lines[-4].startswith("UnknownTag ae has no weights 'cifar'")
    assert lines[-3].startswith("TypeError ae: latent_dim would change the network")
    assert lines[-2].startswith("TypeError ae: pretrained should be True, False or a tag, got 3")
    assert lines[-1] == "[]"


@pytest.mark.slow
def test_a_foreign_module_named_zoo(env, tmp_path):
    (tmp_path / "zoo.py").write_text("lions = 2\n")
    script = (
        "import sys, torch\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\nimport zoo\n"
        f"torch.hub.load({str(TREE)!r}, 'ae', source='local')"
    )
    result = env.run("-c", script, check=False)
    assert result.returncode != 0
    assert "ImportError: latentzoo needs the module name 'zoo'" in result.stderr
    assert str(tmp_path / "zoo.py") in result.stderr


@pytest.mark.slow
def test_plugins_that_are_installed_have_entry_points_too(clean_env):
    code = """
from zoo import ModelSpec, hookimpl

@hookimpl
def zoo_models():
    return [ModelSpec(name="their_model", family="f", builder="theirs.net:Net", summary="Theirs",
                      image_shape=(1, 8, 8), code_shape=(2,))]
"""
    net = """
import torch
from zoo.model import ZooModel

class Net(ZooModel):
    def __init__(self):
        super().__init__()
        self.image_shape, self.code_shape = (1, 8, 8), (2,)
        self.layer = torch.nn.Linear(64, 2)
"""
    environment = clean_env()
    info = environment.site_packages / "their_zoo-1.0.dist-info"
    package = environment.site_packages / "theirs"
    for folder in (info, package):
        folder.mkdir()
    (info / "entry_points.txt").write_text("[zoo]\ntheirs = theirs\n")
    (package / "__init__.py").write_text(code)
    (package / "net.py").write_text(net)
    script = (
        f"import torch\nload = lambda *a: torch.hub.load({str(TREE)!r}, *a, source='local')\n"
        "print(load('their_model').name, load('ae').name)"
    )
    assert environment.run("-c", script).stdout.split() == ["their_model", "ae.mnist"]


@pytest.mark.slow
def test_a_missing_dependency_is_named_by_torch_hub(env):
    script = (
        "import sys, torch\nsys.modules['pluggy'] = None\n"
        f"torch.hub.load({str(TREE)!r}, 'ae', source='local')"
    )
    result = env.run("-c", script, check=False)
    assert "Missing dependencies: pluggy" in result.stderr


def test_nothing_heavy_at_import(env):
    script = (
        f"import sys; sys.path.insert(0, {str(TREE)!r}); before = set(sys.modules)\n"
        "import hubconf\n"
        "new = {m.split('.')[0] for m in set(sys.modules) - before} - {'hubconf'}\n"
        "print(sorted(new - sys.stdlib_module_names))"
    )
    new = json.loads(env.run("-c", script).stdout.replace("'", '"'))
    assert {name for name in new if not name.startswith("zoo")} == {"pluggy"}


def test_dependencies_are_named_as_they_are_imported():
    text = (TREE / "hubconf.py").read_text()
    listed = set(re.findall(r'"(\w+)"', re.search(r"dependencies = \[(.*?)\]", text)[1]))
    assert listed == {"torch", "safetensors", "pluggy", "numpy", "PIL"}
