"""Site AUCs pooled at site level: what to expect on average, and at a new hospital.

pool_auc([(0.81, 0.04, 120), (0.77, 0.05, 90), (0.84, 0.06, 60)])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

from fedloupe.metrics.checks import NothingToPool, ScoresInvalid
from fedloupe.metrics.discrimination import Z95


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


def pool_auc(results: Sequence[tuple[float, float, int]]) -> PooledAuc:
    """Pool (AUC, standard error, patients) of each site by random effects on logit(AUC).

    Between-site variance: DerSimonian & Laird, Control Clin Trials 1986;7:177. Interval: Hartung & Knapp, Stat Med
    2001;20:3875, with t(k-1); its variance factor is not let below 1 (Knapp & Hartung, Stat Med 2003;22:2693), for two
    sites that happen to agree would otherwise look certain. Prediction interval: t(k-2), Higgins et al., J R Stat Soc A
    2009;172:137. A single site keeps its own AUC and normal interval. An AUC of exactly 0 or 1 enters as se or 1 - se,
    the distance that the one-patient correction in `delong` amounts to.

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
    effect = np.asarray(logit(inner))
    variance = (np.array([s for _, s, _ in results]) / (inner * (1 - inner))) ** 2
    count, patients = len(results), sum(n for _, _, n in results)
    if count == 1:
        centre, half = float(effect[0]), Z95 * sqrt(float(variance[0]))
        alone = _back(count, patients, centre, half, None, 0.0, 0.0)
        exact = results[0][0]
        return replace(alone, auc=exact, low=min(alone.low, exact), high=max(alone.high, exact))
    fixed = 1 / variance
    q = float((fixed * (effect - (fixed * effect).sum() / fixed.sum()) ** 2).sum())
    tau2 = max(0.0, (q - (count - 1)) / float(fixed.sum() - (fixed**2).sum() / fixed.sum()))
    weight = 1 / (variance + tau2)
    centre = float((weight * effect).sum() / weight.sum())
    factor = max(1.0, float((weight * (effect - centre) ** 2).sum()) / (count - 1))
    se2 = factor / float(weight.sum())
    half = float(student.ppf(0.975, count - 1)) * sqrt(se2)
    wide = float(student.ppf(0.975, count - 2)) * sqrt(tau2 + se2) if count > 2 else None
    return _back(count, patients, centre, half, wide, tau2, max(0.0, 1 - (count - 1) / q) if q else 0.0)


def _back(
    sites: int, patients: int, centre: float, half: float, wide: float | None, tau2: float, i2: float
) -> PooledAuc:
    """From the logit scale to AUCs."""
    return PooledAuc(
        sites=sites,
        patients=patients,
        auc=float(expit(centre)),
        low=float(expit(centre - half)),
        high=float(expit(centre + half)),
        prediction_low=None if wide is None else float(expit(centre - wide)),
        prediction_high=None if wide is None else float(expit(centre + wide)),
        tau2=tau2,
        i2=i2,
    )
