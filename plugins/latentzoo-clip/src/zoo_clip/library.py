"""Imports open_clip, or says which pip command installs it.

open_clip sets a variable of the environment for the tokenizers library when it is imported; it is
put back, for what this process starts must not depend on which model was loaded.
"""

import os

from zoo.errors import MissingDependency
from zoo.installing import install_command

_VARIABLE = "TOKENIZERS_PARALLELISM"
_before = os.environ.get(_VARIABLE)
try:
    import open_clip
    from open_clip import coca_model, factory, model, pretrained, tokenizer
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "open_clip":
        raise  # it is installed but broken: its own error is the useful one
    raise MissingDependency(
        "names that begin with clip: need open_clip, which is not installed.\n"
        f"Type: {install_command('open_clip_torch')}"
    ) from None
finally:
    if _before is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = _before

VERSION: str = open_clip.__version__

__all__ = ["VERSION", "coca_model", "factory", "model", "pretrained", "tokenizer"]
