"""Everything that is fitted on training sites: scaling, projection, baselines, rounds, threshold, calibration.

`fit` is called once for the study and once for each fold of leave-one-site-out, always with all fitting redone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.messages import (
    DescribeReply,
    DescribeRequest,
    HarmoniseReply,
    MidpointReply,
    MidpointRequest,
    PrepareReply,
    PrepareRequest,
    SketchReply,
    SketchRequest,
)
from fedloupe.metrics import youden_threshold
from fedloupe.models import Preparation, Schema, build_model, digest, flatten, group_order, start_at_logistic
from fedloupe.statistics.combat import Harmoniser
from fedloupe.study import Study, clinical_inputs
from fedloupe_server.evidence.results import RoundRecord
from fedloupe_server.federation.baselines import Baseline, further_baselines, logistic_baseline
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.events import Observer
from fedloupe_server.federation.harmonising import fit_harmoniser, install_harmoniser
from fedloupe_server.federation.joining import Entry
from fedloupe_server.federation.journal import Journal, write_atomic
from fedloupe_server.federation.predicting import FittedPrediction, fit_prediction
from fedloupe_server.federation.quality import agree_quality, read_quality
from fedloupe_server.federation.rounds import train_rounds
from fedloupe_server.statistics.projection import PASSES, first_probe, next_probe, principal_projection
from fedloupe_server.statistics.quality import AgreedQuality
from fedloupe_server.statistics.scaling import pooled_moments, scaling


class NoPublicPreparation(FedLoupeError):
    """The study wants a public preparation and none fits."""

    code = "FL-706"
    title = "the study needs a public preparation"


@dataclass(frozen=True)
class Installed:
    """The frozen harmonisation, and what the training sites said of their batches."""

    harmoniser: Harmoniser
    replies: dict[str, HarmoniseReply]


@dataclass(frozen=True)
class Fitted:
    """What is frozen before a validate-only site is opened.

    `threshold` is on the federated model's probability, calibrated where the study predicts; `raw_threshold` on the
    probability of any model as it comes.
    """

    preparation: Preparation
    weights: NDArray[np.float32]
    beta: NDArray[np.float64] | None
    threshold: float
    raw_threshold: float
    threshold_sites: tuple[str, ...]
    rounds: tuple[RoundRecord, ...]
    harmonised: Installed | None = None
    quality: AgreedQuality | None = None
    further: tuple[Baseline, ...] = ()
    prediction: FittedPrediction | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over weights, baselines, preparation, threshold, and where there are such, harmonisation and what
        predictions rest on."""
        beta = np.zeros(0) if self.beta is None else self.beta
        prep, shared = self.preparation, self.harmonised.harmoniser.arrays if self.harmonised else {}
        frozen = (self.weights, beta, prep.mean, prep.scale, prep.projection, np.array([self.threshold]))
        predicts = self.prediction.arrays if self.prediction else {}
        further = (baseline.weights for baseline in self.further)
        return digest(*frozen, *further, *shared.values(), *predicts.values())


def fit(
    study: Study,
    talk: Conversation,
    sites: tuple[str, ...],
    features: tuple[str, ...],
    columns: tuple[str, ...],
    journal: Journal,
    observer: Observer,
    stage: str = "rounds",
) -> Fitted:
    """Fit on these sites, going on after the last complete step of the journal.

    Args:
        study: the protocol.
        talk: to the sites.
        sites: training sites of this fit.
        features: names of the p feature columns.
        columns: their groups.
        journal: of this fit.
        observer: told of every step.
        stage: what its rounds are called.
    """
    harmonised = harmoniser = None
    if study.harmonisation is not None:
        harmoniser = fit_harmoniser(study.harmonisation, talk, sites, len(columns), journal)
        harmonised = Installed(harmoniser, install_harmoniser(talk, sites, harmoniser, "train"))
    preparation = _preparation(study, talk, sites, features, columns, journal, observer)
    install(talk, sites, preparation)
    wanted = study.evaluation.logistic_baseline or study.training.start == "logistic"
    fits = wanted and not study.private
    width = 1 + len(group_order(columns)) * preparation.projection.shape[1] + len(clinical_inputs(study))
    beta = logistic_baseline(study, talk, sites, width, journal) if fits else None
    start = initial_weights(study, columns, beta if study.training.start == "logistic" else None)
    entry = Entry(features, columns, preparation, *((harmoniser, harmonised.replies) if harmonised else ()))
    weights, rounds = train_rounds(study, talk, sites, start, journal, observer, stage, entry)
    raw, threshold_sites = _threshold(talk, sites, weights, journal)
    prediction = None
    if study.prediction is not None:
        size = study.model.width + width - 1
        prediction = fit_prediction(study.prediction, talk, sites, weights, size, journal)
    quality = read_quality(journal) if study.quality else None
    inputs = len(columns) + len(clinical_inputs(study))
    further = further_baselines(study, talk, sites, width, inputs, journal, observer, stage)
    return Fitted(
        preparation=preparation,
        weights=weights,
        beta=beta,
        threshold=prediction.threshold(raw) if prediction else raw,
        raw_threshold=raw,
        threshold_sites=threshold_sites,
        rounds=rounds,
        harmonised=harmonised,
        quality=quality,
        further=further,
        prediction=prediction,
    )


def install(talk: Conversation, sites: tuple[str, ...], preparation: Preparation) -> None:
    """Send the preparation to these sites."""
    talk.ask_all(
        sites,
        lambda header: PrepareRequest(
            **header,
            mean=preparation.mean,
            scale=preparation.scale,
            projection=preparation.projection,
            origin=preparation.origin,
        ),
        PrepareReply,
    )


def initial_weights(
    study: Study, columns: tuple[str, ...], beta: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """The study's starting point; with `beta`, at the logistic baseline."""
    model = build_model(study, Schema.of(study, group_order(columns)))
    return flatten(model if beta is None else start_at_logistic(model, beta))


def _preparation(
    study: Study,
    talk: Conversation,
    sites: tuple[str, ...],
    features: tuple[str, ...],
    columns: tuple[str, ...],
    journal: Journal,
    observer: Observer,
) -> Preparation:
    if (found := Preparation.read(journal.preparation_path)) is not None:
        return found
    if study.training.preparation == "public":
        path = journal.public_preparation_path
        public = Preparation.read(path)
        if public is None or public.projection.shape != (len(columns), study.model.components):
            raise NoPublicPreparation(
                f"no file, or not for {len(columns)} features and {study.model.components} components",
                where=str(path),
                remedy="make one from public images or phantoms with the same settings; docs/privacy.md shows how",
            )
        preparation = Preparation(public.mean, public.scale, public.projection, "public")
    else:
        preparation = _federated_preparation(study, talk, sites, features, columns, journal, observer)
    write_atomic(journal.preparation_path, preparation.to_bytes())
    return preparation


def _federated_preparation(
    study: Study,
    talk: Conversation,
    sites: tuple[str, ...],
    features: tuple[str, ...],
    columns: tuple[str, ...],
    journal: Journal,
    observer: Observer,
) -> Preparation:
    if not columns:
        return Preparation(np.zeros(0), np.zeros(0), np.zeros((0, study.model.components), np.float32), "federated")
    harmonised = study.harmonisation is not None
    described = talk.sums.all(sites, lambda header: DescribeRequest(**header, harmonised=harmonised), DescribeReply)
    moments = pooled_moments(described, len(columns))
    mean, scale = scaling(moments)
    if study.quality:
        agreed = agree_quality(study, talk, sites, features, mean, scale, journal, observer)
        scale = np.where(agreed.kept, scale, 0.0)  # contributes nothing from here on; see `standardise`
    patients = float(moments.count.max())
    probe = first_probe(columns, study.model.components, study.seed)
    sketch = np.zeros(probe.shape)
    for iteration in range(PASSES):
        if iteration:
            probe = next_probe(sketch, columns)

        def ask(
            header: dict[str, Any], probe: NDArray[np.float32] = probe, iteration: int = iteration
        ) -> SketchRequest:
            return SketchRequest(**header, mean=mean, scale=scale, probe=probe, iteration=iteration)

        sketch = talk.sums.all(sites, ask, SketchReply).sketch
    return Preparation(
        mean, scale, principal_projection(probe, sketch, columns, study.model.components, patients), "federated"
    )


def _threshold(
    talk: Conversation, sites: tuple[str, ...], weights: NDArray[np.float32], journal: Journal
) -> tuple[float, tuple[str, ...]]:
    """Youden's threshold on the tuning patients of the training sites, from their summed log-odds.

    A site with too few tuning patients of an outcome refuses to describe them; the others decide, and are named.
    Fixed once: a run that goes on takes the threshold that it had.

    Raises:
        SiteRefused: a site was silent, or no site could.
    """
    path = journal.folder / "threshold.json"
    if path.exists():
        kept = json.loads(path.read_text())
        return float(kept["threshold"]), tuple(kept["sites"])

    summed = talk.sums.willing(
        sites, lambda header: MidpointRequest(**header, weights=weights), MidpointReply, "a threshold"
    )
    total = summed.reply
    without, with_event = total.odds
    threshold = youden_threshold((with_event, total.positives), (without, total.patients - total.positives))
    write_atomic(path, (json.dumps({"threshold": threshold, "sites": list(summed.sites)}) + "\n").encode())
    return threshold, summed.sites
