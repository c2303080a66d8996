"""Weights on the Hugging Face Hub: found, fetched into the cache of the Hub's client, and checked.

A revision is resolved to a commit once, and all files are those of that commit. The cache is the
client's own (huggingface_hub), so that there is one on a machine. What a pinned and cached commit
needs is read without a request and without the client. Nothing that comes from the Hub is trusted:
it is never run, only the files of a weights folder are fetched, and none that is too large.
"""

from zoo.hub.browsing import describe, peek, search
from zoo.hub.cache import cache_folder
from zoo.hub.errors import hub_errors
from zoo.hub.fetching import Fetched, FetchedWeights, fetch, fetch_files, fetch_first
from zoo.hub.foreign import stated_licence
from zoo.hub.revisions import Commit, resolve

__all__ = [
    "Commit",
    "Fetched",
    "FetchedWeights",
    "cache_folder",
    "describe",
    "fetch",
    "fetch_files",
    "fetch_first",
    "hub_errors",
    "peek",
    "resolve",
    "search",
    "stated_licence",
]
