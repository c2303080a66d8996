"""The neighbours of each picture: exact where that can be had, in cells where they are many."""

import tracemalloc
import warnings

import numpy as np
import pytest

from zoo.collection import neighbours
from zoo.collection.neighbours import Projection

pytest.importorskip("faiss")


def cloud(count: int, width: int = 24, seed: int = 0) -> np.ndarray:
    """Features with a few directions that matter."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, width)) * np.geomspace(4, 0.1, width)).astype(np.float32)


def names(numbers) -> list[str]:
    return [f"hash{number}" for number in numbers]


def by_definition(vectors: np.ndarray, k: int) -> np.ndarray:
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    return np.argsort(-cosines, axis=1)[:, :k]


def test_the_nearest_are_those_of_the_definition():
    _, vectors, graph = neighbours.build(cloud(300), k=7)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (graph.indices == by_definition(vectors, 7)).all()
    assert np.allclose(
        graph.similarities, np.einsum("pd,pkd->pk", vectors, vectors[graph.indices]), atol=1e-5
    )
    assert (graph.indices.dtype, graph.similarities.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("width", [3, 60, 400])
def test_the_projection_keeps_the_directions_that_matter_around_half_of_the_mean(width):
    features = cloud(500, width) + 5
    features[0] = -1  # so that no roots are taken
    projection = Projection.fit(features, 12)
    kept = projection.components
    _, _, axes = np.linalg.svd(features - features.mean(0) / 2, full_matrices=False)
    assert kept.shape == (width, min(12, width))
    assert np.allclose(projection.mean, features.mean(0) / 2, atol=1e-4)
    assert np.allclose(np.abs(np.sum(kept * axes[: kept.shape[1]].T, 0)), 1, atol=1e-3)


def test_of_few_pictures_with_many_features_nothing_of_features_squared_is_made(monkeypatch):
    """And the components are those that the features' second moments give."""
    features = cloud(90, 700) + 0.1
    few = Projection.fit(features, 12)
    monkeypatch.setattr(neighbours, "_of_few", neighbours._of_many)
    assert np.allclose(few.components, Projection.fit(features, 12).components, atol=1e-5)
    monkeypatch.undo()
    wide = np.random.default_rng(0).normal(size=(30, 20_000)).astype(np.float32)
    tracemalloc.start()
    assert Projection.fit(wide).components.shape == (20_000, 30)
    assert tracemalloc.get_traced_memory()[1] < 10 * wide.nbytes  # and not 1300 times
    tracemalloc.stop()


def test_directions_in_which_no_picture_differs_are_left_out():
    features = np.repeat(cloud(5, 60), 4, 0)
    assert Projection.fit(features).components.shape == (60, 5)
    assert Projection.fit(np.zeros((3, 60), np.float32)).components.shape == (60, 3)


def test_of_features_that_are_never_negative_roots_are_taken():
    features = np.abs(cloud(100))
    projection = Projection.fit(features)
    assert projection.roots
    assert not Projection.fit(-features).roots
    rooted = np.sqrt(features) - np.sqrt(features).mean(0) / 2
    expected = rooted / np.linalg.norm(rooted, axis=1, keepdims=True)
    vectors = projection.apply(features)
    assert np.allclose(vectors @ vectors.T, expected @ expected.T, atol=1e-4)
    assert np.isfinite(projection.apply(features - 1)).all(), "of others, which may be negative"


def test_pictures_that_come_later_are_projected_as_those_before():
    features = cloud(200)
    projection, vectors, _ = neighbours.build(features)
    assert np.allclose(projection.apply(features[50:60]), vectors[50:60], atol=1e-6)
    blocks = [features[:3], features[3:]]
    assert np.allclose(neighbours.project(projection, blocks), vectors, atol=1e-6)


@pytest.mark.parametrize("count", range(4))
def test_few_pictures_have_few_neighbours(count):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, vectors, graph = neighbours.build(cloud(count))
    assert graph.indices.shape == (count, max(count - 1, 0))
    assert len(vectors) == count


def test_pictures_that_are_all_alike_have_neighbours_without_a_number_that_is_none():
    _, vectors, graph = neighbours.build(np.ones((5, 40), np.float32))
    assert np.isfinite(vectors).all()
    assert np.isfinite(graph.similarities).all()
    assert all(row not in graph.indices[row] for row in range(5))


def test_copies_are_one_picture():
    of = [0, 1, 2, 1, 3, 4, 1, 0]
    _, _, graph = neighbours.build(cloud(5)[of], names(of), k=9)
    assert graph.indices.shape == (8, 4), "five contents, each with the four others"
    assert set(graph.indices.ravel()) == {0, 1, 2, 4, 5}, "the first of each content"
    assert (graph.indices[[3, 6]] == graph.indices[1]).all()
    assert all(of[row] not in [of[i] for i in graph.indices[row]] for row in range(8))


def test_cells_find_nearly_all_that_comparing_all_pairs_finds():
    _, vectors, exact = neighbours.build(cloud(3000), k=10)
    cells = neighbours.connect(vectors, k=10, exact=1000)
    found = [len(set(a) & set(b)) for a, b in zip(exact.indices, cells.indices, strict=True)]
    assert np.mean(found) > 9.5
    assert all(row not in cells.indices[row] for row in range(3000))


def test_a_cell_of_too_few_is_made_up_for():
    far = np.eye(24, dtype=np.float32)
    vectors = np.concatenate([np.repeat(far[:1], 400, 0), far])
    graph = neighbours.connect(vectors, k=30, exact=100)
    assert (graph.indices >= 0).all()


@pytest.mark.parametrize(("removed", "added"), [(3, 5), (0, 20), (4, 0), (0, 0), (150, 90)])
def test_an_extended_graph_is_the_one_that_is_built_anew(removed, added):
    rng = np.random.default_rng(1)
    _, vectors, _ = neighbours.build(cloud(400))
    before = rng.permutation(300)
    after = rng.permutation(np.concatenate([before[removed:], np.arange(300, 300 + added)]))
    after = np.concatenate([after, after[:7]])  # and copies
    old = neighbours.connect(vectors[before], names(before), k=9)
    new = neighbours.connect(vectors[after], names(after), k=9)
    extended = neighbours.extend(old, names(before), vectors[after], names(after), k=9)
    assert (extended.indices == new.indices).all()
    assert np.allclose(extended.similarities, new.similarities, atol=1e-6)


def test_an_extension_compares_only_what_changed(monkeypatch):
    compared = []
    real = neighbours._all_pairs

    def counted(points, queries, k):
        compared.append(len(points) * len(queries))
        return real(points, queries, k)

    vectors = neighbours.build(cloud(1000))[1]
    hashes = names(range(1000))
    old = neighbours.connect(vectors[:990], hashes[:990])
    monkeypatch.setattr(neighbours, "_all_pairs", counted)
    neighbours.extend(old, hashes[:990], vectors, hashes)
    assert sum(compared) == 2 * 10 * 1000 - 10 * 10, (
        "the new against all, the others against the new"
    )


def test_a_search_gives_the_nearest_of_any_vectors():
    _, vectors, _ = neighbours.build(cloud(100))
    positions, cosines = neighbours.search(vectors, vectors[[5, 70]], 3)
    assert positions[:, 0].tolist() == [5, 70]
    assert np.allclose(cosines[:, 0], 1, atol=1e-5)
    assert neighbours.search(vectors, vectors[:1], 500)[0].shape == (1, 100)
