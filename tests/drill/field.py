"""A whole federation of real processes on synthetic tables, for drills: all that a coordinator and hospitals start.

    with Field(study, tables, folder) as field:
        field.start()
        field.pids("supernode", "alpha")            # process ids by role, found anew each time
        field.finished(600)                          # waits for the service's end

With `namespaces=True` the coordinator and each hospital live in a network namespace of their own, joined by links that
lose, delay and cut packets. What a service manager would start again is started again here: the service, each site
process and each courier.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.drill.link import Link, Namespace

from fedloupe.study import Study
from fedloupe_client.config import load_site
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest
from fedloupe_server.federation.state import RunState, read_state
from fedloupe_server.hub.processes import Processes, alive, free_ports
from fedloupe_server.hub.status import Status, read_status
from fedloupe_server.provision import enrol, provision
from fedloupe_server.simulation.sites import make_homes

ROOT = Path(__file__).parents[2]
COORDINATOR = "10.77.0.1"
SITE = (sys.executable, "-m", "fedloupe_client.cli")
SERVER = (sys.executable, "-m", "fedloupe_server.cli")


class Field:
    """See above.

    Args:
        study: with training sites and perhaps validate-only ones.
        tables: folder with `sites.yaml` and the sites' tables.
        folder: for everything; what stands there is used again.
        namespaces: a network of our own, with links that can be broken.
        enrolled: hospitals that join before the start; all where None.
    """

    def __init__(
        self,
        study: Study,
        tables: Path,
        folder: Path,
        *,
        namespaces: bool = False,
        enrolled: Sequence[str] | None = None,
    ) -> None:
        self.study, self.tables, self.folder = study, tables, folder
        self.fed, self.run = folder / "FED", folder / "FED" / "run"
        self.enrolled = tuple(site.name for site in study.sites) if enrolled is None else tuple(enrolled)
        self.links: dict[str, Link] = {}
        self._spaces: dict[str, Namespace] = {}
        self._namespaces = namespaces
        self._stack = contextlib.ExitStack()
        self._courier_ports: dict[str, int] = {}
        self.site_program: Sequence[str] = SITE

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        host = COORDINATOR if self._namespaces else "127.0.0.1"
        self.superlink_port, self.proxy_port, self.metrics_port = free_ports(3)
        self.address = f"{host}:{self.proxy_port}"
        if self._namespaces:
            self._make_network()
        self.homes = dict(make_homes(self.study, self.tables / "sites.yaml", self.tables, self.folder / "homes"))
        for home in self.homes.values():
            if not (home / "secret.key").exists():  # pseudonyms, and so splits, that are the same in every drill
                (home / "secret.key").touch(mode=0o600)
                (home / "secret.key").write_bytes(bytes(32))
            ingest(load_site(home), self.study, home)
            approve(home, self.study, by="drill")
        founded = provision(self.study, self.fed, self.address, name="Drill", app=ROOT / "configs" / "app")
        self.spoken = founded.spoken
        self.processes = self._stack.enter_context(Processes(self.folder / "logs", self.say, pause_s=1.0, tied=True))
        for site in self.enrolled:
            self.join(site)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def say(self, line: str) -> None:
        """A line of the drill's own log."""
        with (self.folder / "drill.log").open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {line}\n")

    def join(self, site: str) -> None:
        """A hospital makes its keys, is enrolled, and installs its kit; by the commands that hospitals type."""
        home, courier = self.homes[site], self._courier(site)
        _call(*SITE, "init", home, site, "--courier", courier)
        kit = enrol(self.fed, home / f"{site}.request.json").kit
        told = ("--coordinator", self.spoken, "--by", "drill")
        _call(*SITE, "join", home, kit, "--courier", courier, *told)

    def start(self, *sites: str) -> None:
        """Start the service, and these hospitals; all that are enrolled where none is named."""
        self.start_service()
        for site in sites or self.enrolled:
            self.start_hospital(site)

    def start_service(self) -> None:
        """The coordinator's one command."""
        ports = ("--port", self.proxy_port, "--host", "0.0.0.0" if self._namespaces else "127.0.0.1")
        more = ("--superlink-port", self.superlink_port, "--metrics-port", self.metrics_port, "--log", "json")
        self._start("service", "coordinator", [*SERVER, "start", self.fed, *ports, *more])

    def start_hospital(self, site: str) -> None:
        """A hospital's two commands."""
        if site not in self._courier_ports:
            (self._courier_ports[site],) = free_ports(1)
        socket, courier = self._socket(site), self._courier(site)
        self._start(f"site-{site}", site, [*self.site_program, "start", self.homes[site], "--socket", socket])
        self._start(
            f"courier-{site}",
            site,
            [
                *(sys.executable, "-m", "fedloupe_client.courier", "start", "--coordinator", self.address),
                *("--authority", courier / "ca.crt", "--key", courier / "courier.key", "--socket", socket),
                *("--home", courier / "flower", "--state", courier, "--port", self._courier_ports[site]),
            ],
        )

    def pids(self, role: str, site: str = "") -> list[int]:
        """Process ids of a role now; none where it is not up.

        Args:
            role: `superlink`, `serverapp`, `proxy`, `executor`, `service`; of a site `supernode`, `clientapp`,
                `courier` or `site`.
            site: for roles of a hospital.
        """
        if role in ("superlink", "proxy", "executor"):
            status = read_status(self.fed)
            found = [status.processes[role].pid] if status and role in status.processes else []
        elif role == "serverapp":
            servers = [json.loads(path.read_text()) for path in (self.fed / "service" / "jobs").glob("*/server.json")]
            found = [one["pid"] for one in servers if alive(one["pid"], one["began"])]
        elif role in ("supernode", "clientapp"):
            words = {"supernode": "courier.supernode", "clientapp": "courier.executor"}[role]
            parent = self.processes.running[f"courier-{site}"].process.pid
            found = [pid for pid in _children(parent) if words in _command(pid)]
        else:
            name = "service" if role == "service" else f"{role}-{site}"
            found = [self.processes.running[name].process.pid]
        return [pid for pid in found if Path(f"/proc/{pid}").exists()]

    def check(self) -> None:
        """Start again what ended, as a service manager would."""
        self.processes.check()

    @property
    def status(self) -> Status | None:
        """As the service wrote it last."""
        return read_status(self.fed)

    @property
    def state(self) -> RunState | None:
        """As the run wrote it last."""
        return read_state(self.run)

    def rounds(self) -> int:
        """Complete rounds on disk."""
        return len([path for path in (self.run / "rounds").glob("[0-9]*.json") if "intent" not in path.name])

    def until(self, ready: Any, timeout_s: float, what: str) -> None:
        """Wait, and keep everything going meanwhile.

        Raises:
            TimeoutError: it did not come about.
        """
        end = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not after {timeout_s:.0f} s; {self.status and self.status.why}")
            time.sleep(0.2)

    def finished(self, timeout_s: float) -> Status:
        """Wait for the run's end.

        Raises:
            TimeoutError: it did not end.
        """
        self.until(
            lambda: (status := self.status) and status.run in ("completed", "failed"), timeout_s, "the run's end"
        )
        assert self.status is not None
        return self.status

    def _start(self, name: str, space: str, command: Sequence[Any]) -> None:
        words = [str(word) for word in command]
        self.processes.start(name, self._spaces[space].command(words) if self._namespaces else words, keep=True)

    def _make_network(self) -> None:
        coordinator = self._stack.enter_context(Namespace())
        coordinator.run("ip", "addr", "add", f"{COORDINATOR}/32", "dev", "lo")
        self._spaces["coordinator"] = coordinator
        for number, site in enumerate([one.name for one in self.study.sites], start=1):
            space = self._stack.enter_context(Namespace())
            self._spaces[site] = space
            self.links[site] = self._stack.enter_context(Link(coordinator, space, number, seed=number))
            space.run("ip", "route", "add", f"{COORDINATOR}/32", "dev", "wan")

    def _courier(self, site: str) -> Path:
        return self.folder / "couriers" / site

    def _socket(self, site: str) -> Path:
        """A short path: the kernel allows 107 bytes."""
        folder = Path("/tmp") / f"drill-{abs(hash(str(self.folder))) % 10**8:08d}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / f"{site}.sock"


def _call(*words: Any) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=180)
    if done.returncode:
        raise RuntimeError(f"{words[3:5]}: {done.stdout[-400:]} {done.stderr[-800:]}")


def _children(pid: int) -> list[int]:
    """All descendants."""
    table: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            table.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, queue = [], [pid]
    while queue:
        children = table.get(queue.pop(), [])
        found += children
        queue += children
    return found


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""
