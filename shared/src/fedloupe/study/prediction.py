"""The section under which a study gives probabilities for single patients: calibrated, with a stated coverage.

prediction: {calibration: platt, coverage: 0.9}        # in a study's YAML
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FLATTEST = 0.05
"""A calibration line is held at this slope: where it would be flatter, the model hardly ranks its tuning patients."""


class Prediction(BaseModel):
    """Calibration, conformal sets and training range, all fitted on the training sites' sums, then frozen.

    With the section every site of the study receives the frozen model and can run `fedloupe-site predict`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    calibration: Literal["platt", "temperature"] = Field(
        default="platt", description="platt: intercept and slope of the log-odds (Platt 1999); temperature: slope alone"
    )
    coverage: float = Field(
        default=0.9, ge=0.5, lt=1, description="share of patients whose prediction set holds the truth (Vovk 2005)"
    )
    beyond: float = Field(
        default=0.01, gt=0, le=0.2, description="share of tuning patients that lie beyond the training range"
    )
