"""What one hospital's update of a whole round gives away: alone, in a sum of hospitals, and under DP-SGD.

    for row in invert_updates(study, groups, privacy):
        row.patients, row.alone.likeness, row.summed.likeness, row.private.likeness     # each beside chance

The hospitals' patients have random values; the training is the product's own. The server sees either a hospital's
update, or with secure sums the sum of all hospitals' alone, or a hospital's update of a private round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fedloupe.models import Preparation, Schema, design_matrix
from fedloupe.privacy import Randomness, SecureNoise, Spend
from fedloupe.study import DpSgd, Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.training.local import train_round
from fedloupe_client.training.private import planned_spend, train_round_privately
from fedloupe_server.federation.fit import initial_weights
from fedloupe_server.simulation.auditing.inversion import FEWEST, made_up
from fedloupe_server.simulation.auditing.reading import attack_on, likeness

Floats = NDArray[np.float64]
HOSPITALS = 5
TRIALS = 12
SIZES = (1, 8, 40)
BLIND = 10
PLAIN_RATE = 0.1


@dataclass(frozen=True)
class Seen:
    """How like the guess is to the patient most like it, of all behind what the server sees.

    Attributes:
        likeness: mean correlation over the trials, and its standard error.
        chance: the same of guesses that no patient gave.
    """

    likeness: float
    error: float
    chance: float

    @classmethod
    def of(cls, pairs: list[tuple[float, float]]) -> Seen:
        """From likeness and chance of two trials or more."""
        found, blind = np.array(pairs).T
        return cls(float(found.mean()), float(found.std(ddof=1) / len(found) ** 0.5), float(blind.mean()))


@dataclass(frozen=True)
class Row:
    """One size of hospital under one kind of training.

    Attributes:
        training: `sgd`: plain, of what stands in the features, nothing dropped; `own`: as the study trains.
        patients: who train at each hospital.
        alone: the server sees a hospital's update.
        summed: it sees the sum of `HOSPITALS` such hospitals.
        private: it sees a hospital's update of a round under the study's DP-SGD.
    """

    training: str
    patients: int
    alone: Seen
    summed: Seen
    private: Seen


class Bare:
    """Everybody, and no noise."""

    private: ClassVar[bool] = False

    def normal(self, shape: tuple[int, ...], std: float = 1.0) -> Floats:
        """Nothing."""
        return np.zeros(shape)

    def poisson(self, patients: int, rate: float) -> NDArray[np.int64]:
        """All of them."""
        return np.arange(patients)


def invert_updates(
    study: Study,
    groups: tuple[str, ...],
    privacy: DpSgd,
    *,
    sizes: tuple[int, ...] = SIZES,
    trials: int = TRIALS,
    source: Randomness | None = None,
) -> tuple[Row, ...]:
    """Attack updates of a first round; none where the linear path reads fewer than `FEWEST` values.

    Args:
        study: its model and training.
        groups: feature groups.
        privacy: of the private round.
        sizes: training patients of a hospital, each a row.
        trials: federations a row, two at least.
        source: of the private round's noise and sampling; the operating system's where None.
    """
    schema = Schema.of(study, groups)
    if len(schema.groups) * schema.components + schema.clinical < FEWEST:
        return ()
    plain = _undisturbed(study)
    rows = [_row("sgd", plain, groups, privacy, sizes[0], trials, source)]
    return (*rows, *(_row("own", study, groups, privacy, size, trials, source) for size in sizes))


def _row(
    training: str,
    study: Study,
    groups: tuple[str, ...],
    privacy: DpSgd,
    patients: int,
    trials: int,
    source: Randomness | None,
) -> Row:
    schema = Schema.of(study, groups)
    preparation, columns = _as_they_are(schema)
    start = initial_weights(study, columns)
    open_way = DpSgd(mode="dp-sgd", epsilon=1, clip=1e9, sampling_rate=1.0, learning_rate=PLAIN_RATE)
    spend = planned_spend(study, privacy)
    attack = attack_on(study, groups)

    def updated(site: str, cohort: Cohort) -> Floats:
        if training == "own":
            weights = train_round(study, site, cohort, preparation, start, number=1).weights
        else:
            steps = Spend(1.0, 1.0, study.training.local_epochs)
            weights = train_round_privately(
                study, site, cohort, preparation, start, number=1, privacy=open_way, spend=steps, source=Bare()
            )
        return weights.astype(np.float64) - start

    def privately(site: str, cohort: Cohort) -> Floats:
        noise = source or SecureNoise()
        weights = train_round_privately(
            study, site, cohort, preparation, start, number=1, privacy=privacy, spend=spend, source=noise
        )
        return weights.astype(np.float64) - start

    rng = np.random.default_rng(study.seed)
    found: dict[str, list[tuple[float, float]]] = {"alone": [], "summed": [], "private": []}

    def note(kind: str, update: Floats, behind: Floats) -> None:
        guesses = attack(update)
        blind = [likeness(rng.standard_normal(guesses.shape), behind) for _ in range(BLIND)]
        found[kind].append((likeness(guesses, behind), float(np.mean(blind))))

    for trial in range(trials):
        names = [f"hospital-{trial}-{number}" for number in range(HOSPITALS)]
        cohorts = [_hospital(schema, columns, patients, int(rng.integers(2**31))) for _ in names]
        values = [design_matrix(one.inputs(preparation, one.rows("train")))[:, 1:] for one in cohorts]
        updates = [updated(name, cohort) for name, cohort in zip(names, cohorts, strict=True)]
        note("alone", updates[0], values[0])
        note("summed", np.sum(updates, axis=0), np.concatenate(values))
        note("private", privately(names[0], cohorts[0]), values[0])
    seen = {kind: Seen.of(pairs) for kind, pairs in found.items()}
    return Row(training, patients, **seen)


def _undisturbed(study: Study) -> Study:
    still = {"dropout": 0.0, "feature_dropout": 0.0, "feature_noise": 0.0}
    return study.model_copy(update={"model": study.model.model_copy(update=still)})


def _as_they_are(schema: Schema) -> tuple[Preparation, tuple[str, ...]]:
    """A preparation that gives a site's columns back as its components, and their groups."""
    width, count = schema.components, len(schema.groups)
    projection = np.tile(np.eye(width, dtype=np.float32), (count, 1))
    columns = tuple(group for group in schema.groups for _ in range(width))
    return Preparation(np.zeros(len(columns)), np.ones(len(columns)), projection, "public"), columns


def _hospital(schema: Schema, columns: tuple[str, ...], patients: int, seed: int) -> Cohort:
    """Patients of random values, all of whom train."""
    inputs, labels = made_up(schema, patients, seed)
    arrays: dict[str, Any] = {name: getattr(inputs, name).numpy() for name in ("mr", "mr_present", "ct", "ct_present")}
    return Cohort(
        cases=tuple(f"made-up-{number}" for number in range(patients)),
        labels=labels.numpy().astype(np.int64),
        split=np.full(patients, "train"),
        names=tuple(f"feature-{number}" for number in range(len(columns))),
        columns=columns,
        features=inputs.radiomics.flatten(1).double().numpy(),
        clinical=inputs.clinical.double().numpy(),
        reference=None,
        **arrays,
    )
