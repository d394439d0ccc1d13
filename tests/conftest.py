"""Shared fixtures: where the real data are, and a real browser."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-logging=stderr",
    "--v=0",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
)


def pytest_configure(config: pytest.Config) -> None:
    """Expected numbers are the CPU's, also in the processes that tests start; `-m cuda` alone sees the GPU."""
    if config.getoption("markexpr") != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real images and tables; required in CI, optional elsewhere."""
    folder = os.environ.get("FEDLOUPE_DATA", "")
    if not folder:
        if os.environ.get("CI"):
            pytest.fail("FEDLOUPE_DATA must point to the real data in CI")
        pytest.skip("FEDLOUPE_DATA is not set: the real images and tables are not part of this repository")
    return Path(folder).resolve()


@dataclass(frozen=True)
class Seen:
    """What a browser made of a page: its document, and the lines that it wrote to the console."""

    document: str
    console: list[str]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program; required in CI, optional elsewhere."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail("no Chromium is installed, and CI requires it")
    pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")


@pytest.fixture
def browse(chromium: str, tmp_path: Path) -> Callable[..., Seen]:
    """Open a page: `browse(page, "--dump-dom")`, `browse(page, "--screenshot=...", "--window-size=1000,1400")`."""

    def run(page: Path, *options: str) -> Seen:
        command = [chromium, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        return Seen(done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line])

    return run


@pytest.fixture(scope="session")
def founded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A federation of three sites; for copying."""
    from federations import found

    folder = tmp_path_factory.mktemp("founded") / "FED"
    found(folder)
    return folder


@pytest.fixture
def fed(founded_once: Path, tmp_path: Path) -> Path:
    """A test's own copy of it."""
    return shutil.copytree(founded_once, tmp_path / "FED", symlinks=True)
