"""A site's own shifts in one run, kept beside the run's preparation: fitted once, the same after any restart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedloupe.errors import FedLoupeError
from fedloupe.statistics.combat import Harmoniser
from fedloupe.statistics.shifts import Prior, Shift, fit_shift
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.harmonising.terms import HarmonisationMisfit, check_fit, covariates, section


class BatchTooSmall(FedLoupeError):
    """A scanner or protocol has fewer training patients than the study asks of a batch."""

    code = "FL-613"
    title = "a scanner or protocol has too few training patients to harmonise"


class HarmonisedDamaged(FedLoupeError):
    """The file with the site's own shifts cannot be read."""

    code = "FL-614"
    title = "the site's harmonisation file is damaged"


def batches(cohort: Cohort, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Positions of these patients by batch, in sorted order of the batches."""
    labels = np.asarray(cohort.batches)
    return {str(label): rows[labels[rows] == label] for label in np.unique(labels[rows])}


@dataclass(frozen=True)
class Harmonised:
    """What is shared, and this site's shift of each of its batches.

    Attributes:
        harmoniser: as the coordinator sent it.
        shifts: by batch.
        small: batches below the study's minimum, which were shifted only.
    """

    harmoniser: Harmoniser
    shifts: Mapping[str, Shift]
    small: int

    @classmethod
    def fit(
        cls, study: Study, cohort: Cohort, site: str, harmoniser: Harmoniser, scope: Literal["train", "unseen"]
    ) -> Harmonised:
        """Work out the shifts.

        Args:
            study: with its section.
            cohort: the site's patients, features as measured.
            site: this one.
            harmoniser: fitted on the training sites.
            scope: `train`: each batch from its training patients; one that has none, but tuning or test patients, as
                the study says of unseen ones. `unseen`: each batch from all its patients, whose labels play no part.

        Raises:
            HarmonisationMisfit: see there.
            BatchTooSmall: a training batch below the minimum, where the study refuses these.
        """
        check_fit(study, cohort, harmoniser.centre, harmoniser.scale, harmoniser.beta)
        if not harmoniser.shaped:
            raise HarmonisationMisfit(
                "the harmonisation's arrays do not fit each other", where=study.study, remedy="ask the coordinator"
            )
        rules, everyone = section(study), batches(cohort, cohort.rows("all"))
        fitted = batches(cohort, cohort.rows("train")) if scope == "train" else {}
        prior = Prior.from_array(harmoniser.prior)
        shifts, small = {}, 0
        for label, all_rows in everyone.items():
            trains = label in fitted
            rows = fitted.get(label, all_rows)
            if rules.reference == site or (scope == "train" and not trains and rules.unseen == "none"):
                shifts[label] = Shift.none(len(cohort.names))
                continue
            few = len(rows) < rules.minimum
            if few and trains and rules.small == "refuse":
                raise BatchTooSmall(
                    f"{len(rows)} training patients of batch `{label or site}`, the study asks {rules.minimum}",
                    where=site,
                    remedy="join batches of like scanners in the table, or let the site validate only; "
                    "`harmonisation.small: mean-only` in the study would shift such batches without scaling them",
                )
            small += few
            left = harmoniser.standardised(cohort.features[rows], covariates(study, cohort)[rows])
            shifts[label] = fit_shift(
                left,
                empirical_bayes=rules.empirical_bayes,
                mean_only=rules.mean_only or few,
                prior=None if trains else prior,
            )
        return cls(harmoniser, shifts, small)

    def apply(self, study: Study, cohort: Cohort) -> Cohort:
        """The same patients with harmonised features; missing stays missing."""
        features, x = cohort.features.copy(), covariates(study, cohort)
        for label, rows in batches(cohort, cohort.rows("all")).items():
            shift = self.shifts[label]
            features[rows] = self.harmoniser.adjust(cohort.features[rows], x[rows], shift.gamma, shift.delta)
        return replace(cohort, features=features)

    def to_bytes(self) -> bytes:
        """As a safetensors file, for this site alone."""
        labels, p = list(self.shifts), len(self.harmoniser.centre)
        arrays = {
            **self.harmoniser.arrays,
            "gamma": np.array([self.shifts[label].gamma for label in labels]).reshape(-1, p),
            "delta": np.array([self.shifts[label].delta for label in labels]).reshape(-1, p),
        }
        words = json.dumps({"batches": labels, "small": self.small})  # one key: safetensors orders several as it likes
        return save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata={"shifts": words})

    @classmethod
    def read(cls, path: Path) -> Harmonised | None:
        """What `to_bytes` wrote, or None where the file is absent.

        Raises:
            HarmonisedDamaged: the file is not one.
        """
        if not path.exists():
            return None
        try:
            with safe_open(str(path), framework="numpy") as file:
                arrays: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                words = json.loads((file.metadata() or {})["shifts"])
            gamma, delta = arrays.pop("gamma"), arrays.pop("delta")
            shifts = {label: Shift(g, d, None) for label, g, d in zip(words["batches"], gamma, delta, strict=True)}
            return cls(Harmoniser(**arrays), shifts, int(words["small"]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise HarmonisedDamaged(
                f"not a site's harmonisation: {error}",
                where=str(path),
                remedy="restore it from a copy, or let the coordinator start a run under another name",
            ) from None
