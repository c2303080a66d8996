"""The calls of the contract: eval mode, whatever mode the model is in."""

import dataclasses
import json
import pickle
import re
import threading
import time

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import zoo
from zoo.cli import main
from zoo.errors import CapabilityError, InputError, SpecError
from zoo.model import ZooModel
from zoo.spec import USUAL
from zoo.weights import measure

CALLS = [call for call in USUAL if call != "generate"]


class Normed(ZooModel):
    """A model with all that answers otherwise in train mode."""

    def __init__(self):
        super().__init__()
        self.image_shape, self.code_shape = (1, 4, 4), (16,)
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(0.5)
        )
        self.decoder = nn.Sequential(
            nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16)), nn.BatchNorm1d(16),
            nn.Sigmoid(), nn.Unflatten(1, (1, 4, 4)),
        )  # fmt: skip

    def _encode(self, images):
        return self.encoder(images)

    def _decode(self, codes):
        return self.decoder(codes)

    def _sample_codes(self, n, generator):
        return torch.randn(n, 16, generator=generator)


@pytest.fixture
def model():
    """In train mode, but for one of its modules."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Normed()
        for _ in range(3):
            model.decoder(model.encoder(torch.rand(8, 1, 4, 4)))
    model.train()
    model.encoder[2].eval()
    return model


def modes(model):
    return [module.training for module in model.modules()]


def tensors(model):
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def argument(model, call, n=5):
    if call == "generate":
        return n
    shape = model.code_shape if call == "decode" else model.image_shape
    return torch.linspace(0, 1, n * 16).reshape(n, *shape)


def ask(model, call, n=5):
    if call == "generate":
        return model.generate(n, seed=3)
    return getattr(model, call)(argument(model, call, n))


@pytest.mark.parametrize("call", [*CALLS, "generate"])
def test_calls_use_eval_mode(model, call):
    before, state = modes(model), tensors(model)
    got = ask(model, call)
    assert modes(model) == before
    assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())
    model.eval()
    assert torch.equal(got, ask(model, call))
    if call != "generate":  # one image alone has no statistics of a batch
        assert torch.allclose(got[:1], getattr(model, call)(argument(model, call)[:1]), atol=1e-6)


@pytest.mark.parametrize("name", ["dcgan.mnist", "conv_ae.fashion_mnist", "simclr.fashion_mnist"])
def test_models_that_ship(name):
    """Whose features, taken in train mode, came from the batch and changed what is stored."""
    model = zoo.load(name)
    images = torch.rand(4, *model.image_shape)
    expected, state = model.features(images), tensors(model)
    model.train()
    assert torch.equal(model.features(images), expected)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("call", [*CALLS, "generate"])
def test_the_mode_is_back_after_an_error(model, call):
    before = modes(model)

    def broken(*_):
        raise ZeroDivisionError

    model._encode = model._decode = broken
    with pytest.raises(ZeroDivisionError):
        ask(model, call)
    assert modes(model) == before
    with pytest.raises(InputError):
        model.encode(torch.full((2, 1, 4, 4), 7.0))
    assert modes(model) == before


def test_calls_that_overlap(model):
    """The first to end does not put the mode back under the other."""
    inside, first_done = threading.Event(), threading.Event()
    encoder, before = model.encoder, modes(model)
    seen = []

    def slow(images):
        if threading.current_thread().name == "slow":
            inside.set()
            assert first_done.wait(60)
            seen.extend(module.training for module in model.modules())
        return encoder(images)

    model._encode = slow
    thread = threading.Thread(target=lambda: ask(model, "encode"), name="slow")
    thread.start()
    assert inside.wait(60)
    ask(model, "encode")
    assert not any(modes(model))
    first_done.set()
    thread.join()
    assert not any(seen)
    assert modes(model) == before


def test_what_is_trained_meanwhile_is_another_model(model):
    """A call on one model leaves the mode of another alone, in whatever thread."""
    other, stop, wrong = Normed().train(), threading.Event(), []

    def watch():
        while not stop.is_set():
            wrong.extend(m for m in other.modules() if not m.training)
            time.sleep(0)

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(50):
        ask(model, "features")
    stop.set()
    thread.join()
    assert not wrong


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_model_loaded_in_inference_mode_can_be_trained(mode):
    with mode():
        model = zoo.load("ae.mnist")
    assert all(p.requires_grad and not p.is_inference() for p in model.parameters())
    loss = model._reconstruct(torch.rand(2, 1, 28, 28)).sum()
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    with mode():
        codes = model.encode(torch.rand(2, 1, 28, 28))
    assert not codes.is_inference()
    assert not codes.requires_grad


class Walk(ZooModel):
    """A sampler of many steps that draws in each of them, and has no code."""

    def __init__(self, size=4):
        super().__init__()
        self.image_shape = (1, size, size)
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.drawn = []

    def _generate(self, n, generator, *, steps=2, fade=1.0):
        self.drawn.append(n)
        images = torch.zeros(n, *self.image_shape)
        for _ in range(steps):
            images = images * fade + self.weight * torch.randn(images.shape, generator=generator)
        return images.sigmoid()


def walk(size=4):
    model = Walk(size)
    model.spec = zoo.ModelSpec(
        name="walk", family="test", builder="a:B", summary="s", image_shape=(1, size, size),
        capabilities=("generate",),
        generate_options={
            "steps": zoo.Option(default=2, minimum=1, maximum=9, summary="of the walk"),
            "fade": zoo.Option(default=1.0, minimum=0),
        },
    )  # fmt: skip
    return model


def test_generate_with_options():
    model = walk()
    images = model.generate(5, seed=1)
    assert images.shape == (5, 1, 4, 4)
    assert torch.equal(images, model.generate(5, seed=1, steps=2, fade=1))
    assert not torch.equal(images, model.generate(5, seed=1, steps=3))
    assert not torch.equal(images, model.generate(5, seed=1, fade=0.5))
    state = torch.get_rng_state()
    assert not torch.equal(images, model.generate(5, seed=2))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"step": 3}, "has no option 'step'. Did you mean 'steps'?"),
        ({"colour": 3}, "has no option 'colour'. It has: steps, fade"),
        ({"steps": 0}, "steps should be a whole number from 1 up to 9, got 0"),
        ({"steps": 10}, "got 10"),
        ({"steps": 2.0}, "got 2.0"),
        ({"steps": True}, "got True"),
        ({"steps": "2"}, "got '2'"),
        ({"fade": -0.1}, "fade should be a number from 0, got -0.1"),
        ({"fade": float("nan")}, "got nan"),
        ({"fade": None}, "got None"),
    ],
)
def test_options_that_are_refused(options, text):
    with pytest.raises(InputError, match=re.escape(text)):
        walk().generate(1, seed=0, **options)


def test_a_model_without_options_takes_none(model):
    with pytest.raises(InputError, match="no options besides n and seed, got 'steps'"):
        model.generate(1, steps=3)


def test_blocks_of_a_sampler(monkeypatch):
    """What a seed means does not hang on how many images go through a network at once."""
    model = walk()
    images = model.generate(150, seed=3)
    assert model.drawn == [64, 64, 22]
    assert not torch.equal(images[:22], images[64:86])  # each block has noise of its own
    assert torch.equal(images[:64], model.generate(64, seed=3))
    monkeypatch.setattr("zoo.model.BATCH", 7)
    assert torch.equal(images, model.generate(150, seed=3))
    assert torch.equal(images, torch.cat(list(model._generated(150, 3, steps=2, fade=1.0))))


def test_blocks_of_large_images():
    model = walk(size=512)
    model.generate(4, seed=3, steps=1)
    assert model.drawn == [3, 1]


def test_a_model_without_a_code():
    """It says so, and nothing in the zoo asks for it."""
    model = walk()
    assert model.code_shape == model.spec.code_shape == ()
    with pytest.raises(CapabilityError, match="Walk cannot encode"):
        model.encode(torch.zeros(1, 1, 4, 4))
    assert measure(model, torch.zeros(3, 1, 4, 4)).keys() == {"generated"}


def test_records_of_options():
    spec = walk().spec
    assert zoo.ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301
    for wrong in (
        {"default": None},
        {"default": 1, "minimum": 2},
        {"default": 1, "choices": ("a",)},
        {"default": "b", "choices": ("a",)},
        {"default": "a", "minimum": 0},
        {"default": 1, "summary": 3},
    ):
        with pytest.raises(SpecError, match="Option"):
            zoo.Option(**wrong)
    for names in ({"seed": zoo.Option(default=1)}, {"steps": 1}, {"A b": zoo.Option(default=1)}):
        with pytest.raises(SpecError, match="generate_options"):
            dataclasses.replace(spec, generate_options=names)
    with pytest.raises(SpecError, match="there is no code_shape"):
        dataclasses.replace(spec, capabilities=("generate", "decode"))
    assert zoo.Option(default="a", choices=("a", "b")).expected == "one of a, b"
    assert not zoo.Option(default="a", choices=("a", "b")).accepts("c")


def test_what_print_shows():
    model = zoo.load("deep_ae.mnist")
    for line in (
        "DeepAE(", "  name: deep_ae.mnist", "  images: 1 x 28 x 28", "  code: 30", "  features: 30",
        "  can: encode, decode, reconstruct, generate, features, score",
        f"  parameters: {sum(p.numel() for p in model.parameters()):,}", "  device: cpu, eval mode",
        "  (density): GaussianMixture()",
    ):  # fmt: skip
        assert line in repr(model).splitlines()
    assert "    name: deep_ae.mnist" in repr(nn.Sequential(model, nn.Linear(30, 3))).splitlines()
    assert "device: cpu, train mode" in repr(model.train())
    assert "code" not in walk().extra_repr()
    assert "features: " not in zoo.create("dcgan").extra_repr(), "of a width that nobody said"


def test_what_a_notebook_shows():
    model = walk()
    model.name = "local-dir:<script>alert('&')</script>\n"
    page = model._repr_html_()
    assert "<script>" not in page
    assert "local-dir:&lt;script&gt;alert(" in page
    assert "1 x 4 x 4" in page
    assert page.count("\n") == page.partition("<pre>")[2].count("\n"), "a name is one line"


def test_the_device_of_a_model_without_parameters():
    model = zoo.create("pca")
    assert not list(model.parameters())
    assert ZooModel.device.fget(model) == torch.device("cpu")
    assert Normed().to("meta").device == torch.device("meta")


def test_options_at_the_command_line(monkeypatch, tmp_path):
    model, out = walk(), tmp_path / "made.png"
    monkeypatch.setattr(zoo, "load", lambda name: model)
    monkeypatch.setattr(zoo, "info", lambda name: model.spec)

    def run(*args):
        return CliRunner().invoke(main, [*args, "--out", str(out)])

    done = run("generate", "walk", "-n", "4", "--set", "steps=3", "--json")
    assert json.loads(done.stdout)["steps"] == 3
    three = out.read_bytes()
    assert "steps 2, fade 1.0" in run("generate", "walk", "-n", "4").stdout
    assert out.read_bytes() != three
    for given, text in (
        ("step=3", "Did you mean 'steps'?"),
        ("steps=0", "should be a whole number from 1 up to 9, got 0"),
        ("n=3", "has no option 'n'. It has: steps, fade"),
        ("steps", "--set takes KEY=VALUE, got 'steps'"),
    ):
        refused = run("generate", "walk", "--set", given)
        assert refused.exit_code == 2
        assert text in refused.stderr
    told = CliRunner().invoke(main, ["info", "walk"]).stdout
    assert "steps=2: a whole number from 1 up to 9; of the walk" in told


class Words(ZooModel):
    """Its features of a text are its length and how many of its letters are ``a``."""

    image_shape, code_shape = (1, 4, 4), (2,)

    def _embed_text(self, texts):
        return torch.tensor([[len(text), text.count("a")] for text in texts]).float()


def test_words_in_templates():
    model = Words()
    assert model.embed_text(["a", "bbbb"]).tolist() == [[1, 1], [4, 0]]
    assert model.embed_text(["x"] * 200, templates=["the {} a"]).tolist() == [[7, 1]] * 200
    mean = model.embed_text(["a{0}"], templates=["{}", "b{}"])
    parts = [torch.tensor([n, 1.0]) / (n**2 + 1) ** 0.5 for n in (4, 5)]
    assert torch.allclose(mean[0], sum(parts) / 2)


@pytest.mark.parametrize(
    ("texts", "templates", "text"),
    [
        ("cat", ["{}"], "got one text; write ['cat']"),
        ([], ["{}"], "expected texts as a list of texts"),
        (["cat", " "], ["{}"], "none of them empty"),
        (["cat", 3], ["{}"], "expected texts as a list of texts"),
        (["cat"], "a {}", "expected templates as a list, got one text"),
        (["cat"], ["a photo"], "a template has one {}"),
        (["cat"], ["{} {}"], "a template has one {}"),
    ],
)
def test_words_that_are_none(texts, templates, text):
    with pytest.raises(InputError) as caught:
        Words().embed_text(texts, templates=templates)
    assert text in str(caught.value)


def test_only_a_model_that_embeds_words_has_the_call(model):
    assert "embed_text" in Words().capabilities
    assert "embed_text" not in model.capabilities
    with pytest.raises(CapabilityError, match="cannot embed_text"):
        model.embed_text(["cat"])


@pytest.mark.parametrize(
    ("name", "last"), [("simclr", True), ("conv_ae", True), ("dcgan", True), ("deep_ae", False)]
)
def test_channels_come_last_where_a_network_convolves(name, last, monkeypatch):
    """In the calls and as a layer; the tensors of the model stay as they are."""
    model, seen = zoo.create(name, **({"width": 2, "channels": 3} if last else {})), []

    def features(images):
        seen.append(images.stride())
        return type(model)._features(model, images)

    monkeypatch.setattr(model, "_features", features, raising=False)
    before = {key: tensor.stride() for key, tensor in model.state_dict().items()}
    images = torch.rand(3, *model.image_shape)
    model.features(images)
    with torch.no_grad():
        model(images)
    if last:
        expected = images.contiguous(memory_format=torch.channels_last).stride()
    else:
        expected = images.stride()
    assert seen == [expected, expected]
    assert {key: tensor.stride() for key, tensor in model.state_dict().items()} == before


@pytest.mark.parametrize(
    ("layer", "shape", "batches"),
    [
        (nn.Linear(1, 1), (1, 28, 28), [1000, 1]),
        (nn.Linear(1, 1), (3, 64, 64), [500, 1]),
        (nn.Conv2d(1, 1, 1), (1, 28, 28), [250, 250, 1]),
        (nn.Conv2d(1, 1, 1), (3, 64, 64), [62] * 8 + [5]),
        (nn.Conv2d(1, 1, 1), (3, 600, 600), [1, 1]),
    ],
)
def test_how_many_images_are_computed_at_once(layer, shape, batches):
    """As many as the caches hold of what a convolution makes of them; dense networks want more."""
    model, seen = ZooModel(), []
    model.layer, model.image_shape, model.code_shape = layer, shape, (1,)
    model._encode = lambda images: seen.append(len(images)) or images[:, :1, 0, 0]
    images = torch.rand(sum(batches), *shape)
    assert torch.equal(model.encode(images), images[:, :1, 0, 0])
    assert seen == batches
