"""The model of a collection: the one it was made with, the one named, or the best that ships."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zoo
from zoo.collection.entries import Entry, listed, members
from zoo.collection.remote import is_address
from zoo.collection.store import WEIGHTS, Store
from zoo.errors import CollectionError, ImageError, InputError
from zoo.files import path_text
from zoo.installing import install_plugins_command
from zoo.registry import registry
from zoo.spec import Preprocessing

if TYPE_CHECKING:
    import torch

    from zoo.model import ZooModel

__all__ = ["best_embedded", "better_ones", "computing_as", "learnt", "loaded", "of_collection"]

_MEASURE = "knn1"
"""The metric that embedded weights are chosen by: how often the nearest is of the same class."""
LEARN_FROM = 20_000
"""Pictures, at most, that a model is trained on."""


def loaded(name: str, preprocessing: Mapping[str, Any] | None = None, **chosen: Any) -> "ZooModel":
    """The model of a name, which has features.

    Args:
        preprocessing: how pictures are made into images by a collection that there is.
        chosen: ``fit`` and ``background`` over that, as :func:`zoo.load` takes them.

    Raises: as :func:`zoo.load`, and CapabilityError.
    """
    model = zoo.load(name)
    model._require("features")
    if preprocessing is not None:
        recorded = Preprocessing.from_dict(preprocessing)
        model._preprocessing = replace(
            model.preprocessing, fit=recorded.fit, background=recorded.background,
            keep=recorded.keep, interpolation=recorded.interpolation,
        )  # fmt: skip
    return model.prepare(**chosen)


def of_collection(store: Store) -> "ZooModel":
    """The model that a collection was made with.

    Raises: as :func:`zoo.load`.
    """
    facts, prepared = store.manifest.model, store.manifest.preprocessing
    name = facts["name"]
    if facts["weights"]:
        name = f"local-dir:{os.fspath(store.folder / facts['weights'])}"
    return computing_as(store, loaded(name, prepared))


def computing_as(store: Store, model: "ZooModel") -> "ZooModel":
    """``model`` in the precision of the collection, even where that takes longer."""
    model._precision = store.manifest.model.get("precision", "fp32")
    return model


def best_embedded() -> str:
    """The name of the weights in the plugins' wheels whose features are the best of all pictures.

    Raises:
        InputError: none is installed.
    """
    found = []
    for name in zoo.list_models(pretrained=True):
        spec = zoo.info(name)
        (weights,) = spec.weights
        if "features" not in spec.capabilities or weights.repo is not None:
            continue
        colours = 1 if weights.preprocessing is None else weights.preprocessing.channels
        measured = [metric.value for metric in weights.metrics if metric.name == _MEASURE]
        found.append((colours, max(measured, default=0.0), name))
    if not found:
        raise InputError(f"no trained model is installed. Type: {install_plugins_command()}")
    return max(found)[2]


def better_ones() -> str:
    """Which models know more of pictures than those that ship, and how to get them: a sentence."""
    examples = [
        prefix.example for _, prefix in registry().prefixes() if "features" in prefix.capabilities
    ]
    if examples:
        return (
            "A network that was trained on millions of photographs tells them apart far better; "
            f"it is fetched from the Hub once: zoo index {' or '.join(examples[:3])} ..."
        )
    return (
        "Networks that were trained on millions of photographs come with a plugin. Type: "
        f"{install_plugins_command()}"
    )


def learnt(
    name: str,
    sources: Sequence[str | Path],
    folder: Path,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
    settings: Mapping[str, Any] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    **chosen: Any,
) -> "ZooModel":
    """A model that is trained on the pictures of a new collection, or was when it was made.

    The run is in the folder ``model`` of the collection; what was interrupted goes on.

    Args:
        name: of a model, without a tag.
        settings: over its recipe.
        preprocessing, chosen: how pictures are made into images, as :func:`loaded` takes them; by
            default whole, in a frame.

    Raises: as :func:`zoo.train`, and CollectionError when another model learnt from them before.
    """
    run = folder / WEIGHTS
    if not (run / "weights" / "config.json").is_file():
        from zoo.data import Dataset

        config = _config(name)
        # What nobody chose is pad, for the pictures are whole; the weights then say so.
        asked = {key: value for key, value in chosen.items() if value is not None}
        prepared: dict[str, Any] = {"fit": "pad", **asked}
        images = _images(zoo.create(name, **config).prepare(**prepared), sources, folder)
        data = Dataset("own pictures", "all", images, None, "own pictures", "of their owner")
        zoo.train(
            name, data=data, out=run, config=config, settings=settings or {},
            resume=(run / "checkpoint.safetensors").is_file(), report=report, **prepared,
        )  # fmt: skip
    model = loaded(f"local-dir:{os.fspath(run)}", preprocessing, **chosen)
    if model.record.name != zoo.info(name).name:
        raise CollectionError(
            f"{path_text(run)} has a {model.record.name} that learnt from the pictures, and not a "
            f"{name}. Choose another --out"
        )
    return model


def _config(name: str) -> dict[str, Any]:
    """For pictures in colour, where the model lets one choose."""
    known = zoo.info(name).config
    return {key: value for key, value in (("channels", 3), ("size", 32)) if key in known}


def _absolute(source: str | Path) -> str:
    return source if is_address(source) else os.path.abspath(source)


def _images(model: "ZooModel", sources: Sequence[str | Path], folder: Path) -> "torch.Tensor":
    """Some of the pictures, evenly from all, as uint8."""
    import torch

    from zoo.collection.pipeline import Pipeline, Work

    files = listed([_absolute(source) for source in sources], folder)
    numbers = [i for i in range(len(files)) if i not in files.reasons]
    step = max(1, -(-len(numbers) // LEARN_FROM))

    def entries() -> Iterator[Entry]:
        for i in numbers[::step]:
            yield from members(files.entry(i), []) if files.is_archive(i) else [files.entry(i)]

    parts: list[torch.Tensor] = []
    pipeline = Pipeline(lambda images: (images * 255).round().byte(), Work(model.preprocessing))
    for batch in pipeline(entries()):
        if batch.values is not None:
            parts.append(batch.values)
        if sum(map(len, parts)) >= LEARN_FROM:
            break
    if not parts:
        raise ImageError("no picture could be read to learn from")
    return torch.cat(parts)[:LEARN_FROM]
