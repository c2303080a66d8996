"""Data sets of very few images: measured, left out with a reason, or refused."""

import math

import numpy as np
import pytest

import zoo
from zoo.errors import DataError

RNG = np.random.default_rng(0)
PROTOCOLS = ["reconstruction", "repair", "probe", "knn", "kmeans", "distances"]


def images(n):
    return RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("name", ["ae.mnist", "dcgan.mnist"])
def test_one_or_two_are_refused(tmp_path, n, name):
    np.savez(tmp_path / "few.npz", images=images(n), labels=np.arange(n))
    with pytest.raises(DataError, match=f"too small to measure on: {n} images to learn from and 0"):
        zoo.evaluate(name, data=tmp_path / "few.npz")


@pytest.mark.parametrize("parts", [(1, 1), (1, 5)])
def test_parts_of_too_few_are_refused(tmp_path, parts):
    train, test = map(images, parts)
    np.savez(tmp_path / "few.npz", train_images=train, test_images=test)
    with pytest.raises(DataError, match=f"1 images to learn from and {parts[1]} to test with"):
        zoo.evaluate("ae.mnist", data=tmp_path / "few.npz")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [3, 4, 8])
def test_a_few_more_are_measured(tmp_path, n):
    np.savez(tmp_path / "few.npz", images=images(n), labels=np.arange(n) % 2)
    result = zoo.evaluate("ae.mnist", data=tmp_path / "few.npz", protocols=PROTOCOLS)
    assert {m["name"] for m in result["metrics"]} >= {"sse", "mse", "psnr"}
    assert all(math.isfinite(m["value"]) for m in result["metrics"])


def test_neighbours_that_are_not_there(tmp_path):
    np.savez(tmp_path / "few.npz", images=images(20), labels=np.arange(20) % 2)
    result = zoo.evaluate(
        "ae.mnist", data=tmp_path / "few.npz", protocols=["reconstruction", "n2d"]
    )
    (out,) = result["left_out"]
    assert (out["protocol"], "more than 20 images" in out["reason"]) == ("n2d", True)
