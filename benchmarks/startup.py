"""Start-up and loading, as ratios side by side in one run.

Every pair of commands takes turns, so that both see the same machine; the ratio of the medians is
what counts. Prints a table, and JSON with --json. Needs timm, as a peer: pip install timm.

Run it on a machine that does nothing else: make benchmark
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

PYTHON = sys.executable
ZOO = str(Path(PYTHON).with_name("zoo"))
DISTRIBUTIONS = 300
WEIGHTS = 300


def seconds(command: list[str], env: dict[str, str] | None = None) -> float:
    start = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **(env or {})}
    )
    return time.perf_counter() - start


def ratio(a: Callable[[], float], b: Callable[[], float], runs: int) -> tuple[float, float, float]:
    """Medians of a and of b, taken in turn after one run of each that does not count, and a / b."""
    a(), b()
    pairs = [(a(), b()) for _ in range(runs)]
    first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
    return first, second, first / second


def many_distributions(folder: Path) -> None:
    """Installed distributions with entry points of other groups, as a full environment has."""
    for i in range(DISTRIBUTIONS):
        info = folder / f"other_{i}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: other-{i}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[console_scripts]\nother-{i} = other_{i}:main\n")


def many_weights(folder: Path) -> None:
    """A plugin that ships as many sets of weights as a large zoo, each with a hundred figures."""
    package, info = folder / "zoo_many", folder / "latentzoo_many-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: latentzoo-many\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[zoo]\nmany = zoo_many\n")
    config = {
        "api_version": 1, "model": "many", "plugin": "latentzoo-many", "config": {}, "size": 1,
        "sha256": "0" * 64, "parameters": 1, "dataset": "none", "licence": "none",
    }  # fmt: skip
    metric = {"value": 0.5, "dataset": "none", "split": "test", "protocol": "none", "samples": 1}
    metrics = {"metrics": [{"name": f"figure_{i}", **metric} for i in range(100)]}
    for i in range(WEIGHTS):
        weights = package / "weights" / f"many.tag_{i}"
        weights.mkdir(parents=True)
        (weights / "config.json").write_text(json.dumps(config))
        (weights / "metrics.json").write_text(json.dumps(metrics))
    (package / "__init__.py").write_text(MANY)


MANY = """
from zoo import ModelSpec, bundled_weights, hookimpl

@hookimpl
def zoo_models():
    return [
        ModelSpec(
            name="many", family="none", builder="zoo_many.model:Many", summary="Made up",
            image_shape=(1, 1, 1), code_shape=(1,), weights=bundled_weights(__file__, "many"),
            default_tag="tag_0",
        )
    ]
"""

LOAD = """
import json, statistics, sys, tempfile, time
from pathlib import Path
import torch, zoo
from zoo_ae.deep_ae import DeepAE

name = "deep_ae.mnist"
tensors = Path(tempfile.mkdtemp()) / "tensors.pt"
torch.save(zoo.load(name).state_dict(), tensors)

def ours():
    start = time.perf_counter()
    zoo.load(name)
    return time.perf_counter() - start

def plain():
    start = time.perf_counter()
    model = DeepAE()
    model.load_state_dict(torch.load(tensors, weights_only=True))
    model.eval()
    return time.perf_counter() - start

ours(), plain()
pairs = [(ours(), plain()) for _ in range(int(sys.argv[1]))]
print(json.dumps([statistics.median(column) for column in zip(*pairs)]))
assert not {"torchvision", "timm", "diffusers", "open_clip"} & set(sys.modules)
"""

GENERATE = """
import sys, zoo
images = zoo.load("dcgan.fashion_mnist").generate(64, seed=0)
assert images.shape == (64, 1, 28, 28)
assert not {"torchvision", "timm", "diffusers", "open_clip"} & set(sys.modules)
"""


def measure(runs: int) -> list[dict]:
    rows = []

    def compare(what, a, b, limit, *, at_least=False, runs=runs):
        first, second, times = ratio(a, b, runs)
        value = 1 / times if at_least else times
        rows.append(
            {
                "what": what,
                "a_ms": round(first * 1e3, 1),
                "b_ms": round(second * 1e3, 1),
                "ratio": round(value, 2),
                "limit": limit,
                "met": value >= limit if at_least else value <= limit,
            }
        )

    def nothing() -> float:
        return seconds([PYTHON, "-c", "pass"])

    def as_json() -> float:
        return seconds([ZOO, "list", "--json"])

    def code(text: str) -> Callable[[], float]:
        return lambda: seconds([PYTHON, "-c", text])

    compare("zoo list --json / python -c pass", as_json, nothing, 10)
    compare("zoo list / python -c pass", lambda: seconds([ZOO, "list"]), nothing, 20)
    compare(
        "timm.list_models() / zoo list --json (at least)",
        as_json, code("import timm; timm.list_models()"), 15, at_least=True, runs=max(3, runs // 4),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        many_distributions(Path(folder))
        full = {"PYTHONPATH": folder}
        compare(
            f"zoo list --json with {DISTRIBUTIONS} more distributions / without",
            lambda: seconds([ZOO, "list", "--json"], full), as_json, 2,
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        many_weights(Path(folder))
        full = {"PYTHONPATH": folder}
        compare(
            f"zoo list --json with {WEIGHTS} more weights / python -c pass",
            lambda: seconds([ZOO, "list", "--json"], full), nothing, 10,
        )  # fmt: skip
    compare(
        "load dcgan.fashion_mnist, generate 64 / import torch",
        code(GENERATE), code("import torch"), 1.3, runs=max(3, runs // 2),
    )  # fmt: skip
    run = subprocess.run(
        [PYTHON, "-c", LOAD, str(4 * runs)], check=True, capture_output=True, text=True
    )
    ours, plain = json.loads(run.stdout)
    rows.append(
        {
            "what": "zoo.load, sha256 included / build and torch.load, warm",
            "a_ms": round(ours * 1e3, 2),
            "b_ms": round(plain * 1e3, 2),
            "ratio": round(ours / plain, 2),
            "limit": 1,
            "met": ours <= plain,
        }
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    rows = measure(arguments.runs)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"{'':62}{'a ms':>9}{'b ms':>9}{'ratio':>8}{'limit':>7}")
        for r in rows:
            print(
                f"{r['what']:62}{r['a_ms']:9}{r['b_ms']:9}{r['ratio']:8}{r['limit']:7}"
                f"  {'met' if r['met'] else 'MISSED'}"
            )
    sys.exit(0 if all(r["met"] for r in rows) else 1)


if __name__ == "__main__":
    main()
