"""Imports libraries that only some jobs need, or says which pip command installs them.

::

    sklearn = optional("sklearn.cluster", "scikit-learn", "train")  # of latentzoo[train]
"""

import importlib
import importlib.util
from types import ModuleType

from zoo.errors import MissingDependency
from zoo.installing import install_command

__all__ = ["installed", "optional"]


def optional(module: str, distribution: str, extra: str) -> ModuleType:
    """Import ``module``, which ``latentzoo[extra]`` brings.

    Raises:
        MissingDependency: it is not installed; the text has the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # it is installed but broken: its own error is the useful one
        raise MissingDependency(
            f"this needs {distribution}, which is not installed.\n"
            f"Type: {install_command(f'latentzoo[{extra}]')}"
        ) from None


def installed(module: str) -> bool:
    """Whether the top-level ``module`` is installed; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # it is imported already, without a spec
        return True
