"""Worked examples that R packages publish, as numbers with their source.

aSAH: 113 patients with aneurysmal subarachnoid haemorrhage (Turck et al., Intensive Care Med 2010;36:107), distributed
with the R package pROC; outcome at six months, poor is 1; WFNS grade, S100B and NDKA in 0.01 ug/l. Expected values:
tests/testthat/test-var.R, test-ci.auc.R and test-roc.test.R of pROC.

BCG: 13 vaccine trials (Colditz et al., JAMA 1994;271:698), dat.bcg of the R package metadat. Expected values: metafor's
tests/testthat/test_misc_metan_vs_rma.uni_with_dat.bcg.r; for Hartung-Knapp Viechtbauer, "R Code Corresponding to the
Book Introduction to Meta-Analysis by Borenstein et al. (2009)", rma(yi, vi, method="DL", test="knha").

df_binary: 750 patients of the R package dcurves (MIT), here in bins of 0.05 of `cancerpredmarker`. Expected values: its
vignette dca, tests/testthat/test-dca.R and the reference page of test_consequences.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from fedloupe.metrics import decision_curve, delong, net_benefit, paired_delong, random_effects

POOR = [
    *map(
        int,
        "00001101001011001011101000000000100110110000000001100010001010011101101111000110100000010000000000001111110001000",
    )
]
WFNS = [
    *map(
        int,
        "11113254125255125225211112121134214541425511241125521251222151125214524414121421232421451154221113125225552445111",
    )
]
S100B = [
    *(13, 14, 10, 4, 13, 10, 47, 16, 18, 10, 12, 10, 44, 71, 4, 8, 49, 4, 7, 33, 9, 9, 7, 11, 7, 17, 7, 11, 13, 19, 5),
    *(16, 41, 14, 34, 35, 48, 9, 96, 25, 50, 46, 16, 7, 43, 45, 11, 8, 9, 86, 52, 8, 6, 13, 207, 10, 14, 15, 7, 6, 77),
    *(5, 9, 30, 3, 9, 4, 23, 70, 9, 27, 71, 8, 26, 8, 16, 9, 13, 10, 8, 11, 33, 11, 28, 7, 10, 32, 22, 7, 5, 24, 38),
    *(10, 15, 8, 14, 10, 7, 4, 19, 56, 14, 58, 32, 82, 74, 15, 47, 17, 44, 15, 50, 48),
]
NDKA = [
    *(301, 854, 809, 1042, 1740, 1275, 600, 1320, 1554, 601, 1596, 1786, 518, 890, 1341, 2075, 1160, 1611, 3237, 5482),
    *(3241, 4994, 4034, 947, 629, 1253, 654, 630, 8030, 1280, 980, 981, 985, 1821, 503, 1404, 2193, 802, 742, 838, 659),
    *(963, 1312, 796, 1434, 4143, 763, 706, 1259, 1356, 387, 944, 766, 1298, 41919, 2719, 2227, 995, 2122, 1173, 1040),
    *(5883, 639, 1109, 1222, 1367, 1721, 2263, 1290, 970, 2157, 823, 7257, 1554, 1051, 1060, 1457, 519, 963, 461, 2148),
    *(1730, 1271, 944, 1107, 1946, 1083, 537, 1197, 775, 983, 1055, 2849, 853, 1257, 1290, 4683, 1168, 1267, 901, 957),
    *(3406, 1172, 1426, 4761, 1167, 2458, 1033, 1387, 1589, 2243, 679, 1345),
]
SCORES = {name: np.array(x) / max(x) for name, x in (("wfns", WFNS), ("s100b", S100B), ("ndka", NDKA))}

TRIALS = np.array(  # tuberculosis with and without, vaccinated; likewise, not vaccinated
    [
        *((4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761)),
        *((180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232)),
        *((17, 1699, 65, 1600), (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825)),
    ],
    dtype=float,
)

CANCER = [9, 9, 5, 7, 3, 10, 5, 10, 7, 7, 6, 4, 4, 3, 4, 3, 1, 3, 3, 2]
NO_CANCER = [325, 127, 65, 30, 26, 23, 13, 9, 4, 6, 3, 7, 3, 1, 1, 0, 0, 0, 2, 0]
EDGES = np.arange(21) / 20


class TestDelongOnTheASahPatientsOfPRoc:
    @pytest.mark.parametrize(
        ("marker", "variance"),
        [("wfns", 0.00146991470882363), ("ndka", 0.0031908105493913), ("s100b", 0.00266868245717244)],
    )
    def test_variance(self, marker: str, variance: float) -> None:
        assert delong(POOR, SCORES[marker]).se ** 2 == pytest.approx(variance, rel=1e-12)

    def test_auc_and_its_error_by_the_normal_interval_that_proc_gives(self) -> None:
        """Ours is on the logit scale; the same AUC and error give pROC's on the plain one."""
        found = delong(POOR, SCORES["ndka"])
        half = norm.ppf(0.975) * found.se
        expected = (0.501244999271703, 0.611957994579946, 0.722670989888189)
        assert (found.auc - half, found.auc, found.auc + half) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize(
        ("first", "second", "z", "p", "low", "high"),
        [
            ("wfns", "s100b", 2.20898359144091, 0.0271757822291882, 0.0104061769564846, 0.174214419249478),
            ("wfns", "ndka", 2.79777591868904, 0.00514557970691098, 0.0634011709339876, 0.3600405634833566),
            ("ndka", "s100b", -1.39077002573558, 0.164295175223054, -0.2876917446341914, 0.0488706064228094),
        ],
    )
    def test_two_markers(self, first: str, second: str, z: float, p: float, low: float, high: float) -> None:
        found = paired_delong(POOR, SCORES[first], SCORES[second])
        assert found.difference / found.se == pytest.approx(z, abs=1e-10)
        assert found.p == pytest.approx(p, abs=1e-12)
        half = norm.ppf(0.975) * found.se
        assert (found.difference - half, found.difference + half) == pytest.approx((low, high), abs=1e-12)


class TestRandomEffectsOnTheBcgTrials:
    @pytest.fixture
    def found(self):
        a, b, c, d = TRIALS.T
        return random_effects(np.log(a / (a + b) / (c / (c + d))), np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)))

    def test_dersimonian_laird(self, found) -> None:
        assert (round(found.estimate, 4), round(found.tau2, 4)) == (-0.7141, 0.3088)
        assert (round(found.q, 4), round(100 * found.i2, 4)) == (152.2330, 92.1173)

    def test_hartung_knapp(self, found) -> None:
        assert round(found.se, 4) == 0.1807
        assert round(found.estimate / found.se, 4) == -3.9520
        assert (round(found.low, 4), round(found.high, 4)) == (-1.1078, -0.3204)


class TestDecisionCurveOnThePatientsOfDcurves:
    def test_treating_everybody(self) -> None:
        rows = {round(row.threshold, 2): row for row in decision_curve(CANCER, NO_CANCER, EDGES, 0.05, 0.35)}
        vignette = {0.05: 0.0947, 0.10: 0.0444, 0.20: -0.075, 0.25: -0.147, 0.30: -0.229, 0.35: -0.323}
        assert {cut: float(f"{rows[cut].treat_all:.3g}") for cut in vignette} == vignette

    def test_the_model_at_a_quarter(self) -> None:
        (row,) = decision_curve(CANCER, NO_CANCER, EDGES, 0.25, 0.25)
        assert (row.treat_all, row.treat_none, row.model) == pytest.approx((-0.1466667, 0.0, 0.0640000), abs=5e-8)
        assert row.standardized == pytest.approx(0.064 / 0.14)  # standardized_net_benefit() is that over pos_rate

    @pytest.mark.parametrize(
        ("threshold", "tp_rate", "fp_rate"), [(0.25, 0.096, 0.096), (0.5, 0.044, 0.0227), (0.75, 0.016, 0.00267)]
    )
    def test_its_parts(self, threshold: float, tp_rate: float, fp_rate: float) -> None:
        (row,) = decision_curve(CANCER, NO_CANCER, EDGES, threshold, threshold)
        part = int(threshold * 20)
        assert (sum(CANCER[part:]) / 750, sum(NO_CANCER[part:]) / 750) == pytest.approx((tp_rate, fp_rate), rel=2e-3)
        assert row.model == net_benefit(sum(CANCER[part:]), sum(NO_CANCER[part:]), 750, threshold)
