"""The section under which a study gives probabilities for single patients: calibrated, with a stated coverage.

prediction: {calibration: platt, coverage: 0.9}        # in a study's YAML
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from fedloupe.study.sections import Frozen, Grown

FLATTEST = 0.05
"""A calibration line is held at this slope: where it would be flatter, the model hardly ranks its tuning patients."""


class LinePrior(Frozen):
    """How far the calibration line is expected to be from doing nothing: independent normal priors (log-odds).

    A line from a hundred tuning patients is known to 0.2 in height and 0.3 in slope, no better than this.
    """

    intercept_sd: float = Field(default=0.2, ge=0.01, le=10, description="of the change at the mean log-odds")
    slope_sd: float = Field(default=0.3, ge=0.01, le=10, description="of the slope, about 1")


class Prediction(Grown):
    """Calibration, conformal sets and training range, all fitted on the training sites' sums, then frozen.

    With the section every site of the study receives the frozen model and can run `fedloupe-site predict`.
    """

    later: ClassVar = ("prior",)

    calibration: Literal["platt", "temperature"] = Field(
        default="platt", description="platt: intercept and slope of the log-odds (Platt 1999); temperature: slope alone"
    )
    coverage: float = Field(
        default=0.9, ge=0.5, lt=1, description="share of patients whose prediction set holds the truth (Vovk 2005)"
    )
    beyond: float = Field(
        default=0.01, gt=0, le=0.2, description="share of tuning patients that lie beyond the training range"
    )
    prior: LinePrior | None = Field(
        default=None,
        description="keeps the line near the identity where tuning patients are few; None: they alone decide",
    )
