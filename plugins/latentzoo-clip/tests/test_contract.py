"""The contract, with the smallest towers that open_clip has, untrained."""

import pytest

from zoo.testing import CHECKS, NotApplicable

pytest.importorskip("zoo_clip")
pytestmark = pytest.mark.slow  # open_clip takes seconds to import


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check):
    try:
        check("clip:ViT-S-32-alt")
    except NotApplicable as reason:
        pytest.skip(str(reason))
