"""What a site that only validates asks before it is a test: was all of it fixed before, and did we take no part?

    seal = read(request, study, coordinator, kept)      # of an `open`: the approved study's, and signed; or SealRefused
    check_memory(gave); check_external(seal, "coast")   # or NotExternal
    check_as_sealed(request, seal)                      # of everything that comes after; or NotAsSealed

Pure rules, no files. A request is compared by the names of its fields, so that a new kind which scores sites is held to
the seal by carrying `label`, `weights`, `threshold` or `line`; one that carries none of them only needs the seal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fedloupe.freezing import Seal, SealedModel, prediction_digest
from fedloupe.messages import HarmoniseRequest, OpenRequest, PrepareRequest, Request
from fedloupe.models import digest
from fedloupe.signing import SignatureWrong
from fedloupe.statistics.combat import Harmoniser
from fedloupe.study import Study
from fedloupe_client.gate.errors import NotAsSealed, NotExternal, NotSealed, SealChanged, SealRefused

FEDERATED = "federated"
"""The model of a request that names none, as `release`."""
_ASK = "ask the coordinator; nothing was scored, nothing left"
_INTERNAL = "its results would be internal: let a new study name it as a training site, or leave it out"


def read(request: OpenRequest, study: Study, coordinator: str, kept: Seal | None) -> Seal:
    """The seal that a request brings.

    Args:
        request: for this site.
        study: as approved.
        coordinator: public key of who signed the request.
        kept: this run's seal that the site has already.

    Raises:
        SealRefused: not a seal, not this coordinator's, or of another study or run.
        SealChanged: another one than the one kept.
    """
    where = f"run {request.run}"
    try:
        seal = Seal.parse(request.seal)
        seal.check()
    except (ValueError, SignatureWrong) as error:
        what = error.what if isinstance(error, SignatureWrong) else str(error)
        raise SealRefused(f"no seal that anybody signed: {what}", where=where, remedy=_ASK) from None
    if seal.text != request.seal:
        raise SealRefused("not written as a seal is", where=where, remedy=_ASK)
    if seal.coordinator != coordinator:
        raise SealRefused("sealed by another coordinator than the one who asks", where=where, remedy=_ASK)
    check_of(seal, study, request)
    if strange := sorted(set(seal.models) - labels_of(study)):
        raise SealRefused(f"{len(strange)} models that the study does not make", where=where, remedy=_ASK)
    if kept is not None and (items := kept.differing(seal)):
        raise SealChanged(
            f"this site keeps another seal of this run; differing: {', '.join(items)}"[:400], where=where, remedy=_ASK
        )
    return seal


def check_of(seal: Seal, study: Study, request: Request) -> None:
    """The seal is the approved study's, and of this run where it is of this very study.

    Raises:
        SealRefused: see above.
    """
    where = f"run {request.run}"
    if not seal.is_of(study):
        raise SealRefused(
            "of a study that differs from the approved one in more than its title and further sites that only validate",
            where=where,
            remedy=_ASK,
        )
    if (seal.fingerprint == study.fingerprint) != (seal.run == request.run):
        raise SealRefused(f"of run {seal.run}", where=where, remedy=_ASK)


def labels_of(study: Study) -> set[str]:
    """Labels of the models that a study can have scored at sites that only validate; one model each."""
    shifted = ("estimate", "none") if study.harmonisation else ()
    named = {FEDERATED, "logistic", *(f"{name}-{rule}" for name in (FEDERATED, "logistic") for rule in shifted)}
    return named | {"federated-raw", "clinical", "trees", *(f"local-{site}" for site in study.train_sites)}


def not_sealed(request: Request) -> NotSealed:
    """The refusal of what comes before the seal."""
    return NotSealed(
        f"`{request.kind}` at a site that only validates, which keeps no seal of this run",
        where=f"run {request.run}",
        remedy="ask the coordinator to freeze and seal the run first: `fedloupe freeze`",
    )


def check_memory(gave: str | None) -> None:
    """By its own memory this site took no part in a run that it is to validate.

    Args:
        gave: the run, a fold of it, or another one of its study, that this site's patients shaped; None: none is known.

    Raises:
        NotExternal: they did.
    """
    if gave is not None:
        raise NotExternal("this site answered requests that shaped it", where=f"run {gave}", remedy=_INTERNAL)


def check_external(seal: Seal, site: str) -> None:
    """By what the coordinator sealed, this site gave nothing to it.

    Raises:
        NotExternal: it did.
    """
    if site in seal.contributed:
        raise NotExternal("the seal names this site as one that gave", where=f"run {seal.run}", remedy=_INTERNAL)


def check_as_sealed(request: Request, seal: Seal) -> None:
    """Everything that the request brings is what was sealed.

    Raises:
        NotAsSealed: naming each item that is not.
    """
    if items := list(_differing(request, seal)):
        raise NotAsSealed(
            f"`{request.kind}` brings {', '.join(items)} other than sealed", where=f"run {request.run}", remedy=_ASK
        )


def _differing(request: Request, seal: Seal) -> Iterator[str]:
    match request:
        case PrepareRequest():
            if digest(request.mean, request.scale, request.projection) != seal.preparation:
                yield "preparation"
        case HarmoniseRequest():
            shared = {name: getattr(request, name) for name in Harmoniser.__dataclass_fields__}
            if digest(*Harmoniser(**shared).arrays.values()) != seal.harmonisation:
                yield "harmonisation"
        case _:
            brought = {name: getattr(request, name) for name in type(request).model_fields}
            if not brought.keys().isdisjoint(("label", "weights", "threshold", "line")):
                label = brought.get("label", FEDERATED)
                model = seal.models.get(label)
                if model is None:
                    yield f"a model `{label}`"
                else:
                    yield from _of_model(brought, model, seal)


def _of_model(brought: dict[str, Any], model: SealedModel, seal: Seal) -> Iterator[str]:
    """Names of the fields that are not as this model's are sealed."""
    if "weights" in brought and digest(np.asarray(brought["weights"])) != model.weights:
        yield "weights"
    wanted: dict[str, Any] = {
        "architecture": model.architecture,
        "shift": model.shift,
        "threshold": seal.threshold if model.calibrated else seal.raw_threshold,
    }
    yield from (name for name, value in wanted.items() if name in brought and brought[name] != value)
    if "line" in brought:
        line = None if brought["line"] is None else tuple(float(x) for x in brought["line"])
        if line != (seal.line if model.calibrated else None):
            yield "line"
    rest = ("admitted", "limit", "centre", "precision")
    if all(name in brought for name in rest):
        admitted, limit, centre, precision = (brought[name] for name in rest)
        told = None if admitted is None else prediction_digest(admitted, limit, centre, precision)
        bare = admitted is None and np.size(centre) + np.size(precision) == 0
        if not (bare if not model.calibrated or seal.prediction is None else told == seal.prediction):
            yield "prediction"
