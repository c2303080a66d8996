"""An autoencoder around any backbone of timm, with a decoder that mirrors it.

The encoder is timm's network with a linear layer to the code in place of its classifier; the
decoder goes back through the sizes and widths that the network says it has (``feature_info``), by
transposed convolutions as in :mod:`zoo_conv.conv_ae`.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from zoo.errors import SettingsError
from zoo.model import Autoencoder, AutoencoderRecipe, GaussianMixture, Step
from zoo.nn import conv_up
from zoo.optional import optional

__all__ = ["TimmAE"]


@dataclass(frozen=True, kw_only=True)
class Recipe(AutoencoderRecipe):
    epochs: int = 40
    batch_size: int = 64
    weight_decay: float = 0.01


class TimmAE(Autoencoder):
    """timm's ``backbone`` without pretrained weights, a linear code, and a mirrored decoder."""

    recipe = Recipe

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 64,
        backbone: str = "resnet10t",
        latent_dim: int = 128,
    ):
        super().__init__()
        if not (channels in (1, 3) and 8 <= size <= 512 and 0 < latent_dim <= 65536):
            raise SettingsError(
                "timm_ae: expected 1 or 3 channels, a size from 8 to 512 and latent_dim "
                f"positive, got {channels=}, {size=}, {latent_dim=}"
            )
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_dim,)
        self.encoder = network(backbone, channels, size, latent_dim)
        info: Any = self.encoder.feature_info
        stages = {f["reduction"]: f["num_chs"] for f in info}
        if size < max(stages):
            raise SettingsError(
                f"timm_ae: {backbone} makes pictures {max(stages)} times smaller; expected a size "
                f"from {max(stages)}, got {size}"
            )
        sizes = [size]  # 64, 32, 16, 8, 4, 2
        while size / sizes[-1] < max(stages) and sizes[-1] > 1:
            sizes.append((sizes[-1] + 1) // 2)
        widths = [channels]  # 3, 64, 64, 128, 256, 512
        for i in range(1, len(sizes)):
            coarser = [reduction for reduction in stages if reduction >= 2**i]
            # Between two of the network's sizes: half the width for each doubling.
            width = stages[min(coarser)] * 2**i // min(coarser) if coarser else widths[-1]
            widths.append(max(width, 8))
        up = conv_up(widths, sizes)
        shape = (widths[-1], sizes[-1], sizes[-1])
        flat = shape[0] * shape[1] * shape[2]
        self.decoder = nn.Sequential(nn.Linear(latent_dim, flat), nn.Unflatten(1, shape), *up)
        self.density = GaussianMixture(latent_dim, components=20)

    def _encode(self, images: Tensor) -> Tensor:
        codes: Tensor = self.encoder(images)  # N x latent_dim
        return codes

    def _decode(self, codes: Tensor) -> Tensor:
        images: Tensor = self.decoder(codes).sigmoid()  # N x C x H x W
        return images

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        error = self.decoder(self.encoder(step.seen)).float().sigmoid() - images
        return {"sse": error.square().flatten(1).sum(1).mean()}


def network(backbone: str, channels: int, size: int, latent_dim: int) -> nn.Module:
    """timm's network of that name for such images, N x channels x size x size to N x latent_dim.

    Raises:
        SettingsError: timm has none of that name, or it does not take such images.
        MissingDependency: timm is not installed.
    """
    timm = optional("timm", "timm", "train")
    # A config is not trusted: only timm's own names are taken, and no repositories.
    if not timm.is_model(backbone):
        import difflib

        close = difflib.get_close_matches(backbone, timm.list_models(), n=3, cutoff=0.4)
        raise SettingsError(
            f"timm_ae: timm has no backbone {backbone!r:.80}. "
            + (f"Did you mean: {', '.join(close)}?" if close else "See timm.list_models()")
        )
    sized = timm.get_pretrained_cfg_value(backbone, "fixed_input_size")  # transformers
    more = {"img_size": size} if sized else {}
    net: nn.Module = timm.create_model(
        backbone, pretrained=False, num_classes=latent_dim, in_chans=channels, **more
    )
    if not getattr(net, "feature_info", None):
        raise SettingsError(f"timm_ae: {backbone} does not say which sizes and widths it has")
    info: Any = net.feature_info
    patch = max(f["reduction"] for f in info)
    if sized and size % patch:
        raise SettingsError(f"timm_ae: {backbone} takes sizes that {patch} divides, got {size}")
    return net
