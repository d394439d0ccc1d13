"""The site's only door: gRPC on a Unix socket, bytes in, bytes out, one request at a time.

    server = serve(desk, Path("/run/fedloupe/site.sock"))           # the site process
    reply = ask(Path("/run/fedloupe/site.sock"), blob, 3600.0)      # the courier
    alive(Path("/run/fedloupe/site.sock"))                          # a health check
    server.stop()

No TCP port is ever opened. What the bytes mean is the business of `fedloupe.messages` and the gate.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket as sockets
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from fedloupe.errors import FedLoupeError
from fedloupe.messages import MAX_BYTES
from fedloupe_client.site.desk import PATIENCE_S, Desk, Entered
from fedloupe_client.site.progress import Progress

METHOD, ALIVE, NOTE = "/fedloupe.Site/Ask", "/fedloupe.Site/Alive", "/fedloupe.Site/Note"
CALLERS = 8
"""Callers that are heard at once; each waits half a minute at most."""
LONGEST_NOTE = 200
"""Bytes."""
LONGEST_PATH = 107  # sun_path of Linux (unix(7)) less its terminating zero
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_BYTES),
    ("grpc.max_send_message_length", MAX_BYTES),
    ("grpc.so_reuseport", 0),  # a second server on the same address must fail, not share
    ("grpc.enable_http_proxy", 0),
]
_log = logging.getLogger(__name__)


class SiteSilent(FedLoupeError):
    """Nobody answers on the site's socket, or not in time."""

    code = "FL-620"
    title = "the site process does not answer"


class SocketTaken(FedLoupeError):
    """Another process serves this socket already."""

    code = "FL-621"
    title = "the site's socket is in use"


class SocketUnusable(FedLoupeError):
    """The socket's path is too long, is another kind of file, or its folder does not allow it."""

    code = "FL-622"
    title = "the site's socket cannot be made"


class SiteBroken(FedLoupeError):
    """The site process answered with an error of its own; its log says which."""

    code = "FL-623"
    title = "the site process failed on a request"


class MessageTooLarge(FedLoupeError):
    """A message or its answer exceeds `fedloupe.messages.MAX_BYTES`."""

    code = "FL-624"
    title = "message too large for the site's socket"


class Server:
    """A running site door; made by `serve`."""

    def __init__(self, server: grpc.Server, desk: Desk, socket: Path, inode: int) -> None:
        self._server, self._desk, self.socket, self._inode = server, desk, socket, inode

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until stopped; True when the time ran out first."""
        return bool(self._server.wait_for_termination(timeout_s))

    def stop(self, grace_s: float = 5.0) -> None:
        """Refuse new requests, give the running one `grace_s` seconds, remove the socket file."""
        self._server.stop(grace_s).wait()
        self._desk.stop()
        with contextlib.suppress(FileNotFoundError):
            if self.socket.stat().st_ino == self._inode:  # never another server's file
                self.socket.unlink()


def desk_of(handle: Callable[[bytes], bytes], *, patience_s: float = PATIENCE_S) -> Desk:
    """A desk before a plain function of bytes, which looks at no seal: for tests and benchmarks of the wire.

    Args:
        handle: message bytes to reply bytes. Called from one thread, one request at a time.
        patience_s: seconds that a caller waits.
    """
    return Desk(lambda blob: Entered(blob, lambda: handle(blob)), Progress(), patience_s=patience_s)


def serve(
    desk: Desk, socket: Path, *, mode: int = 0o600, noted: Callable[[str, str, int], None] | None = None
) -> Server:
    """Answer requests on a Unix socket until stopped.

    Args:
        desk: what callers come to; expected not to raise.
        noted: told what the courier reports of a refused app bundle: code, SHA-256 and size.
        socket: path of at most 107 bytes; its folder must exist. A dead server's file is replaced.
        mode: 0o600, or 0o660 where the courier runs as another user of the same group.

    Raises:
        SocketTaken: somebody answers there.
        SocketUnusable: path too long, a file that is no socket, folder absent or not writable.
    """
    _clear(socket)

    def answer(blob: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return desk.ask(blob, context.is_active)
        except Exception:  # the outermost wall: a traceback stays in the site's log, the courier learns a code
            _log.exception("the handler failed")
            context.abort(grpc.StatusCode.INTERNAL, SiteBroken.code)
            raise

    # Callers wait in threads of their own; the desk has one for the work: the handler never runs twice at once.
    server = grpc.server(ThreadPoolExecutor(CALLERS, thread_name_prefix="fedloupe-door"), options=_OPTIONS)
    # No serialisers: bytes pass as they are. `Alive` says nothing, whatever it is told, and leaves no line anywhere.
    handlers = {METHOD: answer, ALIVE: lambda _blob, _context: b""}
    if noted is not None:
        handlers[NOTE] = _noting(noted)
    service = METHOD.strip("/").split("/")[0]
    named = {path.rsplit("/", 1)[1]: grpc.unary_unary_rpc_method_handler(one) for path, one in handlers.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, named),))
    before = os.umask(0o777 & ~mode)  # so that the file never exists with wider permissions
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError:
        raise SocketUnusable("binding failed", where=str(socket), remedy="check that its folder is writable") from None
    finally:
        os.umask(before)
    socket.chmod(mode)
    server.start()
    return Server(server, desk, socket, socket.stat().st_ino)


def _noting(noted: Callable[[str, str, int], None]) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def take(blob: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            code, sha256, size = json.loads(blob[:LONGEST_NOTE])
            if not (re.fullmatch(r"FL-\d{3}", code) and re.fullmatch(r"[0-9a-f]{64}", sha256) and type(size) is int):
                raise ValueError("no note of a bundle")
            noted(code, sha256, size)
        except Exception:  # the outermost wall, as in `serve`
            _log.exception("a note of the courier was not taken")
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, SiteBroken.code)
            raise
        return b""

    return take


def note(socket: Path, code: str, sha256: str, size: int, timeout_s: float = 10.0) -> None:
    """Tell the site that an app bundle was refused.

    Args:
        socket: the site's.
        code: of the refusal.
        sha256: of the bundle.
        size: its bytes.
        timeout_s: seconds.

    Raises:
        SiteSilent, SiteBroken: it was not recorded.
    """
    with grpc.insecure_channel(f"unix:{socket}", options=_OPTIONS) as channel:
        try:
            channel.unary_unary(NOTE)(json.dumps([code, sha256, size]).encode(), timeout=timeout_s)
        except grpc.RpcError as error:
            raise _explain(error.code(), socket) from None


def ask(socket: Path, blob: bytes, timeout_s: float) -> bytes:
    """Send bytes to the site and wait for its answer.

    Args:
        socket: the socket that `serve` made.
        blob: an encoded message.
        timeout_s: seconds; training counts.

    Raises:
        SiteSilent: nobody there, or no answer in time.
        MessageTooLarge: over 512 MiB.
        SiteBroken: the handler raised.
    """
    return _call(METHOD, socket, blob, timeout_s)


def alive(socket: Path, timeout_s: float = 5.0) -> None:
    """Return where the site process answers. Nothing is asked of its gate, and its work goes on.

    Args:
        socket: the socket that `serve` made.
        timeout_s: seconds.

    Raises:
        SiteSilent: nobody there, or no answer in time.
    """
    _call(ALIVE, socket, b"", timeout_s)


def _call(method: str, socket: Path, blob: bytes, timeout_s: float) -> bytes:
    with grpc.insecure_channel(f"unix:{socket}", options=_OPTIONS) as channel:
        try:
            reply: bytes = channel.unary_unary(method)(blob, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _explain(error.code(), socket) from None
    return reply


def _explain(status: grpc.StatusCode, socket: Path) -> FedLoupeError:
    where = str(socket)
    if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return SiteSilent(f"{status.name.lower()}", where=where, remedy="start the site process: `fedloupe-site start`")
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return MessageTooLarge(f"more than {MAX_BYTES} bytes", where=where, remedy="make the study's model smaller")
    return SiteBroken(f"{status.name.lower()}", where=where, remedy="read the site process's log")


def _clear(socket: Path) -> None:
    """Remove what a dead server left; refuse what is alive or not ours."""
    if len(os.fsencode(socket)) > LONGEST_PATH:
        raise SocketUnusable(f"more than {LONGEST_PATH} bytes", where=str(socket), remedy="choose a shorter path")
    try:
        kind = socket.lstat().st_mode
    except FileNotFoundError:
        if not socket.parent.is_dir():
            raise SocketUnusable("no such folder", where=str(socket.parent), remedy="make the folder first") from None
        return
    if not stat.S_ISSOCK(kind):
        raise SocketUnusable("the file there is not a socket", where=str(socket), remedy="choose another path")
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        try:
            probe.connect(str(socket))
        except ConnectionRefusedError:
            socket.unlink()
            return
        except PermissionError:
            raise SocketUnusable("this user may not use it", where=str(socket), remedy="run as its owner") from None
    raise SocketTaken("another site process answers there", where=str(socket), remedy="stop it, or choose another path")
