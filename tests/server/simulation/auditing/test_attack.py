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


def test_members_are_caught_below_the_limit_that_one_in_twenty_others_is_below():
    others = np.linspace(0, 1, 101)  # 5 % lie below 0.05
    found = Attack.of(np.array([0.01, 0.02, 0.049, 0.06, 0.9]), others)
    assert found.caught == pytest.approx(3 / 5)
