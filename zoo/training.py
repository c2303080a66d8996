"""The training loop: one for every model, which brings its own steps (:class:`zoo.model.Phase`).

A run's folder holds ``weights/`` (the weights folder, written once, at the end), ``log.jsonl`` and
``checkpoint.safetensors``. All chance of an epoch comes from one
generator, seeded by the run's seed and the epoch's number, so that a run resumed from the
checkpoint of its last whole epoch goes on as if it had never stopped.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

import zoo
from zoo import weights
from zoo.api import create
from zoo.data import Dataset, load_data, split_validation, to_float
from zoo.errors import InputError, InvalidConfig, TrainingError
from zoo.files import write_atomically
from zoo.model import Phase, Recipe, Step, ZooModel
from zoo.registry import registry

CHECKPOINT = "checkpoint"
VALIDATION = 0.05


def train(
    model: str,
    *,
    data: str,
    out: str | Path,
    config: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    strict: bool = False,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Path:
    """Train a model and write its weights folder.

    Args:
        model: the bare name of a model.
        data: a named set, whose train part is used, or a folder of pictures.
        out: the run's folder; the weights are then in ``out/weights``.
        config: over the model's config.
        settings: over its recipe, such as ``{"epochs": 5}``.
        seed: of the initial weights, the validation part, the order of the data and all chance.
        data_dir: where to look for named sets first.
        strict: refuse a folder in which a picture cannot be read.
        resume: go on from the checkpoint in ``out``.
        report: called with each line of the log as it is written.

    Returns:
        The weights folder.

    Raises:
        TrainingError: ``out`` is taken, nothing to resume, or a loss is no longer finite.
        DataError, ImageError: the data are not to be had.
        InvalidConfig: a setting of the model or the recipe is unknown or refused.
    """
    out = Path(out)
    if (out / "weights").exists():
        raise TrainingError(f"{out / 'weights'} exists already; choose another folder with --out")
    with _seeded(seed):
        network = create(model, **(config or {}))
    recipe = make_recipe(network.recipe, settings or {})
    dataset = load_data(
        data,
        "train",
        network.preprocessing,
        data_dir=data_dir and Path(data_dir),
        strict=strict,
    )
    chosen, held_out = split_validation(dataset, VALIDATION, seed)
    if len(chosen) < recipe.batch_size:
        raise TrainingError(
            f"{len(dataset)} images are fewer than a batch of {recipe.batch_size}: "
            f"--set batch_size={max(2, len(chosen) // 4)}, or give more images"
        )
    if recipe.precision == "auto":
        recipe = replace(recipe, precision="bf16" if _computes_in_bf16(device) else "fp32")
    run = Run(network.to(device), recipe, dataset, chosen, seed, out, report)
    if resume:
        run.resume()
    elif (out / f"{CHECKPOINT}.safetensors").exists():
        raise TrainingError(f"{out} holds an unfinished run; add --resume, or choose another --out")
    run.train()
    network.eval()

    def images() -> Iterator[Tensor]:
        for part in dataset.images[chosen[:20_000]].split(500):
            yield to_float(part).to(device)

    network.fit(images, seed)
    plugin, _ = registry().find(network.spec.name)
    weights.save(
        network,
        out / "weights",
        images=to_float(dataset.images[held_out[:4]] if len(held_out) else dataset.images[:4]),
        plugin=plugin.distribution,
        facts={
            "dataset": dataset.name,
            "licence": f"MIT; trained on {dataset.name}: {dataset.licence}",
            "training": {
                "recipe": recipe.to_dict(),
                "seed": seed,
                "images": len(chosen),
                "validation": len(held_out),
                "skipped": len(dataset.skipped),
                "seconds": round(run.seconds),
                "threads": torch.get_num_threads(),
                "device": str(device),
                "latentzoo": zoo.__version__,
                "torch": torch.__version__,
            },
        },
    )
    return out / "weights"


def make_recipe(kind: type[Recipe], settings: Mapping[str, Any]) -> Recipe:
    """The model's own recipe with ``settings`` over it.

    Raises:
        InvalidConfig: an unknown setting, or a value of another type than the default's.
    """
    known = {f.name: f.default for f in fields(kind)}
    for key, value in settings.items():
        if key not in known:
            raise InvalidConfig(
                f"the recipe has no setting {key!r}; it has: "
                + ", ".join(f"{k}={v!r}" for k, v in known.items())
            )
        wanted = type(known[key])
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise InvalidConfig(
                f"{key} should be of type {wanted.__name__} like its default {known[key]!r}, "
                f"got {value!r}"
            )
        if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
            raise InvalidConfig(f"{key} should be a finite number from 0, got {value!r}")
    recipe = kind(**settings)
    if recipe.batch_size < 2 or recipe.epochs < 1:
        raise InvalidConfig(
            f"expected epochs from 1 and a batch_size from 2, got {recipe.epochs} and "
            f"{recipe.batch_size}"
        )
    if recipe.precision not in ("auto", "fp32", "bf16"):
        raise InvalidConfig(f"precision should be auto, fp32 or bf16, got {recipe.precision!r}")
    return recipe


class Run:
    """One training run: the model, where it is in its phases, and its folder."""

    def __init__(
        self,
        model: ZooModel,
        recipe: Recipe,
        data: Dataset,
        chosen: Tensor,
        seed: int,
        out: Path,
        report: Callable[[dict[str, Any]], None],
    ):
        self.model, self.recipe, self.seed, self.out, self.report = model, recipe, seed, out, report
        self.phases = model.phases(recipe)
        # The whole training set, on the device, as uint8: indexing beats any loader.
        self.images = data.images[chosen].to(model.device)
        self.data_name = data.name
        self.phase = self.epoch = 0  # the next epoch to run
        self.seconds = 0.0

    def train(self) -> None:
        """All epochs that are left. Raises: TrainingError: a loss is no longer finite."""
        self.out.mkdir(parents=True, exist_ok=True)
        epochs = sum(phase.epochs for phase in self.phases)
        for index in range(self.phase, len(self.phases)):
            phase = self.phases[index]
            while self.epoch < phase.epochs:
                start = time.perf_counter()
                losses = self._one_epoch(index, phase)
                took = time.perf_counter() - start
                self.seconds += took
                self.epoch += 1
                done = sum(p.epochs for p in self.phases[:index]) + self.epoch
                line = {
                    "phase": phase.name,
                    "epoch": self.epoch,
                    "of": phase.epochs,
                    **{name: round(value, 5) for name, value in losses.items()},
                    "images_per_second": round(len(self.images) / took),
                    "seconds": round(self.seconds, 1),
                    "seconds_left": round(took * (epochs - done), 1),
                }
                with (self.out / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
                self.report(line)
                if self.epoch < phase.epochs:
                    self._checkpoint()
            phase.finish()
            self.phase, self.epoch = index + 1, 0
            self._checkpoint()

    def _one_epoch(self, index: int, phase: Phase) -> dict[str, float]:
        self.model.train()
        # Apart from each other for any seed, phase and epoch that occur.
        generator = torch.Generator().manual_seed(
            self.seed * 1_000_003 + index * 100_003 + self.epoch
        )
        size = self.recipe.batch_size
        steps = len(self.images) // size
        order = torch.randperm(len(self.images), generator=generator)
        sums: dict[str, Tensor] = {}
        rates = {name: o.defaults["lr"] for name, o in phase.optimizers.items()}
        for step in range(steps):
            progress = (self.epoch + step / steps) / phase.epochs
            for name, optimizer in phase.optimizers.items():
                for group in optimizer.param_groups:
                    group["lr"] = rates[name] * phase.lr(progress)
            index = order[step * size : (step + 1) * size].to(self.images.device)
            batch = to_float(self.images[index])
            if strength := self._affine(progress):
                half = size // 2
                batch[:half] = random_affine(batch[:half], strength, generator)
            losses = phase.step(batch, Step(progress, generator, self._autocast))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach()
        means = {name: float(value) / steps for name, value in sums.items()}
        if not all(map(math.isfinite, means.values())):
            raise TrainingError(
                f"the loss is no longer finite in {phase.name}, epoch {self.epoch + 1}: {means}. "
                f"The checkpoint before it is in {self.out}. Try a lower rate: --set "
                f"lr={self.recipe.lr / 3:.1g}, or --set precision=fp32"
            )
        return means

    def _affine(self, progress: float) -> float:
        until = self.recipe.affine_until or 1.0
        return self.recipe.affine * max(0.0, 1 - progress / until)

    def _autocast(self) -> contextlib.AbstractContextManager:
        enabled = self.recipe.precision == "bf16"
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=enabled)

    # -- checkpoints ---------------------------------------------------------------------------

    def _modules(self) -> Iterator[tuple[str, torch.nn.Module]]:
        yield "model", self.model
        for phase in self.phases:
            for name, module in phase.modules.items():
                yield f"{phase.name}.{name}", module

    def _optimizers(self) -> Iterator[tuple[str, torch.optim.Optimizer]]:
        for phase in self.phases:
            for name, optimizer in phase.optimizers.items():
                yield f"{phase.name}.{name}", optimizer

    def _facts(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to go on."""
        return {
            "model": self.model.spec.name,
            "config": self.model.config,
            "recipe": self.recipe.to_dict(),
            "seed": self.seed,
            "data": self.data_name,
            "images": len(self.images),
        }

    def _checkpoint(self) -> None:
        tensors: dict[str, Tensor] = {}
        for name, module in self._modules():
            tensors |= {f"module/{name}/{k}": t for k, t in module.state_dict().items()}
        for name, optimizer in self._optimizers():
            for i, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer/{name}/{i}/{k}": t for k, t in state.items()}
        cloned = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
        # One file, one replace: the position travels in the header, beside the tensors.
        position = {"phase": self.phase, "epoch": self.epoch, "seconds": self.seconds}
        metadata = {"run": json.dumps({**self._facts(), "position": position})}
        write_atomically(
            self.out / f"{CHECKPOINT}.safetensors", safetensors.torch.save(cloned, metadata)
        )

    def resume(self) -> None:
        """Go on from the checkpoint. Raises: TrainingError: there is none, or of another run."""
        path = self.out / f"{CHECKPOINT}.safetensors"
        try:
            with safetensors.safe_open(path, "pt") as file:
                run = json.loads((file.metadata() or {})["run"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise TrainingError(f"{self.out} has no checkpoint to resume from") from None
        except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
            raise TrainingError(f"{path} is not a checkpoint: {error}") from None
        position = run.pop("position")
        facts = json.loads(json.dumps(self._facts()))
        if other := [key for key in facts if facts[key] != run.get(key)]:
            raise TrainingError(
                f"{path} is of another run: "
                + "; ".join(f"its {k} is {run.get(k)!r}, now {facts[k]!r}" for k in other)
            )
        for name, module in self._modules():
            prefix = f"module/{name}/"
            module.load_state_dict(
                {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            )
        for name, optimizer in self._optimizers():
            state: dict[int, dict[str, Tensor]] = {}
            prefix = f"optimizer/{name}/"
            for key, tensor in tensors.items():
                if key.startswith(prefix):
                    number, _, slot = key.removeprefix(prefix).partition("/")
                    state.setdefault(int(number), {})[slot] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        self.phase, self.epoch = position["phase"], position["epoch"]
        self.seconds = position["seconds"]


def random_affine(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Each image under an affine map of its own; see :class:`zoo.model.Recipe`."""
    n = len(images)

    def uniform(bound: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * bound * strength

    angle, shear = uniform(math.radians(15)), uniform(0.15)
    across, down = 1 + uniform(0.15), 1 + uniform(0.15)
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([across * cos, across * (shear * cos - sin), uniform(2 / 14)], dim=1),
        torch.stack([down * sin, down * (shear * sin + cos), uniform(2 / 14)], dim=1),
    ]
    theta = torch.stack(rows, dim=1).to(images.device)  # N x 2 x 3
    where = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, where, align_corners=False).clamp_(0, 1)


def _computes_in_bf16(device: str) -> bool:
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.11
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Initial weights come from torch's global generator; it is left as it was."""
    if not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise InputError(f"expected a seed from 0 to 2**31 - 1, got {seed!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
