"""For the tests of all distributions: the processes that checks start have torch already."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "tests"))

from preloaded import shared

from zoo.authoring import processes


@pytest.fixture(autouse=True, scope="session")
def _forked_checks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "run_python", lambda *args, **how: shared().run(*args, **how))
        yield
