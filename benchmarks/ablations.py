"""What each part of a method is worth: the same training with and without it, a row each.

    python benchmarks/ablations.py                   all of them, into ./runs/ablations
    python benchmarks/ablations.py hidden iwae       some

Both sides have the same data, seed and number of passes over the train images, fewer than those of
the weights that ship: the difference is what counts here. Each is measured by `zoo evaluate` on the
test part. A run that was stopped goes on where it was, and one that is finished is only measured.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weights import measured, protocols, say, show

# isort: split
# What comes above sets the environment of threads, which has to be before torch.

import zoo
from zoo.report import figures


@dataclass(frozen=True, kw_only=True)
class Side:
    """What is trained, by the name that its row has."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ablation:
    what: str
    model: str
    without: Side
    with_: Side
    metrics: tuple[str, ...]


# Four pairs of layers, two passes for each: the side without has as many more of all layers.
RBM_EPOCHS = 2

ABLATIONS = {
    "hidden": Ablation(
        what="loss on the hidden layers",
        model="deep_ae",
        without=Side(name="off", settings={"epochs": 12, "hidden_weight": 0.0}),
        with_=Side(name="on", settings={"epochs": 12}),
        metrics=("sse", "probe"),
    ),
    "rbm": Ablation(
        what="pretraining as RBMs, logistic units",
        model="deep_ae",
        without=Side(
            name="off",
            settings={"epochs": 8 + 4 * RBM_EPOCHS, "hidden_weight": 0.0},
            config={"activation": "sigmoid"},
        ),
        with_=Side(
            name="on",
            settings={
                "epochs": 8, "hidden_weight": 0.0, "pretrain": "rbm",
                "pretrain_epochs": RBM_EPOCHS,
            },
            config={"activation": "sigmoid"},
        ),
        metrics=("sse", "probe"),
    ),
    "average": Ablation(
        what="moving average of the generator",
        model="dcgan",
        without=Side(name="off", settings={"epochs": 10, "encoder_epochs": 1, "average": 0.0}),
        with_=Side(name="on", settings={"epochs": 10, "encoder_epochs": 1}),
        metrics=("frechet", "generated_1nn"),
    ),
    "mixture": Ablation(
        what="density of the codes that generate samples",
        model="conv_vae",
        without=Side(name="one Gaussian", settings={"epochs": 10}, config={"components": 1}),
        with_=Side(name="mixture of 20", settings={"epochs": 10}, config={"components": 20}),
        metrics=("frechet", "generated_1nn"),
    ),
    "iwae": Ablation(
        what="samples of the importance-weighted bound",
        model="vae",
        without=Side(name="k = 1", settings={"epochs": 20}),
        with_=Side(name="k = 5", settings={"epochs": 20, "samples": 5, "iwae": True}),
        metrics=("nll",),
    ),
}  # fmt: skip


def run(key: str, side: Side, data: str, runs: Path) -> dict[str, float]:
    """Train this side of the ablation ``key``, or go on, and measure it."""
    ablation = ABLATIONS[key]
    out = runs / f"{key}.{data}.{'with' if side is ablation.with_ else 'without'}"
    if not (out / "weights").exists():
        say(f"{ablation.model}: {ablation.what}: {side.name}")
        zoo.train(
            ablation.model,
            data=data,
            out=out,
            config=side.config,
            settings=side.settings,
            resume=any(out.glob("checkpoint*.safetensors")),
            report=show,
        )
    if not set(ablation.metrics) <= measured(out / "weights").keys():
        wanted = protocols(list(ablation.metrics))
        where = f"local-dir:{out}"
        zoo.evaluate(where, data=data, protocols=wanted, with_baselines=False, progress=say)
    found = measured(out / "weights")
    return {name: found[name] for name in ablation.metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("keys", nargs="*", metavar="ABLATION", help=", ".join(ABLATIONS))
    parser.add_argument("--data", default="mnist", help="a named set; mnist by default")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    if unknown := set(arguments.keys) - ABLATIONS.keys():
        parser.error(f"no ablation {', '.join(sorted(unknown))}; there are {', '.join(ABLATIONS)}")
    rows = []
    try:
        for key in arguments.keys or ABLATIONS:
            ablation = ABLATIONS[key]
            without = run(key, ablation.without, arguments.data, arguments.runs)
            with_ = run(key, ablation.with_, arguments.data, arguments.runs)
            for metric in ablation.metrics:
                gain = (with_[metric] - without[metric]) * figures.meaning(metric).better
                rows.append(
                    {
                        "key": key, "model": ablation.model, "what": ablation.what,
                        "metric": metric, ablation.without.name: without[metric],
                        ablation.with_.name: with_[metric], "helps": gain > 0,
                    }
                )  # fmt: skip
                if not arguments.json:
                    print(
                        f"{ablation.model:9} {ablation.what:43} {metric:14}"
                        f"{ablation.without.name} {without[metric]:.4g}   "
                        f"{ablation.with_.name} {with_[metric]:.4g}   "
                        f"{'better' if gain > 0 else 'not better'}",
                        flush=True,
                    )
    except zoo.ZooError as error:
        parser.error(str(error))
    if arguments.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
