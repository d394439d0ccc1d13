"""The site's answers to requests that train: where the state of a long one is kept, and what stays the site's own.

bench = Bench(home / "runs" / run)
reply = bench.train(header, request, study, cohort, preparation)
weights = bench.personal(header, request, study, cohort, preparation)      # for an evaluation, never sent
bench.clear()                                                              # once the answer is stored
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.messages import EvaluateRequest, TrainReply, TrainRequest
from fedloupe.models import Preparation, Schema, build_model, norm_positions
from fedloupe.privacy import clipped_weights
from fedloupe.study import ClientDp, Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.site.checkpoint import INTERVAL_S, FileCheckpoint, key_of
from fedloupe_client.site.personal import OwnNorms, read_own, write_own
from fedloupe_client.training import drawing
from fedloupe_client.training.local import Trained, fine_tune, train_alone, train_round
from fedloupe_client.training.telling import Tell


@dataclass(frozen=True)
class Bench:
    """One run's folder at the site.

    Attributes:
        folder: `runs/<run>` of the site's home.
        interval_s: seconds between two states on disk while training.
        tell: told the steps that are done and planned.
    """

    folder: Path
    interval_s: float = INTERVAL_S
    tell: Tell | None = None

    def train(
        self,
        header: dict[str, Any],
        request: TrainRequest,
        study: Study,
        cohort: Cohort,
        preparation: Preparation | None,
    ) -> TrainReply:
        """The answer to a round, or to the request for the site's own model; without record-level differential privacy.

        In a client-level study the update is clipped here, and nothing but weights is told; the gate measures it again.

        Args:
            header: of the answer.
            request: as admitted.
            study: as approved.
            cohort: the site's patients.
            preparation: of the run; None in a drawing study, which has none.

        Raises:
            RoundPassed, OwnDamaged, RunFileUnwritable: see there.
        """
        number, weights, loss = request.round, request.weights, None
        if request.scope == "local":
            found = self.alone(header, weights, study, cohort, preparation)
        else:
            if preparation is None:
                checkpoint = self._checkpoint(header, request.scope, number, weights)
                trained = drawing.train_round(
                    study, header["site"], cohort, weights, number=number, checkpoint=checkpoint, tell=self.tell
                )
            else:
                trained = self._round(header, request, study, cohort, preparation)
            found, loss = trained.weights, trained.loss
            found, loss = _bounded(found, weights, study), None if study.private else loss
        patients = len(cohort.rows("train"))
        return TrainReply(**header, round=number, weights=found, patients=patients, loss=loss, epsilon=None)

    def alone(
        self,
        header: dict[str, Any],
        weights: NDArray[Any],
        study: Study,
        cohort: Cohort,
        preparation: Preparation | None,
    ) -> NDArray[Any]:
        """(m) the site's own model, trained from these weights on its own patients alone; made once.

        Raises:
            OwnDamaged, RunFileUnwritable: see there.
        """
        start = (weights, *(_arrays(preparation) if preparation else ()))
        key, path = key_of(header, "alone", 0, *start), self.folder / "alone.safetensors"
        if (kept := read_own(path, key)) is not None:
            return kept
        site, checkpoint = header["site"], self._checkpoint(header, "alone", 0, *start)
        if preparation is None:
            trained = drawing.train_alone(study, site, cohort, weights, checkpoint=checkpoint, tell=self.tell)
        else:
            trained = train_alone(study, site, cohort, preparation, weights, checkpoint=checkpoint, tell=self.tell)
        write_own(path, key, trained.weights)
        return trained.weights

    def personal(
        self, header: dict[str, Any], request: EvaluateRequest, study: Study, cohort: Cohort, preparation: Preparation
    ) -> NDArray[Any]:
        """(m) the site's own model made from the request's weights: fine-tuned, or with the site's own normalisation.

        Raises:
            NormsMissing, OwnDamaged, RunFileUnwritable: see there.
        """
        if study.personalisation is not None and study.personalisation.method == "local-norm":
            return self._norms.personal(request.weights, _positions(study, cohort))
        start = (request.weights, *_arrays(preparation))
        key, path = key_of(header, "personal", 0, *start), self.folder / "personal.safetensors"
        if (kept := read_own(path, key)) is not None:
            return kept
        checkpoint = self._checkpoint(header, "personal", 0, *start)
        trained = fine_tune(
            study, header["site"], cohort, preparation, request.weights, checkpoint=checkpoint, tell=self.tell
        )
        write_own(path, key, trained.weights)
        return trained.weights

    def clear(self) -> None:
        """Forget where a training stood."""
        self._training.unlink(missing_ok=True)

    @property
    def _training(self) -> Path:
        return self.folder / "training.safetensors"

    @property
    def _norms(self) -> OwnNorms:
        return OwnNorms(self.folder / "norms.safetensors")

    def _checkpoint(self, header: dict[str, Any], scope: str, number: int, *start: NDArray[Any]) -> FileCheckpoint:
        return FileCheckpoint(self._training, key_of(header, scope, number, *start), self.interval_s)

    def _round(
        self, header: dict[str, Any], request: TrainRequest, study: Study, cohort: Cohort, preparation: Preparation
    ) -> Trained:
        weights, number, site = request.weights, request.round, header["site"]
        before = positions = None
        if study.personalisation is not None and study.personalisation.method == "local-norm":
            positions = _positions(study, cohort)
            weights, before = self._norms.overlay(weights, positions, number)
        checkpoint = self._checkpoint(header, "federated", number, weights, *_arrays(preparation))
        trained = train_round(
            study, site, cohort, preparation, weights, number=number, checkpoint=checkpoint, tell=self.tell
        )
        if positions is not None and before is not None:
            self._norms.keep(number, before, trained.weights[positions])
        return trained


def _bounded(trained: NDArray[np.float32], start: NDArray[Any], study: Study) -> NDArray[np.float32]:
    """(m) what was trained, its update within the bound of a client-level study. Weights that are no numbers stay as
    they are, for the gate to refuse."""
    if not isinstance(study.privacy, ClientDp) or not np.isfinite(trained).all():
        return trained
    return clipped_weights(trained, start, study.privacy.clip)


def _arrays(preparation: Preparation) -> tuple[NDArray[Any], ...]:
    return preparation.mean, preparation.scale, preparation.projection


def _positions(study: Study, cohort: Cohort) -> NDArray[np.bool_]:
    return norm_positions(build_model(study, Schema.of(study, cohort.feature_groups)))
