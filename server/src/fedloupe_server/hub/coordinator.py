"""The coordinator's side, started and watched: SuperLink, its executor, and the proxy before them; all on loopback.

    with Processes(work / "logs", print) as processes:
        coordinator = start_coordinator(work, processes, study=study, app=Path("configs/app"))
        node = coordinator.flower.register(public_key, "north")
        coordinator.address                                  # what couriers dial: the proxy

Each option is a lock; docs/deployment.md says what each one closes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from fedloupe.study import Study
from fedloupe_server.hub.flower import Flower, environment, tool
from fedloupe_server.hub.processes import Processes, free_ports
from fedloupe_server.provision import provision

READY_S = 300.0
NAME = "Demonstration on one machine"


@dataclass(frozen=True)
class Coordinator:
    """A running coordinator.

    Attributes:
        flower: its command line.
        app: the staged bundle.
        bundle: the built `.fab` file.
        authority: CA certificate that couriers need.
        proxy_port: the only port meant for hospitals.
        work: its folder.
        federation: the federation folder, in `work`.
        spoken: fingerprint of its key.
    """

    flower: Flower
    app: Path
    bundle: Path
    authority: Path
    proxy_port: int
    work: Path
    federation: Path
    spoken: str

    @property
    def address(self) -> str:
        """`host:port` that couriers dial."""
        return f"127.0.0.1:{self.proxy_port}"


def start_coordinator(work: Path, processes: Processes, *, study: Study, app: Path) -> Coordinator:
    """Found the federation, or bring it up to date, and start the three processes.

    Args:
        work: absolute folder for keys, database, logs.
        processes: where they are started.
        study: for the hospitals' kits.
        app: folder of the bundle's source.

    Raises:
        ProcessEnded: one did not become ready.
        BundleMissing: `app` holds no bundle.
        FederationUnusable, FederationNotWritten: the federation folder.
    """
    work.mkdir(parents=True, exist_ok=True)
    work.chmod(0o700)
    inner, outer = free_ports(2)
    founded = provision(study, work / "federation", f"127.0.0.1:{outer}", name=NAME, app=app)
    federation, secret = founded.federation, founded.federation.secret
    flower = Flower(work / "flower", federation.authority, inner)
    flower.configure()
    env = environment(flower.home)
    certificate, key = str(federation.certificate), str(federation.key)
    processes.start(
        "superlink",
        [
            tool("flower-superlink"),
            *("--host", "127.0.0.1", "--port", str(inner)),
            *("--ssl-ca-certfile", str(flower.authority), "--ssl-certfile", certificate, "--ssl-keyfile", key),
            *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
            "--enable-supernode-auth",
            "--disable-runtime-dependency-installation",
            *("--database", str(work / "state.db")),
        ],
        env,
    )
    processes.start(
        "proxy",
        [
            *(sys.executable, "-P", "-m", "fedloupe_server.hub.proxy", "--host", "127.0.0.1", "--port", str(outer)),
            *("--upstream", f"https://127.0.0.1:{inner}", "--authority", str(flower.authority)),
            *("--certificate", certificate, "--key", key),
        ],
        env,
    )
    processes.wait_for_port("superlink", inner, READY_S)
    processes.start(
        "executor",
        [
            *(tool("flower-superexec"), "--runtime-api-address", f"127.0.0.1:{inner}"),
            *("--root-certificates", str(flower.authority), "--superexec-auth-secret-file", str(secret)),
        ],
        env,
        keep=True,  # it dies of one HTTP 500, and no later run would ever start
    )
    processes.wait_for_port("proxy", outer, READY_S)
    return Coordinator(
        flower, federation.app, federation.bundle, flower.authority, outer, work, federation.folder, founded.spoken
    )
