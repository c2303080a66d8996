"""``zoo.save``: weights that no run of ``zoo train`` made are as good as those that one did."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from torch import nn

import zoo
from zoo import weights
from zoo.authoring.checking import check
from zoo.cli import main
from zoo.errors import InputError, TensorMismatch, UnknownModel, WeightsError
from zoo.model import Step, ZooModel
from zoo.publishing import prepare

FACTS = {"dataset": "my pictures", "licence": "MIT"}
IMAGES = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def model():
    return made()


def made(**config):
    torch.manual_seed(5)
    return zoo.create("ae", **{"hidden": 6, "latent_dim": 4, **config})


def written(folder):
    return json.loads((folder / "config.json").read_text("utf-8"))


@pytest.mark.slow
def test_a_loop_of_ones_own(tmp_path, model):
    """Trained here, saved in train mode: it loads, is checked, would be published, is measured."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        sum(model.loss(IMAGES, Step(IMAGES, model.recipe())).values()).backward()
        optimizer.step()
    model.fit(lambda: iter([torch.rand(60, 1, 28, 28)]), 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folder = zoo.save(
        model, tmp_path / "mine", images=IMAGES, training={"epochs": 3}, dtype="float32", **FACTS
    )
    assert model.training, "the model is left in its mode"
    again = zoo.load(f"local-dir:{folder}")
    assert not again.training
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert torch.equal(model.state_dict()[name], before[name]), "the model is as it was"
    assert {file.name for file in folder.iterdir()} == {
        "config.json", "model.safetensors", "vectors.safetensors", "README.md", "README.png",
    }  # fmt: skip
    card = (folder / "README.md").read_text("utf-8")
    assert "my pictures" in card
    assert "- epochs: 3" in card
    assert "learned tensors are stored as float32" in card
    assert 'zoo.load("local-dir:mine")' in card
    assert all(r.well for r in check(f"local-dir:{folder}")), "zoo check"
    (tmp_path / "copy").mkdir()
    assert prepare(folder, tmp_path / "copy", "hf-hub:me/mine") == "ae trained on my pictures"


def test_it_can_be_measured(tmp_path, model):
    folder = zoo.save(model, tmp_path / "mine", **FACTS)
    pixels = np.random.default_rng(0).integers(255, size=(24, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "tiny.npz", test_images=pixels, train_images=pixels)
    measured = zoo.evaluate(
        f"local-dir:{folder}", data=str(tmp_path / "tiny.npz"), protocols=["reconstruction"]
    )
    assert {m["dataset"] for m in measured["metrics"]} == {"tiny"}
    assert json.loads((folder / "metrics.json").read_text("utf-8"))["metrics"]


def test_learnt_with_labels_is_said(tmp_path, model):
    folder = zoo.save(model, tmp_path / "mine", labels=True, **FACTS)
    assert "it is not unsupervised" in (folder / "README.md").read_text("utf-8")


def test_imported_tensors_of_any_layout_and_dtype(tmp_path):
    """float64, bfloat16, transposed, expanded and shared: saved as what they are worth."""
    for change in (
        lambda m: m.double(),
        lambda m: m.bfloat16(),
        lambda m: setattr(m.encoder[0], "weight", nn.Parameter(torch.randn(784, 6).t())),
        lambda m: setattr(m.encoder[0], "bias", nn.Parameter(torch.ones(1).expand(6))),
        lambda m: setattr(m.density, "weights", m.density.weights.expand(1, -1)[0]),
    ):
        model = made()
        change(model)
        folder = zoo.save(model, tmp_path / str(id(change)), dtype="float32", **FACTS)
        again = zoo.load(f"local-dir:{folder}")
        for name, tensor in model.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor.float()), name


class Tied(ZooModel):
    """Its decoder has the encoder's matrix."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight


def test_a_tied_tensor_stays_one(tmp_path):
    tied = Tied()
    assert weights._tied(tied) == [["a.weight", "b.weight"]]
    state = {name: tensor.detach().clone() for name, tensor in tied.state_dict().items()}
    fresh = Tied()
    weights.Tensors(tmp_path, state).load_into(fresh)
    assert fresh.a.weight is fresh.b.weight
    assert torch.equal(fresh.a.weight, tied.a.weight)
    state["b.weight"] = state["b.weight"] + 1
    with pytest.raises(TensorMismatch, match="are one tensor of the model, and have two values"):
        weights.Tensors(tmp_path, state).load_into(Tied())


def test_what_float16_cannot_hold_stays_float32(tmp_path, model):
    """Over 65,504, or so small that nothing would be left; each tensor for itself."""
    with torch.no_grad():
        model.encoder[0].bias[0] = 70000.0
        model.encoder[2].bias.fill_(1e-9)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folder = zoo.save(model, tmp_path / "mine", **FACTS)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), "the model is as it was"
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    half = {name for name, tensor in stored.items() if tensor.dtype == torch.float16}
    kept = ["encoder.0.bias", "encoder.2.bias"]
    assert half == {
        *(name for name, _ in model.named_parameters() if name not in kept), "density.scales"
    }  # fmt: skip
    assert written(folder)["stored"] == {"learned": "float16", "float32": kept}
    loaded = zoo.load(f"local-dir:{folder}")
    assert torch.equal(loaded.encoder[0].bias, model.encoder[0].bias)
    assert torch.equal(loaded.encoder[2].bias, model.encoder[2].bias)
    said = "stored as float16, except 'encoder.0.bias', 'encoder.2.bias', whose values it cannot"
    assert said in (folder / "README.md").read_text("utf-8")


def put(name, tensor):
    def change(model):
        module, _, key = name.rpartition(".")
        del model.get_submodule(module)._parameters[key]
        model.get_submodule(module).register_buffer(key, tensor)
        return model

    return change


def headed(model):
    model.head = nn.Linear(4, 2)
    return model


def unspecified(model):
    model.spec = None
    return model


def subclassed(model):
    model.__class__ = type("Mine", (type(model),), {})
    return model


def renamed(model):
    import dataclasses

    model.spec = dataclasses.replace(model.spec, name="nobodys", builder="nobody.model:Nobody")
    return model


WEIGHT = "encoder.0.weight"
REFUSED = {
    "network": (lambda m: nn.Linear(2, 2), InputError, "expected a model of the zoo's, got torch"),
    "a path": (lambda m: "ae.mnist", InputError, "expected a model of the zoo's, got builtins.str"),
    "parallel": (nn.DataParallel, InputError, "zoo.save(model.module, ...)"),
    "by its class": (unspecified, UnknownModel, "Make another with zoo.create(NAME, ...)"),
    "a subclass": (subclassed, InputError, "whoever loads the weights would have another model"),
    "undeclared": (renamed, UnknownModel, "no plugin that is installed declares the model 'nobo"),
    "a head": (headed, TensorMismatch, "not of the model: 'head.bias', 'head.weight'"),
    "nan": (put(WEIGHT, torch.full((6, 784), float("nan"))), TensorMismatch, "holds NaN or inf"),
    "infinity": (put(WEIGHT, torch.full((6, 784), -torch.inf)), TensorMismatch, "holds NaN or inf"),
    "float64 alone": (
        put(WEIGHT, torch.full((6, 784), 1e300, dtype=torch.float64)),
        TensorMismatch, "holds NaN or infinity, once it is torch.float32",
    ),
    "shape": (put(WEIGHT, torch.zeros(6, 785)), TensorMismatch, "is (6, 785) torch.float32, the"),
    "whole numbers": (put(WEIGHT, torch.zeros(6, 784).int()), TensorMismatch, "torch.int32, the"),
    "meta": (lambda m: m.to("meta"), InputError, "is on the meta device"),
    "sparse": (put(WEIGHT, torch.zeros(6, 784).to_sparse()), InputError, "make it dense with to_"),
    "quantised": (
        lambda m: put(WEIGHT, torch.quantize_per_tensor(torch.zeros(6, 784), 1, 0, torch.qint8))(m),
        InputError, "is quantised",
    ),
    "complex": (put(WEIGHT, torch.zeros(6, 784) * 1j), InputError, "is torch.complex64"),
    "fp8": (put(WEIGHT, torch.zeros(6, 784).to(torch.float8_e4m3fn)), InputError, "float8_e4m3fn"),
    "lazy": (put(WEIGHT, nn.parameter.UninitializedBuffer()), InputError, "has no shape yet"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("case", REFUSED)
def test_models_that_cannot_be_saved(tmp_path, model, case):
    change, error, text = REFUSED[case]
    wrong = change(model)
    with pytest.raises(error) as caught:
        zoo.save(wrong, tmp_path / "mine", **FACTS)
    assert text in str(caught.value)
    assert not list(tmp_path.iterdir()), "nothing is left"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"dataset": None}, "expected a dataset as one line of text"),
        ({"dataset": " "}, "expected a dataset as one line of text"),
        ({"licence": ""}, "expected a licence as one line of text"),
        ({"licence": "MIT\nand more"}, "expected a licence as one line of text"),
        ({"dtype": "int8"}, "weights are stored as float16 or float32, got dtype='int8'"),
        ({"dtype": torch.float64}, "got dtype=torch.float64"),
        ({"images": IMAGES[:, :, :20]}, "expected images of shape N x 1 x 28 x 28, got 3 x 1 x 20"),
        ({"images": IMAGES[:0]}, "empty batch"),
        ({"images": IMAGES * 255}, "divide by 255"),
        ({"images": IMAGES.numpy()}, "expected images as a float32 tensor"),
        ({"training": "three epochs"}, "as a mapping, got 'three epochs'"),
        ({"training": {"loss": float("nan")}}, "cannot be written as JSON"),
        ({"training": {"data": IMAGES}}, "cannot be written as JSON"),
    ],
)
def test_facts_that_are_missing_or_wrong(tmp_path, model, change, text):
    with pytest.raises(InputError) as caught:
        zoo.save(model, tmp_path / "mine", **{**FACTS, **change})
    assert text in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone(tmp_path, model):
    (tmp_path / "mine").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for taken in ("mine", "file", "link"):
        with pytest.raises(WeightsError, match="exists already; weights are never overwritten"):
            zoo.save(model, tmp_path / taken, **FACTS)
    assert not list((tmp_path / "mine").iterdir())
    with pytest.raises(WeightsError, match="cannot be written: Not a directory"):
        zoo.save(model, tmp_path / "file" / "below", **FACTS)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["file", "link", "mine"]


def test_no_more_images_are_kept_than_a_folder_needs(tmp_path, model):
    many = IMAGES[:1].expand(50, 1, 28, 28).requires_grad_()
    folder = zoo.save(model, tmp_path / "mine", images=many, **FACTS)
    assert safetensors.torch.load_file(folder / "vectors.safetensors")["images"].shape[0] == 16


def test_other_libraries_models_say_what_is_possible(tmp_path):
    pytest.importorskip("timm")
    model = zoo.create("timm:test_vit")
    with pytest.raises(UnknownModel) as caught:
        zoo.save(model, tmp_path / "mine", **FACTS)
    for text in ("no weights folder can hold it", "safetensors.torch.save_file(", "zoo new-plugin"):
        assert text in str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_train_says_what_it_stores(tmp_path, dtype):
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for i in range(12):
        Image.new("L", (28, 28), 20 * i).save(tmp_path / "pictures" / f"{i}.png")
    out = tmp_path / "run"
    done = CliRunner().invoke(
        main,
        ["train", "ae", "--data", str(tmp_path / "pictures"), "--out", str(out), "--epochs", "1",
         "--set", "batch_size=4", "--config", "hidden=6", "--config", "latent_dim=4",
         "--device", "cpu",
         *(["--dtype", dtype] if dtype == "float32" else [])],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f"learned tensors are stored as {dtype}" in done.output
    tensors = safetensors.torch.load_file(out / "weights" / "model.safetensors")
    assert str(tensors[WEIGHT].dtype) == f"torch.{dtype}"
    said = f"- learned tensors are stored as {dtype}"
    assert said in (out / "weights" / "README.md").read_text("utf-8")
    assert zoo.load(f"local-dir:{out}").encoder[0].weight.dtype == torch.float32


def test_what_does_not_come_out_again_is_not_written(tmp_path, model, monkeypatch):
    """The folder is validated before it takes its place, as by zoo check and zoo publish."""
    measure, others = weights.measure, iter(range(1, 1000))

    def never_the_same(*arguments):
        return {name: made + next(others) for name, made in measure(*arguments).items()}

    monkeypatch.setattr(weights, "measure", never_the_same)
    with pytest.raises(WeightsError, match="this machine's results differ from the recorded ones"):
        zoo.save(model, tmp_path / "mine", **FACTS)
    assert list(tmp_path.iterdir()) == []
