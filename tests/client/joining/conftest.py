"""A federation of three sites, founded once; each test has its own copy."""

from __future__ import annotations

import shutil

import pytest

from federations import found


@pytest.fixture(scope="session")
def founded_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("founded") / "FED"
    found(folder)
    return folder


@pytest.fixture
def fed(founded_once, tmp_path):
    return shutil.copytree(founded_once, tmp_path / "FED", symlinks=True)
