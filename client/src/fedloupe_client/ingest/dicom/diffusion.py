"""The apparent diffusion coefficient: from b-values, or as given, always in 1e-6 mm2/s.

adc = adc_map(frames, b_values=(50, 400, 800))    # (z, y, x) float32
adc, note = in_micro(values, "mm2/s")             # a map that the scanner made
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedloupe_client.ingest.problems import AdcUnit, BValues, ImageInvalid

# What the median of a map of tissue may be, 1e-6 mm2/s: cellular tumour is near 700, free water at 37 degrees 3000
# (Padhani 2009, Neoplasia 11:102). Three powers of ten apart, such ranges cannot be taken for each other.
TISSUE = (500.0, 3500.0)
POSSIBLE = (200.0, 5000.0)  # wider: a stated unit is only contradicted by what cannot be
SCALES = {"1e-6 mm2/s": 1.0, "1e-3 mm2/s": 1e3, "mm2/s": 1e6}
MM2 = {"mm": 1.0, "um": 1e-6, "cm": 1e2, "m": 1e6}
SPELLING = str.maketrans(
    {"²": "2", "\u00b5": "u", "\u03bc": "u", "\u2212": "-", **dict.fromkeys("^*. x\u00d7\u00b7()[]{}")}
)
UNIT = re.compile(r"(?:10?e?(?P<power>[+-]\d{1,2}))?(?P<length>mm|um|cm|m)2/s(?:ec)?")


def adc_map(frames: NDArray[np.float32], b_values: Sequence[float]) -> NDArray[np.float32]:
    """ADC by least squares on ln S(b) = ln S(0) - b ADC, equal weights, (z, y, x) in 1e-6 mm2/s.

    A b-value may occur several times (averages, directions): each frame counts. A signal of zero or less has no
    logarithm and is left out of its voxel's fit; where fewer than two different b-values remain, and where the fit is
    negative, the map is 0.

    Args:
        frames: (B, z, y, x), any unit.
        b_values: of each frame, s/mm2 (DICOM Diffusion b-value (0018,9087), PS3.3 C.8.13.5.9).

    Raises:
        BValues: not one a frame, negative, not finite, or fewer than two different ones.
        ImageInvalid: values that are not finite.
    """
    b = np.asarray(b_values, np.float64)
    if len(b) != len(frames) or not np.isfinite(b).all() or (b < 0).any() or len(np.unique(b)) < 2:
        raise BValues(
            "the diffusion series does not have two different b-values",
            remedy="give the images of at least two b-values, with their b-values in the headers",
        )
    if not np.isfinite(frames).all():
        raise ImageInvalid("the diffusion series holds values that are not finite", remedy="export it again")
    shape = frames.shape[1:]
    count, sum_b, sum_y = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    sum_bb, sum_by = np.zeros(shape), np.zeros(shape)
    least, most = np.full(shape, np.inf), np.full(shape, -np.inf)
    for value, frame in zip(b.tolist(), frames, strict=True):
        usable = frame > 0
        y = np.log(frame, out=np.zeros(shape), where=usable)
        count += usable
        sum_b += value * usable
        sum_bb += value**2 * usable
        sum_y += y
        sum_by += value * y
        least, most = np.where(usable, np.minimum(least, value), least), np.where(usable, np.maximum(most, value), most)
    fitted = most > least
    slope = np.divide(count * sum_by - sum_b * sum_y, count * sum_bb - sum_b**2, out=np.zeros(shape), where=fitted)
    adc: NDArray[np.float32] = np.maximum(-slope * 1e6, 0).astype(np.float32)
    return adc


def in_micro(values: NDArray[np.float32], unit: str | None) -> tuple[NDArray[np.float32], str]:
    """An ADC map in 1e-6 mm2/s, and a note on how its unit was known.

    The unit text is a UCUM code or a usual spelling: a power of ten, or none, before a squared length a second, as in
    `mm2/s`, `um2/s`, `10*-6.mm2/s`, `10-6mm2/s`, `1e-3 mm^2/s` (DICOM Measurement Units Code Sequence (0040,08EA),
    PS3.3 C.7.6.16.2.11). Without such a text the median of the positive values decides: 500 to 3500 is 1e-6 mm2/s,
    0.5 to 3.5 is 1e-3 mm2/s, 0.0005 to 0.0035 is mm2/s.

    Args:
        values: any shape.
        unit: text from the header; None, empty or of no known form where it says nothing.

    Returns:
        the values in 1e-6 mm2/s, and a note without values or identifiers.

    Raises:
        AdcUnit: neither text nor magnitude tells, or the text makes it a median outside 200 to 5000e-6 mm2/s.
        ImageInvalid: values that are not finite.
    """
    if not np.isfinite(values).all():
        raise ImageInvalid("the ADC map holds values that are not finite", remedy="export it again")
    positive = values[values > 0]
    median = float(np.median(positive)) if positive.size else 0.0
    stated = _stated(unit)
    if stated is not None:
        if not POSSIBLE[0] <= median * stated <= POSSIBLE[1]:
            raise AdcUnit(
                "the ADC map's values cannot be diffusion in tissue in the unit that its header states",
                remedy="export the map again with its rescale slope and unit, or the DWI to compute it from",
            )
        return (values * np.float64(stated)).astype(np.float32), "ADC unit from the header"
    for name, scale in SCALES.items():
        if TISSUE[0] <= median * scale <= TISSUE[1]:
            return (values * np.float64(scale)).astype(np.float32), f"ADC unit by magnitude: {name}"
    raise AdcUnit(
        "neither the header nor the magnitude tells the unit of the ADC map",
        remedy="check that this series is an ADC map; export it with its unit, or the DWI to compute it from",
    )


def _stated(unit: str | None) -> float | None:
    """Factor from a unit text to 1e-6 mm2/s; None where the text is of no known form."""
    plain = (unit or "").lower().translate(SPELLING)
    found = UNIT.fullmatch(plain)
    if found is None:
        return None
    return 1e6 * MM2[found["length"]] * 10.0 ** int(found["power"] or 0)
