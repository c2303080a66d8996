"""Recipes: settings over a model's own, from a file too, and what is refused."""

import json

import pytest

import zoo
from zoo.errors import SettingsError
from zoo.model import Recipe
from zoo.training import make_recipe, read_recipe


def test_recipe_is_over_the_models_own():
    recipe = make_recipe(zoo.create("deep_ae").recipe, {"lr": 1, "hidden_weight": 0.0})
    assert (recipe.lr, recipe.hidden_weight, recipe.batch_size) == (1, 0.0, 128)


def test_recipe_from_a_file(tmp_path, train):
    (tmp_path / "a.toml").write_text('lr = 0.01\nschedule = "constant"\nepochs = 7\n')
    train("ae", tmp_path / "run", recipe=tmp_path / "a.toml")
    used = json.loads((tmp_path / "run" / "recipe.json").read_text())
    # what is set by hand goes over the file
    assert (used["lr"], used["schedule"], used["epochs"]) == (0.01, "constant", 3)
    assert read_recipe(tmp_path / "run" / "recipe.json") == used
    for name, text in (
        ("b.toml", "lr = ="),
        ("c.json", "[1]"),
        ("d.json", "{"),
        ("gone.toml", None),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(SettingsError, match=name.replace(".", r"\.")):
            read_recipe(tmp_path / name)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"batchsize": 8}, "no setting 'batchsize'.*\nDid you mean batch_size\\?$"),
        ({"no_such_thing": 8}, "no setting 'no_such_thing'; it has: .*schedule='[a-z]+'[^\n]*$"),
        ({"batch_size": "8"}, "batch_size should be of type int like its default"),
        ({"epochs": True}, "epochs should be of type int"),
        ({"lr": float("inf")}, "lr should be a finite number from 0"),
        ({"batch_size": 1}, "a batch_size from 2"),
        ({"precision": "fp16"}, "precision should be auto, fp32 or bf16"),
        ({"beta1": 1.0}, "beta1 should be below 1"),
        ({"decay": 0.0}, "decay should be over 0"),
    ],
)
def test_settings_that_are_refused(settings, text):
    with pytest.raises(SettingsError, match=text):
        make_recipe(Recipe, settings)
