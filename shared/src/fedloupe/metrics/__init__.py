"""How good a model is, in numbers that may leave a hospital, and how sites' numbers are pooled.

auc = delong(labels, scores)                                  # at a site
pooled = pool_auc([(a.auc, a.se, n) for a, n in sites])       # at the coordinator
"""

from fedloupe.metrics.agreement import Form, Intraclass, RepeatSums, intraclass, mean_correlation, repeat_sums
from fedloupe.metrics.calibration import (
    Estimate,
    brier,
    calibration_groups,
    calibration_in_the_large,
    calibration_slope,
    expected_calibration_error,
)
from fedloupe.metrics.checks import NothingToPool, OneClassOnly, ScoresInvalid, TooFewPatients
from fedloupe.metrics.discrimination import Auc, PairedDifference, delong, hanley_mcneil_se, paired_delong
from fedloupe.metrics.operating import (
    ThresholdMetrics,
    score_histogram,
    summed_logits,
    threshold_metrics,
    youden_threshold,
)
from fedloupe.metrics.pooling import PooledAuc, pool_auc
from fedloupe.metrics.repeated import Repeated, RepeatedAuc, RepeatedDifference, repeated_auc, repeated_difference

__all__ = [
    "Auc",
    "Estimate",
    "Form",
    "Intraclass",
    "NothingToPool",
    "OneClassOnly",
    "PairedDifference",
    "PooledAuc",
    "RepeatSums",
    "Repeated",
    "RepeatedAuc",
    "RepeatedDifference",
    "ScoresInvalid",
    "ThresholdMetrics",
    "TooFewPatients",
    "brier",
    "calibration_groups",
    "calibration_in_the_large",
    "calibration_slope",
    "delong",
    "expected_calibration_error",
    "hanley_mcneil_se",
    "intraclass",
    "mean_correlation",
    "paired_delong",
    "pool_auc",
    "repeat_sums",
    "repeated_auc",
    "repeated_difference",
    "score_histogram",
    "summed_logits",
    "threshold_metrics",
    "youden_threshold",
]
