"""The hospital's own proxy: which one the environment names, and a way through it (HTTP CONNECT, RFC 9110 9.3.6).

    proxy = proxy_for("fl.example.org", 443)        # None: connect directly
    socket = tunnel(proxy, "fl.example.org", 443, timeout_s=10)

HTTPS_PROXY, ALL_PROXY and NO_PROXY are read as the courier reads them, in capitals or not. User name and password go to
the proxy and nowhere else: a `Proxy` as text is its `host:port`.
"""

from __future__ import annotations

import base64
import http.client
import re
import socket
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from fedloupe_client.preflight.findings import ProxyFailed

_SET = "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
_SAME = "the courier needs the same"


@dataclass(frozen=True)
class Proxy:
    """Where it listens, and the header that names its user ("" where the environment gives none)."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def proxy_for(host: str, port: int) -> Proxy | None:
    """The proxy that the environment names for this address, or None.

    Raises:
        ProxyFailed: what it names is no address of an HTTP proxy. Its text is not repeated: it may hold a password.
    """
    named = urllib.request.getproxies()
    address = named.get("https") or named.get("all")
    if not address or urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    try:
        door = urlsplit(address if "://" in address else f"http://{address}")
        where, at = door.hostname, door.port
    except ValueError:
        where, at, door = None, None, urlsplit("")
    if where is None or door.scheme != "http":
        kind = f"a proxy of the kind `{door.scheme}`" if where is not None else "no address of a proxy"
        raise ProxyFailed(
            f"HTTPS_PROXY or ALL_PROXY names {kind}, which cannot be tried",
            remedy=f"give an HTTP proxy's address, as in {_SET} (what goes through it is TLS all the same), or name "
            f"the coordinator in NO_PROXY; {_SAME}",
        )
    user = f"{unquote(door.username)}:{unquote(door.password or '')}" if door.username else ""
    return Proxy(where, at or 80, f"Basic {base64.b64encode(user.encode()).decode()}" if user else "")


def tunnel(proxy: Proxy, host: str, port: int, timeout_s: float) -> socket.socket:
    """A connection to an address, through the proxy.

    Raises:
        ProxyFailed: the proxy is not there, refuses, asks for a user, or closes.
    """
    plain = http.client.HTTPConnection(proxy.host, proxy.port, timeout=timeout_s)
    plain.set_tunnel(host, port, {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {})
    try:
        plain.connect()
    except (OSError, http.client.HTTPException) as error:
        plain.close()
        raise _failed(proxy, f"{host}:{port}", error) from None
    return plain.sock


def _failed(proxy: Proxy, server: str, error: Exception) -> ProxyFailed:
    """What the proxy did, in words. Of its answer only the number is told."""
    answer = re.match(r"Tunnel connection failed: (\d{3})\b", str(error))
    team = f"ask your network team to let this machine open {server} through the proxy (CONNECT)"
    if answer is None:
        said = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        return ProxyFailed(
            f"the proxy {proxy} gave no answer ({said})",
            remedy=f"check HTTPS_PROXY; else {team}, or name the coordinator in NO_PROXY if none is needed; {_SAME}",
        )
    if answer[1] == "407":
        known = (
            "does not accept the user name and password in HTTPS_PROXY" if proxy.authorization else "asks for a user"
        )
        return ProxyFailed(
            f"the proxy {proxy} {known} (407)",
            remedy=f"set {_SET}, special signs as %XX; {_SAME}; or ask your network team for a way without",
        )
    return ProxyFailed(f"the proxy {proxy} refuses the way to {server} ({answer[1]})", remedy=f"{team}; {_SAME}")
