"""The seal of a run: made when everything is fitted, kept in `seal.json`, shown to a site before it is a test.

    seal = keep_seal(run_dir, make_seal(study, run, columns, fitted, own, contributed).signed(key))
    open_sites(talk, study.validate_sites, seal)        # or NotExternal, SiteRefused

A run that goes on makes its seal again from what is on disk; where anything differs from `seal.json` it ends
(SealBroken). What a site's gate makes of the seal is in `fedloupe_client.gate.unsealing`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fedloupe import __version__
from fedloupe.errors import FedLoupeError
from fedloupe.features import parse_settings
from fedloupe.freezing import Seal, SealedModel, columns_digest, prediction_digest
from fedloupe.messages import OpenReply, OpenRequest
from fedloupe.models import digest
from fedloupe.signing import SignatureWrong, Signer
from fedloupe.study import Study
from fedloupe_server.federation.conversation import Conversation, SiteRefused
from fedloupe_server.federation.fit import Fitted
from fedloupe_server.federation.harmonising import harmoniser_digest
from fedloupe_server.federation.journal import Journal, write_atomic

FILE = "seal.json"
KEY = "coordinator.key"
INTERNAL = "FL-543"
"""Code by which a site says that it took part in what it is to validate."""
RULE = "Youden's, between the mean log-odds of tuning patients with and without the event, of the training sites"


class SealBroken(FedLoupeError):
    """What the run's folder holds is not what was sealed."""

    code = "FL-736"
    title = "the run is not what was sealed"


class NotExternal(FedLoupeError):
    """A site that is to validate the run gave something to it."""

    code = "FL-728"
    title = "a site that took part cannot validate the run"


def make_seal(
    study: Study,
    run: str,
    columns: tuple[tuple[str, ...], tuple[str, ...]],
    fitted: Fitted,
    own: Mapping[str, NDArray[Any]],
    contributed: Sequence[str],
) -> Seal:
    """What is frozen, not signed yet.

    Args:
        study: the protocol.
        run: its name on the wire.
        columns: names and groups of the feature columns.
        fitted: of the run.
        own: training sites' own models that left them.
        contributed: whose answers went into any of it, as far as was noted; what `fitted` names is added.
    """
    found, harmonised = fitted.prediction, fitted.harmonised
    return Seal(
        **_about(study, run),
        models=_models(study, fitted, own),
        columns=columns_digest(*columns),
        preparation=fitted.preparation.digest,
        harmonisation=harmoniser_digest(harmonised.harmoniser) if harmonised else None,
        features=parse_settings(study.radiomics.settings).digest if study.radiomics.source == "computed" else None,
        threshold=fitted.threshold,
        raw_threshold=fitted.raw_threshold,
        line=(float(found.line[0]), float(found.line[1])) if found else None,
        prediction=prediction_digest(found.admitted, found.limit, found.centre, found.precision) if found else None,
        contributed=tuple(sorted({*contributed, *_named(fitted), *own})),
    )


def drawing_seal(study: Study, run: str, weights: NDArray[Any], contributed: Sequence[str]) -> Seal:
    """Of a drawing study: the model alone."""
    models = {"federated": SealedModel(weights=digest(weights))}
    return Seal(**_about(study, run), models=models, contributed=tuple(sorted(contributed)))


def _about(study: Study, run: str) -> dict[str, Any]:
    return {
        **{"version": __version__, "study": study.study, "title": study.title, "sites": study.sites},
        **{"fingerprint": study.fingerprint, "run": run, "plan": plan_of(study)},
    }


def plan_of(study: Study) -> dict[str, Any]:
    """What will be analysed and how, as people read it; the study's own values."""
    content = study.model_dump(mode="json")
    names = ("endpoint", "evaluation", "split", "prediction", "harmonisation", "quality", "evidence")
    return {**{name: content[name] for name in names if name in content}, "threshold": RULE}


def _models(study: Study, fitted: Fitted, own: Mapping[str, NDArray[Any]]) -> dict[str, SealedModel]:
    """Every model that a site which took no part is asked to score, under the labels of `evaluating`."""
    rules, calibrated = study.harmonisation, fitted.prediction is not None
    shift: dict[str, Any] = {"shift": "none" if rules and rules.unseen == "none" else "own"}
    federated: dict[str, Any] = {"weights": digest(fitted.weights)}
    logistic = fitted.beta is not None and study.evaluation.logistic_baseline
    named: dict[str, dict[str, Any]] = {"federated": {**federated, "calibrated": calibrated}}
    if logistic and fitted.beta is not None:
        named["logistic"] = {"weights": digest(fitted.beta), "architecture": "logistic"}
    found = {label: SealedModel(**fields, **shift) for label, fields in named.items()}
    if rules is not None:
        rule = "none" if rules.unseen == "estimate" else "estimate"
        other: dict[str, Any] = {"shift": "none" if rule == "none" else "own"}
        found |= {f"{label}-{rule}": SealedModel(**fields, **other) for label, fields in named.items()}
    if calibrated:
        found["federated-raw"] = SealedModel(**federated, **shift)
    for b in fitted.further:
        found[b.label] = SealedModel(weights=digest(b.weights), architecture=b.architecture, **shift)
    return found | {f"local-{site}": SealedModel(weights=digest(w), **shift) for site, w in sorted(own.items())}


def _named(fitted: Fitted) -> set[str]:
    """Sites whose part in the fit is on record; a run that was begun before `contributed.json` knows them by this."""
    rounds = {site for record in fitted.rounds for site in (*record.participants, *record.carried)}
    others = (fitted.threshold_sites, *(part.sites for part in (fitted.prediction, fitted.quality) if part))
    return rounds.union(*others)


def summed_sites(journal: Journal) -> set[str]:
    """The sites in any secure sum that was opened."""
    path = journal.folder / "sums.json"
    return {site for sites in json.loads(path.read_bytes()).values() for site in sites} if path.exists() else set()


def read_seal(run_dir: Path) -> Seal | None:
    """The run's seal; None where there is none.

    Raises:
        SealBroken: the file is not one, or its signature does not fit.
    """
    path = run_dir / FILE
    if not path.exists():
        return None
    try:
        seal = Seal.parse(path.read_bytes())
        seal.check()
    except (ValueError, SignatureWrong) as error:
        what = error.what if isinstance(error, SignatureWrong) else str(error)
        raise SealBroken(
            f"no seal as its coordinator signed it: {what}", where=str(path), remedy="restore it from a backup"
        ) from None
    return seal


def keep_seal(run_dir: Path, seal: Seal) -> Seal:
    """Write the seal, or check that the one that is there says the same, which then stays.

    Raises:
        SealBroken: naming each item that is another one.
    """
    kept = read_seal(run_dir)
    if kept is None:
        content = json.dumps(seal.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
        write_atomic(run_dir / FILE, content.encode())
        return seal
    if items := kept.differing(seal):
        raise SealBroken(
            f"changed since: {', '.join(items)}",
            where=str(run_dir / FILE),
            remedy="put back what was changed, or start a new run in another folder: nothing is sealed twice",
        )
    return kept


def open_sites(talk: Conversation, sites: tuple[str, ...], seal: Seal) -> None:
    """Greet sites that validate and show them the seal; each checks by its own memory that it took no part.

    Raises:
        NotExternal: one did, by the seal or by what it says itself.
        SiteRefused, WrongAnswer: see there.
    """
    if inside := [site for site in sites if site in seal.contributed]:
        raise NotExternal(f"{', '.join(inside)} gave something to the run", where=talk.run, remedy=_INSIDE)
    try:
        talk.say_hello(sites, begun=True)
        replies = talk.ask_all(sites, lambda header: OpenRequest(**header, seal=seal.text), OpenReply)
    except SiteRefused:
        if inside := [site for site in sites if talk.refusals.get(site, "").startswith(INTERNAL)]:
            raise NotExternal(
                f"{', '.join(inside)} answered that it took part in run {seal.run}", where=talk.run, remedy=_INSIDE
            ) from None
        raise
    for site, reply in replies.items():
        if reply.seal != seal.digest:
            raise talk.wrong_answer(site, "keeps another seal than it was shown")


_INSIDE = "its results are internal: let a new study name it as a training site, or leave it out"


def signer_beside(run_dir: Path) -> Signer:
    """The coordinator's key beside the run's folder, made where there is none.

    Raises:
        KeyUnusable: see there.
    """
    path = run_dir.resolve().parent / KEY
    return Signer.load(path) if path.exists() else Signer.make(path)
