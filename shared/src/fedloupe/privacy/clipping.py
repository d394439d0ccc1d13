"""A hospital's update under a bound, for what leaves a site.

    weights = clipped_weights(trained, start, bound=1.0)     # (m) float32; norm of weights - start is within the bound
    update = clipped_update(trained, start, bound=1.0)       # (m) float64, likewise, before it is rounded

An update is the difference of two weight vectors, w - start, in float64: exact enough, because both are float32. The
bound holds for what is stored or sent, after rounding, and not only on paper.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# A clipped update ends this much (relatively) below the bound: float64's rounding of a sum of squares is far smaller.
_MARGIN = 1e-9


def update_norm(weights: NDArray[Any], start: NDArray[Any]) -> float:
    """L2 norm of weights - start in float64; not a number or infinite where one of them is."""
    return float(np.linalg.norm(_difference(weights, start)))


def clipped_update(weights: NDArray[Any], start: NDArray[Any], bound: float) -> NDArray[np.float64]:
    """(m) the update, shortened to the bound where it is longer: u min(1, bound / |u|) (Abadi 2016, McMahan 2018).

    Args:
        weights: (m) after the hospital's training.
        start: (m) of the round.
        bound: on the L2 norm, > 0.

    Raises:
        ValueError: an update that is not finite has no direction (what is not finite is no message, see `decode`).
    """
    update = _difference(weights, start)
    norm = float(np.linalg.norm(update))
    if not np.isfinite(norm):
        raise ValueError("an update with a value that is not finite cannot be clipped")
    return update if norm <= bound else update * (bound / norm * (1 - _MARGIN))


def clipped_weights(weights: NDArray[Any], start: NDArray[Any], bound: float) -> NDArray[np.float32]:
    """(m) float32 weights whose update is within the bound after rounding.

    Rounding to the nearest float32 can push a coordinate away from `start`, and many together past the bound. Here each
    is rounded towards `start`, which is float32 itself: no coordinate moves further than the clipped update says.

    Args:
        weights: (m) after training.
        start: (m) float32, of the round.
        bound: on the L2 norm, > 0.

    Raises:
        ValueError: see `clipped_update`.
    """
    begin = np.asarray(start, np.float32)
    update = clipped_update(weights, begin, bound)
    rounded = (begin.astype(np.float64) + update).astype(np.float32)
    beyond = np.abs(_difference(rounded, begin)) > np.abs(update)
    return np.where(beyond, np.nextafter(rounded, begin), rounded)


def _difference(weights: NDArray[Any], start: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(weights, np.float64) - np.asarray(start, np.float64)
