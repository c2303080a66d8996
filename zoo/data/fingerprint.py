"""Fingerprints of data sets: a few hundred bytes that show whether and where two sets differ."""

import hashlib
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from zoo.data import Dataset

PARTS = 100
"""How many parts of a data set have a digest of their own."""

_AT_ONCE = 16_000_000  # bytes


def fingerprint(data: "Dataset") -> dict[str, Any]:
    """The name, numbers and digests of ``data``, as plain JSON types.

    Digests are of the decoded pixels, so that a folder which was moved or copied is the same one;
    of the files' names, sizes and some of their bytes where the pictures stay in their files.
    """
    labels = None if data.labels is None else _digest([data.labels.long()])
    if (of_files := getattr(data.images, "fingerprint", None)) is not None:
        return {"name": data.name, "labels": labels, **of_files()}
    count = len(data)
    stretches = min(PARTS, count)
    bounds = [count * i // stretches for i in range(stretches + 1)]
    return {
        "name": data.name,
        "images": count,
        "shape": list(data.images.shape[1:]),
        "labels": labels,
        "parts": [_digest(_slices(data.images, a, b)) for a, b in itertools.pairwise(bounds)],
    }


def _slices(images: Any, start: int, stop: int) -> Any:
    row = max(1, images[start : start + 1].numel())
    size = max(1, _AT_ONCE // row)
    for at in range(start, stop, size):
        yield images[at : min(at + size, stop)]


def _digest(tensors: Any) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        values: Tensor = tensor.detach().cpu().contiguous()
        digest.update(values.view(torch.uint8).reshape(-1).numpy().data)
    return digest.hexdigest()[:16]


def digest(found: Mapping[str, Any]) -> str:
    """One digest of a fingerprint; the data set's name is no part of it."""
    parts = {key: value for key, value in found.items() if key != "name"}
    return hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()[:16]


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two fingerprints, for a message."""
    a, b = ({"name": "?", "images": 0, "parts": [], **each} for each in (before, now))
    said = f"its data are {a['images']:,} images of {a['name']}, now {b['images']:,} of {b['name']}"
    if a["images"] != b["images"]:
        return said
    if a.get("shape") != b.get("shape"):
        return f"{said}: they are {a.get('shape')} (C, H, W), now {b.get('shape')}"
    if a.get("window") != b.get("window"):
        kinds = ["decoded before the run" if x.get("window") is None else "decoded on the way"
                 for x in (a, b)]  # fmt: skip
        return (
            f"{said}: they were {kinds[0]}, now {kinds[1]}, in another order. Give the "
            "same --memory"
        )
    parts = zip(a["parts"], b["parts"], strict=False)
    at = next((i for i, (x, y) in enumerate(parts) if x != y), None)
    if at is None:
        return f"{said}: the labels differ"
    count, stretches = a["images"], len(a["parts"])
    first, last = count * at // stretches + 1, count * (at + 1) // stretches
    return said + (
        f": the first that differs is number {first:,}"
        if first == last
        else f": the first that differ are among numbers {first:,} to {last:,}"
    )
