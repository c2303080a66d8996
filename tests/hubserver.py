"""A Hub on loopback for the tests: the protocol that the real huggingface_hub client speaks.

It is the standard library and nothing of the zoo; PyYAML, which the client brings, reads cards. All
of it lies in memory, outlives :meth:`HubServer.stop`, and a started server has its old address.
Spoken, for repositories of models:

======================================  ========================================================
``GET  api/whoami-v2``                  who a token belongs to
``POST api/repos/create``               409 when it exists; an initial commit, as the Hub makes
``DELETE api/repos/delete``
``PUT  api/models/R/settings``          visibility, gated
``GET  api/models``                     search, author, filter, limit, full, cardData, ``Link``
``GET  api/models/R[/revision/V]``      sha, dates, tags, siblings, card; ``blobs=true``
``GET  api/models/R/tree/V[/P]``        ``POST .../paths-info/V``
``GET  api/models/R/refs``              ``GET .../commits/V``
``POST api/models/R/branch/B, tag/V``   409 when it exists; ``DELETE`` too
``POST api/validate-yaml``
``POST api/models/R/preupload/V``       which files go the way of LFS
``POST R.git/info/lfs/objects/batch``   basic transfers: ``PUT``, then ``POST`` to verify
``POST api/models/R/commit/V``          NDJSON; 412 on another ``parentCommit``; all or nothing
``GET  R/resolve/V/P`` (``HEAD``)       ``X-Repo-Commit``, ``ETag``, ``Range``; LFS is redirected
``GET  cdn/...``                        to here, another origin, to which no token may be sent
======================================  ========================================================

Refusals carry ``X-Error-Code`` and ``X-Error-Message`` as the Hub's do: who does not log in is told
401 for what is private and for what does not exist, alike.
"""

import base64
import fnmatch
import functools
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

LFS = ("*.safetensors", "*.bin", "*.pt", "*.pkl", "*.png", "*.npz")
PAGE = 20
"""Entries of a page, where there are pages."""


# ---------------------------------------------------------------- what a repository is


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
        return _metadata(text.decode("utf-8", "replace")) or {}

    def info(self, commit: Commit, *, blobs=False, siblings=True, card=True) -> dict[str, Any]:
        metadata = self.card(commit)
        library = metadata.get("library_name")
        tags = metadata.get("tags") or []
        info = {
            "id": self.id,
            "modelId": self.id,
            "author": self.id.partition("/")[0],
            "sha": commit.sha,
            "lastModified": _iso(commit.date),
            "createdAt": _iso([*self.history(commit)][-1].date),
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


def _metadata(text: str) -> dict[str, Any] | None:
    """What stands between the dashes at the head of a card; None if it is no YAML."""
    import yaml

    block = re.match(r"\A---\r?\n(.*?)\n---", text, re.S)
    try:
        # Dates become strings in the Hub's JSON.
        metadata = yaml.load(block[1], yaml.BaseLoader) if block else {}
    except yaml.YAMLError:
        return None
    return metadata if isinstance(metadata, dict) else None


def _iso(date: datetime) -> str:
    return f"{date:%Y-%m-%dT%H:%M:%S}.{date.microsecond // 1000:03}Z"


def _is_lfs(path: str, size: int) -> bool:
    return size > 0 and (any(fnmatch.fnmatch(path, p) for p in LFS) or size > 10_000_000)


# ---------------------------------------------------------------- requests, answers, faults


@dataclass
class Request:
    """One line of the log. ``status`` is 0 while, or because, there is no answer."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    status: int = 0
    user: str | None = None
    query: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Refusal(Exception):
    """An error as the Hub answers it."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str):
        super().__init__(message)
        said = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = _json({"error": message}, status, {**said, **more})


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    kind = {"Content-Type": "application/json; charset=utf-8"}
    return Answer(status, json.dumps(content).encode(), {**kind, **(headers or {})})


@dataclass
class Fault:
    """What goes wrong with the requests that match; see :meth:`HubServer.fault`."""

    match: re.Pattern[str]
    kind: str
    times: int | None
    more: dict[str, Any]
    met: int = 0
    """How many requests it has spoilt."""


KINDS = (
    "gone",
    "lost",
    "cut",
    "short",
    "flip",
    "status",
    "slow",
    "drip",
    "body",
    "headers",
    "none",
)


def _spoilt(answer: Answer, fault: Fault) -> Answer:
    """``answer`` as ``fault`` leaves it, if it changes what is said and not how it is sent."""
    more, body = fault.more, answer.body
    if fault.kind == "flip" and body:
        at = more.get("at", len(body) // 2)
        body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    elif fault.kind == "short":
        body = body[: more.get("keep", len(body) // 2)]
    elif fault.kind == "body":
        new = more["body"]
        body = new(body) if callable(new) else new
    headers = {**answer.headers, **(more.get("headers") or {})}
    return Answer(answer.status, body, headers)


# ---------------------------------------------------------------- the server


class HubServer:
    """A Hub at :attr:`url`, from ``with`` to the end of it.

    Attributes:
        url: what ``HF_ENDPOINT`` should be.
        requests: all that came, in order; ``clear()`` forgets them.
    """

    def __init__(self):
        self.requests: list[Request] = []
        self.repos: dict[str, Repo] = {}
        self._users: dict[str, tuple[str, tuple[str, ...], str]] = {}  # token: name, orgs, role
        self._faults: list[Fault] = []
        self._lock = threading.RLock()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    # ---- running

    def start(self) -> None:
        """Serve, at the address of the last time if there was one."""
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", self._port), handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Take no more connections, and break those that are open."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server.break_all()
            self._server = None

    def __enter__(self) -> "HubServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def cdn(self) -> str:
        """The same server as another origin: the client must not send a token there."""
        return f"http://localhost:{self._port}/cdn"

    def env(self, home: Path, token: str | None = None) -> dict[str, str]:
        """The environment of a process that shall know this Hub and no other."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": token or "",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    # ---- what a test sets up and looks at

    def add_user(self, name: str, token: str, *orgs: str, role: str = "write") -> None:
        """Somebody who may write to ``name/...`` and ``org/...``, unless ``role`` is "read"."""
        self._users[token] = (name, orgs, role)

    def add_repo(self, repo: str, *, private=False, gated=False, owner: str | None = None) -> Repo:
        """A repository with an initial commit; ``owner`` may write to it."""
        owner = owner or repo.partition("/")[0]
        made = Repo(repo, private, gated, {owner})
        attributes = "".join(f"{p} filter=lfs diff=lfs merge=lfs -text\n" for p in LFS)
        blobs = {".gitattributes": Blob(attributes.encode(), False)}
        made.commit("main", blobs, "initial commit", owner, datetime.now(UTC))
        self.repos[repo] = made
        return made

    def put(
        self,
        repo: str,
        files: Mapping[str, bytes | None],
        *,
        message: str = "put",
        revision: str = "main",
        date: datetime | None = None,
    ) -> str:
        """Commit ``files`` (None deletes one) to a branch; the sha. Paths are not looked at."""
        with self._lock:
            one = self.repos.get(repo) or self.add_repo(repo)
            head = one.branches.get(revision) or one.head
            one.branches.setdefault(revision, head)
            blobs = dict(head.blobs)
            for path, data in files.items():
                if data is None:
                    blobs.pop(path, None)
                else:
                    blobs[path] = Blob(data, _is_lfs(path, len(data)))
            when = date or datetime.now(UTC)
            return one.commit(revision, blobs, message, one.id.partition("/")[0], when).sha

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        commit = self.repos[repo].find(revision)
        if commit is None:
            raise KeyError(f"{repo} has no revision {revision!r}")
        return {path: blob.data for path, blob in commit.blobs.items()}

    def commits(self, repo: str, revision: str = "main") -> list[Commit]:
        """The newest first."""
        one = self.repos[repo]
        return [*one.history(one.find(revision))]

    def tags(self, repo: str) -> dict[str, str]:
        return {name: commit.sha for name, commit in self.repos[repo].tags.items()}

    def fault(self, match: str, kind: str, times: int | None = None, **more: Any) -> Fault:
        """Spoil the next ``times`` requests (all, if None) whose ``METHOD /path`` has ``match``.

        =========  =============================================================================
        gone       the connection ends without an answer; nothing was done
        lost       all was done as asked, then the connection ends without an answer
        cut        the connection ends after ``keep`` (default: half) of the body
        short      as much of the body, announced as if it were all
        flip       one bit of the byte ``at`` (default: the middle) is another
        status     ``status`` (default 503) with ``headers`` in place of an answer
        slow       ``seconds`` pass before the answer
        drip       the body comes in ``pieces`` with ``seconds`` between them
        body       ``body``, or what it makes of the right one, in place of the body
        headers    ``headers`` over the right ones
        none       nothing but what ``call`` does
        =========  =============================================================================

        With any of them, ``call`` is called when the request has come and nothing is done yet;
        with "lost", when all is done.
        """
        if kind not in KINDS:
            raise ValueError(f"no fault {kind!r}; there are {', '.join(KINDS)}")
        self._faults.append(Fault(re.compile(match), kind, times, more))
        return self._faults[-1]

    def heal(self) -> None:
        """No fault from now on."""
        self._faults.clear()

    def _fault_of(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.match.search(str(request)) and fault.met != fault.times:
                    fault.met += 1
                    return fault
        return None

    # ---- answering

    def answer(self, request: Request) -> Answer:
        url = urlsplit(request.path)
        request.query = parse_qs(url.query)
        with self._lock:
            try:
                request.user = self._user(request)
                for method, pattern, function in _ROUTES:
                    match = pattern.fullmatch(url.path)
                    if match and request.method in method.split():
                        return function(self, request, *(p and unquote(p) for p in match.groups()))
                raise Refusal(404, f"this Hub knows no {request.method} {url.path}")
            except Refusal as refusal:
                return refusal.answer

    def _user(self, request: Request) -> str | None:
        """Who sends it. A signed address (the CDN, an upload) needs no token, and gets none."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        if request.path.startswith("/cdn/"):
            raise Refusal(400, "a token was sent to the CDN")
        if token not in self._users:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self._users[token][0]

    def _namespaces(self, user: str | None) -> set[str]:
        return {n for name, orgs, _ in self._users.values() if name == user for n in (name, *orgs)}

    def _may_write(self, request: Request, repo: Repo) -> bool:
        return bool(repo.writers & self._namespaces(request.user))

    def _repo(self, request: Request, repo: str, *, files: bool = False) -> Repo:
        """The repository if ``request`` may see it, and with ``files``, what is in it."""
        one = self.repos.get(repo)
        known = one and (request.user in one.readers or self._may_write(request, one))
        if one is None or (one.private and not known):
            if request.user:
                raise Refusal(404, "Repository not found", "RepoNotFound")
            raise Refusal(401, "Invalid username or password.", "RepoNotFound")
        if files and one.gated and not known:
            if request.user:
                to = f"Visit {self.url}/{repo} to ask for access."
                told = f"Access to model {repo} is restricted and you are not in the authorized "
                raise Refusal(403, told + f"list. {to}", "GatedRepo")
            told = f"Access to model {repo} is restricted. You must have access to it and be "
            raise Refusal(401, told + "authenticated to access it. Please log in.", "GatedRepo")
        return one

    def _own(self, request: Request, repo: str) -> Repo:
        """The repository if ``request`` may write to it."""
        one = self._repo(request, repo)
        self._writer(request)
        if not self._may_write(request, one):
            raise Refusal(403, f'You don\'t have the rights to write to "{repo}"')
        return one

    def _writer(self, request: Request) -> str:
        if request.user is None:
            raise Refusal(401, "Invalid username or password.")
        if all(role == "read" for name, _, role in self._users.values() if name == request.user):
            raise Refusal(403, "Forbidden: this token may only read")
        return request.user

    def _commit(self, repo: Repo, revision: str) -> Commit:
        commit = repo.find(revision)
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def _page(self, request: Request, items: list[Any], size: int) -> Answer:
        """One page of a list, with a ``Link`` to the next."""
        at = int(request.query.get("cursor", ["0"])[0])
        path = urlsplit(request.path).path
        more = {**request.query, "cursor": [str(at + size)]}
        link = f'<{self.url}{path}?{urlencode(more, doseq=True)}>; rel="next"'
        return _json(
            items[at : at + size], headers={"Link": link} if at + size < len(items) else {}
        )

    # ---- the parts of the protocol

    def whoami(self, request: Request) -> Answer:
        if request.user is None:
            raise Refusal(401, "Invalid username or password.")
        (name, orgs, role), *_ = [u for u in self._users.values() if u[0] == request.user]
        told = {"type": "user", "id": name, "name": name, "fullname": name}
        told["orgs"] = [{"type": "org", "id": org, "name": org, "fullname": org} for org in orgs]
        token = {"displayName": "test", "role": role}
        return _json({**told, "auth": {"type": "access_token", "accessToken": token}})

    def create(self, request: Request) -> Answer:
        asked, user = request.json(), self._writer(request)
        namespace = asked.get("organization") or user
        repo = f"{namespace}/{asked['name']}"
        if namespace not in self._namespaces(user):
            what = f'create a model under the namespace "{namespace}"'
            raise Refusal(403, f"You don't have the rights to {what}")
        if repo in self.repos:
            raise Refusal(409, "You already created this model repo")
        private = asked.get("private") is True or asked.get("visibility") == "private"
        self.add_repo(repo, private=private)
        return _json({"url": f"{self.url}/{repo}", "name": repo, "id": repo})

    def delete(self, request: Request) -> Answer:
        asked = request.json()
        repo = f"{asked.get('organization') or request.user}/{asked['name']}"
        del self.repos[self._own(request, repo).id]
        return _json({})

    def settings(self, request: Request, repo: str) -> Answer:
        one, asked = self._own(request, repo), request.json()
        if "visibility" in asked:
            one.private = asked["visibility"] == "private"
        if "gated" in asked:
            one.gated = bool(asked["gated"])
        return _json({})

    def models(self, request: Request) -> Answer:
        query = request.query
        wanted = set(query.get("filter", []))
        words = query.get("search", [""])[0].lower().split()
        author = query.get("author", [""])[0]
        full, limit = request.flag("full"), int(query.get("limit", [PAGE])[0])
        found = []
        for one in sorted(self.repos.values(), key=lambda r: r.head.date, reverse=True):
            may = not one.private or self._may_write(request, one) or request.user in one.readers
            card = request.flag("cardData") or "cardData" in query.get("expand", [])
            info = one.info(one.head, siblings=full, card=card)
            if not may or (author and info["author"] != author):
                continue
            if wanted <= set(info["tags"]) and all(w in one.id.lower() for w in words):
                found.append(info)
        return self._page(request, found, min(limit, PAGE))

    def info(self, request: Request, repo: str, revision: str | None) -> Answer:
        one = self._repo(request, repo)
        commit = self._commit(one, revision or "main")
        return _json(one.info(commit, blobs=request.flag("blobs")))

    def tree(self, request: Request, repo: str, revision: str, folder: str | None) -> Answer:
        commit = self._commit(self._repo(request, repo), revision)
        start = f"{folder}/" if folder else ""
        below = {p: b for p, b in sorted(commit.blobs.items()) if p.startswith(start)}
        folders = sorted(
            {"/".join(p.split("/")[:i]) for p in below for i in range(1, p.count("/") + 1)}
        )
        entries = [
            {"type": "directory", "path": f, "oid": _tree_oid(f), "size": 0} for f in folders
        ]
        entries += [blob.entry(path) for path, blob in below.items()]
        if not request.flag("recursive"):
            entries = [e for e in entries if "/" not in e["path"].removeprefix(start)]
        return self._page(request, [e for e in entries if e["path"] != folder], 1000)

    def paths_info(self, request: Request, repo: str, revision: str) -> Answer:
        commit = self._commit(self._repo(request, repo), revision)
        paths = parse_qs(request.body.decode())["paths"]
        return _json([commit.blobs[p].entry(p) for p in paths if p in commit.blobs])

    def refs(self, request: Request, repo: str) -> Answer:
        one = self._repo(request, repo)

        def told(kind: str, refs: dict[str, Commit]) -> list[dict[str, str]]:
            names = refs.items()
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c.sha} for n, c in names]

        branches, tags = told("heads", one.branches), told("tags", one.tags)
        return _json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    def history(self, request: Request, repo: str, revision: str) -> Answer:
        one = self._repo(request, repo)
        told = [
            {"id": c.sha, "title": c.title, "message": "", "date": _iso(c.date)}
            | {"authors": [{"user": c.author}]}
            for c in one.history(self._commit(one, revision))
        ]
        return self._page(request, told, PAGE)

    def branch(self, request: Request, repo: str, branch: str) -> Answer:
        one = self._own(request, repo)
        if request.method == "DELETE":
            if branch == "main" or branch not in one.branches:
                raise Refusal(403 if branch == "main" else 404, f"Cannot delete {branch!r}")
            del one.branches[branch]
            return _json({})
        if branch in one.branches:
            raise Refusal(409, f"Reference already exists: refs/heads/{branch}")
        one.branches[branch] = self._commit(one, request.json().get("startingPoint") or "main")
        return _json({})

    def tag(self, request: Request, repo: str, revision: str) -> Answer:
        one = self._own(request, repo)
        if request.method == "DELETE":
            if one.tags.pop(revision, None) is None:
                raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return _json({})
        tag = request.json()["tag"]
        if tag in one.tags:
            raise Refusal(409, f"Tag reference exists already: refs/tags/{tag}")
        one.tags[tag] = self._commit(one, revision)
        return _json({})

    def validate(self, request: Request) -> Answer:
        if _metadata(request.json()["content"]) is None:
            return _json({"errors": [{"message": "the metadata is no YAML"}], "warnings": []}, 400)
        return _json({"errors": [], "warnings": []})

    def preupload(self, request: Request, repo: str, revision: str) -> Answer:
        commit = self._commit(self._own(request, repo), revision)
        told = []
        for asked in request.json()["files"]:
            path, blob = asked["path"], commit.blobs.get(asked["path"])
            mode = "lfs" if _is_lfs(path, asked["size"]) else "regular"
            oid = blob and (blob.sha256 if blob.lfs else blob.oid)
            told.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return _json({"files": told})

    def lfs_batch(self, request: Request, repo: str) -> Answer:
        one, told = self._own(request, repo), []
        for asked in request.json()["objects"]:
            oid = asked["oid"]
            ways = {
                "upload": {"href": f"{self.url}/lfs/{repo}/{oid}"},
                "verify": {"href": f"{self.url}/{repo}.git/info/lfs/objects/verify"},
            }
            told.append({**asked, **({} if oid in one.uploads else {"actions": ways})})
        return _json({"transfer": "basic", "objects": told})

    def lfs_put(self, request: Request, repo: str, oid: str) -> Answer:
        blob = Blob(request.body, True)
        if blob.sha256 != oid:
            raise Refusal(400, "The Content-SHA256 you specified did not match what we received")
        self.repos[repo].uploads[oid] = blob
        return _json({})

    def lfs_verify(self, request: Request, repo: str) -> Answer:
        asked = request.json()
        blob = self._own(request, repo).uploads.get(asked["oid"])
        if blob is None or len(blob.data) != asked["size"]:
            raise Refusal(404, "Object was not uploaded")
        return _json({})

    def commit(self, request: Request, repo: str, revision: str) -> Answer:
        one = self._own(request, repo)
        if revision not in one.branches:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        head = one.branches[revision]
        header, *operations = (json.loads(line) for line in request.body.splitlines() if line)
        parent = header["value"].get("parentCommit")
        if parent not in (None, head.sha):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        blobs = dict(head.blobs)
        for operation in operations:
            _apply(operation["key"], operation["value"], blobs, one)
        title = header["value"]["summary"]
        done = one.commit(revision, blobs, title, request.user or "", datetime.now(UTC))
        address = f"{self.url}/{repo}/commit/{done.sha}"
        told = {"success": True, "commitOid": done.sha, "commitUrl": address, "hookOutput": ""}
        return _json({**told, "pullRequestUrl": None})

    def resolve(self, request: Request, repo: str, revision: str, path: str) -> Answer:
        commit = self._commit(self._repo(request, repo, files=True), revision)
        if path not in commit.blobs:
            told = {"X_Repo_Commit": commit.sha}
            raise Refusal(404, "Entry not found", "EntryNotFound", **told)
        blob = commit.blobs[path]
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{blob.oid}"'}
        if not blob.lfs:
            return _ranged(request, blob.data, headers)
        headers["X-Linked-Size"] = str(len(blob.data))
        headers["X-Linked-Etag"] = f'"{blob.sha256}"'
        headers["Location"] = f"{self.cdn}/{quote(repo)}/{commit.sha}/{quote(path)}"
        return Answer(302, b"Found. Redirecting", headers)

    def download(self, request: Request, repo: str, sha: str, path: str) -> Answer:
        commit = self.repos[repo].find(sha) if repo in self.repos else None
        if commit is None or path not in commit.blobs:
            raise Refusal(404, "NoSuchKey")
        blob = commit.blobs[path]
        return _ranged(request, blob.data, {"ETag": f'"{blob.sha256}"'})


def _tree_oid(folder: str) -> str:
    return hashlib.sha1(folder.encode()).hexdigest()


def _apply(key: str, value: dict[str, Any], blobs: dict[str, Blob], repo: Repo) -> None:
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


def _ranged(request: Request, data: bytes, headers: dict[str, str]) -> Answer:
    """``data``, or the part of it that is asked for."""
    headers["Accept-Ranges"] = "bytes"
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if asked is None:
        return Answer(200, data, headers)
    first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
    if first > last:
        return Answer(416, b"", {**headers, "Content-Range": f"bytes */{len(data)}"})
    span = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
    return Answer(206, data[first : last + 1], {**headers, **span})


_R, _V = "([^/]+/[^/]+?)", "([^/]+)"
_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = [
    (method, re.compile(pattern), function)
    for method, pattern, function in [
        ("GET", "/api/whoami-v2", HubServer.whoami),
        ("POST", "/api/validate-yaml", HubServer.validate),
        ("POST", "/api/repos/create", HubServer.create),
        ("DELETE", "/api/repos/delete", HubServer.delete),
        ("GET", "/api/models", HubServer.models),
        ("PUT", f"/api/models/{_R}/settings", HubServer.settings),
        ("GET", f"/api/models/{_R}(?:/revision/{_V})?", HubServer.info),
        ("GET", f"/api/models/{_R}/tree/{_V}(?:/(.+))?", HubServer.tree),
        ("POST", f"/api/models/{_R}/paths-info/{_V}", HubServer.paths_info),
        ("GET", f"/api/models/{_R}/refs", HubServer.refs),
        ("GET", f"/api/models/{_R}/commits/{_V}", HubServer.history),
        ("POST DELETE", f"/api/models/{_R}/branch/{_V}", HubServer.branch),
        ("POST DELETE", f"/api/models/{_R}/tag/{_V}", HubServer.tag),
        ("POST", f"/api/models/{_R}/preupload/{_V}", HubServer.preupload),
        ("POST", f"/api/models/{_R}/commit/{_V}", HubServer.commit),
        ("POST", rf"/{_R}\.git/info/lfs/objects/batch", HubServer.lfs_batch),
        ("POST", rf"/{_R}\.git/info/lfs/objects/verify", HubServer.lfs_verify),
        ("PUT", f"/lfs/{_R}/{_V}", HubServer.lfs_put),
        ("GET HEAD", f"/cdn/{_R}/{_V}/(.+)", HubServer.download),
        ("GET HEAD", f"/{_R}/resolve/{_V}/(.+)", HubServer.resolve),
    ]
]


# ---------------------------------------------------------------- sockets


class _Server(ThreadingHTTPServer):
    """Knows its open connections, so that it can break them."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any):
        self._open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away (some are killed on purpose) is no news."""

    def break_all(self) -> None:
        for connection in [*self._open]:
            _reset(connection)


def _reset(connection: socket.socket) -> None:
    """End a connection at once, with what is still under way."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # the other end was first
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        """The log is ``hub.requests``."""

    def _handle(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self._body())
        hub = self.hub
        hub.requests.append(request)
        fault = hub._fault_of(request)
        kind, more = (fault.kind, fault.more) if fault else ("", {})
        call = more.get("call", lambda: None)
        if kind != "lost":
            call()
        if kind == "gone":
            return self._hang_up()
        if kind == "slow":
            time.sleep(more["seconds"])
        if kind == "status":
            answer = Refusal(more.get("status", 503), more.get("message", "out of order")).answer
        else:
            answer = hub.answer(request)
        if kind == "lost":
            call()
            return self._hang_up()
        self._send(request, _spoilt(answer, fault) if fault else answer, kind, more)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, request: Request, answer: Answer, kind: str, more: dict[str, Any]) -> None:
        request.status = answer.status
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if kind == "cut":
            self.wfile.write(answer.body[: more.get("keep", len(answer.body) // 2)])
            return self._hang_up()
        pieces = more.get("pieces", 10) if kind == "drip" else 1
        step = len(answer.body) // pieces + 1
        for at in range(0, len(answer.body), step):
            self.wfile.write(answer.body[at : at + step])
            if kind == "drip":
                time.sleep(more["seconds"])
        return None

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        # What was written should arrive; a reset would drop it.
        self.connection.shutdown(socket.SHUT_RDWR)
