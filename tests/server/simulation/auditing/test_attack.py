"""The ranking of members against others, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fedloupe_server.simulation.auditing import Attack


def test_the_area_is_scikit_learns_of_smaller_losses_ties_and_all():
    rng = np.random.default_rng(2)
    members, others = np.round(rng.exponential(0.5, 80), 1), np.round(rng.exponential(0.7, 50), 1)
    found = Attack.of(members, others)
    truth = np.repeat([1, 0], [80, 50])
    assert found.auc == pytest.approx(roc_auc_score(truth, -np.concatenate([members, others])), abs=1e-12)
    assert (found.members, found.others) == (80, 50) and found.low < found.auc < found.high


def test_members_are_caught_below_the_limit_of_false_alarms():
    others = np.linspace(0, 1, 99)  # the fifth smallest of 99: 5 of 100
    found = Attack.of(np.array([0.01, 0.02, 0.04, 0.0409, 0.9]), others)
    assert found.caught == pytest.approx(3 / 5)


@pytest.mark.parametrize("size", [19, 25, 39, 60])
def test_guessing_catches_no_more_than_one_in_twenty(size):
    """Members and others from one distribution, 2,000 times; four standard errors of the mean are 0.01 at most."""
    rng = np.random.default_rng(size)
    caught = [Attack.of(rng.random(40), rng.random(size)).caught for _ in range(2000)]
    assert np.mean(caught) <= 0.05 + 0.01


def test_too_few_others_give_none():
    assert Attack.of(np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.4, 0.5])).caught is None
