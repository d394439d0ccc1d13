"""Site AUCs, and ratios of observed to expected events, pooled at site level: on average, and at a new hospital.

pool_auc([(0.81, 0.04, 120), (0.77, 0.05, 90), (0.84, 0.06, 60)])
pool_observed_expected([(31, 27.4, 120), (18, 25.0, 90), (22, 21.3, 60)])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
from scipy.special import expit, logit

from fedloupe.metrics.calibration import log_observed_expected
from fedloupe.metrics.checks import CountsInvalid, NothingToPool, ScoresInvalid
from fedloupe.metrics.meta import Meta, random_effects


@dataclass(frozen=True)
class PooledAuc:
    """Random-effects mean of site AUCs, its 95 % interval, and the 95 % prediction interval for a new site.

    `tau2` is on the logit scale; `i2` in [0, 1]. The prediction limits are None below three sites.
    """

    sites: int
    patients: int
    auc: float
    low: float
    high: float
    prediction_low: float | None
    prediction_high: float | None
    tau2: float
    i2: float


@dataclass(frozen=True)
class PooledRatio:
    """Random-effects mean of site ratios, its 95 % interval, and the 95 % prediction interval for a new site.

    `tau2` is on the log scale; `i2` in [0, 1]. The prediction limits are None below three sites.
    """

    sites: int
    patients: int
    ratio: float
    low: float
    high: float
    prediction_low: float | None
    prediction_high: float | None
    tau2: float
    i2: float


def pool_auc(results: Sequence[tuple[float, float, int]]) -> PooledAuc:
    """Pool (AUC, standard error, patients) of each site by `random_effects` on logit(AUC), error se / (AUC (1 - AUC)).

    The scale is that of Snell, Ensor, Debray, Moons & Riley, Stat Methods Med Res 2018;27:3505. A single site keeps its
    own AUC and normal interval. An AUC of exactly 0 or 1 enters as se or 1 - se, the distance that the one-patient
    correction in `delong` amounts to.

    Raises:
        NothingToPool: no site.
        ScoresInvalid: an AUC outside [0, 1], or a standard error outside (0, 1).
    """
    if not results:
        raise NothingToPool("no site gave an AUC", remedy="see each site's own failure")
    for auc, se, _ in results:
        if not (0 <= auc <= 1 and 0 < se < 1):
            raise ScoresInvalid(
                f"AUC {auc} with standard error {se} cannot be pooled",
                remedy="use AUC and error as `delong` gives them",
            )
    inner = np.array([1 - s if a == 1 else s if a == 0 else a for a, s, _ in results])
    errors = np.array([s for _, s, _ in results]) / (inner * (1 - inner))
    meta = random_effects(logit(inner).tolist(), errors.tolist())
    patients, back = sum(n for _, _, n in results), _back(meta, lambda x: float(expit(x)))
    if meta.sites == 1:
        exact = results[0][0]
        back = (exact, min(back[1], exact), max(back[2], exact), None, None)
    return PooledAuc(meta.sites, patients, *back, meta.tau2, meta.i2)


def pool_observed_expected(results: Sequence[tuple[float, float, int]]) -> PooledRatio:
    """Pool (observed events, expected events, patients) of each site by `random_effects` on log(O/E).

    Scale and standard error: Debray et al., BMJ 2017;356:i6460, and Stat Methods Med Res 2019;28:2768; see
    `fedloupe.metrics.calibration.log_observed_expected`, also for a site without events or with nothing else.

    Raises:
        NothingToPool: no site.
        CountsInvalid: events outside [0, patients], or none expected.
    """
    if not results:
        raise NothingToPool("no site gave observed and expected events", remedy="see each site's own failure")
    for observed, expected, patients in results:
        if not (0 <= observed <= patients and 0 < expected <= patients):
            raise CountsInvalid(
                f"{observed} observed and {expected} expected events in {patients} patients cannot be pooled",
                remedy="give events of the same patients, and the sum of their probabilities",
            )
    pairs = [log_observed_expected(*result) for result in results]
    meta = random_effects([value for value, _ in pairs], [se for _, se in pairs])
    return PooledRatio(meta.sites, sum(n for *_, n in results), *_back(meta, exp), meta.tau2, meta.i2)


def _back(meta: Meta, scale: Callable[[float], float]) -> tuple[float, float, float, float | None, float | None]:
    """Mean, interval and prediction limits on the scale that a reader knows."""
    return (
        scale(meta.estimate),
        scale(meta.low),
        scale(meta.high),
        None if meta.prediction_low is None else scale(meta.prediction_low),
        None if meta.prediction_high is None else scale(meta.prediction_high),
    )
