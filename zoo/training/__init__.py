"""Trains a model by its name: writes the folder of the run, with a weights folder in it.

::

    weights/                    the weights folder, written once, at the end
    checkpoint.safetensors      where the run is, and checkpoint.previous.safetensors before it
    recipe.json                 what was asked for, as --recipe takes it
    log.jsonl                   a line an epoch
    events/                     the same and more for TensorBoard
    pictures/                   what the model made, over time
    losses.png                  the losses over the epochs
    run.json                    what the run wrote here, and what it is a run of

The folder may hold files of the user's: see :mod:`zoo.training.runfolder`.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import zoo
from zoo import weights
from zoo.api import create
from zoo.boundary import typed, user_path
from zoo.data import NAMED, Dataset, load_data, split_validation, to_float
from zoo.data.any_size import is_any_size
from zoo.data.feed import Feed, feed_of
from zoo.data.fingerprint import digest, fingerprint
from zoo.errors import TrainingError
from zoo.files import path_text, write_json
from zoo.manifest import MANIFEST, WEIGHTS, read_manifest
from zoo.model import LabelledRecipe, Recipe, ZooModel, can_be_trained
from zoo.report.card import write_card
from zoo.sources import owner
from zoo.training import checkpoint
from zoo.training.loop import Run
from zoo.training.precision import resolve_precision
from zoo.training.processes import processes_on
from zoo.training.recipe import make_recipe, read_recipe
from zoo.training.record import Record
from zoo.training.rng import seeded
from zoo.training.runfolder import RunFolder

__all__ = ["make_recipe", "read_recipe", "train"]

VALIDATION = 0.05
PICTURES = 20
Report = Callable[[dict[str, Any]], None]


@typed()
def train(
    model: str,
    *,
    data: str | Path | Dataset,
    out: str | Path,
    config: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    recipe: str | Path | None = None,
    seed: int = 0,
    data_dir: str | Path | None = None,
    device: str = "auto",
    dtype: str = "float16",
    memory: int | None = None,
    strict: bool = False,
    fit: str | None = None,
    background: float | None = None,
    resume: bool = False,
    checkpoint_every: float = 60.0,
    stop: Callable[[], int | None] = lambda: None,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Path:
    """Train a model and write its weights folder.

    Started by torchrun or ``accelerate launch``, all processes work on parts of the same batches
    and the first one writes; the result is the same kind of folder.

    Args:
        model: the name of a model, without a tag.
        data: what :func:`zoo.data.load_data` takes (its train part is used), or a data set.
        out: the run's folder; the weights are then in ``out/weights``.
        config: over the model's config.
        settings: over its recipe, such as ``{"epochs": 5}``.
        recipe: a TOML or JSON file with settings, under ``settings``.
        seed: of the initial weights, the validation part, the order of the data and all else.
        data_dir: where to look for named sets first.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dtype: the type that learned tensors are stored as: ``float16``, or ``float32`` for twice
            the bytes.
        memory: bytes that decoded images may take. More pictures stay in their files, and are
            decoded on the way; more images of a ``.npz`` file are kept in a file in ``out``.
        strict: refuse a folder in which a picture cannot be read.
        fit, background: how pictures are made into images, which the weights then say, as
            :func:`zoo.load` takes them; by default they are cut at the centre.
        resume: go on from the last good checkpoint in ``out``, to the very same end.
        checkpoint_every: seconds between two checkpoints.
        stop: asked before the first step and after each; the number of a signal, such as
            ``signal.SIGINT``, ends the run at a checkpoint. Signal handlers are up to the program:
            ``zoo train`` sets some for this. Without ``stop`` Ctrl-C ends the run where it is, and
            it can be resumed from its last checkpoint.
        report: called with each line of the log as it is written, about once a second with where
            the run is, with ``start``, ``note`` and ``warning`` texts, and while pictures are read.

    Returns:
        The weights folder.

    Raises:
        TrainingError: ``out`` is taken, holds files that the run would overwrite or another run;
            nothing to resume, a loss is no longer finite, the disk is
            full, or another process of the run is gone.
        RunStopped: ``stop`` said so; a checkpoint was written, ``resume`` goes on.
        DataError, ImageError: the data cannot be found or read.
        SettingsError: a setting of the model or the recipe is unknown or refused.
        InputError: another dtype.
    """
    out = user_path(out, "out, the run's folder,")
    half = weights.stored_half(dtype)
    if resume:
        _require_resumable(out)
    with seeded(seed), RunFolder(out) as folder:
        network = _trainable(model, config or {}).prepare(fit=fit, background=background)
        asked = read_recipe(user_path(recipe)) if recipe is not None else {}
        chosen_recipe = make_recipe(network.recipe, {**asked, **(settings or {})})
        accelerator = processes_on(device)
        if problem := _open(folder, resume, accelerator):
            report({"warning": problem})
        began = folder.facts.get("recipe") if resume else None
        chosen_recipe, elsewhere = resolve_precision(chosen_recipe, accelerator.device, began)
        if elsewhere:
            report({"warning": elsewhere})
        facts = _facts(network, chosen_recipe, seed, half)
        folder.require_same(facts)  # before the data are read, which may take long
        dataset = data if isinstance(data, Dataset) else load_data(
            str(data), "train", network.preprocessing, strict=strict,
            data_dir=None if data_dir is None else user_path(data_dir),
            memory=memory, cache=folder.workspace,
            progress=lambda done, total: report({"reading": done, "total": total}),
            stream=True,
        )  # fmt: skip
        if _needs_labels(chosen_recipe):
            dataset = _labelled(dataset)
        seen = fingerprint(dataset)
        folder.require_same({"data": seen})
        chosen, held_out = split_validation(dataset, VALIDATION, seed)
        labels = dataset.labels if _needs_labels(chosen_recipe) else None
        validation = dataset.images_at(held_out)
        run = Run(
            network.to(accelerator.device),
            chosen_recipe,
            feed_of(dataset.images, chosen, labels),
            validation,
            seed=seed,
            facts={**facts, "data": digest(seen)},
            record=Record(folder, to_float(validation[:PICTURES]), report),
            accelerator=accelerator,
            checkpoint_every=checkpoint_every,
            stop=stop,
        )
        if run.phases:
            _require_batches(dataset, run.feed, chosen_recipe, accelerator.num_processes)
        writes = accelerator.is_main_process
        if folder.finished:  # and resume: it went to its end before
            if writes and not (out / WEIGHTS / "README.md").exists():
                write_card(out / WEIGHTS)  # just not to its very end
            return out / WEIGHTS
        if writes:
            _introduce(network, dataset, run, report)
        if resume:
            _go_on(run, folder, report)
        if writes:
            _note(run, folder, {**facts, "data": seen, "source": _source(data)})
        run.train()
        if writes:
            plugin = owner(model).distribution  # two plugins may have such a model
            _finish(network, plugin, dataset, run, folder, report, half)
        accelerator.wait_for_everyone()
    return out / WEIGHTS


def _trainable(model: str, config: Mapping[str, Any]) -> ZooModel:
    """A new model, before its training.

    Raises: TrainingError: its class has nothing to train.
    """
    network = create(model, **config)
    if not can_be_trained(type(network)):
        raise TrainingError(
            f"{model} cannot be trained: its class has no loss, no phases, nothing to fit.\n"
            "Models that can are among those of: zoo list"
        )
    return network


def _facts(network: ZooModel, recipe: Recipe, seed: int, half: bool) -> dict[str, Any]:
    """What identifies a run, besides its data; a resumed run must have the same."""
    return {
        "model": network.record.name,
        "config": dict(network.config),
        "recipe": recipe.to_dict(),
        "seed": seed,
        "dtype": weights.DTYPES[not half],
    }


def _source(data: str | Path | Dataset) -> str | None:
    """The path of a file or folder of data, for later commands on the run's folder.

    It is no part of the weights folder, which may be published.
    """
    if isinstance(data, Dataset) or str(data) in NAMED or is_any_size(data):
        return None
    path = os.path.abspath(os.path.expanduser(data))
    return path if path == path_text(path) else None  # a name that no file could hold


def _require_resumable(out: Path) -> None:
    """Raises: TrainingError: there is nothing to go on from."""
    if read_manifest(out) is None:
        saved, _ = checkpoint.read(out)
        raise TrainingError(
            f"{path_text(saved.path)} is a checkpoint, but {path_text(out)} has no {MANIFEST}, in "
            "which a run lists what it wrote there: a version before wrote none. Start anew with "
            "another --out"
        )


def _open(folder: RunFolder, resume: bool, accelerator: Any) -> str:
    """The first process locks the folder; all of them go on, or end, together."""
    refused, problem = None, ""
    if accelerator.is_main_process:
        try:
            problem = folder.open(resume)
        except TrainingError as error:
            refused = error
    if accelerator.num_processes > 1:
        flag = torch.tensor([int(refused is not None)], device=accelerator.device)
        if int(accelerator.reduce(flag, "sum")) and refused is None:
            refused = TrainingError("the first process of this run ended; its message says why")
        if resume and not accelerator.is_main_process:
            folder.load()
    if refused is not None:
        raise refused
    return problem


def _introduce(network: ZooModel, dataset: Dataset, run: Run, report: Report) -> None:
    """Report remarks on the data, and what is trained on how many images and which device."""
    for note in dataset.remarks:
        report({"note": note})
    parameters = sum(p.numel() for p in network.parameters())
    images = " x ".join(map(str, network.image_shape))
    # The number of processes too: a launcher that starts fewer than it was asked for is silent.
    start = (
        f"{network.record.name}, {parameters:,} parameters, on {len(run.feed):,} images {images} "
        f"of {dataset.name} ({len(run.held_out):,} held out), {run.accelerator.num_processes} x "
        f"{run.accelerator.device.type}, {run.recipe.precision}"
    )
    report({"start": start})


def _go_on(run: Run, folder: RunFolder, report: Report) -> None:
    """Continue from the last good checkpoint, if one was written."""
    if not folder.has_checkpoint:
        report({"warning": "no checkpoint was written yet, so it starts from the beginning"})
    elif problem := run.resume():
        report({"warning": problem})


def _note(run: Run, folder: RunFolder, facts: dict[str, Any]) -> None:
    """Record in the run's folder what identifies the run."""
    with run.explained():
        folder.clean(decoded=False)  # what a kill in the middle of writing left
        folder.note(facts)
        write_json(folder.require("recipe.json"), run.recipe.to_dict(), folder.workspace)


def _require_batches(data: Dataset, chosen: Feed, recipe: Recipe, processes: int) -> None:
    if len(chosen) < recipe.batch_size:
        raise TrainingError(
            f"{len(data)} images are fewer than a batch of {recipe.batch_size}: "
            f"--set batch_size={max(2, len(chosen) // 4)}, or give more images"
        )
    if recipe.batch_size % processes:
        raise TrainingError(
            f"a batch of {recipe.batch_size} cannot be shared by {processes} processes: "
            f"--set batch_size={max(1, recipe.batch_size // processes) * processes}"
        )


def _needs_labels(recipe: Recipe) -> bool:
    return isinstance(recipe, LabelledRecipe) and recipe.labels


def _labelled(dataset: Dataset) -> Dataset:
    """The images that have a label, for a recipe that learns from labels."""
    known = dataset.labelled()
    if known.labels is None:
        said = "".join(f"\n{note}" for note in dataset.notes)
        raise TrainingError(
            f"the recipe has labels=true, but {dataset.name} has no labels. Leave the setting out, "
            f"or give pictures in one folder a class{said}"
        )
    if not dataset.unlabelled:
        return known
    left = f"{dataset.unlabelled:,} of {len(dataset):,} images have no label: they are left out"
    return replace(known, notes=[*known.notes, left])


def _finish(
    network: ZooModel,
    plugin: str,
    dataset: Dataset,
    run: Run,
    folder: RunFolder,
    report: Report,
    half: bool,
) -> None:
    """All after the last step: the closed-form part, the weights folder, its card, a plot."""
    network.eval().to(memory_format=torch.contiguous_format)  # as it will be loaded

    def images() -> Iterator[Tensor]:
        for part in run.feed.once():
            yield to_float(part).to(network.device)

    start = time.perf_counter()
    network.fit(images, run.seed)
    seconds = run.seconds + time.perf_counter() - start  # for some models it is all there is
    examples = run.held_out[:4] if len(run.held_out) else next(run.feed.once())[:4]

    def facts() -> dict[str, Any]:
        differences = run.differences()  # of the network as it is stored
        if differences:
            report({"warning": f"the saved model differs from the trained one: {differences}"})
        return {
            "dataset": dataset.name,
            "licence": f"MIT; trained on {dataset.name}: {dataset.licence}",
            "training": {
                "recipe": run.recipe.to_dict(),
                "seed": run.seed,
                "images": len(run.feed),
                "validation": len(run.held_out),
                "skipped": len(dataset.skipped),
                "seconds": round(seconds),
                "processes": run.accelerator.num_processes,
                "threads": torch.get_num_threads(),
                "device": str(network.device),
                "latentzoo": zoo.__version__,
                "torch": torch.__version__,
                **({"differs from what training showed": differences} if differences else {}),
            },
        }

    weights.save(
        network,
        folder.require(WEIGHTS),
        images=to_float(examples),
        plugin=plugin,
        facts=facts,
        half=half,
        workspace=folder.workspace,
    )
    write_card(folder.path / WEIGHTS)
