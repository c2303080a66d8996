"""How fast ``encode`` is, beside the fastest bare loop of PyTorch over the same network.

    python benchmarks/inference.py                       one shipped model of each family
    python benchmarks/inference.py simclr.cifar10 timm:resnet18

The bare loop calls the network in inference mode, in the same precision, on batches of 32 to 1000
images, laid out plainly or with channels last: the fastest of these is what counts. Both take turns
in one run on the same random images; ``ratio`` is images a second of ``encode`` over the loop's, by
the medians. A model of timm's, diffusers' or open_clip's is not trained, so that no network is
needed. On a machine that does nothing else.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
from torch import Tensor

import zoo
from zoo.model import ZooModel

MODELS = (
    "deep_ae.mnist", "conv_ae.cifar10", "vae.mnist", "vq_vae.cifar10", "dcgan.cifar10",
    "simclr.cifar10", "patch_kmeans.cifar10", "timm:resnet18",
)  # fmt: skip
BATCHES = (32, 125, 500, 1000)
LAYOUTS = {"plain": torch.contiguous_format, "channels last": torch.channels_last}


def opened(name: str) -> ZooModel:
    return zoo.create(name) if ":" in name else zoo.load(name)


def bare(model: ZooModel, images: Tensor, batch: int, layout: torch.memory_format) -> None:
    with torch.inference_mode():
        for part in images.split(batch):
            model._encode(part.contiguous(memory_format=layout))


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def enough(model: ZooModel, least: float) -> Tensor:
    """Random images that ``encode`` is busy with for about ``least`` seconds, 32 at least."""
    images = torch.rand(32, *model.image_shape, generator=torch.Generator().manual_seed(0))
    model.encode(images)
    count = max(32, round(32 * least / seconds(lambda: model.encode(images))))
    return images.repeat(-(-count // 32), 1, 1, 1)[:count]


def measure(name: str, rounds: int, least: float) -> dict[str, object]:
    model = opened(name)
    images = enough(model, least)
    loops = {
        f"{layout}, {batch}": (lambda b=batch, f=form: bare(model, images, b, f))
        for layout, form in LAYOUTS.items()
        for batch in BATCHES
    }
    tried = {loop: min(seconds(run), seconds(run)) for loop, run in loops.items()}
    best = min(tried, key=lambda loop: tried[loop])
    pairs = [(seconds(lambda: model.encode(images)), seconds(loops[best])) for _ in range(rounds)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "model": name,
        "images": len(images),
        "encode": len(images) / ours,
        "loop": len(images) / theirs,
        "fastest loop": best,
        "ratio": theirs / ours,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=MODELS, help="names that zoo.load takes")
    parser.add_argument("--rounds", type=int, default=7, help="of both in turn")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each side in a round")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()

    found = []
    if not given.json:
        print("| model | encode, images/s | bare loop | fastest loop | ratio |")
        print("|---|--:|--:|---|--:|", flush=True)
    for name in given.models:
        row = measure(name, given.rounds, given.seconds)
        found.append(row)
        if not given.json:
            rates = f"{row['encode']:,.0f} | {row['loop']:,.0f}"
            ratio = f"{row['ratio']:.2f}"
            print(f"| `{name}` | {rates} | {row['fastest loop']} | {ratio} |", flush=True)
    if given.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
