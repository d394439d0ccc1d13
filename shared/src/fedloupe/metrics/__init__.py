"""How good a model is, in numbers that may leave a hospital, and how sites' numbers are pooled.

auc = delong(labels, scores)                                  # at a site
pooled = pool_auc([(a.auc, a.se, n) for a, n in sites])       # at the coordinator
"""

from fedloupe.metrics.agreement import Form, Intraclass, RepeatSums, intraclass, mean_correlation, repeat_sums
from fedloupe.metrics.bootstrap import bootstrap_auc
from fedloupe.metrics.calibration import (
    Estimate,
    ObservedExpected,
    brier,
    calibration_groups,
    calibration_in_the_large,
    calibration_slope,
    expected_calibration_error,
    log_observed_expected,
    observed_expected,
    recalibrate,
)
from fedloupe.metrics.checks import (
    CountsInvalid,
    EstimateInvalid,
    NothingToPool,
    OneClassOnly,
    ScoresInvalid,
    TooFewPatients,
)
from fedloupe.metrics.curves import Curve, smooth_calibration
from fedloupe.metrics.decision import NetBenefit, decision_curve, net_benefit
from fedloupe.metrics.differences import standardized_levels, standardized_mean, standardized_share
from fedloupe.metrics.discrimination import Auc, PairedDifference, delong, hanley_mcneil_se, paired_delong
from fedloupe.metrics.intervals import Interval
from fedloupe.metrics.meta import Meta, random_effects
from fedloupe.metrics.operating import (
    ThresholdMetrics,
    score_histogram,
    summed_logits,
    threshold_metrics,
    youden_threshold,
)
from fedloupe.metrics.ordinal import Concordance, ordinal_concordance
from fedloupe.metrics.pooled_roc import (
    HistogramAuc,
    HistogramCalibration,
    PooledGroup,
    histogram_auc,
    histogram_calibration,
    histogram_roc,
)
from fedloupe.metrics.pooling import PooledAuc, PooledRatio, pool_auc, pool_observed_expected
from fedloupe.metrics.proportions import Confusion, Share, wilson
from fedloupe.metrics.repeated import Repeated, RepeatedAuc, RepeatedDifference, repeated_auc, repeated_difference

__all__ = [
    "Auc",
    "Concordance",
    "Confusion",
    "CountsInvalid",
    "Curve",
    "Estimate",
    "EstimateInvalid",
    "Form",
    "HistogramAuc",
    "HistogramCalibration",
    "Interval",
    "Intraclass",
    "Meta",
    "NetBenefit",
    "NothingToPool",
    "ObservedExpected",
    "OneClassOnly",
    "PairedDifference",
    "PooledAuc",
    "PooledGroup",
    "PooledRatio",
    "RepeatSums",
    "Repeated",
    "RepeatedAuc",
    "RepeatedDifference",
    "ScoresInvalid",
    "Share",
    "ThresholdMetrics",
    "TooFewPatients",
    "bootstrap_auc",
    "brier",
    "calibration_groups",
    "calibration_in_the_large",
    "calibration_slope",
    "decision_curve",
    "delong",
    "expected_calibration_error",
    "hanley_mcneil_se",
    "histogram_auc",
    "histogram_calibration",
    "histogram_roc",
    "intraclass",
    "log_observed_expected",
    "mean_correlation",
    "net_benefit",
    "observed_expected",
    "ordinal_concordance",
    "paired_delong",
    "pool_auc",
    "pool_observed_expected",
    "random_effects",
    "recalibrate",
    "repeat_sums",
    "repeated_auc",
    "repeated_difference",
    "score_histogram",
    "smooth_calibration",
    "standardized_levels",
    "standardized_mean",
    "standardized_share",
    "summed_logits",
    "threshold_metrics",
    "wilson",
    "youden_threshold",
]
