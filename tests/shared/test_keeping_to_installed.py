"""Processes that a command starts, in a folder where somebody left a module of his own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing
from {cli} import every_command

if __name__ == "__main__":
    {first}
    process = multiprocessing.get_context("spawn").Process(target=print, args=("worked",))
    process.start()
    process.join()
"""


@pytest.mark.parametrize("cli", ["fedloupe_client.cli", "fedloupe_server.cli"])
@pytest.mark.parametrize("first", ["every_command()", "pass"])
def test_a_worker_imports_nothing_from_there_once_a_command_began(tmp_path, cli, first):
    downloads, script = tmp_path / "downloads", tmp_path / "bin" / "command"
    downloads.mkdir()
    (downloads / "multiprocessing.py").write_text("open('ran', 'w')")
    script.parent.mkdir()
    script.write_text(SCRIPT.format(cli=cli, first=first))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run([sys.executable, script], cwd=downloads, env=env, capture_output=True, text=True, check=False)
    safe = first != "pass"
    assert ("worked" in done.stdout) == safe, done.stderr
    assert (downloads / "ran").exists() != safe, "the test itself: without the command's first step it is imported"
