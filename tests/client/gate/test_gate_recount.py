"""`fedloupe-site ledger`: every epsilon again by two accountants, and a word where something does not fit."""

from __future__ import annotations

import json
import sqlite3

import pytest
from typer.testing import CliRunner

from fedloupe.privacy import Spend, epsilon, renyi_epsilon
from fedloupe_client.cli import app
from fedloupe_client.gate import Ledger, LedgerDamaged
from fedloupe_client.gate import recount as module
from fedloupe_client.gate.chain import Chain
from fedloupe_client.gate.recount import recount

DELTA = 1e-5
A, B = "a" * 64, "b" * 64
RUNNER = CliRunner()


@pytest.fixture
def home(tmp_path):
    (tmp_path / "site.yaml").write_text(
        "site: north\nsource: {format: table, root: ., clinical: {file: t.csv}, features: t.csv}\n"
    )
    (tmp_path / "policy.yaml").write_text("epsilon_budget: 8\n")
    ledger = Ledger(tmp_path)
    for number in (1, 2):
        ledger.confirm(ledger.intend("first", number, A, Spend(6.0, 0.25, 8), 8.0, DELTA))
    ledger.intend("second", 1, B, Spend(9.0, 0.1, 20), 8.0, DELTA)
    return tmp_path


def forged(home, monkeypatch, **values):
    """The second row's record with other values, hashes and database made to fit: by somebody who can write both."""
    lines = [json.loads(line) for line in (home / "gate/ledger.jsonl").read_text().splitlines()]
    events = [{k: v for k, v in line.items() if k not in ("sequence", "time", "previous")} for line in lines]
    events[2] |= values
    for name in ("ledger.jsonl", "ledger.head", "ledger.sqlite"):
        (home / "gate" / name).unlink()
    record = Ledger(home).record
    assert isinstance(record, Chain)
    for event in events:
        record.append(event)


class TestRecount:
    def test_gives_the_totals_of_both_accountants_and_of_each_study(self, home):
        found = recount(home)
        spends = [Spend(6.0, 0.25, 16), Spend(9.0, 0.1, 20)]
        assert found.sound and len(found.rows) == 3
        assert found.total.prv == epsilon(spends, DELTA)
        assert found.total.renyi == pytest.approx(renyi_epsilon(spends, DELTA), rel=1e-12)
        assert found.studies[B].prv == epsilon(spends[1:], DELTA)
        assert 0 < found.total.apart < 0.25

    def test_an_epsilon_that_its_mechanisms_do_not_give_is_named(self, home, monkeypatch):
        forged(home, monkeypatch, epsilon=0.01)
        (problem,) = recount(home).problems
        assert problem.startswith("row 2: the record says 0.0100, its mechanisms give")
        assert recount(home, every_row=False).sound  # the total comes from the mechanisms, and is right

    def test_more_noise_than_the_epsilons_speak_of_is_named_in_every_later_row(self, home, monkeypatch):
        forged(home, monkeypatch, noise_multiplier=60.0)
        assert [p[:5] for p in recount(home).problems] == ["row 2", "row 3"]

    @pytest.mark.parametrize(("share", "says"), [(0.1, "too far below"), (3.0, "above")])
    def test_an_accountant_that_tells_far_too_little_or_too_much_is_named(self, home, monkeypatch, share, says):
        """A fourth row that brings the total to about 8."""
        Ledger(home).intend("third", 1, B, Spend(1.8, 1 / 7, 240), 100.0, DELTA)
        monkeypatch.setattr(module, "epsilon", lambda spends, delta: share * epsilon(spends, delta))
        assert any(f"{says} the second accountant's bound" in problem for problem in recount(home).problems)

    @pytest.mark.parametrize(
        "spend", [Spend(100.0, 0.1, 1), Spend(1000.0, 1.0, 1), Spend(0.5, 0.001, 1), Spend(0.6, 0.001, 40)]
    )
    def test_odd_mechanisms_raise_no_false_alarm(self, spend):
        assert module.Epsilon.of((spend,), DELTA).wrong == ""

    def test_rows_that_nothing_vouches_for_are_counted(self, home):
        """The record deleted, and the database made to look like one from before there was any."""
        for name in ("ledger.jsonl", "ledger.head"):
            (home / "gate" / name).unlink()
        with pytest.raises(LedgerDamaged, match="lacks row 1"):
            recount(home)
        connection = sqlite3.connect(home / "gate/ledger.sqlite")
        connection.execute("PRAGMA user_version = 0")
        connection.close()
        assert recount(home).unchecked == 3

    def test_looking_writes_nothing(self, home):
        (home / "gate/ledger.sqlite").unlink()
        before = {path.name: path.read_bytes() for path in (home / "gate").iterdir()}
        assert len(recount(home).rows) == 3
        assert {path.name: path.read_bytes() for path in (home / "gate").iterdir()} == before

    def test_a_budget_that_was_passed_is_named(self, home):
        (home / "policy.yaml").write_text("epsilon_budget: 0.5\n")
        assert any("the policy's budget is 0.5" in problem for problem in recount(home).problems)

    def test_where_nothing_was_spent_there_is_nothing_wrong(self, tmp_path):
        found = recount(tmp_path)
        assert found.sound and found.rows == () and found.total.prv == 0.0
        assert not (tmp_path / "gate").exists()


class TestCommands:
    def test_show_prints_rows_and_both_bounds(self, home):
        done = RUNNER.invoke(app, ["ledger", "show", str(home), "--json"])
        content = json.loads(done.stdout)
        assert done.exit_code == 0
        assert [row["entry"] for row in content["rows"]] == [1, 2, 3]
        assert content["spent"]["prv"] < content["spent"]["renyi"] and content["budget"] == 8
        words = RUNNER.invoke(app, ["ledger", "show", str(home)], env={"COLUMNS": "200"}).stdout
        assert "spent" in words and "no, counts" in words

    def test_verify_succeeds_where_all_fits_and_fails_where_it_does_not(self, home, monkeypatch):
        assert RUNNER.invoke(app, ["ledger", "verify", str(home)]).exit_code == 0
        forged(home, monkeypatch, epsilon=0.01)
        assert RUNNER.invoke(app, ["ledger", "verify", str(home)]).exit_code == 1

    def test_a_database_that_lies_is_an_error_in_words(self, home):
        connection = sqlite3.connect(home / "gate/ledger.sqlite")
        connection.execute("DROP TRIGGER keep")
        connection.execute("DELETE FROM spends WHERE entry = 1")
        connection.commit()
        connection.close()
        done = RUNNER.invoke(app, ["ledger", "verify", str(home), "--json"])
        assert done.exit_code != 0 and "FL-516" in done.output

    def test_export_writes_what_a_keeper_of_copies_needs_and_no_patient(self, home, tmp_path):
        target = tmp_path / "copy.json"
        assert RUNNER.invoke(app, ["ledger", "export", str(home), str(target)]).exit_code == 0
        content = json.loads(target.read_text())
        last = json.loads((home / "gate/ledger.jsonl").read_text().splitlines()[-1])
        assert content["head"]["sequence"] == last["sequence"] == 4
        kinds = {"site", "delta", "budget", "spent", "studies", "head", "unchecked", "problems", "rows"}
        assert set(content) == kinds

    @pytest.mark.parametrize("name", ["gate/ledger.jsonl", "site.yaml", "nowhere/copy.json"])
    def test_export_takes_no_files_place_and_names_what_it_cannot_write(self, home, name):
        before = (home / "gate/ledger.jsonl").read_bytes()
        done = RUNNER.invoke(app, ["ledger", "export", str(home), str(home / name)])
        assert done.exit_code != 0 and "FL-520" in done.output
        assert (home / "gate/ledger.jsonl").read_bytes() == before
