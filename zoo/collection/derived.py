"""What is computed of a collection's features and kept in its folder: neighbours, and groups.

::

    neighbours.npz    how features are projected, and the graph of the pictures that were there
    cells.safetensors of more than 50,000 pictures: the vectors, those that are near in one place
    groups.parquet    a row a content: its hash, and its group and how sure it is in each layer;
                      and how the groups were found

Neighbours may be lost: they are computed again when they are missing, damaged, or of other
pictures; of few other pictures, at the cost of those. Groups are what ``zoo group`` found last.
"""

import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.collection import grouping
from zoo.collection.cells import Cells
from zoo.collection.grouping import FEW, LAYERS, Layer
from zoo.collection.neighbours import (
    BLOCK,
    EXACT,
    Graph,
    Projection,
    connect,
    distinct_of,
    extend,
    extend_in_cells,
    first_of_each,
    moved,
    sampled,
    search,
)
from zoo.collection.store import Contents, Pictures, Store, released
from zoo.errors import CollectionError, ZooError
from zoo.files import path_text, replacing
from zoo.optional import optional

__all__ = [
    "CELLS", "GROUPS", "NEIGHBOURS", "Neighbours", "Searched", "compared", "groups_of",
    "neighbours_of", "regroup", "searched", "uncentred", "vectors_of",
]  # fmt: skip

NEIGHBOURS = "neighbours.npz"
CELLS = "cells.safetensors"
GROUPS = "groups.parquet"
MADE_BY = b"zoo"
"""The key of what the file of groups says of how they were found."""
ADDED = 0.25
"""The share of pictures that are put into the groups of the others; with more, all are grouped."""
MEASURED = 0.1
"""The share of pictures that may come or go until it is measured again what a search finds."""
SEED = 0


class Neighbours(NamedTuple):
    """How the pictures that are there are compared, and which are near to which."""

    projection: Projection
    vectors: np.ndarray
    """P x d float32, of unit length."""
    graph: Graph


class _Kept(NamedTuple):
    """What the file of neighbours has."""

    projection: Projection
    graph: Graph
    rows: np.ndarray
    fingerprint: str
    model: str


def neighbours_of(store: Store, pictures: Pictures | None = None) -> Neighbours:
    """The neighbours of a collection's pictures: those that are kept, or computed and then kept.

    Where nothing can be written, or another command is writing, they are not kept.

    Args:
        store: of the collection.
        pictures: what ``store.pictures()`` gives, by who has it.
    """
    pictures = store.pictures() if pictures is None else pictures
    projection, graph = compared(store, pictures)
    return Neighbours(projection, vectors_of(store, projection, pictures), graph)


def compared(store: Store, pictures: Contents) -> tuple[Projection, Graph]:
    """As :func:`neighbours_of`, without the vectors, which may be much."""
    fingerprint = store.fingerprint()
    kept = _read(store)
    if kept is not None and kept.fingerprint == fingerprint and len(kept.rows) == len(pictures):
        return kept.projection, kept.graph
    made = _computed(store, pictures, kept)
    _keep(store, made, pictures.rows, fingerprint)
    return made.projection, made.graph


class _Made(NamedTuple):
    """What was computed."""

    projection: Projection
    graph: Graph
    cells: Cells | None = None


def _computed(store: Store, pictures: Contents, kept: _Kept | None) -> _Made:
    """Neighbours anew; or, when most of the pictures were there before, what is new of them."""
    if kept is not None and 2 * np.isin(pictures.rows, kept.rows).sum() < len(pictures):
        kept = None
    projection = _fitted(store, pictures) if kept is None else kept.projection
    first = first_of_each(pictures.hashes)
    if len(distinct_of(first)) > EXACT:
        return _in_cells(store, pictures, first, projection, kept)
    vectors = vectors_of(store, projection, pictures)
    if kept is None:
        return _Made(projection, connect(vectors, pictures.hashes, seed=SEED))
    hashes = store.tables(("hash",))["hash"].to_pylist()
    before = [hashes[row] for row in kept.rows]
    return _Made(projection, extend(kept.graph, before, vectors, pictures.hashes, seed=SEED))


def _fitted(store: Store, pictures: Contents) -> Projection:
    return Projection.fit(store.features(pictures.rows[sampled(len(pictures), SEED)]))


def _in_cells(
    store: Store, pictures: Contents, first: np.ndarray, projection: Projection, kept: _Kept | None
) -> _Made:
    """The neighbours of very many pictures: of those that are new, and of whom they are near to."""
    rows, distinct = pictures.rows, distinct_of(first)
    cells = _cells_of(store, rows[distinct], projection)
    nothing = np.empty((0, 0), np.int32)
    graph, before = (Graph(nothing, nothing), rows[:0]) if kept is None else (kept.graph, kept.rows)
    by_position = cells.numbered(np.searchsorted(rows, cells.numbers))
    graph = extend_in_cells(moved(graph, before, rows, distinct), by_position, first)
    return _Made(projection, graph, cells)


def _cells_of(store: Store, rows: np.ndarray, projection: Projection) -> Cells:
    """The vectors of rows by cells: of those that are kept, and what is new."""
    kept = Cells.open(store.folder / CELLS, _facts(store, projection))
    if kept is None or Cells.fitting(len(rows)) > 2 * len(kept.centres):
        return Cells.of(_halves(store, rows, projection), rows, SEED)
    kept = kept.kept(np.isin(kept.numbers, rows))
    new = rows[~np.isin(rows, kept.numbers)]
    return kept.with_more(_halves(store, new, projection), new)


def _halves(store: Store, rows: np.ndarray, projection: Projection) -> np.ndarray:
    """The vectors of rows, n x d float16."""
    found = np.empty((len(rows), projection.components.shape[1]), np.float16)
    for begin in range(0, len(rows), BLOCK):
        part = slice(begin, begin + BLOCK)
        found[part] = projection.apply(store.features(rows[part]))
    return found


def _facts(store: Store, projection: Projection) -> dict[str, str]:
    """What vectors in a file have to be of."""
    digest = hashlib.sha256(projection.mean.tobytes() + projection.components.tobytes())
    return {"model": _model(store), "projection": digest.hexdigest()}


class Searched(NamedTuple):
    """What very many pictures are searched by."""

    projection: Projection
    cells: Cells
    """Numbered by row."""
    recall: float
    """The share of the nearest pictures that a search finds, as it was measured."""


def searched(store: Store) -> Searched | None:
    """What is kept to search very many pictures by; None if it is not of those of now."""
    try:
        with np.load(store.folder / NEIGHBOURS, allow_pickle=False) as file:
            projection = Projection(file["mean"], file["components"], bool(file["roots"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    facts = {**_facts(store, projection), "fingerprint": store.fingerprint()}
    cells = Cells.open(store.folder / CELLS, facts)
    if cells is None:
        return None
    return Searched(projection, cells, float(Cells.facts(store.folder / CELLS)["recall"]))


def _measured(path: Path, cells: Cells, facts: Mapping[str, str]) -> dict[str, str]:
    """What share a search finds, and of how many pictures that was measured: anew only of more."""
    count = len(cells.numbers)
    if Cells.open(path, {key: facts[key] for key in ("model", "projection")}) is not None:
        before = Cells.facts(path)
        if abs(count - int(before["measured_of"])) <= MEASURED * count:
            return {key: before[key] for key in ("recall", "measured_of")}
    return {"recall": f"{_recall(cells):.4f}", "measured_of": str(count)}


def _recall(cells: Cells, number: int = 10, queries: int = 100) -> float:
    """The share of the ``number`` nearest, of some of the vectors, that a search finds."""
    rng = np.random.default_rng(SEED)
    asked = cells.at(rng.choice(len(cells.numbers), queries, replace=False))
    best = np.full((queries, number), -np.inf, np.float32)
    for begin in range(0, len(cells.numbers), 16 * BLOCK):
        points = np.ascontiguousarray(cells.vectors[begin : begin + 16 * BLOCK], np.float32)
        best = -np.sort(-np.concatenate([best, search(points, asked, number)[1]], 1))[:, :number]
    found = np.stack([cells.search(each, number)[1] for each in asked])
    return float((found >= best[:, -1:] - 1e-6).mean())


def vectors_of(store: Store, projection: Projection, pictures: Contents) -> np.ndarray:
    """The pictures as the unit vectors that are compared, P x d float32."""
    return _by_blocks(store, pictures, projection.apply)


def uncentred(store: Store, projection: Projection, pictures: Pictures) -> np.ndarray:
    """The pictures as unit vectors from which no mean was taken away, P x d float32."""
    return _by_blocks(store, pictures, projection.uncentred)


def _by_blocks(
    store: Store, pictures: Contents, vectors: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    rows = pictures.rows
    found: np.ndarray | None = None
    for begin in range(0, max(len(rows), 1), BLOCK):
        block = vectors(store.features(rows[begin : begin + BLOCK]))
        found = np.empty((len(rows), block.shape[1]), np.float32) if found is None else found
        found[begin : begin + BLOCK] = block
    assert found is not None
    return found


def _model(store: Store) -> str:
    return json.dumps(store.manifest.model, sort_keys=True)


def _read(store: Store) -> _Kept | None:
    """What is kept, if it is whole and of the collection's model."""
    try:
        with np.load(store.folder / NEIGHBOURS, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        kept = _Kept(
            Projection(found["mean"], found["components"], bool(found["roots"])),
            Graph(found["indices"], found["similarities"]),
            found["rows"],
            str(found["fingerprint"]),
            str(found["model"]),
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return kept if kept.model == _model(store) and _is_whole(kept, store) else None


def _is_whole(kept: _Kept, store: Store) -> bool:
    """Whether all arrays fit to each other and to the collection."""
    graph, projection, count = kept.graph, kept.projection, len(kept.rows)
    indices = graph.indices
    return (
        projection.mean.shape == (store.width,)
        and projection.components.ndim == 2
        and len(projection.components) == store.width
        and indices.ndim == 2
        and indices.shape == graph.similarities.shape
        and len(indices) == count
        and (indices.size == 0 or 0 <= int(indices.min()) <= int(indices.max()) < count)
        and (count == 0 or 0 <= int(kept.rows.min()) <= int(kept.rows.max()) < len(store))
    )


def _keep(store: Store, made: _Made, rows: np.ndarray, fingerprint: str) -> None:
    arrays: dict[str, Any] = {
        "mean": made.projection.mean,
        "components": made.projection.components,
        "roots": made.projection.roots,
        "indices": made.graph.indices,
        "similarities": made.graph.similarities,
        "rows": rows,
        "fingerprint": fingerprint,
        "model": _model(store),
    }
    with contextlib.suppress(OSError, ZooError), Store.writing(store.folder, wait=0):
        if made.cells is not None:
            facts = {**_facts(store, made.projection), "fingerprint": fingerprint}
            facts |= _measured(store.folder / CELLS, made.cells, facts)
            made.cells.save(store.folder / CELLS, facts)
        with replacing(store.folder / NEIGHBOURS) as file:
            np.savez(file, allow_pickle=False, **arrays)


# -- groups --------------------------------------------------------------------------------------


def groups_of(store: Store, pictures: Pictures) -> list[Layer]:
    """The layers of groups that ``zoo group`` found, of the pictures now; none if it found none.

    A picture that was not there then is in no group yet, and nothing is sure of it.

    Raises:
        CollectionError: the file is damaged.
    """
    with released():
        return _groups_of(store, pictures)


def _groups_of(store: Store, pictures: Pictures) -> list[Layer]:
    table = _table(store)
    return [] if table is None else _layers_of(table, _places(table, pictures.hashes))


def _layers_of(table: Any, at: np.ndarray) -> list[Layer]:
    """The layers of a table of groups, of pictures at some places of it, or none for -1."""
    if not len(table):
        at = np.full(len(at), -1)
        return [Layer(name, at.astype(np.int32), np.zeros(len(at), np.float32)) for name in LAYERS]
    return [
        Layer(
            name,
            np.where(at >= 0, table[name].to_numpy()[at], FEW).astype(np.int32),
            np.where(at >= 0, table[f"{name}_sureness"].to_numpy()[at], 0).astype(np.float32),
        )
        for name in LAYERS
    ]


def _places(table: Any, hashes: list[str]) -> np.ndarray:
    """Where in a table of groups each content is; -1 where it is not."""
    arrow = optional("pyarrow", "pyarrow", "collection")
    compute = optional("pyarrow.compute", "pyarrow", "collection")
    found = compute.index_in(arrow.array(hashes, arrow.string()), table["hash"].combine_chunks())
    places: np.ndarray = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return places


def regroup(
    folder: Path, number: int | None = None, seed: int = SEED, anew: bool = False
) -> list[Layer]:
    """Group a collection's pictures, and keep the groups; the same pictures keep their number.

    Where few pictures were added since the groups were found, and with the same ``number`` and
    ``seed``, what is grouped stays as it is: new pictures go to what they are like, or are new
    groups. Of the same pictures the groups are the same.

    Args:
        folder: of the collection.
        number: of groups in the layer "middle", for those who know.
        seed: the same seed gives the same groups.
        anew: find them without regard to those that there are; what is much the same keeps its
            number.

    Raises:
        CollectionError: there is no collection, it is damaged, or another command is writing there.
        InputError: there are fewer pictures than ``number``.
    """
    store = Store.open(folder)
    contents = store.contents()
    _, graph = compared(store, contents)
    hashes = contents.hashes
    made_by = {"number": number, "seed": seed, "model": _model(store)}
    while True:
        written = _written(store)
        before = _before(store)
        since = _since(before, made_by, hashes)
        if since is None or anew:
            layers, since = _anew(graph, hashes, number, seed, before), 0
        elif number is None and len(hashes) > grouping.LARGE:
            layers = _refined(graph, hashes, seed, before)
        else:
            layers = grouping.group(graph, hashes, number, seed, before.numbers())
        with Store.writing(folder):
            if _written(store) == written:
                _write(store, hashes, layers, before, {**made_by, "since": since})
                return layers
        # Meanwhile another command has grouped them: from its groups once more.


def _written(store: Store) -> str:
    """Which file of groups there is, by its content; empty without one."""
    try:
        with (store.folder / GROUPS).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


class _Before(NamedTuple):
    """The groups of the last time."""

    table: Any
    """As the file has it: of each content the group in each layer, and how sure it was."""
    made_by: Mapping[str, Any]
    """How they were found, and ``since``: how many contents have been put into them since then."""

    def numbers(self) -> dict[str, dict[str, int]]:
        hashes = self.table["hash"].to_pylist()
        return {
            name: dict(zip(hashes, self.table[name].to_pylist(), strict=True)) for name in LAYERS
        }


def _since(before: _Before, made_by: Mapping[str, Any], hashes: list[str]) -> int | None:
    """How many contents are put into groups that were found without them; None: find them anew."""
    since = before.made_by.get("since")
    if before.made_by != {**made_by, "since": since} or not isinstance(since, int):
        return None
    present = [*dict.fromkeys(hashes)]
    at = _places(before.table, present)
    since += int((at < 0).sum())
    groups = np.unique(before.table[grouping.DEFAULT].to_numpy()[at[at >= 0]])
    if since > ADDED * len(present) or made_by["number"] not in (None, len(groups)):
        return None
    return since


def _refined(graph: Graph, hashes: list[str], seed: int, before: _Before) -> list[Layer]:
    """The groups before, and what is new in them or in groups of its own."""
    at = _places(before.table, hashes)
    layers = _layers_of(before.table, at)
    if (at >= 0).all():
        return layers
    unused = [int(before.table[name].to_numpy().max(initial=FEW)) + 1 for name in LAYERS]
    return grouping.refine(graph, hashes, layers, at < 0, unused, seed)


def _anew(
    graph: Graph, hashes: list[str], number: int | None, seed: int, before: _Before
) -> list[Layer]:
    """Groups that are found without those before, but numbered by them."""
    return [
        layer._replace(labels=grouping.keep_identity(numbers, layer.labels, hashes))
        for layer, numbers in zip(
            grouping.group(graph, hashes, number, seed), before.numbers().values(), strict=True
        )
    ]


def _before(store: Store) -> _Before:
    """The groups of the last time; none where the file is damaged, since it is written anew."""
    try:
        table = _table(store)
    except CollectionError:
        table = None
    if table is None:
        return _Before(_groups_table([], [_layer_of_none(name) for name in LAYERS]), {})
    made_by = (table.schema.metadata or {}).get(MADE_BY)
    return _Before(table, {} if made_by is None else json.loads(made_by))


def _layer_of_none(name: str) -> Layer:
    return Layer(name, np.zeros(0, np.int32), np.zeros(0, np.float32))


def _groups_table(hashes: list[str], layers: list[Layer]) -> Any:
    """As the file has them."""
    arrow = optional("pyarrow", "pyarrow", "collection")
    columns: dict[str, Any] = {"hash": arrow.array(hashes, arrow.string())}
    for layer in layers:
        columns[layer.name] = arrow.array(layer.labels, arrow.int32())
        columns[f"{layer.name}_sureness"] = arrow.array(layer.sureness, arrow.float32())
    return arrow.table(columns)


def _write(
    store: Store,
    hashes: list[str],
    layers: list[Layer],
    before: _Before,
    made_by: Mapping[str, Any],
) -> None:
    """A row a content, those of pictures that are gone for the time being among them."""
    arrow = optional("pyarrow", "pyarrow", "collection")
    parquet = optional("pyarrow.parquet", "pyarrow", "collection")
    at = distinct_of(first_of_each(hashes))
    table = _groups_table(
        [hashes[i] for i in at.tolist()],
        [Layer(name, labels[at], sureness[at]) for name, labels, sureness in layers],
    )
    compute = optional("pyarrow.compute", "pyarrow", "collection")
    there = compute.is_in(before.table["hash"], table["hash"].combine_chunks())
    gone = before.table.filter(compute.invert(there)).select(table.column_names)
    table = arrow.concat_tables([table, gone.replace_schema_metadata(None)])
    written = io.BytesIO()
    table = table.replace_schema_metadata({MADE_BY: json.dumps(made_by)})
    parquet.write_table(table, written, compression="zstd")
    with replacing(store.folder / GROUPS) as file:
        file.write(written.getvalue())


def _table(store: Store) -> Any:
    """What the file of groups has, as a ``pyarrow.Table``; None without one.

    Raises: CollectionError.
    """
    arrow = optional("pyarrow", "pyarrow", "collection")
    parquet = optional("pyarrow.parquet", "pyarrow", "collection")
    path = store.folder / GROUPS
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    wanted = ["hash", *(column for name in LAYERS for column in (name, f"{name}_sureness"))]
    try:
        table = parquet.read_table(arrow.BufferReader(data), use_threads=False)
        return table.select(wanted)
    except (arrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise CollectionError(
            f"{path_text(path)} is damaged: {' '.join(str(error).split())[:200]}.\n"
            f"Type: zoo group {path_text(store.folder)}"
        ) from error
