"""Loading from the Hub's cache, side by side in one run: the zoo, timm and diffusers.

Each loads tensors of the same total size (about 12 MB, then 100 MB, float32) from a repository that
is pinned to a commit and cached: an autoencoder by zoo.load, a transformer by timm.create_model,
and diffusers' AutoencoderKL by from_pretrained (--diffusers VENV, an environment that is made, with
the PyTorch of this one, when it is not there; left out without the option). The repositories lie on
a Hub on loopback, whose count of requests shows what each still asks for.

warm    again and again in one process
cold    a new process for each load, libraries imported and all

They take turns, so that all see the same machine; the ratio of the medians is what counts. The zoo
checks the sha256 of what it loads (in one process once, unless somebody writes to the file), the
others do not.

Run it on a machine that does nothing else. Exit code 0 when the zoo is the fastest throughout.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Mapping
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "hub"))

from hubserver import HubServer

SIZES = {
    "12 MB": {
        "zoo": {"width": 48, "latent_dim": 48, "size": 64, "channels": 3},
        "timm": {"architecture": "vit_tiny_patch16_224", "depth": 6},
        "diffusers": {"channels": [32, 64, 128], "layers": 1},
    },
    "100 MB": {
        "zoo": {"width": 138, "latent_dim": 138, "size": 64, "channels": 3},
        "timm": {"architecture": "vit_small_patch16_224", "depth": 14},
        "diffusers": {"channels": [96, 128, 256, 288], "layers": 2},
    },
}

MAKE = {
    "zoo": """
from pathlib import Path
import torch, zoo
from zoo import weights
model = zoo.create("conv_ae", **config)
weights.save(model, Path(out), images=torch.rand(2, *model.image_shape),
             plugin="latentzoo-conv", facts={"dataset": "none", "licence": "mit"}, half=False)
""",
    "timm": """
import timm
from timm.models import save_for_hf
architecture = config.pop("architecture")
config["num_classes"] = 0
net = timm.create_model(architecture, **config)
save_for_hf(net, out, model_args=config, safe_serialization=True)
""",
    "diffusers": """
from diffusers import AutoencoderKL
n = len(config["channels"])
AutoencoderKL(
    block_out_channels=tuple(config["channels"]), layers_per_block=config["layers"],
    down_block_types=("DownEncoderBlock2D",) * n, up_block_types=("UpDecoderBlock2D",) * n,
).save_pretrained(out)
""",
}
"""Writes the files of a repository into ``out``; sizes in ``config``."""

LOAD = {
    "zoo": ("import zoo", "zoo.load(f'hf-hub:{repo}@{sha}')"),
    "timm": ("import timm", "timm.create_model(f'hf-hub:{repo}@{sha}', pretrained=True)"),
    "diffusers": (
        "from diffusers import AutoencoderKL",
        "AutoencoderKL.from_pretrained(repo, revision=sha)",
    ),
}

# One load for each line that comes, and its seconds for each.
WARM = """
import sys, time
repo, sha = sys.argv[1:]
{0}
for line in sys.stdin:
    start = time.perf_counter()
    model = {1}
    print(time.perf_counter() - start, flush=True)
    del model
"""
COLD = "import sys\nrepo, sha = sys.argv[1:]\n{0}\n{1}"


class Side:
    """One library with its repository."""

    def __init__(self, library: str, python: str, hub: HubServer, home: Path, size: str):
        self.library, self.python = library, python
        self.repo = f"bench/{library}-{size.split()[0]}"
        self.env = {**os.environ, **hub.env(home)}
        self.sha = ""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "files"
            code = f"config = {SIZES[size][library]!r}\nout = {str(out)!r}\n" + MAKE[library]
            self._run(code)
            files = {path.name: path.read_bytes() for path in out.iterdir()}
        self.megabytes = max(map(len, files.values())) / 1e6
        self.sha = hub.put(self.repo, files)
        self.cold()  # fetches it

    def _run(self, code: str) -> None:
        done = subprocess.run(
            [self.python, "-c", code, self.repo, self.sha],
            env=self.env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"{self.library} failed:\n{done.stderr}")

    def cold(self) -> float:
        start = time.perf_counter()
        self._run(COLD.format(*LOAD[self.library]))
        return time.perf_counter() - start

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.python, "-c", WARM.format(*LOAD[self.library]), self.repo, self.sha],
            env=self.env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip


def warm(process: subprocess.Popen[str]) -> float:
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def diffusers_python(folder: Path) -> str:
    """The Python of an environment that has diffusers, and otherwise what this one has."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing diffusers into {folder}", file=sys.stderr)
        venv.EnvBuilder(with_pip=True).create(folder)
        (own,) = (folder / "lib").glob("python3*/site-packages")
        (own / "this.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        subprocess.run([python, "-m", "pip", "install", "-q", "diffusers"], check=True)
    return str(python)


def compare(sides: list[Side], hub: HubServer, runs: int) -> dict[str, dict[str, dict]]:
    """State to library to milliseconds (median, least and most), and requests in all runs."""
    processes = {side: side.start() for side in sides}
    for _ in range(3):  # not counted
        for process in processes.values():
            warm(process)
    states = {
        "warm": ({side: lambda p=p: warm(p) for side, p in processes.items()}, 4 * runs),
        "cold": ({side: side.cold for side in sides}, runs),
    }
    result = {}
    for state, (calls, times) in states.items():
        taken = {side: [] for side in sides}
        requests = dict.fromkeys(sides, 0)
        for _ in range(times):
            for side, call in calls.items():
                hub.requests.clear()
                taken[side].append(1e3 * call())
                requests[side] += len(hub.requests)
        result[state] = {side.library: _summary(taken[side], requests[side]) for side in sides}
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return result


def _summary(milliseconds: list[float], requests: int) -> dict[str, float]:
    return {
        "median": round(statistics.median(milliseconds), 1),
        "least": round(min(milliseconds), 1),
        "most": round(max(milliseconds), 1),
        "requests": requests,
    }


def rows_of(size: str, sides: list[Side], measured: Mapping[str, dict]) -> list[dict]:
    rows = []
    for state, found in measured.items():
        ours = found["zoo"]
        for side in sides[1:]:
            theirs = found[side.library]
            ratio = ours["median"] / theirs["median"]
            rows.append(
                {
                    "size": size,
                    "state": state,
                    "peer": side.library,
                    "zoo_mb": round(sides[0].megabytes, 1),
                    "peer_mb": round(side.megabytes, 1),
                    "zoo_ms": ours,
                    "peer_ms": theirs,
                    "ratio": round(ratio, 2),
                    "met": ratio < 1 and ours["requests"] == 0,
                }
            )
    return rows


def measure(runs: int, diffusers: Path | None) -> list[dict]:
    pythons = {"zoo": sys.executable, "timm": sys.executable}
    if diffusers is not None:
        pythons["diffusers"] = diffusers_python(diffusers)
    rows = []
    with HubServer() as hub, tempfile.TemporaryDirectory() as home:
        for size in SIZES:
            sides = [Side(name, p, hub, Path(home), size) for name, p in pythons.items()]
            rows += rows_of(size, sides, compare(sides, hub, runs))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="cold runs; warm ones are four times")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--diffusers", type=Path, metavar="VENV", help="measure diffusers too")
    arguments = parser.parse_args()
    rows = measure(arguments.runs, arguments.diffusers)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"{'':32}{'MB':>13}{'zoo ms':>10}{'peer ms':>10}{'ratio':>8}{'requests':>10}")
        for r in rows:
            print(
                f"{r['size'] + ', ' + r['state'] + ', zoo / ' + r['peer']:32}"
                f"{r['zoo_mb']:>6} /{r['peer_mb']:>5}"
                f"{r['zoo_ms']['median']:>10}{r['peer_ms']['median']:>10}{r['ratio']:>8}"
                f"{r['zoo_ms']['requests']:>6} /{r['peer_ms']['requests']:>2}"
                f"  {'met' if r['met'] else 'MISSED'}"
            )
    sys.exit(0 if all(r["met"] for r in rows) else 1)


if __name__ == "__main__":
    main()
