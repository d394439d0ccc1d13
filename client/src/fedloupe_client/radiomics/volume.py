"""Intensity-volume histogram: how much of the tumour is at least so bright (IBSI P88C).

volume_features(values, VolumeBinSize(origin=-1000, width=2.5, limit=560))     # 6
"""

from __future__ import annotations

import numpy as np

from fedloupe.features import BinNumber, BinSize
from fedloupe_client.radiomics.discretise import discretise
from fedloupe_client.radiomics.kernel import Floats


def volume_features(values: Floats, rule: BinNumber | BinSize) -> Floats:
    """Volume fractions at 10 and 90 % of the intensity range, intensities of 10 and 90 % of the volume, differences.

    Args:
        values: float64 (N), with a maximum above the minimum.
        rule: fine bins. A bin number: intensities are bin numbers, the range is that of the values. A bin size:
            intensities are bin centres in the image's unit, the range is all `limit` bins.

    Returns:
        (6): V10 and V90 (BC2M), I10 and I90 (GBPN), V10 - V90 (DDTU), I10 - I90 (CNV2). An intensity that no bin
        reaches, I10 of a tumour with a tenth of its voxels in the last bin, is the next bin beyond.
    """
    levels = discretise(values, rule)
    if isinstance(rule, BinNumber):
        highest, first, step = rule.bins, 1.0, 1.0
    else:
        highest, first, step = rule.limit, rule.origin + rule.width / 2, rule.width
    counts = np.bincount(levels, minlength=highest + 2)[1:]
    # fraction[k]: share of voxels in bin k + 1 or above; one more bin that is always empty
    fraction = counts[::-1].cumsum()[::-1] / len(values)
    place = np.arange(highest) / (highest - 1)
    volumes = [fraction[:highest][place >= share].max() for share in (0.1, 0.9)]
    intensities = [first + step * int(np.argmax(fraction <= share)) for share in (0.1, 0.9)]
    return np.array([*volumes, *intensities, volumes[0] - volumes[1], intensities[0] - intensities[1]])
