"""What a Hub keeps: repositories with their commits, files and uploads, all in memory."""

import base64
import fnmatch
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hubserver.messages import Refusal

LFS = ("*.safetensors", "*.bin", "*.pt", "*.pkl", "*.png", "*.npz")


@dataclass(frozen=True)
class Blob:
    """The bytes of one file, and how the Hub calls them."""

    data: bytes
    lfs: bool

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @functools.cached_property
    def oid(self) -> str:
        """Git's name of the blob; of a large file, of the pointer that git holds in its place."""
        stored = self.data
        if self.lfs:
            lines = f"oid sha256:{self.sha256}\nsize {len(self.data)}\n"
            stored = f"version https://git-lfs.github.com/spec/v1\n{lines}".encode()
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """As the tree's listing has it."""
        entry = {"type": "file", "path": path, "size": len(self.data), "oid": self.oid}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": 130}
        return entry

    def sibling(self, path: str, blobs: bool) -> dict[str, Any]:
        """As the information about a repository has it."""
        if not blobs:
            return {"rfilename": path}
        entry = {"rfilename": path, "size": len(self.data), "blobId": self.oid}
        if self.lfs:
            entry["lfs"] = {"sha256": self.sha256, "size": len(self.data), "pointerSize": 130}
        return entry


@dataclass(frozen=True)
class Commit:
    sha: str
    title: str
    date: datetime
    author: str
    parent: "Commit | None"
    blobs: Mapping[str, Blob]


@dataclass
class Repo:
    id: str
    private: bool
    gated: bool
    writers: set[str]
    readers: set[str] = field(default_factory=set)
    """Who may see it, be it private or gated; besides the writers."""
    branches: dict[str, Commit] = field(default_factory=dict)
    tags: dict[str, Commit] = field(default_factory=dict)
    uploads: dict[str, Blob] = field(default_factory=dict)
    """Large files that came, by sha256, of commits or not."""

    @property
    def head(self) -> Commit:
        return self.branches["main"]

    def history(self, commit: Commit | None) -> Iterable[Commit]:
        while commit:
            yield commit
            commit = commit.parent

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag or a sha names."""
        named = self.branches.get(revision) or self.tags.get(revision)
        heads = [*self.branches.values(), *self.tags.values()]
        reachable = (commit for head in heads for commit in self.history(head))
        return named or next((c for c in reachable if c.sha == revision), None)

    def commit(
        self, branch: str, blobs: Mapping[str, Blob], title: str, author: str, date: datetime
    ) -> Commit:
        parent = self.branches.get(branch)
        told = [parent and parent.sha, title, str(date), {p: b.oid for p, b in blobs.items()}]
        sha = hashlib.sha1(json.dumps(told).encode()).hexdigest()
        self.branches[branch] = Commit(sha, title, date, author, parent, dict(blobs))
        return self.branches[branch]

    def card(self, commit: Commit) -> dict[str, Any]:
        """The metadata at the head of README.md."""
        text = commit.blobs["README.md"].data if "README.md" in commit.blobs else b""
        return metadata(text.decode("utf-8", "replace")) or {}

    def info(self, commit: Commit, *, blobs=False, siblings=True, card=True) -> dict[str, Any]:
        metadata = self.card(commit)
        library = metadata.get("library_name")
        tags = metadata.get("tags") or []
        info = {
            "id": self.id,
            "modelId": self.id,
            "author": self.id.partition("/")[0],
            "sha": commit.sha,
            "lastModified": iso(commit.date),
            "createdAt": iso([*self.history(commit)][-1].date),
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "library_name": library,
            "pipeline_tag": metadata.get("pipeline_tag"),
            "tags": [tag for tag in [library, *tags] if tag],
        }
        if siblings:
            info["siblings"] = [b.sibling(p, blobs) for p, b in sorted(commit.blobs.items())]
        if card:
            info["cardData"] = metadata
        return info


def metadata(text: str) -> dict[str, Any] | None:
    """What stands between the dashes at the head of a card; None if it is no YAML."""
    import yaml

    block = re.match(r"\A---\r?\n(.*?)\n---", text, re.S)
    try:
        # Dates become strings in the Hub's JSON.
        metadata = yaml.load(block[1], yaml.BaseLoader) if block else {}
    except yaml.YAMLError:
        return None
    return metadata if isinstance(metadata, dict) else None


def iso(date: datetime) -> str:
    return f"{date:%Y-%m-%dT%H:%M:%S}.{date.microsecond // 1000:03}Z"


def is_lfs(path: str, size: int) -> bool:
    return size > 0 and (any(fnmatch.fnmatch(path, p) for p in LFS) or size > 10_000_000)


def apply(key: str, value: dict[str, Any], blobs: dict[str, Blob], repo: Repo) -> None:
    """One operation of a commit, done to ``blobs``; the repository is not touched."""
    path = value["path"]
    if key == "file":
        blobs[path] = Blob(base64.b64decode(value["content"]), False)
    elif key == "lfsFile":
        if value["oid"] not in repo.uploads:
            raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {path}")
        blobs[path] = repo.uploads[value["oid"]]
    elif key == "deletedFolder":
        for gone in [p for p in blobs if p.startswith(path.rstrip("/") + "/")]:
            del blobs[gone]
    elif key != "deletedFile":
        raise Refusal(400, f"unknown operation {key!r}")
    elif blobs.pop(path, None) is None:
        raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
