"""Every planned spend counts, whatever happens afterwards; the budget is refused in words before training."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading

import pytest

from fedloupe.privacy import Spend, epsilon
from fedloupe_client.gate import BudgetExceeded, Ledger, LedgerDamaged

DELTA = 1e-5
SPEND = Spend(4.0, 0.25, 4)
A, B = "a" * 64, "b" * 64

CHILD = """
import sys
from pathlib import Path
from fedloupe.privacy import Spend
from fedloupe_client.gate.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
for number in range(1, 10_000):
    print(ledger.intend("run", number, "a" * 64, Spend(40.0, 0.25, 4), 100.0, 1e-5), flush=True)
"""


class TestSpent:
    def test_is_nothing_at_first(self, tmp_path):
        assert Ledger(tmp_path).spent(DELTA) == 0.0

    def test_adds_up_all_runs_and_studies_confirmed_or_not(self, tmp_path):
        ledger = Ledger(tmp_path)
        for run, study in (("one", A), ("one", A), ("two", A), ("three", B)):
            entry = ledger.intend(run, 1, study, SPEND, 10.0, DELTA)
        ledger.confirm(entry)
        assert [row.confirmed for row in ledger.entries()] == [False, False, False, True]
        assert ledger.spent(DELTA) == epsilon([Spend(4.0, 0.25, 16)], DELTA)
        assert ledger.spends(B) == (SPEND,)

    def test_is_computed_from_the_rows_after_a_restart(self, tmp_path):
        Ledger(tmp_path).intend("run", 1, A, Spend(3.0, 1 / 7, 14), 10.0, DELTA)
        assert Ledger(tmp_path).spends() == (Spend(3.0, 1 / 7, 14),)

    def test_confirming_changes_nothing(self, tmp_path):
        ledger = Ledger(tmp_path)
        entry = ledger.intend("run", 1, A, SPEND, 10.0, DELTA)
        before = ledger.spent(DELTA)
        ledger.confirm(entry)
        ledger.confirm(entry)
        assert ledger.spent(DELTA) == before


class TestIntend:
    def test_refuses_in_words_what_the_budget_does_not_cover_and_writes_nothing(self, tmp_path):
        ledger = Ledger(tmp_path)
        one, two = (epsilon([Spend(4.0, 0.25, n)], DELTA) for n in (4, 8))
        ledger.intend("run", 1, A, SPEND, (one + two) / 2, DELTA)
        with pytest.raises(BudgetExceeded) as caught:
            ledger.intend("run", 2, A, SPEND, (one + two) / 2, DELTA)
        assert f"spent so far {one:.3f}, this round would bring it to {two:.3f}, the budget is" in caught.value.what
        assert len(ledger.entries()) == 1

    def test_a_study_planned_to_its_target_ends_within_it(self, tmp_path):
        ledger = Ledger(tmp_path)
        spend = Spend(3.486, 1 / 7, 140)
        for number in (1, 2):
            ledger.intend("run", number, A, spend, 3.0, DELTA)
        with pytest.raises(BudgetExceeded):
            ledger.intend("run", 3, A, Spend(3.486, 1 / 7, 14), 3.0, DELTA)

    def test_two_rounds_at_once_cannot_share_a_remainder(self, tmp_path):
        budget = epsilon([Spend(4.0, 0.25, 12)], DELTA)
        refused = []

        def spend(number):
            try:
                Ledger(tmp_path).intend("run", number, A, SPEND, budget, DELTA)
            except BudgetExceeded:
                refused.append(number)

        threads = [threading.Thread(target=spend, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(Ledger(tmp_path).entries()), len(refused)) == (3, 3)

    def test_counts_after_being_killed_before_the_answer(self, tmp_path):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(3)]
        child.kill()
        told += [int(x) for x in child.stdout.read().split("\n")[:-1]]
        child.wait()
        rows = Ledger(tmp_path).entries()
        assert told == list(range(1, len(told) + 1))
        assert len(rows) in (len(told), len(told) + 1)  # killed after the commit, before it was told
        assert not any(row.confirmed for row in rows)
        assert Ledger(tmp_path).spent(DELTA) == epsilon([row.spend for row in rows], DELTA) > 0


class TestCheckPlan:
    def test_refuses_a_run_that_would_end_beyond_the_budget_and_writes_nothing(self, tmp_path):
        ledger = Ledger(tmp_path)
        whole = epsilon([Spend(4.0, 0.25, 40)], DELTA)
        ledger.check_plan("run", SPEND, 10, whole, DELTA)
        with pytest.raises(BudgetExceeded, match="the 11 rounds ahead"):
            ledger.check_plan("run", SPEND, 11, whole, DELTA)
        assert ledger.entries() == ()

    def test_counts_what_other_runs_and_lost_rounds_spent(self, tmp_path):
        ledger = Ledger(tmp_path)
        whole = epsilon([Spend(4.0, 0.25, 40)], DELTA)
        ledger.confirm(ledger.intend("run", 1, A, SPEND, whole, DELTA))
        ledger.check_plan("run", SPEND, 10, whole, DELTA)  # nine are left
        with pytest.raises(BudgetExceeded):
            ledger.check_plan("another", SPEND, 10, whole, DELTA)
        ledger.intend("run", 2, A, SPEND, whole, DELTA)  # lost: round 2 will be paid again
        with pytest.raises(BudgetExceeded, match="the 9 rounds ahead"):
            ledger.check_plan("run", SPEND, 10, whole, DELTA)

    def test_has_nothing_to_refuse_in_a_finished_run(self, tmp_path):
        ledger = Ledger(tmp_path)
        ledger.confirm(ledger.intend("run", 1, A, SPEND, 10.0, DELTA))
        ledger.check_plan("run", SPEND, 1, 0.001, DELTA)


class TestRows:
    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM spends",
            "UPDATE spends SET noise_multiplier = 99",
            "UPDATE spends SET confirmed = 0",
            "UPDATE spends SET run = 'x'",
        ],
    )
    def test_cannot_be_deleted_or_changed(self, tmp_path, statement):
        ledger = Ledger(tmp_path)
        ledger.confirm(ledger.intend("run", 1, A, SPEND, 10.0, DELTA))
        connection = sqlite3.connect(tmp_path / "gate" / "ledger.sqlite")
        with pytest.raises(sqlite3.IntegrityError, match=r"never|stays"):
            connection.execute(statement)
        connection.close()

    def test_that_do_not_exist_cannot_be_confirmed(self, tmp_path):
        with pytest.raises(LedgerDamaged, match="no row 7"):
            Ledger(tmp_path).confirm(7)


class TestDamaged:
    def test_a_file_that_is_no_ledger_refuses_to_spend(self, tmp_path):
        ledger = Ledger(tmp_path)
        ledger.intend("run", 1, A, SPEND, 10.0, DELTA)
        (tmp_path / "gate" / "ledger.sqlite").write_bytes(b"not a database, " * 100)
        with pytest.raises(LedgerDamaged):
            ledger.intend("run", 2, A, SPEND, 10.0, DELTA)
        with pytest.raises(LedgerDamaged):
            ledger.spent(DELTA)
