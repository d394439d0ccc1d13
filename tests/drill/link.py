"""Network links between namespaces of our own, which lose, delay or cut packets as they are told.

    with Namespace() as coordinator, Namespace() as hospital, Link(coordinator, hospital, 1) as link:
        link.near, link.far                     # 10.77.1.1 in `coordinator`, 10.77.1.2 in `hospital`
        hospital.command(["flower-supernode", ...])      # an argument list that runs it there
        link.loss, link.delay_s, link.cut = 0.1, 2.0, True

Each end is a TUN device; the packets between them pass through this process. Needs root and /dev/net/tun; the kernel's
own netem is missing on many machines. Nothing in the machine's own namespace is touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
MTU = 1400


def possible() -> bool:
    """Whether this user may make namespaces and TUN devices here."""
    try:
        with Namespace() as space, space.inside():
            os.close(_tun("probe"))
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


class Namespace:
    """A network namespace with a loopback of its own, as long as it is held."""

    def __enter__(self) -> Self:
        # `cat` waits for its standard input to close: it dies with us, and the namespace with it.
        self._holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        self._path = Path(f"/proc/{self._holder.pid}/ns/net")
        own, end = os.stat("/proc/self/ns/net").st_ino, time.monotonic() + 60
        while self._path.stat().st_ino == own:  # until `unshare` has unshared
            if self._holder.poll() is not None or time.monotonic() > end:
                self._holder.kill()
                raise OSError("no network namespace can be made here")
            time.sleep(0.005)
        self.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._holder.stdin is not None:
            self._holder.stdin.close()
        self._holder.wait()

    def command(self, command: Sequence[str]) -> list[str]:
        """The argument list that runs this one in the namespace; the process keeps its id."""
        return ["nsenter", f"--net={self._path}", *command]

    def run(self, *command: str) -> str:
        """Run a short command there; what it says."""
        return subprocess.run(self.command(command), check=True, capture_output=True, text=True).stdout

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread works in the namespace meanwhile."""
        with open("/proc/thread-self/ns/net", "rb") as home, self._path.open("rb") as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())


class Link:
    """A point-to-point link.

    Attributes:
        near: address of the end in the first namespace; `far` in the second.
        loss: share of packets that vanish, each way.
        delay_s: seconds that a packet takes, each way.
        cut: nothing passes.
    """

    def __init__(self, first: Namespace, second: Namespace, number: int, *, seed: int = 0) -> None:
        self.near, self.far = f"10.77.{number}.1", f"10.77.{number}.2"
        self.loss, self.delay_s, self.cut = 0.0, 0.0, False
        self._ends = ((first, f"h{number}", self.near, self.far), (second, "wan", self.far, self.near))
        self._random = random.Random(seed)

    def __enter__(self) -> Self:
        self._fds = []
        for space, name, own, other in self._ends:
            with space.inside():
                self._fds.append(_tun(name))
            space.run("ip", "addr", "add", own, "peer", other, "dev", name)
            space.run("ip", "link", "set", name, "mtu", str(MTU), "up")
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join()
        for fd in (*self._fds, self._stop_read, self._stop_write):
            os.close(fd)

    def mend(self) -> None:
        """As new."""
        self.loss, self.delay_s, self.cut = 0.0, 0.0, False

    def _carry(self) -> None:
        under_way: list[tuple[float, int, int, bytes]] = []  # due, number, end, packet
        number = 0
        while True:
            wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
            ready, _, _ = select.select([*self._fds, self._stop_read], [], [], wait)
            if self._stop_read in ready:
                return
            for fd in ready:
                packet = os.read(fd, 65536)
                if not self.cut and self._random.random() >= self.loss:
                    number += 1
                    heapq.heappush(
                        under_way, (time.monotonic() + self.delay_s, number, 1 - self._fds.index(fd), packet)
                    )
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(under_way)
                if not self.cut:
                    with contextlib.suppress(OSError):  # the device is going down
                        os.write(self._fds[end], packet)


def _tun(name: str) -> int:
    """A TUN device of this namespace; its file descriptor."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(fd)
        raise
    return fd


def _setns(fd: int) -> None:
    if _LIBC.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
