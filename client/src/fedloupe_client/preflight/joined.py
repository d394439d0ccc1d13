"""Whether a coordinator could ask this site at all: the kit that is in force, and its certificate.

    findings = look_at_kit(config.connection, home, utc_now())

With neither a kit nor `connection.server` in site.yaml nothing is said: no coordinator is expected.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from fedloupe_client.config import Connection
from fedloupe_client.joining.installed import installed
from fedloupe_client.joining.status import certificate_line, kit_line
from fedloupe_client.preflight.findings import CHECK, Finding, NotJoined, Severity

STATUS = ("fedloupe-site status HOME", *CHECK)


def look_at_kit(connection: Connection, home: Path, now: datetime) -> list[Finding]:
    """A note where no kit is installed; a certificate that ended is to be mended, one that ends soon a warning."""
    if connection.server is None and installed(home) is None:
        return []
    findings = []
    for line in (*kit_line(home, now), *certificate_line(home, now)):
        severity: Severity = "warning" if line.state == "soon" else "fix"
        if line.state == "ok":
            continue
        if line.name == "kit":
            severity = "note"
            unjoined = NotJoined(
                "no kit is installed: the coordinator's requests will be refused",
                remedy="`fedloupe-site init`, send the request, install the kit with `fedloupe-site join`",
            )
        else:
            unjoined = NotJoined(
                f"the site's certificate: {line.words}",
                remedy="tell the coordinator, who makes a new kit; install it with `fedloupe-site join`",
            )
        findings.append(Finding.of(unjoined, severity, commands=STATUS))
    return findings
