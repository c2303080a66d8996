"""open_clip's own loading code, and ours around it, with weights on a Hub of the test's own.

Small towers of every kind are made and saved by open_clip itself. Each question is put to a process
of its own that knows no other Hub.
"""

import json
from pathlib import Path

import pytest
import safetensors.torch
from asking import asking

pytest.importorskip("open_clip")
pytest.importorskip("zoo_clip")
pytestmark = pytest.mark.slow

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
CONFIGS = {
    "vit": {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True},
    "oblong": {
        "embed_dim": 16,
        "vision_cfg": {**VIT, "image_size": [32, 48]},
        "text_cfg": TEXT,
        "nonscalar_logit_scale": True,
    },
    "resnet": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8},
        "text_cfg": TEXT,
    },
    "timm": {
        "embed_dim": 16,
        "vision_cfg": {"timm_model_name": "test_vit", "timm_model_pretrained": True,
                       "timm_pool": "token", "timm_proj": "linear", "image_size": 160},
        "text_cfg": TEXT,
    },
    "siglip": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none",
                       "image_size": 160},
        "text_cfg": {**TEXT, "width": 64, "no_causal_mask": True, "proj_bias": True,
                     "pool_type": "last", "norm_kwargs": {"eps": 1e-6}},
    },
    "mobileclip": {
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {"timm_model_name": "fastvit_t8", "timm_model_pretrained": False,
                       "timm_pool": "avg", "timm_proj": None, "timm_drop": 0.0,
                       "timm_drop_path": 0.0, "image_size": 256},
        "text_cfg": {**TEXT, "no_causal_mask": True},
    },
    "coca": {
        "embed_dim": 16,
        "custom_text": True,
        "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2,
                       "output_tokens": True},
        "text_cfg": {**TEXT, "context_length": 15, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "context_length": 15, "attn_pooler_heads": 2},
    },
}  # fmt: skip
PICTURES = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "resize_mode": "squash"}
IMPORTS = "import open_clip, torch, zoo, zoo_clip.model"


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """A process that has imported open_clip, and forks for each question; its Hub, its home."""
    with asking(IMPORTS, tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture
def hub(worker):
    """The worker's Hub, running and empty; the worker's cache is empty too."""
    worker.forget()
    return worker.emptied_hub()


@pytest.fixture
def ask(worker, hub):
    """``ask(code)``: what the code gave to ``answer()`` in a process that knows this Hub alone."""
    return worker.ask


@pytest.fixture(scope="module")
def made(worker, tmp_path_factory):
    """A folder for each of :data:`CONFIGS` as open_clip writes them, with random weights."""
    root = tmp_path_factory.mktemp("made")
    for name, config in CONFIGS.items():
        (root / name).mkdir()
        written = {"model_cfg": config, "preprocess_cfg": PICTURES}
        (root / name / "open_clip_config.json").write_text(json.dumps(written))
    worker.ask(f"""
import pathlib, safetensors.torch
for folder in sorted(pathlib.Path({str(root)!r}).iterdir()):
    torch.manual_seed(len(folder.name))
    net = open_clip.create_model("local-dir:" + str(folder))
    with torch.no_grad():
        for p in net.parameters():  # some are zero at first
            p.add_(0.1 * torch.randn(p.shape))
    tensors = {{k: v.contiguous().clone() for k, v in net.state_dict().items()}}
    safetensors.torch.save_file(tensors, folder / "open_clip_model.safetensors")
answer(None)
""")
    return root


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def with_model(files, **more):
    """The files with another model_cfg."""
    config = json.loads(files["open_clip_config.json"])
    config["model_cfg"] |= more
    return {**files, "open_clip_config.json": json.dumps(config).encode()}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_as_open_clip_itself(hub, ask, made, name):
    sha = hub.put(f"org/{name}", files_of(made / name))
    got = ask(f"""
import logging
before = torch.get_rng_state(), dict(os.environ), list(logging.getLogger().handlers)
model = zoo.load("clip:hf-hub:org/{name}")
untouched = (bool(torch.equal(before[0], torch.get_rng_state())), dict(os.environ) == before[1],
             logging.getLogger().handlers == before[2])
theirs = open_clip.create_model("local-dir:{made / name}").eval()
tokens = open_clip.get_tokenizer("local-dir:{made / name}")
texts = ["a red bicycle", "Two  dogs, and a CAT!", "word " * 30]
x = images(model)
mean, std = (torch.tensor(theirs.visual.preprocess_cfg[k])[:, None, None] for k in ("mean", "std"))
with torch.no_grad():
    expected = theirs.encode_image((x - mean) / std, normalize=False)
    words = theirs.encode_text(tokens(texts), normalize=False)
answer([untouched, float((model.encode(x) - expected).abs().max()), float(expected.std(0).max()),
        float((model.embed_text(texts) - words).abs().max()), float(words.std(0).max()),
        bool(torch.equal(model.encode(x), model.features(x))), list(model.image_shape),
        list(model.code_shape) == list(expected.shape[1:]), model.preprocessing.fit,
        model.preprocessing.background, model.source.name, model.training, model.spec.summary])
""")
    assert got[0] == [True] * 3
    assert got[1] <= 1e-5
    assert got[2] > 1e-3, "features that are not nearly constant"
    assert got[3] <= 1e-5
    assert got[4] > 1e-3
    assert got[5] is True
    size = CONFIGS[name]["vision_cfg"]["image_size"]
    assert got[6] == [3, *(size if isinstance(size, list) else (size, size))]
    assert got[7:10] == [True, "stretch", 1.0]
    assert got[10:12] == [f"clip:hf-hub:org/{name}@{sha}", False]
    assert f"weights on the Hub: org/{name}@{sha}" in got[12]
    fetched = {r.path.rpartition("/")[2] for r in hub.requests if "/resolve/" in r.path}
    assert fetched == {"open_clip_config.json", "open_clip_model.safetensors"}


def test_weights_that_open_clip_lists(hub, ask, made):
    """By open_clip's own table: its repository, its pictures' mean, its form of GELU."""
    hub.put("laion/tiny", {
        "open_clip_pytorch_model.safetensors":
            files_of(made / "vit")["open_clip_model.safetensors"],
        "README.md": b"---\nlicense: mit\n---\n",
    })  # fmt: skip
    config = {**CONFIGS["vit"], "quick_gelu": False}
    got = ask(f"""
open_clip.factory._MODEL_CONFIGS["Tiny"] = {config!r}
open_clip.pretrained._PRETRAINED["Tiny"] = {{"any": {{
    "url": "", "hf_hub": "laion/tiny/", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25),
    "interpolation": "bicubic", "resize_mode": "shortest", "quick_gelu": True}}}}
model = zoo.load("clip:Tiny.any")
theirs = open_clip.create_model("local-dir:{made / "vit"}").eval()
x = images(model)
with torch.no_grad():
    expected = theirs.encode_image((x - 0.5) / 0.25)
pinned = model.source.name
online = model.encode(x)
answer([float((online - expected).abs().max()), model.preprocessing.fit, pinned,
        zoo.info("clip:Tiny.any").capabilities, error_of(zoo.load, "clip:Tiny"),
        model.spec.summary, zoo.info("clip:Tiny.any").summary])
""")
    assert got[0] <= 1e-5
    assert got[1] == "crop"
    assert got[2] == f"clip:Tiny.any@{hub.commits('laion/tiny')[0].sha}"
    assert got[3] == ["encode", "features", "embed_text"]
    assert got[4][0] == "UnknownTag"
    assert "There are: clip:Tiny.any" in got[4][1]
    assert got[5].endswith("; licence: mit")
    assert got[6].endswith("; licence: see https://huggingface.co/laion/tiny"), "nothing is asked"


def test_the_second_load_needs_no_hub(hub, ask, made):
    sha = hub.put("org/vit", files_of(made / "vit"))
    name = "clip:hf-hub:org/vit"
    online = ask(f"answer(codes({name!r}).tolist())")
    hub.requests.clear()
    pinned = ask(f"answer(codes('{name}@{sha}').tolist())")
    assert hub.requests == []
    assert pinned == online
    hub.stop()
    unpinned, caught = ask(f"answer([codes({name!r}).tolist(), caught])")
    assert unpinned == online
    assert caught
    assert all(category == "StaleWeights" and sha in text for category, text in caught)


def test_pull(hub, ask, made):
    sha = hub.put("org/vit", files_of(made / "vit"))
    folder, commit = ask("""
from zoo.api import pulled
folder, commit = pulled("clip:hf-hub:org/vit")
answer([[p.name for p in folder.iterdir()], commit])
""")
    assert sorted(folder) == ["open_clip_config.json", "open_clip_model.safetensors"]
    assert commit == sha


TOKENS = """
import json, pathlib
from tokenizers import Tokenizer, models, pre_tokenizers, processors
words = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", "a", "red", "dog", "<sep>"])}
own = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
own.pre_tokenizer = pre_tokenizers.Whitespace()
own.add_special_tokens(["<pad>", "</s>", "<sep>"])
own.post_processor = processors.TemplateProcessing(
    single="$A </s>", special_tokens=[("</s>", 1)])
answer(own.to_str())
"""


@pytest.fixture
def with_tokenizer(ask, made):
    """The files of a model whose words are read by a tokenizer.json that lies beside them."""
    text = {**CONFIGS["siglip"]["text_cfg"], "hf_tokenizer_name": "stranger/elsewhere",
            "tokenizer_kwargs": {"clean": "canonicalize"}}  # fmt: skip
    return {
        **with_model(files_of(made / "siglip"), text_cfg=text),
        "tokenizer.json": ask(TOKENS).encode(),
        "tokenizer_config.json": json.dumps(
            {"pad_token": {"content": "</s>"}, "sep_token": "a",
             "auto_map": {"AutoTokenizer": ["evil.py", None]}, "tokenizer_class": "Evil"}
        ).encode(),
    }  # fmt: skip


def test_words_by_the_tokenizer_beside_the_weights(hub, ask, with_tokenizer):
    hub.put("org/siglip", {**with_tokenizer, "README.md": b"---\nlicense: 'apache-2.0'\n---\n"})
    names = ["open_clip_config.json", "open_clip_model.safetensors"]
    hub.put("org/wordless", {name: with_tokenizer[name] for name in names})
    got = ask("""
model = zoo.load("clip:hf-hub:org/siglip")
a = model.embed_text(["A red, dog!", "a unicorn", "a " * 40])
numbers, cut = model._reader(["A red, dog!", "a unicorn", "a " * 40])
with torch.no_grad():
    b = model.net.encode_text(numbers)
wordless = zoo.load("clip:hf-hub:org/wordless")
answer([numbers.tolist(), float((a - b).abs().max()), wordless.capabilities,
        error_of(wordless.embed_text, ["a"]), cut,
        zoo.info("clip:hf-hub:org/siglip").summary])
""")
    assert got[0] == [[3, 4, 5] + [1] * 13, [3, 2] + [1] * 14, [3] * 15 + [1]]
    assert got[1] <= 1e-5
    assert got[2] == ["encode", "features"]
    assert got[3][0] == "CapabilityError"
    assert got[4] == 1, "how many were cut off"
    assert got[5].endswith("; licence: apache-2.0")
    assert not [r for r in hub.requests if "stranger" in r.path]


def test_tokenizers_that_cannot_be_used(hub, ask, with_tokenizer):
    changed = {
        "broken": {"tokenizer.json": b"{"},
        "no_pad": {"tokenizer_config.json": b"{}"},
        "list": {"tokenizer_config.json": b"[]"},
        "stranger": {"tokenizer_config.json": b'{"pad_token": "<mask>"}'},
    }
    for name, files in changed.items():
        hub.put(f"org/{name}", {**with_tokenizer, **files})
    small = {**CONFIGS["siglip"]["text_cfg"], "hf_tokenizer_name": "x"}
    hub.put("org/clips", with_model(with_tokenizer, text_cfg={**small, "tokenizer_mode": "clips"}))
    answers = ask(f"""
found = []
for name in {list(changed)}:
    model = zoo.load("clip:hf-hub:org/" + name)
    assert model.encode(images(model)).shape == (3, 64), "pictures need no words"
    found.append(error_of(model.embed_text, ["a"]))
sys.modules["tokenizers"] = None
model = zoo.load("clip:hf-hub:org/broken")
found.append(error_of(model.embed_text, ["a"]))
found.append(error_of(zoo.load, "clip:hf-hub:org/clips"))
answer(found)
""")
    for kind, text in answers[:4]:
        assert kind == "InvalidConfig", text
    assert "tokenizer.json cannot be used" in answers[0][1]
    assert "its pad_token, None, is no token" in answers[1][1]
    assert answers[4][0] == "MissingDependency"
    assert "pip install tokenizers" in answers[4][1]
    assert answers[5][0] == "CapabilityError"
    assert "no tokenizer of its kind, tokenizer_mode 'clips'" in answers[5][1]


VISION = {
    "timm_model_name": "hf-hub:stranger/net",
    "layers": 10**6,
    "image_size": 10**6,
    "width": "os.system",
    "no_such_key": 1,
    "patch_size": {"a": 1},
}


def test_repositories_that_nobody_should_trust(hub, ask, made, tmp_path):
    """Each is refused by one typed error that says why, and nothing of it runs or is taken."""
    vit = files_of(made / "vit")
    pickle = b"\x80\x04cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
    tensors = safetensors.torch.load(vit["open_clip_model.safetensors"])
    without = {k: v for k, v in vit.items() if not k.endswith("safetensors")}
    text = json.loads(vit["open_clip_config.json"])["model_cfg"]["text_cfg"]

    def saved(change):
        data = {k: v.contiguous().clone() for k, v in change(dict(tensors)).items()}
        return {**vit, "open_clip_model.safetensors": safetensors.torch.save(data)}

    def config(value):
        return {**vit, "open_clip_config.json": json.dumps(value).encode()}

    repositories = {
        "pickle": ({**without, "open_clip_pytorch_model.bin": pickle}, "UnsafeWeights",
                   "is a pickle, which could run any code. With safetensors there are: clip:"),
        "nothing": ({"README.md": b"x"}, "WeightsNotFound", "it is no repository of open_clip"),
        "missing": (saved(lambda ts: {k: t for k, t in ts.items() if k != "ln_final.bias"}),
                    "TensorMismatch", 'Missing key(s) in state_dict: "ln_final.bias"'),
        "more": (saved(lambda ts: {**ts, "more": ts["ln_final.bias"]}), "TensorMismatch",
                 'Unexpected key(s) in state_dict: "more"'),
        "nan": (saved(lambda ts: {k: t / 0 for k, t in ts.items()}), "TensorMismatch", "holds NaN"),
        "cut": ({**vit, "open_clip_model.safetensors": vit["open_clip_model.safetensors"][:-9]},
                "TensorMismatch", "is not a valid safetensors file"),
        "huge": (with_model(vit, embed_dim=60_000), "TensorMismatch", "too few for the"),
        "empty": (config({}), "InvalidConfig", "has no model_cfg of open_clip"),
        "list": (config([1]), "InvalidConfig", "open_clip_config.json"),
        "auto": (with_model(vit, auto_map={"AutoModel": "evil.Evil"}), "InvalidConfig",
                 "model_cfg cannot have 'auto_map'"),
        "code": (with_model(vit, trust_remote_code=True), "InvalidConfig", "'trust_remote_code'"),
        "transformers": (with_model(vit, text_cfg={**text, "hf_model_name": "stranger/bert"}),
                         "CapabilityError", "'stranger/bert', a model of the library transformers"),
        "act": (with_model(vit, text_cfg={**text, "act_kwargs": {"a b": 1}}), "InvalidConfig",
                "act_kwargs cannot have 'a b'"),
        "kwargs": (with_model(vit, text_cfg={**text, "tokenizer_kwargs": {"reduction_mask":
                   "syntax"}}), "InvalidConfig", "tokenizer_kwargs cannot have 'reduction_mask'"),
        "norm": (with_model(vit, text_cfg={**text, "norm_kwargs": {"device": "meta"}}),
                 "InvalidConfig", "norm_kwargs cannot have 'device'"),
        "std": (config({**json.loads(vit["open_clip_config.json"]), "preprocess_cfg":
                        {"std": [0, 0, 0]}}), "InvalidConfig", "std cannot be [0, 0, 0]"),
        "mode": (config({**json.loads(vit["open_clip_config.json"]), "preprocess_cfg":
                         {"resize_mode": "../.."}}), "InvalidConfig", "resize_mode cannot be"),
    }  # fmt: skip
    for key, value in VISION.items():
        files = with_model(vit, vision_cfg={**CONFIGS["vit"]["vision_cfg"], key: value})
        repositories[f"vision_{key}"] = (files, "InvalidConfig", "")
    for name, (files, *_) in repositories.items():
        hub.put(f"org/{name}", files)
    names = [f"clip:hf-hub:org/{name}" for name in repositories]
    errors = ask(f"answer([error_of(zoo.load, name) for name in {names!r}])")
    for (name, (_, kind, part)), (got, text) in zip(repositories.items(), errors, strict=True):
        assert got == kind, f"{name}: {got}: {text}"
        assert part in text, f"{name}: {text}"
        assert f"org/{name}" in text
        assert text.replace("\n", "").isprintable(), name
    assert not (tmp_path / "ran").exists()
    assert not [r for r in hub.requests if ".bin" in r.path or "stranger" in r.path]
