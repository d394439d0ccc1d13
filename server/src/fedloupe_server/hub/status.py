"""One look at a federation: the service, its run, and every site in one word; written by the service each second.

    status = status_of(service)
    status.sites["north"].word                  # "training 43 %"
    read_status(Path("FED"))                    # None where no service ever wrote one

What a site *is* comes from three places: its enrolment (a kit, a certificate), its courier at the SuperLink, and what
the run knows of it. The word is of the first of these that keeps it from taking part.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fedloupe.certificates import utc_now
from fedloupe.messages import HelloRequest
from fedloupe_server.federation.state import RunState, SiteState, read_state
from fedloupe_server.provision import Row, site_rows

if TYPE_CHECKING:
    from fedloupe_server.hub.register import Registered
    from fedloupe_server.hub.service import Service

FILE = "status.json"
STALE_S = 10.0
"""A status that is older was written by a service that is no more, or that hangs."""
HELLO: str = HelloRequest.model_fields["kind"].default
"""Whoever answers this has approved the study and has its data ready; what else a site answers is one step done."""
DONE = {"study": "completed", "freeze": "sealed", "validate": "validated"}
"""What a task that is over has come to, in a word."""
Outcome = Literal["runs", "waits", "completed", "failed"]


class SiteStatus(BaseModel):
    """One site.

    Attributes:
        word: what it is or does, for people.
        attention: somebody must do something.
        role: `train` or `validate`.
        presence: `must`, `should` or `may`; None for a validate-only site.
        connection: its courier's: `online`, `offline`, `registered` (never online) or None (no kit).
        connected_since: when that began, UTC, ISO 8601.
        doing: what the run knows of it.
        kit: number of its kit.
        days: until its certificate ends; negative since.
        stale: what its kit says and no longer holds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    word: str
    attention: bool = False
    role: Literal["train", "validate"]
    presence: str | None = None
    connection: str | None = None
    connected_since: str = ""
    doing: SiteState | None = None
    kit: int | None = None
    days: int | None = None
    stale: tuple[str, ...] = ()


class Process(BaseModel):
    """One process of the service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    starts: int


class Status(BaseModel):
    """The federation at one moment.

    Attributes:
        written: UTC.
        coordinator: its name.
        study: its name; `fingerprint` likewise.
        address: where couriers dial.
        trouble: what keeps the service from its work; empty where nothing does.
        processes: by name.
        task: what the service is started for: the whole study, the study until it is sealed, or a later validation.
        run: of the service: `waiting`, `running`, `completed` or `failed`.
        why: of that.
        stuck: why its submissions gain nothing, where several in a row did not; empty otherwise.
        submissions: how often the run was given to Flower.
        state: of the run, as its ServerApp wrote it last.
        sites: those that the task needs, by name, in the study's order.
        expiring: days until the coordinator's own certificates end, where soon.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    written: datetime
    coordinator: str
    study: str
    fingerprint: str
    address: str
    trouble: str
    processes: dict[str, Process]
    task: Literal["study", "freeze", "validate"] = "study"
    run: Literal["waiting", "running", "completed", "failed"]
    why: str
    stuck: str = ""
    submissions: int
    state: RunState | None
    sites: dict[str, SiteStatus]
    expiring: dict[str, int]

    @property
    def outcome(self) -> Outcome:
        """What a script wants to know."""
        if self.run in ("completed", "failed"):
            return "completed" if self.run == "completed" else "failed"
        waits = self.trouble or self.stuck or (self.state is not None and self.state.paused)
        return "waits" if waits or any(site.attention for site in self.sites.values()) else "runs"


def status_of(service: Service) -> Status:
    """The status now; another thread may be at work in the service: what it replaces as one is read once."""
    federation, watch, nodes = service.federation, service.watch, service.nodes
    (state, why), running = watch.standing, service.processes.running.copy()
    run = read_state(service.task.run)
    if run is not None and run.fingerprint != federation.study.fingerprint:
        run = None  # of another study: what its sites said was not of this one
    rows = site_rows(federation, utc_now())
    known = {row.site: row for row in rows}
    quorum = federation.study.quorum
    sites = {
        site.name: site_status(
            site.role,
            quorum.presence(site.name) if site.role == "train" else None,
            known[site.name],
            nodes.get(site.name),
            run.sites.get(site.name) if run else None,
        )
        for site in federation.study.sites
        if site.name in service.needs
    }
    return Status(
        written=datetime.now(UTC).replace(microsecond=0),
        coordinator=federation.record.name,
        study=federation.study.study,
        fingerprint=federation.study.fingerprint,
        address=federation.record.address,
        trouble=service.trouble,
        processes={name: Process(pid=one.process.pid, starts=one.starts) for name, one in running.items()},
        task=service.task.name,
        run=state,
        why=why,
        stuck=watch.stuck,
        submissions=watch.submissions,
        state=run,
        sites=sites,
        expiring={row.site.strip("()"): row.days for row in rows if row.site.startswith("(") and row.days is not None},
    )


def site_status(
    role: Literal["train", "validate"],
    presence: str | None,
    row: Row,
    registered: Registered | None,
    doing: SiteState | None,
) -> SiteStatus:
    """One site from what is known of it.

    Args:
        role: in the study.
        presence: in the study's quorum.
        row: of its enrolment.
        registered: its courier at the SuperLink.
        doing: of the run.
    """
    word, attention = _word(row, registered, doing)
    return SiteStatus(
        word=word,
        attention=attention and presence != "may",
        role=role,
        presence=presence,
        connection=registered.status if registered else None,
        connected_since=registered.contact if registered else "",
        doing=doing,
        kit=row.kit,
        days=row.days,
        stale=row.stale,
    )


def _word(row: Row, registered: Registered | None, doing: SiteState | None) -> tuple[str, bool]:
    """The word, and whether somebody must do something."""
    if row.state in ("invited", "revoked", "expired"):
        return row.state, True
    if registered is None or registered.status == "registered":
        return "kit issued, never connected", True
    if registered.status != "online":
        return f"offline since {registered.contact[:16].replace('T', ' ')}", True
    if doing is None or doing.state == "waiting":
        return "connected", False
    if doing.state in ("refused", "absent", "late", "paused", "awaiting approval"):
        return f"{doing.state}: {doing.refusal}" if doing.refusal else doing.state, True
    share = "" if doing.fraction is None else f" {doing.fraction:.0%}"
    words = {
        "asked": f"asked: {doing.stage}",
        "working": f"at work: {doing.stage}{share}",
        "training": f"training{share}",
        "done": "ready" if doing.stage == HELLO else "done",
    }
    return words.get(doing.state, doing.state), False


def read_status(folder: Path) -> Status | None:
    """What the service of a federation folder wrote last; None where there is nothing that can be read."""
    try:
        return Status.model_validate_json((folder / "service" / FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def changes(before: Status | None, after: Status) -> list[dict[str, str]]:
    """What a log should say of two looks: each change of the run and of a site, as plain words."""
    said: list[dict[str, str]] = []

    def note(site: str, event: str) -> None:
        said.append({"time": after.written.isoformat(), **({"site": site} if site else {}), "event": event})

    old_words, words = _run_words(before) if before else {}, _run_words(after)
    for name, word in words.items():
        if word != old_words.get(name, ""):
            note("", f"{name}: {word or 'no longer'}")
    for name, site in after.sites.items():
        old = before.sites.get(name) if before else None
        if old is None or _coarse(old.word) != _coarse(site.word):
            note(name, site.word)
    return said


def _run_words(status: Status) -> dict[str, str]:
    run = status.state
    return {
        "trouble": status.trouble,
        "run": f"{DONE[status.task] if status.run == 'completed' else status.run} {status.why}".strip(),
        "stage": "" if run is None else f"{run.stage} {run.round}/{run.rounds}" if run.stage == "rounds" else run.stage,
        "paused": run.paused or "" if run else "",
        "stuck": "no step of progress" if status.stuck else "",
    }


def _coarse(word: str) -> str:
    """A word without its percentage: progress is no event."""
    return word.split(" ", maxsplit=1)[0] if word.startswith("training") else word
