"""AUC of a model that was fitted several times, and the difference of two such, on the same patients.

stratum = Repeated(labels, scores)                     # (n), (S, n): a row a fit, NaN for a patient not scored
repeated_auc([stratum])                                # RepeatedAuc: mean over fits, standard error, 95 % interval
repeated_difference([cnn], [transformer])              # paired: the same patients, the same fits

Several strata (hospitals) are independent; their AUCs are averaged with fixed weights.

The variance has two parts. *Patients*: of the mean over fits with these models. A patient's part in it is the mean over
fits of its structural component (DeLong, DeLong & Clarke-Pearson, Biometrics 1988;44:837), so a patient that is scored
by several fits counts as one: DeLong's variance of averaged components where every fit scored everybody, and that of
Obuchowski (Biometrics 1997;53:567), patients as clusters, where fits scored different ones. *Fits*: B / S, with B the
variance of the S fits' AUCs; it carries the randomness of training and of the split. Where fits tested different
patients, B contains their sampling too, so that the sum is too large rather than too small.

The interval of a mean takes Student's t with the degrees of freedom of Satterthwaite (Biometrics Bull 1946;2:110) for
all estimated parts: those of patients with and without the event in each stratum, as in `delong`, and B/S with S - 1.
The interval of a difference and its p-value take the patients' part P as known, as `paired_delong` does, which leaves
(S - 1) ((P + B/S) / (B/S))^2. One fit alone gives what `delong` and `paired_delong` give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from scipy.stats import norm
from scipy.stats import t as student

from fedloupe.metrics.checks import ScoresInvalid, TooFewPatients, checked, two_classes
from fedloupe.metrics.discrimination import mann_whitney, one_patient_off, placements, welch

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RepeatedAuc:
    """Mean AUC over `fits`, its standard error and 95 % interval; `between` is the standard deviation over fits."""

    auc: float
    se: float
    low: float
    high: float
    between: float
    fits: int


@dataclass(frozen=True)
class RepeatedDifference:
    """Mean AUC of the first model minus that of the second, its standard error, 95 % interval and two-sided p-value."""

    difference: float
    se: float
    low: float
    high: float
    p: float


class Repeated:
    """Scores of S fits for the n patients of one stratum.

    Args:
        labels: (n) 0 or 1; 1 is the event.
        scores: (S, n) probabilities, NaN where the fit did not score the patient; or (S, K, n), where a fit is K models
            (the folds of a cross-validation, the sites' own) and its AUC is their mean.

    Attributes:
        aucs: (S) AUC of each fit.

    Raises:
        ScoresInvalid: not of these shapes, no fit, or a score outside [0, 1].
        OneClassOnly: a fit scored patients of one outcome alone.
    """

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
        if values.ndim == 2:
            values = values[:, None]
        if values.ndim != 3 or truth.shape != values.shape[2:] or not values[..., 0].size:
            raise ScoresInvalid(
                f"labels of shape {truth.shape} and scores of shape {values.shape}",
                remedy="give one row of scores a fit, one column a patient",
            )
        if (np.isnan(values) != np.isnan(values[:, :1])).any():
            raise ScoresInvalid("models of one fit scored different patients", remedy="join the folds of a fit first")
        self.labels, self.scored = truth, ~np.isnan(values[:, 0])
        self._event = truth.astype(bool)
        self._fits = [
            [_fit(truth, row, scored) for row in models] for models, scored in zip(values, self.scored, strict=True)
        ]
        self.aucs = np.array([np.mean([fit.auc for fit in fits]) for fits in self._fits])

    @property
    def patients(self) -> int:
        """Patients that at least one fit scored."""
        return int(self.scored.any(axis=0).sum())

    @property
    def centre(self) -> float:
        """Mean of the fits' AUCs, those of exactly 0 and 1 moved inwards as `delong` does for its interval."""
        return float(np.mean([fit.centre for fits in self._fits for fit in fits]))

    @property
    def fewest(self) -> int:
        """Patients of the rarer outcome in the fit that scored fewest of it."""
        events = (self.scored & self._event).sum(axis=1)
        return int(min(events.min(), (self.scored.sum(axis=1) - events).min()))

    def parts(self) -> Floats:
        """(n) what each patient adds to the mean's deviation from its expectation; 0 for one that no fit scored."""
        parts: Floats = np.mean([fit.parts for fits in self._fits for fit in fits], axis=0)
        return parts

    def variance(self) -> float:
        """Variance of the mean AUC over patients; what `delong` says where none can be estimated."""
        everyone = self.scored.any(axis=0)
        positives, negatives = int((everyone & self._event).sum()), int((everyone & ~self._event).sum())
        if self.fewest == 1:
            return 0.25
        if all(fit.constant for fits in self._fits for fit in fits):
            return (positives + negatives + 1) / (12 * positives * negatives)
        return self.variance_of(self.parts())

    def variance_of(self, parts: Floats) -> float:
        """Variance of a sum of patients' parts: events and others apart, I / (I - 1) times the sum of squares."""
        return sum(variance for variance, _ in self._by_outcome(parts))

    def welch_parts(self) -> list[tuple[float, float]]:
        """Variance of the mean AUC by outcome with degrees of freedom, infinite where `variance` estimates none."""
        if self.fewest == 1 or all(fit.constant for fits in self._fits for fit in fits):
            return [(self.variance(), inf)]
        return self._by_outcome(self.parts())

    def _by_outcome(self, parts: Floats) -> list[tuple[float, float]]:
        everyone, found = self.scored.any(axis=0), []
        for group in (everyone & self._event, everyone & ~self._event):
            count = int(group.sum())
            found.append((count / (count - 1) * float((parts[group] ** 2).sum()), count - 1.0))
        return found


@dataclass(frozen=True)
class _Fit:
    auc: float
    centre: float
    constant: bool
    parts: Floats


def _fit(labels: NDArray[np.generic], row: Floats, scored: NDArray[np.bool_]) -> _Fit:
    truth, value = checked(labels[scored], row[scored])
    two_classes(truth)
    auc = mann_whitney(truth, value)
    by_positive, by_negative = placements(truth, one_patient_off(truth, value, auc))
    parts, seen = np.zeros(len(labels)), np.flatnonzero(scored)
    parts[seen[truth]] = (by_positive - by_positive.mean()) / by_positive.size
    parts[seen[~truth]] = (by_negative - by_negative.mean()) / by_negative.size
    return _Fit(auc, float(by_positive.mean()), bool(np.ptp(value) == 0), parts)


def repeated_auc(strata: Sequence[Repeated], weights: ArrayLike | None = None) -> RepeatedAuc:
    """Mean AUC over fits and strata with its 95 % interval on the logit scale; see the module's text.

    Args:
        strata: at least one, all with the same fits in the same order.
        weights: of the strata; their patients where None.

    Raises:
        ScoresInvalid: no stratum, or strata with different numbers of fits.
    """
    share = _shares(strata, weights)
    by_fit = share @ np.array([stratum.aucs for stratum in strata])
    between = float(by_fit.var(ddof=1)) if by_fit.size > 1 else 0.0
    parts = [(w**2 * v, d) for w, s in zip(share, strata, strict=True) for v, d in s.welch_parts()]
    if between:
        parts.append((between / by_fit.size, by_fit.size - 1.0))
    variances, degrees = [float(v) for v, _ in parts], [d for _, d in parts]
    quantile = float(student.ppf(0.975, welch(variances, degrees)))
    auc, se, centre = float(by_fit.mean()), sqrt(sum(variances)), float(share @ [s.centre for s in strata])
    if len(strata) == 1 and strata[0].fewest == 1:
        return RepeatedAuc(auc, se, 0.0, 1.0, sqrt(between), by_fit.size)
    half = quantile * se / (centre * (1 - centre))
    low = 0.0 if auc == 0 else float(expit(logit(centre) - half))
    high = 1.0 if auc == 1 else float(expit(logit(centre) + half))
    return RepeatedAuc(auc, se, low, high, sqrt(between), by_fit.size)


def repeated_difference(
    first: Sequence[Repeated], second: Sequence[Repeated], weights: ArrayLike | None = None
) -> RepeatedDifference:
    """Paired difference of two models' mean AUCs; the two-sided p-value is of the same t as the interval.

    Args:
        first, second: the same strata of the two models: same patients, same fits, in the same order.
        weights: as in `repeated_auc`.

    Raises:
        ScoresInvalid: as in `repeated_auc`, or the two differ in patients or fits.
        TooFewPatients: a fit scored fewer than two patients of an outcome.
    """
    share = _shares(first, weights)
    if len(first) != len(second) or any(
        not (np.array_equal(a.labels, b.labels) and np.array_equal(a.scored, b.scored))
        for a, b in zip(first, second, strict=False)
    ):
        raise ScoresInvalid("two models were scored on different patients", remedy="pair only what has the same rows")
    if min(stratum.fewest for stratum in first) < 2:
        raise TooFewPatients("a paired comparison needs two patients of each class", remedy="compare on a larger split")
    pairs = list(zip(share, first, second, strict=True))
    by_fit = np.sum([w * (a.aucs - b.aucs) for w, a, b in pairs], axis=0)
    patients = sum(w**2 * a.variance_of(a.parts() - b.parts()) for w, a, b in pairs)
    between = float(by_fit.var(ddof=1)) if by_fit.size > 1 else 0.0
    variance, quantile = _spread(float(patients), between, by_fit.size)
    difference, se = float(by_fit.mean()), sqrt(variance)
    freedom = _freedom(float(patients), between, by_fit.size)
    if difference == 0:
        p = 1.0
    elif not se:
        p = 0.0
    else:
        p = float(2 * (norm.sf(abs(difference) / se) if freedom == inf else student.sf(abs(difference) / se, freedom)))
    return RepeatedDifference(difference, se, difference - quantile * se, difference + quantile * se, p)


def _freedom(patients: float, between: float, fits: int) -> float:
    return (fits - 1) * ((patients + between / fits) / (between / fits)) ** 2 if between else inf


def _spread(patients: float, between: float, fits: int) -> tuple[float, float]:
    """Total variance and the 97.5 % quantile that goes with it."""
    freedom = _freedom(patients, between, fits)
    quantile = norm.ppf(0.975) if freedom == inf else student.ppf(0.975, freedom)
    return patients + between / fits, float(quantile)


def _shares(strata: Sequence[Repeated], weights: ArrayLike | None) -> Floats:
    """Weights that add up to one.

    Raises:
        ScoresInvalid: see `repeated_auc`.
    """
    if not strata or len({len(stratum.aucs) for stratum in strata}) != 1:
        raise ScoresInvalid("no stratum, or strata of different fits", remedy="give every stratum the same fits")
    raw = np.asarray([s.patients for s in strata] if weights is None else weights, dtype=np.float64)
    if raw.shape != (len(strata),) or (raw < 0).any() or not raw.sum():
        raise ScoresInvalid(
            f"weights {raw.tolist()} for {len(strata)} strata", remedy="give one weight each, not all 0"
        )
    shares: Floats = raw / raw.sum()
    return shares
