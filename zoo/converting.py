"""A model's call as a file that runs without the zoo: ONNX, or torch's own export.

What is written holds one call (features, encode, decode or reconstruct) for a batch of any size,
and is put in place only after it was run and gave what the model gives.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

import zoo
from zoo.boundary import typed, user_path
from zoo.errors import ConversionError, InputError, WeightsNotFound
from zoo.files import replacing
from zoo.model import ZooModel, in_eval_mode
from zoo.optional import optional
from zoo.weights import TOLERANCES, read_vectors

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["FORMATS", "WHATS", "Converted", "convert"]

FORMATS = ("onnx", "pt2")
"""ONNX, for ONNX Runtime and its like; what ``torch.export.load`` takes."""

WHATS = {
    "features": ("images", "features"),
    "encode": ("images", "codes"),
    "decode": ("codes", "decoded"),
    "reconstruct": ("images", "reconstructions"),
}
"""The calls that can be written, with the test vectors' names for their input and output."""

EXAMPLES = 3
"""Random inputs to export with and to compare with; more than one, since torch would take a batch
of one for a batch that is always of one."""

Run = Callable[[Tensor], Tensor]


class Converted(NamedTuple):
    """What was written, and how it was compared."""

    path: Path
    inputs: str
    """What goes in, in words: ``images N x 1 x 28 x 28``."""
    outputs: str
    recorded: int
    """On how many of the weights' own test vectors."""
    drawn: int
    """On how many random inputs besides."""
    deviation: float
    """The largest, as a share of the tolerance."""


class _Call(nn.Module):
    """One call of a model as a module that takes a batch of any size."""

    def __init__(self, model: ZooModel, what: str):
        super().__init__()
        self.model = model
        self.what = what

    def forward(self, batch: Tensor) -> Tensor:
        answer: Tensor = getattr(self.model, f"_{self.what}")(batch)
        return answer


@typed()
def convert(name: str, out: Path | str, *, to: str, what: str = "features") -> Converted:
    """Write a call of the model ``name`` into the file ``out``.

    The file is run before it is put in place: on the test vectors that came with the weights, if
    any, and on random inputs; on all of them at once, and on each alone.

    Args:
        name: as :func:`zoo.load` takes it.
        out: a file to write, atomically.
        to: one of :data:`FORMATS`.
        what: one of :data:`WHATS`.

    Raises:
        InputError: ``to`` or ``what`` is none of these.
        CapabilityError: the model cannot do that.
        ConversionError: it cannot be exported, or gives something else once it is.
        MissingDependency: onnx, onnxscript or onnxruntime is not installed.
    """
    for chosen, known in ((to, FORMATS), (what, tuple(WHATS))):
        if chosen not in known:
            raise InputError(f"convert: expected one of {', '.join(known)}, got {chosen!r}")
    path = user_path(out, "the file to write")
    write = _write_onnx if to == "onnx" else _write_pt2
    model = zoo.load(name)
    model._require(what)
    drawn = _drawn(model, what)
    recorded = _recorded(model, what)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / f"converted.{to}"
        run = write(_exported(model, what, to), temporary, model, what)
        deviation = max(_compared(run, answers, model.name) for answers in (drawn, *recorded))
        with replacing(path) as file:
            file.write(temporary.read_bytes())
    ins, outs = WHATS[what]
    return Converted(
        path,
        f"{ins} {_shape(drawn.given)}",
        f"{outs} {_shape(drawn.wanted)}",
        sum(len(answers.given) for answers in recorded),
        EXAMPLES,
        deviation,
    )


class _Answers(NamedTuple):
    """Inputs, the expected outputs, and the tolerances of these."""

    given: Tensor
    wanted: Tensor
    tolerance: float


def _drawn(model: ZooModel, what: str) -> _Answers:
    given = _example(model, what)
    return _Answers(given, getattr(model, what)(given), TOLERANCES[WHATS[what][1]])


def _recorded(model: ZooModel, what: str) -> list[_Answers]:
    """The test vectors of the weights folder, if it has any."""
    folder = model.source.folder if model.source else None
    if folder is None:  # another library's weights
        return []
    ins, outs = WHATS[what]
    try:
        vectors, tolerances = read_vectors(folder)
    except WeightsNotFound:
        return []
    if ins not in vectors or outs not in vectors:
        return []
    wanted = vectors[outs]
    return [_Answers(vectors[ins][: len(wanted)], wanted, tolerances[outs])]


def _example(model: ZooModel, what: str) -> Tensor:
    shape = model.code_shape if what == "decode" else model.image_shape
    return torch.rand(EXAMPLES, *shape, generator=torch.Generator().manual_seed(0))


def _exported(model: ZooModel, what: str, to: str) -> "ExportedProgram":
    """The call as a graph, traced without the zoo's isolation, which would become part of it."""
    batch = {"batch": {0: torch.export.Dim("batch")}}
    call = _Call(model, what).eval()
    try:
        with torch.no_grad(), in_eval_mode(model):
            return torch.export.export(call, (_example(model, what),), dynamic_shapes=batch)
    except Exception as error:  # of the many kinds that torch's compiler raises
        raise _refused(model.name, to, error) from error


def _write_pt2(program: "ExportedProgram", path: Path, model: ZooModel, what: str) -> Run:
    torch.export.save(program, path, extra_files={"zoo.json": _about(model, what)})
    loaded = torch.export.load(path).module()

    def run(batch: Tensor) -> Tensor:
        with torch.no_grad():
            answer: Tensor = loaded(batch)
        return answer

    return run


def _write_onnx(program: "ExportedProgram", path: Path, model: ZooModel, what: str) -> Run:
    for module in ("onnx", "onnxscript"):
        optional(module, module, "onnx")
    runtime = optional("onnxruntime", "onnxruntime", "onnx")
    ins, outs = WHATS[what]
    pool = torch.ops.aten.adaptive_max_pool2d.default
    try:
        made = torch.onnx.export(
            program.run_decompositions({pool: _adaptive_max_pool2d}),
            dynamo=True, dynamic_shapes={"batch": {0: "batch"}}, verbose=False,
            input_names=[ins], output_names=[outs],
        )  # fmt: skip
        if made is None:
            raise RuntimeError("torch made no program of it")
        made.model.metadata_props["zoo"] = _about(model, what)
        made.save(path, external_data=False)
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # of torch, onnxscript, or ONNX Runtime
        raise _refused(model.name, "onnx", error) from error
    return lambda batch: torch.from_numpy(session.run(None, {ins: batch.numpy()})[0])


def _adaptive_max_pool2d(x: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
    """Adaptive max pooling window by window, since ONNX has no such layer; it gives no indices."""
    for dim, parts in zip((-2, -1), size, strict=True):
        length = x.shape[dim]
        bounds = [(i * length // parts, -(-(i + 1) * length // parts)) for i in range(parts)]
        windows = [x.narrow(dim, begin, end - begin).amax(dim) for begin, end in bounds]
        x = torch.stack(windows, dim)
    return x, torch.zeros_like(x, dtype=torch.int64)


def _compared(run: Run, answers: _Answers, name: str) -> float:
    """The largest deviation, as a share of the tolerance, of the batch and of each alone."""
    given, wanted, tolerance = answers
    bound = tolerance * (1 + float(wanted.abs().max()))
    deviation = 0.0
    for got in (run(given), torch.cat([run(one) for one in given.split(1)])):
        if got.shape != wanted.shape:
            raise ConversionError(
                f"{name}: the converted model gives {_shape(got)}, the model {_shape(wanted)}; "
                "nothing was written"
            )
        furthest = float((got - wanted).abs().max()) / bound
        if not furthest <= 1:  # so written, it refuses NaN too
            raise ConversionError(
                f"{name}: what the converted model gives is {furthest:.3g} times the tolerance "
                "away from what the model gives; nothing was written"
            )
        deviation = max(deviation, furthest)
    return deviation


def _about(model: ZooModel, what: str) -> str:
    """A description that is stored in the file, for people who have nothing but the file."""
    facts: dict[str, Any] = {
        "model": model.name,
        "call": what,
        "preprocessing": model.preprocessing.to_dict(),
        "latentzoo": zoo.__version__,
    }
    return json.dumps(facts)


def _refused(name: str, to: str, error: Exception) -> ConversionError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    first = next((line for line in str(cause).splitlines() if line.strip()), "")
    return ConversionError(
        f"{name} cannot be converted to {to}; nothing was written.\n"
        f"{type(cause).__name__}: {first:.300}"
    )


def _shape(tensor: Tensor) -> str:
    return " x ".join(["N", *map(str, tensor.shape[1:])])
