"""Torch's defaults inside and outside of the isolation."""

import itertools
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import _device

from zoo import isolation
from zoo.isolation import isolated, on_meta_device, without_isolation


@pytest.fixture(params=["float64", "bfloat16", "meta", "inference_mode", "no_grad"])
def defaults(request):
    """One of torch's defaults, set as a user may have it."""
    match request.param:
        case "float64" | "bfloat16" as dtype:
            torch.set_default_dtype(getattr(torch, dtype))
            yield
            torch.set_default_dtype(torch.float32)
        case "meta":
            torch.set_default_device("meta")
            yield
            torch.set_default_device(None)
        case mode:
            with getattr(torch, mode)():
                yield


def _layers() -> list[torch.Tensor]:
    layers = (
        nn.Linear(3, 4), nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(3),
        nn.Embedding(3, 4), nn.LSTM(3, 4), nn.MultiheadAttention(8, 2),
        nn.TransformerEncoderLayer(8, 2),
    )  # fmt: skip
    return [t for layer in layers for t in layer.state_dict().values()]


def _initialised() -> list[torch.Tensor]:
    made = [
        call(torch.empty(3, 5))
        for call in (
            nn.init.uniform_, nn.init.normal_, nn.init.trunc_normal_, nn.init.orthogonal_,
            nn.init.eye_, nn.init.xavier_uniform_, nn.init.xavier_normal_, nn.init.zeros_,
            nn.init.ones_, nn.init.kaiming_uniform_, nn.init.kaiming_normal_,
        )
    ]  # fmt: skip
    made.append(nn.init.sparse_(torch.empty(3, 5), 0.5))
    return [*made, nn.init.dirac_(torch.empty(3, 4, 3, 3))]


def _made() -> list[torch.Tensor]:
    return [
        torch.zeros(2), torch.ones(2), torch.eye(3), torch.full((2,), 0.5), torch.full((2,), 3),
        torch.arange(3), torch.arange(0, 1, 0.25), torch.linspace(0, 1, 3), torch.tensor([1, 2]),
        torch.tensor([[0.1], [0.2]]), torch.tensor(True), torch.as_tensor(0.1),
        torch.as_tensor(torch.tensor([0.1])), torch.hann_window(5), torch.fft.fftfreq(4),
        torch.scalar_tensor(0.1), torch.tril_indices(2, 2),
    ]  # fmt: skip


def _promoted() -> list[torch.Tensor]:
    whole = torch.tensor([1, 2, 3])
    return [
        whole / 3, whole * 0.1, 0.1 + whole, 1 / whole, whole.sqrt(), torch.exp(whole),
        torch.where(whole > 1, 0.1, 0.7), whole.double() / 3, whole.to(torch.float16), whole // 2,
        torch.stack([whole, whole]) - 0.5, (whole > 1) * 0.3, whole.sum() / 7,
    ]  # fmt: skip


def _drawn() -> list[torch.Tensor]:
    x = torch.full((4, 6), 0.5)
    return [
        torch.rand(3), torch.rand((2, 3)), torch.randn(2, 3), torch.randint(9, (4,)),
        torch.randint(2, 9, (4,)), torch.randperm(7), torch.normal(0.0, 1.0, (3,)),
        torch.normal(x, 1.0), torch.rand_like(x), torch.randn_like(x), torch.randint_like(x, 9),
        torch.randint_like(x, 2, 9), torch.bernoulli(x), torch.multinomial(x, 3), torch.poisson(x),
        x.clone().exponential_(), x.clone().random_(9), x.clone().bernoulli_(0.3),
    ]  # fmt: skip


def _dropped() -> list[torch.Tensor]:
    x, z = torch.ones(4, 6, 5, 5), torch.ones(3, 2, 8)
    return [
        F.dropout(x, 0.3), F.dropout(x.clone(), 0.3, inplace=True), nn.Dropout(0.2)(x),
        nn.Dropout(0.2).eval()(x), F.dropout1d(x[0], 0.3), F.dropout2d(x, 0.3),
        F.dropout3d(x[None], 0.3), F.gumbel_softmax(x[0, 0]), nn.MultiheadAttention(8, 2, 0.3)(
            z, z, z)[0],
        nn.TransformerEncoderLayer(8, 2, dropout=0.3)(z),
        F.scaled_dot_product_attention(z, z, z, dropout_p=0.2),
        F.scaled_dot_product_attention(z, z, z, dropout_p=0.2, is_causal=True),
    ]  # fmt: skip


@pytest.mark.parametrize("make", [_layers, _initialised, _made, _promoted, _drawn, _dropped])
def test_same_bits_as_with_torch_s_own_defaults(defaults, make):
    expected = _expected(make)
    state = torch.get_rng_state()
    with isolated(5):
        made = make()
    assert torch.equal(torch.get_rng_state(), state)
    for i, (a, b) in enumerate(zip(made, expected, strict=True)):
        assert (a.dtype, a.shape, a.device.type) == (b.dtype, b.shape, "cpu"), i
        assert not a.is_inference(), i
        assert torch.equal(a, b), i


def _expected(make) -> list[torch.Tensor]:
    """What ``make`` gives with torch's own defaults and global generator: in another thread, and
    with the dtype, which is the process's, as it was."""
    made: list[torch.Tensor] = []
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    threads = torch.get_num_threads()

    def run() -> None:
        torch.set_num_threads(threads)  # in which a new thread would otherwise add in its own order
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            made.extend(make())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    torch.set_default_dtype(dtype)
    return made


def test_gradients(defaults):
    with isolated(grad=True):
        layer = nn.Linear(3, 3)
        layer(torch.ones(2, 3)).sum().backward()
    assert layer.weight.grad is not None
    with isolated(grad=False):
        assert not layer(torch.ones(2, 3)).requires_grad


def test_the_caller_s_settings_are_back_afterwards(defaults):
    def settings():
        return (
            torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(), torch._C._len_torch_function_stack(),
        )  # fmt: skip

    before = settings()
    with pytest.raises(ZeroDivisionError), isolated(), on_meta_device(), without_isolation():
        _ = 1 / 0
    assert settings() == before


def test_seeds():
    """One seed is one stream of numbers; within another isolation, of whose nothing is used."""
    with isolated(3):
        first, second = torch.rand(2), torch.rand(2)
        with isolated(4):
            other = torch.rand(2)
        third = torch.rand(2)
    assert torch.equal(torch.cat([first, second, third]), _rand(3, 6))
    assert torch.equal(other, _rand(4, 2))
    with isolated(3) as mode:
        torch.rand(5)
        mode.reseed(4)
        assert torch.equal(torch.rand(2), other)


def _rand(seed: int, n: int) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed))


def test_without_a_seed_the_global_generator_is_used():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        with isolated(None):
            drawn = [torch.rand(2), nn.Dropout()(torch.ones(9)), torch.rand_like(torch.ones(2))]
        torch.manual_seed(6)
        for got, expected in zip(
            drawn,
            [torch.rand(2), nn.Dropout()(torch.ones(9)), torch.rand_like(torch.ones(2))],
            strict=True,
        ):
            assert torch.equal(got, expected)
        with isolated(6), isolated(None):  # the one around it
            assert torch.equal(torch.rand(2), drawn[0])


def test_what_code_says_itself_holds():
    """A dtype, device or generator that is given, and torch.device around a part of the code."""
    given = torch.Generator().manual_seed(1)
    with isolated(2):
        assert torch.zeros(2, dtype=torch.float64).dtype == torch.float64
        assert torch.zeros(2, device="meta").is_meta
        assert torch.equal(torch.rand(2, generator=given), _rand(1, 2))
        with torch.device("meta"):
            assert torch.zeros(2).is_meta
            assert nn.Linear(2, 2).weight.is_meta
        assert not torch.zeros(2).is_meta
        out = torch.empty(2, dtype=torch.float64)
        assert torch.zeros(2, out=out) is out


def test_every_factory_of_this_torch_is_known():
    """A new torch may have more of them."""
    unknown = _device._device_constructors() - isolation._HANDLERS.keys()
    assert unknown <= {torch.empty_quantized}  # whose dtype has to be given


def test_modules_on_the_meta_device():
    with on_meta_device():
        made = [*_layers(), *_initialised(), *_drawn()[:7], torch.eye(3)]
    assert all(t.is_meta for t in made)
    assert [t.shape for t in made[: len(_layers())]] == [t.shape for t in _layers()]


@pytest.mark.slow
def test_modules_on_the_meta_device_need_no_compiler():
    code = (
        "import sys, torch; from torch import nn; from zoo.isolation import on_meta_device\n"
        "with on_meta_device():\n"
        "    nn.TransformerEncoderLayer(8, 2); nn.Conv2d(3, 3, 3); nn.LSTM(2, 2); torch.randn(3)\n"
        "    for name in ('trunc_normal_', 'orthogonal_', 'eye_', 'xavier_normal_', 'dirac_'):\n"
        "        size = (3, 3, 3) if name == 'dirac_' else (3, 3)\n"
        "        getattr(nn.init, name)(torch.empty(size))\n"
        "print([m for m in ('torch._dynamo', 'sympy')\n"
        "       if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_other_threads_see_nothing():
    """While one thread is in the isolation, another builds with torch's own defaults."""
    inside, done = threading.Event(), threading.Event()

    def hold():
        with isolated(0), on_meta_device():
            inside.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(60)
    try:
        assert _device.CURRENT_DEVICE is None
        layer = nn.Linear(3, 3)
        assert not layer.weight.is_meta
        assert torch.get_default_device().type == "cpu"
        assert torch._C._len_torch_function_stack() == 0
        assert float(layer.weight.detach().abs().sum()) > 0
    finally:
        done.set()
        thread.join()


def test_without_isolation():
    """Full speed where nothing needs the mode, and the mode where torch's dtype is another."""
    with isolated(0), without_isolation():
        assert not torch.overrides.has_torch_function((torch.ones(1),))
    try:
        torch.set_default_dtype(torch.float64)
        with isolated(0), without_isolation():
            assert torch.zeros(1).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_dropout_has_gradients():
    x = torch.ones(50, requires_grad=True)
    with isolated(1):
        y = F.dropout(x, 0.5)
        y.sum().backward()
    assert set(x.grad.tolist()) == {0.0, 2.0}
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize(("p", "training"), list(itertools.product((0.0, 1.0), (True, False))))
def test_dropout_at_its_ends(p, training):
    x = torch.ones(5)
    with isolated(1):
        assert torch.equal(F.dropout(x, p, training), F.dropout(x, p, training))
