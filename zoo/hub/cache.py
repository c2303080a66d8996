"""The cache of the Hub's client, read without the client and without a request.

::

    models--org--name/refs/main             the commit that the branch was seen at
                      snapshots/<commit>/   the files, as links to
                      blobs/<sha>           their bytes, named by sha256 (LFS) or by git's sha1

Importing the client takes longer than loading a small model.
"""

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from zoo.files import write_atomically
from zoo.folder import CONFIG, TENSORS
from zoo.names import is_commit


def cache_folder() -> Path:
    """Where the Hub's client stores what it fetched, by its own rules but without importing it."""
    if client := sys.modules.get("huggingface_hub.constants"):
        return Path(client.HF_HUB_CACHE)
    base = os.getenv("XDG_CACHE_HOME", os.path.join(os.path.expanduser("~"), ".cache"))
    home = _expanded(os.getenv("HF_HOME", os.path.join(base, "huggingface")))
    legacy = os.getenv("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    return Path(_expanded(os.getenv("HF_HUB_CACHE", legacy)))


def repo_folder(repo: str) -> Path:
    return cache_folder() / f"models--{repo.replace('/', '--')}"


def snapshot(repo: str, sha: str) -> Path:
    return repo_folder(repo) / "snapshots" / sha


def is_whole(folder: Path, names: Iterable[str] = (TENSORS, CONFIG)) -> bool:
    return all((folder / name).exists() for name in names)


def promised_digest(path: Path) -> str | None:
    """The sha256 or git sha1 that a file's blob is named by; None where there are no links."""
    try:
        name = Path(os.readlink(path)).name  # one step: a blob may be a link to a store itself
    except OSError:
        return None
    return name if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", name) else None


def is_intact(path: Path) -> bool:
    """Whether the bytes have the digest in the blob's name; true if the name has none."""
    name = promised_digest(path)
    if name is None:
        return path.exists()
    try:
        return name == (file_sha256(path) if len(name) == 64 else _git_sha1(path))
    except FileNotFoundError:
        return False


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_sha1(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def remember(repo: str, revision: str | None, sha: str) -> None:
    """Record the commit of a revision where the client does; only after all files were fetched."""
    path = repo_folder(repo) / "refs" / (revision or "main")
    with contextlib.suppress(OSError):  # a cache that is read-only serves all the same
        if not path.is_file() or path.read_text() != sha:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, sha.encode())


def remembered(
    repo: str, revision: str | None, names: Iterable[str] = (TENSORS, CONFIG)
) -> str | None:
    try:
        sha = (repo_folder(repo) / "refs" / (revision or "main")).read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return sha if is_commit(sha) and is_whole(snapshot(repo, sha), names) else None


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))
