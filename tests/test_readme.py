"""What README says is run, and its figures are those that were measured."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.registry import registry
from zoo.report.figures import BASELINES, DATASETS, LOWER, meaning

TREE = Path(__file__).resolve().parents[1]
README = (TREE / "README.md").read_text("utf-8")


def page(name):
    return (TREE / "docs" / f"{name}.md").read_text("utf-8")


def blocks(text, language):
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [text for kind, text in found if kind == language]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the pictures that README talks of."""
    from zoo.sample import sample

    (tmp_path / "pictures").mkdir()
    for i, pixels in enumerate(sample()[0][:40]):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    shutil.copy(tmp_path / "pictures" / "1.png", tmp_path / "shirt.png")
    Image.open(tmp_path / "pictures" / "0.png").save(tmp_path / "boot.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ask(preloaded, folder):
    """``ask(text, *show)`` runs ``text`` in a process of its own, and returns these expressions."""

    def ask(text, *show):
        text += f"\nimport json\nprint(json.dumps([{', '.join(show)}]))"
        done = preloaded.run("-c", text, cwd=folder)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return ask


def test_python(ask):
    text = next(b for b in blocks(README, "python") if "zoo.load" in b)
    shapes = [f"list({name}.shape)" for name in ("images", "codes", "rebuilt", "scores", "made")]
    error = "[float(((a - images) ** 2).mean()) for a in (rebuilt, images.mean((2, 3), True))]"
    same = "bool((made == model.generate(16, seed=0)).all())"
    other = "bool((made == model.generate(16, seed=1)).all())"
    *shapes, rebuilt, same, other, features = ask(
        text, *shapes, error, same, other, "len(features)"
    )
    pictures, picture = [2, 1, 28, 28], [16, 1, 28, 28]
    assert shapes == [pictures, [2, 30], pictures, [2], picture]
    assert features == 2
    assert rebuilt[0] < rebuilt[1] / 4, "what is rebuilt is near its original"
    assert (same, other) == (True, False), "what is made follows the seed"


def test_digits_that_are_asked_for(folder):
    from zoo.evaluation.classifier import load_classifier

    (text,) = blocks(page("models"), "python")
    assert "_conditional" in text
    space = {}
    torch.manual_seed(0)
    exec(text, space)
    classifier = load_classifier("mnist")
    seen = classifier.classify(classifier.features(space["digits"]))
    assert (seen == torch.arange(10)).sum() >= 9


@pytest.mark.slow
@pytest.mark.parametrize("text", [README, page("sharing")], ids=["README", "sharing"])
def test_torch_hub(ask, text):
    text = next(b for b in blocks(text, "python") if "torch.hub.load" in b)
    assert 'tree = "."' in text
    text = text.replace('tree = "."', f"tree = {str(TREE)!r}")
    shape, spread = ask(text, "list(clothes.shape)", "float(clothes.std(0).mean())")
    assert shape == [64, 1, 28, 28]
    assert spread > 0.1, "they are not all the same"


@pytest.fixture
def shell(preloaded, folder):
    """``shell(text)``: what these commands print."""

    def shell(text):
        done = preloaded.block("sh", text, folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return shell


def tiles(path, columns):
    """The images of a grid that the zoo drew: rows x columns x 28 x 28, in [0, 1]."""
    pixels = np.asarray(Image.open(path), float)[::3, ::3] / 255  # a pixel is drawn as 3 x 3
    assert pixels.shape[1] == columns * 30 + 2, "of 28 pixels, with 2 between them"
    rows = [pixels[top : top + 28] for top in range(2, len(pixels) - 2, 30)]
    return np.array([[row[:, 2 + 30 * i : 30 + 30 * i] for i in range(columns)] for row in rows])


@pytest.mark.slow
def test_shell(folder, shell):
    commands = [b for b in blocks(README, "sh") if b.startswith("zoo ")]
    assert len(commands) == 2
    said = "".join(map(shell, commands))
    assert "stacked_gan" in said, "zoo list"
    assert "deep_ae.olivetti" in said, "zoo info deep_ae"

    with np.load(folder / "codes.npz") as codes:
        model = zoo.load("deep_ae.fashion_mnist")
        images = model.preprocess([folder / path for path in codes["paths"]])
        np.testing.assert_allclose(codes["codes"], model.encode(images), atol=1e-4)
        assert codes["codes"].shape == (40, 30)

    pairs = tiles(folder / "rebuilt.png", columns=10)
    originals, rebuilt = pairs[::2], pairs[1::2]
    mean = originals.mean((2, 3), keepdims=True)
    assert pairs.shape == (8, 10, 28, 28)
    assert ((rebuilt - originals) ** 2).mean() < ((mean - originals) ** 2).mean() / 4
    assert ((rebuilt - originals) ** 2).mean() > 0

    digits = tiles(folder / "digits.png", columns=8)
    assert digits.shape == (8, 8, 28, 28)
    for seed, near in ((0, True), (1, False)):
        made = zoo.load("dcgan.mnist").generate(64, seed=seed)[:, 0].reshape(8, 8, 28, 28)
        assert (abs(digits - made.numpy()).max() < 0.01) == near, seed

    walk = tiles(folder / "walk.png", columns=10)[0]
    steps = ((walk[1:] - walk[:-1]) ** 2).mean((1, 2))
    assert steps.max() < ((walk[-1] - walk[0]) ** 2).mean(), "from the one to the other by little"
    ends = model.preprocess([folder / "shirt.png", folder / "boot.jpg"])[:, 0].numpy()
    for at, end in ((0, ends[0]), (-1, ends[1])):
        assert ((walk[at] - end) ** 2).mean() < ((walk[-1 - at] - end) ** 2).mean(), at

    own = zoo.load(f"local-dir:{folder / 'runs' / 'mine'}")
    mine = own.generate(64, seed=0)[:, 0].reshape(8, 8, 28, 28).numpy()
    assert type(own).__name__ == "ConvAE"
    assert abs(tiles(folder / "mine.png", columns=8) - mine).max() < 0.01


@pytest.mark.slow
def test_tour(folder, ask, shell):
    from zoo.sample import sample

    text = "\n".join(blocks(page("tutorial"), "python"))
    names, nearest, strangest, error, spread, between = ask(
        text,
        "[path.stem for path in paths]",
        "[path.stem for path in nearest]",
        "strangest",
        "float(error)",
        "float(images.var())",
        "[float((halfway - images[i]).square().mean()) for i in (0, 1)]",
    )
    kinds = sample()[1]
    same = [kinds[int(a)] == kinds[int(b)] for a, b in zip(names, nearest, strict=True)]
    assert sum(same) / len(same) > 0.5, "most neighbours are of one kind"
    assert strangest == len(names) == 40, "the noise"
    assert error < spread / 4
    assert min(between) > error, "neither of the two"
    (commands,) = blocks(page("tutorial"), "sh")
    said = shell(commands)
    assert "psnr" in said
    assert "peak signal-to-noise ratio" in (folder / "runs/tour/weights/README.md").read_text()


@pytest.mark.slow
def test_training_guide(folder, shell):
    text = (TREE / "docs" / "training.md").read_text("utf-8")
    (folder / "recipe.toml").write_text("epochs = 1\nbatch_size = 8\n")
    # tests/test_docs.py runs those on weights of one's own.
    commands = re.findall(r"^```sh\n(zoo train .*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(commands) == 3
    for command in commands:
        shell(command)
    for run in ("mine", "other", "repair"):
        weights = zoo.load(f"local-dir:{folder / 'runs' / run}")
        assert weights.generate(1, seed=0).shape[0] == 1
    left = {path.name for path in (folder / "runs" / "mine").iterdir()}
    named = set(re.findall(r"^\| `([\w.]+)/?`", text, re.MULTILINE))
    assert left - {"checkpoint.previous.safetensors"} == named, "the table of a run's folder"


@pytest.mark.slow
def test_measuring_guide(folder, shell):
    from zoo.evaluation import PROTOCOLS

    text = (TREE / "docs" / "evaluation.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|$", text, re.MULTILINE)
    assert dict(rows) == {p.name: "yes" if p.standard else "no" for p in PROTOCOLS.values()}
    train = "zoo train ae --data pictures --out runs/mine --epochs 1 --set batch_size=8"
    shell(train)
    commands = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(commands) == 3
    for command in commands:
        shell(command)
    card = (folder / "runs" / "mine" / "weights" / "README.md").read_text()
    assert "peak signal-to-noise ratio" in card, "the card has the figures"


def test_the_two_commands_are_targets():
    targets = re.findall(r"^(\w[\w-]*):", (TREE / "Makefile").read_text(), re.MULTILINE)
    commands = [b.strip() for b in blocks(README, "sh") if b.startswith("make")]
    assert commands == ["make demo", "make test"]
    assert {"demo", "test"} <= set(targets)


def test_leaderboard_and_goals_in_the_docs(tmp_path: Path):
    figures = re.compile(r"(<!-- figures:.*?-->\n).*?(\n<!-- end -->)", re.DOTALL)
    file = tmp_path / "results.md"
    file.write_text(figures.sub(r"\1\2", page("results")), "utf-8")
    script = TREE / "benchmarks" / "goals.py"
    subprocess.run([sys.executable, script, "--into", file], check=True)
    assert file.read_text("utf-8") == page("results"), "type: make cards"


ROW = re.compile(
    r"^\| ([\w-]+) \| `([\w.]+)` \| [^|]*\(`([\w.]+)`\) \| (\d[\d.]*) "
    r"\| ([\w ]+) \| (\d[\d.]*) \|$",
    re.MULTILINE,
)


def test_figures_are_those_of_the_records():
    section = README.partition("## Figures")[2].partition("\n## ")[0]
    found = ROW.findall(section)
    assert 4 <= len(found) == section.count("\n| ") - 1 <= 8, "every row, and at most eight"
    baselines = {title: name for name, title in BASELINES.items()}
    for data, weights, name, value, baseline, compared in found:
        (record,) = zoo.info(weights).weights
        (metric,) = [metric for metric in record.metrics if metric.name == name]
        assert DATASETS[metric.dataset][0] == data
        assert rounded(metric.value, value) == value, f"{weights}: {name}"
        assert rounded(metric.baselines[baselines[baseline]], compared) == compared, (
            f"{weights}: {name}"
        )
        line = next(x for x in section.splitlines() if f"`{weights}`" in x and f"`{name}`" in x)
        lower = meaning(name).better == LOWER
        assert ("↓" in line) == lower, "which direction is better"
        beaten = [m for m in figures_of(name, metric.dataset) if (m < metric.value) == lower]
        assert not [m for m in beaten if m != metric.value], f"{weights} is not the best by {name}"


def rounded(value, like):
    """``value`` with as many digits after the point as the text ``like`` has."""
    return f"{value:.{len(like.partition('.')[2])}f}"


def figures_of(name, dataset):
    """This figure of all weights without labels that ship."""
    for weights in zoo.list_models(pretrained=True):
        (record,) = zoo.info(weights).weights
        for metric in record.metrics:
            if (metric.name, metric.dataset) == (name, dataset) and not record.labels:
                yield metric.value


def test_readme_is_short():
    assert README.count("\n") <= 120


@pytest.mark.slow
@pytest.mark.parametrize("plugin", sorted((TREE / "plugins").iterdir()), ids=lambda p: p.name)
def test_plugin_readme(plugin, preloaded):
    text = (plugin / "README.md").read_text("utf-8")
    example = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]
    done = preloaded.run("-c", example)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", [README, page("models")], ids=["README", "models"])
def test_every_model_is_in_the_table(text):
    listed = re.findall(r"^\| (latentzoo-[\w, -]+) \| (.*)$", text, re.MULTILINE)
    rows = {plugin: row for plugins, row in listed for plugin in plugins.split(", ")}
    assert sorted(rows) == sorted(path.name for path in (TREE / "plugins").iterdir())
    for plugin in registry().plugins:
        for spec in plugin.specs:
            assert f"`{spec.name}`" in rows[plugin.distribution], plugin.distribution
        sets = {w.dataset for spec in plugin.specs for w in spec.weights}
        titles = {DATASETS[name][0].split()[0] for name in sets} & {
            "MNIST",
            "Fashion-MNIST",
            "CIFAR-10",
        }
        assert all(title in rows[plugin.distribution] for title in titles)


def test_every_public_name_is_there():
    assert sorted(zoo.__all__) == zoo.__all__ or zoo.__all__ == sorted(
        zoo.__all__, key=lambda n: (n.startswith("_"), n)
    )
    for name in zoo.__all__:
        assert getattr(zoo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = zoo.nonsense
