"""The section that takes scanners' shifts out of the features: ComBat over hospitals, fitted on training patients.

harmonisation: {covariates: [age, sex], unseen: estimate}      # in a study's YAML
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from fedloupe.study.protocol import Study


class Harmonisation(BaseModel):
    """ComBat (Johnson 2007; Fortin 2018) from sums over sites. Without the section features stay as measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    empirical_bayes: bool = Field(default=True, description="shrink each batch's shifts over features")
    mean_only: bool = Field(default=False, description="take out shifts and leave widths")
    covariates: tuple[str, ...] = Field(
        default=(), description="names of `clinical` whose effect on the features stays; never the endpoint"
    )
    batch: str | None = Field(
        default=None,
        min_length=1,
        description="column of the clinical table with the scanner or protocol; None: the hospital is the batch",
    )
    reference: str | None = Field(default=None, description="training site to which the others are brought")
    minimum: int = Field(default=10, ge=2, le=1000, description="training patients that a batch needs")
    small: Literal["refuse", "mean-only"] = Field(
        default="refuse", description="what becomes of a smaller batch at a training site"
    )
    unseen: Literal["estimate", "none"] = Field(
        default="estimate",
        description="a batch that never trained: its shift from its own unlabelled cases and the frozen prior, or none",
    )

    def misfit(self, study: Study) -> str | None:
        """Why the section does not fit its study; None where it does."""
        return next(self._misfits(study), None)

    def _misfits(self, study: Study) -> Iterator[str]:
        columns = {variable.name: variable.column for variable in study.clinical}
        if study.radiomics.source == "none":
            yield "`harmonisation` needs features: `radiomics.source: computed` or `table`"
        if study.privacy.mode != "none":
            yield "`harmonisation` is not fitted under `privacy.mode: dp-sgd`: its sums would bypass the budget"
        if study.training.preparation != "federated":
            yield "`harmonisation` needs `training.preparation: federated`"
        if unknown := [name for name in self.covariates if name not in columns]:
            yield f"`harmonisation.covariates` names {unknown}, not among `clinical` {list(columns)}"
        if len(set(self.covariates)) < len(self.covariates):
            yield "`harmonisation.covariates` names a variable more than once"
        if study.endpoint.column in (*(columns.get(name) for name in self.covariates), self.batch):
            yield "`harmonisation` uses the endpoint's column: the features would be told what they shall predict"
        if self.reference is not None:
            if self.reference not in study.train_sites:
                yield f"`harmonisation.reference` is {self.reference}, not among the training sites"
            if self.batch is not None:
                yield "`harmonisation.reference` needs the hospital as batch: remove `batch`"
            if study.evaluation.leave_one_site_out:
                yield "`harmonisation.reference` cannot be left out: no `evaluation.leave_one_site_out` with it"
