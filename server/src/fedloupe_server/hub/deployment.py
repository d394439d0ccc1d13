"""A whole deployment on one machine: the coordinator's processes, a site process and a courier a hospital, one run.

    run_deployed(Path("study.yaml"), {"north": Path("homes/north")}, Path("runs/demo"), Path("work"),
                 site_command=lambda home, socket: ["fedloupe-site", "start", str(home), "--socket", str(socket)],
                 timeout_s=1800.0)

What crosses between hospital and coordinator is what would cross between machines: a request, a kit, and TLS to the
proxy.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket as sockets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedloupe.errors import FedLoupeError
from fedloupe.study import load_study
from fedloupe_server.federation.state import read_state
from fedloupe_server.hub.coordinator import Coordinator, start_coordinator
from fedloupe_server.hub.job import Job, write_job
from fedloupe_server.hub.processes import Processes, free_ports
from fedloupe_server.provision import enrol
from fedloupe_server.provision.errors import KeySpent, OtherKeyEnrolled

Progress = Callable[[str], None]
SiteCommand = Callable[[Path, Path], list[str]]
ONLINE_S, SITE_READY_S, LOOK_S = 600.0, 300.0, 10.0
BY = "demonstration on one machine"


class DeployedRunFailed(FedLoupeError):
    """The run ended without a result."""

    code = "FL-733"
    title = "the deployed run failed"


class HospitalNotReady(FedLoupeError):
    """A hospital's part could not be prepared or did not come online."""

    code = "FL-734"
    title = "a hospital did not come online"


@dataclass(frozen=True)
class Hospital:
    """One hospital of the deployment.

    Attributes:
        site: its name.
        node: its node id at the coordinator.
        folder: its courier's files: `courier.key`, `courier.pub`, `ca.crt`, `flower/` (read-only).
        socket: its site process's socket.
    """

    site: str
    node: int
    folder: Path
    socket: Path


@dataclass(frozen=True)
class Federation:
    """A coordinator with its hospitals online."""

    coordinator: Coordinator
    hospitals: Mapping[str, Hospital]
    processes: Processes

    def run(
        self,
        task: Literal["study", "ping"],
        study_path: Path,
        run_dir: Path,
        *,
        timeout_s: float,
        progress: Progress,
    ) -> None:
        """Submit a run and wait for its end.

        Raises:
            DeployedRunFailed: with the error of the coordinator's part, or when the time ran out.
        """
        job = Path(tempfile.mkdtemp(prefix="run-", dir=self.coordinator.work))
        nodes = {site: hospital.node for site, hospital in sorted(self.hospitals.items())}
        (job / "nodes.json").write_text(json.dumps(nodes, indent=2) + "\n", encoding="utf-8")
        write_job(job, Job(self.coordinator.federation / "coordinator.key", job / "nodes.json"))
        config = {"task": task, "study": str(study_path.resolve()), "run-dir": str(run_dir.resolve()), "work": str(job)}
        flower = self.coordinator.flower
        run = flower.submit(self.coordinator.app, config)
        progress(f"run {run} submitted; the bundle holds no code")
        outcome, told, now = job / "outcome.json", 0, time.monotonic()
        end, look = now + timeout_s, now + LOOK_S
        while not outcome.is_file():
            self.processes.check()
            told = _relay(job / "progress.log", told, progress)
            if time.monotonic() > end:
                flower.stop(run)
                raise DeployedRunFailed(
                    f"no end after {timeout_s:.0f} s{_held(run_dir)}",
                    where=f"run {run}",
                    remedy="see to the sites that are named, or allow more time; the journal resumes",
                )
            if time.monotonic() > look:  # the ServerApp may have died without a word
                status, look = flower.status(run), time.monotonic() + LOOK_S
                if status.startswith("finished") and not outcome.is_file():
                    raise DeployedRunFailed(
                        f"{status}: {' '.join(flower.log(run).split())[-600:]}",
                        where=f"run {run}",
                        remedy="mend it, run again: the journal resumes",
                    )
            time.sleep(0.3)
        _relay(job / "progress.log", told, progress)
        end_state = json.loads(outcome.read_text(encoding="utf-8"))
        if end_state["state"] != "completed":
            raise DeployedRunFailed(
                end_state["message"], where=f"run {run}", remedy="mend it, run again: the journal resumes"
            )
        progress(f"run {run} completed")


@contextlib.contextmanager
def deployment(
    study: Path,
    homes: Mapping[str, Path],
    work: Path,
    *,
    site_command: SiteCommand,
    progress: Progress,
    app: Path | None = None,
) -> Iterator[Federation]:
    """Start everything, yield when all hospitals are online, end everything by process id.

    Args:
        study: the study that the hospitals' kits bring.
        homes: each site's home folder, by the site's name in the study.
        work: folder for keys, logs and database; what stands there is replaced, but for keys and certificates.
        site_command: from home and socket to the site process's argument list.
        progress: told in one line what happens.
        app: folder of the bundle's source; None: configs/app of this checkout.

    Raises:
        ProcessEnded, HospitalNotReady, FlowerRefused, BundleMissing: see there.
    """
    work = work.resolve()
    _clear(work)
    # A Unix socket's path is short by law of the kernel; the work folder's may be long.
    with (
        tempfile.TemporaryDirectory(prefix="fedloupe-") as sockets_folder,
        Processes(work / "logs", progress, tied=True) as processes,
    ):
        began = time.monotonic()
        source = app or Path(__file__).parents[4] / "configs" / "app"
        coordinator = start_coordinator(work, processes, study=load_study(study), app=source)
        progress(
            f"coordinator: SuperLink on loopback port {coordinator.flower.port}, proxy on {coordinator.proxy_port}"
        )
        hospitals: dict[str, Hospital] = {}
        for site, home in homes.items():
            socket = Path(sockets_folder) / f"{len(hospitals)}.sock"
            processes.start(f"site-{site}", site_command(home, socket), keep=True)
            hospitals[site] = _enrol(coordinator, site, home, socket)
            progress(f"{site}: joined with its kit, registered as node {hospitals[site].node}")
        for site, hospital in hospitals.items():
            start_courier(processes, coordinator, hospital)
            processes.wait_for(f"site-{site}", lambda path=hospital.socket: _answers(path), SITE_READY_S)  # type: ignore[misc]
            progress(f"{site}: site process answers on its socket, courier started")
        _wait_online(coordinator, hospitals, processes)
        progress(f"{len(hospitals)} hospitals online after {time.monotonic() - began:.0f} s")
        try:
            yield Federation(coordinator, hospitals, processes)
        finally:  # couriers first, all at once: they say goodbye to a SuperLink that is still there
            processes.end_together([name for name in processes.running if name.startswith("courier-")])


def run_deployed(
    study_path: Path,
    homes: Mapping[str, Path],
    run_dir: Path,
    work: Path,
    *,
    site_command: SiteCommand,
    progress: Progress | None = None,
    timeout_s: float,
    app: Path | None = None,
) -> None:
    """Run one study through real processes.

    Args:
        study_path: the study's YAML.
        homes: each site's home folder, by the site's name in the study.
        run_dir: where the run is written, as by `fedloupe_server.federation.run_study`.
        work: folder for keys, logs and database; what stands there is replaced, but for keys and certificates.
        site_command: from home and socket to the site process's argument list.
        progress: told in one line what happens.
        timeout_s: seconds for the whole run.
        app: folder of the bundle's source; None: configs/app of this checkout.

    Raises:
        DeployedRunFailed: the run ended without a result.
        ProcessEnded, HospitalNotReady, FlowerRefused, BundleMissing: see there.
    """
    tell: Progress = progress or (lambda line: print(line, flush=True))
    with deployment(study_path, homes, work, site_command=site_command, progress=tell, app=app) as federation:
        federation.run("study", study_path, run_dir, timeout_s=timeout_s, progress=tell)


def _held(run_dir: Path) -> str:
    """Which sites the run waits for, and why: `: beta: FL-501 the study is not approved`."""
    state = read_state(run_dir)
    why = {} if state is None else {site: one.refusal for site, one in sorted(state.sites.items()) if one.refusal}
    return f": {'; '.join(f'{site}: {refusal}' for site, refusal in why.items())}" if why else ""


def start_courier(processes: Processes, coordinator: Coordinator, hospital: Hospital) -> None:
    """Start a hospital's supervised SuperNode."""
    (port,) = free_ports(1)
    processes.start(
        f"courier-{hospital.site}",
        [
            *(sys.executable, "-P", "-m", "fedloupe_client.courier", "start", "--coordinator", coordinator.address),
            *("--authority", str(hospital.folder / "ca.crt"), "--key", str(hospital.folder / "courier.key")),
            *("--socket", str(hospital.socket), "--home", str(hospital.folder / "flower"), "--port", str(port)),
        ],
        keep=True,
    )


def _enrol(coordinator: Coordinator, site: str, home: Path, socket: Path) -> Hospital:
    """By the commands of both sides: keys and request, kit, joined; then the courier's key to SuperLink."""
    folder = coordinator.work / "hospitals" / site
    _hospital("init", site, str(home), site, "--courier", str(folder))
    request = home / f"{site}.request.json"
    try:
        kit = enrol(coordinator.federation, request).kit
    except OtherKeyEnrolled:  # its home is a new one since an earlier deployment here
        kit = enrol(coordinator.federation, request, renew=True).kit
    except KeySpent:  # an earlier home again, or a certificate that ended
        _hospital("init", site, str(home), site, "--courier", str(folder), "--new-keys")
        kit = enrol(coordinator.federation, request, renew=True).kit
    told = ("--coordinator", coordinator.spoken, "--by", BY)
    _hospital("join", site, str(home), str(kit), "--courier", str(folder), *told)
    return Hospital(site, coordinator.flower.register(folder / "courier.pub", site), folder, socket)


def _hospital(command: str, site: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fedloupe_client.cli", command, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        what = " ".join(done.stderr.split())[-400:]
        raise HospitalNotReady(what, where=site, remedy="install fedloupe-client[courier], and see what it says")


def _wait_online(coordinator: Coordinator, hospitals: Mapping[str, Hospital], processes: Processes) -> None:
    end = time.monotonic() + ONLINE_S
    while True:
        online = coordinator.flower.online()
        missing = sorted(site for site, hospital in hospitals.items() if hospital.node not in online)
        if not missing:
            return
        processes.check()
        if time.monotonic() > end:
            raise HospitalNotReady(
                f"{missing} not online after {ONLINE_S:.0f} s",
                where=str(processes.logs),
                remedy="read the couriers' logs",
            )
        time.sleep(1.0)


def _answers(path: Path) -> bool:
    with contextlib.closing(sockets.socket(sockets.AF_UNIX)) as probe:
        return probe.connect_ex(str(path)) == 0


def _relay(log: Path, told: int, progress: Progress) -> int:
    """Pass on whole lines that are new; how many characters have been told."""
    if not log.is_file():
        return told
    text = log.read_text(encoding="utf-8")
    whole = text.rfind("\n") + 1
    for line in text[told:whole].splitlines():
        progress(line)
    return max(told, whole)


def _clear(work: Path) -> None:
    """Remove an earlier deployment, but for the keys and certificates of both sides, which a later one goes on with."""
    for path in sorted(work.iterdir()) if work.is_dir() else []:
        if path.name in ("federation", "hospitals"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
