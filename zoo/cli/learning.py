"""``zoo train``."""

import json
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import click

import zoo
from zoo.cli.shared import (
    UserPath,
    as_json,
    assignments,
    minutes,
    preparation,
    printable,
    report,
    seed,
    strict,
)
from zoo.errors import InputError, RunStopped

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Bytes(click.ParamType):  # type: ignore[type-arg]  # older click has no argument
    """A number of bytes: 500MB, 2GB, 123456."""

    name = "SIZE"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        text = value.upper().removesuffix("B")
        number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "")
        try:
            size = int(float(number) * UNITS[unit])
        except (ValueError, OverflowError):
            size = 0
        if size < 1:
            self.fail(f"expected a size such as 500MB or 2GB, got {value!r}", param, ctx)
        return size


@click.command()
@click.argument("model")
@click.option(
    "--data",
    required=True,
    metavar="SET|PATH",
    help="A named set (mnist, ...), a folder of pictures or a collection, .npz, .parquet or .tar.",
)
@click.option("--out", required=True, type=UserPath(), help="The run's folder.")
@click.option("--data-dir", type=UserPath(), help="Where named data sets are stored.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Of the recipe.")
@click.option("--recipe", type=UserPath(), help="A TOML or JSON file of settings.")
@click.option("--config", multiple=True, metavar="KEY=VALUE", help="Of the model's config.")
@click.option("--epochs", type=click.IntRange(1), help="The same as --set epochs=N.")
@click.option(
    "--corrupt",
    type=click.Choice(["mask", "noise", "blur", "salt"]),
    help="Learn to repair: corrupt the input, not the target.",
)
@click.option("--strength", type=float, help="The strength of --corrupt.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="The type that learned tensors are stored as.",
)
@click.option(
    "--memory", type=Bytes(), help="For decoded images; more are decoded on the way. [half of all]"
)
@click.option(
    "--checkpoint-every",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds between two checkpoints.",
)
@seed
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@preparation
@strict
@as_json
def train(
    model: str,
    data: str,
    out: Path,
    data_dir: Path | None,
    settings: tuple[str, ...],
    recipe: Path | None,
    config: tuple[str, ...],
    epochs: int | None,
    corrupt: str | None,
    strength: float | None,
    device: str,
    dtype: str,
    memory: int | None,
    checkpoint_every: float,
    seed: int,
    resume: bool,
    fit: str | None,
    background: float | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Train a model on a named data set or your own pictures.

    Ctrl-C stops it at a checkpoint; the same command with --resume goes on to the very same end.
    """
    given = assignments("--set", settings) | ({"epochs": epochs} if epochs else {})
    given |= {} if corrupt is None else {"corrupt": corrupt}
    if strength is not None:
        if not given.get("corrupt"):
            raise InputError("--strength needs --corrupt mask, noise, blur or salt")
        given["corrupt_strength"] = strength
    with Display() as display, Signals() as signals:
        _few_threads()
        # Given where codes hardly vary: fewer are different than the density has components.
        warnings.filterwarnings("ignore", "Number of distinct clusters")
        if resume and (threads := _as_it_began(out)):
            display.show({"note": f"goes on with {threads} threads, as it began"})
        try:
            weights = zoo.train(
                model,
                data=data,
                out=out,
                config=assignments("--config", config),
                settings=given,
                recipe=recipe,
                seed=seed,
                data_dir=data_dir,
                device=device,
                dtype=dtype,
                memory=memory,
                strict=strict,
                fit=fit,
                background=background,
                resume=resume,
                checkpoint_every=checkpoint_every,
                stop=signals,
                report=display.show,
            )
        except RunStopped as stop:
            display.close()
            click.echo(printable(str(stop)), err=True)
            sys.exit(128 + (signals.received or signal.SIGTERM))
    if int(os.environ.get("RANK", "0")):
        return  # the first process of several speaks for all
    from zoo.weights import dtypes_said

    written = json.loads((weights / "config.json").read_text("utf-8"))
    trained, said = written["training"], dtypes_said(written)
    made = f"local-dir:{out}"
    makes = "generate" in zoo.info(model).capabilities
    use = f"generate {made}" if makes else f"encode {made} PICTURES --out codes.npz"
    skipped = f" ({trained['skipped']} files skipped)" if trained["skipped"] else ""
    report(
        as_json,
        f"trained on {trained['images']:,} images{skipped} in {minutes(trained['seconds'])}; "
        f"weights in {weights}; {said}\nTry: zoo {use}",
        weights=str(weights),
        stored=written["stored"],
        **trained,
    )


class Signals:
    """Notes SIGINT and SIGTERM instead of dying in the middle; a second SIGINT does die.

    Signals are noted only from the first call on, which :func:`zoo.train` makes between steps.
    Before that, while data are read, a signal does what it always does.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __call__(self) -> int | None:
        """The number of the signal that was received, if one was."""
        if not self._before and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self.received

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number

    def __enter__(self) -> "Signals":
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _few_threads() -> None:
    """Limit NumPy to one thread: fitting a density gains nothing from more, and on a busy machine
    they cost minutes. Torch's own threads stay as they are."""
    try:
        import sklearn.mixture  # noqa: F401, which loads the libraries to limit
        from threadpoolctl import ThreadpoolController
    except ImportError:  # training says what is missing
        return
    for library in ThreadpoolController().lib_controllers:
        if library.user_api == "blas" and "torch" not in Path(library.filepath).parts:
            library.set_num_threads(1)


def _as_it_began(out: Path) -> int | None:
    """Use as many threads as the run began with, so that it adds in the same order.

    Returns:
        The number of threads, if it had to be changed.
    """
    import torch

    from zoo.training.checkpoint import threads_of

    threads = threads_of(out)
    if threads is None or threads == torch.get_num_threads():
        return None
    torch.set_num_threads(threads)
    return threads


class Display:
    """How far a run is, on stderr: a bar on a terminal, plain lines elsewhere."""

    EVERY = 30.0
    """Seconds between two lines within an epoch where there is no terminal."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.task: Any = None
        self.said = time.monotonic()

    def __enter__(self) -> "Display":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[speed]}"),
                console=Console(stderr=True, highlight=False),
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task("reading data", total=None, speed="")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.stop()

    def show(self, line: dict[str, Any]) -> None:
        """One line of the run: of a whole epoch, of where it is within one, or a text."""
        for kind, before in (("start", ""), ("note", ""), ("warning", "Warning: ")):
            if kind in line:
                self._say(before + printable(line[kind]))
                return
        if "reading" in line:
            self._reading(line["reading"], line["total"])
            return
        speed = f"{line['images_per_second']:,} images/s, {minutes(line['seconds_left'])} left"
        where = f"{line['phase']} {line['epoch']}/{line['of']}"
        if "step" not in line:
            losses = {
                k: v for k, v in line.items() if isinstance(v, float) and not k.startswith("second")
            }
            shown = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
            self._say(f"{where}  {shown}  {speed}")
        elif self.bar is not None:
            done = (line["epoch"] - 1 + line["step"] / line["steps"]) / line["of"]
            self.bar.update(self.task, description=where, total=1, completed=done, speed=speed)
        elif time.monotonic() - self.said >= self.EVERY:
            self._say(f"{where}  step {line['step']}/{line['steps']}  {speed}")

    def _reading(self, done: int, total: int) -> None:
        if self.bar is not None:
            self.bar.update(self.task, description="reading", total=total, completed=done)
        elif time.monotonic() - self.said >= self.EVERY:
            self._say(f"{done:,} of {total:,} pictures read")

    def _say(self, text: str) -> None:
        self.said = time.monotonic()
        if self.bar is not None:
            self.bar.console.print(text, markup=False)
        else:
            click.echo(text, err=True)
