"""What is said of the frozen model at a site beyond its scores, and of the patients it was judged on.

    cohort      # every site of a study with `evidence`: who the patients are, in numbers that may be shown
    scores      # training sites: histograms of test patients' scores, only ever added over sites
    assess      # every site: bootstrap, calibration, recalibration, paired comparisons, subgroups, grades

`scores` and `assess` are about scores that the site worked out for an `evaluate` of the same run, and kept.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedloupe.record import A, C, Message, P, Tensor, says

Label = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,59}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Part = Literal["development", "evaluation"]
"""Patients that trained or tuned; patients that were scored (the test split, or all of a validate-only site)."""
CURVE = 21
"""Points of the smooth calibration curve."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Described(_Record):
    """One line of Table 1: a number's mean and SD, or how many patients are in a level.

    Attributes:
        variable: its name: the study's, `outcome`, `grade`, `sequence <name>`, or `interval <name>` in days.
        part: of which patients.
        level: of a variable with levels; None for a number.
        patients: that have a value.
        missing: that have none.
        count: in the level; None for a number.
        mean: of a number, in the study's own units; None for a level.
        sd: likewise, n - 1 in the denominator.
    """

    variable: str = Field(max_length=80)
    part: Part
    level: str | None = Field(default=None, max_length=80)
    patients: int = Field(ge=0)
    missing: int = Field(ge=0)
    count: int | None = Field(default=None, ge=0)
    mean: float | None = None
    sd: float | None = Field(default=None, ge=0)


class CohortRequest(Message):
    """Ask who the patients are."""

    kind: Literal["cohort"] = "cohort"


class CohortReply(Message):
    """The patients in numbers; lines that would show few patients are left out and named."""

    kind: Literal["cohort-reply"] = "cohort-reply"
    candidates: int = says(C, "cases that the site looked at", ge=0)
    patients: int = says(C, "different patients among those used", ge=0)
    shared: int = says(C, "patients with cases in more than one split", ge=0)
    scale: str | None = says(P, "the scale that the site declares for its outcome", max_length=40, default=None)
    splits: str = says(P, "SHA-256 of case and split of each patient, keyed by a secret of the site", max_length=64)
    lines: tuple[Described, ...] = says(A, "Table 1", max_length=400)
    withheld: tuple[str, ...] = says(P, "variables with lines too small to show", max_length=400, default=())


class ScoresRequest(Message):
    """Ask for the histograms of a model's scores on test patients; only ever answered as a term of a sum."""

    kind: Literal["scores"] = "scores"
    label: Label = says(P, "which model")
    scored: Sha256 = says(P, "what the scores rest on (`EvaluateRequest.rests_on`)")
    bins: int = says(P, "of equal width in probability", ge=20, le=1000)


class ScoresReply(Message):
    """Patients by score bin, with and without the event (`fedloupe.metrics.score_histogram`)."""

    tensors: ClassVar[tuple[str, ...]] = ("positives_by_score", "negatives_by_score")
    kind: Literal["scores-reply"] = "scores-reply"
    patients: int = says(C, "test patients", ge=0)
    positives: int = says(C, "of them with the event", ge=0)
    positives_by_score: Tensor = says(A, "(bins) float64; outside secure sums small bins merged, spread evenly")
    negatives_by_score: Tensor = says(A, "(bins) float64; likewise")


class AssessRequest(Message):
    """Judge a model by the scores that the site worked out with it in this run."""

    kind: Literal["assess"] = "assess"
    label: Label = says(P, "which model")
    scored: Sha256 = says(P, "what the scores rest on (`EvaluateRequest.rests_on`)")
    split: Literal["test", "all"] = says(P, "as it was scored")
    threshold: float = says(P, "fixed before", ge=0, le=1)
    against: tuple[Label, ...] = says(P, "models scored on the same patients, to compare with", max_length=40)


class Paired(_Record):
    """The model's AUC less another's on the same patients (DeLong 1988)."""

    against: str = Field(max_length=60)
    difference: float = Field(ge=-1, le=1)
    se: float = Field(ge=0)
    p: float = Field(ge=0, le=1)


class Fit(_Record):
    """How the probabilities fit the patients that judge a recalibration.

    Attributes:
        kind: none: as shipped; intercept: a moved; line: a and b refitted, of logit(p) = a + b x.
        line: a and b, fitted on the other patients.
        in_the_large: intercept at slope 1, with its standard error; of the probabilities after the line.
        slope: None where no finite one is most likely.
        observed: events over expected events.
        brier: mean squared error.
    """

    kind: Literal["none", "intercept", "line"]
    line: tuple[float, float]
    in_the_large: float
    in_the_large_se: float = Field(ge=0)
    slope: float | None = None
    slope_se: float | None = Field(default=None, ge=0)
    observed: float = Field(ge=0)
    brier: float = Field(ge=0, le=1)


class Recalibration(_Record):
    """A line refitted on some of the scored patients and judged on the others, before and after."""

    fitted: int = Field(ge=0)
    judged: int = Field(ge=0)
    positives: int = Field(ge=0)  # of those who judge
    fits: tuple[Fit, Fit, Fit]


class Subset(_Record):
    """The model in one level of a subgroup."""

    variable: str = Field(max_length=40)
    level: str = Field(max_length=80)
    patients: int = Field(ge=1)
    positives: int = Field(ge=0)
    auc: float = Field(ge=0, le=1)
    auc_se: float = Field(ge=0)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    sensitivity: float = Field(ge=0, le=1)
    specificity: float = Field(ge=0, le=1)
    predicted: float = Field(ge=0, le=1)  # mean probability


class Graded(_Record):
    """Patients of one grade of the site's scale: how the binary model's probability lies."""

    grade: str = Field(max_length=80)
    patients: int = Field(ge=1)
    predicted: float = Field(ge=0, le=1)
    called: float = Field(ge=0, le=1)  # share at or above the threshold


class AssessReply(Message):
    """What `assess` asks; groups that would show few patients are left out and named."""

    tensors: ClassVar[tuple[str, ...]] = ("curve",)
    kind: Literal["assess-reply"] = "assess-reply"
    label: str = says(P, "as asked")
    split: str = says(P, "as asked")
    patients: int = says(C, "patients scored", ge=1)
    positives: int = says(C, "of them with the event", ge=0)
    low: float = says(A, "95 % interval of the AUC, bootstrap", ge=0, le=1)
    high: float = says(A, "likewise", ge=0, le=1)
    expected: float | None = says(A, "mean predicted probability", ge=0, le=1, default=None)
    centre: float | None = says(A, "mean log-odds", default=None)
    spread: float | None = says(A, "their standard deviation", ge=0, default=None)
    in_the_large: float | None = says(A, "calibration in the large: intercept at slope 1", default=None)
    in_the_large_se: float | None = says(A, "its standard error", ge=0, default=None)
    slope: float | None = says(A, "calibration slope; None where the outcomes part the scores", default=None)
    slope_se: float | None = says(A, "its standard error", ge=0, default=None)
    curve: Tensor = says(A, "(4, 21) float64: predicted, observed, its 95 % limits; or (4, 0): no curve can be fitted")
    recalibration: Recalibration | None = says(A, "line refitted on some of the patients", default=None)
    paired: tuple[Paired, ...] = says(A, "comparisons with other models", max_length=40, default=())
    subgroups: tuple[Subset, ...] = says(A, "the model in each group", max_length=120, default=())
    grades: tuple[Graded, ...] = says(A, "by grade of the site's scale", max_length=20, default=())
    concordance: float | None = says(A, "of grades and scores", ge=0, le=1, default=None)
    concordance_se: float | None = says(A, "its standard error", ge=0, default=None)
    withheld: tuple[str, ...] = says(P, "variables with groups too small to show", max_length=40, default=())

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        for name in ("in_the_large", "slope", "concordance"):
            if (getattr(self, name) is None) != (getattr(self, f"{name}_se") is None):
                raise ValueError(f"`{name}` and its standard error go together")
        return self
