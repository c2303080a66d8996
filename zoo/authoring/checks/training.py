"""The check that a model can be trained."""

import dataclasses
import json
import tempfile
from pathlib import Path

import torch

from zoo import api, weights
from zoo.authoring.checks.generation import require_fitted
from zoo.authoring.checks.support import (
    NotApplicable,
    expect_same,
    get_model,
    has_weights,
    images_for,
)
from zoo.isolation import isolated
from zoo.model import can_be_trained
from zoo.names import PluginName
from zoo.sources import parse


def check_training(name: str) -> None:
    """Training works: two steps of each phase with finite losses, then weights that load."""
    if not isinstance(parse(name), PluginName) or has_weights(name):
        raise NotApplicable("only a model that is created by its own name is trained")
    if not trains(name):
        raise NotApplicable("its class has no loss, no phases and nothing to fit")
    from zoo.training.rng import seeded

    with seeded(0):
        before = api.create(name)
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        folder = train_shortly(name, run)
        after = api.load(f"local-dir:{folder}")
        weights.verify(after, folder)
        phases = [phase.name for phase in before.phases(before.recipe())]
        log = (run / "log.jsonl").read_text("utf-8") if phases else ""
        expect_same(
            [json.loads(line)["phase"] for line in log.splitlines()], phases, "phases that ran"
        )
    # Stored as float16, so that alone would be a difference.
    pairs = [(before.state_dict()[k].half(), t.half()) for k, t in after.state_dict().items()]
    assert not all(torch.equal(a, b) for a, b in pairs), "no tensor changed: nothing was learnt"
    if "generate" in after.capabilities:
        require_fitted(after, "after training")


def trains(name: str) -> bool:
    """Whether ``name`` is of a model that can be trained, and not of weights."""
    kind = type(get_model(name))
    return can_be_trained(kind) and isinstance(parse(name), PluginName) and not has_weights(name)


def train_shortly(name: str, run: Path) -> Path:
    """The weights folder of a run of two steps in each phase."""
    from zoo.data import Dataset
    from zoo.training import train

    kind = type(get_model(name))
    images = images_for(get_model(name), 46)[:23]  # the smooth ones; one is held out
    with isolated():
        pixels, labels = (images * 255).round().byte(), torch.arange(len(images)) % 2
    data = Dataset("smooth", "train", pixels, labels, "computed", "none", classes=("a", "b"))
    short = {f.name: 1 for f in dataclasses.fields(kind.recipe) if f.name.endswith("epochs")}
    return train(name, data=data, out=run, settings={**short, "batch_size": 8}, device="cpu")
