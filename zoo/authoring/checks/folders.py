"""Checks of weights folders: their contents, and saving and loading a model."""

import tempfile
from pathlib import Path

import torch

from zoo import api, weights
from zoo.authoring.checks.support import (
    CheckFailed,
    NotApplicable,
    expect_close,
    expect_same,
    full_name,
    get_model,
    has_weights,
    images_for,
    plugin_of,
    root_file,
)
from zoo.folder import CONFIG, read_config, weights_root
from zoo.isolation import isolated
from zoo.names import PrefixName
from zoo.sources import parse, weights_folder


def check_weights_folders(name: str) -> None:
    """Every weights folder of the plugin names a model that the plugin declares."""
    if isinstance(parse(name), PrefixName):
        raise NotApplicable("the library behind the prefix keeps weights in its own way")
    spec, plugin = api.info(name), plugin_of(name)
    if has_weights(name):
        config = weights_folder(name) / CONFIG
        said = read_config(config.parent).model
        if said not in (spec.name, *spec.renamed_from):
            raise CheckFailed(
                f"config.json says model {said!r}, the record {spec.name!r}: whoever publishes or "
                f"copies the folder has weights of no model. Write {spec.name!r} there, or "
                f"renamed_from=({said!r},) into the record",
                f"{config}:1",
            )
        return
    root = weights_root(root_file(plugin))
    folders = sorted(f.name for f in root.iterdir() if f.is_dir()) if root.is_dir() else []
    if not folders:
        raise NotApplicable("its plugin ships no weights")
    known = {
        f"{model}.{weights.tag}"
        for spec in plugin.specs
        for weights in spec.weights
        for model in (spec.name, *spec.renamed_from)
    }
    lost = [
        folder for folder in folders if folder not in known and not folder.startswith(("_", "."))
    ]
    if lost:
        raise CheckFailed(
            f"no model of the plugin has the weights in {', '.join(lost)}: it declares "
            f"{', '.join(s.name for s in plugin.specs)}, with {', '.join(sorted(known)) or 'none'}"
            ". weights=bundled_weights(__file__, NAME) in the record finds those of NAME, and "
            "after a renaming bundled_weights(__file__, NAME, OLD_NAME) those of both",
            f"{root / lost[0] / CONFIG}:1",
        )


def check_round_trip(name: str) -> None:
    """A model that was saved and loaded again has the same tensors and results."""
    if isinstance(parse(name), PrefixName):
        raise NotApplicable("the library behind the prefix keeps weights in its own way")
    model = get_model(name)
    images = images_for(model)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "weights"
        with isolated(0):
            twin = api.create(full_name(name), **model.config)
        twin.load_state_dict(model.state_dict())
        weights.save(
            twin,
            folder,
            images=images,
            plugin=plugin_of(name).distribution,
            facts={"dataset": "none", "licence": "none"},
        )
        again = api.load(f"local-dir:{folder}")
        stored, read = twin.state_dict(), again.state_dict()
        expect_same(sorted(read), sorted(stored), "the tensors that were read")
        for key in stored:
            assert torch.equal(stored[key], read[key]), f"{key} changed on the way"
        for key, value in weights.measure(twin, images).items():
            expect_close(weights.measure(again, images)[key], value, f"{key} after the round trip")
        weights.verify(again, folder)


def check_vectors(name: str) -> None:
    """The model gives the recorded outputs of its test vectors on this machine."""
    if not has_weights(name):
        raise NotApplicable("it has no weights")
    weights.verify(get_model(name), weights_folder(name))


def check_publishable(name: str) -> None:
    """The weights folder passes the checks of ``zoo publish``."""
    if not has_weights(name):
        raise NotApplicable("it has no weights")
    from zoo.publishing import prepare

    with tempfile.TemporaryDirectory() as temporary:
        prepare(weights_folder(name), Path(temporary), "hf-hub:someone/checked")
