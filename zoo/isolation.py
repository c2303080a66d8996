"""Makes what the zoo builds, calls and trains independent of torch's defaults.

Torch has defaults that a user may set: the dtype and the device of new tensors, the random state,
whether gradients are recorded. Under :func:`isolated` they are what the zoo expects (float32, the
CPU, a generator of its own), whatever they are outside. Nothing is set and put back for that, since
other threads would see it: a mode that only the calling thread has says in each call of torch what
the defaults would have said.
"""

import contextlib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["Isolation", "isolated", "on_meta_device", "without_isolation"]

Handler = Callable[["Isolation", Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@contextlib.contextmanager
def isolated(seed: int | None = 0, *, grad: bool = True) -> Iterator["Isolation"]:
    """Torch in this thread as the zoo expects it, whatever its defaults are.

    New tensors are float32 and on the CPU where a call does not say otherwise; inference mode is
    off; what would be drawn from torch's global generator is drawn from one that is seeded with
    ``seed``, which gives the same numbers as the global one after ``torch.manual_seed(seed)``.
    The global state is neither used nor changed.

    Args:
        seed: None leaves the global generator in use, for those who build modules with it.
        grad: whether gradients are recorded, which the caller's own setting does not decide.
    """
    with torch.inference_mode(False), torch.set_grad_enabled(grad), Isolation(seed) as isolation:
        yield isolation


@contextlib.contextmanager
def on_meta_device() -> Iterator[None]:
    """Modules built here have neither memory nor initial values: loading gives them both.

    What would fill a tensor does nothing: of what ``torch.nn.init`` does, some would import
    torch's compiler on the meta device, which takes two seconds.
    """
    with torch.inference_mode(False), torch.enable_grad(), _OnMeta(0):
        yield


def without_isolation() -> contextlib.AbstractContextManager[Any]:
    """Lift the isolation for code that calls torch often and draws nothing, such as an optimiser.

    Where torch's default dtype is another than float32, the isolation has to stay.
    """
    if torch.get_default_dtype() is torch.float32:
        return torch._C.DisableTorchFunction()  # of this thread, as torch documents it
    return contextlib.nullcontext()


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies matrices in bf16; where it is emulated, that takes 30 times
    as long as in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.11
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


class Isolation(TorchFunctionMode):
    """The torch function mode of :func:`isolated`; see there."""

    device = torch.device("cpu")

    def __init__(self, seed: int | None):
        super().__init__()
        self.reseed(seed)
        self._outer = torch.get_default_device()

    def reseed(self, seed: int | None) -> None:
        """Draw from here on as after ``torch.manual_seed(seed)``."""
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        handler = _HANDLERS.get(func)
        if handler is not None:
            return handler(self, func, args, dict(kwargs))
        if torch.get_default_dtype() is not torch.float32:
            return _promoted(func, args, kwargs)
        return func(*args, **kwargs)

    def place(self, kwargs: dict[str, Any]) -> None:
        """Say in the arguments of a factory where the new tensor shall be."""
        # The code that is run may have a ``with torch.device(...)`` of its own, which holds.
        if kwargs.get("device") is None and torch.get_default_device() == self._outer:
            kwargs["device"] = self.device

    def generator(self, device: torch.device | str | None) -> torch.Generator | None:
        """What to draw from on a device; None for the global generator."""
        device = torch.device(device or "cpu")
        if self._seed is None or device.type == "meta":  # where nothing is drawn
            return None
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]


class _OnMeta(Isolation):
    """The isolation of modules that are given their values later."""

    device = torch.device("meta")

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _FILLING:
            tensor = args[0] if args else kwargs["tensor"]
            if isinstance(tensor, Tensor) and tensor.is_meta:
                return tensor
        return super().__torch_function__(func, types, args, kwargs)


# -- new tensors -----------------------------------------------------------------------------------


def _factory(mode: Isolation, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
    """Functions whose new tensor has the default dtype unless a dtype is given."""
    out = kwargs.get("out")
    if out is None and kwargs.get("dtype") is None:
        kwargs["dtype"] = torch.float32
    return _placed(mode, func, args, kwargs)


def _factory_by_value(mode: Isolation, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Functions whose new tensor has the default dtype where a number has a fraction."""
    if kwargs.get("dtype") is None and _has_float((args, tuple(kwargs.values()))):
        kwargs["dtype"] = torch.float32
    return _placed(mode, func, args, kwargs)


def _placed(mode: Isolation, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    out = kwargs.get("out")
    if out is not None:
        kwargs |= {"dtype": out.dtype, "device": out.device}
        if out.is_meta:
            return out
    mode.place(kwargs)
    return func(*args, **kwargs)


def _of_data(mode: Isolation, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """``torch.tensor`` and its like: a tensor that is given keeps its dtype and device."""
    data = args[0] if args else kwargs.get("data", kwargs.get("obj"))
    if isinstance(data, Tensor):
        if kwargs.get("device") is None:
            kwargs["device"] = data.device
        return func(*args, **kwargs)
    if kwargs.get("dtype") is None and _has_float(data):
        kwargs["dtype"] = torch.float32
    return _placed(mode, func, args, kwargs)


def _of_parts(mode: Isolation, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Sparse tensors, which are where their parts are."""
    part = next(_tensors((args, tuple(kwargs.values()))), None)
    if part is not None and kwargs.get("device") is None:
        kwargs["device"] = part.device
    return _placed(mode, func, args, kwargs)


def _has_float(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_float, value))
    return type(value) is float


# -- what is drawn ---------------------------------------------------------------------------------


def _drawn(mode: Isolation, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Values drawn into, or for, the first argument."""
    tensor = args[0] if args else kwargs.get("tensor", kwargs.get("input"))
    if kwargs.get("generator") is None:
        kwargs["generator"] = mode.generator(tensor.device)
    return func(*args, **kwargs)


def _new_drawn(mode: Isolation, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """New tensors of drawn values."""
    whole = func in (torch.randint, torch.randperm)
    out = kwargs.get("out")
    if out is None and kwargs.get("dtype") is None:
        kwargs["dtype"] = torch.int64 if whole else torch.float32
    if out is None:
        mode.place(kwargs)
    device = torch.device(kwargs.get("device") or (out.device if out is not None else "cpu"))
    if device.type == "meta":
        return torch.empty(_size(func, args, kwargs), dtype=kwargs["dtype"], device=device)
    if kwargs.get("generator") is None:
        kwargs["generator"] = mode.generator(device)
    return func(*args, **kwargs)


def _size(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The size in the arguments of a factory of drawn values."""
    if func is torch.randperm:
        return (args[0] if args else kwargs["n"],)
    if "size" in kwargs:
        return kwargs["size"]
    if func in (torch.randint, torch.normal) or isinstance(args[0], list | tuple):
        return args[-1]
    return args


def _normal(mode: Isolation, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """``torch.normal``, of tensors or of numbers and a size."""
    given = next(_tensors((args, tuple(kwargs.values()))), None)
    if given is None:
        return _new_drawn(mode, func, args, kwargs)
    if kwargs.get("generator") is None:
        kwargs["generator"] = mode.generator(given.device)
    return func(*args, **kwargs)


def _drawn_like(mode: Isolation, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """``rand_like`` and ``randn_like``, which fill an empty tensor."""
    generator = kwargs.pop("generator", None)
    empty = torch.empty_like(*args, **kwargs)
    if empty.is_meta:
        return empty
    generator = generator or mode.generator(empty.device)
    with torch.no_grad():
        if func is torch.rand_like:
            empty.uniform_(0, 1, generator=generator)
        else:
            empty.normal_(0, 1, generator=generator)
    return empty


def _randint_like(mode: Isolation, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    generator, kwargs = kwargs.pop("generator", None), dict(kwargs)
    bounds = [kwargs.pop(key) for key in ("low", "high") if key in kwargs]
    like, *first = args if args else (kwargs.pop("input"),)
    empty = torch.empty_like(like, **kwargs)
    if empty.is_meta:
        return empty
    low, high = ([0, *first, *bounds])[-2:]
    return empty.random_(low, high, generator=generator or mode.generator(empty.device))


def _dropout(noise_of: Callable[[Tensor], Tensor]) -> Handler:
    """Dropout as torch computes it on the CPU, with noise drawn in the shape of ``noise_of``."""

    def handler(mode: Isolation, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        names = ("input", "p", "train" if "train" in kwargs else "training", "inplace")
        given = {"p": 0.5, "training": True, "inplace": False} | kwargs
        given |= dict(zip(names, args, strict=False))
        x, p = given["input"], given["p"]
        training = given.get("train", given["training"])
        if mode._seed is None or not training or not 0 < p < 1 or not x.numel():
            return func(*args, **kwargs)
        noise = noise_of(x).bernoulli_(1 - p, generator=mode.generator(x.device)).div_(1 - p)
        in_place = given["inplace"] or func.__name__ in ("dropout_", "feature_dropout_")
        return x.mul_(noise) if in_place else x * noise

    return handler


def _each(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _channels(spatial: int) -> Callable[[Tensor], Tensor]:
    def noise_of(x: Tensor) -> Tensor:
        batched = x.ndim == spatial + 2 or (spatial == 1 and x.ndim == 3)
        ones = (1,) * (x.ndim - (2 if batched else 1))
        return x.new_empty((*x.shape[: x.ndim - len(ones)], *ones))

    return noise_of


def _attention(mode: Isolation, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Attention draws only where it has dropout; it is then the formula of its documentation."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    given = dict(zip(names, args, strict=False)) | kwargs
    p = given.get("dropout_p", 0.0)
    if mode._seed is None or not p:
        return func(*args, **kwargs)
    query, key, value = given["query"], given["key"], given["value"]
    if given.get("enable_gqa"):
        times = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(times, -3) for t in (key, value))
    scale = given.get("scale") or query.shape[-1] ** -0.5
    weights = query * scale**0.5 @ (key * scale**0.5).transpose(-2, -1)
    mask = given.get("attn_mask")
    if given.get("is_causal"):
        mask = torch.ones(weights.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if mask is not None and mask.dtype == torch.bool:
        weights = weights.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        weights = weights + mask
    weights = _dropout(_each)(mode, F.dropout, (weights.softmax(-1), p), {})
    return weights @ value


def _of_python(mode: Isolation, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """Functions written in Python that draw inside: run so that the mode sees those calls."""
    if func not in _UNDISPATCHED:
        blind = {n: _no for n in func.__globals__ if n.startswith("has_torch_function")}
        _UNDISPATCHED[func] = types.FunctionType(
            func.__code__, func.__globals__ | blind, func.__name__, func.__defaults__
        )
        _UNDISPATCHED[func].__kwdefaults__ = func.__kwdefaults__
    with mode:
        return _UNDISPATCHED[func](*args, **kwargs)


def _no(*_: object) -> bool:
    return False


_UNDISPATCHED: dict[Any, Callable[..., Any]] = {}
"""Copies of functions that do not ask a mode whether it wants to answer in their place."""


# -- promotion -------------------------------------------------------------------------------------


def _promoted(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """``func(...)``, where whole numbers that become floating point become float32."""
    if func in _CONVERSIONS or kwargs.get("dtype") is not None or kwargs.get("out") is not None:
        return func(*args, **kwargs)
    if func in (torch.where, Tensor.where):
        args = tuple(torch.tensor(a, dtype=torch.float32) if type(a) is float else a for a in args)
    tensors = list(_tensors((args, tuple(kwargs.values()))))
    if not tensors or any(t.is_floating_point() or t.is_complex() for t in tensors):
        return func(*args, **kwargs)
    result = func(*args, **kwargs)
    if isinstance(result, Tensor) and result.dtype is torch.get_default_dtype():
        return func(*_widened(args), **{k: _widened(v) for k, v in kwargs.items()})
    return result


def _widened(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.to(torch.float32)
    return type(value)(map(_widened, value)) if type(value) in (list, tuple) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


# -- which function is which -----------------------------------------------------------------------


def _known(names: Iterable[str], *places: Any) -> list[Any]:
    """The functions of these names that this torch has."""
    return [getattr(place, name) for place in places for name in names if hasattr(place, name)]


_FLOATS = (
    "bartlett_window", "blackman_window", "empty", "empty_permuted", "empty_strided", "eye",
    "hamming_window", "hann_window", "kaiser_window", "linspace", "logspace", "ones", "range",
    "scalar_tensor", "zeros",
)  # fmt: skip
_SPARSE = ("coo", "compressed", "csr", "csc", "bsr", "bsc")
_DRAWN = (
    "bernoulli", "bernoulli_", "binomial", "cauchy_", "exponential_", "geometric_", "log_normal_",
    "multinomial", "normal_", "poisson", "random_", "uniform_", "_standard_gamma",
    "_sample_dirichlet",
)  # fmt: skip
_HANDLERS: dict[Any, Handler] = {
    **dict.fromkeys(_known(_FLOATS, torch), _factory),
    **dict.fromkeys((torch.fft.fftfreq, torch.fft.rfftfreq), _factory),
    **dict.fromkeys((torch.arange, torch.full), _factory_by_value),
    **dict.fromkeys((torch.tril_indices, torch.triu_indices), _placed),
    **dict.fromkeys((torch.tensor, torch.as_tensor, torch.asarray), _of_data),
    **dict.fromkeys(_known((f"sparse_{kind}_tensor" for kind in _SPARSE), torch), _of_parts),
    torch.nested.nested_tensor: _of_parts,
    **dict.fromkeys(_known(_DRAWN, torch, Tensor), _drawn),
    **dict.fromkeys(
        (nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_, nn.init.kaiming_normal_),
        _drawn,
    ),
    **dict.fromkeys((torch.rand, torch.randn, torch.randint, torch.randperm), _new_drawn),
    torch.normal: _normal,
    **dict.fromkeys((torch.rand_like, torch.randn_like), _drawn_like),
    torch.randint_like: _randint_like,
    **dict.fromkeys((F.dropout, torch.dropout, torch.dropout_), _dropout(_each)),
    F.dropout1d: _dropout(_channels(1)),
    **dict.fromkeys((F.dropout2d, torch.feature_dropout), _dropout(_channels(2))),
    F.dropout3d: _dropout(_channels(3)),
    F.scaled_dot_product_attention: _attention,
    **dict.fromkeys((F.gumbel_softmax, F.multi_head_attention_forward), _of_python),
}
"""Functions that make new tensors or draw. Some cannot be here, as torch gives them no generator:
alpha dropout, RReLU, fractional pooling, and dropout between the layers of an LSTM, GRU or RNN."""

_FILLS = (
    "__iadd__", "__imul__", "__isub__", "__itruediv__", "__setitem__", "abs_", "add_",
    "bernoulli_", "clamp_", "clamp_max_", "clamp_min_", "copy_", "cos_", "div_", "erfinv_", "exp_",
    "exponential_", "fill_", "fill_diagonal_", "index_fill_", "log_", "masked_fill_", "mul_",
    "neg_", "normal_", "pow_", "random_", "reciprocal_", "rsqrt_", "sign_", "sin_", "sqrt_", "sub_",
    "tril_", "triu_", "uniform_", "zero_",
)  # fmt: skip
_INITS = ("uniform_", "normal_", "constant_", "kaiming_uniform_", "kaiming_normal_")
_FILLING = frozenset((*_known(_FILLS, Tensor), *_known(_INITS, nn.init)))
"""Functions that change the values of a tensor and nothing else of it."""

_CONVERSIONS = frozenset(
    _known(("bfloat16", "double", "half", "to", "type", "type_as", "view"), Tensor)
)
