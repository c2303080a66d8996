"""The shipped weights reach what they are said to reach, measured again on the test parts.

Slow, and only where the data are: ZOO_DATA_DIR names the folder that has mnist.npz.
"""

import os
from pathlib import Path

import pytest

import zoo
from zoo.errors import DataError
from zoo.evaluation import evaluate

pytestmark = pytest.mark.slow

# Sum of squared errors per image, at most; PCA with 30 components has 13.87.
SSE = {"ae.mnist": 9.0, "deep_ae.mnist": 2.5}


def measured(name):
    dataset = zoo.info(name).weights[0].dataset
    try:
        result = evaluate(name, data=dataset, data_dir=Path(os.environ.get("ZOO_DATA_DIR", ".")))
    except DataError as error:
        pytest.skip(str(error))
    return {m["name"]: m["value"] for m in result["metrics"]}


@pytest.mark.parametrize("name", zoo.list_models(pretrained=True))
def test_figures_come_out_again(name):
    again = measured(name)
    recorded = {m.name: m.value for m in zoo.info(name).weights[0].metrics}
    for metric, value in again.items():
        assert value == pytest.approx(recorded[metric], rel=1e-3, abs=1e-3), metric
    if name in SSE:
        assert again["sse"] < SSE[name]
    if name == "dcgan.mnist":
        assert again["sse"] <= again["sse_of_mean_image"] / 3
        assert again["knn1"] >= 0.96
