"""The command line, as a person or a script uses it: real processes, or click's runner."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zoo
from zoo.cli import main
from zoo.cli.pictures import nearest
from zoo.pictures import grid
from zoo.report.card import vector_images
from zoo.sample import sample
from zoo.sources import weights_folder

HEAVY = ["torch", "torchvision", "timm", "open_clip", "sklearn", "huggingface_hub", "numpy", "PIL"]

# A finder before all others, which refuses the heavy libraries.
WITHOUT = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ImportError("refused: " + name)

sys.meta_path.insert(0, Refuse())
sys.argv[0] = "zoo"
from zoo.cli import main
main()
"""


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def in_process(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["list", "--json"],
        ["info", "deep_ae"],
        ["info", "deep_ae.mnist", "--json"],
        ["plugins"],
        ["plugins", "--json"],
        ["--help"],
        ["train", "--help"],
        ["publish", "--help"],
        ["pull", "--help"],
        ["search", "--help"],
        ["check", "--help"],
        ["new-plugin", "--help"],
    ],
    ids=" ".join,
)
def test_needs_no_heavy_library(arguments):
    result = in_process(WITHOUT, *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_the_refusal_of_heavy_libraries_works():
    result = in_process(WITHOUT, "generate", "ae")
    assert result.returncode != 0
    assert "refused: " in result.stderr


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_loads_no_plugin(option):
    code = (
        "import sys\nfrom zoo.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    print([m for m in sys.modules if m.startswith('zoo_')], 'zoo.registry' in sys.modules)"
    )
    result = in_process(code, option)
    assert result.stdout.splitlines()[-1] == "[] False"


def test_list():
    rows = json.loads(run("list", "--json").stdout)
    names = [row["name"] for row in rows if "example" not in row]  # not those of prefixes
    assert names == zoo.list_models()
    assert {"ae", "conv_ae", "dcgan", "deep_ae", "pca"} <= set(names)
    weights = rows[names.index("deep_ae")]["weights"]
    assert weights == ["deep_ae.fashion_mnist", "deep_ae.mnist", "deep_ae.olivetti"]
    table = run("list", "*ae").stdout
    assert "deep_ae.mnist" in table
    assert "dcgan" not in table
    assert "No model matches 'x*'. There are: ae, bigan, conv_ae" in run("list", "x*").stdout


def test_info():
    spec = zoo.ModelSpec.from_dict(json.loads(run("info", "deep_ae", "--json").stdout))
    assert spec == zoo.info("deep_ae")
    text = run("info", "deep_ae").stdout
    for part in ("Hinton", "1 x 28 x 28", "zoo_ae.deep_ae:DeepAE", "deep_ae.mnist (default)"):
        assert part in text


def test_plugins():
    found = json.loads(run("plugins", "--json").stdout)
    assert [(p["distribution"], p["models"], p["fault"]) for p in found] == [
        ("latentzoo-ae", ["ae", "deep_ae"], None),
        ("latentzoo-baseline", ["pca", "patch_kmeans"], None),
        ("latentzoo-clip", [], None),
        ("latentzoo-contrastive", ["simclr", "vicreg"], None),
        ("latentzoo-conv", ["conv_ae", "denoising_ae", "timm_ae"], None),
        ("latentzoo-diffusers", [], None),
        ("latentzoo-gan", ["dcgan", "gan", "bigan", "stacked_gan"], None),
        ("latentzoo-timm", [], None),
        ("latentzoo-vae", ["vae", "conv_vae", "vq_vae"], None),
    ]
    assert "zoo_gan" in run("plugins").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "deep_aee"], "Did you mean: deep_ae, "),
        (["info", "./mine"], "local-dir:./mine"),
        (["generate", "ae.cifar"], "ae has no weights 'cifar'. There are: ae.fashion_mnist"),
        (["encode", "ae", "--out", "codes.csv"], "should end in .parquet, .npz or .safetensors"),
        (["encode", "ae"], "name at least one picture or folder"),
        (["encode", "ae", "nowhere.png"], "there is no such file or folder"),
        (["interpolate", "ae", "a.png"], "name two pictures"),
        (["train", "ae", "--data", "mnits", "--out", "x"], "no data set 'mnits'"),
        (["train", "ae", "--data", "mnist", "--out", "x", "--set", "lr"], "takes KEY=VALUE"),
        (["train", "ae", "--data", "mnist", "--out", "x", "--set", "lr_=1"], "no setting 'lr_'"),
        (["train", "ae", "--data", "mnist", "--out", "x", "--config", "a=1"], "no setting 'a'"),
        (["generate", "local-dir:nowhere"], "there is no folder 'nowhere'"),
        (["nonsense"], "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_of_a_user(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def folder(tmp_path):
    """Three pictures of the sample, and a broken one."""
    from zoo.sample import sample

    for i, pixels in enumerate(sample()[0][:3]):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_text("not a picture")
    return tmp_path


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".parquet"])
def test_encode_writes_a_table(folder, ending):
    out = folder / "out" / f"codes{ending}"
    result = run("encode", "deep_ae.fashion_mnist", folder, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "1 files skipped" in result.stderr
    assert "broken.png: not a picture" in result.stderr
    model = zoo.load("deep_ae.fashion_mnist")
    expected = model.encode(model.preprocess([folder / f"{i}.png" for i in range(3)])).numpy()
    if ending == ".npz":
        with np.load(out, allow_pickle=False) as file:
            codes, paths = file["codes"], list(file["paths"])
    elif ending == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(out)
        codes, paths = np.array(table["codes"].to_pylist()), table["path"].to_pylist()
    else:
        from safetensors import safe_open

        with safe_open(out, "np") as file:
            codes, paths = file.get_tensor("codes"), json.loads(file.metadata()["paths"])
    np.testing.assert_allclose(codes, expected, atol=1e-4)
    assert [os.path.basename(path) for path in paths] == ["0.png", "1.png", "2.png"]


def test_encode_strict_refuses(folder):
    result = run("encode", "ae", folder, "--strict", "--out", folder / "codes.npz")
    assert result.exit_code == 2
    assert "broken.png" in result.stderr
    assert not (folder / "codes.npz").exists()


def test_encode_json_counts_what_was_skipped(folder):
    out = folder / "f.npz"
    result = run("encode", "ae", folder, "--what", "scores", "--out", out, "--json")
    said = json.loads(result.stdout)
    assert said["pictures"] == 3
    assert [os.path.basename(s["path"]) for s in said["skipped"]] == ["broken.png"]
    with np.load(out) as file:
        assert file["scores"].shape == (3,)


@pytest.mark.slow
def test_parquet_without_pyarrow_says_what_to_type(folder):
    code = (
        "import sys; sys.modules['pyarrow'] = None; sys.argv[0] = 'zoo'\n"
        "from zoo.cli import main\nmain()"
    )
    result = in_process(code, "encode", "ae", str(folder), "--out", str(folder / "c.parquet"))
    assert result.returncode == 2
    assert "pip install 'latentzoo[parquet]'" in result.stderr


def test_pictures_are_written(folder):
    a, b = folder / "0.png", folder / "1.png"
    for arguments, size in (
        # rows and columns of 28 + 2 pixels and 2 at the end, three times as large
        (["reconstruct", "ae.fashion_mnist", a, b, "--columns", 2], (2, 2)),
        (["generate", "dcgan.fashion_mnist", "-n", 6], (3, 2)),
        (["interpolate", "deep_ae.fashion_mnist", a, b, "--steps", 4], (4, 1)),
        (["interpolate", "deep_ae.fashion_mnist"], (10, 5)),
    ):
        out = folder / "grid.png"
        result = run(*arguments, "--out", out)
        assert result.exit_code == 0, result.stderr
        assert str(out) in result.stdout
        with Image.open(out) as picture:
            assert picture.size == tuple(3 * (30 * n + 2) for n in size)
        out.unlink()


def test_generate_follows_its_seed(tmp_path):
    pictures = []
    for i, seed in enumerate([(), (0,), (3,), (3,), (4,)]):
        more = [f"--seed={number}" for number in seed]
        result = run("generate", "dcgan", "-n", 4, *more, "--out", tmp_path / f"{i}.png")
        assert result.exit_code == 0, result.stderr
        pictures.append((tmp_path / f"{i}.png").read_bytes())
    assert pictures[2] == pictures[3]
    assert pictures[0] == pictures[1], "0 is the default"
    assert len(set(pictures)) == 3, "other seeds give other pictures"
    own = zoo.load("dcgan").generate(4, seed=3)
    with Image.open(tmp_path / "2.png") as picture:
        first = np.asarray(picture.convert("L"))[6 : 6 + 84 : 3, 6 : 6 + 84 : 3]
    assert np.abs(first / 255 - own[0, 0].numpy()).max() < 0.01, "the pictures of that seed"


@pytest.mark.parametrize("what", ["codes", "features", "scores"])
def test_encode_writes_what_was_asked_for(folder, what):
    """Of a model whose codes are not its features."""
    out = folder / "table.npz"
    result = run("encode", "simclr.mnist", folder, "--what", what, "--out", out)
    assert result.exit_code == 0, result.stderr
    model = zoo.load("simclr.mnist")
    images = model.preprocess([folder / f"{i}.png" for i in range(3)])
    call = {"codes": model.encode, "features": model.features, "scores": model.score}[what]
    with np.load(out) as file:
        assert set(file.files) == {what, "paths"}
        np.testing.assert_allclose(file[what], call(images).numpy(), rtol=1e-3, atol=1e-3)


def test_train_then_use(tmp_path):
    from zoo.sample import sample

    for i, pixels in enumerate(sample()[0][:120]):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    out = tmp_path / "run"
    result = run(
        "train", "ae", "--data", tmp_path, "--out", out, "--epochs", 2, "--set", "batch_size=16",
        "--config", "latent_dim=8", "--seed", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "reconstruction 2/2" in result.stderr
    assert "images/s" in result.stderr
    assert "left" in result.stderr
    assert "trained on 114 images" in result.stdout
    assert result.stdout.endswith(f"Try: zoo generate local-dir:{out}\n")
    result = run("generate", f"local-dir:{out}", "--out", tmp_path / "new.png")
    assert result.exit_code == 0, result.stderr
    assert zoo.load(f"local-dir:{out}").code_shape == (8,)
    again = run("train", "ae", "--data", tmp_path, "--out", out)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


@pytest.mark.slow
def test_demo(tmp_path):
    result = run("demo", "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["seconds"] < 60
    weights = zoo.list_models(pretrained=True)
    files = [Path(row["file"]).name for row in said["files"]]
    for name in weights:
        can = zoo.info(name).capabilities
        assert (f"{name}.generated.png" in files) == ("generate" in can), name
        walk, search = f"{name}.interpolated.png" in files, f"{name}.neighbours.png" in files
        assert walk + search == (name not in said["not_shown"]), name
        assert walk <= ("reconstruct" in can), name
    for row in said["files"]:
        with Image.open(row["file"]) as picture:
            pixels = np.asarray(picture)
        assert pixels.std() > 20, "there is something to see"
    real = vector_images(weights_folder("ae.mnist"))
    row = np.asarray(grid(real, columns=len(real)))
    with Image.open(tmp_path / "mnist.reconstructed.png") as picture:
        top = np.asarray(picture)[: row.shape[0] // 2]
    assert np.array_equal(top, row[: row.shape[0] // 2]), "test images, not made up"


def test_nearest():
    """What the demo shows of weights that only encode; here of others, with an image put twice."""
    model = zoo.load("pca.fashion_mnist")
    images = model.preprocess(sample()[0][:60])
    images = torch.cat([images, images[:3]])
    rows = nearest(model, images, 5, 4).unflatten(0, (5, 4))
    assert torch.equal(rows[:, 0], images[:5]), "itself first"
    assert torch.equal(rows[:3, 1], images[:3]), "then the same once more"
    features = torch.nn.functional.normalize(model.features(images))
    of_row = (
        features[:5, None]
        @ torch.nn.functional.normalize(model.features(rows.flatten(0, 1))).unflatten(0, (5, 4)).mT
    )
    assert bool((of_row[:, 0].diff(dim=1) <= 1e-5).all()), "the most alike come first"
