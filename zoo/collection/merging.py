"""Merging collections: what several machines have indexed becomes one collection.

Nothing is computed, and no picture is opened: rows are copied as they are. A file that several of
the collections know has one row of each content that it had; where they differ, it has the content
of its latest time, and the others count as gone, as :mod:`zoo.collection.indexing` leaves them.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.collection.decisions import DECISIONS, joined
from zoo.collection.store import Manifest, Shard, Store
from zoo.errors import CollectionError, InputError
from zoo.files import new_folder, path_text, write_atomically

__all__ = ["Merged", "merge"]


@dataclass
class Merged:
    """What a merge has done: ``taken`` of each collection's ``rows``, in the order given.

    The others were of a file and a content that an earlier one has. ``outdated`` rows are of
    contents that their file no longer had when another collection saw it.
    """

    folders: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    outdated: int = 0
    decisions: int = 0
    torn: int = 0
    """Lines of decisions that cannot be read, and are not copied."""


def merge(folders: Sequence[Path], out: Path) -> Merged:
    """Make a collection in ``out`` of the collections in ``folders``, which stay as they are.

    Raises:
        InputError: there are fewer than two.
        CollectionError: one is none, was interrupted, or is of another model or other preparation
            than the first; ``out`` is there already.
        OSError: the disk is full, or nothing can be written there.
    """
    if len({os.path.realpath(folder) for folder in folders}) < max(2, len(folders)):
        raise InputError("name two collections at least to merge, and each of them once")
    if os.path.lexists(out) and not (out.is_dir() and not os.listdir(out)):
        raise CollectionError(f"{path_text(out)} is there already: choose another --out")
    stores = [Store.open(folder) for folder in folders]
    model = _model_of_all(stores)
    rows = _sorted_out(stores)
    done = Merged([*map(str, folders)], [*map(len, stores)], outdated=int(rows.outdated.sum()))
    with new_folder(out) as made:
        sources = [*dict.fromkeys(each for store in stores for each in store.manifest.sources)]
        preprocessing = stores[0].manifest.preprocessing
        merged = Store(made, Manifest(model, preprocessing, sources, settings=_settings(stores)))
        merged.save()
        start = 0
        for store in stores:
            for shard in _taken(store, sources, _Rows(*(part[start:] for part in rows))):
                merged.append(shard)
            done.taken.append(int(rows.kept[start : start + len(store)].sum()))
            start += len(store)
        lines, done.torn = joined(folder / DECISIONS for folder in folders)
        done.decisions = len(lines)
        if lines:
            write_atomically(made / DECISIONS, b"".join(line + b"\n" for line in lines))
    return done


def _model_of_all(stores: Sequence[Store]) -> dict[str, Any]:
    """What the manifest says of the model, which has to be one. Raises: CollectionError."""
    first = stores[0]
    for store in stores:
        where = path_text(store.folder)
        if store.manifest.settings.get("under_way") is not None:
            raise CollectionError(
                f"{where} was interrupted within an archive. Bring it up to date first, type: "
                f"zoo index --out {where}"
            )
        for what, had, has in _told(first.manifest, store.manifest):
            if had != has:
                raise CollectionError(
                    f"{where} is of {what} {has}, and {path_text(first.folder)} of {had}: features "
                    "of the two cannot be compared. Merge those that were made alike"
                )
    for store in stores:
        if store.manifest.model["weights"] is None:
            return {**store.manifest.model}
    raise CollectionError(
        f"the model of {path_text(first.folder)} learnt from its pictures and lies in it, where a "
        "collection of several cannot have it. Give the weights a place of their own, and index "
        "with local-dir:PATH"
    )


def _told(first: Manifest, other: Manifest) -> Iterator[tuple[str, Any, Any]]:
    """What has to be equal: what it is, and both of it."""
    a, b = first.model, other.model
    if not (a["sha256"] and a["sha256"] == b["sha256"]):
        yield "the model", a["name"], b["name"]
        yield "weights of sha256", a["sha256"], b["sha256"]
    yield "features", a["features"], b["features"]
    yield "precision", a.get("precision", "fp32"), b.get("precision", "fp32")
    for key in sorted({*first.preprocessing, *other.preprocessing}):
        yield key, first.preprocessing.get(key), other.preprocessing.get(key)


def _settings(stores: Sequence[Store]) -> dict[str, Any]:
    """The kinds of pictures that all could read: with others, the next update looks again."""
    known = [store.manifest.settings.get("kinds") for store in stores]
    if all(kinds == known[0] for kinds in known):
        return {} if known[0] is None else {"kinds": known[0]}
    return {"kinds": []}


# -- rows ----------------------------------------------------------------------------------------


class _Rows(NamedTuple):
    """Of all rows, one collection after the other."""

    kept: np.ndarray  # bool
    outdated: np.ndarray  # bool: kept as of a content that its file no longer has


def _sorted_out(stores: Sequence[Store]) -> _Rows:
    count = sum(map(len, stores))
    keys = np.zeros(count, [("place", "S16"), ("content", "S16")])
    rank, mtimes = np.zeros(count, np.int8), np.zeros(count, np.int64)
    start = 0
    for store in stores:
        for number in range(len(store.manifest.shards)):
            table = store.table(number, ("hash", "mtime", "reason", "removed"))
            part = slice(start, start + len(table))
            files = store.places(number, np.arange(len(table)))
            keys["place"][part] = [_digest(f"{path}\0{member or ''}") for path, member in files]
            keys["content"][part] = [_digest(each or "") for each in table["hash"].to_pylist()]
            unread = [reason is not None for reason in table["reason"].to_pylist()]
            rank[part] = np.where(table["removed"].to_pylist(), 2, unread)
            mtimes[part] = table["mtime"].fill_null(0).to_numpy()
            start += len(table)
    # Of each file the content that counts comes first: one that is there, could be read, is newest.
    order = np.lexsort((np.arange(count), -mtimes, rank, keys["place"]))
    _, first = np.unique(keys[order], return_index=True)
    order = order[np.sort(first)]
    places = keys["place"][order]
    counts = np.ones(len(order), bool)
    counts[1:] = places[1:] != places[:-1]
    hashed = keys["content"][order] != _digest("")
    kept, outdated = np.zeros(count, bool), np.zeros(count, bool)
    kept[order[counts | hashed]] = True
    outdated[order[~counts & hashed & (rank[order] < 2)]] = True
    return _Rows(kept, outdated)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(os.fsencode(text), digest_size=16).digest()


def _taken(store: Store, sources: list[str], rows: _Rows) -> Iterator[Shard]:
    """The rows of a collection that are kept, a shard at a time; ``rows`` begin with its own."""
    new = np.array([sources.index(each) for each in store.manifest.sources], np.int32)
    starts = store.starts()
    for number, (start, stop) in enumerate(pairwise(starts)):
        which = np.flatnonzero(rows.kept[start:stop])
        if not len(which):
            continue
        table = store.table(number).take(which)
        columns = {name: table[name] for name in table.column_names}
        columns["source"] = new[table["source"].to_numpy()]
        gone = np.asarray(table["removed"].to_pylist(), bool)
        columns["removed"] = gone | rows.outdated[start:stop][which]
        yield Shard(columns, store.features(which + start), store.small(which + start))
