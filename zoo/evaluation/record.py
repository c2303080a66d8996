"""What metrics.json records: figures with their protocol, what was left out, and versions."""

import importlib.metadata
import math
import platform
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, InvalidConfig
from zoo.evaluation.protocol import Figure, ProtocolSkipped
from zoo.evaluation.protocols import MEASURING
from zoo.files import path_text
from zoo.folder import CARD, CONFIG, METRICS, TENSORS, FolderConfig, read_json, weights_record
from zoo.spec import Metric

if TYPE_CHECKING:
    from zoo.data import Dataset


def metric_records(figures: Iterator[Figure], test: "Dataset") -> Iterator[dict[str, Any]]:
    """Figures as metrics.json has them; ``seconds`` is what each took, baselines included."""
    start = time.perf_counter()
    for figure in figures:
        if not math.isfinite(figure.value):
            raise ProtocolSkipped(f"{figure.name} came out as {figure.value}")
        metric = Metric(
            name=figure.name,
            value=_rounded(figure.value),
            dataset=test.name,
            split=test.split,
            protocol=figure.protocol,
            samples=figure.samples,
            seed=figure.seed,
            spread=None if figure.spread is None else _rounded(figure.spread),
            baselines={baseline: _rounded(value) for baseline, value in figure.baselines.items()},
        )
        yield {**metric.to_dict(), "seconds": round(time.perf_counter() - start, 1)}
        start = time.perf_counter()


def _rounded(value: float) -> float:
    """``value`` with six digits: more than are significant, fewer than differ from run to run."""
    return float(f"{value:.6g}")


def current_versions() -> dict[str, str]:
    """The versions of the libraries that were imported for measuring."""
    import torch

    import zoo

    imported = {d: importlib.metadata.version(d) for m, d in MEASURING.items() if m in sys.modules}
    return {
        "latentzoo": zoo.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        **imported,
    }


def refuse_cache(folder: Path) -> None:
    """Raises: InputError: a folder of the Hub client's cache, whose links lead to shared bytes."""
    names = (CONFIG, TENSORS, METRICS, CARD)
    links = [name for name in names if (folder / name).is_symlink()]
    if links:
        raise InputError(
            f"{path_text(folder / links[0])} is a link, as in a cache of the Hub, where figures "
            "are not written: the bytes behind it are others' too. Measure it by its name "
            "(zoo evaluate hf-hub:ORG/NAME), or have a folder of your own first: "
            "zoo pull hf-hub:ORG/NAME --to FOLDER"
        )


def read_record(folder: Path, config: FolderConfig) -> dict[str, Any]:
    """The metrics.json of a folder, checked before anything is measured; empty without one."""
    weights_record(folder, "recorded", config)
    path = folder / METRICS
    record = read_json(path) if path.exists() else {}
    left_out, versions = record.get("left_out", []), record.get("versions", {})
    if not (isinstance(left_out, list) and all(isinstance(out, dict) for out in left_out)):
        raise InvalidConfig(f"{path}: left_out should be a list of objects, got {left_out!r:.80}")
    if not isinstance(versions, dict):
        raise InvalidConfig(f"{path}: versions should be an object, got {versions!r:.80}")
    return record


def merged(
    before: dict[str, Any], result: dict[str, Any], done: list[str], again: set[str]
) -> dict[str, Any]:
    """``result``, with what ``before`` has of other protocols and other data.

    Args:
        done: the names, shell-style, of the figures that were measured.
        again: the names of the protocols that were asked for.
    """

    names = [*done, *(metric["name"] for metric in result["metrics"])]

    def stays(metric: dict[str, Any]) -> bool:
        measured = any(fnmatchcase(metric["name"], name) for name in names)
        return not (measured and metric["dataset"] == result["data"])

    left_out = [out for out in before.get("left_out", []) if out.get("protocol") not in again]

    return {
        **result,
        "metrics": [*filter(stays, before.get("metrics", [])), *result["metrics"]],
        "left_out": [*left_out, *result["left_out"]],
        "versions": {**before.get("versions", {}), **result["versions"]},
    }
