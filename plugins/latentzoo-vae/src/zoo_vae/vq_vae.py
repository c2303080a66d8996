"""The autoencoder with discrete codes: van den Oord, Vinyals & Kavukcuoglu 2017, "Neural discrete
representation learning", arXiv:1711.00937.

The picture is halved twice by strided convolutions, then residual blocks; each place of that map is
replaced by the nearest of K vectors, through which gradients go straight (section 3.2). The vectors
are moving averages of what they replace (appendix A.1). Codes are the map of those vectors;
:meth:`VQVAE.quantise` gives their numbers, which are all that has to be stored of a picture.

The prior over the numbers, learnt afterwards (section 3.3), is a small causal transformer (Vaswani
et al. 2017, arXiv:1706.03762, with the norms before the layers) where the paper has a PixelCNN: it
caches what it has computed, so that a picture takes one pass and not one for each place.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import InputError, SettingsError
from zoo.model import BATCH, Autoencoder, AutoencoderRecipe, Phase, Step

__all__ = ["VQVAE"]

DECAY = 0.99
"""The decay of the moving averages at each step (appendix A.1)."""

DEAD = 0.1
"""A vector that replaces fewer places at a step is unused, and starts again from one of them."""

HEADS = 4
DROPOUT = 0.1


@dataclass(frozen=True, kw_only=True)
class Recipe(AutoencoderRecipe):
    epochs: int = 30
    batch_size: int = 64
    lr: float = 5e-4
    channels_last: bool = True
    commitment: float = 0.25  # beta of equation 3
    prior_epochs: int = 15
    prior_lr: float = 1e-3


class Block(nn.Module):
    """A residual block of section 4.1: N x width x h x w to the same."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class Codebook(nn.Module):
    """K vectors of D numbers, each the mean of what it replaced lately (appendix A.1)."""

    counts: Tensor
    sums: Tensor

    def __init__(self, codebook_size: int, latent_dim: int):
        super().__init__()
        self.register_buffer("counts", torch.ones(codebook_size))  # N of equation 6
        self.register_buffer("sums", torch.randn(codebook_size, latent_dim))  # m of equation 7

    @property
    def vectors(self) -> Tensor:
        """K x D."""
        return self.sums / self.counts[:, None]

    def nearest(self, x: Tensor) -> Tensor:
        """The number of the vector nearest to each of ``x``, M x D to M."""
        vectors = self.vectors.float()
        with torch.autocast(x.device.type, enabled=False):
            # Distances without |x|^2, which all share; one matrix of M x K is made, not three.
            return torch.addmm(vectors.square().sum(1), x, vectors.T, alpha=-2).argmin(1)

    @torch.no_grad()
    def update(self, x: Tensor, indices: Tensor, step: Step) -> None:
        """Move towards ``x``, M x D, which the vectors at ``indices``, M, replaced.

        The first step draws all vectors from ``x``. A vector that is hardly used starts again
        from a random one of ``x`` (Dhariwal et al. 2020, "Jukebox", arXiv:2005.00341, section
        3.1), since the averages of an unused vector do not change.
        """
        size = len(self.counts)
        counts = torch.bincount(indices, minlength=size).to(x)
        sums = torch.zeros_like(self.sums).index_add_(0, indices, x)
        self.counts.lerp_(step.reduce(counts, "sum"), 1 - DECAY)
        self.sums.lerp_(step.reduce(sums, "sum"), 1 - DECAY)
        again = x[torch.randint(len(x), (size,), generator=step.generator).to(x.device)]
        dead = (self.counts < DEAD) | (step.progress == 0)
        self.sums[dead] = step.broadcast(again)[dead]
        self.counts[dead] = 1


class TransformerBlock(nn.Module):
    """A layer of the transformer: N x L x width to the same; no place sees a later one."""

    def __init__(self, width: int):
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor, cache: list[Tensor]) -> Tensor:
        """``cache`` has keys and values of the places before ``x``, or nothing, and gets x's."""
        qkv = self.qkv(self.before(x)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv  # N x heads x L x width / heads
        if cache:  # of one place alone: it sees all that is in there
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        x = x + F.dropout(self.out(self._mixed(q, k, v)), DROPOUT, self.training)
        cache[:] = k, v
        return x + F.dropout(self.mlp(x), DROPOUT, self.training)

    @staticmethod
    def _mixed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):  # on a CPU, three times slower in bf16
            mixed = F.scaled_dot_product_attention(
                q.float(), k.float(), v.float(), is_causal=q.shape[2] > 1
            )
        return mixed.transpose(1, 2).flatten(2)


class Prior(nn.Module):
    """p(indices), one after the other in reading order."""

    def __init__(self, codebook_size: int, positions: int, width: int, depth: int):
        super().__init__()
        self.positions = positions
        self.start = nn.Parameter(torch.zeros(width))
        self.number = nn.Embedding(codebook_size, width)
        self.place = nn.Parameter(torch.zeros(positions, width))
        self.layers = nn.ModuleList(TransformerBlock(width) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, codebook_size))
        nn.init.normal_(self.number.weight, std=0.02)
        nn.init.normal_(self.place, std=0.02)

    def forward(self, indices: Tensor) -> Tensor:
        """Logits of each number given those before it: N x L to N x L x K."""
        start = self.start.expand(len(indices), 1, -1)
        x = torch.cat([start, self.number(indices[:, :-1])], 1) + self.place  # N x L x width
        for layer in self.layers:
            x = layer(x, [])
        out: Tensor = self.head(x)
        return out

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n x L, drawn on the CPU so that a seed means the same on every device."""
        caches: list[list[Tensor]] = [[] for _ in self.layers]
        x = self.start.expand(n, 1, -1)
        indices: list[Tensor] = []
        for place in self.place:
            x = x + place
            for layer, cache in zip(self.layers, caches, strict=True):
                x = layer(x, cache)
            chances = self.head(x[:, 0]).float().softmax(1).cpu()
            indices.append(torch.multinomial(chances, 1, generator=generator).to(x.device))
            x = self.number(indices[-1])  # n x 1 x width
        return torch.cat(indices, 1)


class VQVAE(Autoencoder):
    """Codes are D x h x w, vectors of the codebook; h and w are ``halvings`` times halved."""

    recipe = Recipe

    def __init__(
        self,
        *,
        channels: int = 3,
        size: int = 32,
        width: int = 128,
        blocks: int = 2,
        halvings: int = 2,
        codebook_size: int = 512,
        latent_dim: int = 64,
        prior_width: int = 128,
        prior_depth: int = 4,
    ):
        super().__init__()
        side = size >> halvings if 1 <= halvings <= 6 else 0
        if not (channels in (1, 3) and 8 <= size <= 512 and 0 < side << halvings == size):
            raise SettingsError(
                "vq_vae: expected 1 or 3 channels, 1 to 6 halvings and a size from 8 to 512 that "
                f"can be halved so often, got {channels=}, {size=}, {halvings=}"
            )
        if side > 32:
            raise SettingsError(
                f"vq_vae: expected at most 32 x 32 positions, got {side} x {side}; more halvings "
                "make them fewer"
            )
        if not (
            min(width, latent_dim, prior_depth) > 0
            and 0 <= blocks <= 64
            and 2 <= codebook_size <= 65536
        ):
            raise SettingsError(
                "vq_vae: expected width, latent_dim and prior_depth positive, 0 to 64 blocks "
                f"and 2 to 65536 for codebook_size, got {width=}, {latent_dim=}, {prior_depth=}, "
                f"{blocks=}, {codebook_size=}"
            )
        if not (prior_width > 0 and prior_width % HEADS == 0):
            raise SettingsError(
                f"vq_vae: expected a prior_width that {HEADS} divides, got {prior_width}"
            )
        self.image_shape = (channels, size, size)
        self.code_shape = (latent_dim, side, side)
        # 3 x 32 x 32 to 64 x 16 x 16 to 128 x 8 x 8, and on at the full width
        widths = [channels, max(1, width // 2), *([width] * (halvings - 1))]
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for a, b in pairwise(widths):
            down += [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]
            up = [nn.ReLU(), nn.ConvTranspose2d(b, a, 4, 2, 1), *up]
        self.encoder = nn.Sequential(
            *down,
            nn.Conv2d(widths[-1], width, 3, 1, 1),
            *(Block(width) for _ in range(blocks)),
            nn.ReLU(),
            nn.Conv2d(width, latent_dim, 1),
        )  # 64 x 8 x 8
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_dim, width, 3, 1, 1),
            *(Block(width) for _ in range(blocks)),
            nn.ReLU(),
            nn.Conv2d(width, widths[-1], 1),
            *up,
        )
        self.codebook = Codebook(codebook_size, latent_dim)
        self.prior = Prior(codebook_size, side * side, prior_width, prior_depth)

    # -- codes ------------------------------------------------------------------------------------

    def quantise(self, images: Tensor) -> Tensor:
        """The indices of the codes' vectors, N x h x w int64 from 0 to K - 1.

        Raises: as :meth:`encode`.
        """
        return self._batched(self._quantise, self._checked_images(images))

    def dequantise(self, indices: Tensor) -> Tensor:
        """The codes of :meth:`quantise`'s ``indices``, N x D x h x w, for :meth:`decode`.

        Raises:
            InputError: ``indices`` are not N x h x w int64 from 0 to K - 1, N > 0.
        """
        size, positions = len(self.codebook.counts), self.code_shape[1:]
        good = isinstance(indices, Tensor) and indices.dtype == torch.int64
        if not (good and indices.shape[1:] == positions and indices.ndim == 3 and len(indices)):
            got = (
                f"{tuple(indices.shape)} {indices.dtype}"
                if isinstance(indices, Tensor)
                else type(indices).__name__
            )
            raise InputError(
                "expected indices as an int64 tensor N x "
                f"{positions[0]} x {positions[1]}, got {got}"
            )
        low, high = (int(t) for t in torch.aminmax(indices))
        if low < 0 or high >= size:
            raise InputError(f"expected indices from 0 to {size - 1}, got {low} to {high}")
        return self._vectors(indices.to(self.device))

    def code_bits(self, images: Tensor) -> Tensor:
        """How many bits each image takes when an arithmetic coder follows the prior, N.

        Without the prior it is :attr:`fixed_bits` for each.

        Raises: as :meth:`encode`.
        """
        return self._batched(
            lambda part: self._bits(self._quantise(part).flatten(1)).sum(1),
            self._checked_images(images),
        )

    @property
    def fixed_bits(self) -> float:
        """Bits of an image's numbers at log2 K each."""
        _, h, w = self.code_shape
        return h * w * math.log2(len(self.codebook.counts))

    def _quantise(self, images: Tensor) -> Tensor:
        return self._nearest(self.encoder(images).float())

    def _nearest(self, codes: Tensor) -> Tensor:
        """The index of the vector that replaces each place, N x D x h x w to N x h x w."""
        return self.codebook.nearest(_flat(codes)).view(codes.shape[0], *self.code_shape[1:])

    def _vectors(self, indices: Tensor) -> Tensor:
        return self.codebook.vectors[indices].permute(0, 3, 1, 2).contiguous()

    def _bits(self, indices: Tensor) -> Tensor:
        """Bits of each number given those before it, N x L to N x L."""
        logits = self.prior(indices).float().flatten(0, 1)  # N L x K
        nats = F.cross_entropy(logits, indices.flatten(), reduction="none")
        return nats.view_as(indices) / math.log(2)

    def _encode(self, images: Tensor) -> Tensor:
        return self._vectors(self._quantise(images))

    def _features(self, images: Tensor) -> Tensor:
        codes = self.encoder(images).float()
        vectors = self._vectors(self._nearest(codes.detach()))
        # The codes, bit by bit; their gradient goes straight through, as in training.
        features: Tensor = (vectors + (codes - codes.detach())).flatten(1)
        return features

    def _decode(self, codes: Tensor) -> Tensor:
        images: Tensor = self.decoder(codes).float().sigmoid()
        return images

    def _sample_codes(self, n: int, generator: torch.Generator) -> Tensor:
        parts = [min(BATCH, n - i) for i in range(0, n, BATCH)]
        indices = torch.cat([self.prior.sample(part, generator) for part in parts])
        return self._vectors(indices.view(n, *self.code_shape[1:]))

    # -- training ---------------------------------------------------------------------------------

    def phases(self, recipe: Recipe) -> list[Phase]:
        learners = nn.ModuleList([self.encoder, self.decoder])
        return [
            Phase(
                "codes", recipe.epochs, {"adam": learners}, self._codes_step, validate=self.loss
            ),
            Phase.of_loss(
                "prior", recipe.prior_epochs, self.prior, self._prior_loss,
                rates={"model": recipe.prior_lr}, averaged=self.prior, shows="generate",
            ),
        ]  # fmt: skip

    def _codes_step(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        with step.autocast():
            codes = self.encoder(step.seen).float()
            losses, indices = self._losses(codes, images, step.recipe)
        step.update("adam", losses["sse"] + losses["commitment"])
        self.codebook.update(_flat(codes.detach()), indices, step)
        return losses

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        return self._losses(self.encoder(step.seen).float(), images, step.recipe)[0]

    def _prior_loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            indices = self._quantise(images).flatten(1)
        return {"bits": self._bits(indices).mean()}

    def _losses(
        self, codes: Tensor, images: Tensor, recipe: Recipe
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Equation 3 without its second term, which the averages replace, and the indices, M."""
        flat = _flat(codes)
        indices = self.codebook.nearest(flat.detach())
        n, (_, h, w) = len(codes), self.code_shape
        vectors = self._vectors(indices.view(n, h, w))
        passed = codes + (vectors - codes).detach()  # straight through
        error = self.decoder(passed).float().sigmoid() - images
        used = torch.bincount(indices, minlength=len(self.codebook.counts)) / len(indices)
        losses = {
            "sse": error.square().flatten(1).sum(1).mean(),
            # of a place, summed over its D numbers
            "commitment": recipe.commitment * (codes - vectors).square().sum(1).mean(),
            "perplexity": torch.special.entr(used).sum().exp(),  # vectors in use, as section 4 says
        }
        return losses, indices

    def fit(self, images: object, seed: int) -> None:
        """The prior is learnt by steps; there is nothing to fit."""


def _flat(codes: Tensor) -> Tensor:
    """N x D x h x w to M x D, a row each place."""
    return codes.permute(0, 2, 3, 1).flatten(0, 2)
