"""The site's limits, `home/policy.yaml`: set by the hospital, outside any study, stronger than any study.

policy = load_policy(home)      # no file: the defaults below
print(policy.describe())
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fedloupe.study import RECORD, StudyUnreadable
from fedloupe.study.loading import explain, read_yaml
from fedloupe_client.gate.errors import PolicyInvalid
from fedloupe_client.gate.hours import Hours

RequestKind = Literal[
    "hello",
    "summary",
    "buckets",
    "covariance",
    "describe",
    "stability",
    "redundancy",
    "crossproducts",
    "residuals",
    "prior",
    "harmonise",
    "sketch",
    "prepare",
    "newton",
    "train",
    "grow",
    "midpoint",
    "calibrate",
    "embed",
    "conform",
    "open",
    "cohort",
    "evaluate",
    "scores",
    "assess",
    "release",
    "overlap",
    "keys",
    "shares",
    "sum",
    "unmask",
]
Metric = Literal["calibration", "prediction", "histogram", "cohort", "subgroups"]
# `true` must not pass for the number 1, which would be the loosest limit of all.
Count = Annotated[int, Field(strict=True, ge=1)]


class Policy(BaseModel):
    """What this hospital allows, whatever a study asks."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    minimum_cohort: Count = Field(default=20, description="training patients below which the site contributes nothing")
    minimum_cell: Count = Field(default=3, description="smallest group of patients that a statistic may describe")
    require_dp: bool = Field(default=False, description=f"refuse studies without {RECORD} differential privacy")
    require_secure_sums: bool = Field(
        default=False, description="refuse studies whose coordinator sees this site's sums and weights"
    )
    epsilon_budget: float = Field(
        default=10.0, gt=0, le=100, description="epsilon that all runs of all studies may spend together"
    )
    delta: float = Field(default=1e-5, gt=0, lt=1e-2, description="delta at which the budget is counted")
    messages: tuple[RequestKind, ...] = Field(
        default=get_args(RequestKind), description="kinds of request that are answered"
    )
    metrics: tuple[Metric, ...] = Field(
        default=get_args(Metric),
        description="told of a scored split beside AUC, Brier score and rates at the threshold: calibration groups, "
        "slope, error; coverage and range of predictions; histograms of scores; subgroups and grades. `cohort`: "
        "outcome, clinical values, scanners and subgroups of the patients, in numbers",
    )
    maximum_rounds: Count = Field(default=500, description="training requests in one run, of a model and of trees each")
    approval: Literal["study", "run", "round"] = Field(
        default="study",
        description="what a person approves here: the study once, each run of it as well, or each training request too",
    )
    hours: tuple[str, ...] = Field(
        default=(), description="when requests are answered, `mon-fri 20:00-06:00`, local time; empty: always"
    )

    @field_validator("hours")
    @classmethod
    def _are_hours(cls, spans: tuple[str, ...]) -> tuple[str, ...]:
        for span in spans:
            Hours.parse(span)
        return spans

    def open_at(self, moment: datetime) -> bool:
        """Whether requests are answered at this local time."""
        return not self.hours or any(Hours.parse(span).hold(moment) for span in self.hours)

    def describe(self) -> str:
        """The limits in force, one a line with its meaning."""
        lines = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            shown = (", ".join(value) or "-") if isinstance(value, tuple) else value
            lines.append(f"{name}: {shown}  ({field.description})")
        return "\n".join(lines)


def load_policy(home: Path) -> Policy:
    """The site's policy; the defaults where there is no file.

    Raises:
        PolicyInvalid: there is a file and it cannot be read, or holds anything but a policy.
    """
    path = home / "policy.yaml"
    remedy = "mend policy.yaml (see configs/policy-example.yaml); until then the site refuses everything"
    try:
        if not path.exists() and not path.is_symlink():
            return Policy()
        return Policy.model_validate(read_yaml(path))
    except (OSError, StudyUnreadable) as error:
        raise PolicyInvalid(f"the policy cannot be read: {error}", where=str(path), remedy=remedy) from None
    except ValidationError as error:
        raise PolicyInvalid(explain(error), where=str(path), remedy=remedy) from None
