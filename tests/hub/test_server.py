"""The tests' own Hub, spoken to by the real client: the other tests rest on it."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

of_today = pytest.mark.skipif(
    int(huggingface_hub.__version__.partition(".")[0]) < 2,
    reason="client 1.x itself asks more often, outlives less, and reads no address but its own",
)

CARD = b"---\nlibrary_name: latentzoo\nlicense: mit\ntags: [latentzoo, ae]\n---\n# A card\n"


def tensors(values: bytes = b"\0" * 16) -> bytes:
    """A safetensors file of one tensor."""
    of = {"weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    header = json.dumps(of).encode()
    return struct.pack("<Q", len(header)) + header + values


@pytest.fixture
def api(hub, monkeypatch) -> HfApi:
    """The client of somebody who may write to ana/... and org/..."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    hub.add_user("ana", "hf_ana", "org")
    return HfApi(endpoint=hub.url, token="hf_ana")


def commit(api: HfApi, repo: str, files: dict[str, bytes], **more) -> str:
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    more.setdefault("commit_message", "some files")
    return api.create_commit(repo, operations, **more).oid


@of_today
def test_the_circle_of_the_real_client(hub, api, tmp_path: Path):
    api.create_repo("org/one")
    files = {"model.safetensors": tensors(), "config.json": b"{}", "README.md": CARD}
    sha = commit(api, "org/one", files)
    assert {**hub.files("org/one"), **files} == hub.files("org/one", sha)
    folder = snapshot_download(
        "org/one", endpoint=hub.url, token=False, cache_dir=tmp_path, revision=sha
    )
    for path, data in files.items():
        assert (Path(folder) / path).read_bytes() == data
    # Large files came from the other origin, by LFS, and were uploaded by it.
    sent = [str(request) for request in hub.requests]
    assert any(line.startswith("PUT /lfs/org/one/") for line in sent)
    assert f"GET /cdn/org/one/{sha}/model.safetensors" in sent
    assert {request.status for request in hub.requests} <= {200, 302}


@of_today
def test_nothing_is_asked_for_what_is_pinned_and_cached(hub, api, tmp_path: Path):
    sha = hub.put("org/one", {"a.json": b"1", "model.safetensors": tensors()})
    for _ in range(2):
        hub.requests.clear()
        snapshot_download("org/one", endpoint=hub.url, cache_dir=tmp_path, revision=sha)
    assert hub.requests == []


def test_a_parent_that_has_had_a_child_since_is_refused(hub, api):
    first = hub.put("org/one", {"a": b"1"})
    hub.put("org/one", {"a": b"2"})
    before = hub.commits("org/one")
    with pytest.raises(HfHubHTTPError, match="412"):
        commit(api, "org/one", {"a": b"3"}, parent_commit=first)
    assert hub.commits("org/one") == before


def test_all_of_a_commit_or_nothing(hub, api):
    hub.add_repo("org/one")
    before = hub.commits("org/one")
    gone = CommitOperationDelete("never-there")
    with pytest.raises(EntryNotFoundError):
        api.create_commit("org/one", [CommitOperationAdd("a", b"1"), gone], commit_message="x")
    assert hub.commits("org/one") == before


@of_today
def test_branches_and_tags(hub, api):
    sha = hub.put("org/one", {"a": b"1"})
    api.create_branch("org/one", branch="next/step")
    api.create_tag("org/one", tag="v1")
    later = commit(api, "org/one", {"a": b"2"}, revision="next/step")
    refs = api.list_repo_refs("org/one")
    assert {b.name: b.target_commit for b in refs.branches} == {"main": sha, "next/step": later}
    assert {t.name: t.target_commit for t in refs.tags} == hub.tags("org/one") == {"v1": sha}
    assert [c.commit_id for c in api.list_repo_commits("org/one", revision="next/step")][:2] == [
        later,
        sha,
    ]
    for again in (
        lambda: api.create_tag("org/one", tag="v1"),
        lambda: api.create_branch("org/one", branch="next/step"),
        lambda: api.create_repo("org/one"),
    ):
        with pytest.raises(HfHubHTTPError, match="409"):
            again()
    api.delete_tag("org/one", tag="v1")
    api.delete_branch("org/one", branch="next/step")
    assert hub.tags("org/one") == {}
    api.delete_repo("org/one")
    assert not api.repo_exists("org/one")


def test_what_is_told_of_a_repository(hub, api):
    data = tensors()
    sha = hub.put("org/one", {"model.safetensors": data, "README.md": CARD, "sub/a.txt": b"a"})
    info = api.model_info("org/one", files_metadata=True)
    by_name = {sibling.rfilename: sibling for sibling in info.siblings}
    assert (info.sha, info.library_name, info.gated) == (sha, "latentzoo", False)
    assert info.card_data.license == "mit"
    assert by_name["model.safetensors"].lfs.size == len(data)
    assert by_name["sub/a.txt"].lfs is None
    kinds = {type(e).__name__: e.path for e in api.list_repo_tree("org/one", recursive=True)}
    assert kinds["RepoFolder"] == "sub"
    assert [e.path for e in api.list_repo_tree("org/one", "sub")] == ["sub/a.txt"]
    (one,) = api.get_paths_info("org/one", ["model.safetensors", "absent"])
    assert one.lfs.sha256 == by_name["model.safetensors"].lfs.sha256
    hub.requests.clear()
    metadata = api.get_safetensors_metadata("org/one")
    (file,) = metadata.files_metadata.values()
    assert file.tensors["weight"].shape == [2, 2]
    assert [r.headers.get("range") for r in hub.requests if r.path.startswith("/cdn")] == [
        "bytes=0-100000"
    ]


def test_search_with_pages(hub, api):
    for i in range(45):
        hub.put(f"org/deep_{i:02}", {"README.md": CARD})
    hub.put("ana/other", {"a": b"1"})
    hub.add_repo("org/deep_secret", private=True, owner="eve")
    found = [m.id for m in api.list_models(search="deep", filter="latentzoo", token=False)]
    assert sorted(found) == [f"org/deep_{i:02}" for i in range(45)]
    assert len([r for r in hub.requests if r.path.startswith("/api/models?")]) == 3
    assert [m.id for m in api.list_models(author="ana")] == ["ana/other"]
    assert len([*api.list_models(author="org", limit=7)]) == 7
    (one,) = api.list_models(search="deep_07", cardData=True, full=True)
    assert one.card_data.tags == ["latentzoo", "ae"]
    assert {s.rfilename for s in one.siblings} == {".gitattributes", "README.md"}


def test_who_may_see_what(hub, api, tmp_path: Path):
    hub.add_user("eve", "hf_eve")
    hub.add_user("rob", "hf_rob", "org", role="read")
    hub.put("org/open", {"a": b"1"})
    hub.add_repo("org/secret", private=True)
    hub.add_repo("org/gated", gated=True)
    hub.put("org/gated", {"a": b"1"})
    assert api.whoami()["name"] == "ana"
    assert api.model_info("org/secret").private

    def status(repo: str, token: str | bool, kind: type[Exception]) -> int:
        with pytest.raises(kind) as caught:
            api.hf_hub_download(repo, "a", token=token, cache_dir=tmp_path / str(token))
        return caught.value.response.status_code

    assert status("org/secret", False, RepositoryNotFoundError) == 401
    assert status("org/secret", "hf_eve", RepositoryNotFoundError) == 404
    assert status("org/absent", False, RepositoryNotFoundError) == 401
    assert status("org/gated", False, GatedRepoError) == 401
    assert status("org/gated", "hf_eve", GatedRepoError) == 403
    assert status("org/open", "hf_wrong", HfHubHTTPError) == 401
    for token in ("hf_eve", "hf_rob"):
        with pytest.raises(HfHubHTTPError, match="403"):
            commit(HfApi(endpoint=hub.url, token=token), "org/open", {"a": b"2"})
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(endpoint=hub.url, token="hf_eve").create_repo("org/mine")


def test_what_is_missing(hub, api, tmp_path: Path):
    hub.put("org/one", {"a": b"1"})
    with pytest.raises(RevisionNotFoundError):
        api.model_info("org/one", revision="v9")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download("org/one", "b", cache_dir=tmp_path)
    assert not api.file_exists("org/one", "b")


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        pytest.param("cut", {}, marks=of_today),
        pytest.param("gone", {}, marks=of_today),
        ("status", {"status": 429, "headers": {"Retry-After": "0"}}),
        ("drip", {"seconds": 0.01}),
        ("slow", {"seconds": 0.1}),
    ],
)
def test_a_fault_that_the_client_outlives(hub, api, tmp_path: Path, kind: str, more: dict):
    data = tensors()
    hub.put("org/one", {"model.safetensors": data})
    fault = hub.fault("^GET /cdn/.*model.safetensors", kind, times=1, **more)
    path = api.hf_hub_download("org/one", "model.safetensors", cache_dir=tmp_path)
    assert Path(path).read_bytes() == data
    assert fault.met == 1


@pytest.mark.parametrize("kind", ["flip", "short"])
def test_a_fault_that_it_does_not_see_or_does_not_outlive(hub, api, tmp_path: Path, kind: str):
    data = tensors()
    hub.put("org/one", {"model.safetensors": data})
    hub.fault("^GET /cdn/", kind)
    if kind == "short":
        with pytest.raises(OSError, match="Consistency check failed"):
            api.hf_hub_download("org/one", "model.safetensors", cache_dir=tmp_path)
    else:
        path = api.hf_hub_download("org/one", "model.safetensors", cache_dir=tmp_path)
        assert Path(path).read_bytes() != data
    hub.heal()


def test_a_commit_whose_answer_is_lost_was_made(hub, api):
    hub.add_repo("org/one")
    hub.fault("/commit/", "lost", times=1)
    with pytest.raises(Exception, match="disconnected"):
        commit(api, "org/one", {"a": b"1"})
    assert hub.files("org/one")["a"] == b"1"


def test_stopped_and_started_again(hub, api):
    sha = hub.put("org/one", {"a": b"1"})
    url = hub.url
    assert api.model_info("org/one").sha == sha
    hub.stop()
    with pytest.raises(Exception, match=r"refused|disconnected|reset"):
        api.model_info("org/one")
    hub.start()
    assert hub.url == url
    assert api.model_info("org/one").sha == sha


def test_a_process_with_its_environment_knows_it(hub, tmp_path: Path):
    hub.add_user("ana", "hf_ana")
    code = "import huggingface_hub as h; print(h.whoami()['name'], h.constants.HF_HUB_CACHE)"
    env = {**os.environ, **hub.env(tmp_path / "home", "hf_ana")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["ana", str(tmp_path / "home" / "hub")], done.stderr
