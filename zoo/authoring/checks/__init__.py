"""The contract's checks, in modules by subject; authors import them from :mod:`zoo.testing`."""

from collections.abc import Callable, Mapping

from zoo import api
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
from zoo.authoring.checks.support import NotApplicable
from zoo.authoring.checks.training import check_training
from zoo.discovery import normalise
from zoo.registry import builder, registry


def models_of(distribution: str) -> list[str]:
    """Every model of a plugin distribution, every one with weights, and its prefixes' examples."""
    names = []
    for full, (plugin, spec) in zip(registry().names(), registry().specs(), strict=True):
        if plugin.distribution == normalise(distribution):
            names += [full, *(f"{full}.{w.tag}" for w in spec.weights)]
    for plugin, prefix in registry().prefixes():
        if plugin.distribution == normalise(distribution):
            names.append(prefix.example)
    assert names, f"no model of {distribution} was found; zoo plugins shows why"
    return names


def contract(distribution: str) -> Callable[..., None]:
    """The test, for pytest, of every check with every name of a plugin distribution.

    Expected failures are strict xfails with their reasons; what is not applicable is skipped, with
    the reason.
    """
    import pytest

    cases = []
    for name in models_of(distribution):
        reasons = expected_failures(name)
        for check in CHECKS:
            reason = reasons.get(check.__name__)
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
            cases.append(pytest.param(name, check, id=f"{name}-{check.__name__}", marks=marks))

    @pytest.mark.parametrize(("name", "check"), cases)
    def test_contract(name: str, check: Callable[[str], None]) -> None:
        try:
            check(name)
        except NotApplicable as reason:
            pytest.skip(str(reason))

    return test_contract


def expected_failures(name: str) -> Mapping[str, str]:
    """The checks that the class of the model ``name`` declares to fail, each with its reason.

    Raises: AssertionError: an entry names a check that does not exist, or has no reason.
    """
    reasons = getattr(builder(api.info(name)), "expected_failures", {})
    known = [check.__name__ for check in CHECKS]
    for check, reason in reasons.items():
        assert check in known, f"expected_failures of {name}: no check {check!r}; there are {known}"
        assert isinstance(reason, str), f"expected_failures of {name}: {check} needs a reason"
        assert reason.strip(), f"expected_failures of {name}: {check} needs a reason"
    return reasons


CHECKS = (
    check_import,
    check_record,
    check_weights_folders,
    check_defaults,
    check_shapes_and_range,
    check_reconstruct,
    check_determinism,
    check_batch_independence,
    check_inputs,
    check_forward,
    check_generate,
    check_density,
    check_generate_across_processes,
    check_quiet,
    check_refused_images,
    check_refused_codes,
    check_undeclared_capability,
    check_round_trip,
    check_train_mode,
    check_process,
    check_torch_defaults,
    check_vectors,
    check_publishable,
    check_preprocess,
    check_training,
)
"""All checks, in the order in which they are run."""
