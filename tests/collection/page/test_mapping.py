"""The map: pictures that are alike lie together, those of the sample and the others."""

import numpy as np
import pytest

from zoo.collection.page import mapping
from zoo.collection.page.mapping import LEAST, _beside, _nearest, places


def kinds(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of four kinds, and the kind of each."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    vectors = np.eye(4, 16)[labels] + 0.1 * rng.normal(size=(count, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def test_others_lie_beside_those_they_are_like():
    vectors, labels = kinds(200)
    corners = np.array([(0.1, 0.1), (0.9, 0.1), (0.1, 0.9), (0.9, 0.9)])
    more, their = kinds(50, seed=1)
    rng = np.random.default_rng(0)
    found = _beside(_nearest(vectors, len(more))(more), corners[labels], rng)
    assert np.abs(found - corners[their]).max() < 0.05


def test_of_very_many_the_nearest_are_found_nearly_always(monkeypatch: pytest.MonkeyPatch):
    vectors, more = kinds(2000)[0], kinds(500, seed=1)[0]
    true, cosines = _nearest(vectors, len(more))(more)
    monkeypatch.setattr(mapping, "EXACT", 499)
    found, theirs = _nearest(vectors, len(more))(more)
    assert found.shape == true.shape
    assert found.min() >= 0
    assert (found[:, 0] == true[:, 0]).mean() > 0.8
    assert (found != true).any(), "or all were compared"
    assert np.abs(cosines - theirs).max() < 0.1


def test_so_few_have_no_map():
    assert places(kinds(LEAST - 1)[0]) is None


@pytest.mark.slow
@pytest.mark.parametrize("sample", [300, 150])
def test_what_is_alike_lies_together(sample: int):
    vectors, labels = kinds(300)
    found = places(vectors, sample=sample)
    assert found is not None
    assert found.shape == (300, 2)
    assert 0 <= found.min() <= found.max() <= 1
    distances = np.linalg.norm(found[:, None] - found, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).mean() > 0.97
    assert (places(vectors, sample=sample) == found).all()


@pytest.mark.slow
def test_few_and_equal_pictures_have_places():
    assert places(kinds(LEAST)[0]) is not None
    found = places(np.tile(np.eye(1, 8, dtype=np.float32), (40, 1)))
    assert np.isfinite(found).all()
