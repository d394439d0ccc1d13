"""A policy may keep at home what is told of a scored split beside AUC, Brier score and the rates at the threshold."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.messages import decode
from fedloupe_client.gate.errors import PolicyInvalid
from fedloupe_client.gate.policy import load_policy

MORE = {"slope": 1.1, "slope_se": 0.2, "in_the_large": 0.1, "in_the_large_se": 0.2, "ece": 0.05}
SETS = {"covered": 0.9, "covered_se": 0.02, "single": 0.6, "beyond": 0.1}


@pytest.fixture
def leaves(gate, ask, scored, set_policy):
    """What leaves of a scored split under a policy with these metrics."""

    def release(*metrics):
        set_policy(metrics=list(metrics))
        request = ask("evaluate")
        return decode(gate.release(scored(request, **MORE, **SETS), request))

    return release


def test_all_of_it_leaves_by_default(gate, ask, scored):
    request = ask("evaluate")
    found = decode(gate.release(scored(request, **MORE, **SETS), request))
    assert all(getattr(found, name) == value for name, value in {**MORE, **SETS}.items())
    assert found.calibration and np.count_nonzero(found.positives_by_score) < 20


def test_without_any_the_rest_still_leaves(leaves):
    found = leaves()
    assert (found.auc, found.brier, found.accuracy) == (0.8, 0.15, 0.8)
    assert all(getattr(found, name) is None for name in {**MORE, **SETS})
    assert found.calibration == ()


def test_without_histograms_the_counts_lie_evenly_over_all_bins(leaves):
    found = leaves("calibration", "prediction")
    np.testing.assert_allclose(found.positives_by_score, 10 / 20)
    np.testing.assert_allclose(found.negatives_by_score, 30 / 20)
    assert found.slope == 1.1 and found.covered == 0.9


@pytest.mark.parametrize(("kept", "gone"), [("calibration", SETS), ("prediction", MORE)])
def test_each_is_kept_apart_from_the_others(leaves, kept, gone):
    found = leaves(kept, "histogram")
    assert all(getattr(found, name) is None for name in gone)
    assert np.count_nonzero(found.positives_by_score) < 20


def test_an_unknown_metric_refuses_everything(home, set_policy):
    set_policy(metrics=["patients"])
    with pytest.raises(PolicyInvalid):
        load_policy(home)
