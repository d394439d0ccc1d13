"""The section that declares the evidence before anybody sees it: what is computed of the frozen model at each site.

evidence:                                                    # in a study's YAML
  decision: [0.2, 0.6]
  subgroups: [{name: age, column: age, cuts: [65]}, {name: sex, column: sex, levels: {women: [f], men: [m]}}]
  labels: {assessor: pathologist, blinded: true}
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from fedloupe.study.sections import Frozen, Grown, Name

Header = Literal["vendor", "field-strength"]
"""What DICOM says of the first sequence's scanner: Manufacturer (0008,0070), Magnetic Field Strength (0018,0087)."""

RESERVED = ("outcome", "grade")
"""Variables that every table of patients has."""


class Subgroup(Frozen):
    """Groups of patients in which the model is judged as well, declared before validation.

    Numbers are cut: `cuts: [60, 70]` makes `<60`, `60-<70` and `>=70`. Words are grouped by `levels`; without either
    each word is a level of its own. `header` reads the scanner from DICOM; a site without DICOM may bring `column`.
    A patient whose value is not known is in no group, and counted as such.
    """

    name: Name
    column: str | None = Field(default=None, description="of the site's clinical table; a site may lack it")
    header: Header | None = Field(default=None, description="of the DICOM header of the study's first sequence")
    cuts: tuple[float, ...] = Field(default=(), max_length=8)
    fairness: bool = Field(default=False, description="groups of people who should be treated alike: sex, age")
    levels: dict[Name, tuple[str, ...]] = Field(default={}, description="name of a level to the table's words for it")

    @model_validator(mode="after")
    def _stated(self) -> Self:
        if self.column is None and self.header is None:
            raise ValueError(f"subgroup `{self.name}` needs `column` or `header`")
        if self.cuts and self.levels:
            raise ValueError(f"subgroup `{self.name}` has `cuts` or `levels`, not both")
        if any(low >= high for low, high in pairwise(self.cuts)):
            raise ValueError(f"`cuts` of subgroup `{self.name}` do not rise")
        words = [word.casefold() for group in self.levels.values() for word in group]
        if len(words) != len(set(words)):
            raise ValueError(f"subgroup `{self.name}` puts one word into two `levels`")
        return self


class LabelSheet(Frozen):
    """How the outcome came about, as the study declares it; nothing of it is checked by software."""

    assessor: str = Field(max_length=200, description="who judged the response: pathologist, radiologist")
    blinded: bool | None = Field(default=None, description="whether without knowing images or predictions")
    histology: bool | None = Field(default=None, description="whether it is read from resected tissue at every site")
    interval: str = Field(default="", max_length=200, description="from MRI to outcome, in words")
    notes: str = Field(default="", max_length=500)


class Declared(Frozen):
    """What only people know and a journal asks; it is approved with the study, and repeated in the pack as declared."""

    design: str = Field(default="", max_length=500, description="prospective or retrospective; how patients came in")
    eligibility: str = Field(default="", max_length=1000, description="who may enter and who may not, clinically")
    treatment: str = Field(default="", max_length=500, description="between images and outcome")
    setting: str = Field(default="", max_length=500, description="place and level of care of each hospital")
    source: str = Field(default="", max_length=500, description="routine care, registry or trial, by hospital")
    accrual: str = Field(default="", max_length=300, description="first and last year of imaging, end of follow-up")
    contours: str = Field(default="", max_length=500, description="how masks were made at each site, by which rule")
    operators: str = Field(default="", max_length=500, description="who drew them, with which experience")
    one_reader: bool | None = Field(default=None, description="each test patient's mask is of one reader or a model")
    sample_size: str = Field(default="", max_length=500, description="how many patients, why, what for")
    fairness: str = Field(default="", max_length=500, description="what was done about fairness")
    use: str = Field(default="", max_length=500, description="where in care the model would stand, and used by whom")


class Evidence(Grown):
    """What is computed of the frozen model, with limits that are fixed before any result is known."""

    later: ClassVar = ()

    decision: tuple[float, float] = Field(
        default=(0.1, 0.6), description="range of threshold probabilities of the decision curve"
    )
    resamples: int = Field(default=2000, ge=200, le=20_000, description="of the bootstrap at each site")
    recalibration: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="share of a site's scored patients that refits the line; the rest judge it",
    )
    bins: int = Field(default=512, ge=20, le=1000, description="of the histograms that are added over training sites")
    subgroups: tuple[Subgroup, ...] = Field(default=(), max_length=12)
    labels: LabelSheet | None = None
    declared: Declared | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        low, high = self.decision
        if not 0 < low < high < 1:
            raise ValueError("`decision` is two probabilities, the lower one first, between 0 and 1")
        names = [group.name for group in self.subgroups]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"`subgroups` names {twice} more than once")
        return self

    def taken(self, clinical: Sequence[str]) -> list[str]:
        """Names of these clinical variables and of subgroups that tables of patients use for something else."""
        return sorted({*RESERVED} & {*clinical, *(group.name for group in self.subgroups)})
