"""Towers of language and image (CLIP, SigLIP, MobileCLIP, CoCa), under the prefix ``clip:``."""

from zoo import Prefix, hookimpl

__all__ = ["zoo_prefixes"]


@hookimpl
def zoo_prefixes() -> list[Prefix]:
    return [
        Prefix(
            name="clip",
            family="towers",
            builder="zoo_clip.model:ClipModel",
            summary="Pictures and words in one space, by open_clip: CLIP, SigLIP, MobileCLIP, ...",
            example="clip:ViT-B-32.laion2b_s34b_b79k",
            capabilities=("encode", "features", "embed_text"),
            paper="Radford et al. 2021, Learning transferable visual models from natural language "
            "supervision",
            url="https://github.com/mlfoundations/open_clip",
        )
    ]
