"""Training speed, side by side in one run: the zoo's loop, a bare loop, the usual loop, pythae.

For each net the same layers, batch, data and number of steps, on all cores, in the precision that
the machine computes in:

zoo     zoo.training's loop as `zoo train` runs it, checkpoints, logs and pictures included
bare    nothing but the steps at the best settings known: uint8 in memory, batches by index, bf16
        where it wins, fused Adam
usual   fp32, Adam, a DataLoader with its defaults over a torchvision data set with ToTensor
usual2  the same with two workers
pythae  its BaseTrainer on the same autoencoder, in an environment of its own (--pythae VENV, which
        is made with `pip install pythae` when it is not there; left out without the option)

Of simclr, whose optimiser is muon by default, the zoo's loop by muon and by adamw: in the machine's
precision, and in float32 throughout, as on a machine that does not compute in bf16.

They take turns, so that all see the same machine; the ratio of the medians is what counts.
GFLOP/s are the arithmetic of forward and backward passes (torch's FlopCounterMode) over the time,
beside the peak of a large matrix product measured in the same run.

Run it on a machine that does nothing else. Exit code 0 when all ratios are met.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

AS_FOUND = dict(os.environ)  # for pythae, which sets nothing
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as `zoo train` does

import accelerate
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo.data.feed import feed_of
from zoo.model import Phase, Recipe, Step
from zoo.sample import sample
from zoo.training import make_recipe
from zoo.training.loop import Run
from zoo.training.precision import computes_in_bf16
from zoo.training.record import Record
from zoo.training.runfolder import RunFolder

IMAGES = 30_000
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Case:
    """A net with its batch: a fresh model and recipe for each run, so that none is warmer."""

    def __init__(self, name: str, batch: int, steps: int, usual_at_least: float, **config: int):
        self.name, self.batch, self.steps, self.usual_at_least = name, batch, steps, usual_at_least
        self.config = config

    def build(self, **settings: Any) -> tuple[zoo.model.ZooModel, Recipe]:
        torch.manual_seed(0)
        model = zoo.create(self.name, **self.config)
        more = {"deep_ae": {"affine": 0.0, "hidden_weight": 0.0}, "conv_ae": {"affine": 0.0}}
        settings = {"epochs": 1, "batch_size": self.batch, **more.get(self.name, {}), **settings}
        recipe = make_recipe(model.recipe, settings)
        return model.train(), recipe

    def first_phase(self, model: zoo.model.ZooModel, recipe: Recipe) -> Phase:
        return model.phases(recipe)[0]


def pictures(n: int) -> Tensor:
    images = torch.from_numpy(sample()[0])[:, None]
    return images[torch.arange(n) % len(images)].clone()


def zoo_loop(case: Case, images: Tensor, precision: str, out: Path, **settings: Any) -> float:
    model, recipe = case.build(precision=precision, muon_precision=precision, **settings)
    accelerate.state.AcceleratorState._reset_state()
    chosen = torch.arange(case.steps * case.batch) % len(images)
    with RunFolder(out) as folder:
        folder.open(resume=False)
        run = Run(
            model, recipe, feed_of(images, chosen), images[:20], seed=0, facts={},
            record=Record(folder, images[:20].float() / 255, lambda line: None),
            accelerator=accelerate.Accelerator(cpu=True),
        )  # fmt: skip
        run.phases = run.phases[:1]
        run.phases[0].finish = lambda: None  # what is measured are steps
        start = time.perf_counter()
        run.train()
        return time.perf_counter() - start


def bare_step(
    case: Case,
    model: zoo.model.ZooModel,
    recipe: Recipe,
    precision: str,
    *,
    fused: bool | None = True,
) -> Callable[[Tensor], None]:
    """One training step, written out; the moving average of a GAN's generator included."""
    phase = case.first_phase(model, recipe)
    optimizers = {
        name: torch.optim.Adam(
            module.parameters(), lr=recipe.lr, betas=(recipe.beta1, 0.999), fused=fused
        )
        for name, module in phase.players.items()
    }

    def update(player: str, loss: Tensor) -> None:
        optimizers[player].zero_grad(set_to_none=True)
        loss.backward()
        optimizers[player].step()

    def autocast() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")

    average = [p.detach().clone() for p in phase.averaged.parameters()] if recipe.average else []
    rng = torch.Generator().manual_seed(0)

    def step(images: Tensor) -> None:
        phase.step(images, Step(images, recipe, generator=rng, autocast=autocast, update=update))
        if average:
            torch._foreach_lerp_(
                average, [p.detach() for p in phase.averaged.parameters()], 1 - recipe.average
            )

    return step


def bare_loop(case: Case, images: Tensor, precision: str) -> float:
    model, recipe = case.build()
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    step = bare_step(case, model.to(memory_format=layout), recipe, precision)
    start = time.perf_counter()
    order = torch.randperm(case.steps * case.batch) % len(images)
    for part in order.split(case.batch):
        step(images[part].float().div_(255).contiguous(memory_format=layout))
    return time.perf_counter() - start


def usual_loop(case: Case, root: Path, steps: int, workers: int) -> float:
    from torchvision import datasets, transforms

    model, recipe = case.build()
    step = bare_step(case, model, recipe, "fp32", fused=None)
    data = datasets.MNIST(str(root), transform=transforms.ToTensor())
    loader = torch.utils.data.DataLoader(
        data, case.batch, shuffle=True, num_workers=workers, drop_last=True
    )

    def batches():
        while True:
            for batch, _ in loader:
                yield batch

    source = batches()
    next(source)  # the workers have started
    start = time.perf_counter()
    for _ in range(steps):
        step(next(source))
    return (time.perf_counter() - start) * case.steps / steps


def write_idx(root: Path, images: Tensor) -> None:
    """``images`` where torchvision's MNIST looks for its files."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = np.array([0x803, len(images), 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.numpy().tobytes())
        header = np.array([0x801, len(images)], ">i4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + bytes(len(images)))


PYTHAE = """
import json, sys, time
import numpy as np, torch
from torch import nn
from pythae.data.datasets import BaseDataset
from pythae.models import AE, AEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig

images, out, batch, epochs = np.load(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
data = torch.from_numpy(images).float().div(255)

class Encoder(BaseEncoder):
    def __init__(self):
        super().__init__()
        widths = [784, 1000, 500, 250]
        layers = [m for a, b in zip(widths, widths[1:]) for m in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(nn.Flatten(), *layers, nn.Linear(250, 30))
    def forward(self, x):
        return ModelOutput(embedding=self.layers(x))

class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        widths = [30, 250, 500, 1000]
        layers = [m for a, b in zip(widths, widths[1:]) for m in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(1000, 784), nn.Sigmoid())
    def forward(self, z):
        return ModelOutput(reconstruction=self.layers(z).reshape(-1, 1, 28, 28))

model = AE(AEConfig(input_dim=(1, 28, 28), latent_dim=30), Encoder(), Decoder())
config = BaseTrainerConfig(output_dir=out, num_epochs=epochs, learning_rate=1e-3,
                           per_device_train_batch_size=batch, no_cuda=True)
trainer = BaseTrainer(model=model, train_dataset=BaseDataset(data, torch.zeros(len(data))),
                      training_config=config)
start = time.perf_counter()
trainer.train(log_output_dir=None)
print(json.dumps(time.perf_counter() - start))
"""


def pythae_trainer(venv: Path, case: Case, images: Tensor, folder: Path) -> float:
    python = pythae_python(venv)
    epochs = max(1, case.steps * case.batch // len(images))
    np.save(folder / "images.npy", images.numpy())
    run = subprocess.run(
        [python, "-c", PYTHAE, folder / "images.npy", folder / "pythae", str(case.batch),
         str(epochs)],
        check=True, capture_output=True, text=True, env=AS_FOUND,
    )  # fmt: skip
    seconds = json.loads(run.stdout.splitlines()[-1])
    return seconds * case.steps * case.batch / (epochs * len(images))


def pythae_python(folder: Path) -> Path:
    """The Python of an environment that has pythae and nothing of ours."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing pythae into {folder} (PyTorch included: minutes)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "pythae", "torch"], check=True)
    return python


def peak(dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product."""
    a, b = torch.randn(2048, 2048, dtype=dtype), torch.randn(2048, 2048, dtype=dtype)
    a @ b
    times = []
    for _ in range(7):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / statistics.median(times) / 1e9


def flops(case: Case) -> int:
    """Of one step, forward and backward."""
    model, recipe = case.build()
    step = bare_step(case, model, recipe, "fp32")
    with FlopCounterMode(display=False) as counter:
        step(pictures(case.batch).float() / 255)
    return counter.get_total_flops()


def ways_of(
    case: Case, images: Tensor, precision: str, folder: Path, pythae: Path | None
) -> dict[str, Callable[[], float]]:
    """Each way of training to its seconds; the first is the zoo's own, by the default recipe."""

    def zoo_way(**settings: Any) -> float:
        return zoo_loop(case, images, precision, Path(tempfile.mkdtemp(dir=folder)), **settings)

    if case.name == "simclr":
        return {"zoo": zoo_way, "adamw": lambda: zoo_way(optimizer="adamw")}
    few = max(10, case.steps // 8)
    ways: dict[str, Callable[[], float]] = {
        "zoo": zoo_way,
        "bare": lambda: bare_loop(case, images, precision),
        "usual": lambda: usual_loop(case, folder, few, 0),
        "usual2": lambda: usual_loop(case, folder, few, 2),
    }
    if pythae is not None and case.name == "deep_ae":
        ways["pythae"] = lambda: pythae_trainer(pythae, case, images, folder)
    return ways


def timed(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of the seconds of each, in turns; the first turn warms everything up."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, run in ways.items():
            seconds = run()
            if turn:
                times[way].append(seconds)
    return {way: statistics.median(values) for way, values in times.items()}


def compared(case: Case, precision: str, seconds: dict[str, float], peak: float) -> list[dict]:
    """A row for each way but the zoo's own."""
    speed = {way: case.steps * case.batch / s for way, s in seconds.items()}
    rate = flops(case) / case.batch * speed["zoo"] / 1e9
    least = limits(case)
    return [
        {
            "net": case.name, "precision": precision, "batch": case.batch, "against": way,
            "zoo_images_per_second": round(speed["zoo"]),
            "images_per_second": round(speed[way]),
            "ratio": round(speed["zoo"] / speed[way], 2), "at_least": round(least[way], 2),
            "gflops": round(rate), "of_peak": round(rate / peak, 2),
            "met": speed["zoo"] / speed[way] >= least[way],
        }
        for way in speed if way != "zoo"
    ]  # fmt: skip


def limits(case: Case) -> dict[str, float]:
    """The least that the zoo's images a second are to be, as a share of each other way's."""
    usual = case.usual_at_least
    return {"bare": 0.95, "usual": usual, "usual2": usual, "pythae": 3.0, "adamw": 1 / 1.2}


def measure(
    rounds: int, scale: float, pythae: Path | None, precision: str, only: list[str]
) -> dict:
    cases = [
        Case("deep_ae", 256, int(800 * scale), 3.0),
        Case("conv_ae", 64, int(500 * scale), 1.8, width=64),
        Case("dcgan", 128, int(250 * scale), 1.8, width=64),
        Case("simclr", 256, max(2, int(40 * scale)), 0.0),
    ]
    cases = [case for case in cases if not only or case.name in only]
    # Only what will be computed in: a large product in emulated bf16 takes minutes.
    peaks = {kind: peak(DTYPES[kind]) for kind in dict.fromkeys(("fp32", precision))}
    images, rows = pictures(IMAGES), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_idx(folder, images)
        for case in cases:
            kinds = dict.fromkeys((precision, "fp32")) if case.name == "simclr" else (precision,)
            for kind in kinds:
                ways = ways_of(case, images, kind, folder, pythae)
                rows += compared(case, kind, timed(ways, rounds), peaks[kind])
    return {
        "threads": torch.get_num_threads(),
        "precision": precision,
        "peak_gflops": {k: round(v) for k, v in peaks.items()},
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many steps")
    parser.add_argument("--pythae", type=Path, metavar="VENV", help="measure pythae in VENV too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--precision", choices=DTYPES, help="in place of the machine's own")
    parser.add_argument("--only", action="append", default=[], metavar="NET", help="these nets")
    arguments = parser.parse_args()
    own = "bf16" if computes_in_bf16(torch.device("cpu")) else "fp32"
    result = measure(
        arguments.rounds, arguments.scale, arguments.pythae,
        arguments.precision or own, arguments.only,
    )  # fmt: skip
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        peaks = ", ".join(f"{k} {v} GFLOP/s" for k, v in result["peak_gflops"].items())
        print(f"{result['threads']} threads, {result['precision']}; matrix product: {peaks}")
        print(f"{'net':9}{'in':6}{'batch':>6}  {'against':8}{'zoo img/s':>11}{'img/s':>9}"
              f"{'ratio':>7}{'at least':>10}{'GFLOP/s':>9}{'of peak':>9}")  # fmt: skip
        for r in result["rows"]:
            print(
                f"{r['net']:9}{r['precision']:6}{r['batch']:6}  {r['against']:8}"
                f"{r['zoo_images_per_second']:11,}{r['images_per_second']:9,}{r['ratio']:7}{r['at_least']:10}{r['gflops']:9}"
                f"{r['of_peak']:9}  {'met' if r['met'] else 'MISSED'}"
            )
    sys.exit(0 if all(r["met"] for r in result["rows"]) else 1)


if __name__ == "__main__":
    main()
