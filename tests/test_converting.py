"""zoo convert: what is written gives what the model gives, for a batch of any size."""

import json
import sys

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

import zoo
from zoo import converting
from zoo.cli import main
from zoo.converting import convert
from zoo.errors import CapabilityError, ConversionError, InputError, MissingDependency


def run_onnx(path, batch):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.shape == ["batch", *batch.shape[1:]]
    return torch.from_numpy(session.run(None, {given.name: batch.numpy()})[0])


def run_pt2(path, batch):
    with torch.no_grad():
        return torch.export.load(path).module()(batch)


RUN = {"onnx": run_onnx, "pt2": run_pt2}


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "what", "to"),
    [
        ("ae.mnist", "features", "pt2"),
        ("ae.mnist", "reconstruct", "onnx"),
        slow("vae.mnist", "decode", "onnx"),
        ("conv_ae.fashion_mnist", "encode", "pt2"),
        slow("conv_ae.fashion_mnist", "features", "onnx"),
        slow("simclr.fashion_mnist", "features", "onnx"),
        slow("dcgan.mnist", "features", "onnx"),  # whose pooling ONNX does not have
        slow("vq_vae.cifar10", "encode", "onnx"),
    ],
)
def test_the_file_gives_what_the_model_gives(name, what, to, tmp_path):
    pytest.importorskip("onnxscript")
    path = tmp_path / "new" / f"model.{to}"
    done = convert(name, path, to=to, what=what)
    assert done.recorded >= 1
    assert done.deviation <= 1
    model = zoo.load(name)
    shape = model.code_shape if what == "decode" else model.image_shape
    batch = torch.rand(7, *shape, generator=torch.Generator().manual_seed(5))
    expected = getattr(model, what)(batch)
    for part, wanted in ((batch, expected), (batch[:1], expected[:1])):
        assert torch.allclose(RUN[to](path, part), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_it_says_what_it_is(tmp_path):
    onnx = pytest.importorskip("onnx")
    convert("ae.mnist", tmp_path / "a.onnx", to="onnx")
    model = onnx.load(tmp_path / "a.onnx")
    said = json.loads({p.key: p.value for p in model.metadata_props}["zoo"])
    assert said["model"] == "ae.mnist"
    assert said["call"] == "features"
    assert zoo.Preprocessing.from_dict(said["preprocessing"]).height == 28
    convert("ae.mnist", tmp_path / "a.pt2", to="pt2")
    files = {"zoo.json": ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=files)
    assert json.loads(files["zoo.json"]) == said


def test_what_differs_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "model.pt2"
    path.write_bytes(b"PK before")
    monkeypatch.setattr(
        converting._Call, "forward", lambda self, batch: self.model._features(batch) * 1.1
    )
    with pytest.raises(ConversionError, match="times the tolerance away from what the model gives"):
        convert("ae.mnist", path, to="pt2")
    monkeypatch.setattr(
        converting._Call, "forward", lambda self, batch: self.model._features(batch)[:, 1:]
    )
    with pytest.raises(ConversionError, match="the converted model gives N x 31, the model N x 32"):
        convert("ae.mnist", path, to="pt2")
    assert path.read_bytes() == b"PK before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_exported(tmp_path, monkeypatch):
    def forward(self, batch):
        return batch if float(batch.mean()) > 0 else -batch

    monkeypatch.setattr(converting._Call, "forward", forward)
    with pytest.raises(ConversionError, match=r"ae\.mnist cannot be converted to pt2; nothing was"):
        convert("ae.mnist", tmp_path / "model.pt2", to="pt2")
    assert not list(tmp_path.iterdir())


def test_recorded_vectors_are_compared(tmp_path, monkeypatch):
    """Not only what the model gives here and now."""
    recorded = converting.read_vectors

    def other(folder):
        vectors, tolerances = recorded(folder)
        return vectors | {"features": vectors["features"] + 1}, tolerances

    monkeypatch.setattr(converting, "read_vectors", other)
    with pytest.raises(ConversionError, match="times the tolerance"):
        convert("ae.mnist", tmp_path / "model.pt2", to="pt2")


def test_inputs_that_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected one of onnx, pt2, got 'tflite'"):
        convert("ae.mnist", tmp_path / "a", to="tflite")
    with pytest.raises(InputError, match="expected one of features, encode, decode"):
        convert("ae.mnist", tmp_path / "a", to="pt2", what="generate")
    with pytest.raises(CapabilityError, match=r"simclr\.fashion_mnist cannot decode"):
        convert("simclr.fashion_mnist", tmp_path / "a", to="pt2", what="decode")


def test_without_onnx(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependency, match=r"this needs onnxscript.*\n.*\[onnx\]"):
        convert("ae.mnist", tmp_path / "a.onnx", to="onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (7, 1)])
def test_pooling(size):
    x = torch.rand(2, 3, 7, 9)
    pooled, _ = converting._adaptive_max_pool2d(x, list(size))
    assert torch.equal(pooled, F.adaptive_max_pool2d(x, size))


def test_the_command(tmp_path):
    def run(*args):
        return CliRunner().invoke(main, ["convert", *map(str, args)])

    out = tmp_path / "ae.pt2"
    done = run("ae.mnist", "--to", "pt2", "--out", out)
    assert done.exit_code == 0
    assert "images N x 1 x 28 x 28 to features N x 32" in done.stdout
    again = run("ae.mnist", "--to", "pt2", "--what", "encode", "--out", out, "--json")
    assert json.loads(again.stdout)["outputs"] == "codes N x 32"
    out.write_text("a letter")
    refused = run("ae.mnist", "--to", "pt2", "--out", out)
    assert refused.exit_code == 2
    assert "is not a .pt2 file, so it is not overwritten" in refused.stderr
    assert out.read_text() == "a letter"
