"""The hash-linked record beside the ledger's database: neither loses a spend, each shows what befell the other."""

from __future__ import annotations

import errno
import json
import sqlite3
import subprocess
import sys

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant

from fedloupe.privacy import Spend, epsilon
from fedloupe_client.gate import Ledger, LedgerDamaged
from fedloupe_client.gate.chain import Chain

DELTA = 1e-5
SPEND = Spend(8.0, 0.25, 4)
A, B = "a" * 64, "b" * 64

# Forks children that spend as fast as they can, and kills each at a random instant. A child says a row's number once
# `intend` has returned, which is when a round would begin to train. What an epsilon is does not matter here.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import fedloupe_client.gate.ledger as ledger
from fedloupe.privacy import Spend
ledger.epsilon = lambda spends, delta: 0.001 * len(spends)
home, random = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
for trial in range(int(sys.argv[3])):
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:
        os.close(ours)
        book = ledger.Ledger(home)
        for number in range(1, 10_000):
            entry = book.intend(f"run-{trial}", number, "a" * 64, Spend(8.0, 0.25, 4), 1e9, 1e-5)
            os.write(theirs, b"%d " % entry)
            if number % 2:
                book.confirm(entry)
    os.close(theirs)
    said = b""
    for _ in range(random.randrange(4)):  # a busy disk must not leave it without a single spend
        said += os.read(ours, 65536)
    time.sleep(random.uniform(0.0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while part := os.read(ours, 65536):
        said += part
    os.close(ours)
    kept = len(ledger.Ledger(home).entries())
    print(trial, kept, *(int(word) for word in said.split()), flush=True)
"""


def lines(home):
    return [json.loads(line) for line in (home / "gate/ledger.jsonl").read_text().splitlines()]


def older(home):
    """The ledger as one was before there was a record."""
    for name in ("ledger.jsonl", "ledger.head"):
        (home / "gate" / name).unlink()
    connection = sqlite3.connect(home / "gate/ledger.sqlite")
    connection.execute("PRAGMA user_version = 0")
    connection.close()


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path)
    for number in (1, 2, 3):
        entry = made.intend("run", number, A, SPEND, 10.0, DELTA)
    made.confirm(entry)
    return made


class TestRecord:
    def test_says_what_was_spent_what_that_came_to_and_under_which_budget(self, ledger, tmp_path):
        first, second, third, confirmed = lines(tmp_path)
        assert [line["entry"] for line in (first, second, third, confirmed)] == [1, 2, 3, 3]
        assert confirmed["event"] == "confirmed" and first["event"] == "intended"
        spend = [second[name] for name in ("noise_multiplier", "sampling_rate", "steps")]
        assert spend == [8.0, 0.25, 4]
        assert second["epsilon"] == epsilon([Spend(8.0, 0.25, 8)], DELTA)
        assert (second["delta"], second["budget"]) == (DELTA, 10.0)
        assert ledger.record.problems() == []

    def test_confirming_twice_is_written_once(self, ledger, tmp_path):
        ledger.confirm(3)
        assert len(lines(tmp_path)) == 4

    def test_puts_back_the_database_that_is_gone(self, ledger, tmp_path):
        before = ledger.entries()
        (tmp_path / "gate/ledger.sqlite").unlink()
        after = Ledger(tmp_path).entries()
        assert [(row.spend, row.run, row.round, row.confirmed) for row in after] == [
            (row.spend, row.run, row.round, row.confirmed) for row in before
        ]

    def test_counts_a_spend_that_a_crash_kept_from_the_database(self, ledger, tmp_path):
        """The record is written before the database commits."""
        database = (tmp_path / "gate/ledger.sqlite").read_bytes()
        ledger.intend("run", 4, A, SPEND, 10.0, DELTA)
        (tmp_path / "gate/ledger.sqlite").write_bytes(database)
        assert len(Ledger(tmp_path).entries()) == 4
        assert Ledger(tmp_path).spent(DELTA) == epsilon([Spend(8.0, 0.25, 16)], DELTA)

    @pytest.mark.parametrize("written", range(5))
    def test_is_begun_for_a_ledger_that_had_none_and_goes_on_after_a_full_disk(
        self, ledger, tmp_path, monkeypatch, written
    ):
        """A ledger from before there was a record; the disk takes so many of its four lines at first."""
        older(tmp_path)
        append, room = Chain.append, [written]

        def full(chain, event):
            if not room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            room[0] -= 1
            return append(chain, event)

        assert len(Ledger(tmp_path).entries()) == 3  # looking begins nothing
        with monkeypatch.context() as disk:
            disk.setattr(Chain, "append", full)
            with pytest.raises(LedgerDamaged, match="No space"):
                ledger.intend("run", 4, A, SPEND, 10.0, DELTA)
        assert len(Ledger(tmp_path).entries()) == 3
        assert ledger.intend("run", 4, A, SPEND, 10.0, DELTA) == 4
        events = [(line["event"], line["entry"]) for line in lines(tmp_path)]
        assert events == [*(("intended", n) for n in (1, 2, 3)), ("confirmed", 3), ("intended", 4)]
        assert [row.confirmed for row in Ledger(tmp_path).entries()] == [False, False, True, False]

    def test_a_torn_line_was_no_spend(self, ledger, tmp_path):
        with (tmp_path / "gate/ledger.jsonl").open("ab") as file:
            file.write(b'{"budget":10')
        assert len(Ledger(tmp_path).entries()) == 3
        assert Ledger(tmp_path).intend("run", 4, A, SPEND, 10.0, DELTA) == 4
        torn, intended = [line["event"] for line in lines(tmp_path)][-2:]
        assert torn.startswith("torn: 12 bytes") and intended == "intended"
        assert ledger.record.problems() == []


class TestDamage:
    def spoil(self, path, before, after):
        content = path.read_text()
        assert before in content
        path.write_text(content.replace(before, after))

    def test_an_altered_line_stops_everything(self, ledger, tmp_path):
        self.spoil(tmp_path / "gate/ledger.jsonl", '"noise_multiplier":8.0', '"noise_multiplier":80.0')
        with pytest.raises(LedgerDamaged, match="altered"):
            ledger.intend("run", 4, A, SPEND, 10.0, DELTA)
        with pytest.raises(LedgerDamaged):
            ledger.spent(DELTA)

    def test_a_record_cut_short_stops_everything(self, ledger, tmp_path):
        path = tmp_path / "gate/ledger.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
        with pytest.raises(LedgerDamaged, match="does not end"):
            ledger.entries()

    def test_a_database_that_says_less_noise_was_used_stops_everything(self, ledger, tmp_path):
        connection = sqlite3.connect(tmp_path / "gate/ledger.sqlite")
        connection.execute("DROP TRIGGER fixed")
        connection.execute("UPDATE spends SET noise_multiplier = 80 WHERE entry = 2")
        connection.commit()
        connection.close()
        with pytest.raises(LedgerDamaged, match="row 2 is not what its record says"):
            ledger.entries()

    def test_a_record_that_is_gone_stops_everything(self, ledger, tmp_path):
        for name in ("ledger.jsonl", "ledger.head"):
            (tmp_path / "gate" / name).unlink()
        with pytest.raises(LedgerDamaged, match="lacks row 1"):
            ledger.entries()
        with pytest.raises(LedgerDamaged, match="lacks row 1"):
            ledger.intend("run", 4, A, SPEND, 10.0, DELTA)

    def test_files_that_may_not_be_opened_are_named(self, ledger, tmp_path, monkeypatch):
        def closed(chain):
            raise PermissionError(errno.EACCES, "Permission denied", str(chain.path))

        monkeypatch.setattr(Chain, "read", closed)
        with pytest.raises(LedgerDamaged, match=r"Permission denied.*ledger\.jsonl.*as the site's user"):
            ledger.entries()

    def test_a_database_with_a_row_too_many_stops_everything(self, ledger, tmp_path):
        connection = sqlite3.connect(tmp_path / "gate/ledger.sqlite")
        connection.execute(
            "INSERT INTO spends (time, run, round, study, noise_multiplier, sampling_rate, steps)"
            " VALUES ('2026', 'x', 1, 'y', 1, 0.5, 1)"
        )
        connection.commit()
        connection.close()
        with pytest.raises(LedgerDamaged, match="lacks row 4"):
            ledger.entries()


class TestComposition:
    def test_two_restarts_a_changed_noise_and_a_second_study_add_up_as_by_hand(self, tmp_path):
        """Twenty rounds of one study, stopped twice, the noise changed once; then six of another on these patients."""
        one, two, other = Spend(12.0, 0.25, 8), Spend(16.0, 0.25, 8), Spend(20.0, 0.1, 20)
        for rounds, spend in ((range(1, 8), one), (range(8, 13), one), (range(13, 21), two)):
            again = Ledger(tmp_path)  # a new process would hold nothing else
            for number in rounds:
                again.confirm(again.intend("first", number, A, spend, 10.0, DELTA))
            if rounds[-1] < 20:
                again.intend("first", rounds[-1] + 1, A, spend, 10.0, DELTA)  # begun, killed, and paid again
        for number in range(1, 7):
            Ledger(tmp_path).intend("second", number, B, other, 10.0, DELTA)
        by_hand = [Spend(12.0, 0.25, 8 * 14), Spend(16.0, 0.25, 8 * 8), Spend(20.0, 0.1, 20 * 6)]
        spent = Ledger(tmp_path).spent(DELTA)
        assert spent == pytest.approx(epsilon(by_hand, DELTA), abs=1e-9)
        assert spent == pytest.approx(by_google(by_hand), abs=0.012)  # PRV adds 0.01 for its own grid


def by_google(spends):
    accountant = PLDAccountant()
    for spend in spends:
        event = PoissonSampledDpEvent(spend.sampling_rate, GaussianDpEvent(spend.noise_multiplier))
        accountant.compose(event, spend.steps)
    return accountant.get_epsilon(DELTA)


class TestKilled:
    def test_at_fifty_random_instants_nothing_that_was_promised_is_lost(self, tmp_path):
        command = [sys.executable, "-c", KILLER, str(tmp_path), "7", "50"]
        found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        promised: set[int] = set()
        trials = [[int(word) for word in line.split()] for line in found.stdout.splitlines()]
        assert [trial[0] for trial in trials] == list(range(50))
        for _, kept, *said in trials:
            assert promised.isdisjoint(said)
            promised |= set(said)
            assert promised <= set(range(1, kept + 1))
            assert kept <= len(promised) + 50  # at most one a kill that was written and not yet said
        assert len(promised) > 50
        ledger = Ledger(tmp_path)
        rows = ledger.entries()
        assert [row.entry for row in rows] == list(range(1, len(rows) + 1))
        ledger.intend("after", 1, A, SPEND, 1e9, DELTA)
        assert ledger.record.problems() == []
