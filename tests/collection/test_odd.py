"""The odd ones: far from all, or in the wrong group."""

import numpy as np
import pytest

from zoo.collection import odd
from zoo.collection.neighbours import build

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def pictures():
    """Three groups of 40, and one far from all; features and labels."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 12))
    labels = np.append(np.repeat(np.arange(3), 40), 0)
    features = centres[labels] + 0.2 * rng.normal(size=(121, 12))
    features[-1] = -2 * centres[0]
    return features.astype(np.float32), labels


def test_the_strangest_is_the_one_that_is_far_from_all(pictures):
    features, _ = pictures
    projection, _, graph = build(features)
    plain = projection.uncentred(features)
    found = odd.scores(graph, plain)
    assert found.scores.argmax() == 120
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = np.sort(unit @ unit[0])[::-1]
    assert found.scores[0] == pytest.approx(1 - cosines[1:4].mean(), abs=1e-5)
    nearest = np.argsort(-(unit @ unit[0]), kind="stable")[1:4]
    assert found.reasons[0].tolist() == nearest.tolist()


def test_what_is_in_the_wrong_group_is_found(pictures):
    features, labels = pictures[0][:120], pictures[1][:120].copy()
    labels[[3, 50]] = 2
    _, vectors, graph = build(features)
    found = odd.misfits(graph, labels, vectors)
    assert set(np.argsort(-found.scores)[:2]) == {3, 50}
    assert (found.scores[[3, 50]] > 0).all()
    assert np.sort(found.scores)[-3] < 0
    assert set(labels[found.reasons[3]]) == {0}, "the pictures that it is like"


def test_of_many_pictures_six_that_are_odd_in_the_same_way_are_found():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(1600, 6)) + 4, rng.normal(size=(6, 6)) / 20 - 1])
    projection, _, graph = build(features.astype(np.float32))
    found = odd.scores(graph, projection.uncentred(features))
    assert set(np.argsort(-found.scores)[:6]) == set(range(1600, 1606))


def test_groups_are_held_against_each_other_without_what_they_have_in_common(pictures):
    features, labels = pictures[0][:120] + 0.5, pictures[1][:120]
    _, vectors, graph = build(features, k=119)
    rest = vectors - vectors.mean(0)
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    cosines = rest @ rest[7]
    cosines[7] = -2
    own, other = (
        np.sort(cosines[chosen])[::-1][:3].mean() for chosen in (labels == 0, labels != 0)
    )
    found = odd.misfits(graph, labels, vectors).scores[7]
    assert found == pytest.approx(other - own, abs=1e-5)


def test_a_short_list_of_neighbours_gives_the_score_of_all_pairs(pictures):
    features, labels = pictures[0][:120], pictures[1][:120].copy()
    labels[[3, 50]] = 2
    _, vectors, graph = build(features, k=119)
    few = build(features, k=10)[2]
    every = odd.misfits(graph, labels, vectors).scores
    assert np.allclose(odd.misfits(few, labels, vectors).scores[[3, 50]], every[[3, 50]], atol=1e-5)


def test_what_is_in_no_group_is_no_misfit(pictures):
    features, labels = pictures
    _, vectors, graph = build(features)
    found = odd.misfits(graph, np.append(labels[:-1], -1), vectors)
    assert found.scores[-1] == found.scores.min()


def test_a_picture_alone_in_its_group_is_a_misfit(pictures):
    features, labels = pictures[0][:120], pictures[1][:120].copy()
    labels[7] = 9
    _, vectors, graph = build(features)
    assert odd.misfits(graph, labels, vectors).scores.argmax() == 7


@pytest.mark.parametrize("count", range(3))
def test_a_handful_of_pictures_has_scores(pictures, count):
    _, vectors, graph = build(pictures[0][:count])
    assert odd.scores(graph, vectors).scores.shape == (count,)
    assert odd.misfits(graph, np.zeros(count, int), vectors).scores.shape == (count,)
