"""A drawing study from the first hello to the folder that hospitals get: rounds, freeze, then every site's Dice.

    card = draw_study(study, exchange, Path("runs/drawing"))
    run/drawing/drawing.json, model.safetensors       # what `source.drawing` of a site.yaml names

Goes on from what the journal holds, as `run_study` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe import __version__
from fedloupe.drawing import CARD, MODEL, DrawingCard, DrawingScores, model_bytes
from fedloupe.messages import OverlapReply, OverlapRequest
from fedloupe.models import build_unet, flatten
from fedloupe.signing import Signer
from fedloupe.study import Study
from fedloupe_server.federation.conversation import Conversation, SiteRefused
from fedloupe_server.federation.evaluating import shows_own_models
from fedloupe_server.federation.events import Event, Observer, silent
from fedloupe_server.federation.exchange import Exchange
from fedloupe_server.federation.freezing import (
    drawing_seal,
    keep_seal,
    open_sites,
    read_seal,
    signer_beside,
    summed_sites,
)
from fedloupe_server.federation.joining import Entry
from fedloupe_server.federation.journal import Journal, write_atomic
from fedloupe_server.federation.opening import opened
from fedloupe_server.federation.rounds import train_rounds
from fedloupe_server.federation.run import local_models
from fedloupe_server.federation.waiting import CLOCK, Clock

Vector = NDArray[np.floating[Any]]
FOLDER = "drawing"


def draw_study(
    study: Study,
    exchange: Exchange,
    run_dir: Path,
    *,
    observer: Observer = silent,
    patient: bool = False,
    clock: Clock = CLOCK,
    key: Signer | None = None,
) -> DrawingCard:
    """Run or continue a drawing study, and write its model.

    A site with too few patients to describe refuses to; the others are shown, and it is named with its code.

    Args:
        study: one with `segmentation`.
        exchange: how to reach the sites.
        run_dir: the run's folder; named as `run_name` has it.
        observer: told of every step.
        patient, clock, key: as in `run_study`.

    Raises:
        FedLoupeError: RunTaken, QuorumNotMet, SiteRefused, WrongAnswer, AnotherStudy, JournalDamaged; the run can be
            continued after each.
        SealBroken, NotExternal: see there; it cannot.
    """
    assert study.segmentation is not None, "only a drawing study draws"
    with opened(study, exchange, run_dir, observer, clock, patient=patient) as (journal, talk):
        card, content = _drawn(study, talk, journal, talk.watch.observe, key or signer_beside(run_dir))
        write_atomic(run_dir / FOLDER / MODEL, content)
        write_atomic(run_dir / FOLDER / CARD, (card.model_dump_json(indent=1) + "\n").encode())
    return card


def _drawn(
    study: Study, talk: Conversation, journal: Journal, observer: Observer, key: Signer
) -> tuple[DrawingCard, bytes]:
    assert study.segmentation is not None, "only a drawing study draws"
    train, validate = study.train_sites, study.validate_sites
    observer(Event("hello", 0, 1, "asking the training sites"))
    talk.say_hello(train, begun=journal.begun)
    observer(Event("hello", 1, 1, ", ".join(talk.hellos)))

    start = flatten(build_unet(study))
    weights, _ = train_rounds(study, talk, train, start, journal, observer, "rounds", Entry())
    own = local_models(study, talk, train, start, journal, observer, sealed=read_seal(journal.folder) is not None)
    content = model_bytes(weights)
    name = hashlib.sha256(content).hexdigest()
    gave = {*talk.contributed.sites, *summed_sites(journal), *own}
    seal = keep_seal(journal.folder, drawing_seal(study, talk.run, weights, tuple(gave)).signed(key))
    journal.freeze({"frozen": name})
    if validate:
        observer(Event("validation", 0, len(validate), "opening sites that never trained"))
        open_sites(talk, validate, seal)
        observer(Event("validation", len(validate), len(validate), f"opened {', '.join(validate)}"))
    observer(Event("evaluation", 0, 2, "federated"))
    federated = _overlap(study, talk, "federated", dict.fromkeys(talk.there((*train, *validate)), weights))
    refused = {site: text for site, text in sorted(talk.refusals.items()) if site not in federated}
    observer(Event("evaluation", 1, 2, "own"))
    at_home = shows_own_models(study) and not own
    alone = _overlap(
        study, talk, "local-{site}", dict.fromkeys(talk.there(train), start) if at_home else own, alone=at_home
    )
    observer(Event("evaluation", 2, 2))
    card = DrawingCard(
        study=study.study,
        title=study.title,
        synthetic=study.synthetic,
        fingerprint=study.fingerprint,
        version=__version__,
        model=name,
        sequences=study.sequences,
        imaging=study.imaging,
        segmentation=study.segmentation,
        sites=tuple(
            DrawingScores(
                site=site.name,
                role=site.role,
                patients=reply.patients,
                mean=reply.mean,
                sd=reply.sd,
                by_dice=tuple(round(float(v), 6) for v in reply.by_dice),
                own_mean=alone[site.name].mean if site.name in alone else None,
            )
            for site in sorted(study.sites, key=lambda s: s.role)
            if (reply := federated.get(site.name)) is not None
        ),
        unscored=refused,
    )
    return card, content


def _overlap(
    study: Study, talk: Conversation, label: str, weights: Mapping[str, Vector], *, alone: bool = False
) -> dict[str, OverlapReply]:
    """Dice of one model, or of each site's own, at the sites that may describe it; `alone`: each trains its own first.

    Raises:
        SiteRefused: a site was silent.
    """
    requests = {
        site: OverlapRequest(
            **talk.header(site),
            label=label.format(site=site),
            split="test" if study.role(site) == "train" else "all",
            alone=alone,
            weights=vector,
        )
        for site, vector in weights.items()
    }
    replies = talk.ask(requests, OverlapReply)
    waited = [site for site in requests if site not in study.quorum.may and site not in replies]
    if gone := [site for site in waited if not talk.refusals[site].startswith("FL-")]:
        raise SiteRefused(
            f"no answer about the Dice from {', '.join(gone)}",
            where=talk.run,
            remedy="start the run again when these sites are ready: it continues",
        )
    return replies
