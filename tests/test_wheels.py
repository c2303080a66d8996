"""Wheels of the core and of each plugin, built, and installed alone into clean environments."""

import json
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[1]
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")

# Any use of the network raises.
OFFLINE = """
import json, socket, sys

def refuse(*args, **kwargs):
    raise OSError("no network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import zoo
"""

USE = (
    OFFLINE
    + """
from zoo import weights
from zoo.sources import weights_folder
from zoo.sample import sample

said = {}
for name in zoo.list_models(pretrained=True):
    model = zoo.load(name)
    images, can = model.preprocess(sample()[0][:3]), model.capabilities
    assert "encode" in can and "features" in can, can
    codes = model.encode(images)
    assert len(codes) == len(model.features(images)) == 3
    if "decode" in can:
        assert model.decode(codes).shape == model.reconstruct(images).shape == images.shape
    if "score" in can:
        assert len(model.score(images)) == 3
    if "generate" in can:
        assert model.generate(2, seed=0).shape == (2, *model.image_shape)
    said[name] = max(weights.verify(model, weights_folder(name)).values())
print(json.dumps([zoo.list_models(), said, zoo.__file__]))
"""
)


@pytest.fixture(scope="module")
def wheels(build_wheel):
    return {
        "core": build_wheel(TREE),
        **{path.name: build_wheel(path) for path in sorted((TREE / "plugins").iterdir())},
    }


@pytest.mark.slow
def test_core_alone(clean_env, wheels):
    env = clean_env(wheels["core"])
    assert env.run("-c", "import zoo; print(zoo.list_models())").stdout.strip() == "[]"
    listed = env.run("-m", "zoo.cli", "list").stdout
    everything = f" {' '.join(sorted(set(wheels) - {'core'}))}\n"
    assert everything in listed.partition("Type: pip install")[2]
    asked = env.run("-m", "zoo.cli", "info", "ae", check=False)
    assert asked.returncode == 2
    assert "no model 'ae'" in asked.stderr
    assert everything in asked.stderr.partition("Type: pip install")[2]
    demo = env.run("-m", "zoo.cli", "demo", check=False)
    assert demo.returncode == 2
    assert everything in demo.stderr.partition("Type: pip install")[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "models"),
    [
        ("latentzoo-ae", ["ae", "deep_ae"]),
        ("latentzoo-baseline", ["patch_kmeans", "pca"]),
        ("latentzoo-contrastive", ["simclr", "vicreg"]),
        ("latentzoo-conv", ["conv_ae", "denoising_ae", "timm_ae"]),
        ("latentzoo-gan", ["bigan", "dcgan", "gan", "stacked_gan"]),
        ("latentzoo-vae", ["conv_vae", "vae", "vq_vae"]),
    ],
)
def test_one_plugin_alone_works_offline(clean_env, wheels, plugin, models):
    env = clean_env(wheels["core"], wheels[plugin])
    listed, deviations, file = json.loads(env.run("-c", USE).stdout.splitlines()[-1])
    assert listed == models
    shipped = (TREE / "plugins" / plugin).glob("src/*/weights/*/config.json")
    assert sorted(deviations) == sorted(file.parent.name for file in shipped) != []
    assert max(deviations.values()) <= 1
    assert not Path(file).is_relative_to(TREE), "the installed zoo, not this tree's"


@pytest.mark.slow
@pytest.mark.parametrize(
    "project", ["core", *(path.name for path in sorted((TREE / "plugins").iterdir()))]
)
def test_what_a_wheel_holds(wheels, project):
    with zipfile.ZipFile(wheels[project]) as wheel:
        names = wheel.namelist()
        (licence,) = (n for n in names if n.endswith(".dist-info/licenses/LICENSE"))
        assert wheel.read(licence) == (TREE / "LICENSE").read_bytes()
    own = [n for n in names if not n.startswith("zoo/authoring/template/")]
    assert not [n for n in own if n.endswith(PICKLES) or "test_" in n or "tests/" in n]
    (typed,) = (n for n in names if n.endswith("/py.typed"))
    assert typed.count("/") == 1, "beside the root module, so that type checkers read the package"
    if project == "core":
        template = TREE / "zoo" / "authoring" / "template"
        files = {str(p.relative_to(TREE)) for p in template.rglob("*") if p.is_file()}
        assert files == set(names) - set(own), "the template, with its hidden files"
        assert "zoo/sample/NOTICE" in names
        assert "zoo/sample/fashion_mnist_test.npz" in names


def test_all_weights_stay_small():
    size = sum(p.stat().st_size for p in TREE.glob("plugins/*/src/*/weights/*/*"))
    assert 0 < size < 80_000_000  # what all of them may take together
