"""Find pictures: like one or several others, like a part of one, or what some words say.

How alike two pictures are is the cosine of their projected features, as for the neighbours. Words
are compared with the features as the model gives them, in which it has learnt what words mean.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.collection.neighbours import BLOCK
from zoo.errors import CapabilityError, ImageError, InputError
from zoo.files import path_text

if TYPE_CHECKING:
    from zoo.collection.opened import Opened
    from zoo.images import Decoded
    from zoo.model import ZooModel
    from zoo.spec import Preprocessing

__all__ = [
    "Box",
    "Found",
    "crop_box",
    "direction",
    "embedded_words",
    "features_of",
    "features_of_pixels",
    "like",
    "nearest",
    "saying",
    "wordless",
]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a picture: pixels, or shares of it up to 1."""

_LEAST = 1e-6
_SIDE = 4096
"""Pixels of a side of which at least so many are read of a picture that is cropped."""


class Found(NamedTuple):
    """The pictures that are most like a query, the nearest first.

    Attributes:
        pictures: their positions.
        similarities: cosines.
    """

    pictures: np.ndarray
    similarities: np.ndarray


def direction(wanted: np.ndarray, unwanted: np.ndarray | None = None) -> np.ndarray:
    """The unit vector of what is like all that is wanted and like nothing that is not.

    Args:
        wanted: vectors of unit length, n x d.
        unwanted: the same, m x d.

    Raises:
        InputError: nothing is left.
    """
    total = wanted.sum(0, dtype=np.float64) / max(len(wanted), 1)
    if unwanted is not None and len(unwanted):
        total -= unwanted.sum(0, dtype=np.float64) / len(unwanted)
    length = float(np.linalg.norm(total))
    if not length > _LEAST:  # so written, it refuses NaN too
        raise InputError(
            "what is wanted and what is not are the same to the model, so nothing is left to look "
            "for. Name other pictures"
        )
    unit: np.ndarray = (total / length).astype(np.float32)
    return unit


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors n x d, each of unit length; one without a length stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = vectors / np.maximum(lengths, _LEAST)
    return scaled


def nearest(
    blocks: Iterable[np.ndarray], query: np.ndarray, number: int, without: Sequence[int] = ()
) -> Found:
    """The ``number`` pictures whose vectors are most like ``query``; of ties the first.

    Args:
        blocks: vectors of unit length, in the order of the pictures, b x d each.
        query: of unit length, d.
        without: positions that are left out, such as the query's own.
    """
    parts = [np.asarray(block, np.float32) @ query for block in blocks]
    similarities = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    similarities[list(without)] = -np.inf
    similarities[np.isnan(similarities)] = -np.inf
    number = min(number, int(np.isfinite(similarities).sum()))
    order = np.argsort(-similarities, kind="stable")[:number]
    return Found(order, similarities[order])


def crop_box(text: str) -> Box:
    """The box that ``left,top,right,bottom`` means: pixels, or shares of the picture up to 1.

    Raises:
        InputError: it is none.
    """
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--crop takes left,top,right,bottom in pixels of the upright picture, such as "
            f"10,20,110,120, or in shares of it, such as 0,0,0.5,1; got {text!r:.80}"
        ) from None
    if not (0 <= left < right < np.inf and 0 <= top < bottom < np.inf):
        raise InputError(
            "--crop takes left,top,right,bottom with left < right and top < bottom, got "
            f"{text!r:.80}"
        )
    return left, top, right, bottom


def features_of(model: "ZooModel", path: Path, box: Box | None = None) -> np.ndarray:
    """The features of a picture, or of a part of it, F.

    Args:
        box: as :func:`crop_box` gives it.

    Raises:
        ImageError: the picture cannot be read.
        InputError: the box lies outside of it.
    """
    found = _decoded(path, model.preprocessing, whole=box is None)
    return features_of_pixels(model, found.pixels if box is None else _cropped(path, found, box))


def features_of_pixels(model: "ZooModel", pixels: np.ndarray) -> np.ndarray:
    """The features of decoded pixels, F, as those of a collection's pictures are made."""
    from zoo.collection.pipeline import prepared

    features: np.ndarray = model.features(prepared([pixels], model.preprocessing)).cpu().numpy()
    return features.reshape(-1)


def _decoded(path: Path, preprocessing: "Preprocessing", whole: bool) -> "Decoded":
    """``whole``: no larger than the model needs it, since no part is cut out of it."""
    from zoo.images import decode

    if not whole:
        preprocessing = replace(preprocessing, height=_SIDE, width=_SIDE)
    try:
        return decode(path, preprocessing)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def _cropped(path: Path, found: "Decoded", box: Box) -> np.ndarray:
    left, top, right, bottom = box
    if max(box) > 1:  # in pixels
        left, right = left / found.width, right / found.width
        top, bottom = top / found.height, bottom / found.height
    height, width = found.pixels.shape[:2]
    part = found.pixels[
        int(top * height) : int(np.ceil(min(bottom, 1) * height)),
        int(left * width) : int(np.ceil(min(right, 1) * width)),
    ]
    if not part.size:
        raise InputError(
            f"{path} has {found.width} x {found.height} pixels, upright: nothing of it is between "
            f"{box[0]:g},{box[1]:g} and {box[2]:g},{box[3]:g}"
        )
    return np.ascontiguousarray(part)


def embedded_words(model: "ZooModel", words: str, folder: Path) -> np.ndarray:
    """What ``words`` are among the features of a model that knows words, F of unit length.

    Args:
        folder: of the collection, for the message.

    Raises:
        CapabilityError: the model knows no words; the text names models that do.
    """
    if "embed_text" not in model.capabilities:
        raise wordless(model.name or type(model).__name__, words, folder)
    vector: np.ndarray = unit(model.embed_text([words]).cpu().numpy())[0]
    return vector


def wordless(name: str, words: str, folder: Path) -> CapabilityError:
    """The error for a model that knows no words; the text names models that do."""
    from zoo.registry import registry

    able = registry().names_with("embed_text")
    how = (
        f"Models that do: {', '.join(able)}. Type: zoo index {_example(able)} SOURCE --out "
        "ANOTHER_FOLDER"
        if able
        else "Models that do, such as CLIP's, have embed_text among their capabilities (zoo info "
        "NAME); no plugin that is installed brings one"
    )
    return CapabilityError(
        f"{words!r:.80} is no file, and {path_text(folder)} cannot be searched by words: its "
        f"model, {name}, knows pictures alone.\n{how}"
    )


def _example(names: Sequence[str]) -> str:
    """The first of :meth:`zoo.registry.Registry.names_with` as somebody can type it."""
    from zoo.registry import registry

    examples = {f"{prefix.name}:...": prefix.example for _, prefix in registry().prefixes()}
    return examples.get(names[0], names[0])


def like(
    collection: "Opened",
    pictures: Sequence[Path],
    unwanted: Sequence[Path] = (),
    box: Box | None = None,
    number: int = 10,
) -> Found:
    """The pictures that are most like all of ``pictures``, and unlike those ``unwanted``.

    Args:
        pictures: of the collection, which are left out themselves, or not.
        box: of which part; then of one picture.

    Raises:
        ImageError: a picture cannot be read.
        InputError: the box lies outside of it, or nothing is left to look for.
    """
    known = [None if box else collection.position(path) for path in pictures]
    avoided = [collection.position(path) for path in unwanted]
    wanted = _vectors(collection, pictures, known, box)
    query = direction(wanted, _vectors(collection, unwanted, avoided) if unwanted else None)
    same = collection.first[[i for i in (*known, *avoided) if i is not None]]
    return nearest_in(collection, query, number, same)


def nearest_in(
    collection: "Opened", query: np.ndarray, number: int, same: Sequence[int] | np.ndarray = ()
) -> Found:
    """The pictures of a collection that are most like a vector, but for those of some contents.

    Args:
        same: the first positions of the contents that are left out.
    """
    if collection.searched is None:
        own = np.flatnonzero(np.isin(collection.first, same)).tolist()
        return nearest([collection.vectors], query, number, own)
    rows, cosines = collection.searched.cells.search(query, number + len(same))
    contents = np.searchsorted(collection.pictures.rows, rows)
    others = ~np.isin(contents, same)
    return _with_copies(collection.first, contents[others], cosines[others], number)


def _with_copies(
    first: np.ndarray, contents: np.ndarray, cosines: np.ndarray, number: int
) -> Found:
    """The pictures with some contents, each with its copies behind it."""
    positions = np.flatnonzero(np.isin(first, contents))
    sorter = np.argsort(contents)
    rank = sorter[np.searchsorted(contents, first[positions], sorter=sorter)]
    order = np.argsort(rank, kind="stable")[:number]
    return Found(positions[order], cosines[rank[order]])


def _vectors(
    collection: "Opened",
    paths: Sequence[Path],
    known: Sequence[int | None],
    box: Box | None = None,
) -> np.ndarray:
    """The vectors of pictures, in the collection (at the position that is known) or not."""
    parts = []
    for path, position in zip(paths, known, strict=True):
        if position is None:
            features = features_of(collection.model, path, box)[None]
        else:
            features = collection.store.features(collection.pictures.rows[[position]])
        parts.append(collection.projection.apply(features)[0])
    return np.stack(parts)


def saying(collection: "Opened", words: str, number: int = 10) -> Found:
    """The pictures that are most like what ``words`` say.

    Raises:
        CapabilityError: the collection's model knows no words.
    """
    query = embedded_words(collection.model, words, collection.folder)
    rows, store = collection.pictures.rows, collection.store
    blocks = (unit(store.features(rows[at : at + BLOCK])) for at in range(0, len(rows), BLOCK))
    return nearest(blocks, query, number)
