"""A hospital's keys at the SuperLink, as the service looks after them: rotation, loss of the database, expiry."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

from federations import install, kit_for, renewed
from fedloupe.certificates import utc_now
from fedloupe_server.hub.control import Node
from fedloupe_server.hub.flower import FlowerRefused
from fedloupe_server.hub.service import Ports, Service
from fedloupe_server.hub.task import Task
from fedloupe_server.provision import load_federation


class SuperLink:
    """As Flower's: a key that was taken back is listed by nobody and registered by nobody any more."""

    def __init__(self) -> None:
        self.known: dict[str, Node] = {}
        self.gone: set[str] = set()

    def nodes(self):
        return list(self.known.values())

    def register(self, public_key, site):
        if public_key in self.gone or public_key in self.known:
            raise FlowerRefused("in use", remedy="read the SuperLink's log")
        self.known[public_key] = Node(1 + len(self.known) + len(self.gone), public_key, "registered", "")
        return self.known[public_key].id

    def unregister(self, node):
        (key,) = (key for key, one in self.known.items() if one.id == node)
        del self.known[key]
        self.gone.add(key)

    def comes(self, record):
        """The courier of a kit is online."""
        key = record.courier_key
        self.known[key] = replace(self.known[key], status="online", contact="2026-11-28T10:00:00+00:00")


def look(fed, superlink):
    """What a service that was started this moment makes of the folder: sites by the key that is asked."""
    (fed / "service").mkdir(exist_ok=True)
    processes, watch = SimpleNamespace(running={}), SimpleNamespace()
    federation = load_federation(fed)
    task = Task.of("study", fed, federation.study)
    service = Service(federation, Ports(), processes, SimpleNamespace(), superlink, watch, task, ())
    service._look()
    assert service.trouble == ""
    return {site: one.node for site, one in service.nodes.items()}


class TestRotation:
    def test_both_keys_are_known_until_the_new_one_came(self, fed, tmp_path):
        superlink, old = SuperLink(), kit_for(fed, tmp_path / "home").record
        look(fed, superlink)
        superlink.comes(old)
        new = renewed(fed, tmp_path / "home").record
        for _ in range(2):
            assert look(fed, superlink)["north"] == superlink.known[old.courier_key].id
        assert set(superlink.known) == {old.courier_key, new.courier_key}

    def test_once_the_new_one_came_the_old_one_never_works_again(self, fed, tmp_path):
        """Not after a restart of the service, and not with a SuperLink that forgot everything."""
        superlink, old = SuperLink(), kit_for(fed, tmp_path / "home").record
        new = renewed(fed, tmp_path / "home").record
        look(fed, superlink)
        superlink.comes(new)
        assert look(fed, superlink)["north"] == superlink.known[new.courier_key].id
        for known in (superlink, SuperLink()):
            look(fed, known)
            assert set(known.known) == {new.courier_key}, old.courier_key

    def test_a_third_key_ends_the_second(self, fed, tmp_path):
        superlink, _ = SuperLink(), kit_for(fed, tmp_path / "home")
        for _ in range(2):
            enrolled = renewed(fed, tmp_path / "home")
            install(fed, tmp_path / "home", enrolled.kit)
            new = enrolled.record
            look(fed, superlink)
            superlink.comes(new)
            look(fed, superlink)
            assert set(superlink.known) == {new.courier_key}
        assert look(fed, SuperLink()).keys() == {"north"}


class TestExpiry:
    def test_an_ended_certificates_courier_is_taken_out_and_new_keys_bring_the_hospital_back(
        self, fed, tmp_path, monkeypatch
    ):
        superlink, north = SuperLink(), kit_for(fed, tmp_path / "home", days=20).record
        south = kit_for(fed, tmp_path / "south", "south").record
        look(fed, superlink)
        for record in (north, south):
            superlink.comes(record)
        before, later = superlink.known[south.courier_key], utc_now() + timedelta(days=21)
        for module in ("federation", "enrolling"):
            monkeypatch.setattr(f"fedloupe_server.provision.{module}.utc_now", lambda: later)
        assert set(look(fed, superlink)) == {"south"}
        new = renewed(fed, tmp_path / "home").record
        assert set(look(fed, superlink)) == {"north", "south"}
        assert set(superlink.known) == {south.courier_key, new.courier_key}
        assert superlink.known[south.courier_key] == before, "the others are not touched"
