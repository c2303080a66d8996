"""A plugin for latentzoo: a rectified flow, which generates in many steps and has no code."""

from zoo import ModelSpec, Option, hookimpl

__all__ = ["zoo_models"]


@hookimpl
def zoo_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="rectified_flow",
            family="flow",
            builder="zoo_flow.flow:RectifiedFlow",
            summary="Rectified flow: noise moves to images along nearly straight lines",
            paper="Liu, Gong & Liu 2022, Flow straight and fast: learning to generate and "
            "transfer data with rectified flow, arXiv:2209.03003",
            image_shape=(1, 28, 28),
            config={"channels": 1, "size": 28, "width": 32},
            capabilities=("generate",),
            generate_options={"steps": Option(default=20, minimum=1, maximum=1000)},
        )
    ]
