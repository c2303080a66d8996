import pytest

from zoo.testing import CHECKS, models_of


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", models_of("latentzoo-conv"))
def test_contract(name, check):
    check(name)
