"""Answers that are kept at the site, and what becomes of them when they are asked for again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedloupe.messages import decode
from fedloupe_client.gate import (
    AnswerDamaged,
    Gate,
)
from fedloupe_client.gate.decisions import pause
from fedloupe_client.gate.errors import CoordinatorUnknown, GateFault, Paused


def lines(home):
    return [json.loads(line) for line in (home / "gate" / "audit.jsonl").read_text().splitlines()]


class TestStoredAnswers:
    def test_are_the_same_bytes_after_a_restart(self, gate, ask, trained, home):
        request = ask("train")
        assert gate.stored_answer(request) is None
        blob = gate.release(trained(request), request)
        again = Gate(home, "north")
        assert again.stored_answer(ask("train")) == blob
        assert (lines(home)[-1]["direction"], lines(home)[-1]["outcome"]) == ("out", "repeated")
        assert again.stored_answer(ask("train", weights=np.ones(5, np.float32))) is None
        assert again.stored_answer(ask("train", run="run-1/without-south")) is None

    def test_with_merged_cells_are_the_same_again(self, gate, ask, scored):
        request = ask("evaluate")
        counts = np.zeros(20, np.int64)
        counts[[4, 8, 12]] = (2, 3, 5)  # merged once, and merged twice, are not the same
        blob = gate.release(scored(request, positives_by_score=counts), request)
        assert decode(blob).positives_by_score.tolist() != counts.tolist()
        assert gate.stored_answer(request) == blob

    def test_leave_no_more_than_new_ones_where_trust_ended_or_the_site_is_paused(self, gate, ask, trained, home):
        request = ask("train")
        gate.release(trained(request), request)
        with pytest.raises(CoordinatorUnknown):
            gate.stored_answer(request, coordinator="ab" * 32)
        pause(home, by="officer", reason="a check")
        with pytest.raises(Paused):
            gate.stored_answer(request)
        assert lines(home)[-1]["outcome"] == Paused.code
        assert gate.stored_answer(request, summed=True), "a term of a sum: it is looked at when it is masked"

    def test_that_are_damaged_are_not_sent(self, gate, ask, trained, home):
        request = ask("train")
        gate.release(trained(request), request)
        (path,) = (home / "gate" / "answers").rglob("*.safetensors")
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(AnswerDamaged):
            gate.stored_answer(request)

    def test_leave_no_half_written_file(self, gate, ask, trained, home, monkeypatch):
        def crash(*_args):
            raise OSError("power cut")

        request = ask("train")
        monkeypatch.setattr("fedloupe_client.gate.runs.write_atomic", crash)
        with pytest.raises(GateFault, match="power cut"):
            gate.release(trained(request), request)
        assert lines(home)[-1]["outcome"] == GateFault.code
        assert [p for p in (home / "gate" / "answers").rglob("*") if p.is_file()] == []
