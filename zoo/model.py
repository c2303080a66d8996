"""The contract of a model: the only door to torch that a plugin needs.

A plugin's model is a :class:`ZooModel` that implements the underscored methods; the public calls
check what comes in, work through it in batches and never differ between models.

Images are float32, N x C x H x W, values in [0, 1], for every model. What the network itself
wants (the range of tanh, a mean and deviation) is up to the network.
"""

import contextlib
import html
import itertools
import math
import random
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from zoo.boundary import require_plain
from zoo.density import GaussianMixture, fit_density
from zoo.errors import CapabilityError, InputError, SpecError
from zoo.files import path_text
from zoo.isolation import computes_in_bf16, isolated, without_isolation
from zoo.spec import AS_LIBRARY, FITS, ModelSpec, Preprocessing, Source, complete_options
from zoo.system import cpp_compiler

if TYPE_CHECKING:
    from zoo.transform import Transform

__all__ = [
    "Autoencoder",
    "AutoencoderRecipe",
    "FittedModel",
    "FittedRecipe",
    "GaussianMixture",
    "LabelledRecipe",
    "Phase",
    "Recipe",
    "Step",
    "ZooModel",
]

BATCH, NUMBERS = 1000, 500 * 3 * 64 * 64
"""The most images, and the most numbers in them, that go through a network at once: a whole data
set can be given, and of images of 512 x 512 pixels seven are computed at a time."""

CONVOLVED, CONVOLVED_NUMBERS = 250, 250 * 3 * 32 * 32
"""The same where a processor computes convolutions: what a layer makes of more of them, some tens
of MB, leaves the caches, and is written to memory that is fetched anew from the system each time.
As measured, 62 images of 64 x 64 pixels are up to a third faster so than 250; fewer of 32 x 32 than
250 are slower."""

BLOCK, BLOCK_NUMBERS = 64, 64 * 3 * 64 * 64
"""The most images, and the most numbers in them, that ``_generate`` makes at once. Unlike
:data:`BATCH` they decide which images a seed gives, so they never change."""


_WHOLE = {"keep": None, "interpolation": "bicubic"}
"""How the zoo prepares pictures itself: see :class:`zoo.spec.Preprocessing`."""

TEXTS = 64
"""The most texts that go through a network at once."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained: data, not code. A plugin's model subclasses it with its defaults.

    ``optimizer`` and ``schedule`` are timm's names; ``wsd`` holds the rate and lets it fall
    linearly over the last ``decay`` of the epochs. ``average`` is the decay, a step, of the moving
    average of the weights that a phase asks for (0: none); it is warmed up, so that what a short
    run learnt ships, too. ``clip`` is the greatest norm of a player's gradient, which is scaled
    down to it (0: as it is).

    ``affine`` is the strength of random affine maps of all images at the start (1: up to 15
    degrees, 15 % of scale and shear, 2 of 28 pixels of shift); it fades out linearly until
    ``affine_until`` of a phase has passed. ``precision`` is ``fp32``, ``bf16`` (autocast), or
    ``auto``: bf16 where the processor computes in it, which elsewhere is ten times slower.
    ``muon_precision`` is that in which ``muon`` and its like make their updates orthogonal, with
    the same three values; other optimisers do not look at it.
    ``channels_last`` lays tensors out so, which some convolutional nets compute faster in.
    """

    epochs: int = 30
    batch_size: int = 256
    optimizer: str = "adamw"
    lr: float = 1e-3
    beta1: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    decay: float = 0.5
    average: float = 0.0
    clip: float = 0.0
    precision: str = "auto"
    muon_precision: str = "auto"
    channels_last: bool = False
    affine: float = 0.0
    affine_until: float = 0.9

    to_dict = asdict


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe(Recipe):
    """A recipe for learning to repair too: ``corrupt`` corrupts the input, not the target.

    ``corrupt`` is one of :data:`zoo.corruption.KINDS`, or empty; ``corrupt_strength`` is its
    strength (Vincent et al. 2010, "Stacked denoising autoencoders", section 3).
    """

    corrupt: str = ""
    corrupt_strength: float = 0.25


@dataclass(frozen=True, kw_only=True)
class LabelledRecipe(Recipe):
    """A recipe for a model that can learn from labels: with ``labels`` :attr:`Step.labels` is set.

    Images without a label are then left out, and the record of the run says that labels were used.
    """

    labels: bool = False


class Processes(Protocol):
    """The exchange of tensors between the processes that train together (by ``accelerate``)."""

    def reduce(self, tensor: Tensor, how: str) -> Tensor: ...

    def gather(self, tensor: Tensor) -> Tensor: ...

    def broadcast(self, tensor: Tensor) -> Tensor: ...


def _no_update(player: str, loss: Tensor) -> None:
    raise RuntimeError("nothing is learnt in validation: this step has no update")


@dataclass(frozen=True)
class Step:
    """What the training loop hands to one step, and to validation, besides the images.

    All fields but the first two have defaults, so that a loss can be computed anywhere:
    ``model.loss(images, Step(images, model.recipe()))``.
    """

    seen: Tensor
    """The images as an autoencoder shall see them: corrupted, if the recipe says so."""
    recipe: Any
    """The recipe of the run, of the model's own class."""
    progress: float = 1.0
    """How much of the phase is done, in [0, 1); 1 in validation and outside of training."""
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    """The only source of randomness, on the CPU. It is seeded for each step and each process; in
    validation it is the same at each epoch, so that stochastic losses can be compared."""
    autocast: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    """The precision of the recipe, to compute losses in."""
    update: Callable[[str, Tensor], None] = _no_update
    """``update(player, loss)``: new gradients of the loss, averaged over all processes, and one
    step of that player's optimiser."""
    labels: Tensor | None = None
    """The images' classes, N whole numbers from 0: None unless the model's recipe is a
    :class:`LabelledRecipe` whose ``labels`` is true."""
    processes: Processes | None = None
    """The processes that train together; None where there is but one."""

    def reduce(self, tensor: Tensor, how: str = "mean") -> Tensor:
        """The ``mean`` or ``sum`` of each process's ``tensor``, the same in all of them.

        Every process has to call this at the same point, as the other two methods.
        """
        return tensor if self.processes is None else self.processes.reduce(tensor, how)

    def gather(self, tensor: Tensor) -> Tensor:
        """Every process's ``tensor``, one after the other along the first dimension."""
        return tensor if self.processes is None else self.processes.gather(tensor)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """The first process's ``tensor``, in all of them."""
        return tensor if self.processes is None else self.processes.broadcast(tensor)


Loss = Callable[[Tensor, Step], dict[str, Tensor]]
"""Images and a :class:`Step` to the named parts of a loss."""


@dataclass
class Phase:
    """One stretch of training: the modules that learn, one step, and what is done at its end.

    ``players`` are the modules that learn, each with an optimiser of its own; ``rates`` has the
    learning rates of those that do not learn at the recipe's. ``step`` computes losses, hands them
    to :attr:`Step.update`, and returns those to show. If the recipe has an ``average``, the moving
    average of ``averaged`` takes its place at the end. ``validate`` computes losses of held-out
    images, in eval mode and without gradients; its :class:`Step` has no ``update``. ``shows`` is
    the call whose pictures show how far the phase is. :meth:`of_loss` makes the common kind.
    """

    name: str
    epochs: int
    players: Mapping[str, nn.Module]
    step: Loss
    rates: Mapping[str, float] = field(default_factory=dict)
    averaged: nn.Module | None = None
    validate: Loss | None = None
    shows: str = "reconstruct"
    finish: Callable[[], None] = lambda: None

    @classmethod
    def of_loss(cls, name: str, epochs: int, module: nn.Module, loss: Loss, **more: Any) -> "Phase":
        """A phase in which ``module`` learns to make the sum of the parts of ``loss`` small.

        The same ``loss`` is computed of held-out images. ``more`` are other fields of the phase.
        """

        def step(images: Tensor, step: Step) -> dict[str, Tensor]:
            with step.autocast():
                parts = loss(images, step)
            step.update("model", torch.stack([*parts.values()]).sum())
            return parts

        return cls(name, epochs, {"model": module}, step, validate=loss, **more)


class ZooModel(nn.Module):
    """Base of every model.

    A subclass sets ``image_shape`` (C, H, W) and, unless it has no code, ``code_shape`` before it
    is used, and implements ``_encode``, ``_decode`` and ``_sample_codes``, or ``_generate`` for a
    sampler of another kind; ``_features`` and ``_score`` have defaults that suit an autoencoder.
    All of them get checked batches and run without gradients.

    ``spec``, ``name`` and ``preprocessing`` are set by :func:`zoo.create` and :func:`zoo.load`.
    """

    image_shape: tuple[int, int, int]
    code_shape: tuple[int, ...] = ()
    recipe: ClassVar[type[Recipe]] = Recipe

    spec: ModelSpec | None = None
    name: str = ""
    source: Source | None = None
    """Where it was loaded from; None of a model that was created."""
    config: Mapping[str, Any] = {}
    _preprocessing: Preprocessing | None = None
    _library_preprocessing: Preprocessing | None = None
    """How the library that the weights are from prepares pictures itself: ``fit="library"``."""
    _precision: str = "fp32"
    """What the calls compute in: see :meth:`prepare`."""
    _compile: bool = False
    _compiled: dict[str, Callable[..., Tensor]] | None = None
    """What torch.compile made of the underscored methods; of this very model, so never copied."""

    # -- the calls -------------------------------------------------------------------------------

    def encode(self, images: Tensor) -> Tensor:
        """Codes of ``images``, N x code_shape; deterministic.

        Raises:
            InputError: ``images`` is not N x C x H x W float32 in [0, 1] with N > 0.
            CapabilityError: this model cannot encode.
        """
        self._require("encode")
        with self._answering():
            return self._batched(self._encode, self._checked_images(images))

    def decode(self, codes: Tensor) -> Tensor:
        """Images of ``codes`` (N x code_shape, float32), N x C x H x W in [0, 1].

        Raises:
            InputError: ``codes`` has another shape or dtype, is empty, or is not finite.
            CapabilityError: this model cannot decode.
        """
        self._require("decode")
        with self._answering():
            return self._batched(self._decode, self._checked_codes(codes))

    def reconstruct(self, images: Tensor) -> Tensor:
        """``decode(encode(images))``, N x C x H x W in [0, 1].

        Raises: as :meth:`encode`.
        """
        self._require("reconstruct")
        with self._answering():
            return self._batched(self._reconstruct, self._checked_images(images))

    def generate(self, n: int, *, seed: int | None = None, **options: Any) -> Tensor:
        """``n`` new images, n x C x H x W in [0, 1].

        The same ``seed`` (0 to 2**63 - 1) gives the same images in any process; without one they
        differ at each call. Torch's global random state is neither used nor changed.

        Args:
            options: what the model's record declares as ``generate_options``, such as ``steps=20``.

        Raises:
            InputError: ``n`` is not a positive whole number, ``seed`` not one from 0, or an option
                unknown or out of range.
            CapabilityError: this model cannot generate.
        """
        self._require("generate")
        if not _whole(n) or n < 1:
            raise InputError(f"generate: expected a positive number of images, got {n!r}")
        if seed is None:
            seed = random.SystemRandom().getrandbits(63)
        if not _whole(seed) or not 0 <= seed < 2**63:
            raise InputError(f"generate: expected a seed from 0 to 2**63 - 1, got {seed!r}")
        parts = list(self._generated(n, seed, **complete_options(self.spec, options)))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def features(self, images: Tensor) -> Tensor:
        """What classifiers, clusters and searches should use, N x F.

        Raises: as :meth:`encode`.
        """
        self._require("features")
        with self._answering():
            return self._batched(self._features, self._checked_images(images))

    def score(self, images: Tensor) -> Tensor:
        """How unusual each image is, N; higher is stranger. Comparable within one model only.

        Raises: as :meth:`encode`.
        """
        self._require("score")
        with self._answering():
            return self._batched(self._score, self._checked_images(images))

    def embed_text(self, texts: Sequence[str], *, templates: Sequence[str] = ("{}",)) -> Tensor:
        """What ``texts`` say, N x F, in the space of :meth:`features`, to compare by cosine.

        Args:
            texts: such as ``["cat", "dog"]``.
            templates: sentences that each text is put into in place of ``{}``, such as ``["a photo
                of a {}"]``. Of several, the vectors of a text are made one: the mean of their
                directions.

        Raises:
            InputError: ``texts`` or ``templates`` is no list of texts, or a template has no ``{}``.
            CapabilityError: this model knows no words.
        """
        self._require("embed_text")
        texts, templates = _checked_texts(texts, "texts"), _checked_texts(templates, "templates")
        for template in templates:
            if template.count("{}") != 1:
                raise InputError(
                    f"a template has one {{}}, where the text goes in, got {template!r:.80}"
                )
        said = [[template.replace("{}", text) for text in texts] for template in templates]
        with self._answering():
            parts = [self._texts_embedded(each) for each in said]
            if len(parts) == 1:
                return parts[0]
            return torch.stack([nn.functional.normalize(part, dim=1) for part in parts]).mean(0)

    def _texts_embedded(self, texts: list[str]) -> Tensor:
        starts = range(0, len(texts), TEXTS)
        embed = self._computing(self._embed_text)
        return torch.cat([embed(texts[at : at + TEXTS]) for at in starts])

    def forward(self, images: Tensor) -> Tensor:
        """The features of ``images`` with gradients, in the current mode and precision.

        So ``model(images)`` is a layer like any other: in an ``nn.Sequential``, for hooks,
        ``torch.compile``, autocast and fine-tuning. Unlike the calls above it only checks the
        shape, splits no batch, and torch's defaults apply.

        Args:
            images: N x C x H x W in [0, 1], of the model's own dtype and device.

        Raises:
            InputError: ``images`` are of another shape.
            CapabilityError: this model has no features.
        """
        if not torch.compiler.is_compiling():  # which could not trace the way to the message
            self._require("features")
        if tuple(images.shape[1:]) != self.image_shape:
            expected = "N x {} x {} x {}".format(*self.image_shape)
            raise InputError(f"expected images of shape {expected}, got {_shape(images)}")
        return self._features(self._layout()(images)).to(
            images.dtype
        )  # some compute a part in float32

    def preprocess(self, x: Any) -> Tensor:
        """A path, PIL image, array, tensor, or list of them, as images of this model, on the CPU.

        See :func:`zoo.images.to_images` for what is taken.

        Raises:
            ImageError: a picture cannot be read.
            InputError: an array or tensor is of no known layout, dtype or range.
        """
        from zoo.images import to_images

        return to_images(x, self.preprocessing)

    @property
    def transform(self) -> "Transform":
        """What makes one picture an image: ``ImageFolder(root, transform=model.transform)``.

        It holds no tensors, and can be sent to the worker processes of a ``DataLoader``.
        """
        from zoo.transform import Transform

        return Transform(self.preprocessing)

    # -- what a plugin implements ----------------------------------------------------------------

    def _encode(self, images: Tensor) -> Tensor:
        raise _not_written(self, "_encode(self, images)", "encode")

    def _decode(self, codes: Tensor) -> Tensor:
        raise _not_written(self, "_decode(self, codes)", "decode")

    def _sample_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` codes to generate from; all randomness comes from ``generator``, on the CPU.

        A model whose record declares ``generate_options`` takes them as keyword arguments with
        defaults (``*, truncation: float = 1.0``) and gets all of them, checked.
        """
        raise _not_written(self, "_sample_codes(self, n, generator)", "generate")

    def _generate(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` images, where they are not the decoding of codes: a sampler of many steps, say.

        All randomness comes from ``generator``, on the CPU, drawn in any order and as often as
        wanted. It is called for one block of images after another, each with a generator of its
        own (:meth:`_blocks`), so that thousands of images need no more memory than a block.
        Options are given as to :meth:`_sample_codes`.
        """
        return self._decode(self._sample_codes(n, generator).to(self.device))

    def _reconstruct(self, images: Tensor) -> Tensor:
        """The reconstructions, where they are not the decoding of the codes."""
        return self._decode(self._encode(images))

    def _features(self, images: Tensor) -> Tensor:
        return self._encode(images).flatten(1)

    def _score(self, images: Tensor) -> Tensor:
        """Mean squared error of the reconstruction."""
        return (self._reconstruct(images) - images).square().flatten(1).mean(1)

    def _embed_text(self, texts: list[str]) -> Tensor:
        """The features that a picture of what each text says would have, N x F."""
        raise _not_written(self, "_embed_text(self, texts)", "embed_text")

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        """The named parts of the loss; training minimises their sum.

        ``images`` are N x C x H x W; ``step`` has the recipe, the generator for whatever is drawn
        and, in :attr:`Step.seen`, the images as they should go in. It is called in train mode for
        each step, within the recipe's precision, and in eval mode for the images held out.
        """
        raise _not_written(self, "loss(self, images, step)")

    @classmethod
    def upgrade_tensors(cls, tensors: dict[str, Tensor], plugin_version: str) -> dict[str, Tensor]:
        """The tensors of a weights folder with the names and shapes that the class has today.

        Override it when a tensor gets another name or shape, so that weights of before still load.
        ``plugin_version`` is the version of the plugin that wrote them, empty if it is not known.
        What is returned has to fit the class exactly; by default it is what was read.
        """
        return tensors

    def phases(self, recipe: Any) -> list[Phase]:
        """The stretches of training: one in which all of the model learns :meth:`loss`, if it has
        one. A model with several players, or stretches one after the other, has its own.
        """
        if type(self).loss is ZooModel.loss:
            return []
        shows = "reconstruct" if "reconstruct" in self.capabilities else "generate"
        return [
            Phase.of_loss("training", recipe.epochs, self, self.loss, averaged=self, shows=shows)
        ]

    def fit(self, images: Callable[[], Iterator[Tensor]], seed: int) -> None:
        """Compute what is not learnt in steps, after all phases; ``images()`` gives train batches.

        An autoencoder fits the density here that :meth:`generate` samples from.
        """

    # -- plumbing --------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What ``print(model)`` shows of the model, above its modules."""
        return "\n".join(f"{key}: {value}" for key, value in self._facts().items())

    def _repr_html_(self) -> str:
        """The same in a notebook, with the modules folded away."""
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(key)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for key, value in self._facts().items()
        )
        return (
            f"<table>{rows}</table><details><summary>modules</summary>"
            f"<pre>{html.escape(repr(self))}</pre></details>"
        )

    def _facts(self) -> dict[str, str]:
        """The main facts of the model for its repr, each on one line."""
        facts = {"name": path_text(self.name) if self.name.isprintable() else repr(self.name)}
        facts["images"] = _size(self.image_shape)
        facts["code"] = _size(self.code_shape)
        if type(self)._features is ZooModel._features:
            facts["features"] = str(math.prod(self.code_shape))
        facts["can"] = ", ".join(self.capabilities)
        facts["parameters"] = f"{sum(p.numel() for p in self.parameters()):,}"
        facts["device"] = f"{self.device}, {'train' if self.training else 'eval'} mode"
        return {key: value for key, value in facts.items() if value}

    @property
    def device(self) -> torch.device:
        """Where the model's tensors are."""
        tensor = next(itertools.chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def record(self) -> ModelSpec:
        """:attr:`spec`, of a model that has one.

        Raises:
            InputError: it was made by its class, and not by :func:`zoo.create` or :func:`zoo.load`.
        """
        if self.spec is None:
            raise InputError(
                f"this {type(self).__name__} has no record: make it by zoo.create or zoo.load"
            )
        return self.spec

    @property
    def preprocessing(self) -> Preprocessing:
        """What :meth:`preprocess` does."""
        if self._preprocessing is not None:
            return self._preprocessing
        channels, height, width = self.image_shape
        # Pictures in colour mostly stand on white paper, digits and clothes of MNIST on black.
        background = 1.0 if channels == 3 else 0.0
        return Preprocessing(channels=channels, height=height, width=width, background=background)

    def prepare(
        self,
        *,
        fit: str | None = None,
        background: float | None = None,
        precision: str | None = None,
        compile: bool | None = None,
    ) -> Self:
        """Choose how :meth:`preprocess` makes pictures into images, and how the calls compute;
        returns the model itself.

        Args:
            fit: of pictures with other proportions than the images: ``crop`` cuts them at the
                centre, ``pad`` keeps them whole in a frame, ``stretch`` distorts them, ``library``
                does what the library that the weights are from would do itself (its resizing and
                cut; ``timm:`` has one). None leaves what the weights say.
            background: of transparent pictures and of the frame, from 0, black, to 1, white.
            precision: of the calls: ``fp32``, or ``bf16`` (autocast), which keeps two or three
                digits. What they return is float32 in both. :meth:`generate` keeps to float32,
                since a seed stands for its images; so does ``model(images)``, which follows the
                caller's own autocast. The tensors of the model stay as they are.
            compile: whether each call is compiled by ``torch.compile`` the first time, which takes
                half a minute; results differ in the sixth digit. Tensors and their names stay as
                they are, and :meth:`generate` and ``model(images)`` are not compiled.

        Raises:
            InputError: another ``fit`` or ``precision``, or ``background`` out of range;
                ``library`` of a model that is of none; ``bf16`` on a device that does not
                compute in it; or ``compile`` where no C++ compiler is installed.
        """
        if precision is not None:
            self._precision = self._checked_precision(precision)
        if compile is not None:
            self._compile = compile and self._compiler_found()
        asked = {"fit": fit, "background": background}
        chosen: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
        if fit is not None:
            chosen |= self._of_library() if fit == AS_LIBRARY else _WHOLE
        try:
            self._preprocessing = replace(self.preprocessing, **chosen)
        except SpecError as error:
            raise InputError(str(error)) from None
        return self

    def _checked_precision(self, precision: str) -> str:
        if precision not in ("fp32", "bf16"):
            raise InputError(f"precision should be fp32 or bf16, got {precision!r}")
        if precision == "bf16" and not computes_in_bf16(self.device):
            raise InputError(
                f"precision bf16: this machine's {self.device.type} does not compute in bf16, and "
                "would take many times as long as in fp32; leave precision out"
            )
        return precision

    def _compiler_found(self) -> bool:
        command = cpp_compiler()
        if self.device.type == "cpu" and shutil.which(command) is None:
            raise InputError(
                f"compile needs a C++ compiler, and {command} is not installed: install it, name "
                "another in the environment variable CXX, or leave compile out"
            )
        return True

    def _of_library(self) -> dict[str, Any]:
        """What ``fit="library"`` changes of :attr:`preprocessing`."""
        p = self._library_preprocessing
        if p is None:
            raise InputError(
                f"{self.name or type(self).__name__} has no preparation of another library: fit "
                f"is one of {FITS}"
            )
        return {"fit": p.fit, "keep": p.keep, "interpolation": p.interpolation}

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The calls that this model can answer."""
        from zoo.spec import USUAL

        if self.spec is not None:
            return self.spec.capabilities
        knows_words = type(self)._embed_text is not ZooModel._embed_text
        return (*USUAL, "embed_text") if knows_words else USUAL

    @contextlib.contextmanager
    def _answering(self, seed: int = 0) -> Iterator[None]:
        """Answer a call in eval mode, without gradients, and without torch's defaults."""
        with isolated(seed, grad=False), in_eval_mode(self):
            yield

    @property
    def _at_once(self) -> int:
        """How many images go through the network at once."""
        small = self.device.type == "cpu" and self._convolves
        most, numbers = (CONVOLVED, CONVOLVED_NUMBERS) if small else (BATCH, NUMBERS)
        return max(1, min(most, numbers // math.prod(self.image_shape)))

    @property
    def _convolves(self) -> bool:
        return any(isinstance(each, nn.Conv2d) for each in self.modules())

    def _computing(self, call: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        """``call`` in the precision that was chosen; what it returns is float32."""
        if self._precision == "fp32":
            return call

        def computed(batch: Any) -> Tensor:
            # Without the cache: a caller's own autocast would find weights there without gradients.
            with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
                return call(batch).float()

        return computed

    def _batched(self, call: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        call, size, laid_out = self._computing(self._fast(call)), self._at_once, self._layout()
        first = call(laid_out(batch[:size]))
        if len(batch) <= size:
            return first
        # Each part is copied and let go at once, so that the next one takes the same memory, and
        # none is fetched anew from the system.
        whole = first.new_empty((len(batch), *first.shape[1:]))
        whole[:size] = first
        for begin in range(size, len(batch), size):
            whole[begin : begin + size] = call(laid_out(batch[begin : begin + size]))
        return whole

    def _fast(self, call: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """``call`` compiled, if that was chosen and it is a method of this model."""
        if not self._compile or getattr(call, "__self__", None) is not self:
            return call
        if self._compiled is None:
            self._compiled = {}
        if call.__name__ not in self._compiled:
            self._compiled[call.__name__] = torch.compile(call)
        made: Callable[[Tensor], Tensor] = self._compiled[call.__name__]

        def compiled(batch: Tensor) -> Tensor:
            with without_isolation():  # whose mode would be traced along
                return made(batch)

        return compiled

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which compile anew."""
        return {key: value for key, value in self.__dict__.items() if key != "_compiled"}

    def _layout(self) -> Callable[[Tensor], Tensor]:
        """Lays images or codes out as the network computes faster with; it asks every layer.

        Convolutions follow the layout of what they are given, and many are up to twice as fast
        where channels come last; the tensors of the model stay as they are. Results differ in the
        sixth digit.
        """
        convolves = self._convolves

        def laid_out(batch: Tensor) -> Tensor:
            if batch.ndim != 4 or not convolves:
                return batch
            return batch.contiguous(memory_format=torch.channels_last)

        return laid_out

    def _generated(self, n: int, seed: int, **options: Any) -> Iterator[Tensor]:
        """The images of :meth:`generate`, a batch at a time."""
        # A thread must not be left in the isolation in between two of them.
        if type(self)._generate is not ZooModel._generate:
            generate: Callable[..., Tensor] = self._generate
            for size, own in self._blocks(n, seed):
                with self._answering(own):
                    images = generate(size, torch.Generator().manual_seed(own), **options)
                yield images
            return
        sample_codes: Callable[..., Tensor] = self._sample_codes
        with self._answering(seed):
            codes = sample_codes(n, torch.Generator().manual_seed(seed), **options).to(self.device)
        laid_out = self._layout()
        for part in codes.split(self._at_once):
            with self._answering(seed):
                images = self._decode(laid_out(part))
            yield images

    def _blocks(self, n: int, seed: int) -> Iterator[tuple[int, int]]:
        """The blocks of ``n`` images: how many each has, and the seed of its generator.

        The size of a block depends on the shape of an image alone, and block ``k`` is seeded by the
        ``k``-th number that a generator with ``seed`` draws. So neither the machine nor the number
        of blocks changes the images of a full block.
        """
        seeds = torch.Generator().manual_seed(seed)
        size = max(1, min(BLOCK, BLOCK_NUMBERS // math.prod(self.image_shape)))
        for begin in range(0, n, size):
            with isolated():
                own = int(torch.randint(2**63 - 1, (), generator=seeds))
            yield min(size, n - begin), own

    def _require(self, capability: str) -> None:
        if capability in self.capabilities:
            return
        from zoo.registry import registry

        able = registry().names_with(capability)
        raise CapabilityError(
            f"{self.name or type(self).__name__} cannot {capability}: it declares "
            f"{', '.join(self.capabilities) or 'no call at all'}.\n"
            f"Models that can: {', '.join(able) or 'none is installed'}"
        )

    def _checked_images(self, images: Tensor) -> Tensor:
        expected = "N x {} x {} x {}".format(*self.image_shape)
        hint = "model.preprocess(x) makes such images of files, PIL images and arrays"
        if not isinstance(images, Tensor):
            raise InputError(
                f"expected images as a float32 tensor {expected}, got {_kind(images)}; {hint}"
            )
        require_plain(images, "images")
        if images.ndim != 4 or tuple(images.shape[1:]) != self.image_shape:
            raise InputError(
                f"expected images of shape {expected}, got {_shape(images)}"
                + ("; add the batch dimension: images[None]" if images.ndim == 3 else f"; {hint}")
            )
        if len(images) == 0:
            raise InputError(f"expected at least one image, got an empty batch {_shape(images)}")
        if images.dtype != torch.float32:
            raise InputError(f"expected float32 images in [0, 1], got {images.dtype}; {hint}")
        low, high = (float(t) for t in torch.aminmax(images))
        if not (low >= 0 and high <= 1):  # so written, it refuses NaN too
            raise InputError(
                f"expected image values in [0, 1], got {low:.4g} to {high:.4g}"
                + ("; divide by 255" if low >= 0 and 1 < high <= 255 else f"; {hint}")
            )
        return images.to(self.device)

    def _checked_codes(self, codes: Tensor) -> Tensor:
        expected = "N x " + " x ".join(map(str, self.code_shape))
        if not isinstance(codes, Tensor):
            raise InputError(f"expected codes as a float32 tensor {expected}, got {_kind(codes)}")
        require_plain(codes, "codes")
        if codes.ndim == 0 or tuple(codes.shape[1:]) != self.code_shape:
            raise InputError(f"expected codes of shape {expected}, got {_shape(codes)}")
        if len(codes) == 0:
            raise InputError(f"expected at least one code, got an empty batch {_shape(codes)}")
        if codes.dtype != torch.float32:
            raise InputError(f"expected float32 codes, got {codes.dtype}")
        if not bool(torch.isfinite(codes).all()):
            raise InputError("expected finite codes, got NaN or infinity among them")
        return codes.to(self.device)


class Autoencoder(ZooModel):
    """A model with one loss, one optimiser, and a mixture of Gaussians on its codes.

    A subclass sets ``self.density`` and implements ``_encode``, ``_decode`` and ``loss``.
    """

    recipe = AutoencoderRecipe
    density: GaussianMixture

    def loss(self, images: Tensor, step: Step) -> dict[str, Tensor]:
        """The named parts of the loss; ``images`` should be reconstructed from ``step.seen``."""
        raise _not_written(self, "loss(self, images, step)")

    def phases(self, recipe: Any) -> list[Phase]:
        return [Phase.of_loss("reconstruction", recipe.epochs, self, self.loss, averaged=self)]

    def fit(self, images: Callable[[], Iterator[Tensor]], seed: int) -> None:
        fit_density(self.density, images, lambda batch: self.encode(batch).flatten(1), seed)

    def _sample_codes(self, n: int, generator: torch.Generator) -> Tensor:
        return self.density.sample(n, generator).reshape(n, *self.code_shape)


def can_be_trained(kind: type[ZooModel]) -> bool:
    """Whether a class of models has anything to learn: a loss, phases of its own, or a fit."""
    names = ("loss", "phases", "fit")
    return any(getattr(kind, name) is not getattr(ZooModel, name) for name in names)


@dataclass(frozen=True, kw_only=True)
class FittedRecipe(Recipe):
    """The recipe of a model that learns nothing in steps: none of its settings has an effect."""

    epochs: int = 1
    precision: str = "fp32"


class FittedModel(ZooModel):
    """A model that is computed from the images in closed form, or by an algorithm of its own.

    A subclass implements ``fit``. Training has no phases then, and gives it all images.
    """

    recipe = FittedRecipe

    def phases(self, recipe: Any) -> list[Phase]:
        return []

    def fit(self, images: Callable[[], Iterator[Tensor]], seed: int) -> None:
        raise _not_written(self, "fit(self, images, seed)")


_ANSWERING: weakref.WeakKeyDictionary[nn.Module, tuple[int, list[nn.Module]]]
_ANSWERING = weakref.WeakKeyDictionary()
"""For each model the number of calls under way, and its modules to put in train mode again."""
_LOCK = threading.Lock()


@contextlib.contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Every module of ``model`` in eval mode, and afterwards in the mode that it was in.

    Calls of several threads may overlap: the first sets the mode, the last puts it back.
    """
    with _LOCK:
        calls, training = _ANSWERING.get(model, (0, []))
        if not calls:
            training = [module for module in model.modules() if module.training]
            for module in training:
                module.training = False  # not eval(), which a module may have its own of
        _ANSWERING[model] = calls + 1, training
    try:
        yield
    finally:
        with _LOCK:
            calls, training = _ANSWERING.pop(model)
            if calls > 1:
                _ANSWERING[model] = calls - 1, training
            else:
                for module in training:
                    module.training = True


def _not_written(model: nn.Module, method: str, capability: str = "") -> NotImplementedError:
    """The error that says which method the model's author has to write, and where."""
    import inspect

    kind = type(model)
    try:
        where = f"{inspect.getsourcefile(kind)}:{inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):  # a class without a source
        where = kind.__module__
    less = f", or leave {capability!r} out of the record's capabilities" if capability else ""
    return NotImplementedError(
        f"{kind.__name__} has no {method}: write it in the class at {where}{less}"
    )


def _checked_texts(texts: Sequence[str], what: str) -> list[str]:
    if isinstance(texts, str):
        raise InputError(f"expected {what} as a list, got one text; write [{texts!r:.80}]")
    listed = list(texts) if isinstance(texts, Sequence) else []
    if not listed or not all(isinstance(text, str) and text.strip() for text in listed):
        raise InputError(
            f"expected {what} as a list of texts, none of them empty, got {texts!r:.80}"
        )
    return listed


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shape(tensor: Tensor) -> str:
    return _size(tensor.shape) or "a single number"


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
