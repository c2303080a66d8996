"""The hooks a plugin can implement."""

from collections.abc import Iterable

import pluggy

from zoo.spec import ModelSpec

PROJECT = "zoo"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def zoo_models() -> Iterable[ModelSpec]:
    """The models of this plugin, as records.

    Called once, when somebody first asks for a model. It must be quick and import neither
    torch nor any other heavy library: the builder is named by a string for that reason.
    A complete plugin module::

        from zoo import ModelSpec, hookimpl

        @hookimpl
        def zoo_models():
            return [
                ModelSpec(
                    name="tiny_ae",
                    family="autoencoder",
                    builder="my_plugin.tiny_ae:TinyAE",
                    summary="Two linear layers",
                    image_shape=(1, 28, 28),
                    code_shape=(8,),
                )
            ]

    which its ``pyproject.toml`` announces with::

        [project.entry-points.zoo]
        my_plugin = "my_plugin"
    """
