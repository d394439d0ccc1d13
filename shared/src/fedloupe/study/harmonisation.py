"""The section that takes scanners' shifts out of the features: ComBat over hospitals, fitted on training patients.

harmonisation: {covariates: [age, sex], unseen: estimate}      # in a study's YAML
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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

    def misfit(
        self,
        *,
        source: str,
        privacy: str,
        federated: bool,
        columns: Mapping[str, str],
        endpoint: str,
        train_sites: Collection[str],
        leaves_out: bool,
    ) -> str | None:
        """Why the section does not fit its study; None where it does.

        Args:
            source: of the study's features.
            privacy: the study's mode.
            federated: its preparation is fitted on the training sites.
            columns: column of each clinical variable.
            endpoint: column of the outcome.
            train_sites: names.
            leaves_out: each training site is left out in turn.
        """
        named, unknown = self.covariates, [name for name in self.covariates if name not in columns]
        used = {columns.get(name) for name in named} | {self.batch}
        problems = [
            (source == "none", "`harmonisation` needs features: `radiomics.source: computed` or `table`"),
            (
                privacy != "none",
                f"`harmonisation` is not fitted under `privacy.mode: {privacy}`: its sums would bypass the budget",
            ),
            (not federated, "`harmonisation` needs `training.preparation: federated`"),
            (unknown, f"`harmonisation.covariates` names {unknown}, not among `clinical` {list(columns)}"),
            (len(set(named)) < len(named), "`harmonisation.covariates` names a variable more than once"),
            (
                endpoint in used,
                "`harmonisation` uses the endpoint's column: the features would be told what they shall predict",
            ),
        ]
        if self.reference is not None:
            problems += [
                (
                    self.reference not in train_sites,
                    f"`harmonisation.reference` is {self.reference}, not among the training sites",
                ),
                (self.batch is not None, "`harmonisation.reference` needs the hospital as batch: remove `batch`"),
                (
                    leaves_out,
                    "`harmonisation.reference` cannot be left out: no `evaluation.leave_one_site_out` with it",
                ),
            ]
        return next((words for wrong, words in problems if wrong), None)
