"""The evaluator gives the figures that are known, and the shipped weights give theirs again.

Slow, and only where the data are: ZOO_DATA_DIR names the folder that has mnist.npz.
"""

import os
from functools import cache
from pathlib import Path

import pytest

import zoo
from zoo.data import load_data
from zoo.errors import DataError
from zoo.evaluation import anomaly, evaluate, verify
from zoo.spec import Preprocessing

pytestmark = pytest.mark.slow

SETS = ("mnist", "fashion_mnist")

# Measured with numpy and scikit-learn; the first is also the "standard PCA" of Hinton &
# Salakhutdinov 2006. Raw pixels, the canonical parts.
PCA_30_SSE = {"mnist": 13.87, "fashion_mnist": 12.24}
PCA_64_PROBE = {"mnist": 0.917, "fashion_mnist": 0.832}
PIXELS_KNN1 = {"mnist": 0.9691, "fashion_mnist": 0.8497}
PCA_30_AUROC = {"mnist": 0.957, "fashion_mnist": 0.905}

# Sum of squared errors per image, at most.
SSE = {"ae.mnist": 9.0, "deep_ae.mnist": 2.5}


def needs_data(measure, *arguments, **options):
    """What ``measure`` gives; skips where a data set is not to be had."""
    where = Path(os.environ.get("ZOO_DATA_DIR", "."))
    try:
        return measure(*arguments, data_dir=where, **options)
    except DataError as error:
        pytest.skip(str(error))


@cache
def of_pca(dataset):
    result = needs_data(evaluate, f"pca.{dataset}", protocols=["reconstruction", "probe", "knn"])
    return {m["name"]: m for m in result["metrics"]}


@pytest.mark.parametrize("dataset", SETS)
def test_known_reconstruction_error(dataset):
    sse = of_pca(dataset)["sse"]
    assert sse["floors"]["pca_unclamped"] == pytest.approx(PCA_30_SSE[dataset], abs=0.1)
    # The model saw a twentieth less of the training images than its floor, and is clamped.
    assert sse["value"] == pytest.approx(sse["floors"]["pca"], rel=1e-3)
    assert sse["value"] < sse["floors"]["pca_unclamped"]


@pytest.mark.parametrize("dataset", SETS)
def test_the_pca_model_unclamped_is_standard_pca(dataset):
    """The same buffers without the clamp, so that what is shipped gives the figure too."""
    model = zoo.load(f"pca.{dataset}")
    test = needs_data(load_data, dataset, "test", model.preprocessing)
    total = 0.0
    for images in test.batches():
        rebuilt = model.encode(images) @ model.components + model.mean
        total += float((rebuilt - images.flatten(1)).double().square().sum())
    assert total / len(test) == pytest.approx(PCA_30_SSE[dataset], abs=0.1)


@pytest.mark.parametrize("dataset", SETS)
def test_known_probe(dataset):
    floors = of_pca(dataset)["probe"]["floors"]
    assert floors["pca"] == pytest.approx(PCA_64_PROBE[dataset], abs=0.005)


@pytest.mark.parametrize("dataset", SETS)
def test_known_neighbours(dataset):
    floors = of_pca(dataset)["knn1"]["floors"]
    assert floors["pixels"] == pytest.approx(PIXELS_KNN1[dataset], abs=0.0005)


@pytest.mark.parametrize("dataset", SETS)
def test_known_anomalies(dataset):
    shape = Preprocessing(channels=1, height=28, width=28)
    train, test = (needs_data(load_data, dataset, s, shape) for s in ("train", "test"))
    pixels, queries = (data.images.flatten(1).float() / 255 for data in (train, test))
    areas = [
        anomaly.auroc(anomaly.pca_error(pixels[train.labels == c], queries), test.labels != c)
        for c in range(10)
    ]
    assert sum(areas) / 10 == pytest.approx(PCA_30_AUROC[dataset], abs=0.005)


@pytest.mark.parametrize("name", zoo.list_models(pretrained=True))
def test_figures_come_out_again(name):
    """Those without chance; a deviation raises, and names each figure."""
    gives = {"reconstruction": "sse", "knn": "knn1"}
    recorded = {m.name for m in zoo.info(name).weights[0].metrics}
    protocols = [protocol for protocol, metric in gives.items() if metric in recorded]
    rows = needs_data(verify, name, protocols=protocols)
    again = {row["name"]: row["measured"] for row in rows}
    assert again.keys() >= {gives[protocol] for protocol in protocols} != set()
    if name in SSE:
        assert again["sse"] < SSE[name]
    if name == "dcgan.mnist":
        mean = 52.897  # the squared error of the mean training image
        assert again["sse"] <= mean / 3
        assert again["knn1"] >= 0.96
