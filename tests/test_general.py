"""The data set for encoders of any picture: photographs with labels, made pictures without."""

from pathlib import Path

import numpy as np
import pytest
import torch

import zoo.data.general
import zoo.data.procedural
from zoo.data import load_data
from zoo.data.general import GENERAL
from zoo.data.procedural import picture
from zoo.errors import DataError
from zoo.spec import Preprocessing

SMALL = Preprocessing(channels=3, height=32, width=32)
LARGE = Preprocessing(channels=3, height=48, width=48)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Five photographs to learn from and four to test with; six made pictures."""
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "cifar10.npz",
        **{
            f"{part}_{key}": value
            for part, n in (("train", 5), ("test", 4))
            for key, value in (
                ("images", rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)),
                ("labels", np.arange(n)),
            )
        },
    )
    monkeypatch.setattr(zoo.data.general, "PROCEDURAL_COUNTS", {"train": 6})
    monkeypatch.setattr(zoo.data.procedural, "COUNTS", {"train": 6, "test": 2})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_photographs_come_in_the_models_size_and_made_pictures_have_no_label(few: Path) -> None:
    data = load_data(GENERAL, "train", LARGE, data_dir=few)
    assert data.images.shape == (11, 3, 48, 48)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3, 4, *[-1] * 6]
    assert np.array_equal(data.images[7].numpy(), picture("train", 2, 3, 48, 48))
    small = load_data("cifar10", "train", SMALL, data_dir=few)
    as_is = load_data(GENERAL, "train", SMALL, data_dir=few)
    assert torch.equal(as_is.images[:5], small.images)
    again = torch.nn.functional.avg_pool2d(data.images[:5].float(), 3)
    pooled = torch.nn.functional.adaptive_avg_pool2d(small.images.float(), 16)
    assert (again - pooled).abs().mean() < 8


def test_the_test_part_has_photographs_alone(few: Path) -> None:
    data = load_data(GENERAL, "test", LARGE, data_dir=few)
    assert data.labels is not None
    assert (len(data), data.labels.tolist()) == (4, [0, 1, 2, 3])


def test_grey_models_are_told(few: Path) -> None:
    with pytest.raises(DataError, match="channels=3"):
        load_data(GENERAL, "train", Preprocessing(channels=1, height=28, width=28), data_dir=few)
