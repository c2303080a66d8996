"""The parts of the Hub's protocol: what each address answers."""

import hashlib
import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from hubserver.messages import Answer, Refusal, Request, as_json
from hubserver.store import Blob, Commit, Repo, apply, is_lfs, iso, metadata

PAGE = 20
"""Entries of a page, where there are pages."""


class Routes:
    """Answers requests; :class:`hubserver.HubServer` has the state and runs."""

    url: str
    cdn: str
    repos: dict[str, Repo]
    _users: dict[str, tuple[str, tuple[str, ...], str]]
    _lock: threading.RLock

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
        return as_json(
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
        return as_json({**told, "auth": {"type": "access_token", "accessToken": token}})

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
        return as_json({"url": f"{self.url}/{repo}", "name": repo, "id": repo})

    def delete(self, request: Request) -> Answer:
        asked = request.json()
        repo = f"{asked.get('organization') or request.user}/{asked['name']}"
        del self.repos[self._own(request, repo).id]
        return as_json({})

    def settings(self, request: Request, repo: str) -> Answer:
        one, asked = self._own(request, repo), request.json()
        if "visibility" in asked:
            one.private = asked["visibility"] == "private"
        if "gated" in asked:
            one.gated = bool(asked["gated"])
        return as_json({})

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
        return as_json(one.info(commit, blobs=request.flag("blobs")))

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
        return as_json([commit.blobs[p].entry(p) for p in paths if p in commit.blobs])

    def refs(self, request: Request, repo: str) -> Answer:
        one = self._repo(request, repo)

        def told(kind: str, refs: dict[str, Commit]) -> list[dict[str, str]]:
            names = refs.items()
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c.sha} for n, c in names]

        branches, tags = told("heads", one.branches), told("tags", one.tags)
        return as_json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    def history(self, request: Request, repo: str, revision: str) -> Answer:
        one = self._repo(request, repo)
        told = [
            {"id": c.sha, "title": c.title, "message": "", "date": iso(c.date)}
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
            return as_json({})
        if branch in one.branches:
            raise Refusal(409, f"Reference already exists: refs/heads/{branch}")
        one.branches[branch] = self._commit(one, request.json().get("startingPoint") or "main")
        return as_json({})

    def tag(self, request: Request, repo: str, revision: str) -> Answer:
        one = self._own(request, repo)
        if request.method == "DELETE":
            if one.tags.pop(revision, None) is None:
                raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return as_json({})
        tag = request.json()["tag"]
        if tag in one.tags:
            raise Refusal(409, f"Tag reference exists already: refs/tags/{tag}")
        one.tags[tag] = self._commit(one, revision)
        return as_json({})

    def validate(self, request: Request) -> Answer:
        if metadata(request.json()["content"]) is None:
            return as_json(
                {"errors": [{"message": "the metadata is no YAML"}], "warnings": []}, 400
            )
        return as_json({"errors": [], "warnings": []})

    def preupload(self, request: Request, repo: str, revision: str) -> Answer:
        commit = self._commit(self._own(request, repo), revision)
        told = []
        for asked in request.json()["files"]:
            path, blob = asked["path"], commit.blobs.get(asked["path"])
            mode = "lfs" if is_lfs(path, asked["size"]) else "regular"
            oid = blob and (blob.sha256 if blob.lfs else blob.oid)
            told.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return as_json({"files": told})

    def lfs_batch(self, request: Request, repo: str) -> Answer:
        one, told = self._own(request, repo), []
        for asked in request.json()["objects"]:
            oid = asked["oid"]
            ways = {
                "upload": {"href": f"{self.url}/lfs/{repo}/{oid}"},
                "verify": {"href": f"{self.url}/{repo}.git/info/lfs/objects/verify"},
            }
            told.append({**asked, **({} if oid in one.uploads else {"actions": ways})})
        return as_json({"transfer": "basic", "objects": told})

    def lfs_put(self, request: Request, repo: str, oid: str) -> Answer:
        blob = Blob(request.body, True)
        if blob.sha256 != oid:
            raise Refusal(400, "The Content-SHA256 you specified did not match what we received")
        self.repos[repo].uploads[oid] = blob
        return as_json({})

    def lfs_verify(self, request: Request, repo: str) -> Answer:
        asked = request.json()
        blob = self._own(request, repo).uploads.get(asked["oid"])
        if blob is None or len(blob.data) != asked["size"]:
            raise Refusal(404, "Object was not uploaded")
        return as_json({})

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
            apply(operation["key"], operation["value"], blobs, one)
        title = header["value"]["summary"]
        done = one.commit(revision, blobs, title, request.user or "", datetime.now(UTC))
        address = f"{self.url}/{repo}/commit/{done.sha}"
        told = {"success": True, "commitOid": done.sha, "commitUrl": address, "hookOutput": ""}
        return as_json({**told, "pullRequestUrl": None})

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
        ("GET", "/api/whoami-v2", Routes.whoami),
        ("POST", "/api/validate-yaml", Routes.validate),
        ("POST", "/api/repos/create", Routes.create),
        ("DELETE", "/api/repos/delete", Routes.delete),
        ("GET", "/api/models", Routes.models),
        ("PUT", f"/api/models/{_R}/settings", Routes.settings),
        ("GET", f"/api/models/{_R}(?:/revision/{_V})?", Routes.info),
        ("GET", f"/api/models/{_R}/tree/{_V}(?:/(.+))?", Routes.tree),
        ("POST", f"/api/models/{_R}/paths-info/{_V}", Routes.paths_info),
        ("GET", f"/api/models/{_R}/refs", Routes.refs),
        ("GET", f"/api/models/{_R}/commits/{_V}", Routes.history),
        ("POST DELETE", f"/api/models/{_R}/branch/{_V}", Routes.branch),
        ("POST DELETE", f"/api/models/{_R}/tag/{_V}", Routes.tag),
        ("POST", f"/api/models/{_R}/preupload/{_V}", Routes.preupload),
        ("POST", f"/api/models/{_R}/commit/{_V}", Routes.commit),
        ("POST", rf"/{_R}\.git/info/lfs/objects/batch", Routes.lfs_batch),
        ("POST", rf"/{_R}\.git/info/lfs/objects/verify", Routes.lfs_verify),
        ("PUT", f"/lfs/{_R}/{_V}", Routes.lfs_put),
        ("GET HEAD", f"/cdn/{_R}/{_V}/(.+)", Routes.download),
        ("GET HEAD", f"/{_R}/resolve/{_V}/(.+)", Routes.resolve),
    ]
]
