"""The privacy ledger: what every run of every study has spent on this site's patients.

    entry = Ledger(home).intend(run, round, fingerprint, Spend(3.5, 0.25, 8), budget=10, delta=1e-5)
    ...train...     # `intend` raised BudgetExceeded where the budget does not cover it
    Ledger(home).confirm(entry)

A row is on disk before training begins and counts from then on, confirmed or not: a crash never gives budget back.
Rows stand in `gate/ledger.sqlite`, and as events in a hash-linked record beside it, `gate/ledger.jsonl` (`gate.chain`).
The record is written first: what a crash kept from the database counts from there, and is put in before the next spend.
A database that holds a row more than its record, or another one, is damaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fedloupe.privacy import Spend, epsilon
from fedloupe_client.gate.chain import Chain, Line, Reading
from fedloupe_client.gate.disk import gate_folder
from fedloupe_client.gate.errors import BudgetExceeded, LedgerDamaged

# Rows are never removed, and change once: from planned to confirmed. The database itself refuses the rest.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS spends (
    entry INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    study TEXT NOT NULL,
    noise_multiplier REAL NOT NULL CHECK (noise_multiplier > 0),
    sampling_rate REAL NOT NULL CHECK (sampling_rate > 0 AND sampling_rate <= 1),
    steps INTEGER NOT NULL CHECK (steps >= 1),
    confirmed INTEGER NOT NULL DEFAULT 0 CHECK (confirmed IN (0, 1))
) STRICT;
CREATE TRIGGER IF NOT EXISTS keep BEFORE DELETE ON spends
    BEGIN SELECT RAISE(ABORT, 'rows of the ledger are never deleted'); END;
CREATE TRIGGER IF NOT EXISTS fixed
    BEFORE UPDATE OF entry, time, run, round, study, noise_multiplier, sampling_rate, steps ON spends
    BEGIN SELECT RAISE(ABORT, 'rows of the ledger are never changed'); END;
CREATE TRIGGER IF NOT EXISTS once BEFORE UPDATE OF confirmed ON spends WHEN NEW.confirmed < OLD.confirmed
    BEGIN SELECT RAISE(ABORT, 'a confirmed row stays confirmed'); END;
"""
_CHEAPER = "train fewer rounds or with more noise, or let the security officer raise the budget"
_SPEND = ("entry", "run", "round", "study", "noise_multiplier", "sampling_rate", "steps")
_COLUMNS = "entry, time, run, round, study, noise_multiplier, sampling_rate, steps, confirmed"
_EVENT = frozenset({"event", *_SPEND, "epsilon", "delta", "budget"})
_RESTORE = "restore ledger.sqlite, ledger.jsonl and ledger.head from one copy; never start an empty ledger"


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One planned or finished spend.

    Attributes:
        entry: number, from 1.
        time: UTC, ISO 8601.
        run: name of the run.
        round: round of the run.
        study: fingerprint.
        spend: noise, sampling rate, steps.
        confirmed: whether the answer was stored; it counts either way.
    """

    entry: int
    time: str
    run: str
    round: int
    study: str
    spend: Spend
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What is spent, and what will be when a run has ended.

    Attributes:
        spent: epsilon of all rows so far.
        after: epsilon of these and the rounds ahead.
        rounds: ahead.
    """

    spent: float
    after: float
    rounds: int


class Ledger:
    """One site's ledger; safe among threads and processes.

    Args:
        home: the site's home folder.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self.record = Chain(home, "ledger", fields=_EVENT, damaged=LedgerDamaged, torn=_torn)

    def entries(self) -> tuple[LedgerEntry, ...]:
        """All rows, oldest first; none where there are no files. Looking writes nothing.

        Raises:
            LedgerDamaged: the file is not a ledger, or not that of its record, or cannot be opened.
        """
        return self.look()[0]

    def look(self) -> tuple[tuple[LedgerEntry, ...], Reading]:
        """The rows and the record that they agree with, at one moment; see `entries`."""
        with self._saying():
            held: tuple[LedgerEntry, ...] = ()
            begun = False
            if self._path.exists():
                address = f"{self._path.resolve().as_uri()}?mode=rw"
                with closing(sqlite3.connect(address, uri=True, timeout=120, isolation_level=None)) as connection:
                    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'spends'").fetchone():
                        connection.execute("BEGIN")
                        held, begun = _rows(connection), _has_record(connection)
                        connection.execute("COMMIT")
            record = self.record.sound()  # after the rows: whoever spends writes the record first
            return self._agreed(held, begun, record.lines), record

    def spends(self, study: str | None = None) -> tuple[Spend, ...]:
        """What was spent, planned rows included; of one study's fingerprint, or of all."""
        return tuple(row.spend for row in self.entries() if study in (None, row.study))

    def spent(self, delta: float) -> float:
        """Epsilon spent so far by all runs of all studies, computed afresh from the rows.

        Args:
            delta: at which epsilon is told.
        """
        return epsilon(self.spends(), delta)

    def intend(self, run: str, round: int, study_fingerprint: str, spend: Spend, budget: float, delta: float) -> int:
        """Write down a spend before training; it counts from here on.

        Every call is a spend of its own: a repeated request is met with its stored answer (`Gate.intend` sees to that),
        and a round begun again after a crash, without one, is paid again, because its first noise may have been seen.

        Args:
            run: name of the run.
            round: round of the run.
            study_fingerprint: of the approved study.
            spend: what this round will do.
            budget: epsilon that everything together may reach.
            delta: at which the budget is counted.

        Returns:
            The row's number, for `confirm`.

        Raises:
            BudgetExceeded: the total would pass the budget; no row is written.
            LedgerDamaged: the files cannot be read or written.
        """
        with self._transaction() as connection:
            before = tuple(row.spend for row in _rows(connection))
            after = epsilon((*before, spend), delta)
            if not after <= budget:
                raise BudgetExceeded(
                    f"spent so far {epsilon(before, delta):.3f}, this round would bring it to {after:.3f}, "
                    f"the budget is {budget:g} (epsilon at delta {delta:g})",
                    where=f"run {run}, round {round}",
                    remedy=_CHEAPER,
                )
            values = (run, round, study_fingerprint, spend.noise_multiplier, spend.sampling_rate, spend.steps)
            line = dict(zip(_SPEND, (len(before) + 1, *values), strict=True))
            _insert(connection, self.record.append(_event(line, after, delta, budget)))
        return len(before) + 1

    def check_plan(self, run: str, spend: Spend, rounds: int, budget: float, delta: float) -> None:
        """The budget covers the rest of a run; writes nothing.

        Args:
            run: name of the run; its confirmed rounds are not planned again.
            spend: what each round will do.
            rounds: of the run.
            budget: epsilon that everything together may reach.
            delta: at which the budget is counted.

        Raises:
            BudgetExceeded: the run would end in a refused round.
        """
        plan = self.plan(run, spend, rounds, delta)
        if plan.rounds and not plan.after <= budget:
            raise BudgetExceeded(
                f"spent so far {plan.spent:.3f}, the {plan.rounds} rounds ahead would bring it to {plan.after:.3f}, "
                f"the budget is {budget:g} (epsilon at delta {delta:g})",
                where=f"run {run}",
                remedy=_CHEAPER,
            )

    def plan(self, run: str, spend: Spend, rounds: int, delta: float) -> Plan:
        """Epsilon now and at the end of a run, see `check_plan`; writes nothing.

        Raises:
            LedgerDamaged: the file is not a ledger.
        """
        rows = self.entries()
        left = max(0, rounds - len({row.round for row in rows if row.run == run and row.confirmed}))
        before = tuple(row.spend for row in rows)
        ahead = (Spend(spend.noise_multiplier, spend.sampling_rate, spend.steps * left),) if left else ()
        return Plan(epsilon(before, delta), epsilon((*before, *ahead), delta), left)

    def confirm(self, entry: int) -> None:
        """Note that the answer of this row is stored.

        Raises:
            LedgerDamaged: no such row.
        """
        with self._transaction() as connection:
            confirmed = {row.entry: row.confirmed for row in _rows(connection)}
            if entry not in confirmed:
                raise LedgerDamaged(f"no row {entry}", where=str(self._path), remedy=_RESTORE)
            if not confirmed[entry]:
                self.record.append(_confirmation(entry))
                connection.execute("UPDATE spends SET confirmed = 1 WHERE entry = ?", (entry,))

    @property
    def _path(self) -> Path:
        return self._home / "gate" / "ledger.sqlite"

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time, from reading the rows to the committed insert: two rounds cannot share a remainder.

        Database and record are first brought to the same rows.
        """
        with self._saying():
            gate_folder(self._home)
            # Two minutes: another round's accounting may hold the lock for some seconds.
            with closing(sqlite3.connect(self._path, timeout=120, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = EXTRA")
                connection.executescript(_SCHEMA)
                connection.execute("BEGIN IMMEDIATE")
                self._catch_up(connection)
                yield connection
                connection.execute("COMMIT")

    @contextmanager
    def _saying(self) -> Iterator[None]:
        """What SQLite and the disk say, as an error that names the ledger."""
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerDamaged(
                f"SQLite says: {error}", where=str(self._path), remedy=f"check permission and disk; {_RESTORE}"
            ) from None
        except OSError as error:
            raise LedgerDamaged(
                f"it cannot be read or written: {error.strerror or error}",
                where=error.filename or str(self.record.path),
                remedy="check permission and disk, and run this as the site's user; what was written counts",
            ) from None

    def _agreed(self, rows: tuple[LedgerEntry, ...], begun: bool, lines: tuple[Line, ...]) -> tuple[LedgerEntry, ...]:
        """The rows of the database, and those that a crash left in the record alone.

        Args:
            rows: of the database.
            begun: the database says that it has a record.
            lines: of the record.

        Raises:
            LedgerDamaged: they differ in a row, or the record lacks one.
        """
        intended = [line for line in lines if line["event"] == "intended"]
        confirmed = {line["entry"] for line in lines if line["event"] == "confirmed"}
        if [line["entry"] for line in intended] != list(range(1, len(intended) + 1)):
            raise self._differs("its record skips a row")
        older = _older(rows, begun, intended)
        for row, line in zip(rows, intended, strict=False):
            unknown = row.confirmed and row.entry not in confirmed and not older
            if _spent(row) != {name: line[name] for name in _SPEND} or unknown:
                raise self._differs(f"row {row.entry} is not what its record says")
        if len(rows) > len(intended) and not older:
            raise self._differs(f"its record lacks row {len(intended) + 1}")
        known = tuple(replace(row, confirmed=row.confirmed or row.entry in confirmed) for row in rows)
        return known + tuple(_entry(line, line["entry"] in confirmed) for line in intended[len(rows) :])

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Put into the database what its record has beyond it, and into the record the rows of an older ledger."""
        rows, begun, lines = _rows(connection), _has_record(connection), self.record.sound().lines
        intended = [line for line in lines if line["event"] == "intended"]
        agreed = self._agreed(rows, begun, lines)
        if _older(rows, begun, intended):
            confirmed = {line["entry"] for line in lines if line["event"] == "confirmed"}
            for row in rows[len(intended) :]:
                self.record.append(_event(_spent(row), None, None, None))
            for row in rows:
                if row.confirmed and row.entry not in confirmed:
                    self.record.append(_confirmation(row.entry))
        for line in intended[len(rows) :]:
            _insert(connection, line)
        for row in agreed:
            if row.confirmed:
                connection.execute("UPDATE spends SET confirmed = 1 WHERE entry = ? AND confirmed = 0", (row.entry,))
        if not begun:
            connection.execute("PRAGMA user_version = 1")

    def _differs(self, what: str) -> LedgerDamaged:
        return LedgerDamaged(what, where=str(self._path), remedy=_RESTORE)


def _rows(connection: sqlite3.Connection) -> tuple[LedgerEntry, ...]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM spends ORDER BY entry").fetchall()
    return tuple(
        LedgerEntry(entry, time, run, round_, study, Spend(noise, rate, steps), bool(confirmed))
        for entry, time, run, round_, study, noise, rate, steps, confirmed in rows
    )


def _has_record(connection: sqlite3.Connection) -> bool:
    """Whether the database says that a record stands beside it: only one from before there was any may lack it."""
    return bool(connection.execute("PRAGMA user_version").fetchone()[0])


def _older(rows: tuple[LedgerEntry, ...], begun: bool, intended: list[Line]) -> bool:
    """A ledger from before there was a record, or while that is begun for it: its lines tell no epsilon."""
    return bool(rows) and not begun and all(line["epsilon"] is None for line in intended)


def _entry(line: Line, confirmed: bool) -> LedgerEntry:
    spend = Spend(line["noise_multiplier"], line["sampling_rate"], line["steps"])
    return LedgerEntry(line["entry"], line["time"], line["run"], line["round"], line["study"], spend, confirmed)


def _spent(row: LedgerEntry) -> Line:
    spend = row.spend
    values = (row.entry, row.run, row.round, row.study, spend.noise_multiplier, spend.sampling_rate, spend.steps)
    return dict(zip(_SPEND, values, strict=True))


def _event(spent: Line, after: float | None, delta: float | None, budget: float | None) -> Line:
    """An intended spend; `after` is the epsilon of all rows with it, at `delta`, within `budget`."""
    return {"event": "intended", **spent, "epsilon": after, "delta": delta, "budget": budget}


def _confirmation(entry: int) -> Line:
    return {**dict.fromkeys(_EVENT), "event": "confirmed", "entry": entry}


def _torn(size: int, digest: str) -> Line:
    return {**dict.fromkeys(_EVENT), "event": f"torn: {size} bytes, SHA-256 {digest}"}


def _insert(connection: sqlite3.Connection, line: Line) -> None:
    columns = ("time", *_SPEND)
    marks = ", ".join("?" * len(columns))
    values = [line[name] for name in columns]
    connection.execute(f"INSERT INTO spends ({', '.join(columns)}) VALUES ({marks})", values)
