"""timm's own loading code, and ours around it, with weights on a Hub of the test's own.

Repositories are written by timm's own tools. Each question is put to a process of its own that
knows no other Hub.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from asking import asking
from PIL import Image

timm = pytest.importorskip("timm")
pytest.importorskip("zoo_timm")

LISTED = "timm/test_vit.r160_in1k"
IMPORTS = "import timm, torch, zoo, zoo_timm.model"


def pushed(folder: Path, architecture: str, seed: int, **arguments) -> dict[str, bytes]:
    """The files that timm pushes of a model."""
    from timm.models import save_for_hf

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = timm.create_model(architecture, **arguments)
        with torch.no_grad():
            for p in net.parameters():  # heads and biases are zero at first
                p.add_(0.05 * torch.randn(p.shape))
    save_for_hf(net, folder, model_args=arguments or None, safe_serialization=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Weights of an architecture that timm lists, with its thousand classes."""
    return pushed(tmp_path_factory.mktemp("listed"), "test_vit.r160_in1k", 3)


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """Weights of somebody's own, of other size and classes than timm's."""
    folder = tmp_path_factory.mktemp("mine")
    return pushed(folder, "test_vit", 5, img_size=64, num_classes=7)


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """A process that has imported timm, and forks for each question; its Hub and its home."""
    with asking(IMPORTS, tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture
def home(worker):
    """Where the worker caches what it fetched: nothing yet."""
    worker.forget()
    return worker.home


@pytest.fixture
def hub(worker):
    """The worker's Hub, running and empty."""
    return worker.emptied_hub()


@pytest.fixture
def ask(worker, hub, home):
    """``ask(code)``: what the code gave to ``answer()`` in a process that knows this Hub alone."""
    return worker.ask


def with_tensors(files, change):
    """The files with other tensors."""
    tensors = safetensors.torch.load(files["model.safetensors"])
    return {**files, "model.safetensors": safetensors.torch.save(change(tensors))}


def with_config(files, **more):
    """The files with another config."""
    return {**files, "config.json": json.dumps({**json.loads(files["config.json"]), **more})
            .encode()}  # fmt: skip


def test_the_same_as_timm_itself(hub, ask, listed, mine):
    hub.put(LISTED, listed)
    hub.put("org/mine", mine)
    code = """
import timm
same = []
for name in ("test_vit.r160_in1k", "hf-hub:org/mine"):
    before = torch.get_rng_state()
    model = zoo.load("timm:" + name)
    untouched = bool(torch.equal(before, torch.get_rng_state()))
    x = images(model)
    theirs = timm.create_model(name, pretrained=True, num_classes=0).eval()
    data = timm.data.resolve_model_data_config(theirs)
    mean, std = (torch.tensor(data[k])[:, None, None] for k in ("mean", "std"))
    with torch.no_grad():
        expected = theirs((x - mean) / std)
    same.append([model.name, list(model.image_shape), list(model.code_shape), untouched,
                 float((model.encode(x) - expected).abs().max()), float(expected.std()),
                 bool(torch.equal(model.encode(x), model.features(x))),
                 model.spec.name, model.spec.summary, model.training])
answer(same)
"""
    first, second = ask(code)
    for name, size, got in (("test_vit.r160_in1k", 160, first), ("hf-hub:org/mine", 64, second)):
        assert got[:4] == [f"timm:{name}", [3, size, size], [64], True]
        assert got[4] <= 1e-5
        assert got[5] > 0.1, "features that are not nearly constant"
        assert got[6:8] == [True, "test_vit"]
        assert got[9] is False
    assert f"weights on the Hub: {LISTED}@{hub.commits(LISTED)[0].sha}" in first[8]
    asked = {r.path.rpartition("/")[2] for r in hub.requests if "/resolve/" in r.path}
    assert asked == {"config.json", "model.safetensors"}


def test_of_another_size_the_same_as_timm_itself(hub, ask, listed):
    """Positions are interpolated; the name has the commit, so that it means the same for ever."""
    sha = hub.put(LISTED, listed)
    name = "timm:test_vit.r160_in1k"
    code = f"""
import timm
model = zoo.load("{name}#size=96x64,pool=avg")
x = images(model)
theirs = timm.create_model("test_vit.r160_in1k", pretrained=True, img_size=(96, 64), num_classes=0)
theirs.reset_classifier(0, "avg")
with torch.no_grad():
    expected = theirs.eval()((x - model.mean) / model.std)
answer([list(model.image_shape), float((model.encode(x) - expected).abs().max()),
        float(expected.std()), model.name, [model.source.name, model.source.commit],
        bool(torch.equal(zoo.load(model.source.name).encode(x), model.encode(x)))])
"""
    shape, apart, spread, called, source, again = ask(code)
    assert shape == [3, 96, 64]
    assert apart <= 1e-5
    assert spread > 0.1
    assert called == f"{name}#size=96x64,pool=avg"
    assert source == [f"{name}@{sha}#size=96x64,pool=avg", sha]
    assert again


@pytest.mark.slow
def test_a_net_of_fixed_size_is_one_message(hub, ask, tmp_path):
    hub.put("org/levit", pushed(tmp_path, "levit_128s", 1))
    kind, text = ask("answer(error_of(zoo.load, 'timm:hf-hub:org/levit#size=96'))")
    assert kind == "TensorMismatch"
    assert "timm:hf-hub:org/levit#size=96: model.safetensors of hf-hub:org/levit@" in text
    assert "size mismatch" in text


def test_an_efficientnet_beside_timms_own_pipeline(hub, ask, tmp_path):
    """From a file to features, with weights under the name that timm lists."""
    listed_as = "timm/tf_efficientnet_lite0.in1k"
    hub.put(listed_as, pushed(tmp_path, "tf_efficientnet_lite0.in1k", 2))
    path = tmp_path / "picture.png"
    Image.radial_gradient("L").resize((310, 240)).convert("RGB").save(path)
    code = f"""
import timm
from PIL import Image
from timm.data import create_transform, resolve_data_config
model = zoo.load("timm:tf_efficientnet_lite0", fit="library")
net = timm.create_model("tf_efficientnet_lite0", pretrained=True, num_classes=0).eval()
transform = create_transform(**resolve_data_config({{}}, model=net), is_training=False)
with torch.no_grad():
    theirs = net(transform(Image.open({str(path)!r}).convert("RGB"))[None])
ours = model.features(model.preprocess({str(path)!r}))
usual = model.prepare(fit="stretch")
stretched = usual.features(usual.preprocess({str(path)!r}))
answer([float((each - theirs).norm() / theirs.norm()) for each in (ours, stretched)])
"""
    as_timm, stretched = ask(code)
    assert as_timm < 0.05, "untrained nets make much of half a level"
    assert stretched > 3 * as_timm, "a test that can fail"


def test_pull(hub, ask, listed):
    sha = hub.put(LISTED, listed)
    folder, commit = ask("""
from zoo.api import pulled
folder, commit = pulled("timm:test_vit.r160_in1k")
answer([[p.name for p in folder.iterdir()], commit])
""")
    assert (sorted(folder), commit) == (["config.json", "model.safetensors"], sha)
    kind, text = ask("answer(error_of(zoo.pull, 'timm:test_vit.r160_in1k', to='x'))")
    assert kind == "InputError"
    assert "leave --to out" in text


def test_the_second_load_needs_no_hub(hub, ask, listed):
    sha = hub.put(LISTED, listed)
    name = "timm:test_vit.r160_in1k"
    code = f"answer([codes({name!r}).tolist(), caught])"
    online, caught = ask(code)
    assert caught == []
    hub.requests.clear()
    pinned, summary, caught = ask(
        f"answer([codes('{name}@{sha}').tolist(), zoo.info('{name}@{sha}').summary, caught])"
    )
    assert hub.requests == []
    assert pinned == online
    assert sha in summary
    assert caught == []
    # Unpinned, it may have moved: that is said.
    hub.stop()
    unpinned, caught = ask(code)
    assert unpinned == online
    ((category, text),) = caught
    assert category == "StaleWeights"
    assert sha in text


def test_revision(hub, ask, listed):
    old = hub.put(LISTED, listed)
    hub.put(LISTED, with_tensors(listed, lambda ts: {k: 2 * t for k, t in ts.items()}))
    code = f"""
a, b, c = (codes("timm:test_vit.r160_in1k" + at) for at in ("@{old}", "", "@main"))
answer([bool(torch.equal(a, b)), bool(torch.equal(b, c)),
        error_of(zoo.load, "timm:test_vit.r160_in1k@v9"), error_of(zoo.load, "timm:hf-hub:org/no")])
"""
    old_is_new, new_is_main, revision, repository = ask(code)
    assert (old_is_new, new_is_main) == (False, True)
    assert revision[0] == "RevisionNotFound"
    assert repository[0] == "RepositoryNotFound"


def test_a_damaged_blob_is_fetched_again(hub, ask, listed, home):
    hub.put(LISTED, listed)
    code = f"""
from pathlib import Path
right = codes('timm:test_vit.r160_in1k')
(link,) = Path({str(home)!r}).glob("hub/models--*/snapshots/*/model.safetensors")
data = bytearray(link.read_bytes())
data[-100] ^= 1
link.resolve().write_bytes(data)
again = codes('timm:test_vit.r160_in1k')
answer([bool(torch.equal(right, again)), link.read_bytes()[-100] ^ data[-100]])
"""
    assert ask(code) == [True, 1]


ARGUMENTS = {
    "pretrained_cfg": {"file": "/etc/passwd"},
    "checkpoint_path": "/etc/passwd",
    "cache_dir": "/tmp",
    "features_only": True,
    "img_size": {"a": 1},
    "a b": 1,
    "no_such_argument": 1,
    "embed_dim": 10**6,
    "act_layer": "os.system",
}


def test_repositories_that_nobody_should_trust(hub, ask, mine, tmp_path):
    """Each is refused by one typed error that says why, and nothing of it runs or is taken."""
    pickle = b"\x80\x04cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
    without = {k: v for k, v in mine.items() if k != "model.safetensors"}
    repositories = {
        "pickle": ({**without, "pytorch_model.bin": pickle}, "WeightsNotFound", "is a pickle"),
        "missing": (
            with_tensors(
                mine, lambda ts: {k: t for k, t in ts.items() if "blocks.1.attn" not in k}
            ),
            "TensorMismatch",
            "missing: blocks.1.attn.qkv.weight",
        ),
        "nan": (
            with_tensors(mine, lambda ts: {k: t / 0 for k, t in ts.items()}),
            "TensorMismatch",
            "holds NaN or infinity",
        ),
        "shape": (
            with_tensors(mine, lambda ts: {k: t[..., :-1].clone() for k, t in ts.items()}),
            "TensorMismatch",
            "is not what timm wants for test_vit",
        ),
        "cut": (
            {**mine, "model.safetensors": mine["model.safetensors"][:-9]},
            "TensorMismatch",
            "SafetensorError",
        ),
        "unknown": (
            with_config(mine, architecture="os.system\x1b[31m"),
            "InvalidConfig",
            "asks for the architecture 'os.system\\x1b[31m', which timm",
        ),
        "nothing": ({**mine, "config.json": b"{}"}, "InvalidConfig", "names no architecture"),
        "list": ({**mine, "config.json": b"[1]"}, "InvalidConfig", "config.json"),
        "ours": (
            {"config.json": b'{"model": "ae", "api_version": 1}'},
            "InvalidConfig",
            "write hf-hub:org/ours",
        ),
        "size": (
            with_config(mine, model_args={}, pretrained_cfg={"input_size": [3, 10**9, 10**9]}),
            "InvalidConfig",
            "input_size cannot be [3, 1000000000, 1000000000]",
        ),
        "std": (
            with_config(mine, pretrained_cfg={"std": [0, 0, 0]}),
            "InvalidConfig",
            "std cannot be [0, 0, 0]",
        ),
    }
    for i, (key, value) in enumerate(ARGUMENTS.items()):
        files = with_config(mine, model_args={key: value})
        text = "model_args cannot have" if i < 6 else "embed_dim" if key == "embed_dim" else key
        kind = "TensorMismatch" if key == "embed_dim" else "InvalidConfig"
        text = "too few for the" if key == "embed_dim" else text
        repositories[f"args{i}"] = (files, kind, text)
    for name, (files, *_) in repositories.items():
        hub.put(f"org/{name}", files)
    names = [f"timm:hf-hub:org/{name}" for name in repositories]
    errors = ask(f"answer([error_of(zoo.load, name) for name in {names!r}])")
    for (name, (_, kind, part)), (got, text) in zip(repositories.items(), errors, strict=True):
        assert got == kind, f"{name}: {got}: {text}"
        assert part in text, f"{name}: {text}"
        assert f"org/{name}" in text
        assert text.replace("\n", "").isprintable(), name
    assert not (tmp_path / "ran").exists()
    assert not [r for r in hub.requests if "pytorch_model" in r.path]


@pytest.mark.slow
def test_evaluate(hub, ask, listed, tmp_path):
    hub.put(LISTED, listed)
    for label, colour in (("dark", 40), ("light", 200)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(20):
            image = Image.new("RGB", (40, 30), (colour + i, colour, colour - i))
            image.save(tmp_path / "pictures" / label / f"{i}.png")
    data = str(tmp_path / "pictures")
    code = f"""
name = "timm:test_vit.r160_in1k"
result = zoo.evaluate(name, data={data!r}, protocols=["knn", "reconstruction"],
                      with_baselines=False)
answer([result["metrics"], result["left_out"], error_of(zoo.evaluate, name),
        error_of(zoo.evaluate, name, data={data!r}, against="runs/x")])
"""
    metrics, left_out, no_data, against = ask(code)
    assert {m["name"]: m["value"] for m in metrics} == {"knn1": 1.0, "knn20": 1.0}
    assert left_out == [
        {"protocol": "reconstruction", "reason": "timm:test_vit.r160_in1k cannot reconstruct"}
    ]
    assert no_data[0] == against[0] == "InputError"
    assert "type: zoo evaluate timm:test_vit.r160_in1k --data SET" in no_data[1]
    assert "leave --against out" in against[1]


@pytest.mark.slow
def test_command_line(hub, listed, tmp_path):
    hub.put(LISTED, listed)
    Image.new("RGB", (40, 30), (90, 40, 7)).save(tmp_path / "a.png")
    env = {**os.environ, **hub.env(tmp_path / "home")}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "zoo.cli", *arguments], env=env, capture_output=True, text=True,
            cwd=tmp_path,
        )  # fmt: skip

    done = run("encode", "timm:test_vit.r160_in1k", "a.png", "--out", "codes.safetensors")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "codes.safetensors").exists()
