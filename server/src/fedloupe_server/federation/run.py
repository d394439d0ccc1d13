"""One study from the first hello to `results.json`: fit, freeze, then open the validate-only sites.

Every stage goes on from what the journal holds, so the same command after any crash finishes the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedloupe import __version__
from fedloupe.freezing import Seal
from fedloupe.messages import (
    Architecture,
    EvaluateRequest,
    TrainReply,
    TrainRequest,
)
from fedloupe.metrics import pool_auc
from fedloupe.signing import Signer
from fedloupe.study import DpSgd, Study, numbers
from fedloupe_server.evidence.assessed import PooledScores
from fedloupe_server.evidence.code import libraries, source_digest
from fedloupe_server.evidence.results import (
    HarmonisedBy,
    LeftOut,
    Pooled,
    Predicted,
    Results,
    Scores,
    Sealed,
    SiteResult,
)
from fedloupe_server.federation import client_level
from fedloupe_server.federation.cohorts import cohort_tables
from fedloupe_server.federation.columns import agreed_columns
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.describing import describe_sites
from fedloupe_server.federation.evaluating import (
    Split,
    Vector,
    evaluate_sites,
    judge,
    score_beside,
    score_sites,
    shows_own_models,
)
from fedloupe_server.federation.events import Event, Observer, silent
from fedloupe_server.federation.exchange import Exchange
from fedloupe_server.federation.fit import Fitted, fit, initial_weights, install
from fedloupe_server.federation.freezing import keep_seal, make_seal, open_sites, read_seal, signer_beside, summed_sites
from fedloupe_server.federation.frozen import check_stops_sealed
from fedloupe_server.federation.harmonising import harmoniser_digest, install_harmoniser
from fedloupe_server.federation.journal import Journal, read_tensors, write_atomic, write_tensors
from fedloupe_server.federation.opening import opened
from fedloupe_server.federation.predicting import FittedPrediction, release
from fedloupe_server.federation.waiting import CLOCK, Clock
from fedloupe_server.statistics.quality import QualitySummary


@dataclass(frozen=True)
class Locked:
    """A run in which nothing is fitted any more.

    Attributes:
        seal: of everything below.
        features, columns: names and groups of the feature columns.
        start: (m) from which sites' own models are trained.
        fitted: on the training sites.
        own: their own models that left them.
    """

    seal: Seal
    features: tuple[str, ...]
    columns: tuple[str, ...]
    start: Vector
    fitted: Fitted
    own: dict[str, Vector]


def run_study(
    study: Study,
    exchange: Exchange,
    run_dir: Path,
    *,
    observer: Observer = silent,
    patient: bool = False,
    clock: Clock = CLOCK,
    key: Signer | None = None,
) -> Results:
    """Run or continue a study.

    Args:
        study: the protocol.
        exchange: how to reach the sites.
        run_dir: the run's folder, named as `run_name` has it. Under `training.preparation: public` it holds
            `public-preparation.safetensors`.
        observer: told of every step.
        patient: a run that lacks sites it needs pauses, says so in `state.json` and goes on when they are there;
            otherwise it fails after `quorum.attempts`.
        clock: tells and passes time.
        key: of the coordinator, who signs the seal; where None the one beside the folder, made where there is none.

    Raises:
        FedLoupeError: RunTaken, QuorumNotMet, SiteRefused, WrongAnswer, FeaturesDiffer, NoPublicPreparation,
            AnotherStudy, JournalDamaged, NoiseDrawn; the run can be continued after each.
        SealBroken, NotExternal: see there; it cannot.
    """
    with opened(study, exchange, run_dir, observer, clock, patient=patient) as (journal, talk):
        locked = _lock(study, talk, journal, talk.watch.observe, key or signer_beside(run_dir))
        results = _test(study, talk, journal, talk.watch.observe, locked)
        write_atomic(run_dir / "results.json", (results.model_dump_json(indent=1) + "\n").encode())
    return results


def freeze_study(
    study: Study,
    exchange: Exchange,
    run_dir: Path,
    *,
    observer: Observer = silent,
    patient: bool = False,
    key: Signer | None = None,
) -> Seal:
    """Run or continue a study until it is sealed: no site that only validates hears of it. As `run_study`.

    `run_study` in the same folder goes on from there.

    Raises:
        NotSealable: a drawing study.
    """
    check_stops_sealed(study)
    with opened(study, exchange, run_dir, observer, CLOCK, patient=patient) as (journal, talk):
        return _lock(study, talk, journal, talk.watch.observe, key or signer_beside(run_dir)).seal


def _lock(study: Study, talk: Conversation, journal: Journal, observer: Observer, key: Signer) -> Locked:
    """Fit on the training sites, and seal what came of it."""
    train = study.train_sites
    observer(Event("hello", 0, 1, "asking the training sites"))
    features, columns = agreed_columns(talk.say_hello(train, begun=journal.begun))
    observer(Event("hello", 1, 1, ", ".join(talk.hellos)))
    journal.keep_columns(features, columns)

    if study.evaluation.describe:
        describe_sites(study, talk, train, features, columns, journal)
    fitted = fit(study, talk, train, features, columns, journal, observer)
    start = initial_weights(study, columns)
    sealed = read_seal(journal.folder) is not None
    own = local_models(study, talk, train, start, journal, observer, sealed=sealed)
    gave = (*talk.contributed.sites, *summed_sites(journal))
    seal = make_seal(study, talk.run, (features, columns), fitted, own, gave).signed(key)
    seal = keep_seal(journal.folder, seal)
    journal.freeze(
        {
            "frozen": fitted.digest,
            "threshold": fitted.threshold,
            "preparation": fitted.preparation.digest,
            "weights": fitted.rounds[-1].weights,
            **({"quality": fitted.quality.digest} if fitted.quality else {}),
            **({"harmonisation": harmoniser_digest(fitted.harmonised.harmoniser)} if fitted.harmonised else {}),
            **({"prediction": fitted.prediction.digest} if fitted.prediction else {}),
        }
    )
    return Locked(seal, features, columns, start, fitted, own)


def _test(study: Study, talk: Conversation, journal: Journal, observer: Observer, locked: Locked) -> Results:
    """Open the sites that only validate, and score everything everywhere."""
    train, validate = study.train_sites, study.validate_sites
    fitted, features, columns = locked.fitted, locked.features, locked.columns
    if validate:
        observer(Event("validation", 0, len(validate), "opening sites that never trained"))
        open_sites(talk, validate, locked.seal)
        agreed_columns(talk.hellos)
        send_frozen(talk, validate, fitted)
        observer(Event("validation", len(validate), len(validate), f"opened {', '.join(validate)}"))
    cohorts = cohort_tables(study, talk, tuple(talk.hellos))
    evaluated = evaluate_sites(study, talk, fitted, locked.start, locked.own, observer)
    sites = tuple(s.model_copy(update={"cohort": cohorts.get(s.site)}) for s in evaluated.sites)
    if fitted.prediction:
        release(talk, (*train, *validate), fitted.prediction, fitted.weights, fitted.threshold)
    left_out = (
        _leave_one_out(study, talk, features, columns, journal, observer) if study.evaluation.leave_one_site_out else ()
    )
    return results_of(study, talk.run, locked, sites, left_out, evaluated.pooled_scores)


def results_of(
    study: Study,
    run: str,
    locked: Locked,
    sites: tuple[SiteResult, ...],
    left_out: tuple[LeftOut, ...],
    pooled_scores: PooledScores | None,
) -> Results:
    """The record of a run, or of one that validates a sealed run."""
    fitted = locked.fitted
    trained = [s for s in sites if s.role == "train"]
    return Results(
        run=run,
        version=__version__,
        code=source_digest(),
        libraries=libraries(),
        study=study.study,
        title=study.title,
        synthetic=study.synthetic,
        fingerprint=study.fingerprint,
        endpoint=study.endpoint.name,
        seed=study.seed,
        strategy=_strategy(study),
        aggregation=study.aggregation,
        local_models="everywhere" if locked.own else "home",
        privacy=numbers(study.privacy),
        client_level=client_level.account(study, fitted.rounds),
        preparation=fitted.preparation.digest,
        preparation_origin=fitted.preparation.origin,
        features=len(locked.features),
        parameters=len(fitted.weights),
        threshold=fitted.threshold,
        threshold_sites=fitted.threshold_sites,
        frozen=fitted.digest,
        sites=sites,
        rounds=tuple(record.model_copy(update={"seconds": {}}) for record in fitted.rounds),
        pooled=_pool([s.federated for s in trained]),
        pooled_local=_pool([s.local for s in trained if s.local]),
        left_out=left_out,
        quality=QualitySummary.of(fitted.quality) if fitted.quality else None,
        harmonised=_harmonised(study, fitted),
        personalised=study.personalisation.method if study.personalisation else None,
        predicted=_predicted(study, fitted),
        planned_epsilon=study.privacy.epsilon if isinstance(study.privacy, DpSgd) else None,
        evidence=study.evidence,
        pooled_scores=pooled_scores,
        sealed=Sealed.of(locked.seal),
    )


def _strategy(study: Study) -> str:
    spread = study.training.random_intercept
    own = "" if spread is None else f", sites' own intercepts (SD {spread:g})"
    return study.training.strategy + own


def _harmonised(study: Study, fitted: Fitted) -> HarmonisedBy | None:
    rules, installed = study.harmonisation, fitted.harmonised
    if rules is None or installed is None:
        return None
    return HarmonisedBy(
        harmoniser=harmoniser_digest(installed.harmoniser),
        **rules.model_dump(include=set(HarmonisedBy.model_fields)),
        batches={site: reply.batches for site, reply in installed.replies.items()},
        small_batches={site: reply.small for site, reply in installed.replies.items() if reply.small},
    )


def _predicted(study: Study, fitted: Fitted) -> Predicted | None:
    rules, found = study.prediction, fitted.prediction
    if rules is None or found is None:
        return None
    return Predicted(
        **rules.model_dump(),
        line=(float(found.line[0]), float(found.line[1])),
        admitted=found.admitted,
        limit=found.limit,
        sites=found.sites,
        tuned=found.tuned,
        trained=found.trained,
        raw_threshold=fitted.raw_threshold,
        digest=found.digest,
    )


def send_frozen(talk: Conversation, sites: tuple[str, ...], fitted: Fitted) -> None:
    """Send what is frozen to sites that took no part."""
    if fitted.harmonised:
        install_harmoniser(talk, sites, fitted.harmonised.harmoniser, "unseen")
    install(talk, sites, fitted.preparation)


def _pool(scores: list[Scores]) -> Pooled | None:
    known = [s for s in scores if s.poolable]
    if len(known) < 2:
        return None
    pooled = pool_auc([(s.auc, s.auc_se, s.patients) for s in known])
    return Pooled.model_validate(pooled, from_attributes=True)


def local_models(
    study: Study,
    talk: Conversation,
    sites: tuple[str, ...],
    start: Vector,
    journal: Journal,
    observer: Observer,
    *,
    sealed: bool = False,
) -> dict[str, Vector]:
    """Each training site's own model, from the study's start with the study's whole budget.

    None under DP, and none where they stay at home: each is then trained and judged there (`EvaluateRequest.alone`).
    Once the run is `sealed`, those on disk: nobody trains who came since.
    """
    if not shows_own_models(study) or study.evaluation.local_models == "home":
        return {}
    paths = {site: journal.folder / "local" / f"{site}.safetensors" for site in sites}
    sites = tuple(site for site in sites if paths[site].exists()) if sealed else talk.there(sites)
    todo = tuple(site for site in sites if read_tensors(paths[site]) is None)
    observer(Event("local models", len(sites) - len(todo), len(sites), ", ".join(todo)))
    if todo:
        replies = talk.ask_all(
            todo, lambda header: TrainRequest(**header, round=0, scope="local", weights=start), TrainReply
        )
        for site, reply in replies.items():
            write_tensors(paths[site], {"weights": reply.weights})
    observer(Event("local models", len(sites), len(sites)))
    found = {site: read_tensors(paths[site]) for site in sites}
    return {site: tensors[0]["weights"] for site, tensors in found.items() if tensors}


def _leave_one_out(
    study: Study,
    talk: Conversation,
    features: tuple[str, ...],
    columns: tuple[str, ...],
    journal: Journal,
    observer: Observer,
) -> tuple[LeftOut, ...]:
    """Refit everything without each training site in turn, then score all patients of the site left out."""
    folds = []
    for site in study.train_sites:
        rest = tuple(s for s in study.train_sites if s != site)
        fold = journal.fold(site)
        about = talk.fold(f"{talk.run}/without-{site}", fold.folder)
        fitted = fit(study, about, rest, features, columns, fold, observer, stage=f"without {site}")
        send_frozen(about, (site,), fitted)
        unshifted = (site,) if study.harmonisation and study.harmonisation.unseen == "none" else ()
        kept: dict[str, dict[str, EvaluateRequest]] = {}

        def score(
            label: str,
            architecture: Architecture,
            weights: Vector,
            prediction: FittedPrediction | None = None,
            talk: Conversation = about,
            site: str = site,
            fitted: Fitted = fitted,
            unshifted: tuple[str, ...] = unshifted,
            kept: dict[str, dict[str, EvaluateRequest]] = kept,
        ) -> Scores:
            threshold = fitted.threshold if prediction else fitted.raw_threshold
            asked: dict[str, tuple[Split, Vector]] = {site: ("all", weights)}
            found = score_sites(talk, label, architecture, threshold, asked, unshifted, prediction, asked_for=kept)
            return found[site]

        wanted = study.evaluation.logistic_baseline and fitted.beta is not None
        folds.append(
            LeftOut(
                site=site,
                federated=score("federated", "transformer", fitted.weights, fitted.prediction),
                logistic=score("logistic", "logistic", fitted.beta) if wanted and fitted.beta is not None else None,
                baselines={b.label: score(b.label, b.architecture, b.weights) for b in fitted.further},
                beside=score_beside(study, about, (site,), fitted).get(site),
                uncalibrated=score("federated-raw", "transformer", fitted.weights) if fitted.prediction else None,
                assessed=judge(study, about, kept).get(site),
            )
        )
    return tuple(folds)
