"""The coordinator's side, started and watched: SuperLink, its executor, and the proxy before them; all on loopback.

    with Processes(work / "logs", print) as processes:
        coordinator = start_coordinator(work, processes, app=Path("configs/app"))
        node = coordinator.flower.register(public_key, "north")
        coordinator.address                                  # what couriers dial: the proxy

Each option is a lock; docs/deployment.md says what each one closes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from fedloupe_server.hub.flower import Flower, environment, stage, tool
from fedloupe_server.hub.processes import Processes, free_ports
from fedloupe_server.hub.provision import make_authority, make_server_certificate, write_secret_bytes

READY_S = 60.0
DAYS = 30


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
    """

    flower: Flower
    app: Path
    bundle: Path
    authority: Path
    proxy_port: int
    work: Path

    @property
    def address(self) -> str:
        """`host:port` that couriers dial."""
        return f"127.0.0.1:{self.proxy_port}"


def start_coordinator(work: Path, processes: Processes, *, app: Path) -> Coordinator:
    """Make certificates, start the three processes, build the bundle.

    Args:
        work: absolute folder for keys, database, logs.
        processes: where they are started.
        app: folder of the bundle's source.

    Raises:
        ProcessEnded: one did not become ready.
        BundleMissing: `app` holds no bundle.
    """
    staged = stage(app, work / "app")
    tls = work / "tls"
    work.mkdir(parents=True, exist_ok=True)
    work.chmod(0o700)
    made = make_authority(tls, "FedLoupe", days=DAYS)
    make_server_certificate(tls, made, hosts=("localhost",), addresses=("127.0.0.1",), days=DAYS)
    secret = tls / "executor.secret"
    write_secret_bytes(secret)
    inner, outer = free_ports(2)
    flower = Flower(work / "flower", tls / "ca.crt", inner)
    flower.configure()
    env = environment(flower.home)
    certificate, key = str(tls / "server.crt"), str(tls / "server.key")
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
            *(sys.executable, "-m", "fedloupe_server.hub.proxy", "--host", "127.0.0.1", "--port", str(outer)),
            *("--upstream", f"https://127.0.0.1:{inner}", "--authority", str(flower.authority)),
            *("--certificate", certificate, "--key", key),
        ],
        env,
    )
    bundle = flower.build(staged)
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
    return Coordinator(flower, staged, bundle, flower.authority, outer, work)
