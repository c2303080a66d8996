"""From a name to the files of one commit: with the real client, against a Hub on loopback.

What can go wrong on the way is in test_faults.py, what somebody may have put there on purpose
in test_hostile.py.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from hubserver import HubServer
from huggingface_hub import close_session, constants, get_session, hf_hub_download
from huggingface_hub.utils import http_backoff

import zoo
import zoo.hub
import zoo.registry
from zoo import errors
from zoo.authoring import checking
from zoo.cli import main
from zoo.hub import hub_errors
from zoo.hub.client import with_retries
from zoo.names import is_commit, is_repo, is_revision
from zoo.report.card import render_card
from zoo.sample import sample
from zoo.sources import weights_folder

REPO = "org/ae.mine"
NAMES = {"config.json", "metrics.json", "model.safetensors", "vectors.safetensors", "README.md"}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """What a published set of weights consists of."""
    folder = weights_folder("ae.mnist")
    card = render_card(folder, "ae.mnist").encode()
    return {"README.md": card, **{p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}}


@pytest.fixture(autouse=True)
def home(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client of this process knows the test's Hub, an empty cache, and no token."""
    url = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": url,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_TOKEN_PATH": str(tmp_path / "token"),
        "HF_HUB_DISABLE_XET": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "ZOO_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr("zoo.hub.client.PAUSES", (0.01,))
    return tmp_path


@pytest.fixture
def sha(hub: HubServer, files: dict[str, bytes]) -> str:
    return hub.put(REPO, files)


def config_with(files, **changes):
    return json.dumps({**json.loads(files["config.json"]), **changes}).encode()


def asked(hub, part=""):
    return [str(request) for request in hub.requests if part in str(request)]


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def process(hub, home, code, *arguments, **more):
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ZOO_"))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env={**environ, **hub.env(home), **more},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_config_is_read_once_on_the_way_to_a_model(sha, files, monkeypatch):
    texts, loads = [], json.loads
    monkeypatch.setattr(json, "loads", lambda text, **how: texts.append(text) or loads(text, **how))
    config = files["config.json"]
    model = zoo.load(f"hf-hub:{REPO}")  # nothing is in the cache
    assert texts.count(config) == 1
    for name in (model.name, f"hf-hub:{REPO}"):  # pinned, and asked for again
        texts.clear()
        source = zoo.load(name).source
        assert texts.count(config) == 1
        assert (source.kind, source.commit, source.name) == ("hub", sha, f"hf-hub:{REPO}@{sha}")
        assert (source.folder / "config.json").read_bytes() == config


# -- which commit --------------------------------------------------------------------------------


def test_a_commit_is_itself_without_a_request(hub, sha):
    assert zoo.hub.resolve(REPO, sha) == (sha, None, False)
    zoo.hub.fetch(REPO, sha)
    hub.stop()
    assert zoo.hub.resolve(REPO, sha) == (sha, None, True)


def test_a_branch_is_asked_for_once_and_all_files_are_of_its_commit(hub, sha, files):
    """Somebody publishes while we fetch: not one file of the newer commit gets in."""

    def publish():
        hub.put(REPO, {"metrics.json": b"{}", "vectors.safetensors": b"others"})

    hub.fault("HEAD .*config.json", "slow", 1, seconds=0, call=publish)
    folder, commit, requested, _ = zoo.hub.fetch(REPO)
    assert (commit, requested) == (sha, None)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == files
    assert len(asked(hub, "/api/models")) == 1
    assert zoo.hub.resolve(REPO).sha != sha


@pytest.mark.parametrize("revision", ["v1", "main", "feature/a", None])
def test_a_revision_has_a_date(hub, sha, revision):
    one = hub.repos[REPO]
    one.tags["v1"] = one.branches["feature/a"] = one.head
    commit = zoo.hub.resolve(REPO, revision)
    assert (commit.sha, commit.cached) == (sha, False)
    assert commit.date is not None


def test_an_unpinned_name_says_which_commit_it_took(sha, caplog):
    with caplog.at_level(logging.INFO, "zoo"):
        zoo.hub.fetch(REPO)
    (said,) = [r.getMessage() for r in caplog.records if r.name == "zoo"]
    assert f"hf-hub:{REPO}@main is commit {sha} of 20" in said
    assert f"To stay with it: hf-hub:{REPO}@{sha}" in said


def test_a_pinned_name_says_nothing(sha, caplog):
    with caplog.at_level(logging.INFO, "zoo"):
        zoo.hub.fetch(REPO, sha)
    assert [r for r in caplog.records if r.name == "zoo"] == []


def test_without_the_hub_the_cache_is_taken_and_that_is_said(hub, sha):
    zoo.hub.fetch(REPO)
    hub.stop()
    with pytest.warns(errors.StaleWeights) as caught:
        assert zoo.hub.fetch(REPO).commit == sha
    (text,) = [str(w.message) for w in caught]
    for part in ("cannot be reached", f"hf-hub:{REPO}@{sha}", "fetched on 20", "main may have"):
        assert part in text
    with pytest.raises(errors.HubUnreachable, match=r"v1: .* cannot be reached"):
        zoo.hub.fetch(REPO, "v1")


def test_a_commit_that_was_fetched_in_part_is_not_fallen_back_to(hub, sha):
    """As another program leaves it that wants one file only, and writes down what main is."""
    hf_hub_download(REPO, "config.json")
    assert (zoo.hub.cache_folder() / "models--org--ae.mine/refs/main").read_text() == sha
    hub.stop()
    with pytest.raises(errors.HubUnreachable, match="cannot be reached"):
        zoo.hub.fetch(REPO)


def test_the_commit_must_be_one(hub, sha, home):
    def body(climbs):
        return json.dumps({"id": REPO, "sha": climbs, "siblings": []}).encode()

    hub.fault("GET /api/models", "body", 1, body=body("../../../../tmp"))
    with pytest.raises(errors.HubError, match="expected 40 hexadecimal digits"):
        zoo.hub.fetch(REPO)
    hub.fault("GET /api/models", "body", 1, body=body("0" * 40))
    with pytest.raises(errors.HubError, match="which is another"):
        zoo.hub.fetch(REPO, sha)


@pytest.mark.parametrize(
    ("repo", "revision"),
    [("ae", None), ("../x", None), ("a/b/c", None), ("a/..", None), ("a/b", "../x"),
     ("a/b", "/etc"), ("a/b", "x\x1b"), ("a/b", "x//y"), ("a/b", ""), (None, None), ("é/b", None)],
)  # fmt: skip
def test_names_that_are_no_paths(hub, repo, revision):
    assert not (is_repo(repo) and (revision is None or is_revision(revision)))
    with pytest.raises(errors.InvalidName, match="expected a"):
        zoo.hub.fetch(repo, revision)
    assert hub.requests == []


# -- loading -------------------------------------------------------------------------------------

LOAD = """
import sys, zoo, zoo.sample
model = zoo.load(sys.argv[1])
codes = model.encode(model.preprocess(zoo.sample.sample()[0][:4]))
print(model.name, float(codes.sum()), "huggingface_hub" in sys.modules, sep="\\n")
"""


def test_load_and_again_without_a_request(hub, sha, home):
    """Pinned and cached: not one request, nor the client's import; with the Hub gone, too."""
    model = zoo.load(f"hf-hub:{REPO}")
    assert model.name == f"hf-hub:{REPO}@{sha}"
    codes = float(model.encode(model.preprocess(sample()[0][:4])).sum())
    expected = [model.name, str(codes), "False"]
    hub.requests.clear()
    assert process(hub, home, LOAD, model.name).stdout.splitlines() == expected
    assert hub.requests == []
    hub.stop()
    offline = process(hub, home, LOAD, model.name, HF_HUB_OFFLINE="1")
    assert offline.stdout.splitlines() == expected


def test_bad_tensors_in_the_cache_are_noticed_by_loading(hub, sha):
    blob = (zoo.hub.fetch(REPO).folder / "model.safetensors").resolve()
    good = blob.read_bytes()
    blob.write_bytes(good[:1000] + bytes([good[1000] ^ 1]) + good[1001:])
    hub.requests.clear()
    assert zoo.load(f"hf-hub:{REPO}@{sha}").name == f"hf-hub:{REPO}@{sha}"
    assert blob.read_bytes() == good
    assert [r for r in asked(hub) if "model.safetensors" not in r] == []


def test_where_there_are_no_links_bad_files_are_noticed_too(hub, sha):
    """As on Windows, where the cache has the files themselves."""
    folder = zoo.hub.fetch(REPO).folder
    for path in folder.iterdir():
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    path = folder / "model.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert zoo.load(f"hf-hub:{REPO}@{sha}").name == f"hf-hub:{REPO}@{sha}"
    assert path.read_bytes() == good


def test_a_model_that_is_not_here_is_told_before_the_tensors_are_fetched(hub, files):
    config = config_with(files, model="stranger", plugin="their-zoo")
    hub.put(REPO, {**files, "config.json": config})
    with pytest.raises(errors.InvalidConfig) as caught:
        zoo.load(f"hf-hub:{REPO}")
    for part in (f"hf-hub:{REPO} asks", "'stranger'", "'their-zoo'", "nobody checked"):
        assert part in str(caught.value)
    assert asked(hub, ".safetensors") == []
    assert (zoo.pull(f"hf-hub:{REPO}") / "model.safetensors").exists()


def test_the_token_is_sent_and_never_shown(hub, files, caplog):
    hub.add_user("org", "hf_secret")
    hub.put(REPO, files)
    hub.repos[REPO].private = True
    with pytest.raises(errors.RepositoryNotFound, match="private"):
        zoo.pull(f"hf-hub:{REPO}")
    with caplog.at_level(logging.DEBUG), pytest.raises(errors.AccessDenied) as caught:
        zoo.pull(f"hf-hub:{REPO}", token="hf_wrong")
    zoo.pull(f"hf-hub:{REPO}", token="hf_secret")
    assert "does not accept your token" in str(caught.value)
    assert "hf_wrong" not in str(caught.value) + caplog.text
    assert "hf_secret" not in caplog.text


# -- what is refused -----------------------------------------------------------------------------


def refused(kind, *parts, revision=None):
    with pytest.raises(errors.ZooError) as caught:
        zoo.hub.fetch(REPO, revision)
    assert type(caught.value) is kind, caught.value
    for part in parts:
        assert part in str(caught.value)
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("name", "bytes_"),
    [("config.json", 1_000_001), ("metrics.json", 1_000_001), ("README.md", 1_000_001)],
)
def test_too_large(hub, files, name, bytes_):
    hub.put(REPO, {**files, name: files[name] + b" " * (bytes_ - len(files[name]))})
    refused(errors.InvalidConfig, f"{name} has 1,000,001 bytes, expected at most 1,000,000")
    assert asked(hub, "resolve") == []


def test_tensors_of_another_size_or_sha_are_not_fetched(hub, files):
    hub.put(REPO, {**files, "model.safetensors": files["model.safetensors"] + b"more"})
    refused(errors.CorruptWeights, "model.safetensors has the size 189380", "says 189376")
    hub.put(REPO, {"model.safetensors": files["model.safetensors"][:-1] + b"x"})
    refused(errors.CorruptWeights, "model.safetensors has the sha256 ", "its owner should")
    assert asked(hub, "model.safetensors") == []


@pytest.mark.parametrize("name", ["pytorch_model.bin", "sub/x.PKL"])
def test_a_pickle_beside_the_tensors(hub, files, name):
    hub.put(REPO, {**files, name: b"cos\nsystem\n"})
    refused(errors.UnsafeWeights, repr(name), "Nothing was loaded")
    assert asked(hub, ".safetensors") == []


@pytest.mark.parametrize(
    ("theirs", "kind", "parts"),
    [
        ({"config.json": b'{"model_type": "vit"}', "pytorch_model.bin": b""},
         errors.WeightsNotFound, ["of something else", "transformers.AutoModel.from_pretrained"]),
        ({"config.json": b'{"architecture": "resnet18", "pretrained_cfg": {}}'},
         errors.WeightsNotFound, ["zoo.load('timm:hf-hub:org/ae.mine')", "latentzoo-timm)"]),
        ({"open_clip_config.json": b"{}", "open_clip_pytorch_model.bin": b""},
         errors.WeightsNotFound, ["zoo.load('clip:hf-hub:org/ae.mine')", "latentzoo-clip)"]),
        ({"model_index.json": b"{}"},
         errors.WeightsNotFound, ["no config.json", "zoo.load('diffusers:org/ae.mine')"]),
        ({"README.md": b"---\nlibrary_name: \"ker\\eas\"\n---\n"},
         errors.WeightsNotFound, ["says that it is a repository of ker"]),
        ({"notes.txt": b""}, errors.WeightsNotFound, ["It has: .gitattributes, notes.txt"]),
        ({"model.pkl": b""}, errors.UnsafeWeights, ["'model.pkl'", "the zoo never does"]),
        ({"config.json": b"{}"}, errors.WeightsNotFound, ["its config.json is of something else"]),
        ({"config.json": b"["}, errors.InvalidConfig, ["is not valid JSON"]),
    ],
    ids=["transformers", "timm", "open_clip", "diffusers", "named", "files", "pickle", "empty",
         "broken"],
)  # fmt: skip
def test_repositories_of_others(hub, theirs, kind, parts):
    hub.put(REPO, theirs)
    refused(kind, *parts)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"size": "9"}, "size should be int, got '9'"),
        ({"size": True}, "size should be int"),
        ({"sha256": None}, "sha256 should be str"),
        ({"config": []}, "config should be dict"),
        ({"model": {}}, "model should be str"),
    ],
    ids=str,
)
def test_a_config_of_other_kinds(hub, files, changes, text):
    hub.put(REPO, {**files, "config.json": config_with(files, **changes)})
    refused(errors.InvalidConfig, text)


# -- the plugins' own records --------------------------------------------------------------------

PLUGIN = """
from zoo import ModelSpec, Weights, hookimpl

@hookimpl
def zoo_models():
    weights = Weights.from_dict({record!r})
    return [ModelSpec(name="far_ae", family="autoencoder", builder="zoo_ae.ae:AE",
                      summary="lives on the Hub", image_shape=(1, 28, 28), code_shape=(32,),
                      config={config!r}, weights=(weights,))]
"""


@pytest.fixture
def far(hub, sha, files, tmp_path, write_plugin, monkeypatch):
    """``far(**changes)``: a plugin whose record of weights is on the Hub, and differs so."""

    def make(**changes):
        record = {**zoo.info("ae.mnist").weights[0].to_dict(), "metrics": [], "tag": "mnist"}
        record |= {"repo": REPO, "revision": sha, **changes}
        config = dict(zoo.info("ae").config)
        source = PLUGIN.format(record=record, config=config)
        write_plugin(tmp_path / "plugins" / "far", "latentzoo-far", "zoo_far", source)
        monkeypatch.setattr(zoo.registry, "_trees", [tmp_path])
        monkeypatch.setattr(zoo.registry, "_registry", None)
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.delitem(sys.modules, "zoo_far", raising=False)

    yield make
    sys.modules.pop("zoo_far", None)


def test_a_record_that_is_on_the_hub(hub, sha, far):
    far()
    assert zoo.load("far_ae").name == "far_ae.mnist"
    assert weights_folder("far_ae.mnist").name == sha
    hub.requests.clear()
    zoo.load("far_ae.mnist")
    assert hub.requests == []


def test_a_record_says_other_bytes(hub, far):
    far(sha256="0" * 64)
    with pytest.raises(errors.CorruptWeights, match="the plugin's record says 000"):
        zoo.load("far_ae")
    assert asked(hub, "model.safetensors") == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"repo": None}, "names no repository on the Hub"), ({"revision": None}, "names no commit")],
)
def test_a_record_that_is_nowhere(far, changes, text):
    far(**changes)
    with pytest.raises(errors.WeightsNotFound) as caught:
        zoo.load("far_ae")
    assert text in str(caught.value)
    assert "does not ship the weights" in str(caught.value)


def test_the_hub_before_what_is_bundled(monkeypatch):
    monkeypatch.setenv("ZOO_WEIGHTS", "hub")
    with pytest.raises(errors.WeightsNotFound, match=r"record of ae.mnist .* names no repository"):
        zoo.load("ae.mnist")
    monkeypatch.setenv("ZOO_WEIGHTS", "hug")
    with pytest.raises(errors.WeightsError, match=r"ZOO_WEIGHTS should be 'hub', .* 'hug'"):
        zoo.load("ae.mnist")


# -- pulling, describing, searching --------------------------------------------------------------


def test_pull_to_a_folder(sha, files, tmp_path):
    result = run("pull", f"hf-hub:{REPO}", "--to", tmp_path / "w", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said == {"name": f"hf-hub:{REPO}", "commit": sha, "folder": str(tmp_path / "w")}
    assert f"main is commit {sha}" in result.stderr
    assert {p.name: p.read_bytes() for p in (tmp_path / "w").iterdir()} == files
    assert not any(p.is_symlink() for p in (tmp_path / "w").iterdir())
    again = run("pull", f"hf-hub:{REPO}", "--to", tmp_path / "w")
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_pull_what_is_here(hub, sha):
    assert zoo.pull("ae.mnist") == weights_folder("ae.mnist")
    assert hub.requests == []
    folder = zoo.pull(f"hf-hub:{REPO}@{sha}")
    assert {p.name for p in folder.iterdir()} == NAMES
    assert zoo.pull(f"local-dir:{folder}") == folder


def test_the_command_line_says_when_it_falls_back(hub, sha):
    zoo.pull(f"hf-hub:{REPO}")
    hub.stop()
    result = run("pull", f"hf-hub:{REPO}")
    assert result.exit_code == 0
    assert "cannot be reached" in result.stderr
    assert f"Taken from the cache: hf-hub:{REPO}@{sha}" in result.stderr
    assert "StaleWeights" not in result.stderr


def test_describe_fetches_no_tensors(hub, sha, files):
    said = zoo.hub.describe(REPO)
    assert said["commit"] == sha
    assert said["config"] == json.loads(files["config.json"])
    assert said["card"] == files["README.md"].decode()
    assert said["tensors"]["encoder.0.weight"] == {"dtype": "F16", "shape": [32, 784]}
    assert {m["name"] for m in said["metrics"]} >= {"mse", "probe"}
    of_tensors = [r for r in hub.requests if "model.safetensors" in r.path]
    assert of_tensors
    assert all("range" in {name.lower() for name in r.headers} for r in of_tensors)
    zoo.pull(f"hf-hub:{REPO}@{sha}")
    hub.requests.clear()
    assert zoo.hub.describe(REPO, sha) == said
    assert hub.requests == []


def test_info(hub, sha, files):
    text = run("info", f"hf-hub:{REPO}").stdout
    for part in (f"hf-hub:{REPO}@{sha}", "ae of the plugin latentzoo-ae", "Shallow autoencoder",
                 "encoder.0.weight   32 x 784", "189,376 bytes in 9 tensors", "mse"):  # fmt: skip
        assert part in text
    assert json.loads(run("info", f"hf-hub:{REPO}", "--json").stdout)["commit"] == sha
    assert zoo.info(f"hf-hub:{REPO}").name == "ae"


def test_info_of_a_stranger_is_printable(hub, files):
    hostile = "\x1b]0;pwned\x07 \x9b31m<script>"
    config = config_with(files, model="ae\x1b[31m", plugin=hostile, dataset=hostile)
    card = f"---\ntags: [latentzoo]\n---\n# title\n\n{hostile} said the card\n".encode()
    hub.put(REPO, {**files, "config.json": config, "README.md": card})
    result = run("info", f"hf-hub:{REPO}")
    assert result.exit_code == 0, result.output
    assert result.stdout.replace("\n", "").isprintable()
    assert "which is not installed" in " ".join(result.stdout.split())
    assert "said the card" in result.stdout
    assert run("info", f"hf-hub:{REPO}", "--json").stdout.replace("\n", "").isprintable()


def test_search(hub, sha, files):
    card = b"---\nlibrary_name: latentzoo\ntags: [latentzoo, gan, far\x21gan]\n---\n# x\n"
    hub.put("other/stranger", {**files, "README.md": card})
    hub.put("org/bert", {"README.md": b"---\nlibrary_name: transformers\n---\n"})
    rows = {row["repo"]: row for row in zoo.hub.search()}
    assert set(rows) == {REPO, "other/stranger"}
    mine = rows[REPO]
    assert (mine["name"], mine["commit"], mine["licence"]) == (f"hf-hub:{REPO}", sha, "mit")
    assert mine["datasets"] == ["ylecun/mnist"]
    figure = mine["figures"][0]
    assert (figure["name"], figure["dataset"], float(figure["value"]) > 0) == ("sse", "MNIST", True)
    assert [row["repo"] for row in zoo.hub.search("AE")] == [REPO]
    assert [row["repo"] for row in zoo.hub.search(author="other")] == ["other/stranger"]
    assert len(zoo.hub.search(limit=1)) == 1
    table = run("search").stdout
    for part in (f"hf-hub:{REPO}", "far!gan (not installed)", "squared error per image 7.5514"):
        assert part in table
    said = {row["repo"]: row for row in json.loads(run("search", "--json").stdout)}
    assert (said[REPO]["model"], said[REPO]["installed"]) == ("ae", True)
    assert said["other/stranger"]["installed"] is False
    assert run("search", "nothing", "of", "this").stdout == "Nothing on the Hub matches.\n"


def test_search_of_another_library(hub):
    hub.put("org/towers", {"README.md": b"---\nlibrary_name: open_clip\n---\n"})
    hub.put("org/net", {"README.md": b"---\nlibrary_name: timm\n---\n"})
    (row,) = zoo.hub.search(library="open_clip")
    assert row["name"] == "clip:hf-hub:org/towers"
    (row,) = json.loads(run("search", "--library", "timm", "--json").stdout)
    assert (row["name"], row["model"]) == ("timm:hf-hub:org/net", "timm")
    hub.put("org/vae", {"README.md": b"---\nlibrary_name: diffusers\n---\n"})
    (row,) = json.loads(run("search", "--library", "diffusers", "--json").stdout)
    assert (row["name"], row["model"]) == ("diffusers:org/vae", "diffusers")
    assert tuple(zoo.hub.foreign.LIBRARIES) == zoo.cli.hub.LIBRARIES
    with pytest.raises(errors.InputError, match="libraries: diffusers, open_clip, timm"):
        zoo.hub.search(library="keras")


def test_the_first_of_several_layouts(hub):
    """``fetch_first``: by one listing, and of a pinned commit without any when it is cached."""
    old = hub.put("org/net", {"a.json": b"{}", "sub/b.json": b"{}", "sub/x.bin": b"x"})
    choices = [("index.json",), ("a.json", "sub/b.json"), ("a.json",)]
    fetched, names = zoo.hub.fetch_first("org/net", choices)
    assert (fetched.commit, fetched.requested, names) == (old, None, choices[1])
    assert (fetched.folder / "sub" / "b.json").read_bytes() == b"{}"
    new = hub.put("org/net", {"index.json": b"{}"})
    assert zoo.hub.fetch_first("org/net", choices)[1] == choices[0]
    assert zoo.hub.fetch_first("org/net", choices, new)[0].commit == new
    hub.requests.clear()
    assert zoo.hub.fetch_first("org/net", choices, old)[1] == choices[1]
    assert hub.requests == []
    with pytest.raises(errors.WeightsNotFound, match=f"org/net@{new} has no c.json or d.json"):
        zoo.hub.fetch_first("org/net", [("c.json",), ("d.json",)])
    with pytest.raises(errors.UnsafeWeights, match=r"has no sub/x.safetensors, and 'sub/x.bin' is"):
        zoo.hub.fetch_first("org/net", [("sub/x.safetensors",)])
    with pytest.raises(errors.UnsafeWeights, match="may be a pickle"):
        zoo.hub.fetch_first("org/net", [("sub/x.bin",)])
    hub.stop()
    with pytest.warns(errors.StaleWeights, match=new):
        assert zoo.hub.fetch_first("org/net", choices)[0].commit == new
    with pytest.raises(errors.HubUnreachable):
        zoo.hub.fetch_first("org/net", [("c.json",)])


# -- the client ----------------------------------------------------------------------------------

CACHES = [
    {},
    {"HF_HOME": "/a/b"},
    {"HF_HOME": "~/x/$ZOO_HERE"},
    {"XDG_CACHE_HOME": "/xdg"},
    {"XDG_CACHE_HOME": "/xdg", "HF_HOME": "/a"},
    {"HUGGINGFACE_HUB_CACHE": "/old"},
    {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "~/new"},
    {"HF_HOME": "/a", "HF_HUB_CACHE": "$ZOO_HERE/c"},
]


def test_the_cache_is_where_the_client_has_it():
    code = """
    import importlib, json, os, sys
    from zoo import hub
    import huggingface_hub.constants as client
    for environ in json.loads(sys.argv[1]):
        for name in ("HF_HOME", "XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE", "HF_HUB_CACHE"):
            os.environ.pop(name, None)
        os.environ.update(environ, ZOO_HERE="here")
        theirs = importlib.reload(client).HF_HUB_CACHE
        assert str(hub.cache_folder()) == theirs
        del sys.modules["huggingface_hub.constants"]
        ours = hub.cache_folder()
        sys.modules["huggingface_hub.constants"] = client
        print(ours == type(ours)(theirs), ours)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), json.dumps(CACHES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(CACHES)
    assert [line for line in lines if not line.startswith("True ")] == []


def test_the_layout_is_the_client_s(sha):
    """What it finds without the network is what we fetched, and the other way round."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    folder = zoo.hub.fetch(REPO).folder
    assert try_to_load_from_cache(REPO, "model.safetensors") == str(folder / "model.safetensors")
    assert try_to_load_from_cache(REPO, "config.json", revision=sha) == str(folder / "config.json")
    assert Path(snapshot_download(REPO, revision=sha)).resolve() == folder.resolve()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry-After": "7"}, 7), ({"RateLimit": '"api";r=0;t=55'}, 55), ({}, None),
     ({"RateLimit": '"api";r=9;t=55'}, None), ({"Retry-After": "Wed, 21 Oct"}, None)],
)  # fmt: skip
def test_how_long_to_wait(headers, seconds):
    import httpx2

    assert zoo.hub.errors.retry_after(httpx2.Response(429, headers=headers)) == seconds


def test_errors_of_others_are_chained_and_ours_pass():
    with pytest.raises(errors.HubError, match="makes no sense") as caught, hub_errors("a/b"):
        raise KeyError("sha")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(errors.UnknownTag), hub_errors():
        raise errors.UnknownTag("mine")
    with pytest.raises(errors.HubError, match="/full cannot be written: No space"), hub_errors():
        raise OSError(28, "No space left on device", "/full")


def test_the_hub_s_part_is_light():
    code = """
    import sys, zoo.hub, zoo.cli.hub
    heavy = ("torch", "numpy", "huggingface_hub", "httpx2", "requests", "yaml")
    print([name for name in heavy if name in sys.modules])
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_commits():
    assert is_commit("0123456789" * 4)
    for other in ("0" * 39, "0" * 41, "G" * 40, "A" * 40, None, 3):
        assert not is_commit(other)


def test_threads_may_fetch_at_once(hub, files):
    """And leave the client as it was."""
    names = [hub.put(f"org/n{i}", files) and f"hf-hub:org/n{i}" for i in range(4)]
    session = get_session()
    hooks = dict(session.event_hooks)
    hub.fault("HEAD", "slow", seconds=0.02)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(zoo.pull, names))
    assert [(f / "model.safetensors").read_bytes() for f in folders] == [
        files["model.safetensors"]
    ] * 4
    assert get_session() is session
    assert session.event_hooks == hooks


def test_a_refused_connection_is_no_way_to_a_session_that_nobody_watches():
    session = get_session()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: it refuses
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(errors.HubUnreachable, match="cannot be reached"):
            with_retries(lambda: http_backoff("HEAD", address), REPO, None)
    assert get_session() is session


@pytest.mark.parametrize("reconnect", [True, False])
def test_files_are_asked_for_again_when_there_was_no_connection(reconnect):
    tries = iter([ConnectionError("refused"), "there"])

    def call():
        if isinstance(answer := next(tries), Exception):
            raise answer
        return answer

    if reconnect:
        assert with_retries(call, REPO, None, reconnect=True) == "there"
    else:
        with pytest.raises(errors.HubUnreachable, match="refused"):
            with_retries(call, REPO, None)


def test_a_session_that_another_thread_has_made_anew_is_watched_too(hub, sha):
    hub.fault("HEAD", "headers", headers={"ETag": '"../x"'})
    session = get_session()
    tries = iter([OSError("fewer bytes than announced")])

    def ask():
        for error in tries:
            close_session()
            raise error
        return get_session().head(f"{hub.url}/{REPO}/resolve/{sha}/config.json")

    with pytest.raises(errors.HubError, match="no name of a file"):
        with_retries(ask, REPO, None)
    assert get_session() is not session


def test_requests_of_other_threads_are_their_own(hub, sha):
    """An ETag that the zoo refuses is nobody else's concern."""
    hub.fault("HEAD", "headers", headers={"ETag": '"../x"'})
    url = f"{hub.url}/{REPO}/resolve/{sha}/config.json"

    def ask():
        return get_session().head(url).headers["ETag"]

    with ThreadPoolExecutor(1) as other:
        asked = with_retries(lambda: other.submit(ask).result(), REPO, None)
    assert asked == '"../x"'
    with pytest.raises(errors.HubError, match="no name of a file"):
        with_retries(ask, REPO, None)


def test_a_repository_is_checked_at_one_commit(hub, sha):
    hub.requests.clear()
    assert checking.names_of(f"hf-hub:{REPO}") == [f"hf-hub:{REPO}@{sha}"]
    assert sum(r.path.startswith("/api/models") for r in hub.requests) == 1
