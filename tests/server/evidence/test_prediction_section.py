"""The report's section on single predictions: present where the study predicts, honest where coverage is off."""

from __future__ import annotations

import pytest

from fedloupe.study.prediction import FLATTEST
from fedloupe_server.evidence import predicting
from fedloupe_server.evidence.report import draw, render
from fedloupe_server.evidence.results import Predicted

LINE = (-0.12, 0.71)
AFTER = {
    **{"slope": 1.02, "slope_se": 0.21, "in_the_large": -0.08, "in_the_large_se": 0.2, "ece": 0.06},
    **{"covered": 0.9, "covered_se": 0.04, "single": 0.62, "beyond": 0.02},
}
BEFORE = {"slope": 0.72, "slope_se": 0.15, "in_the_large": 0.31, "in_the_large_se": 0.2, "ece": 0.11}


@pytest.fixture
def make(make_results):
    """Results of a study that predicts; coverage by site where it is not 0.9."""

    def build(covered: dict[str, float] | None = None, line=LINE, **changes):
        results = make_results(**changes)
        predicted = Predicted(
            calibration="platt",
            line=line,
            coverage=0.9,
            admitted=0.7,
            beyond=0.01,
            limit=1.8,
            sites=("north", "south"),
            tuned=56,
            trained=300,
            raw_threshold=0.4,
            digest="ab" * 32,
        )

        def with_scores(place):
            after = AFTER | {"covered": (covered or {}).get(place.site, 0.9)}
            return place.model_copy(
                update={
                    "federated": place.federated.model_copy(update=after),
                    "uncalibrated": place.federated.model_copy(update=BEFORE),
                }
            )

        return results.model_copy(
            update={
                "predicted": predicted,
                "sites": tuple(map(with_scores, results.sites)),
                "left_out": tuple(map(with_scores, results.left_out)),
            }
        )

    return build


def test_tables_show_before_after_and_coverage(make):
    results = make(left_out=True)
    north = ("north", "52", "0.72 ± 0.15", "1.02 ± 0.21", "0.31 ± 0.20", "−0.08 ± 0.20", "0.11", "0.06")
    assert predicting.calibrated(results).rows[0] == north
    assert predicting.covered(results).rows[0] == ("north", "52", "90 ± 4 %", "62 %", "2 %")
    assert predicting.covered(results).rows[-1][0] == "harbour, left out"
    assert [predicting.covered(results).rows[i][0] for i in predicting.covered(results).apart] == ["lakeside"]
    page = render(results, draw(results))
    assert "Single predictions" in page and "−0.08 ± 0.20" in page and "ab" * 32 in page


def test_the_words_say_on_whom_it_was_fitted_and_that_it_holds(make):
    text = " ".join(predicting.words(make({"east": 0.875})))
    for part in ("-0.12 and 0.71", "56 tuning patients", "north and south", "at least 0.30", "300 training patients"):
        assert part in text
    assert "within 3 points" in text and "below" not in text


def test_coverage_that_is_off_is_said_with_the_site(make):
    text = " ".join(predicting.words(make({"lakeside": 0.81, "east": 0.97})))
    assert "below what was agreed, by more than 3 points, at lakeside (81 %)" in text
    assert "more often than agreed, by more than 3 points, at east (97 %)" in text
    assert "within 3 points" not in text


def test_a_line_that_was_held_flat_is_said(make):
    assert "did not rank" in " ".join(predicting.words(make(line=(-0.4, FLATTEST))))
    assert "did not rank" not in " ".join(predicting.words(make()))


def test_a_slope_that_no_number_fits_is_a_dash(make):
    results = make()
    north = results.sites[0]
    parted = north.model_copy(
        update={"federated": north.federated.model_copy(update={"slope": None, "slope_se": None})}
    )
    shown = predicting.calibrated(results.model_copy(update={"sites": (parted, *results.sites[1:])})).rows[0]
    assert shown[3] == "–"


def test_a_study_that_does_not_predict_has_no_such_section(make_results):
    results = make_results()
    assert predicting.words(results) == [] and predicting.calibrated(results) is None
    assert "Single predictions" not in render(results, draw(results))
