"""``zoo.save``: a weights folder of a model that ``zoo train`` did not train.

For training loops of your own, for fine-tuned models, and for tensors from other programs. The
model is not changed: its tensors are loaded, with all checks of loading, into a new model of the
same settings, which is then measured and written.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import zoo
from zoo.api import blank
from zoo.boundary import typed, user_path
from zoo.discovery import Plugin
from zoo.errors import InputError, UnknownModel
from zoo.files import path_text
from zoo.folder import refuse_to_overwrite
from zoo.isolation import isolated
from zoo.model import ZooModel
from zoo.registry import builder, registry
from zoo.spec import ModelSpec
from zoo.weights import Tensors, stored_half
from zoo.weights import save as write_weights

__all__ = ["save"]

IMAGES = 16
"""The most images that are kept as test vectors."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@typed()
def save(
    model: ZooModel,
    folder: str | Path,
    *,
    dataset: str,
    licence: str,
    images: Tensor | None = None,
    dtype: str = "float16",
    labels: bool = False,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Write the weights folder of ``model``, with its card, all of it or nothing.

    The folder loads as ``local-dir:FOLDER`` and can be published. It passes ``zoo check`` too if
    the density that the model generates from was fitted (``model.fit``): only that looks at it.
    ``model`` stays as it is, and may be in train mode, on any device, and of any float dtype.

    Args:
        model: what :func:`zoo.create` or :func:`zoo.load` made, trained further in any way.
        folder: must not exist yet.
        dataset: what it has learnt from: a named set such as ``mnist``, or any text.
        licence: of the weights, such as ``"MIT; trained on mnist: CC BY-SA 3.0"``.
        images: a few for the test vectors and the card, N x C x H x W, float32 in [0, 1], best of
            the held-out data; the first 16 are kept. By default pictures of the zoo's sample.
        dtype: the type that learned tensors are stored as: ``float16``, or ``float32`` for twice
            the bytes. A tensor whose values float16 cannot hold stays float32; the card names it.
        labels: whether it has learnt with the labels of the data; the card says so.
        training: more facts on the training for the card, as plain JSON types.

    Returns:
        The folder.

    Raises:
        InputError: not a model of the zoo; facts, images or a dtype that are not valid; or tensors
            that no file can hold (meta, sparse, quantised, complex, without values yet).
        UnknownModel: no plugin declares this model, so it could not be loaded.
        TensorMismatch: the tensors are not those of a model of its settings, or not finite.
        WeightsError: the folder exists, or cannot be written.
    """
    folder, half = user_path(folder, "the weights folder"), stored_half(dtype)
    plugin, spec = _declared(model)
    facts = {
        "dataset": _line("dataset", dataset, "'mnist', or any text"),
        "licence": _line("licence", licence, "'MIT', of the weights, and of the data if it asks"),
        "training": _training(training, labels),
    }
    refuse_to_overwrite(folder)
    twin = blank(spec, model.config)
    with isolated():
        state = model.state_dict(keep_vars=True)
        tensors = {name: _storable(name, tensor) for name, tensor in state.items()}
        Tensors(Path(f"the {spec.name} to save"), tensors).load_into(twin)
    twin._preprocessing = model._preprocessing
    write_weights(
        twin.eval(),
        folder,
        images=_images(twin, images),
        plugin=plugin.distribution,
        facts=facts,
        half=half,
        finish=lambda written: _check_and_describe(written, folder),
    )
    return folder


def _check_and_describe(written: Path, folder: Path) -> None:
    """Write the card of the folder, after checking that the folder could be published."""
    from zoo.publishing import validate
    from zoo.report.card import write_card

    validate(written)
    write_card(written, name=f"local-dir:{path_text(folder.resolve().name)}")


def _declared(model: object) -> tuple[Plugin, ModelSpec]:
    """The plugin and record of ``model``, from which anybody can build it again."""
    if isinstance(model, nn.Module) and not isinstance(model, ZooModel):
        for inner in ("module", "_orig_mod"):  # DataParallel and its like; torch.compile
            if isinstance(getattr(model, inner, None), ZooModel):
                raise InputError(
                    f"a {type(model).__name__} is around the model. Save what is in it: "
                    f"zoo.save(model.{inner}, ...)"
                )
    if not isinstance(model, ZooModel):
        raise InputError(
            f"expected a model of the zoo's, got {type(model).__module__}.{type(model).__name__}. "
            "Make one with zoo.create, and give it the tensors with load_state_dict; for a network "
            "of your own, zoo new-plugin writes a plugin that declares it"
        )
    spec = model.spec
    if spec is None:
        raise UnknownModel(
            f"this {type(model).__name__} was made by its class, so its settings are not known. "
            "Make another with zoo.create(NAME, ...), give it the tensors with "
            "load_state_dict(model.state_dict()), and save that one"
        )
    if ":" in model.name and model.name.partition(":")[0] in registry().prefix_names():
        prefix = model.name.partition(":")[0]
        raise UnknownModel(
            f"{model.name} is one of the library behind the prefix {prefix}:, which keeps weights "
            "in a form of its own, so no weights folder can hold it. Keep its tensors with "
            f"safetensors.torch.save_file(model.state_dict(), FILE), and give them back with "
            f"zoo.create({model.name!r}).load_state_dict; or declare the network in a plugin of "
            "your own: zoo new-plugin"
        )
    for plugin, declared in registry().specs():
        if (declared.name, declared.builder) == (spec.name, spec.builder):
            if type(model) is not builder(declared):
                raise InputError(
                    f"expected a {declared.builder}, as {spec.name} is declared, got a "
                    f"{type(model).__module__}.{type(model).__qualname__}: whoever loads the "
                    "weights would have another model. Declare this class in a plugin of your own: "
                    "zoo new-plugin"
                )
            return plugin, declared
    raise UnknownModel(
        f"no plugin that is installed declares the model {spec.name!r} ({spec.builder}), so nobody "
        "could load its weights. zoo new-plugin writes a plugin that declares one"
    )


def _line(what: str, value: object, example: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        raise InputError(f"expected a {what} as one line of text ({example}), got {value!r:.80}")
    return path_text(value)


def _training(training: object, labels: object) -> dict[str, Any]:
    """What config.json and the card say of how it has learnt."""
    if training is not None and not isinstance(training, Mapping):
        raise InputError(f"expected facts on the training as a mapping, got {training!r:.80}")
    try:
        facts = json.loads(json.dumps(dict(training or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"the facts on the training cannot be written as JSON: {error}") from None
    if labels:
        recipe = facts.get("recipe")
        facts["recipe"] = {**(recipe if isinstance(recipe, dict) else {}), "labels": True}
    return {**facts, "latentzoo": zoo.__version__, "torch": torch.__version__}


def _storable(name: str, tensor: object) -> Tensor:
    """A copy of the tensor on the CPU, if a file can hold it."""
    reason = None
    if not isinstance(tensor, Tensor):
        reason = f"is a {type(tensor).__name__} and no tensor"
    elif isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer)):
        reason = "has no shape yet: call the model once"
    elif type(tensor) not in (Tensor, nn.Parameter):
        reason = f"is a {type(tensor).__name__}; turn it into a plain tensor"
    elif tensor.is_meta:
        reason = "is on the meta device, where tensors have no values; load or initialise them"
    elif tensor.is_quantized:
        reason = "is quantised; save the model of before, or dequantize() it"
    elif tensor.layout is not torch.strided:
        reason = f"is sparse ({tensor.layout}); make it dense with to_dense()"
    elif tensor.is_complex():
        reason = f"is {tensor.dtype}; store its real and imaginary parts, with torch.view_as_real"
    elif tensor.is_floating_point() and tensor.dtype not in _FLOATS:
        reason = f"is {tensor.dtype}; make it float32 with model.float()"
    if reason:
        raise InputError(f"nothing was saved: the tensor {name!r:.200} {reason}")
    plain: Tensor = cast(Tensor, tensor)
    return plain.detach().cpu().clone(memory_format=torch.contiguous_format)


def _images(twin: ZooModel, images: object) -> Tensor:
    if images is None:
        from zoo.sample import sample

        return twin.preprocess(list(sample()[0][:4]))
    given = cast(Tensor, images.detach() if isinstance(images, Tensor) else images)  # checked next
    return twin._checked_images(given)[:IMAGES].contiguous()
