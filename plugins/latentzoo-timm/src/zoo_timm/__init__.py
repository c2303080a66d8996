"""Every backbone of timm for latentzoo, under the prefix ``timm:``."""

from zoo import Prefix, hookimpl

__all__ = ["zoo_prefixes"]


@hookimpl
def zoo_prefixes() -> list[Prefix]:
    return [
        Prefix(
            name="timm",
            family="backbone",
            builder="zoo_timm.model:TimmModel",
            summary="Features of any backbone of timm: DINOv2, MAE, CLIP, ResNet, ...",
            example="timm:convnextv2_atto.fcmae",  # small enough for zoo check
            capabilities=("encode", "features"),
            paper="Wightman 2019, PyTorch Image Models",
            url="https://github.com/huggingface/pytorch-image-models",
        )
    ]
