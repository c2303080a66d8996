"""Options of adversarial training that are off by default: no shipped weights need them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["hinge_loss", "normalise_spectrally", "r1_penalty"]


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's, of its logits: Miyato et al. 2018, arXiv:1802.05957, equation 16."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def r1_penalty(
    discriminator: nn.Module, x: Tensor, condition: tuple[Tensor, ...], gamma: float
) -> Tensor:
    """The penalty on the slope at real images: Mescheder et al. 2018, arXiv:1801.04406, equation 9.

    Of every eighth image: as good on average, for a fraction of the time. It does not go with
    batch norm, which mixes images.
    """
    x = x[::8].detach().requires_grad_()
    logits = discriminator(x, *(part[::8] for part in condition))
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    penalty: Tensor = gamma / 2 * slope.square().flatten(1).sum(1).mean()
    return penalty


def normalise_spectrally(discriminator: nn.Module) -> None:
    """Spectral norm over every layer: Miyato et al. 2018, section 2.1."""
    for module in list(discriminator.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)  # 0.02 is for batch norm to widen
            spectral_norm(module)
