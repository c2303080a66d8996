"""Autoencoders and generators of diffusers as models of the zoo.

Networks, schedulers and the loops of generating are diffusers'. Here it is ensured that only
safetensors are read, from one commit, into classes of a fixed table, every tensor of them.
"""

import copy
import difflib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from zoo import ModelSpec, hub
from zoo.errors import CapabilityError, InputError, InvalidConfig, SpecError
from zoo.model import ZooModel
from zoo.spec import Option
from zoo_diffusers.networks import built, described, diffusers, trained
from zoo_diffusers.source import AUTOENCODERS, PIPELINES, Source, fetch_tensors, find

CODES = ("encode", "decode", "reconstruct", "features", "score")
USUAL_SIZE = 256
"""The side of pictures where a config does not say any."""
GRID = 8
"""Features are the means of a code in at most so many rows and columns."""
PIXELS = 512 * 512
"""The most pixels of a picture that is computed whole; a larger one is, by tiles."""
CLASSES = 1000
"""The classes that diffusers' pipeline of DiT takes for granted."""


class DiffusersModel(ZooModel):
    """What ``diffusers:`` builds: an :class:`AutoencoderModel` or a :class:`GeneratorModel`."""

    options: Mapping[str, Option] = {}
    can: tuple[str, ...] = ()

    @classmethod
    def from_name(cls, rest: str, *, pretrained: bool) -> "DiffusersModel":
        """The model that ``diffusers:rest`` means.

        Raises:
            InvalidName, InvalidConfig, HubError: as :func:`zoo_diffusers.source.find`.
            UnsafeWeights: the repository has pickles alone.
            CorruptWeights, TensorMismatch: the weights are damaged, or not those of the config.
            CapabilityError: it makes no pictures of the zoo.
        """
        source = find(rest)
        make = trained if pretrained else built
        return _wrapped(source, {role: make(source, part) for role, part in source.parts.items()})

    @classmethod
    def describe(cls, rest: str) -> ModelSpec:
        """The record of the model that ``diffusers:rest`` means; its weights are not fetched.

        Raises: as :meth:`from_name`.
        """
        source = find(rest)
        networks = {role: described(source, part) for role, part in source.parts.items()}
        return _wrapped(source, networks).record

    @classmethod
    def pull(cls, rest: str) -> hub.Fetched:
        """The files that ``diffusers:rest`` is loaded of, fetched from the Hub and checked.

        Raises: as :meth:`from_name`.
        """
        source = find(rest)
        for part in source.parts.values():
            fetch_tensors(source, part)
        return hub.Fetched(source.snapshot, source.commit, source.requested)


class AutoencoderModel(DiffusersModel):
    """An autoencoder: its code is the mean, scaled as diffusion models take it."""

    can = CODES
    net: Any
    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, net: Any):
        """Args: net: of one of the classes in :data:`zoo_diffusers.source.AUTOENCODERS`."""
        super().__init__()
        self.net = net
        config = net.config
        self.channels = int(config.in_channels if "in_channels" in config else 3)
        self.scale = float(config.get("scaling_factor") or 1.0)
        self.shift = float(config.get("shift_factor") or 0.0)
        for name, default in (("latents_mean", 0.0), ("latents_std", 1.0)):
            values = torch.tensor(config.get(name) or [default]).float().reshape(1, -1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        self.stride = 2 ** (len(_levels(config)) - 1)
        size = config.get("sample_size") or USUAL_SIZE
        height, width = size if isinstance(size, list | tuple) else (size, size)
        self._fit(height, width)

    def at_size(self, height: int, width: int) -> "AutoencoderModel":
        """The same model, with the same tensors, for pictures of another size.

        Sides are rounded up to multiples of the network's stride.

        Raises:
            InputError: a side is not a whole number from 1 to 4096.
        """
        if any(type(side) is not int or not 1 <= side <= 4096 for side in (height, width)):
            raise InputError(
                f"at_size: expected sides as whole numbers from 1 to 4096, got {height!r} and "
                f"{width!r}"
            )
        other = copy.copy(self)
        other._modules = {"net": copy.copy(self.net)}  # which remembers whether it works by tiles
        other._fit(height, width)
        if self.spec is not None:
            other.spec = ModelSpec.from_dict(
                {
                    **self.spec.to_dict(),
                    "image_shape": list(other.image_shape),
                    "code_shape": list(other.code_shape),
                }
            )
        return other

    def _fit(self, height: int, width: int) -> None:
        rows, columns = (math.ceil(side / self.stride) for side in (height, width))
        self.image_shape = (self.channels, rows * self.stride, columns * self.stride)
        # That of VQModel is the codebook's width.
        config = self.net.config
        depth = config.get("vq_embed_dim") or config.latent_channels
        self.code_shape = (int(depth), rows, columns)
        self._preprocessing = replace(
            self.preprocessing, height=self.image_shape[1], width=self.image_shape[2]
        )
        self._tile()

    def _tile(self) -> None:
        """Work by tiles on large pictures where diffusers can, and so need less memory."""
        if not hasattr(self.net, "use_tiling"):
            return
        sizes = [value for name in ("tile_sample_min_size", "tile_sample_min_height")
                 if (value := getattr(self.net, name, None))]  # fmt: skip
        # That of taesd makes codes like taesd's own, whatever the config says.
        like_taesd = (self.channels, self.code_shape[0], self.stride) == (3, 4, 8)
        able = type(self.net).__name__ != "AutoencoderTiny" or like_taesd
        tiles = able and self.image_shape[1] * self.image_shape[2] > PIXELS
        self.net.use_tiling = tiles and max(self.image_shape[1:]) > max(sizes)

    def _encode(self, images: Tensor) -> Tensor:
        answer = self.net.encode(images * 2 - 1)
        codes: Tensor
        if hasattr(answer, "latent_dist"):
            codes = answer.latent_dist.mode()
        else:
            codes = answer.latent if hasattr(answer, "latent") else answer.latents
        return (codes - self.shift - self.latents_mean) * self.scale / self.latents_std

    def _decode(self, codes: Tensor) -> Tensor:
        codes = codes * self.latents_std / self.scale + self.latents_mean + self.shift
        images: Tensor = self.net.decode(codes, **self._noise(len(codes))).sample
        return (images / 2 + 0.5).clamp(0, 1)

    def _noise(self, n: int) -> dict[str, Any]:
        """What a decoder that draws gets: the same noise for every code, so that it is a map."""
        if type(self.net).__name__ != "ConsistencyDecoderVAE":
            return {}
        return {"generator": [torch.Generator().manual_seed(0) for _ in range(n)]}

    def _features(self, images: Tensor) -> Tensor:
        codes = self._encode(images)
        grid = min(GRID, codes.shape[2]), min(GRID, codes.shape[3])
        return nn.functional.adaptive_avg_pool2d(codes, grid).flatten(1)


class GeneratorModel(DiffusersModel):
    """A pipeline that generates, with diffusers' own loop and scheduler."""

    can = ("generate",)

    def __init__(
        self,
        kind: str,
        networks: Mapping[str, nn.Module],
        scheduler: Any,
        labels: Mapping[str, int] | None = None,
    ):
        """
        Args:
            kind: of a pipeline, one of :data:`zoo_diffusers.source.PIPELINES`.
            labels: the numbers of classes by their names.
        """
        super().__init__()
        self.kind, self.scheduler = kind, scheduler
        self.networks = nn.ModuleDict(dict(networks))
        main = next(iter(networks.values()))
        config: Any = main.config
        size = config.sample_size
        height, width = size if isinstance(size, list | tuple) else (size, size)
        if not type(height) is type(width) is int:
            raise SpecError(f"its config has the sample_size {size!r:.80}")
        channels, factor = config.in_channels, 1
        for decoder in list(networks.values())[1:]:
            settings: Any = decoder.config
            channels, factor = settings.out_channels, 2 ** (len(_levels(settings)) - 1)
        self.image_shape = (channels, height * factor, width * factor)
        self.classes = self._classes(config)
        self.labels = {k: v for k, v in (labels or {}).items() if v < self.classes}
        self.options = self._options()
        self._preprocessing = self.preprocessing  # which pictures have to be grey or in colour for

    def _classes(self, config: Any) -> int:
        """How many classes there are to choose from, 0 if they cannot be chosen."""
        if self.kind == "ConsistencyModelPipeline":
            return int(config.num_class_embeds or 0)
        if self.kind != "DiTPipeline":
            return 0
        if config.num_embeds_ada_norm != CLASSES:
            raise SpecError(f"diffusers' DiTPipeline is for {CLASSES} classes, of which this has "
                            f"{config.num_embeds_ada_norm!r:.40}")  # fmt: skip
        return CLASSES

    def _options(self) -> dict[str, Option]:
        most = int(self.scheduler.config.num_train_timesteps)
        usual = {"DDPMPipeline": 1000, "ConsistencyModelPipeline": 1}.get(self.kind, 50)
        summary = "how many times the network looks at a picture"
        options = {
            "steps": Option(default=min(usual, most), minimum=1, maximum=most, summary=summary)
        }
        if self.kind == "DDPMPipeline":
            options["sampler"] = Option(
                default="own", choices=("own", "ddim"),
                summary="the repository's scheduler, or DDIM, for which 50 steps are enough",
            )  # fmt: skip
        if self.classes:
            options["label"] = Option(
                default=-1, minimum=-1, maximum=self.classes - 1,
                summary="the class to draw; -1 for any, drawn by the seed",
            )  # fmt: skip
        if self.labels:
            options["named"] = Option(
                default="", summary="the class by its name, instead of its label"
            )
        if self.kind == "DiTPipeline":
            options["guidance"] = Option(
                default=4.0, minimum=1, maximum=100,
                summary="how much a picture shall look like its class; 1 for no more than it does",
            )  # fmt: skip
        return options

    def _generate(
        self,
        n: int,
        generator: torch.Generator,
        *,
        steps: int = 1,
        sampler: str = "own",
        label: int = -1,
        named: str = "",
        guidance: float = 4.0,
    ) -> Tensor:
        # A scheduler has a state, and two threads may generate at once.
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        kind = "DDIMPipeline" if sampler == "ddim" else self.kind
        pipeline = getattr(diffusers(), kind)(**self.networks, scheduler=scheduler)
        pipeline.set_progress_bar_config(disable=True)
        asked: dict[str, Any] = {"num_inference_steps": steps, "generator": generator}
        if self.classes:
            asked["class_labels"] = self._labels(n, self._number(named, label), generator)
        if self.kind == "DiTPipeline":
            asked["guidance_scale"] = guidance
        else:
            asked["batch_size"] = n
        images = pipeline(output_type="np" if kind == "LDMPipeline" else "pt", **asked).images
        if kind == "LDMPipeline":
            images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        return images.float().to(self.device)  # type: ignore[no-any-return]

    def _number(self, named: str, label: int) -> int:
        """The label that is meant."""
        if not named:
            return label
        if label >= 0:
            raise InputError(f"{self.name}: either label={label} or named={named!r:.80}, not both")
        if named not in self.labels:
            close = difflib.get_close_matches(named, self.labels, n=3)
            hint = " or ".join(map(repr, close)) or f"one such as {next(iter(self.labels))!r}"
            raise InputError(f"{self.name} has no class named {named!r:.80}. Try: {hint}")
        return self.labels[named]

    def _labels(self, n: int, label: int, generator: torch.Generator) -> list[int]:
        if label >= 0:
            return [label] * n
        drawn: list[int] = torch.randint(self.classes, (n,), generator=generator).tolist()
        return drawn


def _levels(config: Any) -> Any:
    """The widths of an encoder's levels, of which each but the last halves the sides."""
    names = ("encoder_block_out_channels", "down_block_out_channels", "block_out_channels")
    return next(config[name] for name in names if name in config)


def _wrapped(source: Source, networks: Mapping[str, nn.Module]) -> DiffusersModel:
    try:
        model: DiffusersModel
        if source.kind in PIPELINES:
            assert source.scheduler is not None, "a pipeline has one, or is refused"
            scheduler = built(source, source.scheduler)
            model = GeneratorModel(source.kind, networks, scheduler, source.labels)
        else:
            model = AutoencoderModel(next(iter(networks.values())))
        model.spec = _spec(source, model)
    except SpecError as error:
        raise CapabilityError(
            f"diffusers:{source.name} makes no pictures of the zoo: {error}"
        ) from None
    except (TypeError, ValueError, StopIteration, ZeroDivisionError) as error:
        raise InvalidConfig(f"{source.where}: {type(error).__name__}: {error!s:.200}") from error
    model.name = f"diffusers:{source.name}"
    return model


def _spec(source: Source, model: DiffusersModel) -> ModelSpec:
    pipeline = source.kind in PIPELINES
    record = f"{source.kind.removesuffix('Pipeline').lower()}_pipeline" if pipeline else ""
    return ModelSpec(
        name=record or AUTOENCODERS[source.kind],
        family="diffusion" if pipeline else "autoencoder",
        builder=f"{DiffusersModel.__module__}:{DiffusersModel.__qualname__}",
        summary=f"{source.kind} of diffusers {diffusers().__version__}; weights on the Hub: "
        f"{source.repo}@{source.commit}; licence: {source.licence}",
        paper="von Platen et al. 2022, Diffusers",
        image_shape=model.image_shape,
        code_shape=model.code_shape,
        capabilities=model.can,
        generate_options=model.options,
    )
