"""The weights folder: what is refused, and that nothing is ever half-written."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import safetensors.torch
import torch

import zoo
from zoo import errors, weights
from zoo.sources import locate

SMALL = {"ae": {"hidden": 6, "latent_dim": 4}, "dcgan": {"width": 2, "latent_dim": 3}}


def save(folder, name="ae", **config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = zoo.create(name, **(config or SMALL[name]))
    images = torch.rand(2, *model.image_shape, generator=torch.Generator().manual_seed(1))
    facts = {"dataset": "none", "licence": "none"}
    weights.save(model, folder, images=images, plugin="latentzoo-ae", facts=facts)
    return model


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "w")
    return tmp_path / "w"


def load(folder):
    return zoo.load(f"local-dir:{folder}")


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def edit_tensors(folder, change):
    """Other tensors, for which size and sha256 are right."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    data = safetensors.torch.save(tensors)
    path.write_bytes(data)
    edit_config(folder, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def refused(folder, kind, *parts):
    with pytest.raises(errors.WeightsError) as caught:
        load(folder)
    assert type(caught.value) is kind, caught.value
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", SMALL)
def test_round_trip(tmp_path, name):
    model = save(tmp_path / "w", name)
    again = load(tmp_path / "w")
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key
    learned = safetensors.torch.load_file(tmp_path / "w" / "model.safetensors")
    names = {n for n, _ in model.named_parameters()} | {n for n in learned if "scales" in n}
    assert {name for name, t in learned.items() if t.dtype == torch.float16} == names
    assert not again.training
    assert max(weights.verify(again, tmp_path / "w").values()) <= 1


def test_a_run_folder_has_its_weights_inside(tmp_path):
    save(tmp_path / "run" / "weights")
    assert load(tmp_path / "run").code_shape == (4,)


def test_never_overwritten(folder):
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(errors.WeightsError, match="weights are never overwritten"):
        save(folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_an_unwritable_place_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.WeightsError, match="cannot be written"):
        save(tmp_path / "file" / "w")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


WRITER = """
import sys, torch, zoo
from pathlib import Path
from zoo import weights
model = zoo.create("ae", hidden=6, latent_dim=4)
print("ready", flush=True)
for i in range(10_000):
    weights.save(model, Path(sys.argv[1]) / f"w{i}", images=torch.rand(2, 1, 28, 28), plugin="p",
                 facts={"dataset": "none", "licence": "none"})
"""


@pytest.mark.parametrize("milliseconds", [5, 33, 71])
def test_a_kill_leaves_whole_folders_only(tmp_path, milliseconds):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    with writer:
        writer.stdout.readline()
        while not (tmp_path / "w0").exists():
            time.sleep(0.001)
        time.sleep(milliseconds / 1000)
        os.kill(writer.pid, signal.SIGKILL)
    whole = [p for p in tmp_path.iterdir() if not p.name.startswith(".zoo-")]
    assert whole
    for path in whole:
        weights.verify(load(path), path)


@pytest.mark.parametrize("position", [0, 9, 200, 5000, -1])
def test_one_flipped_byte(folder, position):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    refused(folder, errors.CorruptWeights, str(path), "sha256", "at least one byte was changed")


def test_flipped_byte_of_bundled_weights_is_seen_through_the_record(folder):
    """Whoever changes the tensors and config.json alike is caught by the plugin's record."""
    recorded = zoo.info("ae.mnist").weights[0].sha256
    located = replace(locate(f"local-dir:{folder}"), recorded=recorded)
    with pytest.raises(errors.CorruptWeights, match="the plugin's record says"):
        zoo.api.opened(located)


def test_truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(folder, errors.CorruptWeights, str(path), "bytes, config.json says", "cut")


def test_not_safetensors_though_hash_and_size_are_right(folder):
    data = b"\x80\x04\x95 this is no safetensors file"
    (folder / "model.safetensors").write_bytes(data)
    edit_config(folder, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    refused(folder, errors.CorruptWeights, "not a valid safetensors file")


def test_missing_tensor(folder):
    edit_tensors(folder, lambda t: t.pop("encoder.0.weight"))
    refused(folder, errors.TensorMismatch, "missing: 'encoder.0.weight'")


def test_extra_tensor(folder):
    edit_tensors(folder, lambda t: t.update(spy=torch.zeros(1)))
    refused(folder, errors.TensorMismatch, "not of the model: 'spy'")


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (torch.zeros(6, 783), "is (6, 783) torch.float32, the model has (6, 784)"),
        (torch.zeros(6, 784, dtype=torch.int32), "torch.int32"),
        (torch.full((6, 784), float("nan")), "holds NaN or infinity"),
        (torch.full((6, 784), float("inf")), "holds NaN or infinity"),
    ],
)
def test_wrong_tensor(folder, tensor, text):
    edit_tensors(folder, lambda t: t.update({"encoder.0.weight": tensor}))
    refused(folder, errors.TensorMismatch, "'encoder.0.weight'", text)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "x.pt", "a.PKL", "sub/deep.ckpt"])
def test_pickle_beside_the_tensors(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"cos\nsystem\n")
    refused(folder, errors.UnsafeWeights, str(folder / name), "Nothing was loaded")


def test_pickle_instead_of_the_tensors(folder):
    (folder / "model.safetensors").rename(folder / "model.pt")
    refused(folder, errors.UnsafeWeights, "model.pt")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_missing_file(folder, file):
    (folder / file).unlink()
    refused(folder, errors.WeightsNotFound, f"has no {file}")


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"model": "nonesuch"}, errors.InvalidConfig, "asks for the model 'nonesuch'"),
        ({"model": "nonesuch", "plugin": "their-zoo"}, errors.InvalidConfig, "'their-zoo'"),
        ({"model": "os:system"}, errors.InvalidConfig, "asks for the model 'os:system'"),
        ({"model": "local-dir:/etc"}, errors.InvalidConfig, "not the bare name of a model"),
        ({"model": "ae\x1b[31m"}, errors.InvalidConfig, "asks for the model 'ae\\x1b[31m'"),
        ({"model": 3}, errors.InvalidConfig, "model should be str, got 3"),
        ({"plugin": []}, errors.InvalidConfig, "plugin should be str"),
        ({"api_version": 2}, errors.IncompatibleVersion, "pull && pip install --editable"),
        ({"api_version": True}, errors.InvalidConfig, "api_version should be a whole number"),
        ({"api_version": "1"}, errors.InvalidConfig, "api_version should be a whole number"),
        ({"api_version": None}, errors.InvalidConfig, "api_version should be a whole number"),
        ({"size": None}, errors.InvalidConfig, "size should be int"),
        ({"sha256": 5}, errors.InvalidConfig, "sha256 should be str"),
        ({"config": {"builder": "os:system"}}, errors.InvalidConfig, "no setting 'builder'"),
        (
            {"config": {"latent_dim": "4"}},
            errors.InvalidConfig,
            "'latent_dim' should be of type int",
        ),
        ({"config": {"latent_dim": -4}}, errors.InvalidConfig, "positive widths"),
        ({"config": {"hidden": 6, "latent_dim": 5}}, errors.TensorMismatch, "the model has"),
        ({"preprocessing": {"channels": 2}}, errors.InvalidConfig, "config.json"),
        ({"preprocessing": "L"}, errors.InvalidConfig, "expected an object"),
        (
            {"preprocessing": {"channels": 3, "height": 28, "width": 28}},
            errors.WeightsError,
            "its preprocessing makes images (3, 28, 28), its model takes (1, 28, 28)",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_config_that_lies(folder, changes, kind, text):
    edit_config(folder, **changes)
    refused(folder, kind, text)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff", "[" * 100_000, '{"a": 1}' + " " * 10**6])
def test_config_that_is_no_config(folder, text):
    (folder / "config.json").write_text(text, "latin-1")
    refused(folder, errors.InvalidConfig, "config.json")


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (10**6, errors.TensorMismatch, "the model has"),  # 80 terabytes, of which none is taken
        (10**9, errors.InvalidConfig, "ae cannot be built of its config"),
    ],
)
def test_a_config_cannot_claim_memory(folder, code, kind, text):
    edit_config(folder, config={"hidden": 6, "latent_dim": code})
    refused(folder, kind, text)


def test_vectors_notice_another_tensor(folder):
    model = load(folder)
    with torch.no_grad():
        model.encoder[0].weight[0] += 0.1
    with pytest.raises(errors.WeightsError, match=r"codes by .* times the tolerance"):
        weights.verify(model, folder)


def test_vectors_that_cannot_be_read(folder):
    model = load(folder)
    (folder / "vectors.safetensors").write_bytes(b"nonsense")
    with pytest.raises(errors.CorruptWeights, match="not a valid safetensors file"):
        weights.verify(model, folder)
    (folder / "vectors.safetensors").unlink()
    with pytest.raises(errors.WeightsNotFound, match="has no vectors"):
        weights.verify(model, folder)


def test_vectors_hold_few_answers_but_all_images(tmp_path):
    """Those of a photograph are many numbers; the card shows the images all the same."""
    for name, size, few in (("a", 28, 2), ("b", 64, 1)):
        torch.manual_seed(0)
        model = zoo.create("ae", size=size, hidden=6, latent_dim=4)
        images = torch.rand(4, 1, size, size)
        facts = {"dataset": "none", "licence": "none"}
        weights.save(model, tmp_path / name, images=images, plugin="latentzoo-ae", facts=facts)
        held = safetensors.torch.load_file(tmp_path / name / "vectors.safetensors")
        assert torch.equal(held.pop("images"), images)
        assert {len(answer) for answer in held.values()} == {few}
        assert max(weights.verify(model, tmp_path / name).values()) <= 1


@pytest.mark.parametrize("change", ["scores", "codes", "images", "no images", "nothing"])
def test_vectors_with_another_number_of_answers(folder, change):
    path = folder / "vectors.safetensors"
    held = safetensors.torch.load_file(path)
    if change == "nothing":
        held = {"images": held["images"]}
    elif change == "no images":
        held["images"] = held["images"][:0]
    else:
        held[change] = held[change].sum()
    safetensors.torch.save_file(held, path)
    with pytest.raises(errors.CorruptWeights, match="has not one number of answers"):
        weights.verify(load(folder), folder)


@pytest.mark.slow
def test_loading_does_not_touch_torch_s_compiler():
    """It takes two seconds to import, and some initialisation on the meta device does."""
    code = "import sys, zoo; zoo.load('dcgan.mnist'); print('torch._dynamo' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_mapped_file_is_hashed_once_unless_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"a" * 5000)
    first = weights._sha256(path)
    assert first == hashlib.sha256(b"a" * 5000).hexdigest()
    assert not [k for k in weights._HASHED if k[1] == path.stat().st_ino]  # it is too new
    later = time.time() + 10
    monkeypatch.setattr(weights.time, "time", lambda: later)
    assert weights._sha256(path) == first
    (key,) = (k for k in weights._HASHED if k[1] == path.stat().st_ino)
    assert weights._HASHED[key] == first
    before = path.stat()
    with path.open("r+b") as file:  # the same file, of the same size, a byte flipped
        file.write(b"b")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights._sha256(path) != first
