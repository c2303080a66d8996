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

import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hubserver.faults import KINDS, Fault
from hubserver.messages import Request
from hubserver.routes import Routes
from hubserver.store import LFS, Blob, Commit, Repo, is_lfs
from hubserver.transport import Handler, Server


class HubServer(Routes):
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
        handler = type("Handler", (Handler,), {"hub": self})
        self._server = Server(("127.0.0.1", self._port), handler)
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
                    blobs[path] = Blob(data, is_lfs(path, len(data)))
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

    def fault_of(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.match.search(str(request)) and fault.met != fault.times:
                    fault.met += 1
                    return fault
        return None
