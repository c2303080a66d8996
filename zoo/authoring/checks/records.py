"""Checks of a plugin's root module and its records."""

import inspect
import json

from zoo import api
from zoo.authoring.checks.elsewhere import in_a_new_process
from zoo.authoring.checks.support import (
    CheckFailed,
    expect_same,
    get_model,
    has_weights,
    plugin_of,
    record_line,
)
from zoo.folder import read_config
from zoo.names import PluginName
from zoo.sources import parse, weights_folder
from zoo.spec import complete_config


def check_import(name: str) -> None:
    """The plugin's root module and hooks import nothing heavy and print nothing."""
    candidate = plugin_of(name).candidate
    # With an option the zoo's own tests do not fork it from a process that has torch already.
    said, answer = in_a_new_process(_DISCOVER, *map(str, candidate[:4]), options=["-B"])
    root = record_line(name)
    if said:
        raise CheckFailed(f"it prints when it is imported: {said!r:.200}", root)
    if answer["heavy"]:
        raise CheckFailed(
            f"{', '.join(answer['heavy'])} imported when the plugin is discovered, which makes "
            "every command slow; import it in the module that the builder is in",
            answer["where"] or root,
        )


_DISCOVER = """
import importlib.util, json, os, sys, traceback
from zoo.discovery import HEAVY, Candidate, discover
candidate = Candidate(*sys.argv[1:5])
origin = importlib.util.find_spec(candidate.module.partition(".")[0]).origin
home, where = os.path.dirname(origin), []
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY and not where:
            frames = [f for f in traceback.extract_stack() if f.filename.startswith(home + os.sep)]
            where.extend(f"{f.filename}:{f.lineno} (in {f.name})" for f in frames[-1:])
sys.meta_path.insert(0, Finder())
discover([candidate])
heavy = [name for name in HEAVY if name in sys.modules]
answer = {"heavy": heavy, "where": where[0] if where else ""}
"""


def check_record(name: str) -> None:
    """The record's shapes and parameters are those of the model that is built."""
    try:
        _check_record(name)
    except AssertionError as error:
        raise CheckFailed(str(error), record_line(name)) from error


def _check_record(name: str) -> None:
    model, spec = get_model(name), api.info(name)
    expect_same(model.record.name, spec.name, "the model's own record is of another name")
    expect_same(sorted(spec.config), sorted(model.config), "settings of the record")
    parameters = sum(p.numel() for p in model.parameters())
    if not has_weights(name):
        expect_same(model.image_shape, tuple(spec.image_shape), "image_shape of the default config")
        expect_same(model.code_shape, tuple(spec.code_shape), "code_shape of the default config")
        takes = inspect.signature(type(model)).parameters
        if isinstance(parse(name), PluginName):
            expect_same(
                sorted(spec.config), sorted(takes), "settings of the record, as the builder's"
            )
    elif spec.weights:
        (record,) = spec.weights
        expect_same(record.parameters, parameters, "the number of parameters")
        expect_same(record.preprocessing, model.preprocessing, "the preprocessing")
        # Weights of before a setting was added have that setting's default.
        expect_same(complete_config(spec, record.config), dict(model.config), "the config")
    else:  # a folder or repository, which is its own record
        config = read_config(weights_folder(name))
        expect_same(config.facts.get("parameters"), parameters, "the number of parameters")
    again = type(spec).from_dict(json.loads(json.dumps(spec.to_dict())))
    expect_same(again, spec, "the record after a round trip through JSON")
