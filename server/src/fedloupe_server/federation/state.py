"""What a run is doing, for whoever asks: `state.json` in the run's folder, whole at every moment.

watch = Watch(study, "demo", Path("runs/demo/state.json"), observer)
watch.working("north", reply)                   # on disk within half a second
read_state(Path("runs/demo")).sites["north"]    # SiteState(state="training", fraction=0.43, ...)
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fedloupe.messages import Failure, Message, Working
from fedloupe.study import Study
from fedloupe.study.quorum import Presence
from fedloupe_server.evidence.results import RoundRecord
from fedloupe_server.federation.events import Event, Observer, silent

FILE = "state.json"
INTERVAL_S = 0.5
"""Seconds between two writings."""
UNAPPROVED, AWAITS, DENIED, PAUSED, CLOSED = "FL-501", "FL-530", "FL-531", "FL-532", "FL-533"
"""Codes of a site where a person must approve the study, must decide first, said no, or paused it; that is closed."""
HELD: dict[str, Doing] = {
    UNAPPROVED: "awaiting approval",
    AWAITS: "awaiting approval",
    PAUSED: "paused",
    CLOSED: "paused",
}
Doing = Literal[
    "waiting", "asked", "working", "training", "done", "late", "refused", "absent", "paused", "awaiting approval"
]
KEPT: frozenset[Doing] = frozenset({"refused", "absent", "paused", "awaiting approval"})
"""What a site that is asked again stays until it says something else."""
NO_WORK: dict[str, Any] = {"fraction": None, "expected_s": None}


class SiteState(BaseModel):
    """One site at this moment.

    Attributes:
        presence: what the study asks of a training site; None for a validate-only one.
        state: what it does: `waiting`, not asked yet by this process; `asked`, and nothing heard of that yet.
        stage: in its own word; of one that was asked or has answered, the kind of the request.
        fraction: of its present work.
        expected_s: seconds until its answer, as it said at `last_contact`.
        refusal: code and title, or `no answer`.
        last_contact: UTC; None where nothing was ever heard of it.
        version: FedLoupe's, at the site.
        epsilon: spent, where it tells.
        rounds: that it took part in.
    """

    model_config = ConfigDict(extra="forbid")

    role: Literal["train", "validate"]
    presence: Presence | None = None
    state: Doing = "waiting"
    stage: str = ""
    fraction: float | None = None
    expected_s: float | None = None
    refusal: str | None = None
    last_contact: datetime | None = None
    version: str | None = None
    epsilon: float | None = None
    rounds: int = 0


class RunState(BaseModel):
    """A run at this moment.

    Attributes:
        stage: the latest event's.
        round: that is under way or done last; 0 before the first one.
        began: UTC, of this process.
        written: UTC, of this file.
        expected_end: UTC, of the rounds; None where no round was measured yet.
        paused: why it waits for somebody; None where it does not.
        ended: how: `completed`, a code and a title, or None while it runs.
        process: id of the coordinator's process.
    """

    model_config = ConfigDict(extra="forbid")

    run: str
    study: str
    fingerprint: str
    stage: str = ""
    round: int = 0
    rounds: int
    began: datetime
    written: datetime
    expected_end: datetime | None = None
    paused: str | None = None
    ended: str | None = None
    process: int
    sites: dict[str, SiteState]


def read_state(run_dir: Path) -> RunState | None:
    """The run's state as it was written last; None where there is none that can be read."""
    try:
        return RunState.model_validate_json((run_dir / FILE).read_bytes())
    except (OSError, ValidationError):
        return None


class Watch:
    """Keeps a run's state and tells the observer of what changes.

    When each site was heard last, and what it said of itself then, is taken over from the file of an earlier process;
    not what it did, which nobody has asked since.

    Args:
        study: the protocol.
        run: its name.
        path: of the file; None: nothing is written.
        observer: told of every step.
    """

    def __init__(self, study: Study, run: str, path: Path | None = None, observer: Observer = silent) -> None:
        now, before = _now(), read_state(path.parent) if path else None
        self._path, self._observer = path, observer
        self._lock = threading.Lock()
        self._written = -INTERVAL_S
        self._timer: threading.Timer | None = None
        self.state = RunState(
            run=run,
            study=study.study,
            fingerprint=study.fingerprint,
            rounds=study.training.rounds,
            began=now,
            written=now,
            process=os.getpid(),
            sites={
                s.name: SiteState(
                    role=s.role,
                    presence=study.quorum.presence(s.name) if s.role == "train" else None,
                    **_heard_before(before, s.name),
                )
                for s in study.sites
            },
        )

    def goes_on(self, records: Sequence[RoundRecord]) -> None:
        """These rounds are on disk."""
        self.state.round = len(records)
        took = Counter(site for record in records for site in record.participants)
        spent = {site: epsilon for record in records for site, epsilon in record.epsilon.items()}
        for name, site in self.state.sites.items():
            epsilon = spent.get(name) if site.epsilon is None else site.epsilon
            self._site(name, rounds=took[name], epsilon=epsilon)

    def observe(self, event: Event) -> None:
        """A step of the run; the observer of everything below."""
        self.state.stage = event.stage
        self._observer(event)
        self._changed()

    def asked(self, site: str, kind: str) -> None:
        """A request is on its way."""
        if self.state.sites[site].state not in KEPT:
            self._site(site, state="asked", stage=kind, **NO_WORK)

    def working(self, site: str, told: Working) -> None:
        """The site is at work."""
        before = self.state.sites[site]
        self._heard(
            site,
            told,
            state="training" if told.stage == "training" else "working",
            stage=told.stage,
            fraction=told.fraction,
            expected_s=told.seconds,
            refusal=None,
        )
        if (before.stage, before.fraction) != (told.stage, told.fraction):
            share = "" if told.fraction is None else f" {told.fraction:.0%}"
            self._observer(Event("sites", 0, 0, f"{site}: {told.stage}{share}"))

    def answered(self, site: str, reply: Message) -> None:
        """The answer is there."""
        epsilon = getattr(reply, "epsilon", None)
        more = {} if epsilon is None else {"epsilon": epsilon}
        kind: str = type(reply).model_fields["kind"].default  # it may have told of its work on the way
        self._heard(site, reply, state="done", stage=kind.removesuffix("-reply"), refusal=None, **NO_WORK, **more)

    def refused(self, site: str, failure: Failure) -> None:
        """The site said no, or not yet."""
        state: Doing = HELD.get(failure.code, "refused")
        self._heard(site, failure, state=state, **NO_WORK, refusal=f"{failure.code} {failure.title}")

    def missing(self, site: str, state: Literal["absent", "late"], why: str) -> None:
        """Nothing came of it; one that is late is still at work."""
        work = {} if state == "late" else NO_WORK
        self._site(site, state=state, refusal=why, **work)

    def wait(self, sites: Mapping[str, str]) -> None:
        """The run is paused for these sites, and why for each; goes on where there are none."""
        why = (
            "waits for " + "; ".join(f"{site} ({reason})" for site, reason in sorted(sites.items())) if sites else None
        )
        if why != self.state.paused:
            self.state.paused = why
            self._observer(Event("paused" if why else "goes on", 0, 0, why or ""))
            self._changed()

    def round(self, number: int, took: Mapping[str, int], seconds: list[float]) -> None:
        """A round begins.

        Args:
            number: from 1.
            took: rounds taken part in, by site.
            seconds: of each earlier round that was measured.
        """
        self.state.round = number
        left = self.state.rounds - number + 1
        expected = timedelta(seconds=round(left * median(seconds))) if seconds else None
        self.state.expected_end = None if expected is None else _now() + expected
        for site, state in self.state.sites.items():
            state.rounds = took.get(site, 0)
        self._changed()

    def kept(self, participants: Iterable[str]) -> None:
        """The round is on disk."""
        for site in participants:
            self._site(site, rounds=self.state.sites[site].rounds + 1)
        if self.state.round == self.state.rounds:
            self.state.expected_end = None
        self._changed()

    def end(self, how: str) -> None:
        """The run is over; what it says is on disk when this returns."""
        self.state.ended, self.state.paused = how, None
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._write()

    def _heard(self, site: str, message: Message, **changes: Any) -> None:
        self._site(site, last_contact=_now(), version=message.version, **changes)

    def _site(self, site: str, **changes: Any) -> None:
        if site in self.state.sites:
            self.state.sites[site] = self.state.sites[site].model_copy(update=changes)
            self._changed()

    def _changed(self) -> None:
        if self._path is None:
            return
        with self._lock:
            left = self._written + INTERVAL_S - time.monotonic()
            if left <= 0 and self._timer is None:
                self._write()
            elif self._timer is None:
                self._timer = threading.Timer(left, self._due)
                self._timer.daemon = True
                self._timer.start()

    def _due(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer = None
                self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        self._written = time.monotonic()
        self.state.written = _now()
        part = self._path.with_name(self._path.name + ".part")
        part.write_text(self.state.model_dump_json(indent=1) + "\n", encoding="utf-8")
        part.replace(self._path)  # no flush: it is looked at, nothing goes on from it


def _heard_before(state: RunState | None, site: str) -> dict[str, Any]:
    """What does not end with the process that heard it."""
    if state is None or site not in state.sites:
        return {}
    return state.sites[site].model_dump(include={"last_contact", "version", "epsilon"})


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
