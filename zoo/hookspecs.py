"""The hooks a plugin can implement."""

from collections.abc import Iterable

import pluggy

from zoo.spec import ModelSpec, Prefix

PROJECT = "zoo"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def zoo_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]
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


@hookspec
def zoo_prefixes() -> Iterable[Prefix]:  # type: ignore[empty-body]
    """The prefixes of names that this plugin owns, as records.

    For a library whose models are too many to be declared one by one: the plugin then answers for
    every name ``prefix:anything``. Called once, and as quick and light as :func:`zoo_models`,
    which a plugin may implement too or leave out. A complete plugin module::

        from zoo import ModelSpec, Prefix, hookimpl

        @hookimpl
        def zoo_prefixes():
            return [
                Prefix(
                    name="pool",
                    family="pooling",
                    builder="my_pool.model:Pool",
                    summary="The picture itself, averaged down to a few pixels",
                    example="pool:4x4",
                    capabilities=("encode", "features"),
                )
            ]

    and the builder that it names, in ``my_pool/model.py``::

        import torch

        from zoo import ModelSpec
        from zoo.errors import UnknownModel, UnknownTag
        from zoo.model import ZooModel

        class Pool(ZooModel):
            def __init__(self, height, width):
                super().__init__()
                self.image_shape, self.code_shape = (1, 28, 28), (height, width)
                self.scale = torch.nn.Parameter(torch.ones(()))

            def _encode(self, images):
                pooled = torch.nn.functional.adaptive_avg_pool2d(images, self.code_shape)
                return self.scale * pooled[:, 0]

            @classmethod
            def from_name(cls, rest, *, pretrained):
                if pretrained:
                    raise UnknownTag(f"pool:{rest} has nothing to learn, so nothing pretrained")
                return cls(*cls.describe(rest).code_shape)

            @classmethod
            def describe(cls, rest):
                height, by, width = rest.partition("x")
                if not (by and height.isdecimal() and width.isdecimal()):
                    raise UnknownModel(f"no pool:{rest}; names look like pool:4x4")
                return ModelSpec(
                    name="pool",
                    family="pooling",
                    builder="my_pool.model:Pool",
                    summary=f"Averaged down to {height} x {width} pixels",
                    image_shape=(1, 28, 28),
                    code_shape=(int(height), int(width)),
                    capabilities=("encode", "features"),
                )

    Then ``zoo.create("pool:4x4")`` calls ``from_name("4x4", pretrained=False)``, ``zoo.load`` the
    same with True, and ``zoo.info`` calls ``describe``.
    """
