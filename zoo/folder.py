"""The parts of a weights folder that need no torch: file names, config.json, records, copying.

::

    config.json           model, plugin and its version, config, preprocessing, size, sha256
    model.safetensors     every tensor, fitted densities and inverting encoders included
    vectors.safetensors   a few inputs and what the model made of them, with tolerances
    metrics.json          what the evaluator measured
    README.md             the model card
    README.png            the card's picture, beside what is published
    hub.json              where it is published, beside weights that ship; not published itself

These files are not trusted: their form is checked, and what they say remains a claim.
:mod:`zoo.weights` reads and writes the tensors.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zoo.errors import (
    IncompatibleVersion,
    InvalidConfig,
    SpecError,
    UnsafeWeights,
    WeightsError,
    WeightsNotFound,
)
from zoo.files import new_folder, placeholder
from zoo.spec import (
    API_VERSION,
    Metric,
    Preprocessing,
    Weights,
    is_duration,
    is_hex,
    is_identifier,
)

CONFIG, TENSORS, VECTORS = "config.json", "model.safetensors", "vectors.safetensors"
METRICS, CARD, PICTURE = "metrics.json", "README.md", "README.png"
HUB_RECORD = "hub.json"
"""Of bundled weights: the repository and the commit that hold the same bytes, as
:func:`zoo.publishing.publish_bundled` writes them down."""

LIMITS = {CONFIG: 1_000_000, METRICS: 1_000_000, CARD: 1_000_000, VECTORS: 100_000_000}
"""The files of a weights folder besides the tensors, and the most bytes that each may have. For the
tensors config.json says how many they have."""

FILES = (*LIMITS, TENSORS)
"""The files that are copied or fetched from a repository: the smallest first, the tensors last."""

PICKLES = (".bin", ".ckpt", ".dill", ".joblib", ".npy", ".pickle", ".pkl", ".pt", ".pth", ".t7")
"""Endings of files that run code when they are read; none belongs into a weights folder."""

WEIGHTS = "weights"
"""The folder of a plugin that holds its weights folders; also a training run's weights folder."""


# -- config.json ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """The contents of config.json, read once. Their form is checked, their truth is not.

    ``plugin_version`` is that of the plugin that wrote it, if it says so; ``facts`` is all of it;
    ``where`` is what messages call it.
    """

    where: str
    model: str
    plugin: str
    plugin_version: str | None
    config: Mapping[str, Any]
    size: int
    sha256: str
    preprocessing: Preprocessing | None
    facts: Mapping[str, Any]

    @property
    def dataset(self) -> str | None:
        """What the weights were trained on, if it says so."""
        dataset = self.facts.get("dataset")
        return dataset if isinstance(dataset, str) else None

    @property
    def training(self) -> Mapping[str, Any]:
        """What the trainer wrote down, which may be anything; empty if it wrote nothing."""
        training = self.facts.get("training")
        return training if isinstance(training, dict) else {}

    @property
    def recipe(self) -> Mapping[str, Any]:
        """How it was trained, as the trainer wrote it down."""
        recipe = self.training.get("recipe")
        return recipe if isinstance(recipe, dict) else {}


def read_config(folder: Path, where: str = "") -> FolderConfig:
    """The checked config.json of a weights folder.

    Raises:
        WeightsNotFound: the folder or the file is not there.
        InvalidConfig: it does not describe weights.
        IncompatibleVersion: it was written for a newer zoo.
    """
    if not folder.is_dir():
        raise WeightsNotFound(f"there is no folder {str(folder)!r}")
    path = folder / CONFIG
    return parse_config(read_json(path), where or str(path))


def parse_config(facts: Mapping[str, Any], where: str) -> FolderConfig:
    """What config.json says, if ``facts`` are those of one; ``where`` is what messages call it.

    Raises: as :func:`read_config`.
    """
    version = facts.get("api_version")
    if type(version) is not int or version < 1:
        raise InvalidConfig(f"{where}: api_version should be a whole number, got {version!r:.80}")
    if version > API_VERSION:
        from zoo.installing import upgrade_command

        raise IncompatibleVersion(
            f"{where} was written for version {version} of the contract, this zoo speaks "
            f"{API_VERSION}.\nType: {upgrade_command()}"
        )
    for key, kind in _KINDS.items():
        if type(facts.get(key)) is not kind:
            raise InvalidConfig(
                f"{where}: {key} should be {kind.__name__}, got {facts.get(key)!r:.80}"
            )
    if not is_hex(facts["sha256"], 64):
        raise InvalidConfig(
            f"{where}: sha256 should be 64 hexadecimal digits, got {facts['sha256']!r:.80}"
        )
    written_by = facts.get("plugin_version")
    if written_by is not None and not isinstance(written_by, str):
        raise InvalidConfig(f"{where}: plugin_version should be str, got {written_by!r:.80}")
    try:
        given = facts.get("preprocessing")
        preprocessing = None if given is None else Preprocessing.from_dict(given)
    except SpecError as error:
        raise InvalidConfig(f"{where}: {error}") from None
    return FolderConfig(
        where=where,
        plugin_version=written_by,
        preprocessing=preprocessing,
        facts=MappingProxyType(dict(facts)),
        **{key: facts[key] for key in _KINDS},
    )


_KINDS = {"model": str, "plugin": str, "config": dict, "size": int, "sha256": str}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a small JSON file of a weights folder, which is not trusted.

    Raises:
        WeightsNotFound: no such file.
        InvalidConfig: too large, not JSON, or not an object.
    """
    most = LIMITS[CONFIG]
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise WeightsNotFound(f"{path.parent} has no {path.name}") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if what := placeholder(data):
        raise InvalidConfig(f"{path} is not valid JSON but {what}")
    if len(data) > most:
        raise InvalidConfig(f"{path} is larger than {most:,} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidConfig(f"{path}: expected an object, got {type(value).__name__}")
    return value


# -- the folder ----------------------------------------------------------------------------------


def inside_run(folder: Path) -> Path:
    """The weights folder inside ``folder`` if that is a training run; otherwise ``folder``."""
    if not (folder / CONFIG).exists() and (folder / WEIGHTS / CONFIG).exists():
        return folder / WEIGHTS
    return folder


def refuse_pickles(folder: Path) -> None:
    """Raises: UnsafeWeights: a file in ``folder`` could run code when it is read."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICKLES:
            raise UnsafeWeights(
                f"{path} is a pickle, or may be one: reading it could run any code. Nothing was "
                f"loaded. If you trust the rest of the folder, delete {path.name!r} and try again"
            )


def refuse_to_overwrite(folder: Path) -> None:
    """Raises: WeightsError: something is there already."""
    if os.path.lexists(folder):
        raise WeightsError(f"{folder} exists already; weights are never overwritten")


def copy_folder(folder: Path, target: Path) -> None:
    """Copy the files of a weights folder to ``target``, all of them or nothing.

    Raises:
        WeightsError: ``target`` exists, or cannot be written.
    """
    import shutil

    try:
        with new_folder(target) as temporary:
            for file in FILES:
                if (folder / file).is_file():
                    shutil.copyfile(folder / file, temporary / file)
    except OSError as error:
        refuse_to_overwrite(target)  # another was faster
        raise WeightsError(f"{target} cannot be written: {error.strerror}") from error


# -- records of weights that ship ----------------------------------------------------------------


def bundled_weights(plugin_file: str, model: str, *old_names: str) -> tuple[Weights, ...]:
    """The records of all weights of ``model`` that a plugin ships beside its root module.

    They are read from each folder's own config.json, metrics.json and hub.json, so that nothing is
    written down twice. A plugin calls it with its ``__file__``, and with the names that the model
    had before (the record's ``renamed_from``), which folders of weights may still have.

    Only the tags are read now, from the names of the folders: a folder's files are read when
    somebody first looks at more of its record, which then raises what :func:`weights_record`
    raises. So ``zoo list`` takes the same time however many weights there are, and a broken set
    of weights harms no other; ``zoo plugins`` and ``zoo check`` read all of them.

    Raises:
        SpecError: what follows the model's name in the name of a folder is not a tag.
    """
    root = weights_root(plugin_file)
    try:
        folders = sorted(os.listdir(root))
    except FileNotFoundError:  # the plugin ships none
        folders = []
    found: dict[str, Weights] = {}
    for name in (model, *old_names):
        for folder in folders:
            if folder.startswith(f"{name}."):
                tag = folder.removeprefix(f"{name}.")
                found.setdefault(tag, _UnreadWeights(root / folder, tag))
    return tuple(found[tag] for tag in sorted(found))


class _UnreadWeights(Weights):
    """A record of which only the tag is known until its folder is read.

    From then on it is an ordinary :class:`Weights`, in its class too.
    """

    def __init__(self, folder: Path, tag: str):
        if not is_identifier(tag):
            raise SpecError(f"{folder}: the tag: expected a lower-case identifier, got {tag!r}")
        object.__setattr__(self, "tag", tag)
        object.__setattr__(self, "_folder", folder)

    # Each method names its class: another thread may read the record in the middle of it, and then
    # ``self`` is a Weights, which has no _read.

    def __getattribute__(self, name: str) -> Any:
        if name in _READ_LATER:
            _UnreadWeights._read(self)
        return object.__getattribute__(self, name)

    def _read(self) -> "Weights":
        record = weights_record(self._folder, self.tag)
        vars(self).update(vars(record))
        object.__setattr__(self, "__class__", Weights)
        return self

    def __repr__(self) -> str:
        return repr(_UnreadWeights._read(self))

    def __eq__(self, other: object) -> bool:
        return bool(_UnreadWeights._read(self) == other)

    def __hash__(self) -> int:
        return hash(_UnreadWeights._read(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _UnreadWeights._read(self).__reduce__()


def is_unread(weights: Weights) -> bool:
    """Whether only the tag of this record is known so far, and its folder was not read yet."""
    return type(weights) is _UnreadWeights


_READ_LATER = frozenset(f.name for f in fields(Weights)) - {"tag"}


def weights_root(plugin_file: str) -> Path:
    """Where a plugin keeps the weights that it ships."""
    return Path(plugin_file).parent / WEIGHTS


def weights_record(folder: Path, tag: str, config: FolderConfig | None = None) -> Weights:
    """The :class:`Weights` record that a weights folder describes.

    The repository on the Hub is in ``hub.json``, which is beside the weights in a plugin's tree and
    is not published: a commit cannot contain its own sha.

    Args:
        config: the folder's, if it was read already.

    Raises:
        WeightsError: config.json or metrics.json is missing or not valid.
        SpecError: a value in them is not valid.
    """
    config = config or read_config(folder)
    metrics: list[Any] = []
    if (folder / METRICS).exists():
        metrics = read_json(folder / METRICS).get("metrics", [])
    place = read_json(folder / HUB_RECORD) if (folder / HUB_RECORD).exists() else {}
    known = {f.name for f in fields(Metric)}
    seconds = config.training.get("seconds")
    try:
        return Weights.from_dict(
            {
                "tag": tag,
                "metrics": [{k: m[k] for k in known if k in m} for m in metrics],
                "labels": config.recipe.get("labels") is True,
                "seconds": seconds if is_duration(seconds) else None,
                **{key: config.facts[key] for key in _FROM_CONFIG if key in config.facts},
                **{key: place[key] for key in ("repo", "revision") if key in place},
            }
        )
    except (TypeError, KeyError) as error:
        raise InvalidConfig(f"{folder}: {error!r} in {METRICS} or {CONFIG}") from None


_FROM_CONFIG = ("sha256", "config", "preprocessing", "parameters", "dataset", "licence")
