"""One study from the first hello to `results.json`: fit, freeze, then open the validate-only sites.

Every stage goes on from what the journal holds, so the same command after any crash finishes the run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedloupe import __version__
from fedloupe.messages import (
    Architecture,
    EvaluateReply,
    EvaluateRequest,
    HelloReply,
    HelloRequest,
    TrainReply,
    TrainRequest,
)
from fedloupe.metrics import pool_auc
from fedloupe.study import DpSgd, Study
from fedloupe_server.evidence.results import LeftOut, Pooled, Results, Scores, SiteResult
from fedloupe_server.federation.conversation import Conversation, SiteRefused
from fedloupe_server.federation.events import Event, Observer, silent
from fedloupe_server.federation.exchange import Exchange
from fedloupe_server.federation.fit import Fitted, agreed_columns, fit, initial_weights, install
from fedloupe_server.federation.journal import Journal, read_tensors, write_atomic, write_tensors

Vector = NDArray[np.floating]


def run_study(study: Study, exchange: Exchange, run_dir: Path, *, observer: Observer = silent) -> Results:
    """Run or continue a study.

    Args:
        study: the protocol.
        exchange: how to reach the sites.
        run_dir: the run's folder; its name is the run's name. Under `training.preparation: public` it holds
            `public-preparation.safetensors`.
        observer: told of every step.

    Raises:
        FedLoupeError: QuorumNotMet, SiteRefused, WrongAnswer, FeaturesDiffer, NoPublicPreparation, AnotherStudy,
            JournalDamaged; the run can be continued after each.
    """
    journal = Journal(run_dir)
    journal.open_for(study)
    name = run_name(run_dir)
    talk = Conversation(study, exchange, name)
    train, validate = study.train_sites, study.validate_sites

    observer(Event("hello", 0, 1, "asking the training sites"))
    hellos = talk.ask_all(train, lambda header: HelloRequest(**header), HelloReply)
    features, columns = agreed_columns(hellos)
    observer(Event("hello", 1, 1, ", ".join(hellos)))

    fitted = fit(study, talk, train, columns, journal, observer)
    locals_ = _local_models(study, talk, train, columns, journal, observer)
    journal.freeze(
        {
            "frozen": fitted.digest,
            "threshold": fitted.threshold,
            "preparation": fitted.preparation.digest,
            "weights": fitted.rounds[-1].weights,
        }
    )
    if validate:
        observer(Event("validation", 0, len(validate), "opening sites that never trained"))
        hellos |= talk.ask_all(validate, lambda header: HelloRequest(**header), HelloReply)
        agreed_columns(hellos)
        install(talk, validate, fitted.preparation)
    sites = []
    for number, site in enumerate((*train, *validate), start=1):
        sites.append(_site_result(study, talk, site, hellos[site], fitted, locals_))
        observer(Event("evaluation", number, len(study.sites), site))
    left_out = (
        _leave_one_out(study, exchange, name, columns, journal, observer) if study.evaluation.leave_one_site_out else ()
    )

    trained = [s for s in sites if s.role == "train"]
    results = Results(
        run=name,
        version=__version__,
        study=study.study,
        title=study.title,
        synthetic=study.synthetic,
        fingerprint=study.fingerprint,
        endpoint=study.endpoint.name,
        seed=study.seed,
        strategy=study.training.strategy,
        privacy=_privacy(study),
        preparation=fitted.preparation.digest,
        preparation_origin=fitted.preparation.origin,
        features=len(features),
        parameters=len(fitted.weights),
        threshold=fitted.threshold,
        threshold_sites=fitted.threshold_sites,
        frozen=fitted.digest,
        sites=tuple(sites),
        rounds=fitted.rounds,
        pooled=_pool([s.federated for s in trained]),
        pooled_local=_pool([s.local for s in trained if s.local]),
        left_out=left_out,
    )
    write_atomic(run_dir / "results.json", (results.model_dump_json(indent=1) + "\n").encode())
    return results


def run_name(run_dir: Path) -> str:
    """The run's name on the wire: the folder's name in lower case, other characters as `-`."""
    text = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in run_dir.resolve().name.lower())
    return text.lstrip("-_") or "run"


def _privacy(study: Study) -> str:
    p = study.privacy
    return f"dp-sgd, epsilon {p.epsilon:g}, delta {p.delta:g}, clip {p.clip:g}" if isinstance(p, DpSgd) else "none"


def _pool(scores: list[Scores]) -> Pooled | None:
    if len(scores) < 2:
        return None
    pooled = pool_auc([(s.auc, s.auc_se, s.patients) for s in scores])
    return Pooled.model_validate(pooled, from_attributes=True)


def _local_models(
    study: Study,
    talk: Conversation,
    sites: tuple[str, ...],
    columns: tuple[str, ...],
    journal: Journal,
    observer: Observer,
) -> dict[str, Vector]:
    """Each training site's own model, from the study's start with the study's whole budget; none under DP."""
    if not study.evaluation.local_baseline or study.privacy.mode != "none":
        return {}
    models: dict[str, Vector] = {}
    start = initial_weights(study, columns)
    for number, site in enumerate(sites, start=1):
        path = journal.folder / "local" / f"{site}.safetensors"
        found = read_tensors(path)
        if found is None:
            request = TrainRequest(**talk.header(site), round=0, scope="local", weights=start)
            reply = talk.ask({site: request}, TrainReply).get(site)
            if reply is None:
                raise SiteRefused(
                    f"{site}: {talk.refusals.get(site, 'no answer')}",
                    where=talk.run,
                    remedy="see the site's log and start the run again",
                )
            write_tensors(path, {"weights": reply.weights})
            models[site] = reply.weights
        else:
            models[site] = found[0]["weights"]
        observer(Event("local models", number, len(sites), site))
    return models


def _score(
    talk: Conversation, site: str, label: str, architecture: Architecture, split: str, threshold: float, weights: Vector
) -> Scores:
    request = EvaluateRequest.model_validate(
        {
            **talk.header(site),
            "label": label,
            "architecture": architecture,
            "split": split,
            "threshold": threshold,
            "weights": weights,
        }
    )
    reply = talk.ask_all((site,), lambda _: request, EvaluateReply)[site]
    return Scores.of(reply)


def _site_result(
    study: Study, talk: Conversation, site: str, hello: HelloReply, fitted: Fitted, locals_: dict[str, Vector]
) -> SiteResult:
    role = study.role(site) or "train"
    split = "test" if role == "train" else "all"

    def score(label: str, architecture: Architecture, weights: Vector) -> Scores:
        return _score(talk, site, label, architecture, split, fitted.threshold, weights)

    spent = [r.epsilon[site] for r in fitted.rounds if site in r.epsilon]
    return SiteResult(
        site=site,
        role=role,
        train=hello.train,
        tune=hello.tune,
        test=hello.test,
        positives=hello.positives,
        excluded=hello.excluded,
        data_digest=hello.data_digest,
        federated=score("federated", "transformer", fitted.weights),
        logistic=score("logistic", "logistic", fitted.beta)
        if study.evaluation.logistic_baseline and fitted.beta is not None
        else None,
        local=score(f"local-{site}", "transformer", locals_[site]) if site in locals_ else None,
        local_elsewhere=tuple(score(f"local-{other}", "transformer", w) for other, w in sorted(locals_.items()))
        if role == "validate"
        else (),
        epsilon=spent[-1] if spent else None,
    )


def _leave_one_out(
    study: Study, exchange: Exchange, name: str, columns: tuple[str, ...], journal: Journal, observer: Observer
) -> tuple[LeftOut, ...]:
    """Refit everything without each training site in turn, then score all patients of the site left out."""
    folds = []
    for site in study.train_sites:
        rest = tuple(s for s in study.train_sites if s != site)
        talk = Conversation(study, exchange, f"{name}/without-{site}")
        fitted = fit(study, talk, rest, columns, journal.fold(site), observer, stage=f"without {site}")
        install(talk, (site,), fitted.preparation)
        federated = _score(talk, site, "federated", "transformer", "all", fitted.threshold, fitted.weights)
        logistic = None
        if study.evaluation.logistic_baseline and fitted.beta is not None:
            logistic = _score(talk, site, "logistic", "logistic", "all", fitted.threshold, fitted.beta)
        folds.append(LeftOut(site=site, federated=federated, logistic=logistic))
    return tuple(folds)
