"""Autoencoders and generators of diffusers, beside diffusers' own, from a Hub of the test's own.

Repositories are written by diffusers' own tools, in tiny configurations. Each question is put to a
process of its own that knows no other Hub.
"""

import importlib.util
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from asking import asking

pytest.importorskip("zoo_diffusers")
if importlib.util.find_spec("diffusers") is None:
    pytest.skip("diffusers is not installed", allow_module_level=True)

pytestmark = pytest.mark.slow  # importing diffusers takes seconds

IMPORTS = """
import diffusers, torch, zoo, zoo_diffusers.model
from zoo_diffusers.source import PIPELINES
diffusers.DDPMPipeline, diffusers.AutoencoderKL

def theirs(kind, name, folder=None):
    return getattr(diffusers, kind).from_pretrained(
        name, use_safetensors=True, **({"subfolder": folder} if folder else {}))
"""

TWO = {"block_out_channels": (8, 16), "norm_num_groups": 4}
VAE = {**TWO, "down_block_types": ("DownEncoderBlock2D",) * 2, "sample_size": 16,
       "up_block_types": ("UpDecoderBlock2D",) * 2}  # fmt: skip
UNET = {**TWO, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "layers_per_block": 1,
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 8,
        "sample_size": 16}  # fmt: skip
DECODER = {
    "block_out_channels": (8, 16), "down_block_types": ("ResnetDownsampleBlock2D",) * 2,
    "layers_per_block": 1, "norm_num_groups": 4, "up_block_types": ("ResnetUpsampleBlock2D",) * 2,
}  # fmt: skip
NETWORKS = {
    "AutoencoderKL": {**VAE, "scaling_factor": 0.5, "shift_factor": 0.25},
    "AutoencoderTiny": {"encoder_block_out_channels": (8, 8), "num_encoder_blocks": (1, 1),
                        "decoder_block_out_channels": (8, 8), "num_decoder_blocks": (1, 1)},
    "VQModel": {**VAE, "num_vq_embeddings": 16, "vq_embed_dim": 2, "latent_channels": 4},
    "AutoencoderDC": {
        "latent_channels": 4, "attention_head_dim": 4, "scaling_factor": 0.4,
        "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
        "decoder_block_types": ("ResBlock", "EfficientViTBlock"),
        "encoder_block_out_channels": (8, 16), "decoder_block_out_channels": (8, 16),
        "encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1),
        "encoder_qkv_multiscales": ((), (5,)), "decoder_qkv_multiscales": ((), (5,)),
    },
    "AsymmetricAutoencoderKL": {
        "down_block_types": ("DownEncoderBlock2D",) * 2, "down_block_out_channels": (8, 16),
        "up_block_types": ("UpDecoderBlock2D",) * 2, "up_block_out_channels": (8, 16),
        "norm_num_groups": 4, "sample_size": 16,
    },
    "ConsistencyDecoderVAE": {
        "sample_size": 16, "encoder_norm_num_groups": 4, "encoder_layers_per_block": 1,
        "encoder_block_out_channels": (8, 16),
        "encoder_down_block_types": ("DownEncoderBlock2D",) * 2,
        **{f"decoder_{key}": value for key, value in DECODER.items()},
    },
}  # fmt: skip


def network(kind: str, seed: int = 3, **config):
    """A network with random values, none of which is nearly zero."""
    import diffusers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = getattr(diffusers, kind)(**(config or NETWORKS[kind]))
        with torch.no_grad():
            for p in made.parameters():
                p.add_(0.05 * torch.randn(p.shape))
    return made


def saved(folder: Path, what, **more) -> dict[str, bytes]:
    """The files that diffusers saves of a network or a pipeline."""
    what.save_pretrained(folder, **more)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return {**files, "README.md": b"---\nlicense: mit\n---\n# A model\n"}


def pipeline(kind: str):
    import diffusers as d

    steps = {"num_train_timesteps": 20}
    ddpm = d.DDPMScheduler(**steps)
    if kind == "DDPMPipeline":
        return d.DDPMPipeline(network("UNet2DModel", **UNET), ddpm)
    if kind == "DDIMPipeline":
        return d.DDIMPipeline(network("UNet2DModel", **UNET), d.DDIMScheduler(**steps))
    if kind == "ConsistencyModelPipeline":
        unet = network("UNet2DModel", **UNET, num_class_embeds=5)
        return d.ConsistencyModelPipeline(unet, d.CMStochasticIterativeScheduler())
    if kind == "LDMPipeline":
        unet = network("UNet2DModel", **{**UNET, "in_channels": 2, "out_channels": 2,
                                         "sample_size": 8})  # fmt: skip
        return d.LDMPipeline(network("VQModel"), unet, d.DDIMScheduler(**steps))
    dit = network(
        "DiTTransformer2DModel", num_attention_heads=2, attention_head_dim=4, in_channels=4,
        out_channels=8, num_layers=1, sample_size=8, patch_size=2, num_embeds_ada_norm=1000,
    )  # fmt: skip
    return d.DiTPipeline(dit, network("AutoencoderKL"), d.DDIMScheduler(**steps))


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """A process that has imported diffusers, and forks for each question; its Hub and its home."""
    with asking(IMPORTS, tmp_path_factory.mktemp("home")) as started:
        yield started


@pytest.fixture
def hub(worker):
    """The worker's Hub, running and empty, of which nothing is cached."""
    worker.forget()
    return worker.emptied_hub()


@pytest.fixture
def ask(worker, hub):
    """``ask(code)``: what the code gave to ``answer()`` in a process that knows this Hub alone."""
    return worker.ask


@pytest.mark.parametrize("kind", NETWORKS)
def test_autoencoders_are_those_of_diffusers(hub, ask, tmp_path, kind):
    sha = hub.put("org/net", saved(tmp_path, network(kind)))
    got = ask(f"""
before = torch.get_rng_state()
model = zoo.load("diffusers:org/net")
untouched = bool(torch.equal(before, torch.get_rng_state()))
warned = list(caught)
net = theirs({kind!r}, "org/net").eval()
if model.image_shape[1] > 64:
    model = model.at_size(30, 24)
x = images(model)
scale, shift = net.config.get("scaling_factor") or 1, net.config.get("shift_factor") or 0
with torch.no_grad():
    out = net.encode(2 * x - 1)
    z = out.latent_dist.mean if hasattr(out, "latent_dist") else out[0]
    more = ({{"generator": [torch.Generator().manual_seed(0) for _ in x]}}
            if {kind!r} == "ConsistencyDecoderVAE" else {{}})
    y = (net.decode(z, **more).sample / 2 + 0.5).clamp(0, 1)
codes, back = model.encode(x), model.reconstruct(x)
answer([untouched, float((codes - (z - shift) * scale).abs().max()), float(codes.std()),
        float((back - y).abs().max()), float(y.std()), float((back[1:2]
        - model.reconstruct(x[1:2])).abs().max()), list(model.features(x).shape),
        list(model.score(x).shape), list(model.code_shape), list(codes.shape[1:]),
        model.spec.summary, warned])
""")
    assert got[0]
    assert got[1] <= 1e-5
    assert got[2] > 1e-3, "codes that are nearly constant"
    assert got[3] <= 1e-5
    assert got[4] > 1e-3, "pictures that are nearly constant"
    assert got[5] <= 1e-5, "a result depends on its batch"
    assert got[7] == [3]
    assert got[8] == got[9]
    assert got[6] == [3, got[8][0] * min(8, got[8][1]) * min(8, got[8][2])]
    assert f"org/net@{sha}; licence: mit" in got[10]
    assert got[11] == []


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("DDPMPipeline", {"steps": 5}),
        ("DDIMPipeline", {"steps": 5}),
        ("LDMPipeline", {"steps": 5}),
        ("ConsistencyModelPipeline", {"steps": 2, "label": 3}),
        ("DiTPipeline", {"steps": 4, "label": 7, "guidance": 2.5}),
        ("DiTPipeline", {"steps": 4, "label": 7, "guidance": 1}),
    ],
)
def test_generate_gives_the_bytes_of_diffusers(hub, ask, tmp_path, kind, options):
    hub.put("org/net", saved(tmp_path, pipeline(kind)))
    got = ask(f"""
options = {options!r}
before = torch.get_rng_state()
model = zoo.load("diffusers:org/net")
ours = model.generate(3, seed=5, **options)
untouched = bool(torch.equal(before, torch.get_rng_state()))
pipe = theirs({kind!r}, "org/net")
asked = {{"num_inference_steps": options["steps"]}}
if "label" in options:
    asked["class_labels"] = [options["label"]] * 3
if "guidance" in options:
    asked["guidance_scale"] = options["guidance"]
if {kind!r} != "DiTPipeline":
    asked["batch_size"] = 3
((n, seed),) = model._blocks(3, 5)
y = pipe(generator=torch.Generator().manual_seed(seed), output_type="np", **asked).images
y = torch.from_numpy(y).permute(0, 3, 1, 2)
answer([untouched, bool(torch.equal(ours, y)), list(ours.shape), list(model.image_shape),
        float(ours.std()), bool(torch.equal(ours, model.generate(3, seed=6, **options))),
        list(model.capabilities), sorted(model.spec.generate_options)])
""")
    assert got[:2] == [True, True]
    assert got[2] == [3, *got[3]]
    assert got[3] == [3, 16, 16]
    assert got[4] > 1e-3
    assert got[5] is False
    assert got[6] == ["generate"]
    assert set(options) <= set(got[7])


def test_a_class_by_its_name(hub, ask, tmp_path):
    files = saved(tmp_path, pipeline("DiTPipeline"))
    names = {"1": "goldfish, Carassius auratus", "7": "cock", "1000": "beyond", "x": "a", "8": 3}
    index = {**json.loads(files["model_index.json"]), "id2label": names}
    hub.put("org/net", {**files, "model_index.json": json.dumps(index).encode()})
    got = ask("""
model = zoo.load("diffusers:org/net")
make = lambda **how: model.generate(1, seed=5, steps=1, **how)
answer([sorted(model.labels.items()),
        bool(torch.equal(make(named="Carassius auratus"), make(label=1))),
        error_of(make, named="godfish"), error_of(make, named="beyond"),
        error_of(make, named="cock", label=1)])
""")
    assert got[0] == [["Carassius auratus", 1], ["cock", 7], ["goldfish", 1]]
    assert got[1]
    assert [kind for kind, _ in got[2:]] == ["InputError"] * 3
    assert got[2][1] == "diffusers:org/net has no class named 'godfish'. Try: 'goldfish'"
    assert got[3][1].endswith("has no class named 'beyond'. Try: one such as 'goldfish'")
    assert got[4][1] == "diffusers:org/net: either label=1 or named='cock', not both"


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("vae"), network("AutoencoderKL"))


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("ddpm"), pipeline("DDPMPipeline"))


@pytest.mark.parametrize("files", ["vae", "ddpm"])
def test_contract(hub, ask, request, files):
    """The checks of zoo.testing, but for those that start processes of their own."""
    hub.put("org/net", request.getfixturevalue(files))
    held, failed, no = ask("""
from zoo.testing import CHECKS, EXPENSIVE, NotApplicable
held, failed, no = [], [], []
for check in CHECKS:
    if check in EXPENSIVE or check.__name__ in EXPENSIVE:
        continue
    try:
        check("diffusers:org/net")
        held.append(check.__name__)
    except NotApplicable:
        no.append(check.__name__)
    except Exception as error:
        failed.append([check.__name__, str(error)[:400]])
answer([held, failed, no])
""")
    assert failed == []
    assert len(held) > len(no)


TENSORS = "diffusion_pytorch_model.safetensors"
INDEX = f"{TENSORS}.index.json"
CODES = "zoo.load({!r}).encode(torch.full((2, 3, 16, 16), 0.5)).tolist()"


def changed(data: bytes, **more) -> bytes:
    return json.dumps({**json.loads(data), **more}).encode()


def renamed(data: bytes, change) -> bytes:
    tensors = safetensors.torch.load(data)
    return safetensors.torch.save({change(k): t for k, t in tensors.items()})


def test_old_repositories(hub, ask, vae, ddpm):
    """Attention's layers by their old names, and the parts of a pipeline without folders."""
    hub.put("org/vae", vae)
    hub.put("org/ddpm", ddpm)

    def old(name):
        for new, before in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"),
                            ("to_out.0", "proj_attn")):  # fmt: skip
            name = name.replace(f".{new}.", f".{before}.")
        return name

    hub.put("org/old", {**vae, TENSORS: renamed(vae[TENSORS], old)})
    flat = {path.rpartition("/")[2]: data for path, data in ddpm.items()}
    hub.put("org/flat", {**flat, TENSORS: renamed(flat[TENSORS], old)})
    new, before, same = ask(f"""
a, b = (zoo.load("diffusers:org/" + n).generate(1, seed=1, steps=2) for n in ("ddpm", "flat"))
answer([{CODES.format("diffusers:org/vae")}, {CODES.format("diffusers:org/old")},
        bool(torch.equal(a, b))])
""")
    assert new == before
    assert same


def test_folder_and_shards(hub, ask, vae, ddpm):
    hub.put("org/vae", vae)
    tensors = safetensors.torch.load(vae[TENSORS])
    first = {k: t for k, t in tensors.items() if k < "encoder"}
    second = {k: t for k, t in tensors.items() if k >= "encoder"}
    shards = {"a-1.safetensors": first, "a-2.safetensors": second}
    weight_map = {k: name for name, ts in shards.items() for k in ts}
    parts = {name: safetensors.torch.save(ts) for name, ts in shards.items()}
    parts |= {INDEX: json.dumps({"weight_map": weight_map}).encode(), "config.json":
              vae["config.json"]}  # fmt: skip
    index = {"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "AutoencoderKL"]}
    hub.put("org/sd", {"model_index.json": json.dumps(index).encode(),
                       **{f"vae/{name}": data for name, data in parts.items()}})  # fmt: skip
    whole, folder, error = ask(f"""
answer([{CODES.format("diffusers:org/vae")}, {CODES.format("diffusers:org/sd#vae")},
        error_of(zoo.load, "diffusers:org/sd")])
""")
    assert whole == folder
    assert error[0] == "InvalidConfig"
    assert "Its autoencoder alone: diffusers:org/sd#vae" in error[1]


def test_pull_info_and_offline(hub, ask, ddpm, vae):
    sha = hub.put("org/ddpm", ddpm)
    folder, commit, record = ask("""
from zoo.api import pulled
folder, commit = pulled("diffusers:org/ddpm")
answer([sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()), commit,
        zoo.info("diffusers:org/ddpm").to_dict()])
""")
    assert folder == [
        "README.md", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json",
        f"unet/{TENSORS}",
    ]  # fmt: skip
    assert commit == sha
    assert (record["capabilities"], record["image_shape"]) == (["generate"], [3, 16, 16])
    assert "licence: mit" in record["summary"]
    assert record["generate_options"]["steps"]["maximum"] == 20
    hub.requests.clear()
    code = "answer([zoo.load({!r}).generate(1, seed=1, steps=2).tolist(), caught])"
    pinned, caught = ask(code.format(f"diffusers:org/ddpm@{sha}"))
    assert (hub.requests, caught) == ([], [])
    hub.stop()
    branch, caught = ask(code.format("diffusers:org/ddpm"))
    assert branch == pinned
    assert {category for category, _ in caught} == {"StaleWeights"}


def test_sampler_label_and_size(hub, ask, ddpm, vae, tmp_path):
    hub.put("org/ddpm", ddpm)
    hub.put("org/vae", {**vae, "config.json": changed(vae["config.json"], sample_size=256)})
    hub.put("org/cm", saved(tmp_path, pipeline("ConsistencyModelPipeline")))
    got = ask("""
model = zoo.load("diffusers:org/ddpm")
ours = model.generate(2, seed=5, steps=4, sampler="ddim")
pipe = diffusers.DDIMPipeline(**theirs("DDPMPipeline", "org/ddpm").components)
((n, seed),) = model._blocks(2, 5)
y = pipe(2, generator=torch.Generator().manual_seed(seed), num_inference_steps=4,
         output_type="pt").images
cm = zoo.load("diffusers:org/cm")
vae = zoo.load("diffusers:org/vae")
big = vae.at_size(601, 600)
x = images(big, 1)
net = theirs("AutoencoderKL", "org/vae").eval()
net.enable_tiling()
with torch.no_grad():
    z = (net.encode(2 * x - 1).latent_dist.mode() - 0.25) * 0.5
answer([bool(torch.equal(ours, y)), bool(torch.equal(cm.generate(2, seed=1),
        cm.generate(2, seed=1))), error_of(cm.generate, 1, label=5)[0],
        error_of(vae.generate, 1)[0], error_of(vae.at_size, 0, 5)[0],
        list(big.image_shape), big.net.use_tiling, vae.net.use_tiling, list(vae.image_shape),
        list(big.encode(x).shape[1:]) == list(big.code_shape) == list(big.spec.code_shape),
        list(big.reconstruct(x).shape), big.preprocessing.height,
        float((big.encode(x) - z).abs().max()) <= 1e-5])
""")
    assert got[:5] == [True, True, "InputError", "CapabilityError", "InputError"]
    assert got[5:9] == [[3, 602, 600], True, False, [3, 256, 256]]
    assert got[9:] == [True, [1, 3, 602, 600], 602, True]


def test_repositories_that_nobody_should_trust(hub, ask, vae, ddpm, tmp_path):
    """Each is refused by one typed error that says why, and nothing of it runs or is taken."""
    ran = tmp_path / "ran"
    pickle = b"\x80\x04cos\nsystem\n(S'touch " + str(ran).encode() + b"'\ntR."
    code = f"open({str(ran)!r}, 'w')".encode()
    without = {k: v for k, v in vae.items() if k != TENSORS}
    config, index = vae["config.json"], ddpm["model_index.json"]

    def of_vae(**more):
        return {**vae, "config.json": changed(config, **more)}

    def of_index(**more):
        return {**ddpm, "pipeline.py": code, "model_index.json": changed(index, **more)}

    def sharded(weight_map):
        return {**without, INDEX: json.dumps({"weight_map": weight_map}).encode()}

    unet = json.loads(ddpm["unet/config.json"])
    repositories = {
        "pickle": ({**without, "diffusion_pytorch_model.bin": pickle}, "UnsafeWeights",
                   "is a pickle or may be one"),
        "named": ({**without, "diffusion_pytorch_model.bin": pickle}, "UnsafeWeights",
                  "diffusers:madebyollin/taesd, diffusers:stabilityai/sd-vae-ft-mse"),
        "disguised": ({**vae, TENSORS: pickle}, "CorruptWeights", "is no file of safetensors"),
        "cut": ({**vae, TENSORS: vae[TENSORS][:-9]}, "CorruptWeights", "no file of safetensors"),
        "nothing": (without, "WeightsNotFound", f"has no {TENSORS}"),
        "stranger": (of_vae(_class_name="os.system\x1b[31m"), "InvalidConfig",
                     "for the class 'os.system\\x1b[31m', which the zoo does not build"),
        "list": (of_vae(_class_name=["pipeline", "AutoencoderKL"]), "InvalidConfig",
                 "AutoencoderDC, AutoencoderKL, AutoencoderTiny"),
        "mapped": ({**of_vae(auto_map={"AutoModel": "net.Net"}, _class_name="Net",
                             trust_remote_code=True), "net.py": code},
                   "InvalidConfig", "for the class 'Net'"),
        "custom": (of_index(_class_name=["pipeline", "Mine"]), "InvalidConfig",
                   "for the class ['pipeline', 'Mine']"),
        "pipeline": (of_index(_class_name="Mine"), "InvalidConfig", "for the class 'Mine'"),
        "module": (of_index(unet=["pipeline", "UNet2DModel"]), "InvalidConfig",
                   "for the class ['pipeline', 'UNet2DModel'] as its unet"),
        "scheduler": (of_index(scheduler=["diffusers", "EulerDiscreteScheduler"]),
                      "InvalidConfig", "as its scheduler"),
        "climbs": (sharded({"a": "../../x.safetensors"}), "InvalidConfig",
                   "names '../../x.safetensors', expected a file of safetensors beside it"),
        "absolute": (sharded({"a": "/etc/passwd"}), "InvalidConfig", "names '/etc/passwd'"),
        "shard": (sharded({"a": "a.bin"}), "InvalidConfig", "names 'a.bin'"),
        "shards": (sharded({}), "InvalidConfig", "has no weight_map"),
        "deep": (of_vae(layers_per_block=10**9), "InvalidConfig", "cannot have 'layers_per_block'"),
        "long": (of_vae(block_out_channels=[8] * 10**4), "InvalidConfig", "cannot have 'block"),
        "wide": (of_vae(block_out_channels=[8, 2**19]), "TensorMismatch", "has another shape"),
        "kind": (of_vae(act_fn="os.system"), "InvalidConfig", "cannot build AutoencoderKL"),
        "text": (of_vae(scaling_factor="x"), "InvalidConfig", "could not convert"),
        "steps": ({**ddpm, "scheduler/scheduler_config.json": changed(
                      ddpm["scheduler/scheduler_config.json"], num_train_timesteps=10**9)},
                  "InvalidConfig", "cannot have 'num_train_timesteps'"),
        "channels": ({**ddpm, "unet/config.json": json.dumps({**unet, "in_channels": 5}).encode()},
                     "TensorMismatch", "has another shape"),
        "extra": ({**vae, TENSORS: renamed(vae[TENSORS], lambda k: k.replace("quant_conv.b", "c"))},
                  "TensorMismatch", "does not hold"),
        "nan": ({**vae, TENSORS: safetensors.torch.save({k: t / 0 for k, t in
                 safetensors.torch.load(vae[TENSORS]).items()})}, "TensorMismatch", "holds NaN"),
    }  # fmt: skip
    for name, (files, *_) in repositories.items():
        hub.put(f"org/{name}", files)
    names = [f"diffusers:org/{name}" for name in repositories]
    errors = ask(f"answer([error_of(zoo.load, name) for name in {names!r}])")
    for (name, (_, kind, part)), (got, text) in zip(repositories.items(), errors, strict=True):
        assert got == kind, f"{name}: {got}: {text}"
        assert part in text, f"{name}: {text}"
        assert f"org/{name}" in text
        assert text.replace("\n", "").isprintable(), name
    assert not ran.exists()
    assert not [r for r in hub.requests if r.path.endswith((".bin", ".py", "passwd"))]
