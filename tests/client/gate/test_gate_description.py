"""A description at the gate: asked only where the study has one, and without small cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedloupe.messages import BucketsReply, CovarianceReply, SummaryReply, decode, encode
from fedloupe.statistics import Moments, Products, ring
from fedloupe.statistics.sketch import BUCKETS
from fedloupe.study import Study
from fedloupe_client.gate import (
    CohortTooSmall,
    Gate,
    NotInStudy,
    Policy,
    ReplyRefused,
    RoleRefused,
    approve,
    describing,
)

KINDS = ("summary", "buckets", "covariance")


@pytest.fixture
def described(make_study, home) -> Study:
    study = make_study(evaluation={"describe": True})
    approve(home, study, by="officer")
    return study


def header(request: Any) -> dict[str, Any]:
    return {name: getattr(request, name) for name in ("version", "fingerprint", "run", "site")}


def table() -> tuple[np.ndarray, np.ndarray]:
    """Thirty patients, ten with the event. Column 1 is known in two; column 2 in all but in one with the event."""
    values = np.random.default_rng(0).standard_normal((30, 3))
    values[2:, 1] = np.nan
    values[1:10, 2] = np.nan
    return values, np.arange(30) < 10


def summary(request: Any, **changes: Any) -> SummaryReply:
    values, event = table()
    some = Moments.of(values[event])
    sums = {**vars(Moments.of(values)), "event_count": some.count, "event_total": some.total}
    told = {f"told_{name}": array for name, array in vars(Moments.of(values)).items()}
    return SummaryReply(**{**header(request), "patients": 30, "events": 10, **sums, **told, **changes})


class TestAsked:
    @pytest.mark.parametrize("kind", KINDS)
    def test_where_the_study_has_one_and_the_site_trains(self, home, gate, ask, described, kind):
        gate.admit(encode(ask(kind, described)))
        with pytest.raises(NotInStudy, match="description"):
            gate.admit(encode(ask(kind)))
        with pytest.raises(RoleRefused):
            Gate(home, "coast").admit(encode(ask(kind, described, site="coast")))


class TestSmallCells:
    def test_columns_of_few_patients_are_absent_and_outcomes_of_few_are_not_told_apart(self, gate, ask, described):
        request = ask("summary", described)
        out = decode(gate.release(summary(request), request))
        assert out.count.tolist() == [30, 0, 21]
        assert (out.event_count.tolist(), out.told_count.tolist()) == ([10, 0, 0], [30, 0, 0])
        for name in ("told_total", "told_square", "event_total"):
            assert [sums.any() for sums in getattr(out, name)] == [True, False, False], name
        for name in ("total", "square"):
            assert [sums.any() for sums in getattr(out, name)] == [True, False, True], name

    def test_what_is_told_of_the_outcome_is_told_of_the_same_patients(self, gate, ask, described):
        """Sums over sites then pair each value's sums with the outcome of those whose site tells it."""
        request = ask("summary", described)
        out = decode(gate.release(summary(request), request))
        for name in ("count", "total", "square"):
            assert np.array_equal(getattr(out, f"told_{name}")[0], getattr(out, name)[0])

    def test_a_column_known_in_few_without_the_event_is_not_told_apart_either(self, gate, ask, described):
        request = ask("summary", described)
        out = decode(gate.release(summary(request, event_count=np.array([28, 0, 0])), request))
        assert (out.count[0], out.event_count[0], out.told_count[0]) == (30, 0, 0)
        assert not out.event_total.any() and not out.told_total.any() and not out.told_square.any()

    def test_pairs_known_in_few_patients_are_absent(self, gate, ask, described):
        request = ask("covariance", described)
        out = decode(gate.release(CovarianceReply(**header(request), **vars(Products.of(table()[0]))), request))
        assert out.count.tolist() == [[30, 0, 21], [0, 0, 0], [21, 0, 21]]
        for name in ("total", "square", "product"):
            assert not getattr(out, name)[1].any() and not getattr(out, name)[:, 1].any()
            assert getattr(out, name)[0, 2].any()

    def test_in_a_secure_sum_a_column_is_in_all_sums_or_in_none(self, ask, described):
        """Left out of one of two sums that are equal elsewhere, a site would show its own by their difference."""
        policy = Policy(minimum_cell=3)
        told = describing.protect(summary(ask("summary", described)), policy, secure=True)
        for name in ("count", "total", "square"):
            assert np.array_equal(getattr(told, f"told_{name}"), getattr(told, name))
        assert told.count.tolist() == [30, 0, 21] and told.event_count.tolist() == [10, 0, 1]
        values = table()[0]
        values[:, 1] = np.where(np.arange(30) < 5, 1.5, np.nan)  # known in five, of whom one has column 2 as well
        pairs = CovarianceReply(**header(ask("covariance", described)), **vars(Products.of(values)))
        assert describing.protect(pairs, policy).count[1, 2] == 0
        kept = describing.protect(pairs, policy, secure=True)
        assert kept.count.tolist() == [[30, 5, 21], [5, 5, 1], [21, 1, 21]]
        assert np.array_equal(kept.total, pairs.total)

    def test_small_buckets_are_merged(self, gate, ask, described):
        request = ask("buckets", described)
        counts = np.zeros((3, BUCKETS), np.int64)
        counts[0, [4, 5, 90, 200]], counts[1, [7, 9]] = (1, 2, 25, 2), (1, 1)
        out = decode(gate.release(BucketsReply(**header(request), counts=counts), request))
        assert out.counts.sum(axis=1).tolist() == [30, 0, 0]
        assert out.counts[0][out.counts[0] > 0].tolist() == [3, 27]

    def test_of_another_shape_or_too_small_a_cohort_do_not_leave(self, gate, ask, described):
        first, second = ask("summary", described), ask("buckets", described)
        spoilt = ({"square": ring.encode(np.ones(9))}, {"event_count": np.ones(3)})
        for changes in (*spoilt, {"told_square": ring.encode(np.ones(9))}, {"told_count": np.ones(3)}):
            with pytest.raises(ReplyRefused):
                gate.release(summary(first, **changes), first)
        with pytest.raises(ReplyRefused):
            gate.release(BucketsReply(**header(second), counts=np.zeros((3, 9999), np.int64)), second)
        with pytest.raises(CohortTooSmall):
            gate.release(summary(first, patients=19), first)
