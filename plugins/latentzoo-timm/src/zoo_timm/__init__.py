"""Every backbone of timm for latentzoo, under the prefix ``timm:``."""

from zoo import Prefix, hookimpl
from zoo.spec import Recommended

__all__ = ["zoo_prefixes"]

_APACHE, _NOT_COMMERCIAL = "apache-2.0", "cc-by-nc-4.0"
RECOMMENDED = (
    # After timm:, parameters, licence, whether with labels, and what it learnt from.
    ("mobilenetv4_conv_small.e2400_r224_in1k", 2_493_024, _APACHE, True, "ImageNet-1k"),
    ("tf_efficientnet_lite0.in1k", 3_371_008, _APACHE, True, "ImageNet-1k"),
    ("convnextv2_atto.fcmae", 3_387_400, _NOT_COMMERCIAL, False, "ImageNet-1k, masked pictures"),
    ("eva02_tiny_patch14_224.mim_in22k", 5_502_144, "mit", False,
     "ImageNet-22k, masked features of CLIP"),
    ("vit_small_patch16_dinov3.lvd1689m", 21_586_944, "dinov3-license", False,
     "1.7 billion pictures, DINOv3"),
    ("vit_small_patch16_224.dino", 21_665_664, _APACHE, False, "ImageNet-1k, DINO"),
    ("vit_small_patch14_dinov2.lvd142m", 22_056_192, _APACHE, False,
     "142 million pictures, DINOv2"),
    ("resnet50.a1_in1k", 23_508_032, _APACHE, True, "ImageNet-1k"),
    ("vit_base_patch16_224.mae", 85_798_656, _NOT_COMMERCIAL, False,
     "ImageNet-1k, masked pictures"),
    ("vit_base_patch14_dinov2.lvd142m", 86_579_712, _APACHE, False,
     "142 million pictures, DINOv2"),
    ("vit_base_patch16_siglip_224.webli", 92_884_224, _APACHE, False,
     "10 billion pictures with their captions, SigLIP"),
)  # fmt: skip


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
            recommended=tuple(
                Recommended(
                    name=f"timm:{name}",
                    parameters=parameters,
                    licence=licence,
                    labels=labels,
                    learnt=learnt,
                )
                for name, parameters, licence, labels, learnt in RECOMMENDED
            ),
        )
    ]
