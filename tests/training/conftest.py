"""Small data and small networks, for runs of seconds."""

import numpy as np
import pytest

import zoo
from zoo.cli.learning import Signals
from zoo.sample import sample

SMALL = {
    "ae": ({"hidden": 8, "latent_dim": 4}, {"epochs": 3}),
    "deep_ae": ({"hidden": [16, 8], "latent_dim": 4}, {"epochs": 3}),
    "dcgan": ({"width": 2, "latent_dim": 3}, {"epochs": 2, "encoder_epochs": 2}),
}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with the embedded sample as mnist.npz: 300 images."""
    folder = tmp_path_factory.mktemp("data")
    images, labels = sample()
    parts = {"train_images": images, "train_labels": labels, "test_images": images[:10],
             "test_labels": labels[:10]}  # fmt: skip
    np.savez(folder / "mnist.npz", **parts)
    return folder


@pytest.fixture(scope="session")
def train(data):
    """``train(model, out, **more)``: a run of a small network on that data.

    Signals are noted as ``zoo train`` notes them.
    """

    def run(model, out, **more):
        config, settings = SMALL.get(model.rpartition(":")[2], ({}, {}))
        settings = {**settings, "batch_size": 32, "precision": "fp32", **more.pop("settings", {})}
        more = {"config": config, "data": "mnist", "data_dir": data, "device": "cpu", **more}
        with Signals() as signals:
            return zoo.train(model, out=out, settings=settings, **{"stop": signals, **more})

    return run
