"""What may be asked about a model's scores, and what leaves of the answer.

check_assessing(request, study, role)     # or GateRefused
reply = protect(reply, study, policy)   # groups that few patients are in are left out and named
"""

from __future__ import annotations

import numpy as np

from fedloupe.assessing import Graded, Subset
from fedloupe.messages import AssessReply, AssessRequest, Message, ScoresReply, ScoresRequest
from fedloupe.study import Study
from fedloupe_client.gate.cells import changed, check_cells, coarsen
from fedloupe_client.gate.errors import NotInStudy, RoleRefused, SplitRefused
from fedloupe_client.gate.policy import Policy

_ASK = "ask the coordinator; a request outside the approved study should not have been sent"


def check_assessing(request: Message, study: Study, role: str) -> None:
    """Only what the study's section `evidence` declared.

    Args:
        request: of kind `scores` or `assess`; another is not looked at.
        study: as approved.
        role: of this site.

    Raises:
        NotInStudy, RoleRefused, SplitRefused: see there.
    """
    if not isinstance(request, ScoresRequest | AssessRequest):
        return
    where = f"run {request.run}"
    if study.evidence is None:
        raise NotInStudy(f"`{request.kind}` in a study without `evidence`", where=where, remedy=_ASK)
    if isinstance(request, ScoresRequest):
        if role != "train" or "/" in request.run:
            raise RoleRefused("histograms of a site without test patients of its own", where=where, remedy=_ASK)
        if request.bins != study.evidence.bins:
            raise NotInStudy(
                f"{request.bins} bins, the study says {study.evidence.bins}", where=where, remedy=_ASK
            )  # others would cut the same patients elsewhere
    elif role == "validate" and request.split != "all":
        raise SplitRefused(f"`{request.split}` at a site that only validates", where=where, remedy=_ASK)


def protect(reply: ScoresReply | AssessReply, study: Study, policy: Policy) -> ScoresReply | AssessReply:
    """The answer as it may leave.

    Args:
        reply: whose arrays have the shape that was asked.
        study: as approved.
        policy: of the site.

    Raises:
        CellTooSmall: too few patients of an outcome.
    """
    cell = policy.minimum_cell
    check_cells(reply.patients, reply.positives, cell, "the scored split")
    if isinstance(reply, ScoresReply):
        return _histograms(reply, policy, secure=study.aggregation == "secure")
    shown: dict[str, object] = {}
    withheld: list[str] = []
    subgroups: list[Subset] = []
    told = first_of_each(study)
    for variable in dict.fromkeys(one.variable for one in reply.subgroups):
        members = [one for one in reply.subgroups if one.variable == variable]
        kept = _large(members, reply, cell) if variable in told and "subgroups" in policy.metrics else []
        subgroups += kept
        withheld += [variable] if len(kept) < len(members) else []
    grades = _shown_grades(reply, cell) if "subgroups" in policy.metrics else ()
    if grades != reply.grades:
        withheld.append("grade")
        shown |= {"concordance": None, "concordance_se": None}
    if "calibration" not in policy.metrics:
        names = ("in_the_large", "in_the_large_se", "slope", "slope_se", "recalibration")
        shown |= {**dict.fromkeys(names), "curve": np.zeros((4, 0))}
    elif (sides := reply.recalibration) is not None:
        positives, negatives = reply.positives, reply.patients - reply.positives
        judged = (sides.positives, sides.judged - sides.positives)
        if min(*judged, positives - judged[0], negatives - judged[1]) < cell:
            shown["recalibration"] = None
    return changed(reply, **shown, subgroups=tuple(subgroups), grades=grades, withheld=tuple(withheld))


def first_of_each(study: Study) -> set[str]:
    """Subgroup variables that are told: of several on one column the first, for others cut the same patients elsewhere.

    Cuts at 60 and at 61 would show who is 60 by difference.
    """
    groups = study.evidence.subgroups if study.evidence else ()
    first: dict[tuple[str | None, str | None], str] = {}
    for group in groups:
        first.setdefault((group.column, group.header), group.name)
    return set(first.values())


def _histograms(reply: ScoresReply, policy: Policy, *, secure: bool) -> ScoresReply:
    """A secure sum hides its small cells; outside one they are merged. Where the policy tells no histogram, one bin."""
    positives, negatives = np.asarray(reply.positives_by_score), np.asarray(reply.negatives_by_score)
    told = "histogram" in policy.metrics
    if not (secure and told):
        least = policy.minimum_cell if told else reply.patients + 1
        positives, negatives = coarsen(positives, negatives, least)
    return changed(reply, positives_by_score=positives, negatives_by_score=negatives)


def _large(members: list[Subset], reply: AssessReply, cell: int) -> list[Subset]:
    """Levels with `cell` patients of each outcome, so few that the rest of the patients are as many, or nobody.

    The rest, whose level is not known or held back, can be worked out: everybody less what is shown.
    """
    kept = [one for one in members if min(one.positives, one.patients - one.positives) >= cell]
    while kept:
        patients = reply.patients - sum(one.patients for one in kept)
        positives = reply.positives - sum(one.positives for one in kept)
        if not patients or min(positives, patients - positives) >= cell:
            break
        kept.remove(min(kept, key=lambda one: one.patients))
    return kept


def _shown_grades(reply: AssessReply, cell: int) -> tuple[Graded, ...]:
    """All grades or none: a grade that is left out could be worked out from the others."""
    for one in reply.grades:
        called = round(one.called * one.patients)
        if one.patients < cell or 0 < called < cell or 0 < one.patients - called < cell:
            return ()
    return reply.grades
