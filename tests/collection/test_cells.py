"""Very many pictures: neighbours and what is like a picture, by cells; here of some hundreds."""

import numpy as np
import pytest

from zoo.collection import cells, derived, grouping, neighbours, opened
from zoo.collection.cells import Cells
from zoo.collection.derived import CELLS, GROUPS, groups_of, neighbours_of, regroup
from zoo.collection.finding import like, nearest
from zoo.collection.opened import Opened
from zoo.collection.store import COLUMNS, MEASURES, Manifest, Shard, Store

pytest.importorskip("faiss")

WIDTH = 24


@pytest.fixture(autouse=True)
def many(monkeypatch):
    """A hundred pictures are very many, and so few are scanned that it is seen."""
    for module in (derived, opened, neighbours):
        monkeypatch.setattr(module, "EXACT", 100)
    monkeypatch.setattr(neighbours, "BLOCK", 128)


def scanned(monkeypatch, count):
    for module in (cells, neighbours):
        monkeypatch.setattr(module, "SCANNED", count)
    monkeypatch.setattr(neighbours, "CELLS_SEARCHED", count)


def cloud(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, WIDTH)) * np.geomspace(4, 0.5, WIDTH)).astype(np.float32)


def grown(folder, features: np.ndarray, contents: list[int]) -> Store:
    """A collection with more pictures, whose contents are numbered."""
    if not Store.exists(folder):
        folder.mkdir()
        facts = {"name": "made-up", "sha256": None, "weights": None, "features": WIDTH}
        Store(folder, Manifest(facts, {}, ["/pictures"])).save()
    store, count = Store.open(folder), len(contents)
    start = len(store)
    columns = {name: [None] * count for name in COLUMNS}
    columns |= {
        "path": [f"{start + i:04}.png" for i in range(count)], "source": [0] * count,
        "hash": [f"{each:064x}" for each in contents], "bytes": [9] * count,
        "mtime": [0] * count, "width": [32] * count, "height": [32] * count,
        "removed": [False] * count, **dict.fromkeys(MEASURES, [0.5] * count),
    }  # fmt: skip
    store.append(Shard(columns, features, np.zeros((count, 32, 32, 3), np.uint8)))
    return store


def remove(store: Store, rows: list[int]) -> None:
    import pyarrow

    table = store.table(0)
    gone = [row in rows for row in range(len(table))]
    at = table.schema.get_field_index("removed")
    store.rewrite(0, table.set_column(at, "removed", pyarrow.array(gone)))


@pytest.fixture
def collection(tmp_path):
    """Four hundred pictures, the last forty of which are copies."""
    contents = [*range(360), *range(0, 80, 2)]
    grown(tmp_path / "many", cloud(360)[contents], contents)
    return tmp_path / "many"


def as_exact(store: Store) -> None:
    """What is kept is what comparing all pairs finds, as exactly as 16 bits are."""
    pictures = store.pictures()
    _, vectors, graph = neighbours_of(store, pictures)
    exact = neighbours.connect(vectors, pictures.hashes, exact=10**6)
    assert np.allclose(graph.similarities, exact.similarities, atol=2e-3)
    assert np.allclose(
        np.einsum("pd,pkd->pk", vectors, vectors[graph.indices]), graph.similarities, atol=2e-3
    )
    distinct = [len(set(row)) for row in graph.indices.tolist()]
    assert set(distinct) == {graph.indices.shape[1]}, "none twice"
    first = neighbours.first_of_each(pictures.hashes)
    assert np.isin(graph.indices, first).all(), "the first of each content"
    assert (graph.indices != first[:, None]).all(), "never itself"


def test_where_all_cells_are_scanned_the_graph_is_exact(collection, monkeypatch):
    scanned(monkeypatch, 10**6)
    as_exact(Store.open(collection))
    assert float(Cells.facts(collection / CELLS)["recall"]) == 1


def test_where_few_are_scanned_nearly_all_are_found(collection, monkeypatch):
    scanned(monkeypatch, 150)
    _, vectors, graph = neighbours_of(Store.open(collection))
    hashes = Store.open(collection).pictures().hashes
    exact = neighbours.connect(vectors, hashes, exact=10**6)
    found = [len({*a} & {*b}) / len(a) for a, b in zip(exact.indices, graph.indices, strict=True)]
    assert 0.7 < np.mean(found) < 1
    assert 0.7 < float(Cells.facts(collection / CELLS)["recall"]) <= 1


def test_an_update_is_exact_where_all_cells_are_scanned(collection, monkeypatch):
    scanned(monkeypatch, 10**6)
    neighbours_of(Store.open(collection))
    remove(Store.open(collection), [0, 3, 50, 51, 399])  # of 0 a copy is left
    monkeypatch.setattr(derived, "_recall", lambda made: 0.5)
    as_exact(grown(collection, cloud(45, 1), [*range(1000, 1045)]))
    assert float(Cells.facts(collection / CELLS)["recall"]) == 0.5, "measured again, of so many new"


def test_an_update_looks_only_around_what_changed(collection, monkeypatch):
    scanned(monkeypatch, 60)
    neighbours_of(Store.open(collection))
    asked = []
    real = Cells.nearest_among

    def counted(self, places, queries, number):
        asked.append(len(queries))
        assert len(places) < len(self.numbers)
        return real(self, places, queries, number)

    monkeypatch.setattr(Cells, "nearest_among", counted)
    monkeypatch.setattr(derived, "_recall", None)  # it is not measured again
    monkeypatch.setattr(Cells, "of", None)  # they are not made anew
    store = grown(collection, cloud(3, 1), [1000, 1001, 1002])
    _, vectors, graph = neighbours_of(store)
    assert asked == [1] * 6, "each twice: around it, and among the neighbours of its neighbours"
    for new in (400, 401, 402):
        near = graph.indices[new, 0]
        mutual = vectors[near] @ vectors[new] > graph.similarities[near, -1] + 1e-3
        assert not mutual or new in graph.indices[near], "who is near is told"
    assert any((graph.indices[:400] == new).any() for new in (400, 401, 402))


def test_groups_of_very_many_pictures_stay_and_new_ones_join_them(collection, monkeypatch):
    pytest.importorskip("sknetwork")
    monkeypatch.setattr(grouping, "LARGE", 100)
    first = regroup(collection)
    monkeypatch.setattr(grouping, "weights", None)  # of all pictures
    assert [x.labels.tolist() for x in regroup(collection)] == [x.labels.tolist() for x in first]
    remove(Store.open(collection), [0, 1])  # of 0 a copy is left
    store = grown(collection, cloud(5, 1), [1000, 1001, 1002, 3, 1002])
    again = regroup(collection)
    for was, now in zip(first, again, strict=True):
        assert (now.labels[:398] == was.labels[2:]).all()
        assert now.labels[401] == was.labels[3], "a copy"
        assert now.labels[400] == now.labels[402]
        assert (now.labels[398:] >= 0).all()
    assert groups_of(store, store.pictures())[1].labels.tolist() == again[1].labels.tolist()
    import pyarrow.parquet

    kept = pyarrow.parquet.read_table(collection / GROUPS)["hash"].to_pylist()
    assert f"{1:064x}" in kept, "which may come back"
    assert len(kept) == len(set(kept)) == 363


@pytest.mark.parametrize("damage", [b"", b"\x08\0\0\0\0\0\0\0nonsense", None])
def test_cells_that_are_damaged_are_made_again(collection, monkeypatch, damage):
    scanned(monkeypatch, 10**6)
    neighbours_of(Store.open(collection))
    path = collection / CELLS
    path.write_bytes(path.read_bytes()[:-1000] if damage is None else damage)
    assert derived.searched(Store.open(collection)) is None
    as_exact(grown(collection, cloud(2, 1), [1000, 1001]))
    assert derived.searched(Store.open(collection)) is not None


def test_what_is_like_a_picture_is_found_with_its_copies(collection, monkeypatch):
    scanned(monkeypatch, 10**6)
    made = Opened(collection)
    assert made.searched is not None
    for row in (1, 8, 362):
        found = like(made, [made.pictures.paths[row]], number=25)
        own = np.flatnonzero(made.first == made.first[row]).tolist()
        exact = nearest([made.vectors], made.vectors[row], 25, own)
        assert np.allclose(found.similarities, exact.similarities, atol=2e-3)
        assert not set(own) & set(found.pictures.tolist())
        assert len(set(found.pictures.tolist())) == 25
        assert np.allclose(made.vectors[found.pictures] @ made.vectors[row], found.similarities,
                           atol=2e-3)  # fmt: skip


def test_a_search_needs_neither_the_graph_nor_all_vectors(collection, monkeypatch):
    first = Opened(collection)
    assert first.searched is not None
    monkeypatch.setattr(opened, "compared", None)
    monkeypatch.setattr(opened, "vectors_of", None)
    again = Opened(collection)
    assert len(like(again, [again.pictures.paths[5]]).pictures) == 10
    assert again.naming.named.sum() == 0


@pytest.mark.parametrize("queries", [1, 8, 9])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_the_nearest_among_some_places(kind, queries):
    """Of few queries 16-bit vectors are compared as they are, of many as numbers of 32 bits."""
    rng = np.random.default_rng(0)
    vectors = cloud(300)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(kind)
    vectors[40] = vectors[7]
    made = Cells.of(vectors, np.arange(300))
    places = rng.permutation(300)[:50]
    places[:2] = [np.flatnonzero(made.numbers == each)[0] for each in (40, 7)]
    places = np.unique(places)
    asked = np.concatenate([made.at(places[made.numbers[places] == 7]), cloud(queries - 1, seed=1)])
    found, cosines = made.nearest_among(places, asked, 60)
    assert found.shape == cosines.shape == (queries, len(places))
    true = asked @ made.at(places).T
    np.testing.assert_allclose(cosines, -np.sort(-true, axis=1), rtol=1e-5, atol=1e-5)
    for row, near in enumerate(found):
        np.testing.assert_allclose(
            true[row, np.searchsorted(places, near)], cosines[row], rtol=1e-5, atol=1e-5
        )
    assert found[0, 0] < found[0, 1]  # which are as near
    assert set(made.numbers[found[0, :2]]) == {7, 40}
