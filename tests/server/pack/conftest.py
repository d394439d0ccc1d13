"""Results of a run with everything that sites can say of a frozen model; SYNTHETIC."""

from __future__ import annotations

import pytest

from fedloupe_server.evidence import Results
from judged import judged


@pytest.fixture(scope="session")
def rich() -> Results:
    return judged()
