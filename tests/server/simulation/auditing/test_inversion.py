"""One patient's gradient gives the patient away, exactly; noise of DP-SGD leaves what chance leaves."""

from __future__ import annotations

import pytest

from fedloupe.privacy import SeededNoise
from fedloupe.study import parse_study
from fedloupe_server.simulation.auditing import invert
from fedloupe_server.simulation.demo import demo_study

GROUPS = ("shape", "t2w", "adc", "dce_pre", "dce_peak", "dce_late")
NOISE = 1.64


def inverted(noise: float):
    return invert(demo_study(1, epsilon=8.0), GROUPS, noise=noise, source=SeededNoise(3))


@pytest.fixture(scope="module")
def found():
    return inverted(NOISE)


def test_every_component_and_clinical_value_comes_back_exactly(found):
    assert found.values == 6 * demo_study(1, epsilon=8.0).model.components + 4
    assert found.error < 1e-4  # float32


def test_chance_is_what_a_random_guess_reaches(found):
    """A correlation of q random values has SD 1 / sqrt(q), mean size sqrt(2 / (pi q)) = 0.10 for 60."""
    assert found.noisy_by_chance == pytest.approx((2 / (3.1416 * found.values)) ** 0.5, abs=0.03)
    assert 0.2 < found.batch_by_chance < 0.35  # the largest of sixteen


def test_of_a_batch_something_comes_back_and_under_noise_hardly_anything(found):
    assert found.batch > found.batch_by_chance + 0.1
    assert found.noisy < found.noisy_by_chance + 0.06


def test_a_fifth_of_the_noise_would_show():
    less = inverted(NOISE / 5)
    assert less.noisy > less.noisy_by_chance + 0.1


def test_where_hardly_anything_is_read_nothing_is_said():
    content = demo_study(1, epsilon=8.0).model_dump(mode="json")
    content |= {"radiomics": {"source": "none"}, "clinical": []}
    content["model"]["image"] = True
    assert invert(parse_study(content), (), noise=NOISE) is None
