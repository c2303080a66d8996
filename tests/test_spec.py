"""Records are checked when they are made, frozen, and survive JSON."""

import dataclasses
import json

import pytest

import zoo
from zoo.errors import SettingsError, SpecError
from zoo.spec import Metric, ModelSpec, Preprocessing, Weights, complete_config

METRIC = {
    "name": "sse",
    "value": 2.5,
    "dataset": "mnist",
    "split": "test",
    "protocol": "summed",
    "samples": 10,
}
WEIGHTS = {
    "tag": "mnist",
    "sha256": "0" * 64,
    "parameters": 3,
    "dataset": "mnist",
    "licence": "MIT",
    "repo": "org/tiny.mnist",
    "revision": "a" * 40,
    "config": {"latent_dim": 8},
    "preprocessing": {"channels": 1, "height": 28, "width": 28},
    "metrics": [METRIC],
}
SPEC = {
    "name": "tiny",
    "family": "autoencoder",
    "builder": "a.b:C",
    "summary": "small",
    "image_shape": [1, 28, 28],
    "code_shape": [8],
    "config": {"latent_dim": 8, "rate": 0.5, "kind": "x", "hidden": [3, 2], "other": None},
    "weights": [WEIGHTS],
    "renamed_from": ["teeny"],
}


def made_up():
    return ModelSpec.from_dict(SPEC)


@pytest.mark.parametrize(
    "record",
    [
        Metric.from_dict(METRIC),
        Weights.from_dict(WEIGHTS),
        Preprocessing(channels=3, height=5, width=7, fit="pad", background=0.5),
        made_up(),
        *(zoo.info(name) for name in zoo.list_models()),
    ],
    ids=lambda record: type(record).__name__,
)
def test_json_round_trip(record):
    text = json.dumps(record.to_dict())
    again = type(record).from_dict(json.loads(text))
    assert again == record
    assert json.dumps(again.to_dict()) == text
    field = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, field, "other")


def test_a_config_cannot_be_changed_afterwards():
    given = {"latent_dim": 8}
    spec = ModelSpec.from_dict({**SPEC, "config": given})
    given["latent_dim"] = 9
    assert spec.config["latent_dim"] == 8
    with pytest.raises(TypeError):
        spec.config["latent_dim"] = 9


def test_the_only_tag_is_the_default():
    assert made_up().default_tag == "mnist"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "Tiny"}, "a lower-case Python identifier"),
        ({"name": "tiny.ae"}, "a lower-case Python identifier"),
        ({"name": ""}, "a lower-case Python identifier"),
        ({"name": "x" * 64}, "a lower-case Python identifier"),
        ({"name": None}, "a lower-case Python identifier"),
        ({"renamed_from": ["-"]}, "a lower-case Python identifier"),
        ({"family": ""}, "ModelSpec tiny.family: expected a text"),
        ({"summary": 3}, "ModelSpec tiny.summary: expected a text"),
        ({"paper": None}, "ModelSpec tiny.paper: expected a text"),
        ({"builder": "a.b.C"}, "'module:Class'"),
        ({"builder": "a b:C"}, "'module:Class'"),
        ({"builder": "a:C()"}, "'module:Class'"),
        ({"image_shape": [28, 28]}, "a tuple (C, H, W)"),
        ({"image_shape": [1, 28, 0]}, "a tuple (C, H, W)"),
        ({"image_shape": 28}, "a tuple (C, H, W)"),
        ({"code_shape": [0]}, "ModelSpec tiny.code_shape: expected a tuple"),
        ({"code_shape": [True]}, "ModelSpec tiny.code_shape: expected a tuple"),
        ({"capabilities": ["fly"]}, "a tuple out of ('encode'"),
        ({"capabilities": "encode"}, "a tuple out of ('encode'"),
        ({"default_tag": "cifar"}, "one of ['mnist'], got 'cifar'"),
        ({"weights": [WEIGHTS, WEIGHTS]}, "each tag once"),
        ({"weights": [], "default_tag": "mnist"}, "None, for there are no weights"),
        ({"api_version": 2}, "a newer one needs a newer latentzoo"),
        ({"api_version": "1"}, "a whole number from 1 to 1"),
        ({"config": 3}, "a mapping"),
        ({"config": {"a": {1, 2}}}, "values that JSON can hold"),
        ({"colour": "red"}, "only the keys"),
    ],
    ids=str,
)
def test_wrong_model(changes, text):
    with pytest.raises(SpecError) as caught:
        ModelSpec.from_dict({**SPEC, **changes})
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"tag": "MNIST"}, "Weights.tag: expected a lower-case identifier"),
        ({"sha256": "0" * 63}, "64 hexadecimal digits"),
        ({"sha256": "G" * 64}, "64 hexadecimal digits"),
        ({"repo": "name"}, "organisation/name"),
        ({"repo": "../../etc"}, "organisation/name"),
        ({"repo": "a/.."}, "organisation/name"),
        ({"revision": "main"}, "a full commit sha of 40 digits"),
        ({"parameters": -1}, "a number of parameters"),
        ({"dataset": ""}, "Weights mnist.dataset: expected a text"),
        ({"licence": None}, "Weights mnist.licence: expected a text"),
    ],
    ids=str,
)
def test_wrong_weights(changes, text):
    with pytest.raises(SpecError) as caught:
        Weights.from_dict({**WEIGHTS, **changes})
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "base", "changes", "text"),
    [
        (Metric, METRIC, {"name": ""}, "Metric.name: expected a text"),
        (Metric, METRIC, {"value": "2"}, "Metric sse.value: expected a number"),
        (Metric, METRIC, {"value": True}, "Metric sse.value: expected a number"),
        (Metric, METRIC, {"samples": 0}, "a positive whole number"),
        (Preprocessing, WEIGHTS["preprocessing"], {"channels": 2}, "1 or 3, got 2"),
        (Preprocessing, WEIGHTS["preprocessing"], {"height": 10**6}, "from 1 to 4096"),
        (Preprocessing, WEIGHTS["preprocessing"], {"fit": "tile"}, "one of ('crop'"),
        (Preprocessing, WEIGHTS["preprocessing"], {"background": 2}, "a number from 0 to 1"),
    ],
    ids=str,
)
def test_wrong_others(kind, base, changes, text):
    with pytest.raises(SpecError) as caught:
        kind.from_dict({**base, **changes})
    assert text in str(caught.value)


@pytest.mark.parametrize("key", ["name", "builder", "image_shape"])
def test_missing_key(key):
    with pytest.raises(SpecError, match=key):
        ModelSpec.from_dict({k: v for k, v in SPEC.items() if k != key})


def test_complete_config():
    spec = made_up()
    assert complete_config(spec, {"rate": 1, "other": [1]}) == {
        "latent_dim": 8,
        "rate": 1,
        "kind": "x",
        "hidden": [3, 2],
        "other": [1],
    }
    for config, text in (
        ({"size": 1}, "tiny has no setting 'size'; it has: latent_dim=8, rate=0.5"),
        ({"latent_dim": 8.0}, "'latent_dim' should be of type int like its default 8, got 8.0"),
        ({"latent_dim": True}, "'latent_dim' should be of type int"),
        ({"kind": 3}, "'kind' should be of type str"),
        ({"latent_dims": 3}, "Did you mean latent_dim?"),
    ):
        with pytest.raises(SettingsError) as caught:
            complete_config(spec, config)
        assert text in str(caught.value)
