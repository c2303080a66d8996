"""Convolutional autoencoders for latentzoo."""

from zoo import ModelSpec, bundled_weights, hookimpl

__all__ = ["zoo_models"]


@hookimpl
def zoo_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="conv_ae",
            family="autoencoder",
            builder="zoo_conv.conv_ae:ConvAE",
            summary="Convolutional autoencoder for pictures of 8 to 256 pixels, grey or colour",
            paper="Masci, Meier, Cireşan & Schmidhuber 2011, Stacked convolutional auto-encoders "
            "for hierarchical feature extraction, ICANN",
            image_shape=(1, 28, 28),
            code_shape=(32,),
            config={"channels": 1, "size": 28, "width": 32, "latent_dim": 32},
            weights=(weights := bundled_weights(__file__, "conv_ae")),
            default_tag="fashion_mnist" if weights else None,
        ),
        ModelSpec(
            name="denoising_ae",
            family="autoencoder",
            builder="zoo_conv.denoising_ae:DenoisingAE",
            summary="Convolutional autoencoder that repairs noise and missing pixels",
            paper="Vincent, Larochelle, Lajoie, Bengio & Manzagol 2010, Stacked denoising "
            "autoencoders, JMLR 11",
            image_shape=(1, 28, 28),
            code_shape=(16, 14, 14),
            config={"channels": 1, "size": 28, "width": 64, "latent_channels": 16, "blocks": 3},
            capabilities=("encode", "decode", "reconstruct", "features", "score"),
            weights=(weights := bundled_weights(__file__, "denoising_ae")),
            default_tag="fashion_mnist" if weights else None,
        ),
        ModelSpec(
            name="timm_ae",
            family="autoencoder",
            builder="zoo_conv.timm_ae:TimmAE",
            summary="Autoencoder around any backbone of timm, with a decoder that mirrors it",
            paper="Wightman 2019, PyTorch Image Models, doi:10.5281/zenodo.4414861",
            image_shape=(3, 64, 64),
            code_shape=(128,),
            config={"channels": 3, "size": 64, "backbone": "resnet10t", "latent_dim": 128},
        ),
    ]
