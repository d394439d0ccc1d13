"""Intensities to grey levels 1..Ng.

levels = discretise(values, BinNumber(bins=32))     # int64, same length
"""

from __future__ import annotations

import numpy as np

from fedloupe.features import BinNumber, BinSize
from fedloupe_client.radiomics.kernel import Floats, Ints


def discretise(values: Floats, rule: BinNumber | BinSize) -> Ints:
    """Grey levels of finite values (IBSI FBN, K15C; FBS, Q3RU).

    Args:
        values: (N) with a maximum above the minimum where the rule is a bin number.
        rule: bin number between minimum and maximum, or bin size from an origin, clipped to [1, limit].

    Returns:
        int64 (N), levels from 1.
    """
    if isinstance(rule, BinNumber):
        low, high = values.min(), values.max()
        levels = np.floor(rule.bins * (values - low) / (high - low)) + 1
        highest = rule.bins
    else:
        levels = np.floor((values - rule.origin) / rule.width) + 1
        highest = rule.limit
    clipped: Ints = np.clip(levels, 1, highest).astype(np.int64)
    return clipped
