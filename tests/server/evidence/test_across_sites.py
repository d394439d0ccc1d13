"""What is said across sites: meta-analysis, pooled curves, paired comparisons, subgroups and fairness."""

from __future__ import annotations

import re
from math import exp, log, sqrt

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from fedloupe.metrics import pool_auc
from fedloupe.study import Evidence, Subgroup
from fedloupe_server.evidence import Results, drawing, fairness, forests, meta, paired, pooled_curves, subgroups
from judged import APART, TRAIN, People, people


@pytest.fixture(scope="module")
def everyone() -> dict[str, People]:
    return {site: people(site, number) for number, site in enumerate(TRAIN | APART)}


def numbers(table: object, **where: object) -> dict[str, object]:
    """The row of a table's numbers in which these columns hold these values."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.numbers]
    found = [row for row in rows if all(row[k] == v for k, v in where.items())]
    assert len(found) == 1
    return found[0]


def without(results: Results, *names: str, **changes: object) -> Results:
    """Results in which these sites' assessments are changed; None everywhere where nothing is named."""
    return results.model_copy(
        update={
            "sites": tuple(
                s.model_copy(update={"assessed": s.assessed.model_copy(update=changes) if changes else None})
                if s.site in names
                else s
                for s in results.sites
            )
        }
    )


class TestHeterogeneity:
    @pytest.mark.parametrize(("measure", "field"), [("Slope", "slope"), ("In the large", "in_the_large")])
    def test_mean_and_interval_are_those_of_statsmodels(self, rich: Results, measure: str, field: str) -> None:
        told = [s.assessed for s in rich.sites if s.role == "train"]
        effects = np.array([getattr(a, field) for a in told])
        ses = np.array([getattr(a, f"{field}_se") for a in told])
        reference = combine_effects(effects, ses**2, method_re="dl")
        # tau2 is not let below 0, nor Hartung-Knapp's factor below 1.
        mean, se = (
            (reference.mean_effect_re, reference.sd_eff_w_re * sqrt(max(1.0, reference.scale_hksj_re)))
            if reference.tau2 > 0
            else (reference.mean_effect_fe, reference.sd_eff_w_fe)
        )
        half = student.ppf(0.975, len(told) - 1) * se
        row = numbers(meta.heterogeneity(rich), measure=measure, sites_of="training sites")
        assert row["sites"] == 5
        assert row["estimate"] == pytest.approx(mean, abs=1e-9)
        assert (row["low"], row["high"]) == pytest.approx((row["estimate"] - half, row["estimate"] + half), abs=1e-9)
        assert row["tau2"] == pytest.approx(max(0.0, reference.tau2), abs=1e-9)

    def test_o_e_is_pooled_on_the_log_scale(self, rich: Results) -> None:
        told = [s.assessed for s in rich.sites if s.role == "train"]
        effects = [log(a.positives / (a.expected * a.patients)) for a in told]
        variances = [1 / a.positives - 1 / a.patients for a in told]
        reference = combine_effects(np.array(effects), np.array(variances), method_re="dl")
        row = numbers(meta.heterogeneity(rich), measure="O/E", sites_of="training sites")
        assert row["estimate"] == pytest.approx(exp(reference.mean_effect_re), abs=1e-9)

    def test_training_and_external_sites_are_never_mixed(self, rich: Results) -> None:
        table = meta.heterogeneity(rich)
        assert {row[1] for row in table.numbers} == {"training sites", "external sites", "sites left out"}
        auc = numbers(table, measure="AUC", sites_of="external sites")
        own = [s.federated for s in rich.sites if s.role == "validate"]
        assert auc["estimate"] == pool_auc([(s.auc, s.auc_se, s.patients) for s in own]).auc
        assert {table.rows[i][0] for i in table.apart} == {row[0] for row in table.rows if "external" in row[0]}

    def test_below_three_sites_nothing_is_predicted(self, rich: Results) -> None:
        row = numbers(meta.heterogeneity(rich), measure="Slope", sites_of="external sites")
        assert row["sites"] == 2 and row["prediction_low"] is None and row["prediction_high"] is None
        two = rich.model_copy(update={"sites": tuple(s for s in rich.sites if s.site != "hillside")})
        assert "For the external sites there is none: they are fewer than three." in meta.words(two)
        bars = [row for row in meta.in_the_large(two).rows if row[1] == "bar"]
        assert len(bars) == 1 and len([row for row in meta.in_the_large(rich).rows if row[1] == "bar"]) == 2

    def test_a_site_without_a_slope_is_named(self, rich: Results) -> None:
        assert any("No finite slope fits best at hillside" in said for said in meta.words(rich))
        assert "no finite slope" in meta.slope(rich).svg

    def test_the_forest_holds_every_sites_interval(self, rich: Results) -> None:
        rows = {row[0]: row for row in meta.observed_expected(rich).rows if row[1] == "square"}
        for site in rich.sites:
            a = site.assessed
            ratio, se = a.positives / (a.expected * a.patients), sqrt(1 / a.positives - 1 / a.patients)
            z = norm.ppf(0.975)
            assert rows[site.site][4:] == pytest.approx((ratio, ratio * exp(-z * se), ratio * exp(z * se)))

    def test_nothing_without_assessments(self, rich: Results) -> None:
        none = without(rich, *(TRAIN | APART))
        assert meta.heterogeneity(none) is None and meta.words(none) == []
        assert meta.slope(none) is meta.in_the_large(none) is meta.observed_expected(none) is None


class TestForests:
    LINES = (
        forests.Line("square", "north", 1.0, 0.5, 1.5, 100, 40),
        forests.Line("square", "far", 2.0, -9.0, 9.0, 50, 20),
        forests.Line("diamond", "Pooled", 1.2, 0.9, 1.5, bold=True),
    )

    def axis(self) -> forests.Axis:
        return forests.Axis.around("Slope", self.LINES, 1.0, (-0.5, 3.0))

    def test_intervals_are_drawn_where_the_axis_has_them(self) -> None:
        axis, svg = self.axis(), forests.chart("slope", "Slopes", self.LINES, self.axis()).svg
        found = re.findall(r'<line x1="([\d.]+)" y1="47.5" x2="([\d.]+)" y2="47.5"', svg)
        assert [tuple(map(float, pair)) for pair in found] == [pytest.approx((axis(0.5), axis(1.5)), abs=0.06)]
        assert ">1.00 (0.50 to 1.50)</text>" in svg

    def test_an_interval_beyond_the_scale_gets_an_arrow_at_each_end(self) -> None:
        # Two arrows and the diamond.
        assert forests.chart("slope", "Slopes", self.LINES, self.axis()).svg.count("<polygon") == 3
        assert forests.chart("slope", "Slopes", self.LINES[::2], self.axis()).svg.count("<polygon") == 1

    def test_on_a_log_scale_equal_factors_are_equal_lengths(self) -> None:
        lines = (forests.Line("square", "north", 1.0, 0.25, 4.0, 100),)
        axis = forests.Axis.around("O/E", lines, 1.0, (0.25, 4.0), log=True)
        assert axis(1.0) - axis(0.5) == pytest.approx(axis(2.0) - axis(1.0))
        assert {0.25, 1.0, 4.0} <= set(axis.ticks)


class TestPooledCurves:
    def test_the_exact_auc_lies_within_the_stated_bound(self, rich: Results, everyone: dict[str, People]) -> None:
        truth = np.concatenate([everyone[site].truth for site in TRAIN])
        score = np.concatenate([everyone[site].scores["federated"] for site in TRAIN])
        found = pooled_curves.auc(rich)
        assert 0 < found.bound < 0.002
        assert abs(found.auc - roc_auc_score(truth, score)) <= found.bound
        assert f"within {found.bound:.4f} of it" in " ".join(pooled_curves.words(rich))

    def test_it_says_that_it_stands_beside_the_sites(self, rich: Results) -> None:
        assert "beside the sites' own, never instead of them" in pooled_curves.words(rich)[0]

    def test_the_sites_own_curves_are_grey_behind_it(self, rich: Results) -> None:
        figure = pooled_curves.curves(rich)
        assert {row[1] for row in figure.rows} == {"pooled", *TRAIN}
        lines = re.findall(r"<polyline [^>]*stroke=\"(#\w+)\"", figure.svg)
        assert lines.count(drawing.INK) == 2 and lines.count(drawing.FAINT) == 2 * len(TRAIN)

    def test_risk_groups_have_wilsons_intervals(self, rich: Results) -> None:
        table = pooled_curves.calibration(rich)
        assert sum(row[-1] for row in table.numbers) == sum(TRAIN[site][0] for site in TRAIN)
        for _, observed, low, high, patients in table.numbers:
            expected = proportion_confint(round(observed * patients), patients, method="wilson")
            assert (low, high) == pytest.approx(expected, abs=1e-9)

    def test_without_summed_histograms_there_is_none(self, rich: Results) -> None:
        none = rich.model_copy(update={"pooled_scores": None})
        assert pooled_curves.curves(none) is pooled_curves.calibration(none) is pooled_curves.auc(none) is None
        assert pooled_curves.words(none) == []


class TestPaired:
    def test_p_values_are_adjusted_over_the_whole_table(self, rich: Results) -> None:
        ps = [pair.p for s in rich.sites for pair in s.assessed.paired]
        assert len(ps) == 5 * 3 + 3 * 7
        found = [row[-1] for row in paired.compared(rich).numbers]
        assert found == pytest.approx(multipletests(ps, method="holm")[1], abs=1e-12)

    def test_intervals_are_normal(self, rich: Results) -> None:
        first = rich.sites[0].assessed.paired[0]
        row = numbers(paired.compared(rich), site="north", against="logistic")
        half = norm.ppf(0.975) * first.se
        assert (row["low"], row["high"]) == pytest.approx((first.difference - half, first.difference + half))

    def test_the_mean_over_training_sites_is_that_of_statsmodels(self, rich: Results) -> None:
        own = [p for s in rich.sites[:5] for p in s.assessed.paired if p.against == f"local-{s.site}"]
        reference = combine_effects(
            np.array([p.difference for p in own]), np.array([p.se for p in own]) ** 2, method_re="dl"
        )
        row = numbers(paired.pooled(rich), against="Own model", role="train")
        assert row["sites"] == 5 and row["difference"] == pytest.approx(reference.mean_effect_re, abs=1e-9)

    def test_sites_where_the_federation_won_and_where_nobody_knows_are_named(self, rich: Results) -> None:
        own = [d for d in paired.differences(rich) if d.own]
        said = " ".join(paired.words(rich))
        for d in own:
            assert d.site in said
        won = [d.site for d in own if d.holm < 0.05]
        assert won and f"better than the site's own at {' and '.join(won)}." in said
        assert "On average over the 5 training sites that tested it the difference is +" in said

    def test_a_federation_that_beat_nobody_is_said_to(self, rich: Results) -> None:
        none = rich.model_copy(
            update={
                "sites": tuple(
                    s.model_copy(
                        update={
                            "assessed": s.assessed.model_copy(
                                update={
                                    "paired": tuple(
                                        p.model_copy(update={"difference": -0.01, "p": 0.8}) for p in s.assessed.paired
                                    )
                                }
                            )
                        }
                    )
                    for s in rich.sites
                )
            }
        )
        said = " ".join(paired.words(none))
        assert "better than the site's own at no training site" in said
        assert "difference may be chance" in said and "that interval includes none" in said

    def test_nothing_without_comparisons(self, rich: Results) -> None:
        none = without(rich, *(TRAIN | APART), paired=())
        assert paired.compared(none) is paired.pooled(none) is None and paired.words(none) == []


class TestSubgroups:
    def test_a_level_is_pooled_over_every_site_that_shows_it(self, rich: Results) -> None:
        subsets = [x for s in rich.sites for x in s.assessed.subgroups if (x.variable, x.level) == ("stage", "T4")]
        assert 2 <= len(subsets) < 7
        level = next(x for x in subgroups.levels(rich) if (x.variable, x.level) == ("stage", "T4"))
        expected = pool_auc([(x.auc, x.auc_se, x.patients) for x in subsets])
        assert (level.auc, level.low, level.high) == (expected.auc, expected.low, expected.high)
        row = next(row for row in subgroups.forest(rich).rows if row[0].startswith("T4"))
        assert row[1:] == ("diamond", level.patients, level.events, expected.auc, expected.low, expected.high)

    def test_a_level_of_one_site_keeps_that_sites_interval(self, rich: Results) -> None:
        one = without(rich, *(name for name in TRAIN | APART if name != "harbour"), subgroups=())
        harbour = next(s for s in rich.sites if s.site == "harbour").assessed.subgroups[0]
        named = (harbour.variable, harbour.level)
        level = next(x for x in subgroups.levels(one) if (x.variable, x.level) == named)
        assert (level.auc, level.low, level.high) == (harbour.auc, harbour.low, harbour.high)
        assert {row[1] for row in subgroups.forest(one).rows} == {"square"}

    def test_every_sites_own_numbers_are_in_the_table(self, rich: Results) -> None:
        expected = sum(len(s.assessed.subgroups) for s in rich.sites)
        assert len(subgroups.by_site(rich).numbers) == len(subgroups.by_site(rich).rows) == expected

    def test_withheld_variables_are_named_with_their_sites(self, rich: Results) -> None:
        said = " ".join(subgroups.words(rich))
        for site in rich.sites:
            for name in site.assessed.withheld:
                assert re.search(rf"{name} at [^;]*{site.site}", said)

    def test_levels_stand_in_the_studys_order(self, rich: Results) -> None:
        age = [x.level for x in subgroups.levels(rich) if x.variable == "age"]
        assert age == ["<60", "60-<70", ">=70"]
        sheet = Evidence(
            subgroups=(
                Subgroup(name="age", column="age", cuts=(60, 70)),
                Subgroup(name="sex", column="sex", levels={"women": ("f",), "men": ("m",)}),
            )
        )
        found = [(x.variable, x.level) for x in subgroups.levels(rich.model_copy(update={"evidence": sheet}))]
        assert found[:5] == [("age", "<60"), ("age", "60-<70"), ("age", ">=70"), ("sex", "women"), ("sex", "men")]

    def test_nothing_without_subgroups(self, rich: Results) -> None:
        none = without(rich, *(TRAIN | APART), subgroups=(), withheld=())
        assert subgroups.forest(none) is subgroups.by_site(none) is fairness.table(none) is fairness.gaps(none) is None
        assert subgroups.words(none) == fairness.words(none) == []


class TestFairness:
    def test_shares_are_of_all_patients_of_the_sites_that_show_the_level(
        self, rich: Results, everyone: dict[str, People]
    ) -> None:
        right = events = 0
        for at in everyone.values():
            if at.site == "hillside":
                continue
            women = at.groups["sex"] == "women"
            right += int((at.scores["federated"][women & (at.truth == 1)] >= rich.threshold).sum())
            events += int((women & (at.truth == 1)).sum())
        row = numbers(fairness.table(rich), variable="sex", level="women")
        assert row["events"] == events and row["sensitivity"] == pytest.approx(right / events)
        limits = proportion_confint(right, events, method="wilson")
        assert (row["sensitivity_low"], row["sensitivity_high"]) == pytest.approx(limits, abs=1e-9)

    def test_newcombes_interval_is_that_of_statsmodels(self) -> None:
        found = fairness.newcombe((56, 70), (48, 80))
        expected = confint_proportions_2indep(56, 70, 48, 80, method="newcomb", compare="diff")
        assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)

    def test_the_largest_gap_is_between_the_extreme_levels(self, rich: Results) -> None:
        rows = [dict(zip(fairness.COLUMNS, row, strict=True)) for row in fairness.table(rich).numbers]
        age = {row["level"]: row["sensitivity"] for row in rows if row["variable"] == "age"}
        gap = numbers(fairness.gaps(rich), variable="age", measure="sensitivity")
        assert gap["gap"] == pytest.approx(max(age.values()) - min(age.values()))
        assert (gap["higher_in"], gap["lower_in"]) == (max(age, key=age.get), min(age, key=age.get))

    def test_it_says_what_small_groups_cannot(self, rich: Results) -> None:
        assert any(said.startswith("Small groups can neither exclude nor prove") for said in fairness.words(rich))


class TestLeftOut:
    def test_folds_are_a_group_of_their_own(self, rich: Results) -> None:
        told = [(f.federated.auc, f.federated.auc_se, f.federated.patients) for f in rich.left_out]
        row = numbers(meta.heterogeneity(rich), measure="AUC", sites_of="sites left out")
        assert row["sites"] == 5 and row["estimate"] == pool_auc(told).auc
        assert any(said.startswith("Models of sites left out share") for said in meta.words(rich))

    def test_each_folds_calibration_is_shown(self, rich: Results) -> None:
        for fold, row in zip(rich.left_out, meta.left_out(rich).numbers, strict=True):
            a = fold.assessed
            assert row[:7] == (
                *(fold.site, a.patients, a.positives),
                *(a.in_the_large, a.in_the_large_se, a.slope, a.slope_se),
            )
            assert row[7] == pytest.approx(a.positives / (a.expected * a.patients))

    def test_folds_that_were_not_assessed_are_no_group(self, rich: Results) -> None:
        folds = tuple(fold.model_copy(update={"assessed": None}) for fold in rich.left_out)
        none = rich.model_copy(update={"left_out": folds})
        assert meta.left_out(none) is None
        assert "sites left out" not in {row[1] for row in meta.heterogeneity(none).numbers}
