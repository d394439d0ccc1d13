"""The description from sums over sites against the stacked patients, also where a site tells nothing of the outcome."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.messages import SummaryReply
from fedloupe.statistics import Moments
from fedloupe.statistics.sketch import BUCKETS
from fedloupe_server.statistics.description import describe
from summed import added

HEADER = {"version": "0", "fingerprint": "0" * 64, "run": "test", "site": "north"}


def summary(values: np.ndarray, event: np.ndarray, *, tells: bool = True) -> SummaryReply:
    """A site's exact sums; where it may not tell of the outcome, what its gate leaves of them."""
    some, told = Moments.of(values[event & tells]), Moments.of(values[: len(values) * tells])
    return SummaryReply(
        **{**HEADER, "patients": len(values), "events": int(event.sum()), **vars(Moments.of(values))},
        **{f"told_{name}": array for name, array in vars(told).items()},
        **{"event_count": some.count, "event_total": some.total},
    )


@pytest.fixture(scope="module")
def sites() -> list[tuple[np.ndarray, np.ndarray]]:
    """Three synthetic sites; the second column is higher with the event, and is missing in some."""
    rng, found = np.random.default_rng(3), []
    for number, size in enumerate((30, 44, 25)):
        event = rng.random(size) < 0.4
        values = rng.standard_normal((size, 2)) + number + np.outer(event, [0, 1.5])
        values[rng.random(size) < 0.1, 1] = np.nan
        found.append((values, event))
    return found


def rows(sites, silent: tuple[int, ...] = ()):
    replies = [summary(*site, tells=place not in silent) for place, site in enumerate(sites)]
    return describe(("one", "two"), added(replies), np.zeros((2, BUCKETS), np.int64))


def by_hand(sites, column: int) -> tuple[float, int]:
    values, event = (np.concatenate(parts) for parts in zip(*sites, strict=True))
    there = np.isfinite(values[:, column])
    return np.corrcoef(values[there, column], event[there])[0, 1], int(there.sum())


@pytest.mark.parametrize("column", [0, 1])
class TestOverSites:
    def test_mean_deviation_and_correlation_are_those_of_the_stacked_patients(self, sites, column):
        row, stacked = rows(sites)[column], np.concatenate([values for values, _ in sites])[:, column]
        assert (row.patients, row.missing) == (np.isfinite(stacked).sum(), np.isnan(stacked).sum())
        assert (row.mean, row.sd) == (pytest.approx(np.nanmean(stacked)), pytest.approx(np.nanstd(stacked, ddof=1)))
        correlation, patients = by_hand(sites, column)
        assert (row.correlation, row.correlated) == (pytest.approx(correlation), patients)

    def test_the_correlation_is_over_the_sites_that_tell_of_the_outcome(self, sites, column):
        row, whole = rows(sites, silent=(1,))[column], rows(sites)[column]
        correlation, patients = by_hand([sites[0], sites[2]], column)
        assert (row.correlation, row.correlated) == (pytest.approx(correlation), patients)
        assert (row.mean, row.sd, row.patients) == (whole.mean, whole.sd, whole.patients)

    def test_there_is_none_where_no_site_tells(self, sites, column):
        row = rows(sites, silent=(0, 1, 2))[column]
        assert (row.correlation, row.correlated) == (None, 0)
