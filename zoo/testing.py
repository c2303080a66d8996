"""The contract's checks, as plain functions, for the authors of plugins and for ourselves.

A plugin's whole test file::

    from zoo.testing import contract

    test_contract = contract("latentzoo-mine")

``zoo check`` runs the same checks and reports them (:mod:`zoo.authoring.checking`).

Each check takes a name: of a model with weights, which is loaded, or of a model alone, which is
created untrained. It raises AssertionError, or whatever the model raises; the first line of its
docstring says what it expects. A check that does not apply to the model (which has no weights, or
does not declare the call) raises :class:`NotApplicable` with the reason; that is no pass.

A model that is known to fail a check declares that in its class, with the reason::

    class Mine(Autoencoder):
        expected_failures = {"check_batch_independence": "its normalisation spans the batch"}

Such a failure is shown with its reason and is no fault. A check that is declared to fail and passes
is a fault: the entry is out of date.
"""

from zoo.authoring.checks import CHECKS, EXPENSIVE, contract, expected_failures, models_of
from zoo.authoring.checks.calls import (
    check_batch_independence,
    check_defaults,
    check_determinism,
    check_forward,
    check_inputs,
    check_preprocess,
    check_reconstruct,
    check_shapes_and_range,
    check_train_mode,
)
from zoo.authoring.checks.folders import (
    check_publishable,
    check_round_trip,
    check_vectors,
    check_weights_folders,
)
from zoo.authoring.checks.generation import (
    check_density,
    check_generate,
    check_generate_across_processes,
)
from zoo.authoring.checks.process import check_process, check_quiet, check_torch_defaults
from zoo.authoring.checks.records import check_import, check_record
from zoo.authoring.checks.refusals import (
    check_refused_codes,
    check_refused_images,
    check_undeclared_capability,
)
from zoo.authoring.checks.support import (
    SMALL,
    TOLERANCE,
    CheckFailed,
    NotApplicable,
    get_model,
    has_weights,
    images_for,
    line_of,
    record_line,
)
from zoo.authoring.checks.training import check_training

__all__ = [
    "CHECKS",
    "EXPENSIVE",
    "SMALL",
    "TOLERANCE",
    "CheckFailed",
    "NotApplicable",
    "check_batch_independence",
    "check_defaults",
    "check_density",
    "check_determinism",
    "check_forward",
    "check_generate",
    "check_generate_across_processes",
    "check_import",
    "check_inputs",
    "check_preprocess",
    "check_process",
    "check_publishable",
    "check_quiet",
    "check_reconstruct",
    "check_record",
    "check_refused_codes",
    "check_refused_images",
    "check_round_trip",
    "check_shapes_and_range",
    "check_torch_defaults",
    "check_train_mode",
    "check_training",
    "check_undeclared_capability",
    "check_vectors",
    "check_weights_folders",
    "contract",
    "expected_failures",
    "get_model",
    "has_weights",
    "images_for",
    "line_of",
    "models_of",
    "record_line",
]
