"""A name is resolved once: what a model says of where it came from, and what that costs."""

import copy
import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import zoo
from zoo import publishing
from zoo.errors import InvalidConfig, TensorMismatch, UnknownTag, WeightsNotFound
from zoo.evaluation import evaluate, verify
from zoo.folder import bundled_weights
from zoo.names import PluginName
from zoo.registry import registry
from zoo.report.card import render_card
from zoo.sample import sample
from zoo.sources import bundled_folder, described, locate, owner, parse
from zoo.spec import Source


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(locate("ae.mnist").folder, tmp_path / "mine")


@pytest.fixture
def parsed(monkeypatch):
    """The texts that were parsed as JSON, wherever that was."""
    texts, loads = [], json.loads

    def counting(text, **options):
        texts.append(text)
        return loads(text, **options)

    monkeypatch.setattr(json, "loads", counting)
    return texts


def test_of_bundled_weights():
    model = zoo.load("ae")
    found = locate("ae.mnist")
    assert model.source == Source(kind="bundled", name="ae.mnist", folder=found.folder)
    assert model.source.folder.name == "ae.mnist"
    assert (model.name, found.config.model, found.spec.name) == ("ae.mnist", "ae", "ae")


def test_of_a_folder(folder):
    name = f"local-dir:{folder}"
    assert zoo.load(name).source == Source(kind="folder", name=name, folder=folder)


def test_of_a_run_it_is_the_folder_inside(folder, tmp_path):
    (tmp_path / "run").mkdir()
    folder = folder.rename(tmp_path / "run" / "weights")
    assert zoo.load(f"local-dir:{tmp_path / 'run'}").source.folder == folder


def test_behind_a_prefix_there_is_no_folder():
    with pytest.raises(WeightsNotFound, match=r"timm:test_vit has no weights folder"):
        locate("timm:test_vit")
    assert zoo.create("timm:test_vit").source is None


def test_a_created_model_has_none():
    assert zoo.create("ae").source is None


def test_it_goes_along_with_copies():
    model = zoo.load("ae.mnist")
    assert copy.deepcopy(model).source == model.source


@pytest.mark.parametrize("name", ["ae.mnist", "local-dir:{}"])
def test_config_is_read_once(folder, parsed, name):
    registry()
    config = (folder / "config.json").read_bytes()
    zoo.load(name.format(folder))
    assert parsed.count(config) == 1


@pytest.fixture
def data_dir(tmp_path):
    """A folder with a small data set of the name that the weights have learnt from."""
    images, labels = sample()
    parts = {}
    for split in ("train", "test"):
        parts |= {f"{split}_images": images[:40], f"{split}_labels": labels[:40]}
    np.savez(tmp_path / "mnist.npz", **parts)
    return tmp_path


def test_measuring_and_verifying_read_the_config_once(folder, data_dir, parsed):
    name, config = f"local-dir:{folder}", (folder / "config.json").read_bytes()
    (folder / "metrics.json").unlink()
    for seed in (0, 1):  # which --verify measures in two runs
        protocol = ("knn", "kmeans")[seed]
        parsed.clear()
        settings = {"data_dir": data_dir, "seed": seed, "with_baselines": False}
        evaluate(name, protocols=[protocol], **settings)
        assert parsed.count(config) == 1
    parsed.clear()
    rows = verify(name, data_dir=data_dir)
    assert {row["name"] for row in rows} >= {"knn1", "kmeans_acc"}
    assert parsed.count(config) == 1


def test_weights_measured_against_others_are_read_once_each(folder, data_dir, parsed, tmp_path):
    other = shutil.copytree(locate("ae.fashion_mnist").folder, tmp_path / "other")
    configs = [(f / "config.json").read_bytes() for f in (folder, other)]
    parsed.clear()
    evaluate(
        f"local-dir:{folder}", data_dir=data_dir, protocols=["knn"], with_baselines=False,
        against=other, write=False,
    )  # fmt: skip
    assert [parsed.count(c) for c in configs] == [1, 1]


def test_info_reads_the_config_of_a_folder_once(folder, parsed):
    zoo.info(f"local-dir:{folder}")
    assert parsed.count((folder / "config.json").read_bytes()) == 1


def test_validation_and_a_card_read_the_config_once_each(folder, parsed):
    config = (folder / "config.json").read_bytes()
    publishing.validate(folder)
    assert parsed.count(config) == 1
    render_card(folder, "ae.mine")
    assert parsed.count(config) == 2


def test_owner():
    assert owner("ae.mnist").distribution == "latentzoo-ae"
    assert owner("latentzoo-ae:ae").distribution == "latentzoo-ae"
    assert owner("timm:anything").distribution == "latentzoo-timm"


def test_no_such_weights():
    with pytest.raises(UnknownTag, match=r"There are: .*ae\.mnist"):
        described(PluginName("ae.mine", "ae", "mine"))
    with pytest.raises(UnknownTag, match="has no trained weights"):
        locate("timm_ae")


# -- a model that was renamed --------------------------------------------------------------------


@pytest.fixture
def renamed(monkeypatch):
    """``ae`` is now called ``shallow``, and its weights lie where they were."""
    plugin, spec = registry().find("ae")
    weights = bundled_weights(plugin.root.__file__, "shallow", "ae")
    record = replace(spec, name="shallow", renamed_from=("ae",), weights=weights)
    others = tuple(s for s in plugin.specs if s.name != "ae")
    monkeypatch.setattr(plugin, "specs", (record, *others))
    return plugin, record


def test_a_renamed_model_finds_its_old_folder(renamed, recwarn):
    plugin, record = renamed
    assert {weights.tag for weights in record.weights} == {"mnist", "fashion_mnist"}
    assert bundled_folder(plugin, record, "mnist").name == "ae.mnist"
    model = zoo.load("shallow.mnist")
    assert (model.name, model.spec.name) == ("shallow.mnist", "shallow")
    assert not [w for w in recwarn if w.category is FutureWarning], "nothing to be done about it"


def test_the_old_name_works_with_a_warning(renamed):
    with pytest.warns(FutureWarning, match="'ae' is now called 'shallow'") as caught:
        assert zoo.load("ae.mnist").name == "shallow.mnist"
    assert caught[0].filename == __file__
    with pytest.warns(FutureWarning, match="'ae' is now called 'shallow'"):
        assert zoo.create("ae").name == "shallow"


def test_a_folder_that_says_the_old_name_loads_with_a_warning(renamed, folder):
    with pytest.warns(FutureWarning, match="'ae' is now called 'shallow'"):
        assert zoo.load(f"local-dir:{folder}").spec.name == "shallow"


def test_the_new_folder_goes_before_the_old(renamed, tmp_path, monkeypatch):
    for name in ("ae.mnist", "shallow.mnist"):
        (tmp_path / "weights" / name).mkdir(parents=True)
    (weights,) = bundled_weights(str(tmp_path / "__init__.py"), "shallow", "ae")
    with pytest.raises(WeightsNotFound, match=r"shallow\.mnist has no config\.json"):
        weights.to_dict()


# -- settings ------------------------------------------------------------------------------------


def test_a_folder_with_unknown_settings_says_where(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["config"]["latentdim"] = 3
    path.write_text(json.dumps(config))
    with pytest.raises(InvalidConfig, match="Did you mean latent_dim") as caught:
        zoo.load(f"local-dir:{folder}")
    assert str(path) in str(caught.value)


def test_parse_knows_the_prefixes_that_are_installed():
    assert parse("timm:net") != parse("thing:net")


# -- weights of another version of the plugin ----------------------------------------------------


def rename_tensors(folder, **config):
    """Tensors as an earlier version called them."""
    import safetensors.torch

    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    data = safetensors.torch.save(
        {name.replace("encoder.", "enc."): t for name, t in tensors.items()}
    )
    path.write_bytes(data)
    facts = json.loads((folder / "config.json").read_text())
    digest = hashlib.sha256(data).hexdigest()
    facts |= {"sha256": digest, "size": len(data), **config}
    (folder / "config.json").write_text(json.dumps(facts))


def test_a_class_gives_tensors_of_before_their_names_of_today(folder, monkeypatch):
    rename_tensors(folder, plugin_version="0.1.0")
    kind, seen = type(zoo.create("ae")), []

    def upgrade(tensors, version):
        seen.append(version)
        return {name.replace("enc.", "encoder."): tensor for name, tensor in tensors.items()}

    monkeypatch.setattr(kind, "upgrade_tensors", staticmethod(upgrade))
    model, expected = zoo.load(f"local-dir:{folder}"), zoo.load("ae.mnist")
    assert seen[0] == "0.1.0"
    assert all(torch.equal(t, expected.state_dict()[k]) for k, t in model.state_dict().items())


@pytest.mark.parametrize(
    ("upgrade", "says"),
    [
        (lambda tensors, version: None, "should return a dict of tensors by name, got None"),
        (lambda tensors, version: {1: 2}, "should return a dict of tensors"),
        (lambda tensors, version: 1 / 0, "upgrade_tensors failed .*ZeroDivisionError"),
        (lambda tensors, version: {}, "missing: "),
    ],
)
def test_what_a_class_makes_of_them_is_held_to_what_it_is(folder, monkeypatch, upgrade, says):
    monkeypatch.setattr(type(zoo.create("ae")), "upgrade_tensors", staticmethod(upgrade))
    with pytest.raises(TensorMismatch, match=f"(?s){says}"):
        zoo.load(f"local-dir:{folder}")


def test_tensors_that_do_not_fit_say_which_version_wrote_them(folder):
    rename_tensors(folder, plugin_version="0.1.0")
    with pytest.raises(TensorMismatch, match=r"latentzoo-ae 0\.1\.0, installed is \d"):
        zoo.load(f"local-dir:{folder}")
    installed = registry().version("latentzoo-ae")
    for same in (installed, None):
        rename_tensors(folder, plugin_version=same)
        with pytest.raises(TensorMismatch) as caught:
            zoo.load(f"local-dir:{folder}")
        assert "written by" not in str(caught.value)


def test_what_is_saved_says_the_version(tmp_path):
    zoo.save(zoo.create("ae"), tmp_path / "new", dataset="mnist", licence="MIT")
    facts = json.loads((tmp_path / "new" / "config.json").read_text())
    assert facts["plugin_version"] == registry().version("latentzoo-ae") is not None


def test_all_that_ships_says_the_version():
    for name in zoo.list_models(pretrained=True):
        assert locate(name).config.plugin_version, name
