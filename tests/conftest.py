"""Shared fixtures: where the real data are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real images and tables; required in CI, optional elsewhere."""
    folder = os.environ.get("FEDLOUPE_DATA", "")
    if not folder:
        if os.environ.get("CI"):
            pytest.fail("FEDLOUPE_DATA must point to the real data in CI")
        pytest.skip("FEDLOUPE_DATA is not set: the real images and tables are not part of this repository")
    return Path(folder).resolve()
