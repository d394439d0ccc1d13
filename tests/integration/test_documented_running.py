"""By the words of docs/deployment.md: a study runs while a hospital joins and a certificate is rotated; another one is
sealed, tested, and validated by a hospital that comes later.

Coordinator and hospitals are real processes on loopback, started by the page's own commands; the ports and the lifetime
of the server's first certificate are the test's.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tests.drill.studies import drill_study, drill_tables

from fedloupe.enrolment import read_request
from fedloupe.freezing import Seal
from fedloupe.signing import Signer, spoken
from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.ingest import ingest
from fedloupe_server.evidence import load_results
from fedloupe_server.federation.state import read_state
from fedloupe_server.hub.processes import Processes, free_ports
from fedloupe_server.hub.status import Status, read_status
from fedloupe_server.provision.authority import Authority, write_server_certificate
from fedloupe_server.simulation.sites import make_homes

pytestmark = pytest.mark.deployed

PAGE = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text(encoding="utf-8")
COMMANDS = {"fedloupe": "fedloupe_server.cli", "fedloupe-site": "fedloupe_client.cli"}
SITES = {"north": 60, "south": 48, "west": 52, "east": 44}
LATE = {"coast": 40}


def documented(kind: str, party: str) -> list[str]:
    """The page's blocks of this kind for a party, in order."""
    return re.findall(rf"<!-- {kind}: {party} -->\n```\n(.*?)```", PAGE, re.DOTALL)


JOINING = ("fedloupe-site init", "fedloupe enrol", "fedloupe-site join", "fedloupe-site approve")


class Parties:
    """A coordinator and hospitals that type what the page says, in their own folders."""

    def __init__(self, folder: Path, processes: Processes, sockets: Path) -> None:
        self.folder, self.processes, self.sockets = folder, processes, sockets
        self.fed = folder / "FED"
        self.port, self.inner = free_ports(2)
        (folder / "bin").mkdir()
        for name, module in COMMANDS.items():
            (folder / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            (folder / "bin" / name).chmod(0o755)

    def bring(self, study: Study, *, later: Study | None = None) -> None:
        """The study, and a home with its data for every hospital of this or the later one."""
        self.study, everyone = study, later or study
        patients = {site.name: {**SITES, **LATE}[site.name] for site in everyone.sites}
        tables = drill_tables(self.folder / "tables", patients)
        self.homes = dict(make_homes(everyone, tables / "sites.yaml", tables, self.folder / "homes"))
        for home in self.homes.values():
            ingest(load_site(home), everyone, home)
        (self.folder / "study.json").write_text(study.canonical)

    def provision(self, block: str) -> None:
        """The page's command, for this machine's address."""
        self.type(None, block.replace("fl.example.org:443", f"127.0.0.1:{self.port}"))

    def serve(self, block: str, task: str, timeout_s: float) -> Status:
        """The page's service, until it has done this."""
        before, looks = read_status(self.fed), set()
        self.begin(None, block, "service")

        def done() -> bool:
            status = read_status(self.fed)
            if status is None or not status.processes or (before and status.processes == before.processes):
                return False  # what an earlier service wrote last
            if (status.task, status.run, status.trouble) == (task, "completed", ""):
                looks.add(status.written)
            return len(looks) > 2  # it could have asked somebody

        self.until(done, timeout_s, task)
        self.processes.end("service")
        return read_status(self.fed)

    def environment(self, site: str | None) -> dict[str, str]:
        env = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        env["PYTHONPATH"] = os.pathsep.join(sys.path)
        if site is None:
            return env | {"FED": str(self.fed), "PORT": str(self.port), "INNER": str(self.inner)}
        key = spoken(Signer.load(self.fed / "coordinator.key").public)
        (local,) = free_ports(1)
        home, socket = str(self.homes[site]), str(self.sockets / f"{site}.sock")
        return env | {"SITE": home, "COORDINATOR": key, "SOCKET": socket, "LOCAL": str(local)}

    def type(self, site: str | None, commands: str, **more: str) -> None:
        done = subprocess.run(
            ["bash", "-eu", "-c", commands],
            cwd=self.folder,
            env=self.environment(site) | more,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"

    def begin(self, site: str | None, commands: str, name: str) -> None:
        """Start what goes on until it is stopped."""
        self.processes.start(name, ["bash", "-eu", "-c", f"exec {commands.strip()}"], self.environment(site), keep=True)

    def join(self, site: str) -> None:
        """The four steps of the page, for this site."""
        blocks = documented("run", "(?:coordinator|hospital north)")
        for step in JOINING:
            block = next(block for block in blocks if step in block).replace("north", site)
            request = self.homes[site] / f"{site}.request.json"
            told = {"SITE_KEY": spoken(read_request(request).site_key)} if request.exists() else {}
            for file in (request, self.fed / "kits" / f"{site}.kit"):  # the post
                if file.exists():
                    (self.folder / file.name).write_bytes(file.read_bytes())
            self.type(None if step.startswith("fedloupe ") else site, block, **told)
        for number, block in enumerate(documented("start", "hospital north")):
            self.begin(site, block, f"{('site', 'courier')[number]}-{site}")

    def rounds(self) -> list[dict]:
        paths = sorted((self.fed / "run" / "rounds").glob("[0-9][0-9][0-9][0-9].json"))
        return [json.loads(path.read_text()) for path in paths]

    def until(self, ready, timeout_s: float, what: str) -> None:
        end = time.monotonic() + timeout_s
        while not ready():
            self.processes.check()
            status = read_status(self.fed)
            assert time.monotonic() < end, f"{what}: {status and status.model_dump_json(indent=1)}"
            assert status is None or status.run != "failed", status.why
            time.sleep(0.2)


@pytest.fixture
def parties(tmp_path):
    with (
        tempfile.TemporaryDirectory(prefix="fl-") as sockets,
        Processes(tmp_path / "logs", print, pause_s=1.0, tied=True) as processes,
    ):
        yield Parties(tmp_path, processes, Path(sockets))


def test_a_hospital_joins_and_an_expired_certificate_is_rotated_while_the_study_runs(parties):
    waits = {"timeout_s": 300, "retry_after_s": 2, "silence_s": 60}
    quorum = {"must": ["north", "south", "west"], "may": ["east"], "minimum": 3, **waits}
    parties.bring(drill_study(40, 8, SITES, quorum=quorum))  # more rounds than any machine gets through before the end
    (found,) = [block for block in documented("run", "coordinator") if "fedloupe provision" in block]
    parties.provision(found.replace("study.yaml", "study.json"))
    for site in ("north", "south", "west"):
        parties.join(site)
    (start,) = documented("start", "coordinator")
    parties.begin(None, start, "service")
    parties.until(lambda: len(parties.rounds()) >= 1, 1200, "the first round")
    before = {site: folder_digest(parties.homes[site]) for site in ("north", "south", "west")}

    parties.join("east")
    assert {site: folder_digest(parties.homes[site]) for site in before} == before, "nobody else was touched"
    parties.until(lambda: any("east" in r["participants"] for r in parties.rounds()), 1200, "east takes part")
    joined = len(parties.rounds())
    assert joined < parties.study.training.rounds, "while it ran"
    assert "east" not in parties.rounds()[0]["participants"]

    ends = expire_soon(parties, 30)
    parties.until(lambda: time.time() > ends, 120, "the certificate's end")
    restart_courier(parties, "north")  # a new connection meets the old certificate
    courier, looks = parties.homes["north"] / "courier" / "state" / "courier-state.json", []

    def refused() -> bool:
        looks.append(json.loads(courier.read_text()))
        return looks[-1]["state"] == "refused"

    def expired() -> bool:
        status = read_status(parties.fed)
        return status is not None and status.expiring.get("server", 0) < 0

    parties.until(refused, 300, "the expired certificate is refused")
    assert looks[-1]["last_code"] == "FL-673"
    parties.until(expired, 120, "the status, a second later, says so")

    (rotate,) = [block for block in documented("run", "coordinator") if 'fedloupe rotate "$FED" server' in block]
    parties.type(None, rotate)
    since = len(parties.rounds()) + 1  # one is under way
    parties.until(lambda: (s := read_status(parties.fed)) is not None and s.run == "completed", 2400, "the end")
    assert len(parties.rounds()) == parties.study.training.rounds
    assert {site for r in parties.rounds()[since:] for site in r["participants"]} == set(SITES)
    assert (parties.fed / "run" / "pack" / "report.html").exists()
    assert read_state(parties.fed / "run").ended == "completed"


def test_a_study_is_sealed_then_tested_then_validated_by_a_hospital_that_comes_later(parties):
    training = ("north", "south", "west")
    content = json.loads(drill_study(2, 2, {site: SITES[site] for site in training}).canonical)
    inside = [*content["sites"], {"name": "east", "role": "validate"}]
    more = [*inside, {"name": "coast", "role": "validate"}]
    study = parse_study({**content, "sites": inside})
    later = parse_study({**content, "sites": more, "title": "With a hospital that came later"})
    parties.bring(study, later=later)
    (found,) = [block for block in documented("run", "coordinator") if "fedloupe provision" in block]
    parties.provision(found.replace("study.yaml", "study.json"))
    for site in (*training, "east"):
        parties.join(site)
    run, name = parties.fed / "run", f"drill-{study.fingerprint[:8]}"
    joined = asked(parties, "east")

    (sealing,) = documented("start sealing", "coordinator")
    assert set(parties.serve(sealing, "freeze", 1200).sites) == set(training)
    seal = (run / "seal.json").read_bytes()
    check, again = documented("later", "coordinator")
    parties.type(None, check)
    (start,) = documented("start", "coordinator")
    assert parties.serve(start, "freeze", 1200).submissions == 0  # without a word it goes on as it was told before
    assert asked(parties, "east") == joined and not (run / "results.json").exists(), "nobody was opened"

    (opening,) = documented("start opening", "coordinator")
    assert set(parties.serve(opening, "study", 1200).sites) == {*training, "east"}
    assert (run / "pack" / "report.html").exists() and (run / "seal.json").read_bytes() == seal
    assert kept_seal(parties, "east", name) == Seal.parse(seal)
    before = {site: asked(parties, site) for site in (*training, "east")}
    for site in training:
        assert [path.name for path in (parties.homes[site] / "gate" / "trained").iterdir()] == [name]

    (parties.folder / "more.yaml").write_text(later.canonical)
    parties.provision(again)
    parties.join("coast")
    (validating,) = documented("start validating", "coordinator")
    assert set(parties.serve(validating, "validate", 1200).sites) == {"coast"}
    validation = parties.fed / f"validation-{later.fingerprint[:8]}"
    results = load_results(validation)
    assert [(site.site, site.role) for site in results.sites] == [(site.name, site.role) for site in later.sites]
    assert results.run == f"drill-{later.fingerprint[:8]}"
    assert kept_seal(parties, "coast", results.run) == Seal.parse(seal)
    assert (validation / "pack" / "seal.json").read_bytes() == seal
    assert {site: asked(parties, site) for site in before} == before, "of the others nobody was asked anything"


def asked(parties: Parties, site: str) -> bytes:
    """Everything that passed a hospital's gate."""
    path = parties.homes[site] / "gate" / "audit.jsonl"
    return path.read_bytes() if path.exists() else b""


def kept_seal(parties: Parties, site: str, run: str) -> Seal:
    """What a hospital was opened for."""
    return Seal.parse((parties.homes[site] / "gate" / "sealed" / f"{run}.json").read_bytes())


def expire_soon(parties: Parties, seconds: float) -> float:
    """Give the server a certificate that ends while the study runs; when that is. The service serves it by itself."""
    authority = Authority.load(parties.fed / "authority")
    write_server_certificate(parties.fed / "tls", authority, "127.0.0.1", days=seconds / 86_400)
    return time.time() + seconds


def folder_digest(home: Path) -> str:
    """What joining writes in a hospital's home: keys, certificate, trust, kit."""
    files = ["gate/site.key", "gate/certificate.pem", "gate/authority.pem", "kit.json", "courier/courier.key"]
    return "\n".join((home / name).read_text() for name in files)


def restart_courier(parties: Parties, site: str) -> None:
    """The supervisor is killed, and started again by the service manager."""
    os.kill(parties.processes.running[f"courier-{site}"].process.pid, signal.SIGKILL)
