"""latentzoo: a plugin-based model zoo for learning from images without labels.

>>> import zoo
>>> model = zoo.load("deep_ae.mnist")
>>> images = model.generate(16, seed=0)  # 16 x 1 x 28 x 28, in [0, 1]

Importing ``zoo`` imports nothing heavy; torch comes with the first model.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.api import create, info, list_models, load, pull
    from zoo.collection import Collection
    from zoo.errors import ZooError
    from zoo.evaluation import evaluate
    from zoo.folder import bundled_weights
    from zoo.hookspecs import hookimpl
    from zoo.publishing import publish
    from zoo.saving import save
    from zoo.spec import Metric, ModelSpec, Option, Prefix, Preprocessing, Weights
    from zoo.training import train

__version__ = "0.2.0"
__distribution__ = "latentzoo"

_HOME = {
    "Collection": "collection",
    "Metric": "spec",
    "ModelSpec": "spec",
    "Option": "spec",
    "Prefix": "spec",
    "Preprocessing": "spec",
    "Weights": "spec",
    "ZooError": "errors",
    "bundled_weights": "folder",
    "create": "api",
    "evaluate": "evaluation",
    "hookimpl": "hookspecs",
    "info": "api",
    "list_models": "api",
    "load": "api",
    "publish": "publishing",
    "pull": "api",
    "save": "saving",
    "train": "training",
}

__all__ = [
    "Collection",
    "Metric",
    "ModelSpec",
    "Option",
    "Prefix",
    "Preprocessing",
    "Weights",
    "ZooError",
    "__version__",
    "bundled_weights",
    "create",
    "evaluate",
    "hookimpl",
    "info",
    "list_models",
    "load",
    "publish",
    "pull",
    "save",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"zoo.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
