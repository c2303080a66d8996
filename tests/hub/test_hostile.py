"""Repositories, and a Hub, that mean harm: nothing of them runs, and nothing of them gets out.

Whatever is asked of them (pull, load, info) gives an error of the zoo whose text a terminal can be
shown, or works without the harmful part. Meanwhile nothing is unpickled, nothing that they name is
imported, and nothing is written but their own files in the client's cache.
"""

import contextlib
import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hubserver import HubServer
from huggingface_hub import constants, file_download
from huggingface_hub.utils import _http
from safetensors.numpy import load, save

import zoo
import zoo.hub
from zoo.errors import ZooError
from zoo.sources import weights_folder

MODEL = "pca.mnist"
REPO = "org/pca.hostile"
NAME = f"hf-hub:{REPO}"
OURS = ("config.json", "model.safetensors", "vectors.safetensors", "metrics.json", "README.md")
CONTROLS = "\x1b]0;owned\x07\x1b[31m\r\b\x9b\u202e"
Files = dict[str, bytes]


class Canary:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@dataclass
class World:
    """A Hub with one repository, this process as its visitor, and a folder that must stay as is."""

    hub: HubServer
    root: Path
    files: Files

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def canary(self) -> Path:
        return self.root / "canary"

    def outside(self) -> list[str]:
        """All that is in the world and not in the cache."""
        return sorted(
            str(path) for path in self.root.rglob("*") if not path.is_relative_to(self.home)
        )

    def inside(self) -> list[str]:
        """What of the cache is not where a file of a weights folder, or the client's own, is."""
        repo = self.home / "hub" / f"models--{REPO.replace('/', '--')}"
        allowed = ("blobs/*", "refs/*", "trees/*", ".no_exist/*/*")
        return sorted(
            str(path)
            for path in self.home.rglob("*")
            if (path.is_file() or path.is_symlink())
            and not path.is_relative_to(self.home / "hub" / ".locks")
            and path.name != "CACHEDIR.TAG"
            and not (
                path.is_relative_to(repo)
                and (
                    any(path.relative_to(repo).match(pattern) for pattern in allowed)
                    or (path.parent.parent == repo / "snapshots" and path.name in OURS)
                )
            )
        )

    def environ(self) -> dict[str, str]:
        return self.hub.env(self.home)


@pytest.fixture(scope="module")
def published() -> Files:
    folder = weights_folder(MODEL)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return {"README.md": b"---\nlibrary_name: latentzoo\n---\n# pca\n", **files}


@pytest.fixture
def world(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Files
) -> World:
    made = World(hub, tmp_path, published)
    for name, value in made.environ().items():
        monkeypatch.setenv(name, value)
    resolve = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", resolve)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(made.home / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 2)
    # How long the client waits between its tries is not the question here.
    hurry = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr(_http, "time", hurry)
    monkeypatch.setattr(file_download, "time", hurry)
    monkeypatch.setattr(zoo.hub.client, "time", hurry)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    # What a config may name: a module that is there to be imported.
    (tmp_path / "work" / "canary.py").write_text(
        f"open({str(made.canary)!r}, 'w').close()\ndef run(**config): return None\nRun = run\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "work"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return made


@contextlib.contextmanager
def nothing_is_unpickled() -> Iterator[None]:
    def refuse(*args: object, **kwargs: object) -> None:
        raise BaseException("something was unpickled")  # not an Exception: nobody swallows it

    with pytest.MonkeyPatch.context() as patch:
        for name in ("load", "loads", "_load", "_loads", "Unpickler", "_Unpickler"):
            patch.setattr(pickle, name, refuse)
        yield


def clean(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


def ask(world: World, call: Callable[[], object]) -> ZooError | None:
    """The error that ``call`` ends with, having done no harm."""
    before = world.outside()
    said: ZooError | None = None
    with nothing_is_unpickled(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except ZooError as error:
            said = error
    assert not world.canary.exists(), "something ran"
    assert "canary" not in sys.modules
    assert world.outside() == before
    assert world.inside() == []
    assert said is None or clean(str(said)), repr(str(said))
    assert said is None or len(str(said)) < 2000, "a message to be read"
    return said


def visit(world: World) -> dict[str, str | None]:
    """Which error each way to the repository ends in."""
    ways: dict[str, Callable[[], object]] = {
        "load": lambda: zoo.load(NAME),
        "pull": lambda: zoo.pull(NAME),
        "info": lambda: zoo.hub.describe(REPO),
    }
    ends = {}
    for way, call in ways.items():
        error = ask(world, call)
        ends[way] = type(error).__name__ if error else None
    return ends


# ---------------------------------------------------------------- repositories


@dataclass(frozen=True)
class Hostile:
    what: str
    change: Callable[[World], Mapping[str, bytes | None]]
    """The files that differ from a real folder; None takes one out."""
    load: str | None
    """The error of ``zoo.load``; None if it works without the harmful part."""
    says: tuple[str, ...] = ()


def pickled(world: World) -> bytes:
    return pickle.dumps(Canary(world.canary))


def config(**changes: Any) -> Callable[[World], Files]:
    def change(world: World) -> Files:
        return {
            "config.json": json.dumps(json.loads(world.files["config.json"]) | changes).encode()
        }

    return change


def hyper(**changes: Any) -> Callable[[World], Files]:
    """A hyper-parameter of the model changed."""

    def change(world: World) -> Files:
        whole = json.loads(world.files["config.json"])
        whole["config"] |= changes
        return {"config.json": json.dumps(whole).encode()}

    return change


def tensors(make: Callable[[World], bytes]) -> Callable[[World], Files]:
    """Other tensors, whose size and sha256 the config truly has."""

    def change(world: World) -> Files:
        data = make(world)
        facts = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return {"model.safetensors": data, **config(**facts)(world)}

    return change


def header(of: Any, after: bytes = b"") -> bytes:
    text = of if isinstance(of, bytes) else json.dumps(of).encode()
    return struct.pack("<Q", len(text)) + text + after


def nan(world: World) -> bytes:
    whole = load(world.files["model.safetensors"])
    name = next(n for n, t in whole.items() if t.dtype.kind == "f")
    whole[name] = np.full_like(whole[name], np.nan)
    return save(whole)


def one_more(world: World) -> bytes:
    whole = load(world.files["model.safetensors"])
    return save({**whole, f"x{CONTROLS}": np.zeros(1, np.float32)})


HUGE = {"w": {"dtype": "F32", "shape": [50_000, 50_000], "data_offsets": [0, 10_000_000_000]}}
EMPTY_HUGE = {"w": {"dtype": "F32", "shape": [50_000, 50_000], "data_offsets": [0, 0]}}
CLIMBING = (
    "../../../../../../evil",
    "../" * 12 + "tmp/evil",
    "/tmp/latentzoo-evil",
    "..\\..\\evil",
    "C:\\evil",
    "a/../../../../evil",
    "./config.json/../evil",
    f"evil{CONTROLS}",
)
CARD = f"""---
library_name: latentzoo
license: !!python/object/apply:os.system ["touch canary"]
tags: [latentzoo, "[bold red]x", "{{{{7*7}}}}"]
---
# {CONTROLS}
<script>alert(1)</script><img src=x onerror=alert(1)> [bold red on white]owned[/] [x](javascript:x)
"""

REPOSITORIES = [
    Hostile("pickle beside", lambda w: {"pytorch_model.bin": pickled(w)}, "UnsafeWeights",
            ("pytorch_model.bin",)),
    Hostile("pickle in a folder", lambda w: {"a/b/Model.PKL": pickled(w)}, "UnsafeWeights"),
    Hostile("pickle of torch", lambda w: {"model.pt": pickled(w)}, "UnsafeWeights"),
    Hostile(
        "pickle instead",
        lambda w: {"model.safetensors": None, "model.pth": pickled(w)},
        "UnsafeWeights",
    ),
    Hostile("pickle as tensors", tensors(pickled), "CorruptWeights", ("safetensors",)),
    Hostile("pickle as vectors", lambda w: {"vectors.safetensors": pickled(w)}, None),
    Hostile("pickle as figures", lambda w: {"metrics.json": pickled(w)}, None),
    Hostile("pickle as config", lambda w: {"config.json": pickled(w)}, "InvalidConfig"),
    Hostile("model is a function", config(model="os:system"), "InvalidConfig"),
    Hostile("model is a module", config(model="canary"), "InvalidConfig", ("canary",)),
    Hostile("model is a path", config(model="../../work/canary.py"), "InvalidConfig"),
    Hostile("model is a builder", config(model="canary:Run"), "InvalidConfig"),
    Hostile("builder beside", config(builder="canary:run"), None),
    Hostile("builder inside", hyper(builder="canary:run"), "InvalidConfig", ("builder",)),
    Hostile("remote code", config(auto_map={"AutoModel": "canary.Run"}), None),
    Hostile("target", hyper(_target_="canary.run"), "InvalidConfig"),
    Hostile("plugin is a module", config(plugin="canary"), None),
    Hostile(
        "absent plugin",
        config(model="siamese", plugin="latentzoo-evil"),
        "InvalidConfig",
        ("latentzoo-evil", "siamese", "nobody checked"),
    ),
    Hostile("control characters", config(model=f"pca{CONTROLS}"), "InvalidConfig"),
    Hostile("control characters as plugin", config(model="x", plugin=CONTROLS), "InvalidConfig"),
    Hostile("control characters as sha", config(sha256=CONTROLS), "InvalidConfig"),
    Hostile("a long name", config(model="x" * 100_000), "InvalidConfig"),
    Hostile("a wide net", hyper(latent_dim=10**15), "InvalidConfig"),
    Hostile("a negative one", hyper(size=-28), "InvalidConfig"),
    Hostile("a config of a list", hyper(latent_dim=[1]), "InvalidConfig"),
    Hostile("later contract", config(api_version=10**6), "IncompatibleVersion",
            ("speaks", "Type: ")),
    Hostile("no contract", config(api_version="1"), "InvalidConfig"),
    Hostile("huge images", config(preprocessing={"channels": 1, "height": 10**9, "width": 10**9}),
            "InvalidConfig"),
    Hostile("two megabytes", lambda w: {"config.json": b'{"a": "' + b"x" * 2_000_000 + b'"}'},
            "InvalidConfig", ("1,000,000",)),
    Hostile("deep", lambda w: {"config.json": b"[" * 100_000 + b"]" * 100_000}, "InvalidConfig"),
    Hostile("deep inside", lambda w: {"config.json": b'{"a":' * 50_000 + b"1" + b"}" * 50_000},
            "InvalidConfig"),
    Hostile("no JSON", lambda w: {"config.json": b"\xff\xfe\0"}, "InvalidConfig"),
    Hostile("a link", lambda w: {"config.json": b"../../../../../etc/passwd"}, "InvalidConfig"),
    Hostile("long numbers", lambda w: {"config.json": b'{"size": ' + b"9" * 100_000 + b"}"},
            "InvalidConfig"),
    Hostile("ten gigabytes", tensors(lambda w: header(HUGE)), "CorruptWeights"),
    Hostile("ten gigabytes of nothing", tensors(lambda w: header(EMPTY_HUGE)), "CorruptWeights"),
    Hostile("a header without end", tensors(lambda w: b"\xff" * 7 + b"\x7f" + b"{}"),
            "CorruptWeights"),
    Hostile("a header of text", tensors(lambda w: header(b"<html>")), "CorruptWeights"),
    Hostile("NaN", tensors(nan), "TensorMismatch", ("NaN",)),
    Hostile("one tensor more", tensors(one_more), "TensorMismatch"),
    Hostile("no tensor", tensors(lambda w: save({})), "TensorMismatch"),
    Hostile("other tensors than promised", config(sha256="0" * 64), "CorruptWeights", ("sha256",)),
    Hostile("another size than promised", config(size=10**13), "CorruptWeights"),
    Hostile("paths that climb", lambda w: dict.fromkeys(CLIMBING, b"evil"), None),
    Hostile("names of its folders", lambda w: {"config.json/x": b"", "model.safetensors/y": b""},
            None),
    Hostile("a card", lambda w: {"README.md": CARD.encode()}, None),
    Hostile("a card of bytes", lambda w: {"README.md": b"---\n\xff\xfe\n---\n\0"}, None),
    Hostile("figures with markup", lambda w: {"metrics.json": json.dumps(CONTROLS).encode()}, None),
    Hostile("not of the zoo",
            lambda w: {"README.md": None, "config.json": b'{"model_type": "bert"}'},
            "WeightsNotFound", ("transformers",)),
    Hostile("climbing and not of the zoo",
            lambda w: {"config.json": None, **dict.fromkeys(CLIMBING, b"")}, "WeightsNotFound"),
]  # fmt: skip


@pytest.mark.parametrize("hostile", [pytest.param(h, id=h.what) for h in REPOSITORIES])
def test_a_hostile_repository(world: World, hostile: Hostile):
    world.hub.put(REPO, {**world.files, **hostile.change(world)})
    error = ask(world, lambda: zoo.load(NAME))
    assert (type(error).__name__ if error else None) == hostile.load, error
    for words in hostile.says:
        assert words in str(error)
    if hostile.load is None:
        assert torch.equal(zoo.load(NAME).generate(1, seed=0), zoo.load(MODEL).generate(1, seed=0))
    visit(world)


# ---------------------------------------------------------------- a Hub that lies


def json_of(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    return lambda body: json.dumps(change(json.loads(body))).encode()


def files_told(**changes: Any) -> Callable[[bytes], bytes]:
    """The listing says something else of each file."""
    return json_of(lambda info: info | {"siblings": [s | changes for s in info["siblings"]]})


CONFIG = r"^(HEAD|GET) .*/config\.json"
API = "^GET /api/models"
UP = "../" * 4
LIES: list[tuple[str, str, dict[str, Any]]] = [
    ("no JSON", API, {"body": b"<html>" + CONTROLS.encode()}),
    ("a list", API, {"body": b"[]"}),
    ("nothing", API, {"body": b"null"}),
    ("an empty body", API, {"body": b""}),
    ("an empty object", API, {"body": b"{}"}),
    ("deep JSON", API, {"body": b"[" * 100_000}),
    ("a sha that climbs", API, {"body": json_of(lambda i: i | {"sha": f"{UP}evil"})}),
    ("a sha of controls", API, {"body": json_of(lambda i: i | {"sha": CONTROLS})}),
    ("no sha", API, {"body": json_of(lambda i: i | {"sha": None})}),
    ("another id", API, {"body": json_of(lambda i: i | {"id": f"../{CONTROLS}"})}),
    ("no files", API, {"body": json_of(lambda i: i | {"siblings": None})}),
    ("files that are none", API, {"body": json_of(lambda i: i | {"siblings": [1, "x"]})}),
    ("sizes of text", API, {"body": files_told(size=CONTROLS)}),
    ("negative sizes", API, {"body": files_told(size=-1)}),
    ("ten terabytes", API, {"body": files_told(size=10**13)}),
    ("no sizes", API, {"body": files_told(size=None)}),
    ("another sha256", API, {"body": files_told(lfs={"sha256": "0" * 64, "size": 1,
                                                    "pointerSize": 1})}),
    ("a sha256 of controls", API, {"body": files_told(lfs={"sha256": CONTROLS, "size": 1,
                                                           "pointerSize": 1})}),
    ("another date", API, {"body": json_of(lambda i: i | {"lastModified": CONTROLS})}),
    ("a card of a list", API, {"body": json_of(lambda i: i | {"cardData": [1]})}),
    ("an etag that climbs", CONFIG, {"headers": {"ETag": f'"{UP}evil"'}}),
    ("an absolute etag", CONFIG, {"headers": {"ETag": '"/tmp/latentzoo-evil"'}}),
    ("a linked etag that climbs", "^HEAD .*model", {"headers": {"X-Linked-Etag": f'"{UP}evil"'}}),
    ("no etag", CONFIG, {"headers": {"ETag": ""}}),
    ("another commit", CONFIG, {"headers": {"X-Repo-Commit": "0" * 40}}),
    ("a commit that climbs", CONFIG, {"headers": {"X-Repo-Commit": f"{UP}evil"}}),
    ("another size", "^HEAD .*model", {"headers": {"X-Linked-Size": "10"}}),
    ("a size of text", "^HEAD .*model", {"headers": {"X-Linked-Size": "much"}}),
    ("elsewhere: a file", "^HEAD .*model", {"headers": {"Location": "file:///etc/passwd"}}),
    ("elsewhere: nowhere", "^HEAD .*model", {"headers": {"Location": "http://127.0.0.1:9/x"}}),
    ("elsewhere: no address", "^HEAD .*model", {"headers": {"Location": "gopher://["}}),
    ("other bytes", "^GET .*model", {"body": b"evil"}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "match", "more"), LIES, ids=[what for what, *_ in LIES])
def test_a_hub_that_lies(world: World, what: str, match: str, more: dict[str, Any]):
    world.hub.put(REPO, world.files)
    world.hub.fault(match, "body" if "body" in more else "headers", **more)
    for way in (lambda: zoo.load(NAME), lambda: zoo.pull(NAME), lambda: zoo.hub.describe(REPO)):
        ask(world, way)
    with contextlib.suppress(ZooError):
        # Whoever lies: what is loaded is what the config promises.
        assert torch.equal(zoo.load(NAME).generate(1, seed=0), zoo.load(MODEL).generate(1, seed=0))
    ask(world, lambda: zoo.hub.search("pca"))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 500, 503])
def test_a_refusal_with_control_characters(world: World, status: int):
    world.hub.put(REPO, world.files)
    told = {"X-Error-Message": "\x1b]0;owned\x07\x1b[31m" + "x" * 5000}
    world.hub.fault("", "status", status=status, headers=told)
    for way in (lambda: zoo.load(NAME), lambda: zoo.hub.search("pca")):
        assert ask(world, way) is not None


def test_a_token_goes_to_the_hub_alone(world: World):
    world.hub.add_user("org", "hf_secret")
    world.hub.put(REPO, world.files)
    world.hub.repos[REPO].private = True
    zoo.load(NAME, token="hf_secret")
    told = {r.path.split("/")[1]: "authorization" in r.headers for r in world.hub.requests}
    assert told == {"api": True, "org": True, "cdn": False}


# ---------------------------------------------------------------- what a terminal is shown


@pytest.mark.parametrize("command", ["info", "pull", "search"])
def test_the_command_line_shows_nothing_that_a_terminal_obeys(world: World, command: str):
    metrics = json.loads(world.files["metrics.json"])
    card = CARD.replace("pca", f"pca{CONTROLS}")
    files = {
        "README.md": card.encode(),
        "metrics.json": json.dumps(metrics).replace("mnist", f"mnist{CONTROLS}").encode(),
        **config(dataset=CONTROLS, licence=f"MIT{CONTROLS}[bold]")(world),
    }
    world.hub.put(REPO, {**world.files, **files})
    args = {"info": [NAME], "pull": [NAME], "search": ["pca"]}[command]
    for extra in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "zoo.cli", command, *args, *extra],
            env={**os.environ, **world.environ()},
            capture_output=True,
            text=True,
        )
        assert done.returncode in (0, 2), done.stderr
        assert "Traceback" not in done.stderr
        assert clean(done.stdout + done.stderr), repr(done.stdout + done.stderr)
    assert not world.canary.exists()


def test_they_are_counted_in_the_guide():
    guide = (Path(__file__).parents[2] / "docs" / "hub.md").read_text("utf-8")
    said = f"{len(REPOSITORIES)} repositories and {len(LIES)} answers of a Hub that mean"
    assert said in " ".join(guide.split())
    page = (Path(__file__).parents[2] / "docs" / "sharing.md").read_text("utf-8")
    assert f"{len(REPOSITORIES) + len(LIES)} hostile answers" in " ".join(page.split())
