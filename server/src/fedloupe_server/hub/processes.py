"""Processes of a deployment: each with a log file, watched, and ended by its own process id.

    with Processes(Path("work/logs"), print) as processes:
        processes.start("superlink", ["flower-superlink", ...], env)
        processes.wait_for_port("superlink", 8000, 60.0)

Leaving the block ends them in reverse order, whatever happened inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from fedloupe.errors import FedLoupeError

_LIBC, _PR_SET_PDEATHSIG = ctypes.CDLL(None), 1  # linux/prctl.h
GRACE_S = 20.0  # a courier gives its SuperNode 10 s to say goodbye
_LEAST_PORT = 10_000
_GIVEN: set[int] = set()


class ProcessEnded(FedLoupeError):
    """A process of the deployment ended, or never became ready."""

    code = "FL-730"
    title = "a process of the deployment ended early"


@dataclass
class Running:
    """One process, how to start it again, and how often that happened."""

    command: Sequence[str]
    env: Mapping[str, str] | None
    process: subprocess.Popen[bytes]
    log: Path
    keep: bool
    started: float
    starts: int = 1


@dataclass
class Processes:
    """The processes that this object started, by name; several threads may `check` them, unless they are `tied`.

    Attributes:
        logs: folder for one log file a process.
        progress: told in one line what happens.
        pause_s: seconds between two starts of a process that is kept.
        tied: the processes are killed when this one ends, however it ends (Linux); start them from a thread that lasts
            as long, for the kernel asks about the thread.
        log_bytes: size at which a log is moved to `<name>.log.1`, where it replaces the one before.
    """

    logs: Path
    progress: Callable[[str], None]
    pause_s: float = 3.0
    tied: bool = False
    log_bytes: int = 64 * 2**20
    running: dict[str, Running] = field(default_factory=dict)
    _starts: dict[str, int] = field(default_factory=dict)
    _watch: threading.RLock = field(default_factory=threading.RLock)  # or two threads would start one process twice

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in reversed(list(self.running)):
            self.end(name)

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None, *, keep: bool = False
    ) -> None:
        """Start a process in a session of its own.

        Args:
            name: for the log file and messages.
            command: argument list.
            env: its environment; None: ours.
            keep: `check` starts it again when it has ended, as a service manager would.
        """
        log = self.logs / f"{name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Two system calls, no lock.
                preexec_fn=functools.partial(_die_with, os.getpid()) if self.tied else None,  # noqa: PLW1509
            )
        self._starts[name] = self._starts.get(name, 0) + 1
        self.running[name] = Running(command, env, process, log, keep, time.monotonic(), self._starts[name])

    def check(self) -> None:
        """Start again what must be kept.

        Raises:
            ProcessEnded: another one ended.
        """
        with self._watch:
            for name, one in list(self.running.items()):
                if one.log.stat().st_size > self.log_bytes:  # the process appends: emptied, it goes on at the start
                    shutil.copyfile(one.log, one.log.with_suffix(".log.1"))
                    os.truncate(one.log, 0)
                if (code := one.process.poll()) is None:
                    continue
                if not one.keep:
                    raise ProcessEnded(
                        f"{name} ended with code {code}: {self.tail(name)}", where=str(one.log), remedy="read its log"
                    )
                if time.monotonic() - one.started >= self.pause_s:
                    self.progress(f"{name} ended with code {code}; starting it again")
                    self.start(name, one.command, one.env, keep=True)

    def again(self, name: str) -> None:
        """End a process and start it again, as it was started."""
        one = self.running[name]
        self.end(name)
        self.start(name, one.command, one.env, keep=one.keep)

    def wait_for(self, name: str, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `ready()`.

        Raises:
            ProcessEnded: the process ended first, or the time ran out.
        """
        end = time.monotonic() + timeout_s
        one = self.running[name]
        while not ready():
            code = one.process.poll()
            if code is not None or time.monotonic() > end:
                state = f"ended with code {code}" if code is not None else f"was not ready after {timeout_s:.0f} s"
                raise ProcessEnded(f"{name} {state}: {self.tail(name)}", where=str(one.log), remedy="read its log")
            time.sleep(0.1)

    def wait_for_port(self, name: str, port: int, timeout_s: float) -> None:
        """Wait until a loopback port answers; errors as in `wait_for`."""

        def ready() -> bool:
            with contextlib.closing(socket.socket()) as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self.wait_for(name, ready, timeout_s)

    def end(self, name: str) -> int:
        """Ask a process to end, insist after a while, forget it; its exit code."""
        return self.end_together([name])[0]

    def end_together(self, names: Sequence[str]) -> list[int]:
        """As `end`, asking all of them before waiting for any."""
        with self._watch:
            ending = [self.running.pop(name).process for name in names]
        for process in ending:
            if process.poll() is None:
                process.terminate()
        end = time.monotonic() + GRACE_S
        for process in ending:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return [process.returncode for process in ending]

    def tail(self, name: str, characters: int = 400) -> str:
        """The end of a process's log on one line."""
        text = self.running[name].log.read_text(encoding="utf-8", errors="replace")
        return " ".join(text.split())[-characters:]


def _die_with(parent: int) -> None:
    """In the child: be killed when the parent ends, so that nothing goes on that nobody watches."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel knew of our wish
        os._exit(1)


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody uses at this moment, each given once in the life of this process.

    They lie below those from which the system takes one for each outgoing connection, so that they are still free when
    whoever listens there has started.
    """
    first = _first_outgoing()
    ports: list[int] = []
    while len(ports) < count:
        port = first - 1 - secrets.randbelow(first - _LEAST_PORT)
        if port not in _GIVEN and _is_free(port):
            _GIVEN.add(port)
            ports.append(port)
    return ports


def _first_outgoing() -> int:
    """Where the system's ports for outgoing connections begin (Linux: ip(7), `ip_local_port_range`)."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        first = 0
    return first if first >= _LEAST_PORT + 1000 else 32768


def _is_free(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def began(pid: int) -> float | None:
    """When a process began, in clock ticks since the machine did: with its id, what tells it from a later one.

    None where there is no such process, or only its exit code is left.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else float(fields[19])


def alive(pid: int, since: float) -> bool:
    """Whether this very process still runs.

    Args:
        pid: its id.
        since: as `began` gave it.
    """
    return began(pid) == since
