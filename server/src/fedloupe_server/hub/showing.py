"""A federation's status on a terminal: the run in three lines, the sites in a table.

console.print(screen(status, fresh=True))
"""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedloupe_server.hub.status import DONE, SiteStatus, Status

STYLES = {"runs": "green", "completed": "bold green", "waits": "yellow", "failed": "bold red"}


def screen(status: Status, *, fresh: bool, now: datetime | None = None) -> RenderableType:
    """Everything of one look.

    Args:
        status: as the service wrote it.
        fresh: the service runs; what it wrote holds.
        now: UTC; the clock's where None.
    """
    moment = now or datetime.now(UTC)
    head = Text.assemble((status.study, "bold"), f"  {status.fingerprint[:12]}  ", _run(status, fresh=fresh))
    lines = [head, Text(_where(status, moment))]
    if status.trouble:
        lines.append(Text(status.trouble, "yellow"))
    if status.stuck:
        lines.append(Text(status.stuck, "yellow"))
    if status.state is not None and status.state.paused:
        lines.append(Text(status.state.paused, "yellow"))
    lines += [
        Text(f"certificate of {name} ends in {days} days: `fedloupe rotate`", "yellow")
        for name, days in status.expiring.items()
    ]
    table = Table("site", "role", "state", "rounds", "last heard", "left", "version", "epsilon", "kit", "certificate")
    for name, site in status.sites.items():
        table.add_row(name, *_cells(site, moment), style="yellow" if site.attention else "")
    return Group(*lines, table)


def _run(status: Status, *, fresh: bool) -> Text:
    if not fresh and status.run not in ("completed", "failed"):
        return Text(f"the service does not run (last seen {status.written:%Y-%m-%d %H:%M} UTC)", "bold red")
    words = {"runs": "running", "waits": "waiting", "completed": DONE[status.task], "failed": f"failed: {status.why}"}
    return Text(words[status.outcome], STYLES[status.outcome])


def _where(status: Status, now: datetime) -> str:
    run = status.state
    if run is None:
        return status.why or "not begun"
    parts = [run.stage or "begun"]
    if run.round:
        parts.append(f"round {run.round} of {run.rounds}")
    if run.expected_end is not None and status.run == "running":
        parts.append(f"about {_span((run.expected_end - now).total_seconds())} left")
    if status.submissions > 1:
        parts.append(f"submitted {status.submissions} times")
    return ", ".join(parts)


def _cells(site: SiteStatus, now: datetime) -> list[str]:
    doing = site.doing
    role = site.role if site.presence is None else f"{site.role}, {site.presence}"
    heard = _span((now - doing.last_contact).total_seconds()) + " ago" if doing and doing.last_contact else "-"
    left = _span(doing.expected_s) if doing and doing.expected_s is not None else "-"
    epsilon = f"{doing.epsilon:.2f}" if doing and doing.epsilon is not None else "-"
    kit = "-" if site.kit is None else f"{site.kit}" + (f", stale: {', '.join(site.stale)}" if site.stale else "")
    days = "-" if site.days is None else f"{site.days} days"
    version = (doing.version or "-") if doing else "-"
    return [role, site.word, str(doing.rounds) if doing else "-", heard, left, version, epsilon, kit, days]


def _span(seconds: float) -> str:
    """A time as people say it."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
