"""The way to the coordinator: does the address answer, does its certificate hold, do the clocks agree.

link, findings = look_at_connection(config.connection, home)

This runs as the data manager, in `fedloupe-site check` only; the site process never opens a connection. Nothing but
`HEAD /` is sent, through the hospital's proxy where HTTPS_PROXY names one (`proxy`).
"""

from __future__ import annotations

import http.client
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from fedloupe_client.config import Connection
from fedloupe_client.ingest.problems import DataProblem
from fedloupe_client.preflight.findings import (
    CHECK,
    CertificateRefused,
    ClockOff,
    ConnectionFailed,
    Finding,
    Frozen,
    ProxyFailed,
    Severity,
)
from fedloupe_client.preflight.proxy import Proxy, proxy_for, tunnel

TIMEOUT_S = 10.0
DAYS_LEFT = 30
CLOCK_S = 60.0
"""Seconds apart that deserve a warning; at 300 the coordinator refuses signed requests."""
CLOCK_REFUSED_S = 300.0
NOT_CHECKED = "not checked: no connection given"


class Link(Frozen):
    """What was seen of the connection.

    Attributes:
        state: `ok`, `failed`, or why nothing was checked.
        server: `host:port`, "" where none is given; `proxy` likewise, without user name and password.
        names: that the certificate is for.
        days_left: until the certificate expires; `root_days_left` until its authority does.
        clock_s: this clock minus the coordinator's, seconds, to about one second; None where it sent no `Date`.
    """

    state: str
    server: str = ""
    proxy: str = ""
    names: tuple[str, ...] = ()
    days_left: int | None = None
    root_days_left: int | None = None
    clock_s: float | None = None


def look_at_connection(connection: Connection, home: Path) -> tuple[Link, list[Finding]]:
    """Open one TLS connection, check the chain against the given root, and compare clocks.

    Args:
        connection: from `site.yaml`; without a server nothing is opened.
        home: a relative certificate path is relative to it.
    """
    if connection.server is None:
        return Link(state=NOT_CHECKED), []
    host, _, port = connection.server.rpartition(":")
    failed = Link(state="failed", server=connection.server)
    try:
        proxy = proxy_for(host, int(port))
    except ProxyFailed as error:
        return failed, [Finding.of(error, "fix", commands=("env | grep -i -o '^[a-z]*_proxy'", *CHECK))]
    through = "" if proxy is None else f" -proxy {proxy}"
    commands = (f"openssl s_client{through} -connect {connection.server} -servername {host}", *CHECK)
    failed = failed if proxy is None else failed.model_copy(update={"proxy": str(proxy)})
    root = None if connection.root_certificate is None else home / connection.root_certificate
    try:
        context = ssl.create_default_context(cafile=None if root is None else str(root))
    except (OSError, ssl.SSLError) as error:
        unread = CertificateRefused(
            f"the root certificate cannot be read ({type(error).__name__})",
            where=str(root),
            remedy="put the coordinator's ca.crt (PEM) where `connection.root_certificate` in site.yaml says",
        )
        return failed, [Finding.of(unread, "fix", commands=commands[1:])]
    try:
        link = _shake_hands(host, int(port), context, proxy)
    except ssl.SSLCertVerificationError as error:
        refused: DataProblem = CertificateRefused(
            f"the coordinator's certificate is not accepted: {error.verify_message}",
            where=connection.server,
            remedy="check this machine's clock and `connection.root_certificate`; else ask the coordinator for the "
            "present certificate of its authority"
            + (
                ""
                if proxy is None
                else "; where the proxy opens TLS connections, let your network team exempt this one"
            ),
        )
    except ProxyFailed as error:
        refused = error
        commands = (f"curl -s -o /dev/null -w '%{{http_connect}}' https://{connection.server}/", *CHECK)
    except (OSError, http.client.HTTPException) as error:
        refused = ConnectionFailed(
            f"no TLS connection could be made ({type(error).__name__}: {_reason(error)})",
            where=connection.server,
            remedy="check `connection.server` in site.yaml; else ask your network team to open this address, outbound",
        )
    else:
        return link, _judge(link, commands)
    return failed, [Finding.of(refused, "fix", commands=commands)]


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or "no answer"


def _shake_hands(host: str, port: int, context: ssl.SSLContext, proxy: Proxy | None) -> Link:
    one = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    try:
        if proxy is None:
            one.connect()
        else:
            one.sock = context.wrap_socket(tunnel(proxy, host, port, TIMEOUT_S), server_hostname=host)
        assert isinstance(one.sock, ssl.SSLSocket)
        certificate = one.sock.getpeercert() or {}
        before = time.time()
        one.request("HEAD", "/")
        date = one.getresponse().getheader("Date")
        now = (before + time.time()) / 2
    finally:
        one.close()
    roots = [_days(str(root["notAfter"])) for root in context.get_ca_certs()]
    return Link(
        state="ok",
        server=f"{host}:{port}",
        proxy="" if proxy is None else str(proxy),
        names=tuple(str(pair[1]) for pair in certificate.get("subjectAltName", ())),
        days_left=_days(str(certificate["notAfter"])),
        root_days_left=max(roots, default=None),
        clock_s=None if date is None else round(now - parsedate_to_datetime(date).timestamp(), 1),
    )


def _days(not_after: str) -> int:
    end = datetime.fromtimestamp(ssl.cert_time_to_seconds(not_after), UTC)
    return (end - datetime.now(UTC)).days


def _judge(link: Link, commands: tuple[str, ...]) -> list[Finding]:
    findings = []
    days = [days for days in (link.days_left, link.root_days_left) if days is not None]
    if days and min(days) < DAYS_LEFT:
        soon = CertificateRefused(
            f"the coordinator's certificate or its authority's expires in {min(days)} days",
            where=link.server,
            remedy="tell the coordinator; a new authority's certificate must reach you before then",
        )
        findings.append(Finding.of(soon, "warning", commands=commands))
    if link.clock_s is not None and abs(link.clock_s) > CLOCK_S:
        off = ClockOff(
            f"this machine's clock is {abs(link.clock_s):.0f} s {'ahead of' if link.clock_s > 0 else 'behind'} the "
            "coordinator's; from 300 s on its requests are refused",
            where=link.server,
            remedy="let this machine take its time from your hospital's time server",
        )
        severity: Severity = "fix" if abs(link.clock_s) >= CLOCK_REFUSED_S else "warning"
        findings.append(Finding.of(off, severity, commands=("timedatectl status", commands[-1])))
    return findings
