"""The coordinator's service over a real federation folder, without Flower's processes."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from federations import SITES, build_once, found, kit_for, small_study
from fedloupe_server.federation.journal import write_atomic
from fedloupe_server.federation.state import Watch
from fedloupe_server.hub import service as hub_service
from fedloupe_server.hub.control import Node
from fedloupe_server.hub.job import read_job
from fedloupe_server.hub.service import Ports, Service, watch_run
from fedloupe_server.hub.status import read_status, status_of
from fedloupe_server.hub.task import Task
from fedloupe_server.hub.telling import telling
from fedloupe_server.provision import load_federation
from submissions import Flower
from waiting import until


@pytest.fixture
def federation(tmp_path, monkeypatch):
    build_once(monkeypatch)
    return found(tmp_path / "FED").federation


@pytest.fixture
def flower():
    return Flower()


class TestTheRun:
    def leave(self, federation, fingerprint):
        """What a run leaves behind when it is complete."""
        run = federation.folder / "run"
        write_atomic(run / "results.json", json.dumps({"fingerprint": fingerprint}).encode())
        write_atomic(run / "pack" / "SHA256SUMS", b"")

    def test_one_that_is_complete_is_not_submitted_by_a_service_that_starts_again(self, federation, flower):
        self.leave(federation, federation.study.fingerprint)
        watch = watch_run(federation, flower, flower, Task.of("study", federation.folder, federation.study))
        assert (watch.state, watch.over) == ("completed", True)
        watch.look()
        assert flower.submitted == []

    def test_another_study_in_the_same_folder_is(self, federation, flower):
        self.leave(federation, "ab" * 32)
        watch = watch_run(federation, flower, flower, Task.of("study", federation.folder, federation.study))
        watch.look()
        assert watch.state == "running" and flower.submitted[0]["run-dir"] == str(federation.folder / "run")


class TestWhomTheRunCanReach:
    """The table that the ServerApp reads again whenever it asks somebody."""

    class SuperLink(Flower):
        """Knows three couriers."""

        def __init__(self, keys):
            super().__init__()
            self.known = {site: Node(i, key, "registered", "") for i, (site, key) in enumerate(keys.items(), 7)}

        def nodes(self):
            return list(self.known.values())

        def tell(self, site, status):
            self.known[site] = replace(self.known[site], status=status, contact="2026-11-28T08:00:00+00:00")

    @pytest.fixture
    def superlink(self, federation, tmp_path):
        for site in SITES:
            kit_for(federation.folder, tmp_path / site, site)
        return self.SuperLink({one.site: one.public_key for one in load_federation(federation.folder).couriers})

    @pytest.fixture
    def reached(self, federation, superlink):
        (federation.folder / "service").mkdir()
        processes = SimpleNamespace(running={}, check=lambda: None)
        task = Task.of("study", federation.folder, federation.study)
        watch = watch_run(federation, superlink, superlink, task)
        service = Service(federation, Ports(), processes, superlink, superlink, watch, task, SITES)
        service._certificate = hashlib.sha256(federation.certificate.read_bytes()).hexdigest()

        def look():
            service._looked = float("-inf")
            service.tick()
            assert service.trouble == ""
            return dict(read_job(watch.job).table)

        return look

    def test_it_is_who_is_connected_and_nobody_else(self, superlink, reached):
        superlink.tell("north", "online")
        superlink.tell("south", "offline")
        assert reached() == {"north": superlink.known["north"].id}

    def test_one_that_comes_back_is_found_while_the_run_goes_on(self, superlink, reached):
        assert reached() == {}
        superlink.tell("south", "online")
        assert list(reached()) == ["south"]
        superlink.tell("south", "offline")
        assert reached() == {}

    def test_a_certificate_that_is_replaced_at_this_moment_is_looked_at_again(
        self, superlink, reached, federation, monkeypatch
    ):
        superlink.tell("north", "online")
        current, gone = federation.folder / "tls" / "current", federation.folder / "tls" / "gone"
        real = hub_service.load_federation

        def meanwhile(folder):
            found = real(folder)
            current.rename(gone)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(hub_service, "load_federation", meanwhile)
            with pytest.raises(AssertionError, match="FL-750"):
                reached()
        gone.rename(current)
        assert list(reached()) == ["north"]

    def test_of_another_study_that_was_provisioned_meanwhile_nothing_is_done(self, superlink, reached, federation):
        superlink.tell("north", "online")
        table = reached()
        found(federation.folder, study=small_study(seed=9))
        superlink.tell("south", "online")
        with pytest.raises(AssertionError, match=r"another study.*start the service again"):
            reached()
        assert json.loads((federation.folder / "service" / "nodes.json").read_text()) == table


class TestTheStatus:
    @pytest.fixture
    def service(self, federation, flower):
        (federation.folder / "service").mkdir()
        watch = watch_run(federation, flower, flower, Task.of("study", federation.folder, federation.study))
        processes = SimpleNamespace(running={}, check=lambda: None)
        task = Task.of("study", federation.folder, federation.study)
        made = Service(federation, Ports(), processes, flower, flower, watch, task, SITES, trouble="")
        made._looked = float("inf")  # no SuperLink to look at
        return made

    @pytest.fixture
    def make_watch(self, federation):
        def make(study, same):
            (federation.folder / "run").mkdir(exist_ok=True)
            watch = Watch(study, "run", federation.folder / "run" / "state.json")
            watch.state.fingerprint = study.fingerprint if same else "ab" * 32
            watch.end("stopped")

        return make

    def written(self, service, wanted):
        """The status once it is as wanted."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if (status := read_status(service.federation.folder)) is not None and wanted(status):
                return status
            time.sleep(0.02)
        raise AssertionError(read_status(service.federation.folder))

    def test_it_is_written_while_a_submission_is_under_way(self, service, flower):
        flower.go.clear()
        with telling(service.tell, lambda: service.lives, 0.05):
            thread = threading.Thread(target=service.tick)
            thread.start()
            first = self.written(service, lambda _: True).written
            self.written(service, lambda status: status.written > first)
            assert thread.is_alive() and flower.submitted == []
            flower.go.set()
            thread.join()
            self.written(service, lambda status: status.run == "running")

    def test_what_changed_last_is_written_before_the_service_ends(self, service):
        with telling(service.tell, lambda: service.lives, 60.0):
            self.written(service, lambda status: status.run == "waiting")
            service.tick()
        assert read_status(service.federation.folder).run == "running"

    def test_it_is_written_from_the_first_moment_on(self, federation, monkeypatch):
        seen = []
        monkeypatch.setattr(Service, "_start", lambda service: seen.append(self.written(service, lambda _: True)))
        with Service.open(federation.folder, Ports()):
            pass
        assert (seen[0].trouble, seen[0].run) == ("starting", "waiting")

    @pytest.mark.parametrize("same", [True, False])
    def test_what_sites_said_of_another_study_is_not_shown(self, service, federation, make_watch, same):
        make_watch(federation.study, same)
        assert (status_of(service).state is not None) == same

    def test_a_service_that_hangs_is_told_from_one_that_waits(self, service, monkeypatch):
        service.tick()
        assert service.lives
        monkeypatch.setattr(hub_service, "HUNG_S", -1.0)
        assert not service.lives


class TestTelling:
    def test_nothing_is_told_while_nobody_works(self):
        told, lives = [], threading.Event()
        with telling(lambda: told.append(0), lives.is_set, 0.01):
            time.sleep(0.2)
            assert told == []
            lives.set()
            until(lambda: len(told) > 2)

    def test_an_error_is_logged_once_and_ends_nothing(self, caplog):
        told = []

        def tell():
            told.append(0)
            if len(told) < 4:
                raise OSError("no room")

        with telling(tell, lambda: True, 0.01):
            until(lambda: len(told) > 4)
        assert caplog.text.count("the status cannot be written") == 1

    def test_it_ends_with_what_it_surrounds(self):
        told = []
        with pytest.raises(ZeroDivisionError), telling(lambda: told.append(0), lambda: True, 0.01):
            raise ZeroDivisionError
        number = len(told)
        time.sleep(0.1)
        assert len(told) == number
