"""A hospital's update of a round gives one patient away, a sum of five less, a private one nothing."""

from __future__ import annotations

import pytest

from fedloupe.privacy import SeededNoise
from fedloupe.study import parse_study
from fedloupe_server.simulation.auditing import Seen, invert_updates
from fedloupe_server.simulation.auditing.updates import Bare
from fedloupe_server.simulation.demo import demo_study

GROUPS = ("shape", "t2w", "adc", "dce_pre", "dce_peak", "dce_late")
STUDY = demo_study(1, epsilon=3.0)
ROOM = 0.07
"""Four standard errors of a mean of twelve correlations of one patient with noise."""


@pytest.fixture(scope="module")
def rows():
    found = invert_updates(STUDY, GROUPS, STUDY.privacy, sizes=(1, 8), source=SeededNoise(3))
    return {(row.training, row.patients): row for row in found}


def test_each_size_has_a_row_and_the_first_is_plain_as_well(rows):
    assert list(rows) == [("sgd", 1), ("own", 1), ("own", 8)]


def test_plain_sgd_on_one_patient_gives_everything_back_and_adamw_most(rows):
    assert rows["sgd", 1].alone.likeness > 0.9999
    # signs alone correlate sqrt(2 / pi) = 0.80 with normal values, less what is dropped and disturbed
    assert 0.6 < rows["own", 1].alone.likeness < 0.95


def test_a_sum_of_five_tells_less_and_of_many_patients_hardly_more_than_chance(rows):
    for row in rows.values():
        assert row.summed.likeness < row.alone.likeness
    assert rows["own", 8].summed.likeness < rows["own", 8].summed.chance + ROOM


def test_chance_grows_with_the_patients_that_a_guess_may_fit(rows):
    assert rows["own", 1].alone.chance < rows["own", 1].summed.chance < rows["own", 8].summed.chance


def test_under_the_studys_noise_it_guesses(rows):
    for row in rows.values():
        assert row.private.likeness < row.private.chance + ROOM


def test_without_the_noise_it_would_show():
    """Clipping alone shortens a patient's gradient and leaves its direction."""
    (plain, *_) = invert_updates(STUDY, GROUPS, STUDY.privacy, sizes=(1,), trials=2, source=Bare())
    assert plain.private.likeness > 0.9999


def test_where_hardly_anything_is_read_there_is_no_row():
    content = STUDY.model_dump(mode="json") | {"radiomics": {"source": "none"}, "clinical": []}
    content["model"]["image"] = True
    assert invert_updates(parse_study(content), (), STUDY.privacy) == ()


def test_the_error_is_that_of_a_mean():
    seen = Seen.of([(0.1, 0.2), (0.3, 0.2), (0.5, 0.2)])
    assert (seen.likeness, seen.error, seen.chance) == pytest.approx((0.3, 0.2 / 3**0.5, 0.2))
