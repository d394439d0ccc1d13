"""The frozen model judged at each site beyond its scores, and scores added over training sites; for `evidence`.

assessed = assess_sites(talk, federated, others)     # by site
pooled = pooled_scores(study, talk, federated)       # None where no site has enough test patients
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloupe.messages import AssessReply, AssessRequest, EvaluateRequest, ScoresReply, ScoresRequest
from fedloupe.study import Study
from fedloupe_server.evidence.assessed import Assessed, PooledScores
from fedloupe_server.federation.conversation import Conversation

NOT_ALLOWED = "FL-505"
"""Code by which a hospital's policy says that it answers no such request: its results then stand without."""


def assess_sites(
    talk: Conversation, judged: Mapping[str, EvaluateRequest], others: Mapping[str, tuple[str, ...]]
) -> dict[str, Assessed]:
    """What each site says of the model that it scored; one exchange. A site whose policy does not answer is not there.

    Args:
        talk: to the sites.
        judged: the evaluation of each site that is meant.
        others: labels that the site scored on the same patients.

    Raises:
        SiteRefused, WrongAnswer: see there; the run can be continued.
    """
    if not judged:
        return {}

    def ask(header: dict[str, Any]) -> AssessRequest:
        request = judged[header["site"]]
        return AssessRequest(
            **header,
            label=request.label,
            scored=request.rests_on,
            split=request.split,
            threshold=request.threshold,
            against=others.get(header["site"], ()),
        )

    replies = talk.ask({site: ask(talk.header(site)) for site in judged}, AssessReply)
    unwilling = [s for s in judged if s not in replies and talk.refusals.get(s, "").startswith(NOT_ALLOWED)]
    talk.require_all({**replies, **dict.fromkeys(unwilling)}, tuple(judged))
    return {site: Assessed.of(reply) for site, reply in replies.items()}


def pooled_scores(study: Study, talk: Conversation, judged: Mapping[str, EvaluateRequest]) -> PooledScores:
    """Histograms of test patients' scores, added over the training sites that have enough of them.

    Args:
        study: with `evidence`.
        talk: to the sites.
        judged: the evaluation that is meant, by training site.

    Raises:
        SiteRefused: a site was silent, or all have too few.
        TooFewForSum, MasksRemain, WrongAnswer: see there.
    """
    assert study.evidence is not None, "asked of a study with `evidence`"
    bins, first = study.evidence.bins, next(iter(judged.values()))
    shared: dict[str, Any] = {"label": first.label, "scored": first.rests_on, "bins": bins}
    summed = talk.sums.willing(
        tuple(judged), lambda header: ScoresRequest(**header, **shared), ScoresReply, "a pooled curve"
    )
    return PooledScores.of(summed.reply, first.label, summed.sites)
