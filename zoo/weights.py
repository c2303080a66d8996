"""The tensors of a weights folder: written atomically, read strictly.

Learned tensors may be stored as float16 and are widened to float32 when they are read.
:mod:`zoo.folder` has everything about the folder that needs no torch.
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from zoo.density import GaussianMixture
from zoo.errors import (
    CorruptWeights,
    InputError,
    TensorMismatch,
    WeightsError,
    WeightsNotFound,
)
from zoo.files import new_folder, openable, refuse_placeholder, write_atomically, write_json
from zoo.folder import CONFIG, TENSORS, VECTORS, refuse_pickles, refuse_to_overwrite
from zoo.isolation import isolated
from zoo.model import ZooModel
from zoo.registry import registry
from zoo.spec import API_VERSION

TOLERANCES = {
    "codes": 1e-3,
    "decoded": 1e-3,
    "reconstructions": 1e-3,
    "generated": 1e-3,
    "features": 1e-3,
    "scores": 1e-3,
}
"""How far a vector may be from the recorded one: this, times one plus the largest recorded value.
Processors differ in the order in which they add; a wrong tensor differs by far more."""


class Tensors:
    """The tensors of one folder, verified and not yet in a model."""

    def __init__(self, path: Path, tensors: dict[str, Tensor]):
        self.path = path
        self.tensors = tensors

    @classmethod
    def read(
        cls,
        folder: Path,
        size: int,
        sha256: str,
        recorded: str | None = None,
        *,
        mapped: bool = False,
    ) -> "Tensors":
        """The tensors of ``folder``, if its ``model.safetensors`` has the expected size and sha256.

        Args:
            size: in bytes, as the folder's config.json has it.
            sha256: also as config.json has it.
            recorded: the sha256 that the plugin's record has, which then must agree too.
            mapped: map the file instead of reading it, since nothing ever writes into it, as into
                the cache of the Hub's client. Any other file is read once, and the very bytes that
                are used are checked: whatever writes into a mapped file changes the model.

        Raises:
            UnsafeWeights: the folder has a pickle.
            WeightsNotFound: there is no such file.
            CorruptWeights: another size or sha256 than recorded, or not safetensors.
        """
        refuse_pickles(folder)
        path = folder / TENSORS
        refuse_placeholder(path, CorruptWeights)
        try:
            actual = path.stat().st_size
            if actual != size:
                raise CorruptWeights(
                    f"{path} has {actual:,} bytes, {CONFIG} says {size:,}: it was cut "
                    "off or replaced. Fetch or write it again; nothing was loaded"
                )
            data = None if mapped else path.read_bytes()
            digest = _sha256(path) if data is None else hashlib.sha256(data).hexdigest()
        except FileNotFoundError:
            raise WeightsNotFound(f"{folder} has no {TENSORS}") from None
        except OSError as error:
            raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
        for expected, who in ((sha256, CONFIG), (recorded, "the plugin's record")):
            if expected is not None and digest != expected:
                raise CorruptWeights(
                    f"{path} has sha256 {digest}, {who} says {expected[:80]!r}: at least one byte "
                    "was changed. Fetch or write it again; nothing was loaded"
                )
        try:
            if data is None:
                with openable(path) as name:
                    return cls(path, safetensors.torch.load_file(name))
            return cls(path, safetensors.torch.load(data))
        except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
            raise CorruptWeights(f"{path} is not a valid safetensors file: {error}") from None

    def upgraded(self, kind: type[ZooModel], plugin_version: str | None) -> "Tensors":
        """These tensors as the class ``kind`` has them today (``ZooModel.upgrade_tensors``).

        Raises:
            TensorMismatch: the class's own method fails, or returns something else.
        """
        try:
            tensors = kind.upgrade_tensors(dict(self.tensors), plugin_version or "")
        except Exception as error:
            raise TensorMismatch(
                f"{self.path}: {kind.__name__}.upgrade_tensors failed on tensors of the version "
                f"{plugin_version!r:.80}.\n{type(error).__name__}: {error}"
            ) from error
        if not isinstance(tensors, dict) or not all(
            isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
        ):
            raise TensorMismatch(
                f"{self.path}: {kind.__name__}.upgrade_tensors should return a dict of tensors by "
                f"name, got {tensors!r:.200}"
            )
        return Tensors(self.path, tensors)

    def load_into(self, model: nn.Module) -> None:
        """Give ``model``, built under :func:`zoo.isolation.on_meta_device`, exactly these tensors.

        Raises:
            TensorMismatch: one is missing, one too many, of another shape or kind, or not finite.
        """
        expected = model.state_dict()
        missing, extra = (
            expected.keys() - self.tensors.keys(),
            self.tensors.keys() - expected.keys(),
        )
        if missing or extra:
            raise TensorMismatch(
                f"{self.path} does not hold the tensors of {type(model).__name__}: "
                + "; ".join(
                    f"{word}: {_some(names)}"
                    for word, names in (("missing", missing), ("not of the model", extra))
                    if names
                )
            )
        widened = {}
        for name, slot in expected.items():
            tensor = self.tensors[name]
            if tensor.shape != slot.shape or tensor.is_floating_point() != slot.is_floating_point():
                raise TensorMismatch(
                    f"{self.path}: {name!r:.200} is {tuple(tensor.shape)} {tensor.dtype}, the "
                    f"model has {tuple(slot.shape)} {slot.dtype}"
                )
            widened[name] = tensor.to(slot.dtype)
            if not _is_finite(widened[name]):
                over = "" if not _is_finite(tensor) else f", once it is {slot.dtype}"
                raise TensorMismatch(f"{self.path}: {name!r:.200} holds NaN or infinity{over}")
        tied = _tied(model)
        for first, *others in tied:
            for other in others:
                if not torch.equal(widened[first], widened[other]):
                    raise TensorMismatch(
                        f"{self.path}: {first!r:.200} and {other!r:.200} are one tensor of the "
                        "model, and have two values here"
                    )
        model.load_state_dict(widened, strict=True, assign=True)
        for first, *others in tied:  # assigning each has parted them
            shared = model.get_parameter(first)
            for other in others:
                module, _, key = other.rpartition(".")
                setattr(model.get_submodule(module), key, shared)
        left = [n for n, t in (*model.named_parameters(), *model.named_buffers()) if t.is_meta]
        left += [  # plain attributes
            f"{prefix}.{key}".lstrip(".")
            for prefix, module in model.named_modules()
            for key, value in vars(module).items()
            if isinstance(value, Tensor) and value.is_meta
        ]
        if left:
            raise TensorMismatch(
                f"{type(model).__name__} has tensors that no state_dict holds: {_some(left)}; "
                "its author should register them as persistent buffers"
            )


_HASHED: dict[tuple[int, ...], str] = {}


def _sha256(path: Path) -> str:
    """The sha256 of a file, computed once in a process unless the file was written to.

    The time of a file's last change is set by the system alone. What was written within the last
    seconds is not remembered: another write may get the very same time.
    """
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        key = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if key not in _HASHED:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if time.time() - stat.st_ctime < 2:
                return digest
            _HASHED[key] = digest
    return _HASHED[key]


def _tied(model: nn.Module) -> list[list[str]]:
    """The names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [several for several in names.values() if len(several) > 1]


def _is_finite(tensor: Tensor) -> bool:
    # A sum is thirty times faster and enough for nearly all tensors; where it overflows, it is not.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


ANSWERS = 6000
"""The most numbers in the outputs that are stored as vectors, unless one image has more."""


DTYPES = ("float16", "float32")
"""The types that learned tensors can be stored as."""


def stored_half(dtype: object) -> bool:
    """Whether ``dtype`` is float16 and not float32; either may be a text or torch's own.

    Raises:
        InputError: it is neither.
    """
    text = str(dtype).removeprefix("torch.")
    if text not in DTYPES:
        raise InputError(f"weights are stored as float16 or float32, got dtype={dtype!r:.80}")
    return text == "float16"


@isolated()
def save(
    model: ZooModel,
    folder: Path,
    *,
    images: Tensor,
    plugin: str,
    facts: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    half: bool = True,
    workspace: Path | None = None,
    finish: Callable[[Path], object] = lambda folder: None,
) -> None:
    """Write the weights folder of ``model``, all of it or nothing.

    Afterwards ``model`` has its tensors with the rounding of the file. config.json records the type
    they are stored as, and which of them stay float32 since float16 cannot hold them.

    Args:
        folder: must not exist yet: a tag never changes its bytes.
        images: a few inputs for the test vectors, N x C x H x W.
        plugin: the distribution that the model comes from.
        facts: more for config.json: data set, licence, how it was trained. Or what gives it, called
            when the model has its tensors as they are stored.
        half: store learned parameters, and the factors of densities, as float16.
        workspace: where the folder is until it is complete; by default beside its final place.
        finish: called with the complete folder, just before it is moved to its final place.

    Raises:
        WeightsError: the folder exists, or cannot be written.
    """
    refuse_to_overwrite(folder)
    spec = model.spec
    assert spec is not None, "only models that a record declares are saved"
    # Statistics of batch norm, counters and the like stay as they are.
    learned = {name for name, _ in model.named_parameters(remove_duplicate=False)} | {
        f"{name}.scales" for name, m in model.named_modules() if isinstance(m, GaussianMixture)
    }
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    whole = sorted(name for name in learned & state.keys() if half and not _fits_half(state[name]))
    if half:
        state |= {name: state[name].half() for name in learned & state.keys() - set(whole)}
    # Copies: two tensors of a file may not share their memory.
    tensors = {name: tensor.cpu().contiguous().clone() for name, tensor in state.items()}
    data = safetensors.torch.save(tensors)
    # What is measured has to be what is stored, rounding included.
    stored = {name: tensor.to(model.state_dict()[name]) for name, tensor in tensors.items()}
    model.load_state_dict(stored)
    config = {
        "api_version": API_VERSION,
        "model": spec.name,
        "plugin": plugin,
        "plugin_version": registry().version(plugin),
        "config": dict(model.config),
        "preprocessing": model.preprocessing.to_dict(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "parameters": sum(p.numel() for p in model.parameters()),
        "stored": {"learned": DTYPES[not half], "float32": whole},
        **(facts() if callable(facts) else facts),
    }
    try:
        with new_folder(folder, workspace) as temporary:
            write_atomically(temporary / TENSORS, data)
            write_atomically(temporary / VECTORS, _vectors(model.eval(), images))
            write_json(temporary / CONFIG, config)
            finish(temporary)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written: {error.strerror}") from error


def _fits_half(tensor: Tensor) -> bool:
    """Whether float16 can hold the values: none over 65,504, and not nearly all rounded to zero."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    off, most = (tensor - tensor.half().to(tensor.dtype)).abs().max(), tensor.abs().max()
    return bool(off <= 0.01 * most)  # not so of infinity


def dtypes_said(config: Mapping[str, Any]) -> str:
    """A sentence on the types that a folder's learned tensors are stored as; empty if unknown."""
    stored = config.get("stored")
    if not isinstance(stored, Mapping) or stored.get("learned") not in DTYPES:
        return ""
    said, whole = f"learned tensors are stored as {stored['learned']}", stored.get("float32")
    if isinstance(whole, list) and whole:
        said += f", except {_some(map(str, whole))}, whose values it cannot hold: as float32"
    return said


def _vectors(model: ZooModel, images: Tensor) -> bytes:
    """The test vectors: all of ``images``, and the outputs of ``model`` for the first of them."""
    made = measure(model, images[:1])
    few = min(len(images), ANSWERS // sum(answer.numel() for answer in made.values()))
    if few > 1:
        made = measure(model, images[:few])
    made["images"] = images
    metadata = {name: str(TOLERANCES[name]) for name in made if name in TOLERANCES}
    return safetensors.torch.save({k: v.contiguous().clone() for k, v in made.items()}, metadata)


def measure(model: ZooModel, images: Tensor) -> dict[str, Tensor]:
    """The outputs of every call that ``model`` declares for ``images``, by the name of the vector.

    It generates as many as there are images.
    """
    can = model.capabilities
    made = {}
    if "encode" in can:
        made["codes"] = model.encode(images)
    if "decode" in can and "codes" in made:
        made["decoded"] = model.decode(made["codes"])
    if "reconstruct" in can:
        made["reconstructions"] = model.reconstruct(images)
    if "generate" in can:
        made["generated"] = model.generate(len(images), seed=0)
    if "features" in can:
        made["features"] = model.features(images)
    if "score" in can:
        made["scores"] = model.score(images)
    return made


@isolated(grad=False)
def verify(model: ZooModel, folder: Path) -> dict[str, float]:
    """Run the folder's test vectors on this machine: name to largest deviation, in tolerances.

    Raises:
        WeightsNotFound: the folder has no vectors.
        CorruptWeights: they cannot be read, or are not those of the model's calls.
        WeightsError: a deviation is over its tolerance; the text names each.
    """
    path = folder / VECTORS
    recorded, tolerances = read_vectors(folder)
    images = recorded.pop("images")
    few = len(next(iter(recorded.values())))
    made = measure(model, images[:few])
    if made.keys() != recorded.keys():
        raise CorruptWeights(
            f"{path} has vectors for {sorted(recorded)}, the model answers {sorted(made)}"
        )
    deviations = {}
    for name, expected in recorded.items():
        got = made[name].cpu()
        if got.shape != expected.shape or got.dtype != expected.dtype:
            raise CorruptWeights(
                f"{path}: {name} is {tuple(expected.shape)} {expected.dtype}, the model gives "
                f"{tuple(got.shape)} {got.dtype}"
            )
        bound = tolerances[name] * (1 + float(expected.abs().max()))
        deviations[name] = float((got - expected).abs().max()) / bound
    wrong = {name: d for name, d in deviations.items() if not d <= 1}
    if wrong:
        raise WeightsError(
            f"{path}: this machine's results differ from the recorded ones: "
            + ", ".join(f"{name} by {d:.3g} times the tolerance" for name, d in wrong.items())
        )
    return deviations


def read_vectors(folder: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The recorded vectors of a folder, ``images`` included, and the tolerance of each other one.

    Raises:
        WeightsNotFound: the folder has no vectors.
        CorruptWeights: they cannot be read, or are not the outputs for its images.
    """
    path = folder / VECTORS
    if not path.is_file():
        raise WeightsNotFound(f"{folder} has no {VECTORS}")
    refuse_placeholder(path, CorruptWeights)
    try:
        with openable(path) as name, safetensors.safe_open(name, "pt") as file:
            metadata = file.metadata() or {}
            recorded = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise CorruptWeights(f"{path} is not a valid safetensors file: {error}") from None
    if "images" not in recorded:
        raise CorruptWeights(f"{path} has no images")
    counts = {name: len(tensor) if tensor.ndim else 0 for name, tensor in recorded.items()}
    most = counts.pop("images")
    few = min(counts.values(), default=0)
    if not 1 <= few == max(counts.values()) <= most:
        raise CorruptWeights(f"{path} has not one number of answers to some of its images")
    tolerances = {name: _tolerance(path, metadata, name) for name in counts}
    return recorded, tolerances


def _tolerance(path: Path, metadata: Mapping[str, str], name: str) -> float:
    written = metadata.get(name, str(TOLERANCES[name]))
    try:
        tolerance = float(written)
    except ValueError:
        tolerance = 0.0
    if not 0 < tolerance <= 0.1:
        raise CorruptWeights(
            f"{path}: expected a tolerance of {name} over 0, at most 0.1, got {written!r:.80}"
        )
    return tolerance


def _some(names: Any, most: int = 5) -> str:
    names = sorted(names)
    shown = ", ".join(repr(name[:100]) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
