"""The training range from sums over patients: mean and shrunk covariance of all training sites.

centre, precision = training_range(total)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedloupe.messages import EmbedReply

Floats = NDArray[np.float64]
CONSTANT = 1e-6
"""A number whose standard deviation is below this share of its root mean square does not vary: it has no part."""


def training_range(total: EmbedReply) -> tuple[Floats, Floats]:
    """Mean (d) and precision (d, d) of the training patients' vectors.

    The correlations are shrunk towards none by oracle approximating shrinkage, which needs second moments only (Chen,
    Wiesel, Eldar & Hero, IEEE Trans Signal Process 2010;58:5016, eq. 23). Rows of numbers that never vary are zero.

    Args:
        total: summed over all training sites.
    """
    patients = total.patients
    centre: Floats = total.total / patients
    raw: Floats = total.product / patients
    covariance = raw - np.outer(centre, centre)
    variance = np.diagonal(covariance)
    varies = variance > CONSTANT**2 * np.diagonal(raw)
    precision = np.zeros_like(covariance)
    if varies.any():
        scale = np.sqrt(variance[varies])
        correlation = covariance[np.ix_(varies, varies)] / np.outer(scale, scale)
        inverse = np.linalg.inv(shrunk(correlation, patients))
        precision[np.ix_(varies, varies)] = (inverse + inverse.T) / 2 / np.outer(scale, scale)
    return centre, precision


def shrunk(covariance: Floats, patients: int) -> Floats:
    """(d, d) the covariance of this many patients, shrunk towards a multiple of the identity (OAS)."""
    size = len(covariance)
    mean = float(np.trace(covariance)) / size
    square = float(np.mean(covariance**2))
    above, below = square + mean**2, (patients + 1) * (square - mean**2 / size)
    share = 1.0 if below <= 0 else min(above / below, 1.0)
    found: Floats = (1 - share) * covariance + share * mean * np.eye(size)
    return found
