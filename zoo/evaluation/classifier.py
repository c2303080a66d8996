"""The small classifiers that generated images are measured by, as Inception is for photographs.

Inception (Heusel et al. 2017, arXiv:1706.08500) has never seen a digit, and it is 90 MB. For
28 x 28 grey images the zoo ships a convolutional network of its own for each set, trained on the
train part with labels. It is only for measuring and no model of the zoo: distances in its features
can be compared with each other, but not with a published FID.

``classifiers/<data set>/`` holds ``model.safetensors`` (learned tensors in half precision) and
``config.json``. To make one again: ``python -m zoo.evaluation.classifier --data mnist --out DIR``.
"""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.data import Dataset, load_data, split_validation, to_float
from zoo.errors import DataError, WeightsError
from zoo.files import write_atomically, write_json
from zoo.folder import CONFIG, TENSORS, read_json
from zoo.isolation import isolated
from zoo.spec import Preprocessing
from zoo.weights import Tensors

FOLDER = Path(__file__).parent / "classifiers"
IMAGES = Preprocessing(channels=1, height=28, width=28)
CLASSES = 10
VALIDATION = 1 / 12  # 5,000 of the 60,000 train images choose the recipe


class Classifier(nn.Module):
    """28 x 28 grey images in [0, 1] to 96 features, and those to ten logits."""

    num_features = 96

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *_block(1, 32),
            nn.MaxPool2d(2),  # 32 x 14 x 14
            *_block(32, 64),
            *_block(64, 64),
            nn.MaxPool2d(2),  # 64 x 7 x 7
            *_block(64, 96),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),  # 96
        )
        self.head = nn.Linear(96, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x 10."""
        logits: Tensor = self.head(self.trunk(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """The features that distances are measured in, N x 96; ``images`` may be many."""
        return self._batched(self.trunk, images)

    def classify(self, features: Tensor) -> Tensor:
        """The most probable class of each image by its :meth:`features`, N."""
        return self._batched(self.head, features).argmax(1)

    def _batched(self, call: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([call(part) for part in batch.split(500)])


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def has_classifier(data: str) -> bool:
    """Whether one is shipped for the data set of this name."""
    return (FOLDER / data / CONFIG).is_file()


@cache
def load_classifier(data: str, folder: Path = FOLDER) -> Classifier:
    """The shipped classifier of the data set ``data``, in eval mode.

    Raises:
        DataError: none is shipped for it.
        WeightsError: its file is damaged, or not of this network.
    """
    if not (folder / data / CONFIG).is_file():
        have = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        raise DataError(
            f"no classifier for {data!r:.80} to measure generated images by; there is one for: "
            f"{', '.join(have) or 'no data set'}"
        )
    config = read_json(folder / data / CONFIG)
    if not {"size", "sha256"} <= config.keys():
        raise WeightsError(f"{folder / data / CONFIG} has no size and sha256")
    classifier = Classifier()
    Tensors.read(folder / data, config["size"], config["sha256"]).load_into(classifier)
    # In this layout it is half as fast again on processors, with the same results.
    return classifier.eval().requires_grad_(False).to(memory_format=torch.channels_last)


# -- making them -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe:
    """How one is trained: AdamW, one cycle of the rate, random affine maps of all images."""

    epochs: int = 12
    batch_size: int = 128
    lr: float = 4e-3
    weight_decay: float = 0.01
    affine: float = 0.7  # 1: up to 15 degrees, 15 % of scale and shear, 2 pixels of shift
    flip: bool = False
    smoothing: float = 0.05  # of the labels


RECIPES = {
    "mnist": ClassifierRecipe(),
    "fashion_mnist": ClassifierRecipe(epochs=16, affine=0.4, flip=True),
}


@isolated()
def train_classifier(
    train: Dataset,
    recipe: ClassifierRecipe,
    *,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Classifier, float]:
    """A classifier of the labelled images ``train``, and its accuracy on a held-out part of them.

    The global random state of torch is left alone.
    """
    from zoo.training.precision import computes_in_bf16
    from zoo.training.rng import seeded

    train = train.labelled()
    in_bf16 = computes_in_bf16(torch.device("cpu"))
    chosen, held_out = split_validation(train, VALIDATION, seed)
    all_labels = _labels(train)
    images, labels = to_float(train.images[chosen]), all_labels[chosen]
    steps = len(images) // recipe.batch_size
    rng = torch.Generator().manual_seed(seed)
    with seeded(seed):
        network = Classifier()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, recipe.epochs * steps)
    accuracy = 0.0
    for epoch in range(recipe.epochs):
        network.train()
        order = torch.randperm(len(images), generator=rng)
        for index in order[: steps * recipe.batch_size].split(recipe.batch_size):
            batch = _augmented(images[index], recipe, rng)
            with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
                logits = network(batch)
            loss = F.cross_entropy(logits.float(), labels[index], label_smoothing=recipe.smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        accuracy = measured(network, train.images[held_out], all_labels[held_out])
        report(f"epoch {epoch + 1}/{recipe.epochs}: loss {loss:.4f}, held-out {accuracy:.4f}")
    return network.eval(), accuracy


def _labels(data: Dataset) -> Tensor:
    if data.labels is None:
        raise DataError(f"{data.name} has no labels, which a classifier learns from")
    return data.labels


def _augmented(images: Tensor, recipe: ClassifierRecipe, rng: torch.Generator) -> Tensor:
    from zoo.training.rng import affine_maps, warp

    # Bilinear, as those that ship have learnt: other bytes would move every figure that they give.
    images = warp(images, affine_maps(len(images), recipe.affine, rng), mode="bilinear")
    if recipe.flip:
        mirrored = torch.rand(len(images), generator=rng) < 0.5
        images[mirrored] = images[mirrored].flip(3)
    return images


def measured(network: Classifier, images: Tensor, labels: Tensor) -> float:
    """Share of the uint8 ``images`` whose class ``network`` gives."""
    network.eval()
    return float((network.classify(network.features(to_float(images))) == labels).float().mean())


def save_classifier(network: Classifier, folder: Path, facts: dict[str, Any]) -> None:
    """Write ``model.safetensors`` and ``config.json`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    learned = {name for name, _ in network.named_parameters()}
    tensors = {
        name: (t.half() if name in learned else t).detach().contiguous()
        for name, t in network.state_dict().items()
    }
    data = safetensors.torch.save(tensors)
    write_atomically(folder / TENSORS, data)
    write_json(
        folder / CONFIG,
        {
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "parameters": sum(p.numel() for p in network.parameters()),
            **facts,
        },
    )


@click.command()
@click.option("--data", required=True, type=click.Choice(list(RECIPES)))
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where named sets are stored.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Made: OUT/DATA.")
@click.option("--seed", default=0, show_default=True)
def main(data: str, data_dir: Path | None, out: Path, seed: int) -> None:
    """Train the classifier of a data set, as the shipped one was."""
    from zoo.training.precision import computes_in_bf16

    if os.path.lexists(out / data):
        raise click.UsageError(f"{out / data} exists already; choose another --out")
    start, recipe = time.perf_counter(), RECIPES[data]
    train = load_data(data, "train", IMAGES, data_dir=data_dir)
    network, held_out = train_classifier(train, recipe, seed=seed, report=click.echo)
    seconds = time.perf_counter() - start
    for parameter in network.parameters():  # what is measured has to be what is stored
        parameter.data = parameter.data.half().float()
    test = load_data(data, "test", IMAGES, data_dir=data_dir).labelled()
    accuracy = measured(network, test.images[:], _labels(test))
    save_classifier(
        network,
        out / data,
        {
            "data": data,
            "licence": f"MIT; trained on {data}: {train.licence}",
            "recipe": asdict(recipe),
            "seed": seed,
            "held_out_accuracy": round(held_out, 4),
            "test_accuracy": round(accuracy, 4),
            "seconds": round(seconds),
            "precision": "bf16" if computes_in_bf16(torch.device("cpu")) else "fp32",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
    )
    click.echo(f"test accuracy {accuracy:.4f} after {seconds:.0f} seconds; it is in {out / data}")


if __name__ == "__main__":
    main()
