"""Learning by comparing views of pictures, for latentzoo."""

from zoo import ModelSpec, bundled_weights, hookimpl

__all__ = ["zoo_models"]

CAPABILITIES = ("encode", "features", "score")
ENCODER = {
    "channels": 1, "size": 28, "width": 32, "encoder": "resnet", "grid": 2,
    "halvings": 0, "levels": 2, "whiten": 0.0, "mirror": False,
}  # fmt: skip


@hookimpl
def zoo_models() -> list[ModelSpec]:
    simclr, vicreg = (bundled_weights(__file__, name) for name in ("simclr", "vicreg"))
    return [
        ModelSpec(
            name="simclr",
            family="contrastive",
            builder="zoo_contrastive.simclr:SimCLR",
            summary="Two views of a picture are made alike, and unlike those of all others",
            paper="Chen, Kornblith, Norouzi & Hinton 2020, A simple framework for contrastive "
            "learning of visual representations, arXiv:2002.05709",
            image_shape=(1, 28, 28),
            code_shape=(256,),
            config={**ENCODER, "projection": 128},
            capabilities=CAPABILITIES,
            weights=simclr,
            default_tag="fashion_mnist" if simclr else None,
        ),
        ModelSpec(
            name="vicreg",
            family="contrastive",
            builder="zoo_contrastive.vicreg:VICReg",
            summary="Two views of a picture are made alike, with numbers that vary and differ",
            paper="Bardes, Ponce & LeCun 2022, VICReg: Variance-invariance-covariance "
            "regularization for self-supervised learning, arXiv:2105.04906",
            image_shape=(1, 28, 28),
            code_shape=(256,),
            config={**ENCODER, "projection": 512},
            capabilities=CAPABILITIES,
            weights=vicreg,
            default_tag=vicreg[0].tag if vicreg else None,
        ),
    ]
