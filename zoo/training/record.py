"""Writes a run's log, TensorBoard events, pictures over time, and plot of losses."""

import contextlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from zoo.errors import ZooError
from zoo.files import path_text, write_atomically
from zoo.model import Phase, ZooModel
from zoo.optional import optional
from zoo.pictures import grid, pairs, write_png
from zoo.training.runfolder import RunFolder

LOG = "log.jsonl"
PLOT_EVERY = 10.0  # seconds between two plots of the losses

LOSS_APART, PIXELS_APART, CONTRAST_APART = 0.1, 0.15, 0.5
"""How far the saved model may be from what the run showed last without a warning: as a share of the
loss; in pixels in [0, 1], and as a share of the pictures' contrast, which is small before a model
has learnt much."""


class Record:
    """The folder of one run.

    ``report`` is called with each line of the log as it is written, and about once a second with
    where the run is: a line with ``step`` and ``steps``, which the log does not hold.
    """

    def __init__(
        self, folder: RunFolder, held_out: Tensor, report: Callable[[dict[str, Any]], None]
    ):
        self.folder, self.held_out, self.report = folder, held_out, report
        self.out = folder.path
        self.events: Any = None
        self.estimated = (time.monotonic(), 0)  # when, and how many steps were left
        self.plotted = time.monotonic()

    def begin(self, position: tuple[int, int], step: int) -> None:
        """Open the log, without the lines of epochs that are run again from ``position`` on."""
        log = self.folder.require(LOG)
        if log.exists():
            kept = [line for line in self.lines() if (line["stretch"], line["epoch"]) <= position]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            write_atomically(log, text.encode(), self.folder.workspace)
        writer = optional("tensorboardX", "tensorboardX", "train").SummaryWriter
        self.events = writer(str(self.folder.require("events")), purge_step=step or None)

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines of the log; a kill can leave half of one, which counts for nothing."""
        lines = []
        for text in (self.out / LOG).read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                line = json.loads(text)
                int(line["stretch"]), int(line["epoch"])
                lines.append(line)
        return lines

    def scalars(self, phase: str, step: int, values: Mapping[str, float]) -> None:
        """Numbers for TensorBoard, at a step counted from the start of the run."""
        for name, value in values.items():
            self.events.add_scalar(f"{phase}/{name}", value, step)

    def epoch(self, line: dict[str, Any], step: int) -> None:
        """The line of a finished epoch."""
        with (self.out / LOG).open("a") as log:
            log.write(json.dumps(line) + "\n")
        numbers = {k: v for k, v in line.items() if isinstance(v, float)}
        self.scalars(line["phase"], step, numbers)
        self.report(line)

    def progress(
        self, phase: Phase, epoch: int, step: int, steps: int, left: int, size: int
    ) -> None:
        """Report about once a second where the run is, how fast, and how long it still takes."""
        before, left_before = self.estimated
        took = time.monotonic() - before
        if took < 1:
            return
        self.estimated = (before + took, left)
        rate = max(left_before - left, 0) * size / took
        line = {"phase": phase.name, "epoch": epoch + 1, "of": phase.epochs, "step": step,
                "steps": steps}  # fmt: skip
        if rate:  # not at first, when nothing was counted yet
            line |= {"images_per_second": round(rate), "seconds_left": round(left * size / rate, 1)}
            self.report(line)

    def pictures(self, model: ZooModel, phase: Phase, epoch: int) -> None:
        """A picture of what the model does: reconstructions of held-out images, or new images."""
        if (sheet := self._sheet(model, phase.shows)) is None:
            return
        if path := self._place(_picture(phase, epoch)):
            write_png(sheet, path, self.folder.workspace)

    def _place(self, name: str) -> Path | None:
        path = self.folder.claim(name)
        if path is None:
            taken = path_text(self.out / name)
            self.report({"warning": f"{taken} is not of this run, so it stays as it is"})
        return path

    def _sheet(self, model: ZooModel, call: str) -> Any:
        # Of what a model cannot do yet, in the middle of training, there is no picture.
        with contextlib.suppress(ZooError, NotImplementedError):
            model.eval()
            if call == "generate":
                return grid(model.generate(64, seed=0))
            if len(self.held_out):
                rebuilt = model.reconstruct(self.held_out).cpu()
                return grid(pairs(self.held_out, rebuilt, 10), columns=10)
        return None

    def differences(
        self, model: ZooModel, phases: Sequence[Phase], losses: Mapping[str, float]
    ) -> list[str]:
        """How the saved ``model`` differs from what the run last showed of it, in words.

        In between are the end of the last phase, what is fitted afterwards, and rounding.

        Args:
            losses: its ``val_...`` losses by the last phase, to compare with the log's last.
        """
        found = []
        before = self.lines()[-1:] if (self.out / LOG).exists() else []
        for name, value in losses.items():
            shown = before[0].get(name) if before else None
            if isinstance(shown, float) and abs(value - shown) > LOSS_APART * abs(shown) + 1e-4:
                found.append(f"{name} is {value:.5g}, and was {shown:.5g}")
        shows = {phase.shows: phase for phase in phases}  # what a later phase shows again, counts
        for call, phase in shows.items():
            path = self.out / _picture(phase, phase.epochs)
            if not (self.folder.wrote(_picture(phase, phase.epochs)) and path.exists()):
                continue
            if (sheet := self._sheet(model, call)) is None:
                continue
            apart, of_contrast = _apart(path, sheet)
            if apart > PIXELS_APART and of_contrast > CONTRAST_APART:
                found.append(
                    f"the pictures of {call} differ from {path.name} by {of_contrast:.0%} of its "
                    "contrast"
                )
        return found

    def plot(self, *, last: bool) -> None:
        """All losses over the epochs, as ``losses.png``: at the last epoch, now and then before.

        A plot takes longer than the epochs of a small network.
        """
        if not last and time.monotonic() - self.plotted < PLOT_EVERY:
            return
        self.plotted = time.monotonic()
        optional("matplotlib", "matplotlib", "train")
        from matplotlib.figure import Figure

        lines = self.lines()
        phases = list(dict.fromkeys(line["phase"] for line in lines))
        if not phases:
            return
        figure = Figure(figsize=(6 * len(phases), 4), layout="constrained")
        for axes, phase in zip(figure.subplots(1, len(phases), squeeze=False)[0], phases,
                               strict=True):  # fmt: skip
            rows = [line for line in lines if line["phase"] == phase]
            for name in (k for k, v in rows[0].items() if is_loss(k, v)):
                points = [(row["epoch"], row[name]) for row in rows if name in row]
                axes.plot(*zip(*points, strict=True), label=name, marker="." * (len(points) < 30))
            if all(v > 0 for row in rows for k, v in row.items() if is_loss(k, v)):
                axes.set_yscale("log")
            axes.set(title=phase, xlabel="epoch")
            axes.grid(alpha=0.3)
            axes.legend()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        if path := self._place("losses.png"):
            write_atomically(path, buffer.getvalue(), self.folder.workspace)

    def end(self) -> None:
        """Close what is open."""
        if self.events is not None:
            self.events.close()


def _picture(phase: Phase, epoch: int) -> str:
    return f"pictures/{phase.name}-{epoch:04}.png"


def _apart(path: Path, sheet: Any) -> tuple[float, float]:
    """How far a picture is from ``sheet``: the root of the mean squared difference of their pixels,
    in [0, 1], and the same over the contrast of the first. What is white in both is left
    out, as it is the gap between images."""
    with Image.open(path) as picture:
        shown = np.asarray(picture, np.float32) / 255
    now = np.asarray(sheet, np.float32) / 255
    seen = (shown < 1) | (now < 1)
    if not seen.any():
        return 0.0, 0.0
    apart = float(np.sqrt(np.square(shown - now)[seen].mean()))
    return apart, apart / max(float(shown[seen].std()), 1 / 255)


def is_loss(key: str, value: object) -> bool:
    """Whether this entry of a log's line is a loss, and not a time or a count."""
    return isinstance(value, float) and not key.startswith("seconds")


def worth_a_picture(epoch: int, epochs: int) -> bool:
    """The 1st, 2nd, 3rd, 5th, 8th, ... epoch and the last: often at first, when much changes."""
    a, b = 1, 2
    while a < epoch:
        a, b = b, a + b
    return epoch in (a, epochs)
