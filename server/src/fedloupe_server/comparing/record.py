"""`comparison.json`: every number of the tables as one frozen record; no time in it, so equal runs give equal bytes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Design = Literal["split", "kfold", "leave-one-site-out"]
Regime = Literal["federated", "pooled", "local", "baseline", "oracle"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Setting(_Frozen):
    """What was compared.

    Attributes:
        fingerprint: of the study that the variants were made from.
        design: how patients came to be tested.
        folds: of `kfold`, else None.
        seeds: of splits, initial weights and training.
        groups: architectures, or the sets of inputs under `inputs`.
        reference: the one of them that the others are compared with.
        kind: what the groups are.
    """

    study: str
    title: str
    synthetic: bool
    fingerprint: str
    version: str
    kind: Literal["architectures", "inputs"]
    design: Design
    folds: int | None
    seeds: tuple[int, ...]
    groups: tuple[str, ...]
    reference: str
    rounds: int
    local_epochs: int


class Estimate(_Frozen):
    """Mean AUC over seeds of one kind of model at one place, as in `fedloupe.metrics.RepeatedAuc`.

    Attributes:
        group: architecture or set of inputs; for a baseline or the oracle its own name.
        place: `internal`, `external` (the mean over several sites), or the name of an external site.
        sites: whose patients were scored.
        patients: scored at least once.
    """

    group: str
    regime: Regime
    place: str
    sites: tuple[str, ...]
    patients: int
    auc: float
    se: float
    low: float
    high: float
    between: float
    fits: int


class Difference(_Frozen):
    """AUC of the first minus that of the second on the same patients, as in `fedloupe.metrics.RepeatedDifference`."""

    first: str
    first_regime: Regime
    second: str
    second_regime: Regime
    place: str
    difference: float
    se: float
    low: float
    high: float
    p: float


class Comparison(_Frozen):
    """One comparison.

    Attributes:
        parameters: of each group's model.
        footnotes: what could not be estimated, and why.
    """

    setting: Setting
    parameters: dict[str, int]
    estimates: tuple[Estimate, ...]
    differences: tuple[Difference, ...]
    footnotes: tuple[str, ...]

    def estimate(self, group: str, regime: Regime, place: str) -> Estimate | None:
        """The estimate of this kind of model at this place, where there is one."""
        wanted = (group, regime, place)
        return next((e for e in self.estimates if (e.group, e.regime, e.place) == wanted), None)

    @property
    def places(self) -> tuple[str, ...]:
        """Internal first, then the external mean, then the sites."""
        return tuple(dict.fromkeys(estimate.place for estimate in self.estimates))


class Costs(_Frozen):
    """CPU seconds of training one whole model, mean over seeds (and folds), summed over the sites.

    Kept apart from the comparison (`costs.json`), because no two runs take equally long.
    """

    federated: float
    local: float
    pooled: float
