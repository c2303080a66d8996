"""Model cards, written from a weights folder's own files and the model's record, never by hand.

A card is Markdown with the front matter that the Hugging Face Hub reads: licence, data, and every
figure as a ``model-index``. Its pictures are beside it in one PNG.
"""

import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from zoo.api import opened
from zoo.boundary import typed
from zoo.errors import CorruptWeights, InputError
from zoo.files import openable, path_text, refuse_placeholder, write_atomically
from zoo.folder import CARD, METRICS, read_json, weights_record
from zoo.installing import install_anywhere
from zoo.names import FolderName
from zoo.report import figures
from zoo.report.figures import BASELINES, BOUNDS, DATASETS, KINDS, NEITHER, meaning, number
from zoo.report.markdown import code, line, table, text
from zoo.sources import locate
from zoo.spec import Metric, ModelSpec, Weights

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

PAIRS, GENERATED = 4, 24
"""How many originals above their reconstructions, and how many generated images, are shown."""

MOST_BYTES = 40_000
"""The size limit of the PNG: a repository keeps one for each set of weights and each version."""


def render_card(folder: Path, name: str, picture: str | None = None) -> str:
    """The card, Markdown with the Hub's front matter, of the weights in ``folder``.

    Args:
        folder: a weights folder; nothing in it is trusted.
        name: what its examples load, such as ``deep_ae.mnist``.
        picture: the file beside the card that :func:`draw` made, if it did.

    Raises:
        ZooError: a file of the folder is missing or not valid, or no plugin has its model.
    """
    from huggingface_hub import ModelCard

    located = locate(FolderName(f"local-dir:{folder}", str(folder)))
    spec, config = located.spec, located.config.facts
    weights = weights_record(folder, "card", located.config)
    training = config.get("training")
    parts = (
        f"# {text(_title(name))}",
        f"{text(spec.summary)}. Family: {text(spec.family)}. It has learnt from "
        f"{_dataset(weights.dataset)} {_WITH_LABELS if weights.labels else 'without labels'}.",
        _pictures(picture, _shows(folder, spec, weights)),
        f"## Source\n\n{text(spec.paper) or 'None is recorded.'}",
        f"## Use\n\n{_example(name, spec, weights, config)}",
        f"## Data and licence\n\n{_data(weights, training)}",
        f"## Training\n\n{_training(training)}",
        f"## Figures\n\n{_figures(folder, weights.metrics)}",
        f"## Limits\n\n{_limits(spec, weights)}",
        f"## Facts\n\n{_facts(spec, weights, config)}",
    )
    front = _front_matter(name, spec, weights).to_yaml()
    body = "\n\n".join(part for part in parts if part)
    return str(ModelCard(f"---\n{front}\n---\n\n{body}\n"))


@typed()
def write_card(folder: Path, path: Path | None = None, name: str | None = None) -> Path:
    """Write the card of ``folder`` and, beside it, its picture.

    Args:
        folder: a weights folder.
        path: the file to write; ``README.md`` in the folder by default. The picture has the same
            name with the ending ``.png``.
        name: what the card's examples load; the folder itself by default.

    Raises: as :func:`render_card` and :func:`zoo.load`, and InputError when a file that is no card
    of the zoo's, or a picture of none, is in the way.
    """
    path = path or folder / CARD
    _refuse_to_overwrite(path)
    if name is None:
        run = folder.resolve().parent if folder.name == "weights" else folder.resolve()
        name = f"local-dir:{path_text(run.name)}"
    png = draw(folder)
    picture = path.with_suffix(".png")
    card = render_card(folder, name, picture.name if png else None)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, path_text(card).encode())
    if png:  # after the card, which says whose the picture is
        write_atomically(picture, png)
    return path


def is_card(path: Path) -> bool:
    """Whether the file is there and the zoo wrote it as a card."""
    try:
        front = path.read_text("utf-8").split("\n---\n")[0]
    except (OSError, ValueError):
        return False
    return front.startswith("---\n") and "\nlibrary_name: latentzoo\n" in f"{front}\n"


def _refuse_to_overwrite(path: Path) -> None:
    """Raises: InputError: a file of the user's is where the card or its picture would be."""
    picture, ours = path.with_suffix(".png"), is_card(path)
    if os.path.lexists(path) and not ours:
        raise InputError(
            f"{path} is there already and is not a card that the zoo wrote, so nothing was "
            "written. Choose another --out, or move it away"
        )
    if os.path.lexists(picture) and not (ours and f"({quote(picture.name)})" in path.read_text()):
        raise InputError(
            f"{picture} is there already and is not a card's picture, so nothing was written. "
            "Choose another --out, or move it away"
        )


# -- the picture ---------------------------------------------------------------------------------


def _shows(folder: Path, spec: ModelSpec, weights: Weights) -> tuple[bool, bool]:
    """Whether the picture has reconstructions, and whether it has generated images."""
    known = weights.dataset == "fashion_mnist" or (folder / "vectors.safetensors").is_file()
    return "reconstruct" in spec.capabilities and known, "generate" in spec.capabilities


def draw(folder: Path) -> bytes | None:
    """A PNG of what the model in ``folder`` does, or None when it can neither rebuild nor generate.

    Left, originals above their reconstructions; right, two rows of generated images.

    Raises: as :func:`zoo.load`, and CorruptWeights when vectors.safetensors cannot be read.
    """
    import torch

    located = locate(FolderName(f"local-dir:{folder}", str(folder)))
    weights = weights_record(folder, "card", located.config)
    model = opened(located)
    pairs, generated = _shows(folder, located.spec, weights)
    sheets = []
    if pairs:
        images = _originals(folder, weights.dataset, model.preprocess)
        sheets.append((torch.cat([images, model.reconstruct(images).cpu()]), len(images)))
    if generated:
        sheets.append((model.generate(GENERATED, seed=0).cpu(), GENERATED // 2))
    if not sheets:
        return None
    for side in (64, 48, 32):
        png = _png([_sheet(images, columns, side) for images, columns in sheets])
        if len(png) <= MOST_BYTES:
            break
    return png


def _originals(folder: Path, dataset: str, preprocess: Any) -> "Tensor":
    """A few images for the model: of the zoo's sample if that suits, else of its test vectors."""
    if dataset == "fashion_mnist":
        from zoo.sample import sample

        images: Tensor = preprocess(sample()[0][:PAIRS])
        return images
    return vector_images(folder)[:PAIRS]


def vector_images(folder: Path) -> "Tensor":
    """The test images in vectors.safetensors, N x C x H x W.

    Raises: CorruptWeights: it cannot be read.
    """
    import safetensors

    path = folder / "vectors.safetensors"
    refuse_placeholder(path, CorruptWeights)
    try:
        with openable(path) as name, safetensors.safe_open(name, "pt") as file:
            images: Tensor = file.get_tensor("images")
            return images
    except (safetensors.SafetensorError, OSError) as error:
        raise CorruptWeights(f"{path} does not hold images: {error}") from None


def _sheet(images: "Tensor", columns: int, side: int) -> "Image.Image":
    """A grid of ``images``, each at most ``side`` pixels wide and high and small ones doubled."""
    from torch.nn import functional as F

    from zoo.pictures import grid

    longest = max(images.shape[-2:])
    if longest > side:
        images = F.interpolate(images, scale_factor=side / longest, mode="area")
    return grid(images, columns=columns, scale=2 if longest <= 32 else 1)


def _png(sheets: "list[Image.Image]") -> bytes:
    """``sheets`` side by side, in 32 greys or colours."""
    from PIL import Image

    gap = 16
    width = sum(sheet.width for sheet in sheets) + gap * (len(sheets) - 1)
    whole = Image.new("RGB", (width, max(sheet.height for sheet in sheets)), "white")
    left = 0
    for sheet in sheets:
        whole.paste(sheet, (left, 0))
        left += sheet.width + gap
    buffer = io.BytesIO()
    whole.quantize(32).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# -- the front matter ----------------------------------------------------------------------------


def _front_matter(name: str, spec: ModelSpec, weights: Weights) -> Any:
    from huggingface_hub import ModelCardData

    hub_data = DATASETS.get(weights.dataset, (None, None))[1]
    results = list(_results(weights.metrics))
    licence: dict[str, Any] = _licence(weights.licence)
    return ModelCardData(
        library_name="latentzoo",
        **licence,
        pipeline_tag="image-feature-extraction" if "features" in spec.capabilities else None,
        tags=[
            *("latentzoo", line(spec.family), spec.name),
            *(() if weights.labels else ("unsupervised",)),
        ],
        datasets=[hub_data] if hub_data else None,
        model_name=line(_title(name)) if results else None,
        eval_results=results or None,
    )


def _results(metrics: tuple[Metric, ...]) -> Iterator[Any]:
    """Each figure as the Hub's model-index has it; one that is not finite cannot be in it."""
    from huggingface_hub import EvalResult

    for m in figures.ordered(metrics):
        if not figures.finite(m.value):
            continue
        title, hub_name, *_ = DATASETS.get(m.dataset, (m.dataset, None))
        yield EvalResult(
            task_type=_TASKS.get(meaning(m.name).kind, "image-feature-extraction"),
            dataset_type=hub_name or line(m.dataset),
            dataset_name=line(title),
            dataset_split=line(m.split),
            metric_type=line(m.name),
            metric_name=line(meaning(m.name).title),
            metric_value=m.value,
        )


_TASKS = {
    "reconstruction": "image-to-image",
    "repair": "image-to-image",
    "recognition": "image-classification",
    "robustness": "image-classification",
    "generation": "unconditional-image-generation",
    "likelihood": "unconditional-image-generation",
}
"""The Hub's name for the task of a kind of figures."""


def _licence(licence: str) -> dict[str, str]:
    """The Hub's identifier of a licence, or ``other`` with a name.

    ``"MIT; trained on mnist: CC BY-SA 3.0"`` is MIT: what follows the semicolon is of the data.
    """
    own = line(licence).partition(";")[0].strip()
    slug = re.sub(r"[^a-z0-9.+]+", "-", own.lower()).strip("-.") or "unnamed"
    return {"license": slug} if slug in HUB_LICENCES else {"license": "other", "license_name": slug}


HUB_LICENCES = frozenset((
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0",
    "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0",
    "cdla-sharing-1.0", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "gfdl", "gpl",
    "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lppl-1.3c", "mit", "mpl-2.0",
    "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1", "openrail", "openrail++", "osl-3.0", "pddl",
    "postgresql", "unlicense", "wtfpl", "zlib",
))  # fmt: skip
"""Identifiers that the Hub knows, except those of single models."""


# -- the text ------------------------------------------------------------------------------------


_WITH_LABELS = "**with their labels**: it is not unsupervised"


def _title(name: str) -> str:
    return name.removeprefix("hf-hub:")


def _dataset(name: str) -> str:
    return DATASETS[name][0] if name in DATASETS else code(name)


def _pictures(picture: str | None, shows: tuple[bool, bool]) -> str:
    if picture is None:
        return ""
    pairs, generated = shows
    captions = [f"{PAIRS} images above what the model rebuilds of them"] * pairs
    captions += [f"{GENERATED} images that it made up (seed 0)"] * generated
    caption = ", and ".join(captions)
    return f"![{caption}]({quote(picture)})\n\nShown: {caption}."


def _example(name: str, spec: ModelSpec, weights: Weights, config: Mapping[str, Any]) -> str:
    plugin = config["plugin"]
    install = f"  # {install_anywhere(plugin)}" if re.fullmatch(r"[\w.-]+", plugin) else ""
    image = " x ".join(map(str, _image_shape(spec, weights)))
    lines = [
        f"import zoo{install}",
        "",
        f"model = zoo.load({json.dumps(line(name), ensure_ascii=False)})",
    ]
    if "generate" in spec.capabilities:
        lines.append(f"images = model.generate(16, seed=0)  # 16 x {image}, in [0, 1]")
    else:
        lines.append(f'images = model.preprocess("picture.png")  # 1 x {image}, in [0, 1]')
    lines += [
        f"{result} = model.{call}(images)"
        for call, result in (("encode", "codes"), ("features", "features"), ("score", "scores"))
        if call in spec.capabilities
    ]
    calls = ", ".join(f"`{call}`" for call in spec.capabilities)
    return (
        "```python\n" + "\n".join(lines) + f"\n```\n\n{_pinning(name)}"
        f'`model.preprocess("picture.png")` makes an image for it out of any picture. Its calls: '
        f"{calls}."
    )


def _pinning(name: str) -> str:
    """How to pin the commit of a repository on the Hub, which its card cannot know."""
    if not name.startswith("hf-hub:"):
        return ""
    repo = name.removeprefix("hf-hub:").partition("@")[0]
    return (
        f"Better pin the commit, which {code(f'zoo pull {name}')} names: "
        f"{code(f'hf-hub:{repo}@COMMIT')} is the same bytes for ever, and once it was fetched "
        "needs no network.\n\n"
    )


def _image_shape(spec: ModelSpec, weights: Weights) -> tuple[int, ...]:
    p = weights.preprocessing
    return (p.channels, p.height, p.width) if p else spec.image_shape


def _data(weights: Weights, training: Any) -> str:
    _, _, shows = DATASETS.get(weights.dataset, ("", None, ""))
    seen = training if isinstance(training, dict) else {}
    data = _dataset(weights.dataset) + (f" ({shows})" if shows else "")
    if "images" in seen:
        data += f", {_value(seen['images'])} images"
    if seen.get("validation"):
        data += f"; {_value(seen['validation'])} more were held out for validation"
    return f"- data: {data}\n- licence: {text(weights.licence)}"


def _training(training: Any) -> str:
    """The facts of the training, which are not checked: any key, any value."""
    if not isinstance(training, dict) or not training:
        return "Not recorded."
    said_elsewhere = ("images", "validation", "recipe", "seconds")
    facts = [f"- {text(k)}: {_value(v)}" for k, v in training.items() if k not in said_elsewhere]
    time = f"- time: {_duration(training.get('seconds'))}"
    return "\n".join((time, *facts, f"- recipe: {_settings(training.get('recipe'))}"))


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, int | float) or not figures.finite(seconds):
        return "not recorded"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


def _value(value: Any) -> str:
    return f"{value:,}" if type(value) is int else text(value)


def _settings(settings: Any) -> str:
    if not isinstance(settings, Mapping) or not settings:
        return "none"
    return ", ".join(code(f"{key} = {value}") for key, value in settings.items())


def _figures(folder: Path, metrics: tuple[Metric, ...]) -> str:
    if not metrics:
        return "Nothing was measured yet: `zoo evaluate` does."
    bounded = any(BOUNDS & figures.baselines(m, metrics).keys() for m in metrics)
    parts = [f"{_FIGURES} {_BOUND}" if bounded else _FIGURES]
    for kind in KINDS:
        rows = list(_rows([m for m in metrics if meaning(m.name).kind == kind], metrics))
        if rows:
            header = ("figure", "name", "value", "baselines", "how it was measured")
            parts.append(f"### {kind.capitalize()}\n\n{table(header, rows)}")
    parts.append(_beaten(metrics))
    measured = read_json(folder / METRICS)
    if left_out := measured.get("left_out"):
        reasons = left_out if isinstance(left_out, list) else [left_out]
        parts.append("Not measured:\n\n" + "\n".join(f"- {_reason(r)}" for r in reasons))
    if isinstance(versions := measured.get("versions"), dict) and versions:
        parts.append("Measured with " + ", ".join(f"{text(k)} {text(v)}" for k, v in
                                                  versions.items()) + ".")  # fmt: skip
    return "\n\n".join(parts)


_FIGURES = (
    "An arrow says which direction is better; ± is the standard deviation over seeds or draws. "
    "*Baselines* are the same measure of what a model has to beat: of something that has learnt "
    "nothing of these images, or has learnt them in a simpler way."
)
_BOUND = "*Training images* are not a baseline: they show how near to the test images one can come."

_ARROWS = {figures.LOWER: " ↓", figures.HIGHER: " ↑", NEITHER: ""}


def _rows(chosen: list[Metric], metrics: tuple[Metric, ...]) -> Iterator[tuple[str, ...]]:
    before = None
    for m in chosen:
        protocol = (
            f"{text(m.protocol)}; {m.samples:,} images, {_dataset(m.dataset)} {text(m.split)}"
            + (f"; seed {text(m.seed)}" if m.seed is not None else "")
        )
        beside = figures.baselines(m, metrics)
        yield (
            text(meaning(m.name).title) + _ARROWS[meaning(m.name).better],
            code(m.name),
            number(m.value) + (f" ± {number(m.spread, '.2g')}" if m.spread else ""),
            ", ".join(f"{_baseline(f)} {number(v)}" for f, v in beside.items()) or "-",
            "as above" if protocol == before else protocol,
        )
        before = protocol


def _baseline(name: str) -> str:
    return BASELINES[name] if name in BASELINES else text(name)


def _beaten(metrics: tuple[Metric, ...]) -> str:
    """A sentence on the figures that are no better than a baseline of theirs, computed."""
    pairs = [
        (m, baseline, value)
        for m in figures.ordered(metrics)
        for baseline, value in figures.baselines(m, metrics).items()
        if baseline not in BOUNDS and meaning(m.name).better != NEITHER
    ]
    if not pairs:
        return "No baseline was measured beside these figures."
    lost = [
        f"{code(m.name)} {number(m.value)} against {number(value)} of {_baseline(baseline)}"
        for m, baseline, value in pairs
        if not figures.beats(m, value)
    ]
    if not lost:
        return "Every figure is better than the baselines beside it, by more than its spread."
    return (
        "**Not better than a baseline**, by more than the figure's spread: " + "; ".join(lost) + "."
    )


def _reason(reason: Any) -> str:
    values = reason.values() if isinstance(reason, Mapping) else [reason]
    return ": ".join(text(value) for value in values)


def _limits(spec: ModelSpec, weights: Weights) -> str:
    channels, height, width = _image_shape(spec, weights)
    shows = DATASETS[weights.dataset][2] if weights.dataset in DATASETS else ""
    score = ", and `score` says how far that is" if "score" in spec.capabilities else ""
    missing = [call for call in ("encode", "decode", "generate") if call not in spec.capabilities]
    lines = [
        f"- It has seen {_dataset(weights.dataset)}{f' ({shows})' if shows else ''} and nothing "
        f"else: pictures of other things come back as the nearest thing that it knows{score}.",
        f"- Pictures become {height} x {width} pixels in {'grey' if channels == 1 else 'colour'}; "
        "what is finer is lost.",
    ]
    if missing:
        lines.append(f"- It cannot {', '.join(missing)}.")
    return "\n".join(lines)


def _facts(spec: ModelSpec, weights: Weights, config: Mapping[str, Any]) -> str:
    from zoo.weights import dtypes_said

    return "\n".join((
        f"- model {code(spec.name)} of the plugin {code(config['plugin'])}",
        f"- {weights.parameters:,} parameters, {config['size']:,} bytes",
        f"- sha256 {code(weights.sha256)}",
        f"- config: {_settings(weights.config)}",
        *((f"- {text(stored)}",) if (stored := dtypes_said(config)) else ()),
    ))  # fmt: skip
