"""Model cards, written from a weights folder's own config.json and metrics.json, never by hand."""

from pathlib import Path

from zoo.api import folder_config
from zoo.files import write_atomically
from zoo.registry import registry
from zoo.spec import ModelSpec, read_json


def render_card(folder: Path, name: str) -> str:
    """The card, Markdown with the Hub's front matter, of the weights in ``folder``.

    Args:
        name: what its examples load, such as ``deep_ae.mnist``.

    Raises:
        WeightsError: a file of the folder is missing or not valid.
        UnknownModel: no plugin has this model.
    """
    config = folder_config(folder)
    _, spec = registry().find(config["model"])
    metrics = []
    if (folder / "metrics.json").exists():
        metrics = read_json(folder / "metrics.json")["metrics"]
    return _TEMPLATE.format(
        name=name,
        model=spec.name,
        family=spec.family,
        plugin=config["plugin"],
        dataset=config["dataset"],
        summary=spec.summary,
        paper=spec.paper,
        licence=config["licence"],
        parameters=f"{config['parameters']:,}",
        size=f"{config['size'] / 1e6:.1f}",
        sha256=config["sha256"],
        image=" x ".join(map(str, _shape(config, spec))),
        settings=", ".join(f"{k} = {v}" for k, v in config["config"].items()),
        figures=_figures(metrics),
        training=_training(config.get("training", {})),
    )


def write_card(folder: Path, path: Path | None = None, name: str | None = None) -> Path:
    """Write the card of ``folder``, as its README.md unless ``path`` says otherwise."""
    path = path or folder / "README.md"
    write_atomically(path, render_card(folder, name or f"local-dir:{folder.name}").encode())
    return path


def _shape(config: dict, spec: ModelSpec) -> tuple[int, ...]:
    p = config.get("preprocessing")
    return (p["channels"], p["height"], p["width"]) if p else spec.image_shape


def _figures(metrics: list[dict]) -> str:
    if not metrics:
        return "Nothing was measured yet: `zoo evaluate` does."
    rows = ["| figure | value | protocol |", "|---|---|---|"]
    rows += [
        f"| {m['name']} | {m['value']:.5g} | {m['protocol']}; {m['samples']:,} images of the "
        f"{m['split']} part of {m['dataset']} |"
        for m in metrics
    ]
    return "\n".join(rows)


def _training(training: dict) -> str:
    if not training:
        return "Not recorded."
    minutes = training["seconds"] / 60
    recipe = ", ".join(f"{k} = {v}" for k, v in training["recipe"].items())
    return (
        f"{training['images']:,} images; {training['validation']:,} more were held out for "
        f"validation. {minutes:.0f} minutes on {training['threads']} {training['device']} "
        f"thread{'s' if training['threads'] > 1 else ''}, seed {training['seed']}, "
        f"latentzoo {training['latentzoo']}, torch {training['torch']}.\n\nRecipe: {recipe}."
    )


_TEMPLATE = """\
---
library_name: latentzoo
license: other
tags:
- latentzoo
- {family}
- {model}
- unsupervised
datasets:
- {dataset}
---

# {name}

{summary}. Trained on {dataset} without its labels.

Source: {paper}.

## Use

```python
import zoo  # pip install {plugin}

model = zoo.load("{name}")
images = model.generate(16, seed=0)  # 16 x {image}, in [0, 1]
codes = model.encode(images)
```

`model.preprocess("picture.png")` makes an image for it out of any picture; `decode`,
`reconstruct`, `features` and `score` complete the calls.

## Figures

{figures}

The test part was used for this table alone.

## Training

{training}

## Facts

- {parameters} parameters, {size} MB, sha256 `{sha256}`
- settings: {settings}
- licence: {licence}

## Limits

It has seen {dataset} and nothing else: pictures of other things come back as the nearest thing
that it knows, and `score` says how far that is. Dark background and light object are expected.
"""
