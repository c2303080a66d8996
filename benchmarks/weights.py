"""Trains, measures and writes the weights that ship, all of it again from data.

    python benchmarks/weights.py                          all of them, into ./runs
    python benchmarks/weights.py deep_ae.mnist ae.mnist   some
    python benchmarks/weights.py --ship RUN NAME.TAG      a finished run becomes shipped weights

What is trained, and how, is read from the weights themselves: each config.json has the data set,
the model's config, the recipe and the seed, and each metrics.json says what was measured. A run
that was stopped goes on where it was; one that is finished is not trained again. New weights lie
in RUNS/NAME.TAG/weights, beside them what they measure is compared with what is recorded. They do
not take the place of those that ship: a tag never changes its bytes.
"""

import argparse
import json
import os
import shutil
import sys
from fnmatch import fnmatchcase
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import zoo
from zoo import evaluation
from zoo.folder import CONFIG, METRICS, TENSORS, VECTORS, read_config, weights_root
from zoo.registry import registry
from zoo.sources import weights_folder

SHIPPED = (CONFIG, METRICS, TENSORS, VECTORS)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(line: dict) -> None:
    """A line an epoch, as a log has it."""
    if "start" in line or "warning" in line:
        say(line.get("start") or f"Warning: {line['warning']}")
    elif "epoch" in line and "step" not in line:
        losses = "  ".join(
            f"{k} {v:.4g}" for k, v in line.items()
            if isinstance(v, float) and not k.startswith("second")
        )  # fmt: skip
        say(f"{line['phase']} {line['epoch']}/{line['of']}  {losses}")


def measured(folder: Path) -> dict[str, float]:
    path = folder / METRICS
    recorded = json.loads(path.read_text("utf-8"))["metrics"] if path.exists() else []
    return {metric["name"]: metric["value"] for metric in recorded}


def protocols(names: list[str]) -> list[str]:
    """The protocols that give these figures."""
    return [
        protocol.name
        for protocol in evaluation.PROTOCOLS.values()
        if any(fnmatchcase(name, pattern) for pattern in protocol.gives for name in names)
    ]


def train(name: str, runs: Path) -> Path:
    config = read_config(weights_folder(name)).facts
    run, training = runs / name, config["training"]
    if not (run / "weights").exists():
        say(f"training {name}, which took {training['seconds'] / 60:.0f} minutes before")
        zoo.train(
            config["model"],
            data=config["dataset"],
            out=run,
            config=config["config"],
            settings=training["recipe"],
            seed=training["seed"],
            resume=any(run.glob("checkpoint*.safetensors")),
            report=show,
        )
    return run / "weights"


def again(name: str, runs: Path) -> None:
    """Train and measure ``name``, and show its figures beside those that are recorded."""
    folder = train(name, runs)
    recorded = measured(weights_folder(name))
    wanted = protocols(list(recorded))
    have = protocols(list(measured(folder)))
    if missing := [p for p in wanted if p not in have]:
        zoo.evaluate(f"local-dir:{folder}", protocols=missing, progress=say)
    now = measured(folder)
    print(f"{name}: {'figure':24}{'recorded':>12}{'now':>12}")
    for figure, value in recorded.items():
        if figure in now:
            print(f"{name}: {figure:24}{value:12.5g}{now[figure]:12.5g}")


def ship(run: Path, name: str) -> Path:
    """Copy the weights of a run beside the module of their plugin.

    The record is then read from them; figures are added with ``zoo evaluate``.
    """
    folder = run / "weights" if (run / "weights").exists() else run
    config, (model, _, tag) = read_config(folder).facts, name.partition(".")
    if config["model"] != model or not tag:
        raise SystemExit(f"{folder} holds {config['model']}; expected a name {config['model']}.TAG")
    plugin, _ = registry().find(model)
    target = weights_root(plugin.root.__file__) / name
    if target.exists():
        raise SystemExit(f"{target} exists already: a tag never changes its bytes; take another")
    target.mkdir(parents=True)
    for file in SHIPPED:
        if (folder / file).exists():
            shutil.copy(folder / file, target / file)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME.TAG")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs lie")
    parser.add_argument("--ship", type=Path, metavar="RUN", help="ship this finished run as NAME")
    arguments = parser.parse_args()
    if arguments.ship:
        if len(arguments.names) != 1:
            parser.error("--ship takes one NAME.TAG")
        print(ship(arguments.ship, arguments.names[0]))
        return
    names = arguments.names or zoo.list_models(pretrained=True)
    seconds = [read_config(weights_folder(n)).training.get("seconds", 0) for n in names]
    say(f"{len(names)} sets of weights; their training took {sum(seconds) / 3600:.1f} hours")
    try:
        for name in names:
            again(name, arguments.runs)
    except KeyboardInterrupt:
        say(f"\nStopped at {name}; the same command goes on from there.")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
