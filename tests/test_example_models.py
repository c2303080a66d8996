"""The flow and the masked autoencoder, which a new author could write: small, public names alone,
checked, trained, published and loaded back, in a clean environment of each one's own."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest

from zoo.sample import sample

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ZOO = ("-m", "zoo.cli")
NAMES = {"latentzoo-flow": "rectified_flow", "latentzoo-mae": "mae"}
USE = {
    "rectified_flow": "made = model.generate(3, seed=0, steps=2)",
    "mae": "made = model.reconstruct(torch.full((3, 1, 28, 28), 0.5))",
}
HOW = {
    "rectified_flow": ["--config", "width=16", "--epochs", "60", "--set", "average=0.98"],
    "mae": ["--config", "width=64", "--epochs", "60", "--set", "lr=0.002"],
}


@pytest.mark.parametrize("distribution", NAMES)
def test_it_is_small_and_uses_public_names(distribution):
    files = list((EXAMPLES / distribution / "src").rglob("*.py"))
    assert sum(len(file.read_text("utf-8").splitlines()) for file in files) <= 120
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.ImportFrom) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            assert not [n for n in [*module.split("."), *names] if n.startswith("_")], module


@pytest.mark.slow
@pytest.mark.parametrize("distribution", NAMES)
def test_checked_trained_published_and_loaded_back(
    distribution, clean_env, preload, core_wheel, build_wheel, hub, tmp_path
):
    """In an environment with it and the core alone."""
    name = NAMES[distribution]
    env = preload(clean_env(core_wheel, build_wheel(EXAMPLES / distribution)))
    tests = str(EXAMPLES / distribution / "tests")
    done = env.run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("--rootdir", tests, "--confcutdir", tests, tests),
    )
    assert re.search(r"^\d+ passed", done.stdout.splitlines()[-1]), done.stdout
    check_that_it_learns(env, name, tmp_path)
    hub.add_user("you", "secret-token")
    environ = hub.env(tmp_path / "home", token="secret-token")
    run = f"local-dir:{tmp_path / 'run'}"
    env.run(*ZOO, "publish", run, "--to", f"you/{name}", "--tag", "v1", env=environ)
    use = f"import torch, zoo; model = zoo.load({{!r}}); {USE[name]}; print(made.double().sum())"
    local = env.run("-c", use.format(run))
    loaded = env.run("-c", use.format(f"hf-hub:you/{name}@v1"), env=environ)
    assert loaded.stdout == local.stdout


def check_that_it_learns(env, name, folder):
    """From 285 pictures, in ``folder / "run"``, in less than a minute; what was held out is guessed
    better than by what is best without looking."""
    images, labels = sample()
    parts = {"train_images": images, "train_labels": labels, "test_images": images[:10],
             "test_labels": labels[:10]}  # fmt: skip
    np.savez(folder / "mnist.npz", **parts)
    env.run(
        *ZOO, "train", name, "--data", "mnist", "--data-dir", str(folder), "--out",
        str(folder / "run"), "--device", "cpu", "--set", "batch_size=32", *HOW[name],
    )  # fmt: skip
    line = json.loads((folder / "run" / "log.jsonl").read_text().splitlines()[-1])
    images = images.astype("float64") / 255
    variance = images.var(0).mean()
    if name == "mae":  # the mean image
        assert line["val_mse"] < 0.6 * variance
    else:  # the mean of x1 - x0 without x: that of images in [-1, 1], and noise of variance 1
        assert line["val_velocity"] < 0.35 * (1 + 4 * variance)
