"""The coordinator's service: SuperLink, executor and proxy kept alive, couriers registered, one study's run kept going.

    with Service.open(Path("FED"), Ports(proxy=443)) as service:
        while not stop.wait(TICK_S):
            service.tick()

Everything it knows is on disk: killed at any moment and started again, it goes on. What is in the federation folder is
read again while it runs: hospitals that join, keys that are renewed or taken back, a certificate that is rotated.

    FED/service/state.db        the SuperLink's database
    FED/service/logs/           one file a process
    FED/service/jobs/0001/      a submission of the run: nodes, progress, outcome
    FED/service/status.json     what `fedloupe status` shows; events.jsonl what `fedloupe logs` does
    FED/run/                    the study's journal; FED/validation-*/ those of later validations
    FED/task.txt                what the service was started for
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fedloupe.errors import FedLoupeError
from fedloupe_server.federation.journal import write_atomic
from fedloupe_server.hub.control import Control
from fedloupe_server.hub.flower import Flower, FlowerRefused, environment, tool
from fedloupe_server.hub.job import Job
from fedloupe_server.hub.processes import Processes
from fedloupe_server.hub.register import Registered, reconcile
from fedloupe_server.hub.standing import steps
from fedloupe_server.hub.status import FILE, Status, changes, status_of
from fedloupe_server.hub.task import Name, Task, remember, remembered
from fedloupe_server.hub.telling import telling
from fedloupe_server.hub.watching import Follows, RunWatch, Submits, end_leftovers
from fedloupe_server.provision import Federation, load_federation, note_seen
from fedloupe_server.provision.errors import FederationUnusable

TICK_S, LOOK_S, READY_S = 0.3, 3.0, 300.0
HUNG_S = 300.0
"""More than the longest look at everything takes: a submission (120 s), answers of the SuperLink (20 s each), two
processes that are ended (20 s each). One that takes longer will not end, and the status grows old."""
EVENTS = "events.jsonl"
_log = logging.getLogger(__name__)


class ServiceRuns(FedLoupeError):
    """Another service works in this federation folder."""

    code = "FL-737"
    title = "the coordinator's service runs already"


@dataclass(frozen=True)
class Ports:
    """Where the service listens.

    Attributes:
        proxy: port of the proxy, for hospitals; None: another proxy stands before the SuperLink (docker/nginx.conf).
        host: address of the proxy.
        superlink: loopback port of the SuperLink.
    """

    proxy: int | None = 443
    host: str = "0.0.0.0"
    superlink: int = 9092


@dataclass
class Service:
    """See above; made by `open`.

    Attributes:
        federation: as the folder was read last.
        nodes: couriers at the SuperLink, by site.
        watch: the run.
        task: what it is started for.
        needs: the sites that are asked anything.
        status: as it was written last.
        trouble: what keeps the SuperLink from being looked at, in words; empty where nothing does.
    """

    federation: Federation
    ports: Ports
    processes: Processes
    flower: Flower
    control: Control
    watch: RunWatch
    task: Task
    needs: tuple[str, ...]
    nodes: dict[str, Registered] = field(default_factory=dict)
    trouble: str = "starting"
    status: Status | None = None
    _looked: float = float("-inf")
    _certificate: str = ""
    _refused: tuple[str, ...] = ()
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._study = self.federation.study.fingerprint

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path, ports: Ports, name: Name | None = None) -> Iterator[Service]:
        """Take the folder, start the processes; end them at the end.

        Args:
            folder: FED.
            ports: where to listen.
            name: of its task; the one that it was started for last where None.

        Raises:
            ServiceRuns: another one works here.
            FederationUnusable, ProcessEnded, FlowerRefused: see there.
            NotSealable, SealBroken, ResultsUnreadable, ResultsInvalid: the task cannot be done.
        """
        folder = folder.resolve()
        federation, work = load_federation(folder), folder / "service"
        work.mkdir(mode=0o700, exist_ok=True)
        with (work / "lock").open("a") as lock, Processes(work / "logs", _log.warning, tied=True) as processes:
            _take(lock, folder)
            task, needs = _task(federation, name)
            flower = Flower(work / "flower", federation.authority, ports.superlink)
            flower.configure()
            control = Control(federation.authority, ports.superlink)
            end_leftovers(work / "jobs")
            watch = watch_run(federation, flower, control, task)
            service = cls(federation, ports, processes, flower, control, watch, task, needs)
            with telling(service.tell, lambda: service.lives):
                service._start()
                try:
                    yield service
                finally:
                    control.close()

    @property
    def lives(self) -> bool:
        """Whether the look at everything that is under way can still end."""
        return time.monotonic() < self._began + HUNG_S

    def tick(self) -> None:
        """Look once at everything; returns soon, but for a submission."""
        self._began = time.monotonic()
        self.processes.check()
        if time.monotonic() >= self._looked + LOOK_S:
            self._look()
            self._looked = time.monotonic()
        if not self.trouble:
            self.watch.look()

    def tell(self) -> None:
        """Write the status, and what changed since the last one; not from two threads at once."""
        status = status_of(self)
        part = self._work / f"{FILE}.part"
        part.write_text(status.model_dump_json(indent=1) + "\n", encoding="utf-8")
        part.replace(self._work / FILE)  # no flush: it is looked at, nothing goes on from it
        if news := changes(self.status, status):
            with (self._work / EVENTS).open("a", encoding="utf-8") as log:
                log.writelines(json.dumps(event, ensure_ascii=False) + "\n" for event in news)
            for event in news:
                _log.info(event["event"], extra={"said": {k: v for k, v in event.items() if k == "site"}})
        self.status = status

    def _look(self) -> None:
        """Read the folder again, and bring the SuperLink and the processes in line with it."""
        try:
            self.federation = load_federation(self.federation.folder)
            self._renew()
            done = reconcile(self.control, self.federation.couriers)
            self.nodes = done.nodes
            note_seen(self.federation.folder, done.seen)
        except FlowerRefused as error:
            self._say(f"the SuperLink does not answer: {error.what}")
            return
        except FedLoupeError as error:  # a file of the folder is damaged: what runs goes on as it was
            self._say(str(error))
            return
        if self.federation.study.fingerprint != self._study:
            self._say("the folder has another study than the run that is looked after: start the service again")
            return
        self._say("")
        if done.refused != self._refused:
            self._refused = done.refused
            _log.warning("couriers whose key the SuperLink does not register", extra={"said": {"sites": done.refused}})
        # Whoever is away is not written to: what nobody fetches stays in the SuperLink's database until the run ends.
        table = {site: registered.node for site, registered in self.nodes.items() if registered.status == "online"}
        path, content = self._work / "nodes.json", (json.dumps(table, indent=2) + "\n").encode()
        if not path.exists() or path.read_bytes() != content:
            write_atomic(path, content)

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            _log.log(logging.WARNING if trouble else logging.INFO, trouble or "the SuperLink answers")

    @property
    def _work(self) -> Path:
        return self.federation.folder / "service"

    def _renew(self) -> None:
        """A rotated certificate is served: proxy and SuperLink are started again, the run outlives that."""
        path = self.federation.certificate
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:  # the folder that it was in is gone where it is rotated at this moment
            raise FederationUnusable(
                f"the server certificate cannot be read: {error.strerror}", where=str(path), remedy="it is tried again"
            ) from None
        if digest != self._certificate:
            _log.info("a new server certificate is served", extra={"said": {"sha256": digest[:16]}})
            self._certificate = digest
            for name in ("superlink", "proxy"):
                if name in self.processes.running:
                    self.processes.again(name)

    def _start(self) -> None:
        fed, env = self.federation, environment(self.flower.home)
        self._certificate = hashlib.sha256(fed.certificate.read_bytes()).hexdigest()
        secret = ("--superexec-auth-secret-file", str(fed.secret))
        self.processes.start(
            "superlink",
            [
                tool("flower-superlink"),
                *("--host", "127.0.0.1", "--port", str(self.ports.superlink)),
                *("--ssl-ca-certfile", str(fed.authority)),
                *("--ssl-certfile", str(fed.certificate), "--ssl-keyfile", str(fed.key)),
                *("--isolation", "process", *secret),
                "--enable-supernode-auth",
                "--disable-runtime-dependency-installation",
                *("--database", str(self._work / "state.db")),
            ],
            env,
            keep=True,
        )
        if self.ports.proxy is not None:
            self.processes.start(
                "proxy",
                [
                    *(sys.executable, "-P", "-m", "fedloupe_server.hub.proxy"),
                    *("--host", self.ports.host, "--port", str(self.ports.proxy)),
                    *("--upstream", f"https://127.0.0.1:{self.ports.superlink}", "--authority", str(fed.authority)),
                    *("--certificate", str(fed.certificate), "--key", str(fed.key)),
                ],
                env,
                keep=True,
            )
        self.processes.wait_for_port("superlink", self.ports.superlink, READY_S)
        self.processes.start(
            "executor",
            [
                *(tool("flower-superexec"), "--runtime-api-address", f"127.0.0.1:{self.ports.superlink}"),
                *("--root-certificates", str(fed.authority), *secret),
            ],
            env,
            keep=True,  # it dies of one HTTP 500, and no later run would ever start
        )


def events(folder: Path) -> list[dict[str, str]]:
    """What happened, as the services of a federation folder wrote it, oldest first.

    A line that is being written is left out, and one that a crash cut off says that it is none.
    """
    path = folder / "service" / EVENTS
    *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else [""]
    return [_event(line) for line in lines]


def _event(line: str) -> dict[str, str]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if isinstance(event, dict) and {"time", "event"} <= event.keys():
        return {str(name): str(value) for name, value in event.items()}
    return {"time": "", "event": f"cannot be read: {line[:80]}"}


def watch_run(federation: Federation, flower: Submits, control: Follows, task: Task) -> RunWatch:
    """The watch over a federation's run; one that is complete for the study of now is completed at once.

    Args:
        federation: as the folder has it now.
        flower: submits.
        control: follows and stops.
        task: what is done.
    """
    folder, study = federation.folder, federation.study
    work = folder / "service"
    job = Job(folder / "coordinator.key", work / "nodes.json", name=task.run_name(study), sealed=task.sealed)
    return RunWatch(
        flower,
        control,
        federation.app,
        work / "jobs",
        {"task": task.name, "study": str(federation.study_file), "run-dir": str(task.run)},
        lambda: job,
        lambda: steps(task.run),
        lambda: task.is_complete(study),
    )


def _task(federation: Federation, name: Name | None) -> tuple[Task, tuple[str, ...]]:
    """What is to be done and whom it needs."""
    folder, study = federation.folder, federation.study
    task = Task.of(name or remembered(folder, study), folder, study)
    needs = task.needs(study)
    remember(folder, task.name, study)
    return task, needs


def _take(lock: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when this process ends, however it ends
    except BlockingIOError:
        raise ServiceRuns(
            "another `fedloupe start` has this folder",
            where=str(folder),
            remedy="`fedloupe status` shows it; end it first to start it for something else",
        ) from None
