"""The courier of one hospital: what it needs to know, how its two processes are started, one courier a folder.

    courier = Courier(coordinator="coordinator.example.org:443", authority=Path("ca.crt"), key=Path("courier.key"),
                      socket=Path("/run/fedloupe/site.sock"), home=Path("flower-home"), state=Path("courier"))
    courier.start(stop=threading.Event())

The same from a shell: `python -m fedloupe_client.courier --help`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedloupe.errors import FedLoupeError
from fedloupe.logs import Form
from fedloupe_client.courier.approved import environment
from fedloupe_client.courier.supervise import EXECUTOR, SUPERNODE, Command, Supervisor
from fedloupe_client.site.server import note

_log = logging.getLogger(__name__)


class CourierRuns(FedLoupeError):
    """Another courier works in this state folder."""

    code = "FL-676"
    title = "a courier runs here already"


@dataclass(frozen=True)
class Courier:
    """What a courier needs to know.

    Attributes:
        coordinator: `host:port` of the coordinator's proxy.
        authority: the coordinator's CA certificate, PEM.
        key: this hospital's private key (OpenSSH, EC), mode 0600; the coordinator has its public half.
        socket: the site's socket.
        home: a Flower home made by `fedloupe_client.courier.approved.prepare`.
        state: a folder of its own that it may write: state, secret, the message in hand.
        port: loopback port between its two processes; distinct for each courier of one machine.
        log: how its processes write their log.
    """

    coordinator: str
    authority: Path
    key: Path
    socket: Path
    home: Path
    state: Path
    port: int = 9094
    log: Form = "words"

    @property
    def secret(self) -> Path:
        """File with the secret that the executor shows the SuperNode."""
        return self.state / "executor.secret"

    @property
    def options(self) -> list[str]:
        """Options of `flower-supernode`: it listens on loopback only, dials out with TLS, and runs nothing itself."""
        return [
            *("--superlink", self.coordinator, "--root-certificates", str(self.authority)),
            *("--auth-supernode-private-key", str(self.key)),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--isolation", "process", "--superexec-auth-secret-file", str(self.secret)),
            *("--node-config", f'site-socket="{self.socket}"'),
        ]

    @property
    def commands(self) -> dict[str, Command]:
        """How its two processes are started, given the file descriptor for their reports."""

        def module(name: str, report: int) -> list[str]:
            tied = ("--report", str(report), "--parent", str(os.getpid()), "--log", self.log)
            return [sys.executable, "-P", "-m", f"fedloupe_client.courier.{name}", *tied]

        return {
            SUPERNODE: lambda report: [
                *(*module(SUPERNODE, report), "--home", str(self.home), "--state", str(self.state)),
                *("--", *self.options),
            ],
            EXECUTOR: lambda report: [
                *(*module(EXECUTOR, report), "--address", f"127.0.0.1:{self.port}"),
                *("--secret", str(self.secret), "--home", str(self.home)),
            ],
        }

    def start(self, stop: threading.Event) -> None:
        """Run until `stop` is set.

        Raises:
            CourierRuns: another one works in the same folder.
        """
        with alone(self.state):
            self.secret.unlink(missing_ok=True)
            with os.fdopen(os.open(self.secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(os.urandom(32))
            node, own = environment(self.home), environment(self.home)
            for name in list(own):  # the executor's only way is loopback: a hospital's HTTP proxy is not on it
                if name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
                    del own[name]
            environments = {SUPERNODE: node, EXECUTOR: own}
            Supervisor(self.commands, self.state, environments=environments, refused=self._refused).run(stop)

    def _refused(self, code: str, sha256: str, size: int) -> None:
        """The site's audit chain has a line of every refused bundle."""
        try:
            note(self.socket, code, sha256, size)
        except FedLoupeError as error:
            _log.error("the site was not told of a refused bundle: %s", error)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel gives it back however this process ends.

    Raises:
        CourierRuns: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "courier.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CourierRuns("its lock is held", where=str(folder), remedy="stop it first") from None
        yield
