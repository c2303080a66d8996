"""Every exception that the zoo raises on purpose.

::

    ZooError
    ├── ModelNameError      a name that is unknown or ambiguous
    │   ├── InvalidName         not of any form that names have
    │   ├── UnknownModel        no plugin has it
    │   ├── UnknownTag          the model has no such weights
    │   └── AmbiguousName       two plugins claim it
    ├── SpecError           a record that a plugin declares is not valid
    ├── PluginError         a plugin that failed to load was asked for
    ├── WeightsError        a weights folder is not what it should be
    │   ├── WeightsNotFound     nothing there, or a file is missing
    │   ├── CorruptWeights      size or sha256 differ, or not safetensors
    │   ├── TensorMismatch      the tensors are not those of the model
    │   ├── UnsafeWeights       a pickle is beside or instead of the tensors
    │   ├── InvalidConfig       config.json does not describe a model
    │   └── IncompatibleVersion written for a newer zoo
    ├── HubError            the Hugging Face Hub, or the cache of what was fetched from it
    │   ├── RepositoryNotFound  not there, or private and not yours to see
    │   ├── RevisionNotFound    the repository has no such branch, tag or commit
    │   ├── AccessDenied        a token is missing, not valid, or not enough
    │   ├── HubUnreachable      no connection, no answer in time, or the Hub itself fails
    │   ├── HubBusy             too many requests: later
    │   └── PublishConflict     somebody else has published, or a tag has other bytes
    ├── SettingsError       an unknown setting of a model or a recipe, or a wrong value
    ├── InputError          images or codes of a wrong shape, range or dtype (also a ValueError)
    ├── ImageError          a picture that cannot be read
    ├── CapabilityError     the model cannot do this
    ├── ConversionError     the model cannot be written in another format
    ├── DataError           a data set that cannot be found or read, or does not fit the model
    ├── CollectionError     a collection that is not there, damaged, or of a newer zoo
    ├── FileError           a file, folder or path that the system refuses (also an OSError)
    ├── OutOfMemory         there is not enough (also a MemoryError)
    ├── TrainingError       a run that cannot start, or can no longer go on
    │   └── RunStopped          stopped by Ctrl-C or SIGTERM, and ready to go on
    └── MissingDependency   an optional library is absent (also an ImportError)

The command line shows any of them as one message and leaves with exit code 2.
"""

from zoo.files import path_text

__all__ = [
    "AccessDenied",
    "AmbiguousName",
    "CapabilityError",
    "CollectionError",
    "ConversionError",
    "CorruptWeights",
    "DataError",
    "FileError",
    "HubBusy",
    "HubError",
    "HubUnreachable",
    "ImageError",
    "IncompatibleVersion",
    "InputError",
    "InvalidConfig",
    "InvalidName",
    "MissingDependency",
    "ModelNameError",
    "OutOfMemory",
    "PluginError",
    "PublishConflict",
    "RepositoryNotFound",
    "RevisionNotFound",
    "RunStopped",
    "SettingsError",
    "SpecError",
    "StaleWeights",
    "TensorMismatch",
    "TrainingError",
    "UnknownModel",
    "UnknownTag",
    "UnsafeWeights",
    "WeightsError",
    "WeightsNotFound",
    "ZooError",
]


class ZooError(Exception):
    """Base of all errors of the zoo: its text says what was found, what was expected, what to do.

    Any stream and file can hold the text, whatever the paths in it (:func:`zoo.files.path_text`).
    """

    def __init__(self, *args: object):
        super().__init__(*(path_text(arg) if isinstance(arg, str) else arg for arg in args))


class ModelNameError(ZooError):
    """A name that is unknown here, or ambiguous."""


class InvalidName(ModelNameError):
    """A name that is not of any form that names have."""


class UnknownModel(ModelNameError):
    """No plugin has a model of this name."""


class UnknownTag(ModelNameError):
    """The model is known, these weights of it are not."""


class AmbiguousName(ModelNameError):
    """Two plugins claim the same model name."""


class SpecError(ZooError):
    """A record that a plugin declares is not valid."""


class PluginError(ZooError):
    """A model was asked for whose plugin failed to load; the reason is chained."""


class WeightsError(ZooError):
    """A weights folder is not what it should be; nothing of it was loaded."""


class WeightsNotFound(WeightsError):
    """The folder, or a file in it, is not there."""


class CorruptWeights(WeightsError):
    """The tensors' size or sha256 is not the recorded one, or they are not safetensors."""


class TensorMismatch(WeightsError):
    """The tensors are not exactly those that the model has."""


class UnsafeWeights(WeightsError):
    """The folder has a file that could run code when it is read."""


class InvalidConfig(WeightsError):
    """A config does not describe a model of this zoo."""


class IncompatibleVersion(WeightsError):
    """The weights were written for a newer zoo."""


class HubError(ZooError):
    """Something went wrong between here and the Hugging Face Hub, or in its cache on the disk."""


class RepositoryNotFound(HubError):
    """The Hub has no such repository, or it is private and the token, if any, may not see it."""


class RevisionNotFound(HubError):
    """The repository has no such branch, tag or commit."""


class AccessDenied(HubError):
    """A token is missing, not valid, or not enough; a gated repository has to be asked for."""


class HubUnreachable(HubError):
    """No connection, no answer in time, or an error of the Hub itself."""


class HubBusy(HubError):
    """Too many requests; the text says when to try again, if the Hub did."""


class PublishConflict(HubError):
    """Somebody else has published meanwhile, or what is there must not change; nothing was."""


class StaleWeights(UserWarning):
    """The Hub could not be asked which commit is the newest, so one in the cache was taken."""


class SettingsError(ZooError, ValueError):
    """An unknown setting of a model, a recipe or a protocol, or a value that it cannot have."""


class InputError(ZooError, ValueError):
    """Images or codes of a wrong shape, range, dtype or number."""


class ImageError(ZooError):
    """A picture that cannot be read."""


class CapabilityError(ZooError):
    """The model cannot do what was asked; the text names models that can."""


class ConversionError(ZooError):
    """The model cannot be written in another format, or gives something else there."""


class DataError(ZooError):
    """A data set that cannot be found or read, or does not fit the model."""


class CollectionError(ZooError):
    """A collection that is not there, is damaged, in use, or written by a newer zoo."""


class FileError(ZooError, OSError):
    """A file, folder or path that the system refuses; has the ``errno`` and ``filename`` of it."""

    def __str__(self) -> str:  # an OSError with an errno shows that instead
        return str(self.args[0]) if self.args else ""


class OutOfMemory(ZooError, MemoryError):
    """The memory, of the machine or of its GPU, is not enough."""


class TrainingError(ZooError):
    """A training run that cannot start, or can no longer go on."""


class RunStopped(TrainingError):
    """A run that Ctrl-C or SIGTERM stopped, and that can go on from its checkpoint."""


class MissingDependency(ZooError, ImportError):
    """An optional library is not installed; the text has the pip command."""
