"""Model cards are their renderings, say all that was measured, and obey no stranger's text."""

import io
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, metadata_eval_result
from huggingface_hub.repocard_data import model_index_to_eval_results
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image

import zoo
from zoo import weights
from zoo.errors import CorruptWeights, WeightsError, ZooError
from zoo.folder import read_json
from zoo.report import figures
from zoo.report.card import HUB_LICENCES, MOST_BYTES, draw, render_card, write_card
from zoo.sample import sample
from zoo.sources import weights_folder

CARDS = Path(__file__).resolve().parents[2] / "model_cards"
NAMES = zoo.list_models(pretrained=True)
DRAWN = [n for n in NAMES if {"decode", "generate"} & set(zoo.info(n).capabilities)]
PARSER = MarkdownIt("commonmark").enable("table")

every_card = pytest.mark.parametrize("name", NAMES)


def card_of(name):
    return (CARDS / f"{name}.md").read_text("utf-8")


@every_card
def test_card_is_its_rendering(name):
    folder = weights_folder(name)
    picture = f"{name}.png" if name in DRAWN else None
    assert card_of(name) == render_card(folder, name, picture), "type: make cards"
    assert read_json(folder / "metrics.json")["metrics"], "measured"


@pytest.mark.parametrize("name", DRAWN)
def test_picture_is_what_the_model_makes(name):
    path = CARDS / f"{name}.png"
    assert path.stat().st_size < MOST_BYTES
    expected, drawn = (
        np.asarray(Image.open(source).convert("L"), float)
        for source in (path, io.BytesIO(draw(weights_folder(name))))
    )
    assert drawn.shape == expected.shape
    assert drawn.std() > 30
    # Processors differ in the last bits, which can move a pixel to the next of 32 greys.
    assert np.abs(drawn - expected).mean() < 1, "type: make cards"


def test_no_card_without_weights():
    assert {path.stem for path in CARDS.glob("*.md")} == set(NAMES)
    assert {path.stem for path in CARDS.glob("*.png")} == set(DRAWN)
    assert DRAWN


@every_card
def test_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(sample()[0][0]).save("picture.png")
    (example,) = re.findall(r"^```python\n(.*?)^```", card_of(name), re.MULTILINE | re.DOTALL)
    space = {}
    exec(example, space)
    made = "generate" in zoo.info(name).capabilities
    assert space["images"].shape[0] == len(space["codes"]) == (16 if made else 1)


# -- the front matter ------------------------------------------------------------------------------


HUB = {
    "MNIST": "ylecun/mnist",
    "Fashion-MNIST": "zalando-datasets/fashion_mnist",
    "CIFAR-10": "uoft-cs/cifar10",
    "Olivetti faces": "olivetti_faces",
    "General pictures": "general",  # which is not on the Hub
}


@every_card
def test_model_index_has_every_figure(name):
    data = ModelCard(card_of(name)).data
    assert data.model_name == name
    measured = read_json(weights_folder(name) / "metrics.json")["metrics"]
    assert {(r.metric_type, r.metric_value) for r in data.eval_results} == {
        (m["name"], m["value"]) for m in measured
    }
    index = data.to_dict()["model-index"]
    assert model_index_to_eval_results(index) == (name, data.eval_results)
    for result in data.eval_results:
        assert result.task_type
        assert result.dataset_type == HUB.get(result.dataset_name)
        assert result.dataset_split == "test"
        assert result.metric_name == figures.meaning(result.metric_type).title


def test_model_index_is_as_the_hub_library_writes_it(folder):
    measure(folder, {"name": "probe", "value": 0.97})
    expected = metadata_eval_result(
        model_pretty_name="x",
        task_pretty_name=None,
        task_id="image-classification",
        metrics_pretty_name="linear probe, accuracy",
        metrics_id="probe",
        metrics_value=0.97,
        dataset_pretty_name="MNIST",
        dataset_id="ylecun/mnist",
        dataset_split="test",
        metrics_verified=None,
    )
    data = ModelCard(render_card(folder, "x")).data.to_dict()
    assert data["model-index"] == expected["model-index"]


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT; trained on mnist: CC BY-SA 3.0", ("mit", None)),
        ("CC BY-SA 4.0", ("cc-by-sa-4.0", None)),
        ("Apache-2.0", ("apache-2.0", None)),
        ("My own: ask me!", ("other", "my-own-ask-me")),
        ("\n---\nlicense: mit\n", ("other", "license-mit")),
        ("；", ("other", "unnamed")),
    ],
)
def test_licence(folder, licence, expected):
    change(folder / "config.json", licence=licence)
    data = ModelCard(render_card(folder, "x")).data
    assert (data.license, data.license_name if "license_name" in data else None) == expected
    assert data.license in {*HUB_LICENCES, "other"}


# -- the text --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped weights folder of ae.mnist."""
    return Path(shutil.copytree(weights_folder("ae.mnist"), tmp_path / "ae.mine"))


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def measure(folder, *metrics, **more):
    """Give the folder these figures, each over what every figure has."""
    base = {"dataset": "mnist", "split": "test", "protocol": "so", "samples": 10_000}
    change(folder / "metrics.json", metrics=[{**base, **m} for m in metrics], **more)


def rows(card):
    """The cells of all rows of all tables, as a reader sees them."""
    tokens = PARSER.parse(ModelCard(card).text)
    cells, found = [], []
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "td_open":
            cells.append("".join(child.content for child in following.children))
        elif token.type == "tr_close" and cells:
            found.append(cells)
            cells = []
    return found


def headings(card):
    tokens = PARSER.parse(ModelCard(card).text)
    return [b.content for a, b in pairwise(tokens) if a.type == "heading_open"]


def test_order_of_the_parts():
    assert headings(card_of("dcgan.mnist")) == [
        "dcgan.mnist", "Source", "Use", "Data and licence", "Training", "Figures", "Reconstruction",
        "Repair", "Recognition", "Grouping", "Generation", "Robustness", "Limits", "Facts",
    ]  # fmt: skip


def test_figures_with_spread_baselines_and_seed(folder):
    measure(
        folder,
        {"name": "few10", "value": 0.951234, "spread": 0.0123, "seed": 3,
         "baselines": {"pixels": 0.7, "untrained": 0.8, "house": 0.6}},
        {"name": "frechet", "value": 7.0, "baselines": {"train_set": 1.5, "pca": 40}},
        {"name": "repair_mask_0.5_psnr", "value": 20.0, "baselines": {"corrupted": 12.5}},
        {"name": "of my own", "value": 1e-9},
        left_out=[{"protocol": "nll", "reason": "not variational"}],
        versions={"torch": "2.14"},
    )  # fmt: skip
    card = render_card(folder, "x")
    assert rows(card) == [
        ["peak signal-to-noise ratio in dB after mask 0.5 ↑", "repair_mask_0.5_psnr", "20",
         "corrupted images 12.5", "so; 10,000 images, MNIST test"],
        ["ten labels a class, accuracy ↑", "few10", "0.95123 ± 0.012",
         "raw pixels 0.7, untrained network 0.8, house 0.6",
         "so; 10,000 images, MNIST test; seed 3"],
        ["Fréchet distance ↓", "frechet", "7", "PCA 40, training images 1.5",
         "so; 10,000 images, MNIST test"],
        ["of my own", "of my own", "1e-09", "-", "so; 10,000 images, MNIST test"],
    ]  # fmt: skip
    order = headings(card)
    assert order[order.index("Figures") :] == [
        "Figures", "Repair", "Recognition", "Generation", "Other", "Limits", "Facts",
    ]  # fmt: skip
    assert "- nll: not variational" in card
    assert "Measured with torch 2.14." in card
    assert "Every figure is better than the baselines beside it" in card


@pytest.mark.parametrize(
    ("metric", "lost"),
    [
        ({"name": "probe", "value": 0.9, "baselines": {"pixels": 0.89}}, False),
        ({"name": "probe", "value": 0.9, "baselines": {"pixels": 0.9}}, True),
        ({"name": "probe", "value": 0.9, "baselines": {"pixels": 0.91}}, True),
        ({"name": "probe", "value": 0.9, "spread": 0.02, "baselines": {"pixels": 0.89}}, True),
        ({"name": "sse", "value": 14.0, "baselines": {"pca": 13.87}}, True),
        ({"name": "sse", "value": 2.0, "baselines": {"pca": 13.87}}, False),
        ({"name": "frechet", "value": 7.0, "baselines": {"train_set": 1.5, "pca": 40}}, False),
        ({"name": "frechet", "value": 70.0, "baselines": {"train_set": 1.5, "pca": 40}}, True),
        ({"name": "probe", "value": 1e999, "baselines": {"pixels": 0.5}}, True),
    ],
)
def test_what_does_not_beat_a_baseline_is_said(folder, metric, lost):
    measure(folder, metric)
    card = render_card(folder, "x")
    assert ("**Not better than a baseline**" in card) == lost
    assert ("Every figure is better" in card) == (not lost)


def test_what_was_measured_beside_is_a_baseline(folder):
    measure(
        folder,
        {"name": "sse", "value": 5.4},
        {"name": "sse_of_mean_image", "value": 52.9},
        {"name": "sse_ablated", "value": 5.3},
    )
    card = render_card(folder, "x")
    assert rows(card)[0][3] == "mean training image 52.9, another recipe 5.3"
    assert "`sse` 5.4 against 5.3 of another recipe." in card


def test_nothing_measured(folder):
    (folder / "metrics.json").unlink()
    card = render_card(folder, "x")
    assert "Nothing was measured yet" in card
    assert not {"model-index", "model_name"} & set(ModelCard(card).data.to_dict())


def test_training_is_told_whatever_it_holds(folder):
    change(folder / "config.json", training={"seconds": 3600, "recipe": {"lr": 0.1}, "by": "me|x"})
    card = render_card(folder, "x")
    for part in ("- time: 60 minutes", "- by: me\\|x", "- recipe: `lr = 0.1`"):
        assert part in card


@pytest.mark.parametrize("recipe", [None, "labels", {}, {"labels": "true"}, {"labels": False}])
def test_learnt_without_labels(folder, recipe):
    change(folder / "config.json", training={"recipe": recipe})
    card = ModelCard(render_card(folder, "x"))
    assert "It has learnt from MNIST without labels." in card.text
    assert "unsupervised" in card.data.tags


def test_learnt_with_labels(folder):
    change(folder / "config.json", training={"recipe": {"labels": True}})
    card = ModelCard(render_card(folder, "x"))
    assert "It has learnt from MNIST **with their labels**: it is not unsupervised." in card.text
    assert card.data.tags == ["latentzoo", "autoencoder", "ae"]


# -- strangers -------------------------------------------------------------------------------------

HOSTILE = "x\n---\n# owned | a | b\n\n[link](http://evil) <script>alert(1)</script>\x1b[31m\ud800"


def test_hostile_texts_change_nothing_but_themselves(folder):
    calm = render_card(folder, "x")
    change(
        folder / "config.json",
        licence=HOSTILE,
        dataset=HOSTILE,
        plugin=HOSTILE,
        config={**read_json(folder / "config.json")["config"], HOSTILE: HOSTILE},
        training={HOSTILE: HOSTILE, "recipe": {HOSTILE: HOSTILE}},
    )
    names = ("name", "dataset", "split", "protocol")
    measure(
        folder,
        {**dict.fromkeys(names, HOSTILE), "value": 1, "baselines": {HOSTILE: 1}},
        left_out=[HOSTILE],
        versions={HOSTILE: HOSTILE},
    )
    card = render_card(folder, HOSTILE)
    assert all(c.isprintable() or c == "\n" for c in card)
    parsed = ModelCard(card)
    assert set(parsed.data.to_dict()) == {
        "library_name", "license", "license_name", "pipeline_tag", "tags", "model-index",
    }  # fmt: skip
    assert len(parsed.data.eval_results) == 1
    tokens = PARSER.parse(parsed.text)
    inline = {child.type for token in tokens for child in token.children or ()}
    assert not inline & {"link_open", "image", "html_inline"}
    assert not any(token.type == "html_block" for token in tokens)
    assert [len(row) for row in rows(card)] == [5]
    expected = [h for h in headings(calm) if h.lower() not in figures.KINDS]
    assert [h for h in headings(card) if h != "Other"][1:] == expected[1:]
    fence = parsed.text[parsed.text.index("```python") :]
    assert fence.index("```", 3) > fence.index("zoo.load(")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
FILES = {
    "config.json": (
        *("training", "licence", "dataset", "config", "preprocessing", "parameters", "plugin"),
        *("size", "sha256", "model", "api_version"),
    ),
    "metrics.json": ("metrics", "left_out", "versions"),
}


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_json_gives_a_card_or_our_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any") / "weights"
    shutil.copytree(weights_folder("ae.mnist"), folder)
    file = data.draw(st.sampled_from(sorted(FILES)))
    value = data.draw(json_values)
    if data.draw(st.booleans()) and file == "metrics.json":
        (metric, *_) = read_json(folder / file)["metrics"]
        key = data.draw(st.sampled_from([*metric, "spread", "baselines"]))
        change(folder / file, metrics=[{**metric, key: value}])
    else:
        change(folder / file, **{data.draw(st.sampled_from(FILES[file])): value})
    try:
        card = render_card(folder, "x")
    except ZooError:
        return
    parsed = ModelCard(card)
    assert parsed.data.library_name == "latentzoo"
    assert all(c.isprintable() or c == "\n" for c in card)


def test_damaged_vectors(folder):
    (folder / "vectors.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CorruptWeights, match="does not hold images"):
        write_card(folder)
    assert not (folder / "README.md").exists()


# -- writing ---------------------------------------------------------------------------------------


def test_write_card_into_the_folder(folder):
    assert write_card(folder) == folder / "README.md"
    text = (folder / "README.md").read_text("utf-8")
    assert "# local-dir:ae.mine\n" in text
    assert "](README.png)" in text
    assert Image.open(folder / "README.png").height == 2 * (28 + 2 + 28 + 2 + 2)
    zoo.load(f"local-dir:{folder}")  # neither is in the way


def test_card_of_a_run_has_the_name_of_the_run(folder):
    run = folder.parent / "my run"
    run.mkdir()
    folder.rename(run / "weights")
    write_card(run / "weights")
    assert 'zoo.load("local-dir:my run")' in (run / "weights" / "README.md").read_text("utf-8")


def test_picture_of_large_colours_is_small(tmp_path, monkeypatch):
    import torch

    noise = torch.Generator().manual_seed(0)
    model = zoo.create("ae", channels=3, size=100)
    images = torch.rand(4, *model.image_shape, generator=noise)
    facts = {"dataset": "mine", "licence": "of their owner"}
    weights.save(model, tmp_path / "w", images=images, plugin="latentzoo-ae", facts=facts)
    # What compresses worst; an untrained network makes grey.
    monkeypatch.setattr(
        type(model), "generate", lambda self, n, seed: torch.rand(n, *self.image_shape)
    )
    card = write_card(tmp_path / "w", tmp_path / "card.md", "mine")
    assert "100 x 100 pixels in colour" in card.read_text("utf-8")
    assert (tmp_path / "card.png").stat().st_size < MOST_BYTES
    red, green, _ = np.moveaxis(np.asarray(Image.open(tmp_path / "card.png").convert("RGB")), 2, 0)
    assert np.abs(red.astype(float) - green).mean() > 10


def test_command(tmp_path):
    from click.testing import CliRunner

    from zoo.cli import main

    def run(*arguments):
        return CliRunner().invoke(main, ["card", *map(str, arguments)])

    assert run("ae.mnist").stdout == render_card(weights_folder("ae.mnist"), "ae.mnist")
    assert run("ae.mnist", "--out", tmp_path).exit_code == 0
    assert (tmp_path / "ae.mnist.md").read_text("utf-8") == card_of("ae.mnist")
    assert run("ae.mnist", "--out", tmp_path / "new" / "A.md").exit_code == 0
    assert "](A.png)" in (tmp_path / "new" / "A.md").read_text("utf-8")
    assert (tmp_path / "new" / "A.png").exists()
    for arguments in ([], ["--out", "card.md"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "name a model, or with --out a folder" in result.stderr


def test_unknown_model_is_refused(folder):
    change(folder / "config.json", model="nonsense")
    with pytest.raises(WeightsError, match="nonsense"):
        render_card(folder, "x")
