"""torch.hub entry points: one for each model of the plugins in this tree, and of installed ones.

>>> torch.hub.load("OWNER/latentzoo", "dcgan", pretrained="fashion_mnist")

``pretrained`` is True (the default weights), False (untrained) or a tag; for an untrained model
further keywords go over its config. Neither the zoo nor its plugins need to be installed: those in
this tree are used. The entry points are made from the plugins' records, so that importing this
module imports nothing heavy; ``torch.hub.help`` shows what a record says.
"""

# Modules, not names out of them: torch.hub takes every callable here for an entry point.
import importlib
import pathlib
import sys
import typing

dependencies = ["torch", "safetensors", "pluggy", "numpy", "PIL"]

_TREE = pathlib.Path(__file__).resolve().parent


def _zoo() -> typing.Any:
    """The zoo, with the plugins of this tree; whatever else is called ``zoo`` is refused."""
    if str(_TREE) not in sys.path:
        sys.path.insert(0, str(_TREE))
    zoo = importlib.import_module("zoo")
    if getattr(zoo, "__distribution__", None) != "latentzoo":
        raise ImportError(
            "latentzoo needs the module name 'zoo', but another module of that name was imported "
            f"before: {getattr(zoo, '__file__', None) or list(getattr(zoo, '__path__', '?'))}. "
            "Rename it, or load the model in a process that does not import it."
        )
    importlib.import_module("zoo.registry").add_tree(_TREE)
    return zoo


def _entry_points() -> dict[str, typing.Any]:
    """A function for each model, by the name that ``zoo.load`` takes."""
    zoo = _zoo()
    return {name: _entry_point(name, zoo.info(name)) for name in zoo.list_models()}


def _entry_point(name: str, spec: typing.Any) -> typing.Any:
    def entry_point(
        pretrained: bool | str = bool(spec.weights), **config: typing.Any
    ) -> typing.Any:
        return _model(name, pretrained, config)

    entry_point.__name__ = entry_point.__qualname__ = name
    entry_point.__doc__ = _help(spec)
    return entry_point


def _help(spec: typing.Any) -> str:
    """What the record of a model says, for ``torch.hub.help``."""
    tags = [w.tag + " (default)" * (w.tag == spec.default_tag) for w in spec.weights]
    settings = ", ".join(f"{key}={value!r}" for key, value in spec.config.items())
    shape = " x ".join(map(str, spec.image_shape))
    return "\n".join(
        (
            f"{spec.summary} ({spec.paper}).\n" if spec.paper else f"{spec.summary}.\n",
            f"Tags: {', '.join(tags)}." if tags else "No weights.",
            f"Settings of an untrained one (pretrained=False): {settings or 'none'}.",
            f"Images are N x {shape} float32 in [0, 1], by default. The model's preprocess(x) "
            "makes them of paths, PIL images and arrays.",
        )
    )


def _model(name: str, pretrained: bool | str, config: dict[str, typing.Any]) -> typing.Any:
    zoo = _zoo()
    if pretrained is False:
        return zoo.create(name, **config)
    if config:
        raise TypeError(
            f"{name}: {', '.join(config)} would change the network, which trained weights do not "
            "allow; for an untrained one add pretrained=False"
        )
    if pretrained is not True and not isinstance(pretrained, str):
        raise TypeError(f"{name}: pretrained should be True, False or a tag, got {pretrained!r}")
    return zoo.load(name if pretrained is True else f"{name}.{pretrained}")


try:
    globals().update(_entry_points())
except ModuleNotFoundError as _error:
    if _error.name not in dependencies:  # torch.hub itself says which of these are missing
        raise
