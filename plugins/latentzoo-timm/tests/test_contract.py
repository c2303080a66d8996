"""The contract, with two of the nets that timm has for tests: zoo check takes the real example."""

import pytest

from zoo.testing import CHECKS, EXPENSIVE, NotApplicable


@pytest.mark.parametrize(
    "check",
    [pytest.param(c, marks=pytest.mark.slow if c in EXPENSIVE else ()) for c in CHECKS],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("name", ["timm:test_vit.r160_in1k", "timm:test_convnext"])
def test_contract(name, check):
    try:
        check(name)
    except NotApplicable as reason:
        pytest.skip(str(reason))
