"""Seals of tests: one under which some requests are as sealed, and a site that only validates opened with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fedloupe
from fedloupe.freezing import Seal, SealedModel, prediction_digest
from fedloupe.messages import HarmoniseRequest, Message, OpenRequest, PrepareRequest, Request, encode
from fedloupe.models import digest
from fedloupe.signing import Signer
from fedloupe.statistics.combat import Harmoniser
from fedloupe.study import Study
from fedloupe_client.gate import Gate, trust, trusted
from fedloupe_client.site.site import Site
from fedloupe_server.federation.freezing import signer_beside


def seal_of(study: Study, *requests: Request, **changes: Any) -> Seal:
    """A seal, not signed yet, under which these requests are as sealed; run and site from the first of them."""
    first = requests[0]
    found: dict[str, Any] = {
        **{"version": fedloupe.__version__, "study": study.study, "title": study.title, "sites": study.sites},
        **{"fingerprint": study.fingerprint, "run": first.run, "contributed": study.train_sites, "plan": {}},
        "models": {"trees": SealedModel(weights="0" * 64)},
    }
    for request in requests:
        match request:
            case PrepareRequest():
                found["preparation"] = digest(request.mean, request.scale, request.projection)
            case HarmoniseRequest():
                arrays = {name: getattr(request, name) for name in Harmoniser.__dataclass_fields__}
                found["harmonisation"] = digest(*arrays.values())
            case _ if hasattr(request, "weights"):
                _add_model(found, request)
    return Seal.model_validate({**found, **changes})


def _add_model(found: dict[str, Any], request: Any) -> None:
    admitted = getattr(request, "admitted", None)
    found["models"] = {
        **found["models"],
        getattr(request, "label", "federated"): SealedModel(
            weights=digest(np.asarray(request.weights)),
            architecture=getattr(request, "architecture", "transformer"),
            calibrated=admitted is not None,
            shift=getattr(request, "shift", "own"),
        ),
    }
    if hasattr(request, "threshold"):
        found["raw_threshold" if admitted is None else "threshold"] = request.threshold
    if admitted is not None:
        found["line"] = tuple(float(x) for x in request.line)
        found["prediction"] = prediction_digest(admitted, request.limit, request.centre, request.precision)


def key_of(home: Path) -> Signer:
    """A coordinator's key that this home trusts; made where there is none."""
    path = home / "coordinator-of-tests.key"
    key = Signer.load(path) if path.exists() else Signer.make(path)
    if key.public not in trusted(home):
        trust(home, "Coordinator of tests", key.public, by="officer")
    return key


def opening(seal: Seal, request: Request) -> OpenRequest:
    """A request that shows this seal to the site of another request, in its run."""
    header = {name: getattr(request, name) for name in Message.model_fields}
    return OpenRequest(**header, seal=seal.text)


def open_site(home: Path, study: Study, *requests: Request, **changes: Any) -> Gate:
    """The gate of the first request's site, opened with a seal under which these requests are as sealed."""
    gate, key = Gate(home, requests[0].site), key_of(home)
    gate.admit(encode(opening(seal_of(study, *requests, **changes).signed(key), requests[0])), key.public)
    return gate


def hearing(site: Site, run_dir: Path) -> Callable[[bytes], bytes]:
    """How a site answers the coordinator whose key lies beside this run's folder, seals of requests left out."""

    def answer(blob: bytes) -> bytes:
        key = signer_beside(run_dir)
        if key.public not in trusted(site.home):
            trust(site.home, "Coordinator of tests", key.public, by="officer")
        return site.answer(blob, key.public)

    return answer
