"""What is said of each site: decisions, decision curves, calibration, recalibration, grades, precision to expect."""

from __future__ import annotations

import re
from math import exp, log

import pytest
from sklearn.metrics import confusion_matrix
from statsmodels.stats.proportion import proportion_confint

from fedloupe.study import Evidence
from fedloupe_server.evidence import (
    Results,
    before,
    decision,
    grades,
    operating_tables,
    recalibration,
    smooth,
)
from judged import APART, TRAIN, People, people


@pytest.fixture(scope="module")
def everyone() -> dict[str, People]:
    return {site: people(site, number) for number, site in enumerate(TRAIN | APART)}


def changed(results: Results, **fields: object) -> Results:
    """Every assessment with these fields; None everywhere where nothing is given."""
    return results.model_copy(
        update={
            "sites": tuple(
                s.model_copy(update={"assessed": s.assessed.model_copy(update=fields) if fields else None})
                for s in results.sites
            )
        }
    )


class TestOperating:
    def test_shares_and_intervals_follow_from_the_patients(self, rich: Results, everyone: dict[str, People]) -> None:
        rows = {row[0]: row for row in operating_tables.operating(rich).numbers}
        for name, at in everyone.items():
            tn, fp, fn, tp = confusion_matrix(at.truth, at.scores["federated"] >= rich.threshold).ravel()
            pairs = [(tp + tn, at.truth.size), (tp, tp + fn), (tn, tn + fp), (tp, tp + fp), (tn, tn + fn)]
            expected = [v for c, n in pairs for v in (c / n, *proportion_confint(c, n, method="wilson"))]
            assert rows[name][1:] == pytest.approx(expected, abs=1e-9)
        # 29 of 47: 0.617, Wilson 0.474 to 0.742.
        assert operating_tables.operating(rich).rows[0][2] == "62 (47 to 74)"

    def test_the_counts_behind_them(self, rich: Results, everyone: dict[str, People]) -> None:
        table = operating_tables.counts(rich)
        for row in table.numbers:
            at = everyone[row[0]]
            tn, fp, fn, tp = confusion_matrix(at.truth, at.scores["federated"] >= rich.threshold).ravel()
            assert row[1:] == (at.truth.size, at.truth.sum(), tp, fn, fp, tn)
        assert table.apart == {5, 6, 7}

    def test_predictive_values_follow_from_the_counts(self, rich: Results) -> None:
        # 40 events of 100: sensitivity 30/40, specificity 45/60, so 30 true and 15 false positives.
        fields = {"patients": 100, "positives": 40, "sensitivity": 0.75, "specificity": 0.75}
        found = operating_tables.confusion(rich.sites[0].federated.model_copy(update=fields))
        assert (found.ppv.value, found.npv.value) == (30 / 45, 45 / 55)

    def test_nobody_called_positive_has_no_predictive_value(self, rich: Results) -> None:
        scores = rich.sites[0].federated.model_copy(update={"sensitivity": 0.0, "specificity": 1.0})
        found = operating_tables.confusion(scores)
        assert found.ppv is None and found.npv.value == pytest.approx(105 / 152)

    def test_without_a_threshold_there_are_no_counts(self, rich: Results) -> None:
        scores = rich.sites[0].federated.model_copy(update={"sensitivity": None, "specificity": None})
        one = rich.model_copy(update={"sites": (rich.sites[0].model_copy(update={"federated": scores}),)})
        assert operating_tables.counts(one).rows == ()
        assert operating_tables.operating(one).rows == (("north", "–", "–", "–", "–", "–"),)


class TestDecision:
    def test_net_benefit_is_that_of_the_patients(self, rich: Results, everyone: dict[str, People]) -> None:
        rows = decision.curves(rich).rows
        assert len({row[1] for row in rows}) == 11  # 0.10 to 0.60
        for site, threshold, model, treat_all, treat_none in rows:
            at = everyone[site]
            called, odds, size = at.scores["federated"] >= threshold, threshold / (1 - threshold), at.truth.size
            true, false = (called & (at.truth == 1)).sum(), (called & (at.truth == 0)).sum()
            assert model == pytest.approx((true - odds * false) / size, abs=1e-12)
            assert treat_all == pytest.approx(at.truth.mean() - odds * (1 - at.truth.mean()), abs=1e-12)
            assert treat_none == 0

    def test_a_site_that_withholds_its_histogram_has_no_curve_and_is_named(self, rich: Results) -> None:
        figure = decision.curves(rich)
        assert "hillside" not in {row[0] for row in figure.rows}
        assert figure.svg.count("histogram withheld") == 1
        assert any("No curve for hillside" in said for said in decision.words(rich))

    def test_where_the_model_is_not_worth_acting_on_is_said(self, rich: Results) -> None:
        figure = decision.curves(rich)
        beaten = {row[0] for row in figure.rows if row[2] < max(row[3:]) - 1e-12}
        said = next(s for s in decision.words(rich) if s.startswith("Below treating"))
        assert beaten and all(name in said for name in beaten)
        assert not any(name in said for name in set(TRAIN | APART) - beaten)

    def test_spread_bins_are_no_more_patients_than_there_are(self, rich: Results) -> None:
        # Merged bins, spread and rounded as results are: added up as they stand they are a billionth of a patient more.
        quarter, third, third_of_8, half = [0.75] * 4, [1.666667] * 3, [2.666667] * 3, [2.5] * 4
        positives = (*quarter, 5.0, 10.0, *third, 1.0, 1.0, 1.0, 9.0, *half, *third_of_8)
        negatives = (
            6.0,
            8.0,
            1.0,
            1.0,
            1.0,
            8.0,
            *[3.333333] * 3,
            1.0,
            1.0,
            1.0,
            6.0,
            4.0,
            3.0,
            3.0,
            1.0,
            1.0,
            1.0,
            10.0,
        )
        fields = {"positives_by_score": positives, "negatives_by_score": negatives, "patients": 120, "positives": 53}
        line = decision.points(rich, rich.sites[0].federated.model_copy(update=fields))
        assert len(line) == 11
        assert line[0].treat_all == pytest.approx((53 - 67 / 9) / 120, abs=1e-5)

    def test_the_declared_range_bounds_it(self, rich: Results) -> None:
        narrow = rich.model_copy(update={"evidence": Evidence(decision=(0.2, 0.3))})
        assert {row[1] for row in decision.curves(narrow).rows} == {0.2, 0.25, 0.3}
        assert decision.benefits(narrow).header == ("Site", "at 0.20", "at 0.25", "at 0.30")

    def test_the_table_shows_the_figures_numbers(self, rich: Results) -> None:
        shown = {(r[0], r[1]): r[2:4] for r in decision.curves(rich).rows}
        assert {(r[0], r[1]): r[2:4] for r in decision.benefits(rich).numbers} == shown

    def test_nothing_without_a_declared_range(self, rich: Results) -> None:
        none = rich.model_copy(update={"evidence": None})
        assert decision.curves(none) is decision.benefits(none) is None and decision.words(none) == []


class TestSmoothCalibration:
    def test_bands_stand_where_the_sites_sent_them(self, rich: Results) -> None:
        figure = smooth.calibration(rich)
        for site in rich.sites:
            sent = [row[2:6] for row in figure.rows if row[:2] == (site.site, "curve")]
            assert tuple(sent) == site.assessed.curve
        north = rich.sites[0].assessed.curve
        corners = re.search(r'<polygon points="([^"]+)"', figure.svg)[1].split()
        ends = [tuple(map(float, corners[place].split(","))) for place in (0, -1)]
        expected = [(40 + 138 * north[0][0], 40 + 138 * (1 - north[0][side])) for side in (2, 3)]
        assert ends == [pytest.approx(end, abs=0.06) for end in expected]
        assert figure.svg.count("<polygon") == 7 and figure.svg.count('fill-opacity="0.16"') == 7

    def test_risk_groups_lie_behind_as_discs(self, rich: Results) -> None:
        figure = smooth.calibration(rich)
        groups = [row for row in figure.rows if row[1] == "group"]
        assert len(groups) == sum(len(s.federated.calibration) for s in rich.sites) == figure.svg.count("<circle")

    def test_a_site_without_a_curve_keeps_its_risk_groups_and_is_named(self, rich: Results) -> None:
        assert any("No curve could be fitted at hillside." in said for said in smooth.words(rich))
        plain = smooth.calibration(changed(rich))
        assert {row[1] for row in plain.rows} == {"group"} and "<polygon" not in plain.svg
        assert len(smooth.words(changed(rich))) == 1

    def test_both_intervals_of_the_auc_stand_side_by_side(self, rich: Results) -> None:
        table = smooth.discrimination(rich)
        for site, row in zip(rich.sites, table.numbers, strict=True):
            assert row[5:] == (
                site.federated.auc_low,
                site.federated.auc_high,
                site.assessed.low,
                site.assessed.high,
            )
        assert "2,000 resamples" in table.caption
        assert smooth.discrimination(changed(rich)) is None


class TestRecalibration:
    def test_before_and_after_stand_below_each_other(self, rich: Results) -> None:
        table = recalibration.recalibration(rich)
        assert len(table.rows) == 7 * 3
        assert [row[1] for row in table.rows[:3]] == ["as shipped", "intercept moved", "intercept and slope"]
        fit = rich.sites[0].assessed.recalibration.fits[2]
        row = dict(zip(table.columns, table.numbers[2], strict=True))
        assert (row["slope"], row["observed_expected"], row["brier"]) == (fit.slope, fit.observed, fit.brier)
        assert (row["fitted"], row["judged"]) == (76, 76)

    def test_the_headline_stays_as_shipped_and_failures_are_named(self, rich: Results) -> None:
        said = " ".join(recalibration.words(rich))
        assert "headline everywhere else stays the model as shipped" in said
        assert "Too few patients for it at hillside." in said
        told = {s.site: s.assessed.recalibration.fits for s in rich.sites if s.assessed.recalibration}
        worse = [name for name, fits in told.items() if fits[2].brier >= fits[0].brier]
        assert worse and all(name in said.split("does not at")[1] for name in worse)

    def test_nothing_where_no_site_refitted(self, rich: Results) -> None:
        none = changed(rich, recalibration=None)
        assert recalibration.recalibration(none) is None and recalibration.words(none) == []


class TestGrades:
    def test_each_grade_of_each_site_has_its_row(self, rich: Results, everyone: dict[str, People]) -> None:
        table = grades.grades(rich)
        assert len(table.rows) == 7 * 4
        for site, _, grade, patients, mean, called in table.numbers:
            value = everyone[site].scores["federated"][everyone[site].grade == grade]
            assert patients == value.size
            assert (mean, called) == pytest.approx((value.mean(), (value >= rich.threshold).mean()))

    def test_concordance_has_its_interval_on_the_logit_scale(self, rich: Results) -> None:
        row = grades.concordance(rich).numbers[0]
        value, se = rich.sites[0].assessed.concordance, rich.sites[0].assessed.concordance_se
        half = 1.959963984540054 * se / (value * (1 - value))
        odds = log(value / (1 - value))
        expected = [1 / (1 + exp(-(odds + way * half))) for way in (-1, 1)]
        assert row[3:5] == pytest.approx(expected)

    def test_perfect_concordance_stays_within_its_range(self) -> None:
        assert grades.limits(1.0, 0.05) == (pytest.approx(1 - 1.959963984540054 * 0.05), 1.0)

    def test_nothing_without_grades(self, rich: Results) -> None:
        none = changed(rich, grades=(), concordance=None, concordance_se=None)
        assert grades.grades(none) is grades.concordance(none) is None and grades.words(none) == []


class TestPrecision:
    def test_wilsons_half_width_at_the_assumed_share(self) -> None:
        for n in (20, 50, 100):
            low, high = proportion_confint(round(0.8 * n), n, method="wilson")
            assert before.half_width(0.8, n) == pytest.approx((high - low) / 2, abs=1e-9)

    def test_the_aucs_half_width_is_hanley_mcneils(self, rich: Results) -> None:
        # AUC 0.75, 20 % events: the closed form of Radiology 1982;143:29 gives 0.13 for 100 patients, 0.06 for 500.
        for patients, expected in ((100, "±0.13"), (500, "±0.06")):
            scores = rich.sites[0].federated.model_copy(update={"patients": patients, "positives": patients // 5})
            one = rich.model_copy(update={"sites": (rich.sites[0].model_copy(update={"federated": scores}),)})
            assert before.precision(one).rows[0][3] == expected

    def test_no_result_enters_it(self, rich: Results) -> None:
        other = rich.model_copy(
            update={
                "pooled": None,
                "sites": tuple(
                    s.model_copy(update={"federated": s.federated.model_copy(update={"auc": 0.99})}) for s in rich.sites
                ),
            }
        )
        assert before.precision(other) == before.precision(rich) and before.words(other) == before.words(rich)

    def test_sites_with_few_patients_are_marked(self, rich: Results) -> None:
        cells = {row[0]: row[-1] for row in before.precision(rich).rows}
        assert cells["harbour"] == "events below 100" and cells["hillside"] == "events and others below 100"
        assert "are reached at no site" in " ".join(before.words(rich))

    def test_enough_patients_are_not_warned_of(self, rich: Results) -> None:
        many = tuple(
            s.model_copy(update={"federated": s.federated.model_copy(update={"patients": 400, "positives": 150})})
            for s in rich.sites
        )
        table, said = (f(rich.model_copy(update={"sites": many})) for f in (before.precision, before.words))
        assert {row[-1] for row in table.rows} == {"–"} and len(said) == 1
