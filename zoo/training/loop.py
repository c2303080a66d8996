"""The training loop for every model; the steps are the model's own (:class:`zoo.model.Phase`).

It knows no particular model. A phase's players each get timm's optimiser and schedule; accelerate
decides the device and connects the processes. Several processes work on parts of the same batches,
and average their gradients before each step of an optimiser. DistributedDataParallel is not used:
it needs one ``forward`` for each ``backward``, which the two players of a GAN do not have.
"""

import contextlib
import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.corruption import corrupt
from zoo.data import to_float
from zoo.data.feed import Feed
from zoo.errors import DataError, ImageError, RunStopped, SettingsError, TrainingError
from zoo.isolation import isolated, without_isolation
from zoo.model import AutoencoderRecipe, Phase, Recipe, Step, ZooModel
from zoo.optional import optional
from zoo.training import checkpoint
from zoo.training.precision import Float32, orthogonalises
from zoo.training.processes import Together
from zoo.training.record import Record, worth_a_picture
from zoo.training.rng import affine_maps, generator, mix, warp

CHECK_EVERY = 20
"""Steps between two readings of the losses and of signals: each reading waits for the GPU."""

AVERAGE_WARMUP = 0.75
"""After ``n`` steps the moving average forgets at least ``n ** -0.75`` of itself a step, until the
recipe's decay is slower: 0.999 from step 10,000 on (Katherine Crowson's, as timm has it). At a
constant decay the average of a short run would be mostly its initial weights."""


class PhaseOptimizers:
    """The optimisers, schedules and moving average of one phase."""

    def __init__(self, phase: Phase, recipe: Recipe, steps: int, accelerator: Any):
        self.phase, self.accelerator, self.clip = phase, accelerator, recipe.clip
        self.optimizers = {
            name: _optimizer(module, recipe, phase.rates.get(name, recipe.lr))
            for name, module in phase.players.items()
        }
        self.schedules = [
            _schedule(o, recipe, phase.epochs, steps) for o in self.optimizers.values()
        ]
        in_float32 = orthogonalises(recipe.optimizer) and recipe.muon_precision == "fp32"
        self.around_step = Float32 if in_float32 else without_isolation
        self.averaged = phase.averaged if recipe.average else None
        self.average: Any = None
        if self.averaged is not None:
            ema = optional("timm.utils", "timm", "train").ModelEmaV3
            self.average = ema(
                self.averaged, recipe.average, use_warmup=True, warmup_power=AVERAGE_WARMUP
            )

    def update(self, player: str, loss: Tensor) -> None:
        """See :attr:`zoo.model.Step.update`."""
        optimizer = self.optimizers[player]
        with without_isolation():
            optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(loss)
            if self.accelerator.num_processes > 1:
                self._average_gradients(optimizer)
            if self.clip:
                nn.utils.clip_grad_norm_(_parameters(optimizer), self.clip)
        with self.around_step():
            optimizer.step()

    def _average_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = [p for p in _parameters(optimizer) if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([g.flatten() for g in gradients])  # one message instead of one a tensor
        parts = self.accelerator.reduce(flat, "mean").split([g.numel() for g in gradients])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def after_step(self, done: int) -> None:
        """Move the average, and set the rates of the step after ``done`` steps of the phase."""
        if self.averaged is not None:
            self.average.update(self.averaged, step=done)
        self.set_rates(done)

    def ship(self) -> None:
        """Replace the networks' weights by their moving averages, if there are any."""
        if self.averaged is not None:
            self.averaged.load_state_dict(self.average.module.state_dict())

    @contextlib.contextmanager
    def shipped(self) -> Iterator[None]:
        """Inside the block the model has the weights that would be saved now."""
        if self.averaged is None:
            yield
            return
        live = copy.deepcopy(self.averaged.state_dict())
        self.ship()
        try:
            yield
        finally:
            self.averaged.load_state_dict(live)

    def set_rates(self, done: int) -> None:
        """The rates for the step after ``done`` steps."""
        for schedule in self.schedules:
            if schedule is not None:
                schedule.step_update(done)

    def modules(self) -> dict[str, nn.Module]:
        """The modules in a checkpoint besides the model."""
        return {} if self.average is None else {"average": self.average.module}


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _optimizer(module: nn.Module, recipe: Recipe, lr: float) -> torch.optim.Optimizer:
    factory = optional("timm.optim", "timm", "train")
    more = {"fused": True} if recipe.optimizer in ("adam", "adamw") else {}
    try:
        optimizer: torch.optim.Optimizer = factory.create_optimizer_v2(
            list(module.parameters()), opt=recipe.optimizer, lr=lr,
            weight_decay=recipe.weight_decay, betas=(recipe.beta1, 0.999), **more,
        )  # fmt: skip
        return optimizer
    except (ValueError, TypeError, AttributeError, AssertionError) as error:
        raise SettingsError(
            f"optimizer={recipe.optimizer!r} cannot be used: {error}. timm's names are taken; "
            "adamw, adam, sgd, lion and lamb are some"
        ) from None


def _schedule(optimizer: Any, recipe: Recipe, epochs: int, steps: int) -> Any:
    factory = optional("timm.scheduler", "timm", "train")
    try:
        schedule, _ = factory.create_scheduler_v2(
            optimizer, sched=recipe.schedule, num_epochs=epochs, updates_per_epoch=steps,
            step_on_epochs=False, decay_epochs=recipe.decay, decay_fn="linear",
        )  # fmt: skip
    except (ValueError, TypeError, AssertionError) as error:
        raise SettingsError(
            f"schedule={recipe.schedule!r} cannot be used: {error}. timm's names are taken; "
            "cosine, constant and wsd are some"
        ) from None
    return schedule


class Run:
    """One training run: the model, where it is in its phases, and its folder.

    Args:
        feed: the images to learn from, with their classes for a recipe that asks for them.
        held_out: the images that the model never learns from, uint8.
        stop: asked before the first step and after each; a signal's number ends the run.
        facts: what must be the same for a checkpoint to go on.
    """

    def __init__(
        self,
        model: ZooModel,
        recipe: Recipe,
        feed: Feed,
        held_out: Tensor,
        *,
        seed: int,
        facts: Mapping[str, Any],
        record: Record,
        accelerator: Any,
        checkpoint_every: float = 60.0,
        stop: Callable[[], int | None] = lambda: None,
    ):
        self.model, self.recipe, self.seed, self.facts = model, recipe, seed, dict(facts)
        self.feed, self.held_out = feed, held_out
        self.record, self.accelerator, self.every = record, accelerator, checkpoint_every
        self.together = Together(accelerator) if accelerator.num_processes > 1 else None
        self.out: Path = record.out
        self.main = accelerator.is_main_process
        self.size = recipe.batch_size
        self.steps = len(feed) // self.size  # an epoch; the rest of it takes part in the next
        self.layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        model.to(memory_format=self.layout)
        self.phases = model.phases(recipe)
        self.phase = self.epoch = self.step = 0  # the next step to make
        self.sums: dict[str, float] = {}  # of the losses of this epoch so far
        self.seconds = 0.0
        self.resumed: checkpoint.Checkpoint | None = None
        self.saved_at = time.monotonic()
        self.stop, self.stopped_by = stop, 0

    # -- the way through the phases ---------------------------------------------------------------

    def train(self) -> None:
        """Make all steps that are left.

        Raises:
            TrainingError: a loss is no longer finite, the disk is full, another process is gone.
            RunStopped: Ctrl-C or SIGTERM; a checkpoint was written.
        """
        if self.main:
            with self.explained():
                self.record.begin((self.phase, self.epoch), self._global_step())
        self.stopped_by = self.stop() or 0
        try:
            with self.explained(), isolated(self.seed) as self.isolation:
                while self.phase < len(self.phases):
                    self._one_phase(self.phases[self.phase])
                if self.together is not None:
                    self.feed.remember(self.together.collect(self.feed.unread()))
                    if self.main:
                        self._tell_unread()
        finally:
            if self.main:
                self.record.end()

    def _one_phase(self, phase: Phase) -> None:
        players = PhaseOptimizers(phase, self.recipe, self.steps, self.accelerator)
        if self.resumed is not None:  # the model itself is back already
            checkpoint.restore(self.resumed, players.modules(), players.optimizers)
            self.resumed = None
        players.set_rates(self.epoch * self.steps + self.step)
        while self.epoch < phase.epochs:
            self._one_epoch(phase, players)
        players.ship()
        phase.finish()
        self.phase, self.epoch = self.phase + 1, 0
        self._save(None)

    def _one_epoch(self, phase: Phase, players: PhaseOptimizers) -> None:
        self.model.train()
        rng = generator(self.seed, self.phase, self.epoch)
        here, processes = self.accelerator.process_index, self.accelerator.num_processes
        unread: list[dict[str, Tensor]] = []  # losses that were not read yet
        start, first = time.perf_counter(), self.step
        epoch = self.feed.epoch(rng, self.size, self.step, here, processes)
        with contextlib.closing(epoch) as batches, self._saved_if_data_fail(phase, players, unread):
            for images, labels in batches:
                unread.append(self._one_step(phase, players, images, labels))
                self.step += 1
                # The losses are read before each checkpoint, so that none holds what is not finite.
                # All processes read them together and only one writes, so the steps are fixed.
                common = self.step % CHECK_EVERY == 0 or self.step == self.steps
                may_save = common or self.accelerator.num_processes == 1
                due = self.main and may_save and time.monotonic() - self.saved_at >= self.every
                if due or common:
                    self._look(phase, unread)
                if self._interrupted(common):
                    self._look(phase, unread)
                    self.seconds += time.perf_counter() - start
                    self._save(players)
                    raise RunStopped(self._stopped(phase))
                if due and self.step < self.steps:
                    self.seconds += time.perf_counter() - start
                    start, first = time.perf_counter(), self.step
                    self._save(players)
                self._progress(phase)
        took = time.perf_counter() - start
        self.seconds += took
        rate = (self.steps - first) * self.size / took
        means = {k: v / self.steps for k, v in self.sums.items()}
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
        self._end_of_epoch(phase, players, means, rate)

    @contextlib.contextmanager
    def _saved_if_data_fail(
        self, phase: Phase, players: PhaseOptimizers, unread: list[dict[str, Tensor]]
    ) -> Iterator[None]:
        """Write a checkpoint when the pictures of the next step cannot be had."""
        try:
            yield
        except (DataError, ImageError):
            if self.accelerator.num_processes == 1 and (self.epoch or self.step):
                self._look(phase, unread)
                self._save(players)
            raise

    def _one_step(
        self, phase: Phase, players: PhaseOptimizers, batch: Tensor, labels: Tensor | None
    ) -> dict[str, Tensor]:
        """One step of this process on its part of a batch."""
        done = self.epoch * self.steps + self.step
        here, processes = self.accelerator.process_index, self.accelerator.num_processes
        place = (self.seed, self.phase, self.epoch, self.step)
        mine = torch.arange(here, self.size, processes)  # of the whole batch
        images = to_float(batch.to(self.accelerator.device))
        progress = done / (phase.epochs * self.steps)
        images = self._augment(images, mine, progress, generator(*place, -1))
        images = images.contiguous(memory_format=self.layout)
        rng = generator(*place, here)
        self.isolation.reseed(mix(*place, here, 1))  # layers that draw by themselves, as dropout
        labels = None if labels is None else labels.to(images.device)
        step = Step(
            seen=self._corrupted(images, rng), recipe=self.recipe, progress=progress,
            generator=rng, autocast=self._autocast, update=players.update, labels=labels,
            processes=self.together,
        )  # fmt: skip
        losses = phase.step(images, step)
        players.after_step(done + 1)
        return losses

    def _corrupted(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """The images as they go in, if the recipe is one that may corrupt them."""
        recipe = self.recipe
        if not (isinstance(recipe, AutoencoderRecipe) and recipe.corrupt):
            return images
        return corrupt(images, recipe.corrupt, recipe.corrupt_strength, rng)

    def _augment(
        self, images: Tensor, mine: Tensor, progress: float, rng: torch.Generator
    ) -> Tensor:
        """This process's part of the batch under the affine maps of the whole batch."""
        strength = self.recipe.affine * max(0.0, 1 - progress / (self.recipe.affine_until or 1.0))
        if not strength:
            return images
        return warp(images, affine_maps(self.size, strength, rng)[mine])

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        enabled = self.recipe.precision == "bf16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=enabled)

    # -- what is looked at on the way -------------------------------------------------------------

    def _look(self, phase: Phase, unread: list[dict[str, Tensor]]) -> None:
        """Add up the losses; raise at the first that is not finite."""
        if not unread:
            return
        names = list(unread[0])
        table = torch.stack(
            [torch.stack([row[n].detach().float() for n in names]) for row in unread]
        )
        if self.accelerator.num_processes > 1:
            table = self.accelerator.reduce(table, "mean")
        for i, row in enumerate(table.tolist()):
            values = dict(zip(names, row, strict=True))
            if not all(map(math.isfinite, row)):
                self._not_finite(phase, self.step - len(unread) + i, values)
            for name, value in values.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
        if self.main:
            self.record.scalars(phase.name, self._global_step(), values)
        unread.clear()

    def _not_finite(self, phase: Phase, step: int, what: object) -> None:
        kept = self.out / checkpoint.CURRENT
        raise TrainingError(
            f"the loss is no longer finite in {phase.name}, epoch {self.epoch + 1}, step "
            f"{step + 1} of {self.steps}: {what}.\n"
            + (f"The last good checkpoint is {kept}. " if kept.exists() else "")
            + f"Try a lower rate in another folder: --set lr={self.recipe.lr / 3:.1g}, or --set "
            "precision=fp32"
        )

    def _progress(self, phase: Phase) -> None:
        if self.main and self.step < self.steps:
            left = self._steps_in_all() - self._global_step()
            self.record.progress(phase, self.epoch, self.step, self.steps, left, self.size)

    def _end_of_epoch(
        self, phase: Phase, players: PhaseOptimizers, means: dict[str, float], rate: float
    ) -> None:
        if not self.main:
            return
        self._tell_unread()
        left = self._steps_in_all() - self._global_step()
        line = {
            "phase": phase.name,
            "stretch": self.phase,
            "epoch": self.epoch,
            "of": phase.epochs,
            **{name: round(value, 5) for name, value in means.items()},
            **self._validations(phase, players),
            "images_per_second": round(rate),
            "seconds": round(self.seconds, 1),
            "seconds_left": round(left * self.size / rate, 1),
        }
        self.record.epoch(line, self._global_step())
        if worth_a_picture(self.epoch, phase.epochs):
            with players.shipped():
                self.record.pictures(self.model, phase, self.epoch)
            self.record.plot(last=left == 0)
        if self.epoch < phase.epochs and time.monotonic() - self.saved_at >= self.every:
            self._save(players)

    def _tell_unread(self) -> None:
        if news := self.feed.news():
            self.record.report({"warning": news})

    def _validations(self, phase: Phase, players: PhaseOptimizers) -> dict[str, float]:
        """Validation losses of the weights to save, and of the learning ones if they differ."""
        with players.shipped():
            shipped = self.validation(phase)
        if players.average is None:
            return shipped
        live = self.validation(phase)
        return shipped | {f"live_{name}": value for name, value in live.items()}

    def validation(self, phase: Phase) -> dict[str, float]:
        """The losses of ``phase`` on the images that were held out, of the model as it is."""
        if phase.validate is None or not len(self.held_out):
            return {}
        self.model.eval()
        sums: dict[str, float] = {}
        with torch.no_grad():
            for i, part in enumerate(self.held_out.split(500)):
                images = to_float(part.to(self.model.device))
                # The same noise at each epoch, so that epochs can be compared.
                rng = torch.Generator().manual_seed(i)
                step = Step(images, self.recipe, progress=1.0, generator=rng)
                for name, value in phase.validate(images, step).items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(part)
        return {f"val_{name}": round(v / len(self.held_out), 5) for name, v in sums.items()}

    def _steps_in_all(self) -> int:
        return sum(phase.epochs for phase in self.phases) * self.steps

    def _global_step(self) -> int:
        before = sum(p.epochs for p in self.phases[: self.phase]) + self.epoch
        return before * self.steps + self.step

    # -- early ends -------------------------------------------------------------------------------

    def _interrupted(self, common: bool) -> bool:
        """Whether to stop; several processes decide it together, at steps that all of them make."""
        self.stopped_by = self.stopped_by or self.stop() or 0
        if self.accelerator.num_processes == 1:
            return bool(self.stopped_by)
        if not common:
            return False
        flag = torch.tensor([self.stopped_by], device=self.accelerator.device)
        got = int(self.accelerator.reduce(flag, "sum"))
        self.stopped_by = self.stopped_by or (got and signal.SIGTERM)
        return bool(got)

    def _stopped(self, phase: Phase) -> str:
        return (
            f"stopped by {signal.Signals(self.stopped_by).name} in {phase.name}, epoch "
            f"{self.epoch + 1} of {phase.epochs}, step {self.step} of {self.steps}; the checkpoint "
            f"is in {self.out}.\nTo go on, type the same command with --resume"
        )

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of a full disk or a lost process into messages that say what to do."""
        try:
            yield
        except OSError as error:
            raise TrainingError(
                f"the run's folder {self.out} can no longer be written: {error.strerror or error}."
                "\nThe last good checkpoint is as it was: make room, then type the same command "
                "with --resume"
            ) from error
        except RuntimeError as error:
            if self.accelerator.num_processes > 1 and "peer" in str(error).lower():
                raise TrainingError(
                    f"another process of this run is gone: {str(error).splitlines()[0]}\nStart all "
                    "of them again with --resume"
                ) from error
            raise

    def differences(self) -> str:
        """How the model as it is now differs from what the log and the pictures show, or ""."""
        losses = self.validation(self.phases[-1]) if self.phases else {}
        return "; ".join(self.record.differences(self.model, self.phases, losses))

    # -- checkpoints -------------------------------------------------------------------------------

    def _save(self, players: PhaseOptimizers | None) -> None:
        if not self.main:
            return
        position = {
            "phase": self.phase, "epoch": self.epoch, "step": self.step,
            "sums": self.sums, "seconds": self.seconds, "threads": torch.get_num_threads(),
            **({"unread": unread} if (unread := self.feed.unread()) else {}),
        }  # fmt: skip
        for name in (checkpoint.NEXT, checkpoint.PREVIOUS, checkpoint.CURRENT):
            self.record.folder.require(name)
        try:
            checkpoint.write(
                self.out,
                facts=self.facts,
                position=position,
                modules={"model": self.model, **(players.modules() if players else {})},
                optimizers=players.optimizers if players else {},
                workspace=self.record.folder.workspace,
            )
        except FloatingPointError as error:
            phase = self.phases[min(self.phase, len(self.phases) - 1)]
            self._not_finite(phase, self.step - 1, f"{error} holds NaN or infinity")
        self.saved_at = time.monotonic()

    def resume(self) -> str:
        """Go on from the last good checkpoint; returns a warning, or "".

        Raises:
            TrainingError: there is none, or it is of another run.
        """
        saved, problem = checkpoint.read(self.out)
        if other := [key for key in self.facts if self.facts[key] != saved.facts.get(key)]:
            raise TrainingError(
                f"{saved.path} is of another run: "
                + "; ".join(
                    f"its {k} is {saved.facts.get(k)!r}, now {self.facts[k]!r}" for k in other
                )
            )
        checkpoint.restore(saved, {"model": self.model}, {})
        position = saved.position
        self.phase, self.epoch = position["phase"], position["epoch"]
        self.step, self.seconds = position["step"], position["seconds"]
        self.sums = {str(k): float(v) for k, v in position["sums"].items()}
        if self.phase < len(self.phases) and (self.epoch or self.step):
            self.resumed = saved
        self.feed.remember([(int(row), str(why)) for row, why in position.get("unread", [])])
        began, now = position["threads"], torch.get_num_threads()
        if began != now:  # they add in another order
            problem += (
                f"began with {began} threads and goes on with {now}: its end will not be the very "
                f"same bits. With torch.set_num_threads({began}) before it, it will"
            )
        return problem
