"""Pictures made by procedure: the same by index, of every size, different from each other."""

from pathlib import Path

import numpy as np
import pytest
import torch

import zoo.data.procedural
from zoo.data import load_data
from zoo.data.any_size import is_any_size
from zoo.data.procedural import KINDS, PROCEDURAL, kind_of, picture
from zoo.evaluation.parts import learnt_from
from zoo.spec import Preprocessing

COLOUR = Preprocessing(channels=3, height=16, width=24)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Twelve pictures a part, in a folder where nothing is called procedural."""
    monkeypatch.setattr(zoo.data.procedural, "COUNTS", {"train": 12, "test": 8})
    monkeypatch.chdir(tmp_path)


def indices(kind: int, count: int) -> list[int]:
    """The first pictures of a kind."""
    return [index for index in range(8 * count) if kind_of(index) == kind][:count]


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_a_picture_depends_on_its_part_and_index_alone(kind: int) -> None:
    index, other = indices(kind, 2)
    first = picture("train", index, 3, 32, 32)
    state = np.random.get_state()[1].tolist()
    assert np.array_equal(first, picture("train", index, 3, 32, 32))
    assert np.random.get_state()[1].tolist() == state
    assert not np.array_equal(first, picture("test", index, 3, 32, 32))
    assert not np.array_equal(first, picture("train", other, 3, 32, 32))


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_pictures_of_every_kind_show_something_in_colour(kind: int) -> None:
    """Not blank, not saturated and not grey, though the ground of drawings mostly is."""
    ground, colour = (0.8, 5) if list(KINDS)[kind] == "drawing" else (0.5, 10)
    many = [picture("train", i, 3, 32, 32).astype(float) for i in indices(kind, 25)]
    assert np.median([image.std((1, 2)).mean() for image in many]) > 10
    assert np.mean([(image % 255 == 0).mean() for image in many]) < ground
    assert np.median([image.std(0).mean() for image in many]) > colour


@pytest.mark.usefixtures("few")
def test_a_data_set_by_name() -> None:
    data = load_data(PROCEDURAL, "train", COLOUR)
    assert (data.name, len(data), data.images.shape[1:]) == (PROCEDURAL, 12, (3, 16, 24))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 4, 1, 4, 2, 4, 3, 4, 0, 4, 1, 4]
    assert data.classes == tuple(KINDS)
    assert data.licence.startswith("CC0")
    assert isinstance(data.images, torch.Tensor)
    assert np.array_equal(data.images[5].numpy(), picture("train", 5, 3, 16, 24))
    grey = load_data(PROCEDURAL, "test", Preprocessing(channels=1, height=8, width=8))
    assert grey.images.shape == (8, 1, 8, 8)


@pytest.mark.usefixtures("few")
def test_parts_are_kept_in_a_file_where_memory_is_short(tmp_path: Path) -> None:
    data = load_data(PROCEDURAL, "train", COLOUR, memory=0, cache=tmp_path / "cache")
    assert torch.equal(data.images[:], load_data(PROCEDURAL, "train", COLOUR).images[:])


@pytest.mark.usefixtures("few")
def test_a_folder_of_that_name_comes_first(tmp_path: Path) -> None:
    assert is_any_size(PROCEDURAL)
    assert learnt_from("x", tmp_path, PROCEDURAL) == PROCEDURAL
    (tmp_path / PROCEDURAL).mkdir()
    assert not is_any_size(PROCEDURAL)
