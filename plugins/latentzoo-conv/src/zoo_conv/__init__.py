"""Convolutional autoencoders for latentzoo."""

from zoo import ModelSpec, hookimpl

__all__ = ["zoo_models"]


@hookimpl
def zoo_models():
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
            config={"channels": 1, "size": 28, "width": 32, "code": 32},
        )
    ]
