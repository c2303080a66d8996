"""What a name after ``clip:`` means, without a Hub."""

import os
import subprocess
import sys

import pytest

import zoo
from zoo.errors import CapabilityError, InvalidName, UnknownModel, UnknownTag

pytest.importorskip("zoo_clip")
pytestmark = pytest.mark.slow  # open_clip takes seconds to import
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("rest", "repo", "revision", "file"),
    [
        ("ViT-B-32.laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", None,
         "open_clip_model.safetensors"),
        (f"ViT-B-32.openai@{COMMIT}", "timm/vit_base_patch32_clip_224.openai", COMMIT,
         "open_clip_model.safetensors"),
        ("ViTamin-S.datacomp1b@refs/pr/1", "jienengchen/ViTamin-S", "refs/pr/1",
         "pytorch_model.safetensors"),
        ("ViT-B-32", None, None, "open_clip_model.safetensors"),
    ],
)  # fmt: skip
def test_forms(rest, repo, revision, file):
    from zoo_clip.source import find

    source = find(rest)
    assert (source.repo, source.revision, source.files[0]) == (repo, revision, file)


def test_every_name_of_open_clip_is_one_here_or_says_why_not():
    from zoo_clip.library import factory, pretrained
    from zoo_clip.source import find

    refused = []
    for model, tag in pretrained.list_pretrained():
        if (factory.get_model_config(model) or {})["text_cfg"].get("hf_model_name"):
            refused.append(model)
            with pytest.raises(CapabilityError, match="a model of the library transformers"):
                find(f"{model}.{tag}")
            continue
        source = find(f"{model}.{tag}")
        declared = pretrained.get_pretrained_cfg(model, tag)
        assert declared["hf_hub"].startswith(f"{source.repo}/")
        assert source.pictures.mean == tuple(declared["mean"])
        assert source.config["quick_gelu"] >= declared.get("quick_gelu", False)
    assert {name.partition("-")[0] for name in refused} == {"nllb", "roberta", "xlm"}


def test_quick_gelu_is_that_of_the_weights():
    from zoo_clip.source import find

    assert find("ViT-B-32.openai").config["quick_gelu"] is True
    assert find("ViT-B-32.laion2b_s34b_b79k").config["quick_gelu"] is False


@pytest.mark.parametrize(
    ("rest", "kind", "text"),
    [
        ("ViT-B-33", UnknownModel, "has no 'ViT-B-33'. Did you mean: clip:ViT-B-32"),
        ("vit-b-32.openai", UnknownModel, "Did you mean: clip:ViT-B-32.openai"),
        ("!?", UnknownModel, "open_clip.list_pretrained()"),
        ("ViT-B-32.mine", UnknownTag, "no weights 'mine' of ViT-B-32. There are: clip:ViT-B-32.o"),
        ("org/name", UnknownModel, "Names look like: clip:ViT-B-32.laion2b_s34b_b79k, clip:hf-hub"),
        ("hf-hub:x", InvalidName, "write hf-hub:org/name"),
        ("ViT-B-32.openai@a/../b", InvalidName, "clip_224.openai@a/../b' is not"),
        ("ViT-B-32@main", UnknownTag, "is an architecture, without weights. There are: clip:"),
    ],
)
def test_refused_names(rest, kind, text):
    with pytest.raises(kind) as caught:
        zoo.info(f"clip:{rest}")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("name", "size", "features", "fit"),
    [
        ("ViT-B-32.laion2b_s34b_b79k", 224, 512, "crop"),
        ("ViT-B-16-SigLIP.webli", 224, 768, "stretch"),
        ("MobileCLIP-S1.datacompdr", 256, 512, "crop"),
        ("coca_ViT-B-32.laion2b_s13b_b90k", 224, 512, "crop"),
        ("RN50.openai", 224, 1024, "crop"),
    ],
)
def test_records(name, size, features, fit):
    from zoo_clip.source import find

    spec = zoo.info(f"clip:{name}")
    assert spec.image_shape == (3, size, size)
    assert spec.code_shape == (features,)
    assert spec.capabilities == ("encode", "features", "embed_text")
    assert f"https://huggingface.co/{find(name).repo}" in spec.summary
    assert find(name).pictures.fit == fit


def test_untrained(caplog):
    """The smallest that open_clip has: words are read by its own vocabulary."""
    model = zoo.create("clip:ViT-S-32-alt")
    assert model.embed_text(["a", "b"], templates=["a {}", "the {}"]).shape == (2, 256)
    assert not caplog.records
    fits, longer = "a " * 75, "a " * 76
    model.embed_text([fits, longer, "b"])
    (said,) = caplog.messages
    assert said.startswith("1 of 3 texts are longer than what clip:ViT-S-32-alt reads, 77 tokens")
    assert model.preprocessing.background == 1.0
    with pytest.raises(CapabilityError, match="clip:ViT-S-32-alt cannot decode"):
        model.decode(model.code_shape)
    assert zoo.create("clip:ViT-S-32-alt").source is None
    with pytest.raises(UnknownTag, match=r"without weights\. There are no weights of it"):
        zoo.load("clip:ViT-S-32-alt")


def test_a_missing_open_clip_is_named_with_the_pip_command():
    code = """
import os, sys
sys.modules["open_clip"] = None
import zoo
try:
    zoo.info("clip:ViT-B-32")
except zoo.errors.MissingDependency as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install open_clip_torch" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_is_as_before():
    """As far as it is open_clip's doing: torch's compiler has a variable of its own."""
    code = """
import os
import zoo_clip.model
assert not [name for name in os.environ if name.startswith("TOKENIZERS_")]
"""
    env = {key: value for key, value in os.environ.items() if not key.startswith("TOKENIZERS_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
