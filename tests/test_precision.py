"""The calls in bf16: as close as eight bits allow, and nothing else of the model changes."""

import copy
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import main
from zoo.errors import CollectionError, InputError
from zoo.model import ZooModel


@pytest.fixture(autouse=True)
def computes(monkeypatch: pytest.MonkeyPatch):
    """Every processor does in these tests, if slowly."""
    monkeypatch.setattr("zoo.model.computes_in_bf16", lambda device: True)


@pytest.fixture
def model() -> ZooModel:
    return zoo.load("deep_ae.mnist")


IMAGES = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("call", ["encode", "reconstruct", "features", "score"])
def test_results_are_float32_and_close(model: ZooModel, call: str):
    exact = getattr(model, call)(IMAGES)
    near = getattr(model.prepare(precision="bf16"), call)(IMAGES)
    assert near.dtype == torch.float32
    assert not torch.equal(near, exact)
    assert (near - exact).norm() < 0.03 * exact.norm()
    again = getattr(model.prepare(precision="fp32"), call)(IMAGES)
    assert torch.equal(again, exact)


def test_generate_and_the_tensors_stay(model: ZooModel):
    images, tensors = model.generate(2, seed=1), copy.deepcopy(model.state_dict())
    assert torch.equal(model.prepare(precision="bf16").generate(2, seed=1), images)
    model.encode(IMAGES)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == tensors[name].dtype
        assert torch.equal(tensor, tensors[name])


def test_weights_have_gradients_after_a_call_within_autocast(model: ZooModel):
    model.prepare(precision="bf16").requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        model.encode(IMAGES)
        model(IMAGES).sum().backward()
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_other_words_and_processors_are_refused(model: ZooModel, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match="fp32 or bf16, got 'fp8'"):
        model.prepare(precision="fp8")
    monkeypatch.setattr("zoo.model.computes_in_bf16", lambda device: False)
    with pytest.raises(InputError, match="cpu does not compute in bf16"):
        zoo.load("deep_ae.mnist", precision="bf16")


def test_encode_and_collections(model: ZooModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for grey in (10, 90, 200):
        Image.new("L", (20, 20), grey).save(pictures / f"{grey}.png")
    out = ["--out", str(tmp_path / "codes.npz")]
    args = ["encode", "deep_ae.mnist", str(pictures), *out, "--precision", "bf16"]
    assert CliRunner().invoke(main, args).exit_code == 0
    folder = tmp_path / "index"
    zoo.Collection.index(model.prepare(precision="bf16"), [pictures], folder)
    # It goes on alike, on any machine and by name, and refuses what cannot be compared.
    monkeypatch.setattr("zoo.model.computes_in_bf16", lambda device: False)
    assert zoo.Collection(folder).model()._precision == "bf16"
    again = zoo.Collection.index("deep_ae.mnist", [pictures], folder)
    assert again.report is not None
    assert again.report.computed == 0
    with pytest.raises(CollectionError, match="computed in bf16, and not in fp32"):
        zoo.Collection.index(model.prepare(precision="fp32"), [pictures], folder)


def test_models_of_a_library_too():
    model = zoo.create("timm:test_vit")
    images = torch.rand(2, *model.image_shape, generator=torch.Generator().manual_seed(0))
    exact, near = model.encode(images), model.prepare(precision="bf16").encode(images)
    assert near.dtype == torch.float32
    assert not torch.equal(near, exact)
