"""Scores of everything that was fitted, at every site where it belongs: a few exchanges, each with all sites at once.

sites = evaluate_sites(study, talk, fitted, start, locals_, observer)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedloupe.messages import Architecture, EvaluateReply, EvaluateRequest
from fedloupe.study import Study
from fedloupe_server.evidence.assessed import Assessed, PooledScores
from fedloupe_server.evidence.results import Beside, Scores, SiteResult
from fedloupe_server.federation.assessing import assess_sites, pooled_scores
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.events import Event, Observer, silent
from fedloupe_server.federation.fit import Fitted
from fedloupe_server.federation.predicting import FittedPrediction

Vector = NDArray[np.floating[Any]]
Split = Literal["test", "all"]


@dataclass(frozen=True)
class Evaluated:
    """What every site said, and what was added over the training sites in a study with `evidence`."""

    sites: tuple[SiteResult, ...]
    pooled_scores: PooledScores | None


def score_sites(
    talk: Conversation,
    label: str,
    architecture: Architecture,
    threshold: float,
    asked: Mapping[str, tuple[Split, Vector]],
    unshifted: Collection[str] = (),
    prediction: FittedPrediction | None = None,
    *,
    personal: bool = False,
    alone: bool = False,
    asked_for: dict[str, dict[str, EvaluateRequest]] | None = None,
) -> dict[str, Scores]:
    """Scores of one model, or of each site's own, at these sites: split and weights by site; one exchange.

    `unshifted` names the sites whose features are taken as measured in a study that harmonises. With `prediction`
    the probabilities are calibrated and their sets judged. With `personal` each site makes its own model from the
    weights first, with `alone` one of its patients alone. `asked_for` takes what was asked, by site and label.
    """
    calibrated: dict[str, Any] = {}
    if prediction:
        calibrated = {name: getattr(prediction, name) for name in ("admitted", "limit", "centre", "precision")}
        calibrated["line"] = (float(prediction.line[0]), float(prediction.line[1]))
    requests = {
        site: EvaluateRequest(
            **talk.header(site),
            label=label.format(site=site),
            architecture=architecture,
            split=split,
            threshold=threshold,
            shift="none" if site in unshifted else "own",
            personal=personal,
            alone=alone,
            weights=weights,
            **calibrated,
        )
        for site, (split, weights) in asked.items()
    }
    replies = talk.ask_all(tuple(requests), lambda header: requests[header["site"]], EvaluateReply)
    if asked_for is not None:
        for site, request in requests.items():
            asked_for.setdefault(site, {})[request.label] = request
    return {site: Scores.of(reply) for site, reply in replies.items()}


def evaluate_sites(
    study: Study,
    talk: Conversation,
    fitted: Fitted,
    start: Vector,
    locals_: Mapping[str, Vector],
    observer: Observer,
) -> Evaluated:
    """Every model at every site where it belongs: a few exchanges, each with all sites at once.

    Args:
        study, talk, fitted, observer: of the run.
        start: (m) from which sites' own models are trained.
        locals_: those that left their sites; empty where they stay at home.
    """
    kept: dict[str, dict[str, EvaluateRequest]] = {}
    there, hellos = talk.there(tuple(talk.hellos)), talk.hellos
    splits: dict[str, Split] = {s.name: "test" if s.role == "train" else "all" for s in study.sites if s.name in there}
    steps = 2 + len(fitted.further) + len(locals_) * ("all" in splits.values())
    everywhere = dict.fromkeys(splits, fitted.weights)
    validate = tuple(site for site in study.validate_sites if site in splits)
    unshifted = validate if study.harmonisation and study.harmonisation.unseen == "none" else ()

    def score(
        step: int,
        label: str,
        architecture: Architecture,
        weights: Mapping[str, Vector],
        prediction: FittedPrediction | None = None,
    ) -> dict[str, Scores]:
        observer(Event("evaluation", step, steps, f"{label.format(site='own')} at {', '.join(weights)}"))
        asked = {site: (splits[site], w) for site, w in weights.items()}
        threshold = fitted.threshold if prediction else fitted.raw_threshold
        if not asked:
            return {}
        return score_sites(talk, label, architecture, threshold, asked, unshifted, prediction, asked_for=kept)

    federated = score(0, "federated", "transformer", everywhere, fitted.prediction)
    raw = score(0, "federated-raw", "transformer", everywhere) if fitted.prediction else {}
    beta = {} if fitted.beta is None or not study.evaluation.logistic_baseline else dict.fromkeys(splits, fitted.beta)
    logistic = score(1, "logistic", "logistic", beta)
    further = {
        b.label: score(step, b.label, b.architecture, dict.fromkeys(splits, b.weights))
        for step, b in enumerate(fitted.further, start=2)
    }
    first = 2 + len(further)
    if shows_own_models(study) and not locals_:
        observer(Event("evaluation", first - 1, steps, "each site's own model, trained there"))
        asked: dict[str, tuple[Split, Vector]] = dict.fromkeys(talk.there(study.train_sites), ("test", start))
        own = {}
        if asked:
            at = fitted.raw_threshold
            own = score_sites(talk, "local-{site}", "transformer", at, asked, alone=True, asked_for=kept)
    else:
        here = {site: weights for site, weights in locals_.items() if site in splits}
        own = score(first - 1, "local-{site}", "transformer", here)
    elsewhere: dict[str, list[Scores]] = {site: [] for site in validate}
    for step, (origin, weights) in enumerate(sorted(locals_.items()), start=first):
        for site, scores in score(step, f"local-{origin}", "transformer", dict.fromkeys(validate, weights)).items():
            elsewhere[site].append(scores)
    beside = score_beside(study, talk, validate, fitted)
    personal = _personal(study, talk, fitted, observer, kept)
    observer(Event("evaluation", steps, steps))
    judged = judge(study, talk, kept, observer)
    test = {site: asked["federated"] for site, asked in kept.items() if site in study.train_sites}
    pooled = pooled_scores(study, talk, test) if study.evidence and test else None
    spent = {site: epsilon for record in fitted.rounds for site, epsilon in record.epsilon.items()}
    sites = tuple(
        SiteResult(
            site=s.name,
            role=s.role,
            train=hellos[s.name].train,
            tune=hellos[s.name].tune,
            test=hellos[s.name].test,
            positives=hellos[s.name].positives,
            excluded=hellos[s.name].excluded,
            drawn=hellos[s.name].drawn,
            drawn_by=hellos[s.name].drawn_by,
            data_digest=hellos[s.name].data_digest,
            federated=federated[s.name],
            logistic=logistic.get(s.name),
            baselines={label: scores[s.name] for label, scores in further.items() if s.name in scores},
            local=own.get(s.name),
            local_elsewhere=tuple(elsewhere.get(s.name, ())),
            epsilon=spent.get(s.name),
            beside=beside.get(s.name),
            personal=personal.get(s.name),
            uncalibrated=raw.get(s.name),
            assessed=judged.get(s.name),
        )
        for s in sorted(study.sites, key=lambda s: s.role)
        if s.name in federated
    )
    return Evaluated(sites, pooled)


def judge(
    study: Study, talk: Conversation, kept: Mapping[str, Mapping[str, EvaluateRequest]], observer: Observer = silent
) -> dict[str, Assessed]:
    """The federated model judged at the sites that scored it, against every other model scored there.

    Args:
        study, talk, observer: of the run.
        kept: evaluations by site and label; the federated model as it comes ranks as the calibrated one does.

    Returns:
        By site; empty in a study without `evidence`.
    """
    if study.evidence is None:
        return {}
    observer(Event("assessment", 0, len(kept), ", ".join(kept)))
    federated = {site: asked["federated"] for site, asked in kept.items()}
    others = {site: tuple(name for name in asked if not name.startswith("federated")) for site, asked in kept.items()}
    found = assess_sites(talk, federated, others)
    observer(Event("assessment", len(kept), len(kept)))
    return found


def shows_own_models(study: Study) -> bool:
    """Whether the federated model is compared with each site's own."""
    return study.evaluation.local_baseline and not study.private


def _personal(
    study: Study,
    talk: Conversation,
    fitted: Fitted,
    observer: Observer,
    kept: dict[str, dict[str, EvaluateRequest]],
) -> dict[str, Scores]:
    """Each training site's own model made from the final weights, on its own test split; none without the section.

    Sites that took part in no round are left out: they have no normalisation of their own.
    """
    if study.personalisation is None:
        return {}
    took_part = {site for record in fitted.rounds for site in record.participants}
    sites = [site for site in talk.there(study.train_sites) if site in took_part]
    if not sites:
        return {}
    observer(Event("personal models", 0, len(sites), ", ".join(sites)))
    asked: dict[str, tuple[Split, Vector]] = dict.fromkeys(sites, ("test", fitted.weights))
    scores = score_sites(talk, "personal", "transformer", fitted.raw_threshold, asked, personal=True, asked_for=kept)
    observer(Event("personal models", len(sites), len(sites)))
    return scores


def score_beside(study: Study, talk: Conversation, sites: tuple[str, ...], fitted: Fitted) -> dict[str, Beside]:
    """The models at sites that took no part, under the other rule for their shifts; none without harmonisation."""
    if study.harmonisation is None or not sites:
        return {}
    rule: Literal["estimate", "none"] = "none" if study.harmonisation.unseen == "estimate" else "estimate"
    unshifted = sites if rule == "none" else ()

    def score(
        label: str, architecture: Architecture, weights: Vector, prediction: FittedPrediction | None = None
    ) -> dict[str, Scores]:
        asked: dict[str, tuple[Split, Vector]] = dict.fromkeys(sites, ("all", weights))
        threshold = fitted.threshold if prediction else fitted.raw_threshold
        return score_sites(talk, f"{label}-{rule}", architecture, threshold, asked, unshifted, prediction)

    federated = score("federated", "transformer", fitted.weights, fitted.prediction)
    wanted = fitted.beta is not None and study.evaluation.logistic_baseline
    logistic = score("logistic", "logistic", fitted.beta) if wanted and fitted.beta is not None else {}
    return {site: Beside(rule=rule, federated=federated[site], logistic=logistic.get(site)) for site in sites}
