"""What a name after ``timm:`` means, without a Hub; and that the README's table is true."""

import json
import re
from pathlib import Path

import pytest
import timm
import torch
from click.testing import CliRunner
from timm.models import PretrainedCfg
from zoo_timm import RECOMMENDED
from zoo_timm.source import Source, find

import zoo
from zoo.cli import main
from zoo.errors import (
    CapabilityError,
    InvalidName,
    UnknownModel,
    UnknownTag,
    UnsafeWeights,
    WeightsNotFound,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("rest", "architecture", "repo", "revision"),
    [
        ("resnet18", "resnet18", "timm/resnet18.a1_in1k", None),
        ("resnet18.tv_in1k", "resnet18", "timm/resnet18.tv_in1k", None),
        (f"resnet18@{COMMIT}", "resnet18", "timm/resnet18.a1_in1k", COMMIT),
        ("resnet18@refs/pr/1", "resnet18", "timm/resnet18.a1_in1k", "refs/pr/1"),
        (
            "vit_small_patch14_dinov2.lvd142m",
            "vit_small_patch14_dinov2",
            "timm/vit_small_patch14_dinov2.lvd142m",
            None,
        ),
        ("gcvit_tiny", "gcvit_tiny", None, None),
    ],
)
def test_forms(rest, architecture, repo, revision):
    source = find(rest)
    assert (source.architecture, source.repo, source.revision) == (architecture, repo, revision)
    assert source.arguments == {}


def test_every_name_of_timm_is_a_name_here():
    for name in timm.list_models(include_tags=True):
        assert f"{name}" == find(name).name


def test_old_name_of_timm():
    with pytest.warns(FutureWarning, match="timm now calls 'convnext_tiny_in22ft1k' 'convnext_"):
        source = find("convnext_tiny_in22ft1k")
    assert source.repo == "timm/convnext_tiny.fb_in22k_ft_in1k"


@pytest.mark.parametrize(
    ("rest", "kind", "text"),
    [
        ("resnt18", UnknownModel, "has no model 'resnt18'.\nDid you mean: timm:resnet18"),
        ("resnet18b.a1_in1k", UnknownModel, "Did you mean: timm:resnet18.a1_in1k"),
        ("!?", UnknownModel, "timm.list_models('*vit*')"),
        (
            "resnet18.mine",
            UnknownTag,
            "has no weights 'mine' of resnet18. There are: timm:resnet18",
        ),
        ("timm/resnet18", UnknownModel, "Names look like: timm:resnet18.a1_in1k, timm:hf-hub:org"),
        ("local-dir:x", UnknownModel, "timm:local-dir:x is no name of timm"),
        ("hf-hub:x", InvalidName, "write hf-hub:org/name"),
        ("hf-hub:a/../b", InvalidName, "write hf-hub:org/name"),
        ("resnet18@a/../b", InvalidName, "'hf-hub:timm/resnet18.a1_in1k@a/../b' is not"),
        ("resnet18@", InvalidName, "'hf-hub:timm/resnet18.a1_in1k@' is not"),
        ("gcvit_tiny@main", UnsafeWeights, "as a pickle alone"),
        ("test_vit#96", InvalidName, "after # there is size=224"),
        ("test_vit#pool=mean", InvalidName, "pool=token|avg|max"),
        (
            "test_vit#size=100",
            CapabilityError,
            "takes no pictures of 100 x 100: Input height (100)",
        ),
        ("hiera_tiny_224#size=112", CapabilityError, "takes no pictures of 112 x 112"),
        ("test_vit#size=9999", CapabilityError, "whole numbers from 1 to 4096"),
        ("test_resnet#pool=token", CapabilityError, "cannot make features by token"),
    ],
)
def test_refused_names(rest, kind, text):
    with pytest.raises(kind) as caught:
        zoo.info(f"timm:{rest}")
    assert text in str(caught.value)


def test_weights_that_are_a_pickle_are_refused_and_others_named():
    with pytest.raises(UnsafeWeights) as caught:
        zoo.load("timm:gcvit_tiny.in1k")
    text = str(caught.value)
    assert re.search(r"pickle alone, https://\S+\.pth; the zoo reads safetensors", text)
    assert "For an untrained one: zoo.create('timm:gcvit_tiny')" in text


def test_others_of_the_architecture_that_are_no_pickles_are_named():
    pickled = Source("resnet18.old", "resnet18", PretrainedCfg(url="https://example.org/a.pth"))
    with pytest.raises(UnsafeWeights) as caught:
        pickled.require_weights()
    advised = re.findall(r"timm:([\w.]+)", str(caught.value).partition("Weights on the Hub")[2])
    assert "resnet18.a1_in1k" in advised
    assert all(find(name).repo for name in advised)


def test_no_weights_at_all_is_never_random_weights():
    with pytest.raises(UnknownTag, match="timm has no weights of test_maxvit"):
        zoo.load("timm:test_maxvit")
    assert zoo.create("timm:test_maxvit").name == "timm:test_maxvit"


def test_net_without_features_of_pictures():
    with pytest.raises(CapabilityError, match="makes no features of pictures"):
        zoo.info("timm:deepseek_vit_412m_enc")


def test_what_it_cannot_do():
    model = zoo.create("timm:test_vit")
    assert model.capabilities == ("encode", "features")
    with pytest.raises(CapabilityError, match="timm:test_vit cannot generate"):
        model.generate(1)
    with pytest.raises(WeightsNotFound, match="has no weights folder"):
        zoo.sources.weights_folder("timm:test_vit")


@pytest.mark.parametrize(
    ("name", "mode", "fit"),
    [
        ("test_vit.r160_in1k", "center", "stretch"),
        ("efficientvit_b0.r224_in1k", "center", "stretch"),
        ("coat_lite_medium_384.in1k", "squash", "stretch"),
    ],
)
def test_pictures_are_prepared_whole_in_the_size_of_the_weights(name, mode, fit):
    cfg = find(name).cfg
    assert cfg.crop_mode == mode
    model = zoo.create(f"timm:{name}")
    p = model.preprocessing
    assert ((p.channels, p.height, p.width), p.fit) == (tuple(cfg.input_size), fit)
    assert p.background == 1
    assert zoo.create(f"timm:{name}").prepare(fit="crop").preprocessing.fit == "crop"
    assert model.mean.flatten().tolist() == pytest.approx(list(cfg.mean))
    assert model.std.flatten().tolist() == pytest.approx(list(cfg.std))


@pytest.mark.slow
def test_readme_table():
    text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| .* \| (\d+) \| (\d+) \| ([\w.-]+) \|$", text, re.M)
    assert len(rows) == 10
    for name, features, size, licence in rows:
        record, cfg = zoo.info(f"timm:{name}"), find(name).cfg
        assert record.code_shape == (int(features),), name
        assert record.image_shape == (3, int(size), int(size)), name
        assert (cfg.license, cfg.hf_hub_id) == (licence, f"timm/{name}")


@pytest.mark.slow
@pytest.mark.parametrize("row", RECOMMENDED, ids=lambda row: row[0])
def test_what_is_recommended_is_as_timm_has_it(row):
    name, parameters, licence, _, _ = row
    cfg = find(name).cfg
    assert (cfg.license, cfg.hf_hub_id) == (licence, f"timm/{name}")
    with torch.device("meta"):
        net = timm.create_model(name.partition(".")[0], num_classes=0)
    assert sum(each.numel() for each in net.parameters()) == parameters


def test_info_of_the_prefix_alone_tells_what_is_worth_a_try():
    result = CliRunner().invoke(main, ["info", "timm:", "--json"])
    assert result.exit_code == 0
    names = [each["name"] for each in json.loads(result.stdout)["recommended"]]
    assert names == [f"timm:{name}" for name, *_ in RECOMMENDED]
    result = CliRunner().invoke(main, ["info", "timm:"])
    assert all(name in result.stdout for name in names)
    assert "without" in result.stdout
    assert CliRunner().invoke(main, ["info", "nobodys:"]).exit_code == 2
