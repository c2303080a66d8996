"""Publishing, by the real client to the tests' Hub: all of a folder or nothing, and never other
bytes behind a name that somebody may have pinned."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from huggingface_hub import HfApi, ModelCard

import zoo
from zoo.cli import main
from zoo.errors import HubUnreachable, InvalidName, PublishConflict, SpecError
from zoo.folder import read_json, weights_record
from zoo.sources import weights_folder

TREE = Path(__file__).resolve().parents[2]
TOKEN = "hf_sEcReT"
SENT = ("config.json", "model.safetensors", "vectors.safetensors", "metrics.json", "README.md",
        "README.png")  # fmt: skip


@pytest.fixture(autouse=True)
def ana(hub, monkeypatch, tmp_path):
    """Somebody who may publish to ana/... and org/..., and eve, who may not."""
    constants = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(tmp_path / "no-token"),
    }
    for name, value in constants.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    huggingface_hub.utils.disable_progress_bars()
    hub.add_user("ana", TOKEN, "org")
    hub.add_user("eve", "hf_eve")


@pytest.fixture
def folder(tmp_path):
    """A weights folder of one's own."""
    return Path(shutil.copytree(weights_folder("ae.mnist"), tmp_path / "mine"))


@pytest.fixture
def other(tmp_path):
    """The same model with other tensors."""
    return Path(shutil.copytree(weights_folder("ae.fashion_mnist"), tmp_path / "other"))


def run(*arguments):
    result = CliRunner().invoke(main, ["publish", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert TOKEN not in result.output
    return result


def writes(hub):
    """What was asked of the Hub that could change something."""
    return [str(request) for request in hub.requests if request.method not in ("GET", "HEAD")]


def state(hub):
    """All that a Hub holds, to be compared."""
    return {
        name: (one.private, {b: c.sha for b, c in one.branches.items()}, hub.tags(name))
        for name, one in hub.repos.items()
    }


def change(path, **values):
    path.write_text(json.dumps({**read_json(path), **values}))


# -- what is published -----------------------------------------------------------------------------


def test_a_folder_becomes_one_commit(hub, folder):
    (folder / "checkpoint.safetensors").write_bytes(b"not of a weights folder")
    (folder / "notes.txt").write_text("mine")
    (folder / "README.md").write_text("what lies there is not trusted")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    said = []
    done = zoo.publish(folder, "org/ae.mine", report=said.append)
    assert hub.files("org/ae.mine", done.commit).keys() == {".gitattributes", *SENT}
    assert [c.title for c in hub.commits("org/ae.mine")] == ["ae trained on mnist",
                                                             "initial commit"]  # fmt: skip
    for name in SENT[:4]:
        assert hub.files("org/ae.mine")[name] == before[name]
    assert done.name == f"hf-hub:org/ae.mine@{hub.commits('org/ae.mine')[0].sha}"
    assert done.url == f"{hub.url}/org/ae.mine"
    assert said[0] == "logged in as ana"
    assert "ae: 189,376 bytes of tensors are sound, its 6 vectors come out within" in said[1]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_card_is_what_search_and_readers_need(hub, folder):
    zoo.publish(folder, "org/ae.mine")
    card = ModelCard(hub.files("org/ae.mine")["README.md"].decode())
    data = card.data
    assert (data.library_name, data.license) == ("latentzoo", "mit")
    assert data.tags == ["latentzoo", "autoencoder", "ae", "unsupervised"]
    assert data.pipeline_tag == "image-feature-extraction"
    assert data.model_name == "org/ae.mine"
    assert {"sse", "probe"} <= {result.metric_type for result in data.eval_results}
    assert "\n# org/ae.mine\n" in card.text
    assert 'zoo.load("hf-hub:org/ae.mine")' in card.text
    assert "`hf-hub:org/ae.mine@COMMIT` is the same bytes for ever" in card.text
    assert "](README.png)" in card.text
    (found,) = HfApi(endpoint=hub.url).list_models(filter="latentzoo")
    assert found.id == "org/ae.mine"


def test_what_was_published_is_loaded(hub, folder):
    done = zoo.publish(folder, "org/ae.mine")
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    here, there = zoo.load(f"local-dir:{folder}"), zoo.load(done.name)
    assert torch.equal(here.features(images), there.features(images))
    assert torch.equal(here.generate(2, seed=1), there.generate(2, seed=1))


@pytest.mark.parametrize("kind", [str, Path, "local-dir:{}".format, "ae.mnist".format])
def test_ways_to_name_the_source(hub, folder, kind):
    zoo.publish(kind(folder), "hf-hub:org/ae.mine")
    assert hub.files("org/ae.mine")["config.json"] == (folder / "config.json").read_bytes()


def test_the_same_bytes_again_make_no_commit(hub, folder):
    first = zoo.publish(folder, "org/ae.mine")
    before = state(hub)
    hub.requests.clear()
    result = run(folder, "--to", "org/ae.mine")
    assert "nothing to do: main has these very bytes" in result.stdout
    assert first.name in result.stdout
    assert writes(hub) == []
    assert state(hub) == before


def test_figures_and_card_may_change_where_tensors_may_not(hub, folder):
    (folder / "metrics.json").rename(folder.parent / "later.json")
    said = []
    zoo.publish(folder, "org/ae.mine", report=said.append)
    assert "it has no metrics.json, so its card says that nothing was measured" in said[-1]
    assert f"zoo evaluate local-dir:{folder}" in said[-1]
    assert b"Nothing was measured yet" in hub.files("org/ae.mine")["README.md"]
    (folder.parent / "later.json").rename(folder / "metrics.json")
    done = zoo.publish(folder, "org/ae.mine")
    assert [f.change for f in done.files] == ["same", "same", "same", "new", "changed", "same"]
    assert len(hub.commits("org/ae.mine")) == 3


# -- dry run ---------------------------------------------------------------------------------------


def test_dry_run_changes_nothing(hub, folder, other):
    result = run(folder, "--to", "org/ae.mine", "--tag", "v1", "--private", "--dry-run")
    assert (result.exit_code, hub.repos, writes(hub)) == (0, {}, [])
    assert "logged in as ana" in result.stderr
    for part in ("private repository org/ae.mine would be made", "would be published on main by",
                 "its tag would be v1"):  # fmt: skip
        assert part in result.stdout
    rows = [line.split() for line in result.stdout.splitlines() if line.rstrip().endswith("new")]
    assert [row[0] for row in rows] == [*SENT]
    assert ["model.safetensors", "189,376", "new"] in rows

    zoo.publish(folder, "org/ae.mine")
    before = state(hub)
    hub.requests.clear()
    change(folder / "config.json", licence="CC0-1.0")
    told = json.loads(run(folder, "--to", "org/ae.mine", "--dry-run", "--json").stdout)
    changes = {file["path"]: file["change"] for file in told["files"]}
    assert [name for name in SENT if changes[name] == "changed"] == ["config.json", "README.md"]
    assert (told["commit"], told["committed"], told["dry_run"]) == (None, True, True)
    assert run(other, "--to", "org/ae.mine", "--dry-run").exit_code == 2, "it would be refused"
    assert "eve does not seem to be" not in result.stderr
    assert state(hub) == before
    assert writes(hub) == []


def test_dry_run_tells_of_rights_that_seem_to_be_missing(folder):
    result = run(folder, "--to", "eve/ae.mine", "--dry-run")
    assert "ana does not seem to be a member of eve" in result.stderr


# -- names and tags never change their bytes -------------------------------------------------------


def test_other_weights_need_another_name(hub, folder, other):
    first = zoo.publish(folder, "org/ae.mine")
    before = state(hub)
    hub.requests.clear()
    result = run(other, "--to", "org/ae.mine")
    assert result.exit_code == 2
    assert f"has other weights already, of commit {first.commit}" in result.stderr
    assert "A name never changes its tensors, and nothing was changed" in result.stderr
    assert "--to org/ae.mine_2, or to a new branch: --revision NAME" in result.stderr
    assert (state(hub), writes(hub)) == (before, [])


def test_a_branch_is_made_and_then_is_a_name_too(hub, folder, other):
    first = zoo.publish(folder, "org/ae.mine")
    (other / "metrics.json").unlink()
    done = zoo.publish(other, "org/ae.mine", revision="next/one")
    assert hub.files("org/ae.mine", "main") == hub.files("org/ae.mine", first.commit)
    there = hub.files("org/ae.mine", "next/one")
    assert there["model.safetensors"] == (other / "model.safetensors").read_bytes()
    assert "metrics.json" not in there, "those of main are not of these weights"
    assert b'zoo.load("hf-hub:org/ae.mine@next/one")' in there["README.md"]
    assert done.url.endswith("/org/ae.mine/tree/next/one")
    with pytest.raises(PublishConflict, match=r"hf-hub:org/ae.mine@next/one has other weights"):
        zoo.publish(folder, "org/ae.mine", revision="next/one")
    assert zoo.publish(other, "org/ae.mine", revision="next/one").committed is False


def test_a_branch_that_was_only_made_can_be_filled(hub, folder, other):
    zoo.publish(folder, "org/ae.mine")
    HfApi(endpoint=hub.url, token=TOKEN).create_branch("org/ae.mine", branch="next")
    change(folder / "config.json", licence="CC0-1.0")
    zoo.publish(folder, "org/ae.mine")  # main goes on
    zoo.publish(other, "org/ae.mine", revision="next")
    assert len(hub.commits("org/ae.mine", "next")) == 3


def test_tags(hub, folder, other):
    first = zoo.publish(folder, "org/ae.mine", tag="v1")
    assert hub.tags("org/ae.mine") == {"v1": first.commit}
    assert zoo.publish(folder, "org/ae.mine", tag="v1").commit == first.commit
    change(folder / "config.json", licence="CC0-1.0")
    before = state(hub)
    with pytest.raises(PublishConflict, match=r"@v1 is there, and is not the same: config.json"):
        zoo.publish(folder, "org/ae.mine", tag="v1")
    with pytest.raises(PublishConflict, match="A tag never changes its bytes, and nothing was"):
        zoo.publish(other, "org/ae.mine", tag="v1", revision="next")
    assert state(hub) == before
    second = zoo.publish(folder, "org/ae.mine", tag="v2")
    assert hub.tags("org/ae.mine") == {"v1": first.commit, "v2": second.commit}
    with pytest.raises(PublishConflict, match="has a tag 'v1', which cannot be a branch too"):
        zoo.publish(other, "org/ae.mine", revision="v1")
    with pytest.raises(PublishConflict, match="has a branch 'main', which cannot be a tag too"):
        zoo.publish(folder, "org/ae.mine", tag="main", revision="next")


def test_a_tag_that_failed_is_made_later(hub, folder):
    hub.fault("^POST .*/tag/", "status", status=500)
    result = run(folder, "--to", "org/ae.mine", "--tag", "v1")
    assert result.exit_code == 2
    assert "is published, only its tag v1 is not there: publish again" in result.stderr
    hub.heal()
    commits = hub.commits("org/ae.mine")
    assert run(folder, "--to", "org/ae.mine", "--tag", "v1").exit_code == 0
    assert hub.commits("org/ae.mine") == commits
    assert hub.tags("org/ae.mine") == {"v1": commits[0].sha}


def test_a_tag_that_somebody_else_makes_meanwhile_stays(hub, folder):
    zoo.publish(folder, "org/ae.mine")
    old = hub.commits("org/ae.mine")[0].sha
    theirs = HfApi(endpoint=hub.url, token=TOKEN)
    change(folder / "config.json", licence="CC0-1.0")
    hub.fault("^POST .*/tag/", "none", times=1, call=lambda: theirs.create_tag(
        "org/ae.mine", tag="v1", revision=old))  # fmt: skip
    with pytest.raises(PublishConflict, match="somebody else has made the tag v1 meanwhile"):
        zoo.publish(folder, "org/ae.mine", tag="v1")
    assert hub.tags("org/ae.mine") == {"v1": old}


def test_a_tag_whose_answer_is_lost_was_made(hub, folder):
    hub.fault("^POST .*/tag/", "lost")
    done = zoo.publish(folder, "org/ae.mine", tag="v1")
    assert hub.tags("org/ae.mine") == {"v1": done.commit}


def test_private(hub, folder):
    assert zoo.publish(folder, "org/secret", private=True).private
    assert hub.repos["org/secret"].private
    assert zoo.publish(folder, "org/secret").private, "it stays so"
    zoo.publish(folder, "org/open")
    change(folder / "config.json", licence="CC0-1.0")
    before = state(hub)
    with pytest.raises(PublishConflict, match="everybody can see it, so --private cannot be kept"):
        zoo.publish(folder, "org/open", private=True)
    assert state(hub) == before


# -- folders that are not valid --------------------------------------------------------------------


def flip(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def other_vectors(folder):
    path = folder / "vectors.safetensors"
    with safetensors.safe_open(path, "pt") as file:
        vectors, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa
    vectors["features"] += 1
    path.write_bytes(safetensors.torch.save(vectors, metadata))


def without(key):
    def take_out(folder):
        config = read_json(folder / "config.json")
        del config[key]
        (folder / "config.json").write_text(json.dumps(config))

    return take_out


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors, without which"),
        (lambda f: (f / "vectors.safetensors").unlink(), "has no vectors.safetensors, without"),
        (lambda f: flip(f / "model.safetensors"), "at least one byte was changed"),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"x"),
            "has 1 bytes, config.json says 189",
        ),
        (lambda f: (f / "old.pt").write_bytes(b"x"), "old.pt is a pickle, or may be one"),
        (lambda f: (f / "metrics.json").write_text("{"), "metrics.json is not valid JSON"),
        (lambda f: change(f / "metrics.json", metrics=[{"name": "x"}]), "do not say what a card"),
        (lambda f: change(f / "config.json", model="nonsense"), "asks for the model 'nonsense'"),
        (
            lambda f: change(f / "config.json", config={"latent_dim": "x"}),
            "setting 'latent_dim' should be",
        ),
        (lambda f: change(f / "config.json", api_version=99), "written for version 99"),
        (lambda f: change(f / "config.json", more="x" * 1_100_000), "is larger than 1,000,000"),
        (lambda f: change(f / "config.json", licence=""), "licence: expected a text"),
        (without("licence"), "do not say what a card needs"),
        (without("dataset"), "do not say what a card needs"),
        (other_vectors, "this machine's results differ from the recorded ones: features by"),
    ],
    ids=lambda value: value.replace("/", "_") if isinstance(value, str) else "",
)
def test_a_folder_that_is_not_valid(hub, folder, spoil, message):
    spoil(folder)
    result = run(folder, "--to", "org/ae.mine")
    assert result.exit_code == 2
    assert message in result.stderr
    assert str(folder) in result.stderr, "where it lies, and not where its copy lay"
    assert "zoo-publish-" not in result.stderr
    assert "Traceback" not in result.output
    assert (hub.repos, writes(hub)) == ({}, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name weights or a folder, and where to: zoo publish"),
        (["ae.mnist"], "name weights or a folder, and where to: zoo publish"),
        (["--to", "org/x"], "name weights or a folder, and where to: zoo publish"),
        (["ae.mnist", "--to", "x"], "'x' cannot be a repository on the Hub; write org/name"),
        (["ae.mnist", "--to", "a/b/c"], "'a/b/c' cannot be a repository"),
        (["ae.mnist", "--to", "org/x@v1"], "'org/x@v1' cannot be a repository"),
        (["ae.mnist", "--to", "org/a--b"], "Cannot have -- or .."),
        (["ae.mnist", "--to", "org/x.git"], "cannot end by '.git'"),
        (["ae.mnist", "--to", "org/" + "x" * 97], "cannot be a repository"),
        (["ae.mnist", "--to", "org/x\x1b[2J"], r"'org/x\x1b[2J' cannot be a repository"),
        (["ae.mnist", "--to", "org/x", "--tag", "a b"], "'a b' cannot be a tag"),
        (["ae.mnist", "--to", "org/x", "--tag", "../x"], "'../x' cannot be a tag"),
        (["ae.mnist", "--to", "org/x", "--tag", "refs/pr/1"], "'refs/pr/1' cannot be a tag"),
        (["ae.mnist", "--to", "org/x", "--revision", "-x"], "'-x' cannot be a branch"),
        (["ae.mnist", "--to", "org/x", "--revision", "a" * 40], "is a commit, which never changes"),
        (["ae.mnist", "--to", "org/x", "--tag", "a", "--revision", "a"], "a branch and a tag"),
        (["ae.mnist", "--to", "org/x", "--tag", "main"], "'main' cannot be a branch and a tag"),
        (["--bundled"], "--bundled takes --namespace ORG"),
        (["--bundled", "--namespace", "a/b"], "expected a user or an organisation"),
        (["--bundled", "--namespace", "org", "--to", "org/x"], "--bundled takes --namespace ORG"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_mistakes_that_the_hub_need_not_be_asked_about(hub, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "\x1b" not in result.stderr
    assert hub.requests == []


@pytest.mark.parametrize(
    ("source", "message"),
    [("nonsense", "There is no model 'nonsense'|no model"), ("./nowhere", "local-dir:./nowhere")],
)
def test_a_source_that_is_none(hub, source, message):
    result = run(source, "--to", "org/x")
    assert result.exit_code == 2
    assert any(part in result.stderr for part in message.split("|")), result.stderr
    assert writes(hub) == []


# -- who may publish -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "to", "messages"),
    [
        ("", "org/ae.mine", ["needs a token", "Type: hf auth login, or set HF_TOKEN"]),
        ("hf_wRoNg", "org/ae.mine", ["does not accept your token"]),
        ("hf_eve", "org/ae.mine", ["your token does not allow this", "eve may publish to: eve"]),
        ("hf_eve", "org/there", ["your token does not allow this", "eve may publish to: eve"]),
        ("hf_eve", "org/hidden", ["eve may publish to: eve"]),
        ("hf_reader", "org/ae.mine", ["your token does not allow this", "only read"]),
    ],
)
def test_no_right_to_publish(hub, folder, monkeypatch, token, to, messages):
    hub.add_user("rob", "hf_reader", "org", role="read")
    hub.add_repo("org/there")
    hub.add_repo("org/hidden", private=True)
    before = state(hub)
    monkeypatch.setenv("HF_TOKEN", token)
    result = run(folder, "--to", to)
    assert result.exit_code == 2
    for message in messages:
        assert message in result.stderr
    assert not token or token not in result.output
    assert state(hub) == before


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["publish", "dry run"])
@pytest.mark.parametrize(
    ("token", "answer"), [("", "needs a token"), ("hf_wRoNg", "does not accept your token")]
)
def test_a_folder_is_validated_before_a_login_is_asked_for(
    hub, folder, monkeypatch, token, answer, more
):
    monkeypatch.setenv("HF_TOKEN", token)
    result = run(folder, "--to", "org/ae.mine", *more)
    assert result.exit_code == 2
    assert result.stderr.index("tensors are sound") < result.stderr.index(answer)
    (folder / "vectors.safetensors").unlink()
    result = run(folder, "--to", "org/ae.mine", *more)
    assert (result.exit_code, writes(hub)) == (2, [])
    assert "has no vectors.safetensors" in result.stderr
    assert answer not in result.stderr


def test_a_token_can_be_given(hub, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wRoNg")
    assert zoo.publish(folder, "ana/ae.mine", token=TOKEN).user == "ana"


# -- what goes wrong on the way --------------------------------------------------------------------


def test_a_new_repository_is_deleted_again_when_its_commit_fails(hub, folder):
    hub.fault("/commit/", "status", status=500)
    result = run(folder, "--to", "org/ae.mine")
    assert result.exit_code == 2
    assert "fails with status 500" in result.stderr
    assert "The repository org/ae.mine, made for this, was deleted again" in result.stderr
    assert hub.repos == {}


@pytest.mark.parametrize("step", ["/preupload/", "/lfs/objects/batch", "^PUT /lfs/", "/validate-"])
def test_so_it_is_when_an_earlier_step_fails(hub, folder, step):
    fault = hub.fault(step, "status", status=418)
    result = run(folder, "--to", "org/ae.mine")
    assert (result.exit_code, fault.met > 0) == (2, True)
    assert "was deleted again" in result.stderr
    assert hub.repos == {}


def test_what_cannot_be_deleted_is_said_and_filled_later(hub, folder):
    hub.fault("/commit/", "status", status=500)
    hub.fault("^DELETE", "status", status=500)
    result = run(folder, "--to", "org/ae.mine", "--private")
    assert result.exit_code == 2
    assert "it may be there, without these weights. Publish again to fill it" in result.stderr
    assert f"or delete it at {hub.url}/org/ae.mine/settings" in result.stderr
    assert hub.files("org/ae.mine").keys() == {".gitattributes"}
    hub.heal()
    assert run(folder, "--to", "org/ae.mine", "--private").exit_code == 0
    assert hub.files("org/ae.mine").keys() == {".gitattributes", *SENT}


def test_the_hub_is_gone_after_the_repository_was_made(hub, folder):
    hub.fault("/validate-yaml", "none", call=hub.stop)
    result = run(folder, "--to", "org/ae.mine")
    assert result.exit_code == 2
    assert "cannot be reached" in result.stderr
    assert "could not be deleted again: it may be there" in result.stderr
    hub.heal()
    hub.start()
    assert run(folder, "--to", "org/ae.mine").exit_code == 0


def test_a_repository_whose_answer_is_lost(hub, folder):
    hub.fault("/api/repos/create", "lost", times=1)
    result = run(folder, "--to", "org/ae.mine")
    assert result.exit_code == 2
    assert "The repository org/ae.mine is there by now. Publish again" in result.stderr
    assert run(folder, "--to", "org/ae.mine").exit_code == 0


def test_a_commit_whose_answer_is_lost_was_made(hub, folder):
    hub.fault("/commit/", "lost")
    done = zoo.publish(folder, "org/ae.mine", tag="v1")
    assert done.commit == hub.commits("org/ae.mine")[0].sha
    assert hub.files("org/ae.mine").keys() == {".gitattributes", *SENT}
    assert len(hub.commits("org/ae.mine")) == 2


def test_a_new_branch_is_deleted_again(hub, folder, other):
    zoo.publish(folder, "org/ae.mine")
    before = state(hub)
    hub.fault("/commit/", "status", status=500)
    with pytest.raises(HubUnreachable, match="The branch next, made for this, was deleted again"):
        zoo.publish(other, "org/ae.mine", revision="next")
    assert state(hub) == before


def test_ctrl_c_leaves_no_empty_repository(hub, folder, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(HfApi, "preupload_lfs_files", stop)
    with pytest.raises(KeyboardInterrupt):
        zoo.publish(folder, "org/ae.mine")
    assert hub.repos == {}


def test_an_answer_that_makes_no_sense(hub, folder):
    hub.fault("whoami", "body", body=b'["\x1b[31m"]')
    result = run(folder, "--to", "org/ae.mine")
    assert result.exit_code == 2
    assert "makes no sense" in result.stderr
    assert "\x1b" not in result.output


# -- two publishers --------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_of_two_publishers_one_wins(hub, folder, other, there):
    if there:
        hub.add_repo("org/ae.mine")
    # Each has looked before any of them commits.
    barrier = threading.Barrier(2, timeout=60)
    hub.fault("^GET /api/whoami", "none", call=barrier.wait)
    # The threads that serve them would otherwise wait for one another's.
    met = threading.Barrier(2, timeout=60)
    hub.fault("^GET /api/models/org/ae.mine/refs", "none", times=2, call=met.wait)
    ended = {}

    def publish(source):
        try:
            ended[source] = zoo.publish(source, "org/ae.mine")
        except Exception as error:
            ended[source] = error

    threads = [threading.Thread(target=publish, args=(source,)) for source in (folder, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hub.heal()
    losers = [error for error in ended.values() if isinstance(error, Exception)]
    assert [type(error) for error in losers] == [PublishConflict], ended
    assert "was changed" in str(losers[0])
    winner = next(source for source in ended if not isinstance(ended[source], Exception))
    files = hub.files("org/ae.mine")
    assert {n: files[n] for n in SENT[:4]} == {n: (winner / n).read_bytes() for n in SENT[:4]}
    assert len(hub.commits("org/ae.mine")) == 2


def test_a_commit_that_came_in_between_is_not_overwritten(hub, folder):
    zoo.publish(folder, "org/ae.mine")
    change(folder / "config.json", licence="CC0-1.0")
    hub.fault("/preupload/", "none", call=lambda: hub.put("org/ae.mine", {"LICENSE": b"theirs"}))
    result = run(folder, "--to", "org/ae.mine")
    assert result.exit_code == 2
    assert "has changed meanwhile" in result.stderr
    assert "Nothing was changed" in result.stderr
    assert hub.commits("org/ae.mine")[0].title == "put"
    hub.heal()
    assert run(folder, "--to", "org/ae.mine").exit_code == 0
    assert hub.files("org/ae.mine")["LICENSE"] == b"theirs", "what is not of the zoo is let alone"


def test_a_commit_that_came_during_the_validation_is_not_overwritten(hub, folder, monkeypatch):
    zoo.publish(folder, "org/ae.mine")
    change(folder / "config.json", licence="CC0-1.0")
    validate = zoo.publishing.validate

    def slow_validation(*args):
        hub.put("org/ae.mine", {"LICENSE": b"theirs"})
        return validate(*args)

    monkeypatch.setattr(zoo.publishing, "validate", slow_validation)
    with pytest.raises(PublishConflict, match="has changed meanwhile"):
        zoo.publish(folder, "org/ae.mine")
    assert hub.commits("org/ae.mine")[0].title == "put"


def test_what_somebody_else_put_into_what_was_made_here_is_not_deleted(hub, folder, other):
    theirs = {"config.json": b"{}"}
    hub.fault("/preupload/", "none", times=1, call=lambda: hub.put("org/ae.mine", theirs))
    with pytest.raises(PublishConflict, match="has changed meanwhile"):
        zoo.publish(folder, "org/ae.mine")
    assert hub.files("org/ae.mine")["config.json"] == b"{}"
    zoo.publish(folder, "org/ae.mine")
    put = lambda: hub.put("org/ae.mine", theirs, revision="next")  # noqa: E731
    hub.fault("/preupload/", "none", times=1, call=put)
    with pytest.raises(PublishConflict, match="has changed meanwhile"):
        zoo.publish(other, "org/ae.mine", revision="next")
    assert hub.files("org/ae.mine", "next")["config.json"] == b"{}"


def test_the_very_same_published_by_two_is_no_conflict(hub, folder):
    hub.add_repo("org/ae.mine")
    hub.fault("/commit/", "none", times=1, call=lambda: zoo.publish(folder, "org/ae.mine"))
    done = zoo.publish(folder, "org/ae.mine")
    assert done.commit == hub.commits("org/ae.mine")[0].sha
    assert len(hub.commits("org/ae.mine")) == 2


# -- the weights that plugins ship -----------------------------------------------------------------


@pytest.fixture
def plugin(tmp_path):
    """The source tree of a plugin, which is found before the installed one."""
    ignored = shutil.ignore_patterns("__pycache__")
    source = TREE / "plugins" / "latentzoo-baseline" / "src"
    return Path(shutil.copytree(source, tmp_path / "src", ignore=ignored))


def bundled(hub, home, plugin, *more):
    environ = {**os.environ, **hub.env(home, TOKEN)}
    environ |= {"PYTHONPATH": str(plugin), "ZOO_PLUGINS": "latentzoo-baseline"}
    done = subprocess.run(
        [sys.executable, "-m", "zoo.cli", *more], env=environ, capture_output=True, text=True
    )
    assert TOKEN not in done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_bundled_weights_are_published_and_remember_where(hub, tmp_path, plugin):
    command = ("publish", "--bundled", "--namespace", "org", "--json")
    done = bundled(hub, tmp_path / "home", plugin, *command, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert hub.repos == {}
    assert not list(plugin.rglob("hub.json"))
    done = bundled(hub, tmp_path / "home", plugin, *command)
    assert done.returncode == 0, done.stderr
    results = {result["repo"]: result for result in json.loads(done.stdout)}
    weights = plugin / "zoo_baseline" / "weights"
    shipped = (
        "patch_kmeans.cifar10",
        "patch_kmeans.fashion_mnist",
        "pca.fashion_mnist",
        "pca.mnist",
    )
    assert results.keys() == hub.repos.keys() == {f"org/{name}" for name in shipped}
    for repo, result in results.items():
        folder = weights / repo.removeprefix("org/")
        place = {"repo": repo, "revision": hub.commits(repo)[0].sha}
        assert read_json(folder / "hub.json") == place
        assert result["commit"] == place["revision"]
        assert "hub.json" not in hub.files(repo)
        record = weights_record(folder, "x")
        assert (record.repo, record.revision) == (repo, place["revision"])
        assert hub.files(repo)["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    before = state(hub)
    again = bundled(hub, tmp_path / "home", plugin, *command)
    assert all(result["committed"] is False for result in json.loads(again.stdout))
    assert state(hub) == before


@pytest.mark.parametrize(
    "place",
    [{"repo": "../x", "revision": "a" * 40}, {"repo": "org/x", "revision": "main"}, {"repo": 3}],
)
def test_a_place_that_cannot_be(folder, place):
    (folder / "hub.json").write_text(json.dumps(place))
    with pytest.raises(SpecError):
        weights_record(folder, "x")


def test_publish_checks_its_names_in_python_too():
    with pytest.raises(InvalidName, match="write org/name"):
        zoo.publish("ae.mnist", "mine")
