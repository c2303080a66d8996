"""Reads the settings of a training from a file, checks them, and makes the model's recipe.

The classes of recipes are in :mod:`zoo.model`, where plugins take them from.
"""

import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from zoo.corruption import check_corruption
from zoo.errors import SettingsError
from zoo.model import AutoencoderRecipe, Recipe

__all__ = ["make_recipe", "read_recipe"]


def read_recipe(path: Path) -> dict[str, Any]:
    """Settings from a TOML or JSON file.

    Raises:
        SettingsError: not there, not readable, or not of that form.
    """
    try:
        text = path.read_text("utf-8")
        settings = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(
            f"{path} is not a recipe: {error}. Expected KEY = VALUE lines (.toml) or an object "
            "(.json), such as a run's recipe.json"
        ) from None
    if not isinstance(settings, dict):
        raise SettingsError(f"{path}: expected an object, got {type(settings).__name__}")
    return settings


def make_recipe(kind: type[Recipe], settings: Mapping[str, Any]) -> Recipe:
    """The model's own recipe with ``settings`` over it.

    Raises:
        SettingsError: an unknown setting, or a value of another type than the default's.
    """
    defaults = {f.name: f.default for f in fields(kind)}
    for key, value in settings.items():
        _check_setting(key, value, defaults)
    recipe = kind(**settings)
    _check_ranges(recipe)
    return recipe


def _check_setting(key: str, value: object, defaults: Mapping[str, Any]) -> None:
    """Raises: SettingsError: there is no such setting, or its value is of another type."""
    if key not in defaults:
        near = difflib.get_close_matches(str(key), defaults, n=1)
        raise SettingsError(
            f"the recipe has no setting {key!r}; it has: "
            + ", ".join(f"{k}={v!r}" for k, v in defaults.items())
            + (f".\nDid you mean {near[0]}?" if near else "")
        )
    wanted = type(defaults[key])
    if type(value) is not wanted and not (wanted is float and type(value) is int):
        raise SettingsError(
            f"{key} should be of type {wanted.__name__} like its default {defaults[key]!r}, "
            f"got {value!r}"
        )
    if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
        raise SettingsError(f"{key} should be a finite number from 0, got {value!r}")


def _check_ranges(recipe: Recipe) -> None:
    """Raises: SettingsError: a setting of every recipe is out of its range."""
    if recipe.batch_size < 2 or recipe.epochs < 1:
        raise SettingsError(
            f"expected epochs from 1 and a batch_size from 2, got {recipe.epochs} and "
            f"{recipe.batch_size}"
        )
    for key in ("precision", "muon_precision"):
        if (value := getattr(recipe, key)) not in ("auto", "fp32", "bf16"):
            raise SettingsError(f"{key} should be auto, fp32 or bf16, got {value!r}")
    for key in ("beta1", "average"):
        if not getattr(recipe, key) < 1:
            raise SettingsError(f"{key} should be below 1, got {getattr(recipe, key)!r}")
    if isinstance(recipe, AutoencoderRecipe) and recipe.corrupt:
        check_corruption(recipe.corrupt, recipe.corrupt_strength)
    if not 0 < recipe.decay <= 1:
        raise SettingsError(f"decay should be over 0 and at most 1, got {recipe.decay!r}")
