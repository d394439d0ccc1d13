"""A hospital that has joined: home, courier's folder and socket, with the parts that the product uses."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import pytest

from federations import found, install, kit_for, small_study
from fedloupe_client.courier.approved import prepare
from fedloupe_client.courier.state import Board, utc
from fedloupe_client.gate import approve
from fedloupe_client.site.server import desk_of, serve


@dataclass
class Hospital:
    """Folders of one hospital, and what runs of it."""

    home: Path
    courier: Path
    socket: Path
    servers: list = field(default_factory=list)

    def start_site(self, handle=lambda blob: blob) -> None:
        self.servers.append(serve(desk_of(handle), self.socket))

    def stop_site(self) -> None:
        while self.servers:
            self.servers.pop().stop(0)

    def courier_is(self, state: str, code: str | None = None, title: str | None = None, **noted) -> None:
        board = Board(self.courier / "state", monotonic, lambda _: None)
        board.note(last_contact=utc(), **noted)
        board.show(state, code=code, title=title)
        board.write()


@pytest.fixture(scope="session")
def joined_once(tmp_path_factory):
    """A home that joined, whose study is approved and whose courier is prepared; HOME/courier is the courier's."""
    folder = tmp_path_factory.mktemp("joined")
    with pytest.MonkeyPatch.context() as patch:
        found(folder / "FED")
        patch.setattr(importlib.util, "find_spec", lambda name, *rest: None)  # Flower's command is the next line
        install(folder / "FED", folder / "home", kit_for(folder / "FED", folder / "home").kit)
    prepare(folder / "home" / "courier" / "flower", folder / "home" / "courier" / "fedloupe.fab")
    approve(folder / "home", small_study(), by="Dr Ito")
    return folder / "home"


@pytest.fixture
def hospital(joined_once, tmp_path):
    """Everything in place and working."""
    home = shutil.copytree(joined_once, tmp_path / "home", ignore=shutil.ignore_patterns("courier"))
    courier = shutil.copytree(joined_once / "courier", tmp_path / "courier")
    with tempfile.TemporaryDirectory(prefix="fl-") as short:
        found = Hospital(home, courier, Path(short) / "site.sock")
        found.start_site()
        found.courier_is("online")
        yield found
        found.stop_site()
    (courier / "flower").chmod(0o700)
