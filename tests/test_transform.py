"""``model.transform``: one picture at a time, for data sets and their worker processes."""

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.errors import InputError
from zoo.sample import sample
from zoo.spec import Preprocessing
from zoo.transform import Transform


@pytest.fixture(scope="module")
def model():
    return zoo.load("ae.fashion_mnist")


@pytest.fixture
def folder(tmp_path):
    """Two folders of pictures of clothes, larger than the model's and in colour."""
    for i, pixels in enumerate(sample()[0][:20]):
        path = tmp_path / ("even", "odd")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).convert("RGB").resize((40, 56)).save(path)
    return tmp_path


def test_as_preprocess(model, folder):
    path = folder / "even" / "00.png"
    with Image.open(path) as picture:
        for one in (path, str(path), picture, np.asarray(picture)):
            image = model.transform(one)
            assert image.shape == (1, 28, 28)
            assert image.dtype == torch.float32
            assert torch.equal(image, model.preprocess(one)[0])
    with pytest.raises(InputError, match="expected one picture, got 2"):
        model.transform([path, path])


def test_it_is_light(model):
    """It can be sent to a process of another kind, and does not take the weights along."""
    data = pickle.dumps(model.transform)
    assert len(data) < 1000
    assert pickle.loads(data) == model.transform == Transform(model.preprocessing)  # noqa: S301
    other = Transform(Preprocessing(channels=3, height=8, width=8))
    assert other != model.transform
    buffer = io.BytesIO()
    torch.save(model.transform, buffer)


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_data_set_and_worker_processes(model, folder, context):
    datasets = pytest.importorskip("torchvision.datasets")
    dataset = datasets.ImageFolder(str(folder), transform=model.transform)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=8, num_workers=2, multiprocessing_context=context
    )
    batches = list(loader)
    assert [len(images) for images, _ in batches] == [8, 8, 4]
    images = torch.cat([images for images, _ in batches])
    assert torch.equal(images, model.preprocess([path for path, _ in dataset.samples]))
    assert model.features(images).shape == (20, 32)
