"""The calls of the contract: eval mode, whatever mode the model is in."""

import threading
import time

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import InputError
from zoo.model import ZooModel
from zoo.spec import CAPABILITIES

CALLS = [call for call in CAPABILITIES if hasattr(ZooModel, call) and call != "generate"]


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
