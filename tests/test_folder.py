"""The weights folder without its tensors: what config.json says, and what lies beside it."""

import json

import pytest

from zoo.errors import (
    IncompatibleVersion,
    InvalidConfig,
    SpecError,
    WeightsError,
    WeightsNotFound,
)
from zoo.folder import CONFIG, inside_run, parse_config, read_config, read_json, weights_record

FACTS = {
    "api_version": 1,
    "model": "deep_ae",
    "plugin": "latentzoo-ae",
    "config": {"code": 30},
    "size": 8,
    "sha256": "0" * 64,
    "parameters": 1,
    "dataset": "mnist",
    "licence": "MIT",
}


def test_a_config_is_read_into_a_record(tmp_path):
    training = {"recipe": {"lr": 0.1}, "seconds": 3}
    (tmp_path / CONFIG).write_text(json.dumps({**FACTS, "training": training}))
    config = read_config(tmp_path)
    assert (config.model, config.plugin, config.size) == ("deep_ae", "latentzoo-ae", 8)
    assert (config.dataset, config.recipe, config.preprocessing) == ("mnist", {"lr": 0.1}, None)
    assert config.facts["licence"] == "MIT"
    with pytest.raises(TypeError):
        config.facts["licence"] = "another"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"api_version": True}, "api_version should be a whole number"),
        ({"api_version": 0}, "api_version should be a whole number"),
        ({"model": None}, "model should be str"),
        ({"plugin_version": 2}, "plugin_version should be str"),
        ({"config": []}, "config should be dict"),
        ({"size": True}, "size should be int"),
        ({"size": "8"}, "size should be int"),
        ({"sha256": "0" * 63}, "64 hexadecimal digits"),
        ({"sha256": "G" * 64}, "64 hexadecimal digits"),
        ({"preprocessing": {"channels": 2, "height": 8, "width": 8}}, "1 or 3"),
        ({"preprocessing": 3}, "an object"),
    ],
)
def test_a_config_that_is_none(change, says):
    with pytest.raises(InvalidConfig, match=says) as caught:
        parse_config({**FACTS, **change}, "the config")
    assert "the config" in str(caught.value)


def test_a_config_of_a_newer_zoo_says_what_to_type():
    with pytest.raises(IncompatibleVersion, match="Type: "):
        parse_config({**FACTS, "api_version": 2}, "the config")


@pytest.mark.parametrize("training", [None, 3, [], {"recipe": 3}])
def test_what_the_trainer_wrote_may_be_anything(training):
    assert parse_config({**FACTS, "training": training}, "the config").recipe == {}


def test_a_run_holds_its_weights_folder(tmp_path):
    assert inside_run(tmp_path) == tmp_path
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / CONFIG).write_text("{}")
    assert inside_run(tmp_path) == tmp_path / "weights"
    (tmp_path / CONFIG).write_text("{}")
    assert inside_run(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe\xff", "is not valid JSON"),
        (b"[" * 200_000, "is not valid JSON"),
        (b"[1]", "expected an object, got list"),
        (b"3", "expected an object, got int"),
        (b"{}" + b" " * 1_000_000, "is larger than 1,000,000 bytes"),
    ],
)
def test_read_json_refuses(tmp_path, data, text):
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(InvalidConfig, match="config") as caught:
        read_json(tmp_path / "config.json")
    assert text in str(caught.value)


def test_read_json_of_what_is_no_file(tmp_path):
    with pytest.raises(WeightsNotFound, match=r"has no config\.json"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(WeightsError, match="cannot be read"):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize("metrics", [[3], [None], "sse", [{"name": "sse"}], {"sse": 1}])
def test_metrics_that_are_none(tmp_path, metrics):
    (tmp_path / "config.json").write_text(json.dumps(FACTS))
    assert weights_record(tmp_path, "mnist").metrics == ()
    (tmp_path / "metrics.json").write_text(json.dumps({"metrics": metrics}))
    with pytest.raises((InvalidConfig, SpecError)):
        weights_record(tmp_path, "mnist")
