"""Autoencoders and generators of diffusers, under the prefix ``diffusers:``."""

from zoo import Prefix, hookimpl

__all__ = ["zoo_prefixes"]


@hookimpl
def zoo_prefixes() -> list[Prefix]:
    return [
        Prefix(
            name="diffusers",
            family="diffusion",
            builder="zoo_diffusers.model:DiffusersModel",
            summary="Autoencoders and generators of diffusers: taesd, sd-vae, DDPM, DiT, ...",
            example="diffusers:madebyollin/taesd",
            capabilities=(),  # an autoencoder cannot generate, a generator cannot encode
            paper="von Platen et al. 2022, Diffusers",
            url="https://github.com/huggingface/diffusers",
        )
    ]
