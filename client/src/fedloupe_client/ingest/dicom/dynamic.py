"""The arithmetic of a dynamic contrast-enhanced series: which frame is which phase, and maps of how a voxel enhances.

    index = phases(times_s, mean_curve(frames))   # {"pre": 1, "peak": 4, "late": 7}
    maps = kinetic_maps(frames, times_s)          # wash_in, wash_out, time_to_peak, auc; (z, y, x) float32

Semi-quantitative throughout (Evelhoch 1999, J Magn Reson Imaging 10:254): enhancement is relative to the voxel's own
signal before contrast, so no T1, no arterial input and no scanner unit enters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedloupe_client.ingest.problems import DynamicTimes, DynamicTooShort, ImageInvalid, NoEnhancement

ONSET = 0.1  # share of the curve's whole rise at which enhancement has begun
LEAST_RISE = 0.02  # of the first frame; less is drift of the scanner
NOISE_SHARE = 0.05  # of the 99th percentile; what is darker before contrast is air or noise
AUC_WINDOW_S = 90.0


def phases(times_s: Sequence[float], curve: Sequence[float]) -> dict[str, int]:
    """Index of the frames `pre`, `peak` and `late` of a dynamic series.

    `peak` is the brightest frame (the earliest of equals). Enhancement begins at the first frame above the first
    frame's value by more than a tenth of the rise to the peak; `pre` is the frame before it. `late` is the last
    frame, which is also the peak where the curve only rises. So 0 <= pre < peak <= late.

    Args:
        times_s: acquisition time of each frame, s, rising; steps may be uneven.
        curve: mean signal of each frame, any unit, as from `mean_curve`.

    Raises:
        DynamicTooShort: fewer than three frames.
        DynamicTimes: times that do not rise, are not finite, or are not one a frame.
        NoEnhancement: no frame is brighter than the first by 2 %: a flat or falling curve.
    """
    _check_times(times_s, len(curve))
    values = np.asarray(curve, np.float64)
    peak = int(np.argmax(values))
    rise = values[peak] - values[0]
    if not rise > LEAST_RISE * abs(values[0]):
        raise NoEnhancement(
            "no frame of the dynamic series is brighter than the first by 2 %",
            remedy="check that these are the frames of one contrast injection, in their order; else leave it out",
        )
    begun = int(np.argmax(values > values[0] + ONSET * rise))
    return {"pre": begun - 1, "peak": peak, "late": len(values) - 1}


def mean_curve(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean signal of each frame over the voxels above noise, (T).

    Above noise is what exceeds, in the mean over time, 5 % of that mean's 99th percentile.

    Args:
        frames: (T, z, y, x), any unit.

    Raises:
        ImageInvalid: values that are not finite.
    """
    if not np.isfinite(frames).all():
        raise ImageInvalid("the dynamic series holds values that are not finite", remedy="export it again")
    inside = _above_noise(frames.mean(0, dtype=np.float64))
    if not inside.any():
        return np.zeros(len(frames))
    curve: NDArray[np.float64] = np.array([frame[inside].mean(dtype=np.float64) for frame in frames])
    return curve


def kinetic_maps(frames: NDArray[np.float32], times_s: Sequence[float]) -> dict[str, NDArray[np.float32]]:
    """Maps of the enhancement E(t) = S(t) / S0 - 1 of each voxel.

    S0 is the mean of the frames up to the series' `pre` phase, at whose time t0 the clock starts. The peak is each
    voxel's own, the earliest of equals, among the frames after `pre`.

    - `wash_in`: E(peak) / (t_peak - t0), 1/s.
    - `wash_out`: (E(last) - E(peak)) / (t_last - t_peak), 1/min, never above 0; 0 where the peak is the last frame.
    - `time_to_peak`: t_peak - t0, s.
    - `auc`: integral of E from t0 to t0 + 90 s (IAUC90), s; trapezoids, linear in between; E(t0) counts as 0. A series
      that ends earlier is integrated to its end.

    Everything is 0 where S0 is not above noise (5 % of the 99th percentile of S0). The first three are 0 as well where
    no frame after `pre` is brighter than S0.

    Args:
        frames: (T, z, y, x), any unit.
        times_s: acquisition time of each frame, s, rising; steps may be uneven.

    Raises:
        DynamicTooShort, DynamicTimes, NoEnhancement: see `phases`.
        ImageInvalid: values that are not finite.
    """
    _check_times(times_s, len(frames))
    pre = phases(times_s, mean_curve(frames).tolist())["pre"]
    clock = np.asarray(times_s, np.float64)[pre:] - times_s[pre]
    before = frames[: pre + 1].mean(0, dtype=np.float64)
    inside = _above_noise(before)
    weights = _trapezoid(clock, AUC_WINDOW_S)
    maps = {name: np.zeros(before.shape, np.float32) for name in ("wash_in", "wash_out", "time_to_peak", "auc")}
    for z in range(len(before)):  # a slice at a time: the whole series need not be held twice
        here = inside[z]
        if not here.any():
            continue
        enhancement = frames[pre:, z][:, here] / before[z][here] - 1
        enhancement[0] = 0
        peak = 1 + np.argmax(enhancement[1:], 0)
        height = np.take_along_axis(enhancement, peak[None], 0)[0]
        rises, at = height > 0, clock[peak]
        left = np.where(peak < len(clock) - 1, clock[-1] - at, np.inf)
        maps["wash_in"][z][here] = np.where(rises, height / at, 0)
        maps["wash_out"][z][here] = np.where(rises, 60 * (enhancement[-1] - height) / left, 0)
        maps["time_to_peak"][z][here] = np.where(rises, at, 0)
        maps["auc"][z][here] = weights @ enhancement
    return maps


def _check_times(times_s: Sequence[float], frames: int) -> None:
    if frames < 3:
        raise DynamicTooShort(
            f"the dynamic series has {frames} frames",
            remedy="give all frames: at least one before contrast and two after",
        )
    times = np.asarray(times_s, np.float64)
    if len(times) != frames or not np.isfinite(times).all() or not (np.diff(times) > 0).all():
        raise DynamicTimes(
            "the times of the dynamic series do not rise from frame to frame",
            remedy="check the acquisition times in its headers; export the series with them, each frame once",
        )


def _above_noise(signal: NDArray[np.float64]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = signal > max(NOISE_SHARE * float(np.percentile(signal, 99)), 0.0)
    return inside


def _trapezoid(clock: NDArray[np.float64], end: float) -> NDArray[np.float64]:
    """Weight of each frame in the integral of the piecewise linear curve from 0 to `end`."""
    weights = np.zeros(len(clock))
    for i, (a, b) in enumerate(zip(clock[:-1], np.minimum(clock[1:], end), strict=True)):
        if b > a:
            share = (b - a) / (clock[i + 1] - a)  # of this step; its value at b lies that far along
            weights[i] += (b - a) * (1 - share / 2)
            weights[i + 1] += (b - a) * share / 2
    return weights
