"""Quality, side by side in one run: the zoo, pythae and scikit-learn, in the same seconds.

Each model has the same train images (those that `zoo train` does not hold out), layers of the same
widths, and the same time to learn on all cores, alone and one after the other:

deep_ae      784-1000-500-250-30 by zoo.training's loop, with the model's own recipe
vae          784-200-200-50, the same
pythae AE    the layers of deep_ae by pythae's BaseTrainer: Adam at 1e-3, cosine, batches of 64, the
             best epoch by the images that are held out; its GaussianMixtureSampler of 50
             components, fitted to as many codes as deep_ae's
pythae VAE   the layers of vae, the same; its NormalSampler (--pythae VENV, which is made with
             `pip install pythae` when it is not there; both are left out without the option)
sklearn PCA  30 components, in closed form
sklearn MLP  MLPRegressor of the widths of deep_ae, ReLU, images to images

Epochs are as many as end in time by the second of two epochs that are run before, so that a
schedule comes to its end; fitting a density to the codes afterwards is not counted. PCA and MLP
have no sampler: they get deep_ae's mixture on their codes, and their images are clamped.

All sides give arrays, and zoo.evaluation measures them: ``sse``, the squared error a test image;
``probe``, the accuracy of a linear classifier of the codes; ``frechet``, the distance of 10,000
generated images from the test images in the features of the zoo's classifier. A side is better or
worse when it differs by more than 1 %.

Run it on a machine that does nothing else. Exit code 0 when no row is worse, 1 when one is, 2 for
a mistake in what was typed.
"""

import argparse
import contextlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training import AS_FOUND, pythae_python

# isort: split
# What comes above sets the environment of threads, which has to be before torch.

import numpy as np
import torch
from torch import Tensor

import zoo
from zoo.data import Dataset, load_data, split_validation, to_float
from zoo.data.source import SPLITS
from zoo.density import ENOUGH, GaussianMixture
from zoo.errors import ZooError
from zoo.evaluation.classifier import IMAGES, RECIPES, Classifier, load_classifier
from zoo.evaluation.generation import SAMPLES, frechet_distance
from zoo.evaluation.recognition import fit_linear
from zoo.evaluation.reconstruction import means
from zoo.registry import registry
from zoo.training import VALIDATION

SEED = 0
COMPONENTS = 50
"""Of the mixture of Gaussians on the codes of an autoencoder: as many as deep_ae has."""

BATCH = 64
"""Of pythae: its default, and in seconds as few as these its errors are smaller than with 256."""

EQUAL = 0.01
HIGHER_IS_BETTER = {"sse": False, "probe": True, "frechet": False}

PAIRS = (
    ("deep_ae", "pythae AE"),
    ("vae", "pythae VAE"),
    ("deep_ae", "sklearn PCA"),
    ("deep_ae", "sklearn MLP"),
)

REASONS: dict[tuple[str, str], str] = {
    ("pythae AE", "probe"): "a line tells classes worse by codes that rebuild more; `ablations.py "
    "rbm` has the same within one net",
    ("pythae VAE", "sse"): "vae learns binary images drawn from the grey ones, as Burda et al. "
    "2015 do, and pythae the grey values themselves",
}
"""Why a row may be worse, by peer and measure."""


@dataclass(frozen=True)
class Given:
    """What a side gives to be measured. Images are in [0, 1]; M and N are test and train images."""

    rebuilt: Tensor  # M x 1 x 28 x 28
    train_codes: Tensor  # N x D
    test_codes: Tensor  # M x D
    samples: Tensor  # SAMPLES x 1 x 28 x 28
    seconds: float  # of learning
    epochs: float


@dataclass(frozen=True)
class Data:
    """Both parts of a data set; ``chosen`` are the train images learnt from, and no side sees the
    labels of any."""

    train: Dataset
    test: Dataset
    chosen: Tensor
    held_out: Tensor


# -- the zoo ---------------------------------------------------------------------------------------


class _Enough(Exception):
    """The run has been timed; the rest of it is not wanted."""


class _Clock:
    """Notes when a run began and when each epoch ended; ends the run after ``most`` of these."""

    def __init__(self, most: int = 0):
        self.most, self.times = most, []

    def __call__(self, line: dict[str, Any]) -> None:
        if "start" in line or "seconds" in line:  # the latter are lines of the log
            self.times.append(time.perf_counter())
            if len(self.times) == self.most:
                raise _Enough


def zoo_side(name: str, data: Data, seconds: float, folder: Path) -> Given:
    """The model ``name`` after ``seconds`` of `zoo train`."""

    def learn(out: str, epochs: int, clock: _Clock) -> Path:
        return zoo.train(
            name, data=data.train, out=folder / out, settings={"epochs": epochs}, seed=SEED,
            device="cpu", report=clock,
        )  # fmt: skip

    clock = _Clock(most=3)
    with contextlib.suppress(_Enough):
        learn(f"{name}-rate", 3, clock)
    epochs = epochs_in(seconds, clock.times[2] - clock.times[1])
    clock = _Clock()
    model = zoo.load(f"local-dir:{learn(name, epochs, clock)}")
    return Given(
        rebuilt=torch.cat([model.reconstruct(images) for images in data.test.batches()]),
        train_codes=torch.cat([model.features(images) for images in data.train.batches()]),
        test_codes=torch.cat([model.features(images) for images in data.test.batches()]),
        samples=model.generate(SAMPLES, seed=SEED),
        seconds=clock.times[-1] - clock.times[0],
        epochs=epochs,
    )


def epochs_in(seconds: float, epoch: float) -> int:
    """How many epochs of ``epoch`` seconds end in time; one at least."""
    return max(1, int(seconds / epoch))


# -- pythae ----------------------------------------------------------------------------------------

PYTHAE = """
import json, sys, time
import numpy as np, torch
from torch import nn
from pythae.data.datasets import BaseDataset
from pythae.models import AE, VAE, AEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.samplers import (GaussianMixtureSampler, GaussianMixtureSamplerConfig, NormalSampler)
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback

(folder, kind, widths, activation, batch, seconds, samples, components, fitted_to, seed) = (
    json.loads(sys.argv[1]))
part = np.load(f"{folder}/images.npz", allow_pickle=False)
images = {name: torch.from_numpy(part[name]).float().div(255) for name in part.files}
Act, code = getattr(nn, activation), widths[-1]

class Encoder(BaseEncoder):
    def __init__(self):
        super().__init__()
        layers = [m for a, b in zip(widths[:-1], widths[1:-1]) for m in (nn.Linear(a, b), Act())]
        self.layers = nn.Sequential(nn.Flatten(), *layers)
        self.mean = nn.Linear(widths[-2], code)
        if kind == "VAE":
            self.log_variance = nn.Linear(widths[-2], code)
    def forward(self, x):
        x = self.layers(x)
        if kind == "VAE":
            return ModelOutput(embedding=self.mean(x), log_covariance=self.log_variance(x))
        return ModelOutput(embedding=self.mean(x))

class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        down = widths[::-1]
        layers = [m for a, b in zip(down, down[1:-1]) for m in (nn.Linear(a, b), Act())]
        self.layers = nn.Sequential(*layers, nn.Linear(down[-2], down[-1]), nn.Sigmoid())
    def forward(self, z):
        return ModelOutput(reconstruction=self.layers(z).reshape(-1, 1, 28, 28))

class Clock(TrainingCallback):
    def __init__(self):
        self.times = []
    def on_train_begin(self, *_, **__):
        self.times.append(time.perf_counter())
    def on_epoch_end(self, *_, **__):
        self.times.append(time.perf_counter())

def learn(epochs):
    torch.manual_seed(seed)
    if kind == "VAE":
        config = VAEConfig(input_dim=(1, 28, 28), latent_dim=code, reconstruction_loss="bce")
        model = VAE(config, Encoder(), Decoder())
    else:
        model = AE(AEConfig(input_dim=(1, 28, 28), latent_dim=code), Encoder(), Decoder())
    config = BaseTrainerConfig(
        output_dir=f"{folder}/pythae", num_epochs=epochs, learning_rate=1e-3, seed=seed,
        per_device_train_batch_size=batch, per_device_eval_batch_size=500, no_cuda=True,
        scheduler_cls="CosineAnnealingLR", scheduler_params={"T_max": epochs})
    parts = [BaseDataset(images[n], torch.zeros(len(images[n]))) for n in ("chosen", "held_out")]
    clock = Clock()
    trainer = BaseTrainer(model=model, train_dataset=parts[0], eval_dataset=parts[1],
                          training_config=config, callbacks=[clock])
    trainer.train()
    return trainer._best_model.eval(), clock.times

_, times = learn(2)
epochs = max(1, int(seconds / (times[2] - times[1])))
model, times = learn(epochs)

@torch.no_grad()
def batched(call, x):
    return torch.cat([call(rows) for rows in x.split(500)])

def encode(x):
    return model.encoder(x)["embedding"]

def decode(z):
    return model.decoder(z)["reconstruction"]

if kind == "VAE":
    sampler = NormalSampler(model)
else:
    sampler = GaussianMixtureSampler(model, GaussianMixtureSamplerConfig(n_components=components))
    sampler.fit(images["chosen"][:fitted_to])
torch.manual_seed(seed)
np.random.seed(seed)
test_codes = batched(encode, images["test"])
np.savez(f"{folder}/given.npz",
         rebuilt=batched(decode, test_codes).numpy(), test_codes=test_codes.numpy(),
         train_codes=batched(encode, images["train"]).numpy(),
         samples=sampler.sample(samples).detach().numpy(),
         seconds=times[-1] - times[0], epochs=epochs)
"""


def pythae_side(
    kind: str, widths: list[int], activation: str,
    data: Data, seconds: float, folder: Path, python: Path,
) -> Given:  # fmt: skip
    """pythae's ``kind``, AE or VAE, of ``widths`` from pixels to code, in a process of ``python``.

    Raises:
        ZooError: the process failed; the text has the end of what it said.
    """
    np.savez(
        folder / "images.npz",
        train=data.train.images.numpy(), test=data.test.images.numpy(),
        chosen=data.train.images[data.chosen].numpy(),
        held_out=data.train.images[data.held_out].numpy(),
    )  # fmt: skip
    arguments = [
        str(folder), kind, widths, activation, BATCH, seconds, SAMPLES, COMPONENTS, ENOUGH, SEED,
    ]  # fmt: skip
    _run(python, "-c", PYTHAE, json.dumps(arguments))
    with np.load(folder / "given.npz", allow_pickle=False) as arrays:
        given = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    took, epochs = float(given.pop("seconds")), int(given.pop("epochs"))
    return Given(**given, seconds=took, epochs=epochs)


def _run(python: Path, *arguments: str) -> None:
    run = subprocess.run([python, *arguments], capture_output=True, text=True, env=AS_FOUND)
    if run.returncode:
        raise ZooError(f"pythae failed in {python.parents[1]}:\n{run.stderr[-2000:]}")


# -- scikit-learn ----------------------------------------------------------------------------------


def pca_side(code: int, data: Data) -> Given:
    """scikit-learn's PCA of ``code`` components."""
    from sklearn.decomposition import PCA

    start = time.perf_counter()
    pca = PCA(code, random_state=SEED).fit(_rows(data.train)[data.chosen.numpy()])
    took = time.perf_counter() - start
    return _sklearn_given(pca.transform, pca.inverse_transform, data, took, 1)


def mlp_side(widths: list[int], data: Data, seconds: float) -> Given:
    """scikit-learn's MLPRegressor as an autoencoder of ``widths`` from pixels to code and back."""
    from sklearn.neural_network import MLPRegressor

    # partial_fit makes one pass over what it is given: parts of an epoch, to end in time.
    hidden = widths[1:] + widths[-2:0:-1]
    mlp = MLPRegressor(hidden_layer_sizes=hidden, batch_size=200, random_state=SEED)
    images, rng = _rows(data.train)[data.chosen.numpy()], np.random.default_rng(SEED)
    part, seen, start = min(4000, len(images)), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        rows = rng.permutation(len(images))
        for first in range(0, len(images), part):
            mlp.partial_fit(x := images[rows[first : first + part]], x)
            seen += len(x)
            if time.perf_counter() - start >= seconds:
                break
    took = time.perf_counter() - start
    layers = list(zip(mlp.coefs_, mlp.intercepts_, strict=True))
    middle = len(widths) - 1

    def encode(x: np.ndarray) -> np.ndarray:
        for weight, bias in layers[:middle]:
            x = np.maximum(x @ weight + bias, 0)
        return x

    def decode(x: np.ndarray) -> np.ndarray:
        for weight, bias in layers[middle:-1]:
            x = np.maximum(x @ weight + bias, 0)
        weight, bias = layers[-1]
        return x @ weight + bias

    return _sklearn_given(encode, decode, data, took, seen / len(images))


def _rows(part: Dataset) -> np.ndarray:
    return to_float(part.images).flatten(1).numpy()


def _sklearn_given(
    encode: Callable[[np.ndarray], np.ndarray], decode: Callable[[np.ndarray], np.ndarray],
    data: Data, seconds: float, epochs: float,
) -> Given:  # fmt: skip
    def images(codes: np.ndarray) -> Tensor:
        shape = tuple(data.test.images.shape[1:])
        return torch.from_numpy(decode(codes)).float().clamp(0, 1).unflatten(1, shape)

    train_codes, test_codes = encode(_rows(data.train)), encode(_rows(data.test))
    density = GaussianMixture(train_codes.shape[1], COMPONENTS)
    density.fit(torch.from_numpy(train_codes)[data.chosen], seed=SEED)
    codes = density.sample(SAMPLES, torch.Generator().manual_seed(SEED))
    return Given(
        rebuilt=images(test_codes),
        train_codes=torch.from_numpy(train_codes).float(),
        test_codes=torch.from_numpy(test_codes).float(),
        samples=images(codes.numpy()),
        seconds=seconds,
        epochs=epochs,
    )


# -- all sides, measured ---------------------------------------------------------------------------


def measured(given: Given, data: Data, classifier: Classifier) -> dict[str, float]:
    """The three measures of a side, and the seconds and epochs that it learned for."""
    test = to_float(data.test.images)
    samples = to_float((given.samples * 255).round().to(torch.uint8))  # as pictures have them
    probe = fit_linear(given.train_codes, data.train.labels)
    return {
        "sse": means([(test, given.rebuilt)], ("sse",))["sse"],
        "probe": probe.accuracy(given.test_codes, data.test.labels),
        "frechet": frechet_distance(classifier.features(test), classifier.features(samples)),
        "seconds": round(given.seconds, 1),
        "epochs": round(given.epochs, 2),
    }


def compared(measure: str, ours: float, theirs: float) -> str:
    """``better``, ``equal`` (within 1 % of ``theirs``) or ``worse``."""
    gain = (ours - theirs) / theirs * (1 if HIGHER_IS_BETTER[measure] else -1)
    if abs(gain) <= EQUAL:
        return "equal"
    return "better" if gain > 0 else "worse"  # NaN is worse


def measure(
    name: str, seconds: float, venv: Path | None, images: int | None, data_dir: Path | None
) -> dict[str, Any]:
    """All sides on the data set ``name``, and the rows of :data:`PAIRS`."""
    classifier = load_classifier(name)
    data = read(name, images, data_dir)
    if venv is not None:  # made, and seen to work, before anything has learnt for minutes
        python = pythae_python(venv)
        _run(python, "-c", "import pythae")
    deep, variational = (registry().find(model)[1].config for model in ("deep_ae", "vae"))
    deep_widths = [28 * 28, *deep["hidden"], deep["latent_dim"]]
    vae_widths = [28 * 28, variational["hidden"], variational["hidden"], variational["latent_dim"]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sides: dict[str, Callable[[], Given]] = {
            "deep_ae": lambda: zoo_side("deep_ae", data, seconds, folder),
            "vae": lambda: zoo_side("vae", data, seconds, folder),
        }
        if venv is not None:
            sides["pythae AE"] = lambda: pythae_side(
                "AE", deep_widths, "SiLU", data, seconds, folder, python
            )
            sides["pythae VAE"] = lambda: pythae_side(
                "VAE", vae_widths, "Tanh", data, seconds, folder, python
            )
        sides["sklearn PCA"] = lambda: pca_side(deep["latent_dim"], data)
        sides["sklearn MLP"] = lambda: mlp_side(deep_widths, data, seconds)
        found = {}
        for side, run in sides.items():
            print(f"{side} ...", file=sys.stderr)
            found[side] = measured(run(), data, classifier)
    rows = []
    for model, peer in PAIRS:
        if peer not in found:
            continue
        for what in HIGHER_IS_BETTER:
            ours, theirs = found[model][what], found[peer][what]
            verdict = compared(what, ours, theirs)
            reason = REASONS.get((peer, what), "not known") if verdict == "worse" else ""
            rows.append(
                {
                    "model": model, "peer": peer, "measure": what, "ours": ours, "theirs": theirs,
                    "verdict": verdict, "reason": reason,
                }
            )  # fmt: skip
    return {
        "data": name,
        "train_images": len(data.train),
        "test_images": len(data.test),
        "budget_seconds": seconds,
        "threads": torch.get_num_threads(),
        "sides": found,
        "rows": rows,
    }


def read(name: str, images: int | None, data_dir: Path | None) -> Data:
    """Both parts of the data set ``name``, or the first ``images`` of each."""
    train, test = (
        replace(part, images=part.images[:images], labels=part.labels[:images])
        for part in (load_data(name, split, IMAGES, data_dir=data_dir) for split in SPLITS)
    )
    return Data(train, test, *split_validation(train, VALIDATION, SEED))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=sorted(RECIPES), default="mnist")
    parser.add_argument("--data-dir", type=Path, help="where to look for the data set first")
    parser.add_argument("--seconds", type=float, default=120, help="that each model may learn")
    parser.add_argument("--images", type=int, help="of each part only the first so many, to try")
    parser.add_argument("--pythae", type=Path, metavar="VENV", help="measure pythae in VENV too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    if not 0 < arguments.seconds < math.inf:
        parser.error(f"--seconds should be a number above 0, got {arguments.seconds:g}")
    if arguments.images is not None and arguments.images < 2000:
        parser.error(f"--images should be from 2000, got {arguments.images}")
    try:
        result = measure(
            arguments.data, arguments.seconds, arguments.pythae, arguments.images,
            arguments.data_dir,
        )  # fmt: skip
    except ZooError as error:
        parser.error(str(error))
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    sys.exit(1 if any(row["verdict"] == "worse" for row in result["rows"]) else 0)


def show(result: dict[str, Any]) -> None:
    """The tables: what each side learned, and the rows."""
    print(
        f"{result['data']}, {result['train_images']:,} train and {result['test_images']:,} test "
        f"images, {result['budget_seconds']:g} seconds, {result['threads']} threads"
    )
    print(f"{'side':13}{'seconds':>9}{'epochs':>9}{'sse':>9}{'probe':>9}{'frechet':>9}")
    for side, of in result["sides"].items():
        print(
            f"{side:13}{of['seconds']:9.1f}{of['epochs']:9.1f}{of['sse']:9.3f}{of['probe']:9.4f}"
            f"{of['frechet']:9.3f}"
        )
    print(f"\n{'model':9}{'against':13}{'measure':9}{'ours':>9}{'theirs':>9}")
    for row in result["rows"]:
        print(
            f"{row['model']:9}{row['peer']:13}{row['measure']:9}{row['ours']:9.4g}"
            f"{row['theirs']:9.4g}  {row['verdict']}"
            + (f": {row['reason']}" if row["reason"] else "")
        )


if __name__ == "__main__":
    main()
