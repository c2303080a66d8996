"""The contract's checks, in modules by subject; authors import them from :mod:`zoo.testing`."""

from collections.abc import Callable, Collection, Mapping

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


def contract(distribution: str, *, in_full: Collection[str] | None = None) -> Callable[..., None]:
    """The test, for pytest, of every check with every name of a plugin distribution.

    Expected failures are strict xfails with their reasons; what is not applicable is skipped, with
    the reason.

    Args:
        in_full: the names that meet every check each time; all of them by default. For a plugin of
            many models: with all other names, the checks that train, or that start processes
            (:data:`EXPENSIVE`), get the mark ``slow``, to be left out by ``pytest -m "not slow"``.

    Raises: AssertionError: the distribution has no model, or none of a name in ``in_full``.
    """
    import pytest

    cases = []
    names = models_of(distribution)
    for name in in_full or ():
        assert name in names, f"in_full: {distribution} has no {name}; there are {names}"
    for name in names:
        reasons = expected_failures(name)
        for check in CHECKS:
            reason = reasons.get(check.__name__)
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
            if in_full is not None and name not in in_full and check in EXPENSIVE:
                marks.append(pytest.mark.slow)
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

EXPENSIVE = (check_generate_across_processes, check_quiet, check_torch_defaults, check_training)
"""Those that take seconds for each model, where each of the others takes a fraction of one."""
