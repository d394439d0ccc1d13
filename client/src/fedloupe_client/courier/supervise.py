"""Keeps the SuperNode alive: starts it, and starts it again after each end, long enough after a refusal.

    supernode = Supernode(coordinator="coordinator.example.org:443", authority=Path("ca.crt"), key=Path("courier.key"),
                          socket=Path("/run/fedloupe/site.sock"), home=Path("flower-home"))
    supervise(supernode, stop=threading.Event())

The same from a shell: `python -m fedloupe_client.courier --help`.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedloupe_client.courier.approved import environment

# The coordinator refuses a node that restarts until its last heartbeat has expired, about 60 s (Flower 1.41, measured).
DELAY_S = 75.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Supernode:
    """What a SuperNode needs to know.

    Attributes:
        coordinator: `host:port` of the coordinator's proxy.
        authority: the coordinator's CA certificate, PEM.
        key: this hospital's private key (OpenSSH, EC), mode 0600; the coordinator has its public half.
        socket: the site's socket.
        home: a Flower home made by `fedloupe_client.courier.approved.prepare`.
        port: loopback port for Flower's own client process; distinct for each SuperNode of one machine.
    """

    coordinator: str
    authority: Path
    key: Path
    socket: Path
    home: Path
    port: int = 9094

    @property
    def command(self) -> list[str]:
        """The `flower-supernode` command line. It listens on loopback only and dials out."""
        return [
            str(Path(sys.executable).parent / "flower-supernode"),
            *("--superlink", self.coordinator, "--root-certificates", str(self.authority)),
            *("--auth-supernode-private-key", str(self.key)),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--node-config", f'site-socket="{self.socket}"'),
        ]

    def start(self) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own."""
        return subprocess.Popen(self.command, env=environment(self.home), start_new_session=True)


def supervise(
    supernode: Supernode,
    stop: threading.Event,
    *,
    start: Callable[[Supernode], subprocess.Popen[bytes]] = Supernode.start,
    delay_s: float = DELAY_S,
) -> list[int]:
    """Run the SuperNode until `stop` is set, starting it again `delay_s` seconds after each end.

    Returns:
        The exit codes seen, in order.
    """
    codes: list[int] = []
    while not stop.is_set():
        process = start(supernode)
        try:
            while process.poll() is None and not stop.wait(0.5):
                pass
        finally:
            end(process)
        codes.append(process.returncode)
        if not stop.is_set():
            _log.warning("the SuperNode ended with code %d; next start in %.0f s", process.returncode, delay_s)
            stop.wait(delay_s)
    return codes


def end(process: subprocess.Popen[bytes], grace_s: float = 10.0) -> None:
    """Ask the process to end (a SuperNode then says goodbye to the coordinator), and insist after `grace_s` seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
