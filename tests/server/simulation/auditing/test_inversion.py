"""One patient's gradient gives the patient away, exactly; noise of DP-SGD leaves nothing of it."""

from __future__ import annotations

import pytest

from fedloupe.privacy import SeededNoise
from fedloupe_server.simulation.auditing import invert
from fedloupe_server.simulation.demo import demo_study

GROUPS = ("shape", "t2w", "adc", "dce_pre", "dce_peak", "dce_late")


@pytest.fixture(scope="module")
def found():
    study = demo_study(1, epsilon=8.0)
    return invert(study, GROUPS, noise=1.64, source=SeededNoise(3))


def test_every_component_and_clinical_value_comes_back_exactly(found):
    assert found.values == 6 * demo_study(1, epsilon=8.0).model.components + 4
    assert found.error < 1e-4  # float32


def test_of_a_batch_something_comes_back_and_under_noise_nothing(found):
    """64 correlations of some 50 values: four standard errors of their mean are 0.07."""
    assert found.batch > 0.2
    assert abs(found.noisy) < 0.08
