"""The section under which a study drops features that do not repeat, or that say what another one says.

quality: {minimum_icc: 0.75, redundancy: 0.95}                       # in a study's YAML; the perturbations below
quality: {perturbations: [{rotate_deg: 4, translate_mm: 0.5}, {grow_mm: 1}], minimum_icc: 0.9, redundancy: null}
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["pose", "contour", "noise", "mixed", "bins"]


class Perturbation(BaseModel):
    """One way in which a case could have come out otherwise (after Zwanenburg, Sci Rep 9:614, 2019).

    A number is a size; the directions of rotation, translation and noise are drawn by study, case and perturbation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rotate_deg: float = Field(default=0, ge=0, le=30, description="image and mask turn about the slices' normal")
    translate_mm: float = Field(default=0, ge=0, le=10, description="image and mask move along each axis by so much")
    grow_mm: float = Field(default=0, ge=-10, le=10, description="the mask's border moves outwards; below 0 inwards")
    noise_sd: float = Field(default=0, ge=0, le=2, description="Gaussian noise, of the standard deviation in the mask")
    bins_times: float = Field(default=1, ge=0.1, le=10, description="so many times the study's number of grey levels")

    @model_validator(mode="after")
    def _changes_one_thing(self) -> Self:
        if self.bins_times == 1 and not self._moved:
            raise ValueError("a perturbation changes something")
        if self.bins_times != 1 and self._moved:
            raise ValueError("`bins_times` stands alone: other grey levels are judged by their own measure")
        return self

    @property
    def _moved(self) -> bool:
        return any((self.rotate_deg, self.translate_mm, self.grow_mm, self.noise_sd))

    @property
    def kind(self) -> Kind:
        """What it tries."""
        if self.bins_times != 1:
            return "bins"
        pose = bool(self.rotate_deg or self.translate_mm)
        tried: dict[Kind, bool] = {"pose": pose, "contour": self.grow_mm != 0, "noise": self.noise_sd != 0}
        found = [kind for kind, does in tried.items() if does]
        return found[0] if len(found) == 1 else "mixed"


PERTURBATIONS = (
    Perturbation(rotate_deg=4),
    Perturbation(translate_mm=0.5),
    Perturbation(grow_mm=1),
    Perturbation(grow_mm=-1),
    Perturbation(noise_sd=0.15),
    Perturbation(bins_times=0.5),
    Perturbation(bins_times=2),
)


class Quality(BaseModel):
    """What a feature must show on training patients before it may enter a model. The endpoint plays no part.

    Version 0 of a case is the case as it is, version i the i-th perturbation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    perturbations: tuple[Perturbation, ...] = Field(default=PERTURBATIONS, max_length=15)
    minimum_icc: float = Field(default=0.75, ge=0, le=1, description="over all sites' patients together")
    patients: int = Field(default=30, ge=10, le=1000, description="at most so many training patients a site, by a hash")
    redundancy: float | None = Field(
        default=0.95, gt=0, le=1, description="of two features that correlate so much, up or down, one is dropped"
    )

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if len(set(self.perturbations)) < len(self.perturbations):
            raise ValueError("`perturbations` names one twice")
        if not self.perturbations and self.redundancy is None:
            raise ValueError("no `perturbations` and no `redundancy`: remove the section")
        return self

    @property
    def repeats(self) -> tuple[int, ...]:
        """Versions that should measure the same, version 0 first; only version 0 where nothing is moved."""
        return (0, *(i for i, change in enumerate(self.perturbations, start=1) if change.kind != "bins"))

    @property
    def settings(self) -> tuple[int, ...]:
        """Version 0 and those with other grey levels."""
        return (0, *(i for i, change in enumerate(self.perturbations, start=1) if change.kind == "bins"))

    def misfit(self, source: Literal["computed", "table", "none"], federated: bool) -> str | None:
        """Why the section does not fit a study whose features come from `source`; None where it does.

        Args:
            source: `radiomics.source`.
            federated: whether sums over patients may be asked for.
        """
        if source == "none":
            return "`quality` judges features: it needs `radiomics.source` computed or table"
        if source == "table" and self.perturbations:
            return "`quality.perturbations` needs images: write `perturbations: []` for `radiomics.source: table`"
        if not federated:
            return "`quality` needs exact sums: `training.preparation: federated`, and no differential privacy"
        return None
