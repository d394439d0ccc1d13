"""What may be asked about a model's scores, and what leaves of the answer.

check_assessing(request, study, role)     # or GateRefused
reply = protect(reply, study, policy)   # groups that few patients are in are left out and named
"""

from __future__ import annotations

import numpy as np

from fedloupe.assessing import Graded, Subset
from fedloupe.messages import AssessReply, AssessRequest, Message, ScoresReply, ScoresRequest
from fedloupe.study import ScaleName, Study
from fedloupe.study.levels import PLAIN_WORD, grade_levels, named_levels
from fedloupe_client.gate.cells import changed, check_cells, coarsen
from fedloupe_client.gate.errors import NotInStudy, ReplyRefused, RoleRefused
from fedloupe_client.gate.policy import Policy
from fedloupe_client.gate.tabulating import sources_of

FEDERATED = "federated"
_FAULT = "this is a fault of the site's software: report it; nothing left"
_ASK = "ask the coordinator; a request outside the approved study should not have been sent"


def check_assessing(request: Message, study: Study, role: str) -> None:
    """Only what the study's section `evidence` declared, of the federated model alone.

    Args:
        request: of kind `scores` or `assess`; another is not looked at.
        study: as approved.
        role: of this site.

    Raises:
        NotInStudy, RoleRefused: see there.
    """
    if not isinstance(request, ScoresRequest | AssessRequest):
        return
    where = f"run {request.run}"
    if study.evidence is None:
        raise NotInStudy(f"`{request.kind}` in a study without `evidence`", where=where, remedy=_ASK)
    if request.label != FEDERATED:  # under another label the same scores could be asked for again
        raise NotInStudy(f"`{request.kind}` of `{request.label}`, not of the federated model", where=where, remedy=_ASK)
    if isinstance(request, ScoresRequest):
        if role != "train" or "/" in request.run:
            raise RoleRefused("histograms of a site without test patients of its own", where=where, remedy=_ASK)
        if request.bins != study.evidence.bins:  # others would cut the same patients elsewhere
            raise NotInStudy(f"{request.bins} bins, the study says {study.evidence.bins}", where=where, remedy=_ASK)


def judged_as(request: ScoresRequest | AssessRequest) -> tuple[str, str]:
    """Under which name a judgement is remembered in a run, and of what it was: each is made once.

    At two thresholds, or of two models, the same groups would differ by single patients. Runs of two studies may have
    one name.
    """
    if isinstance(request, ScoresRequest):
        return f"scores.test.{request.fingerprint}", request.scored
    return f"assess.{request.split}.{request.fingerprint}", f"{request.threshold!r} {request.scored}"


def protect(reply: ScoresReply | AssessReply, study: Study, policy: Policy) -> ScoresReply | AssessReply:
    """The answer as it may leave.

    Args:
        reply: whose arrays have the shape that was asked.
        study: as approved.
        policy: of the site.

    Raises:
        CellTooSmall: too few patients of an outcome.
        ReplyRefused: levels or grades that the study has no room for.
    """
    cell = policy.minimum_cell
    check_cells(reply.patients, reply.positives, cell, "the scored split")
    if isinstance(reply, ScoresReply):
        return _histograms(reply, policy, secure=study.aggregation == "secure")
    _check_words(reply, study)
    # of a site left out, all patients less the test patients, told in the run itself, would be those who developed
    grouped = "subgroups" in policy.metrics and not (reply.split == "all" and study.role(reply.site) == "train")
    shown: dict[str, object] = {}
    withheld, subgroups, told = list(reply.withheld), list[Subset](), first_of_each(study)
    for variable in dict.fromkeys(one.variable for one in reply.subgroups):
        members = [one for one in reply.subgroups if one.variable == variable]
        if grouped and variable in told and _large(members, reply, cell):
            subgroups += members
        else:
            withheld.append(variable)
    grades = _shown_grades(reply, cell) if grouped else ()
    if grades != reply.grades:
        withheld.append("grade")
        shown |= {"concordance": None, "concordance_se": None}
    if "calibration" not in policy.metrics:
        names = (
            *("expected", "centre", "spread", "in_the_large", "in_the_large_se", "slope", "slope_se"),
            "recalibration",
        )
        shown |= {**dict.fromkeys(names), "curve": np.zeros((4, 0))}
    elif (sides := reply.recalibration) is not None:
        positives, negatives = reply.positives, reply.patients - reply.positives
        judged = (sides.positives, sides.judged - sides.positives)
        if min(*judged, positives - judged[0], negatives - judged[1]) < cell:
            shown["recalibration"] = None
    return changed(reply, **shown, subgroups=tuple(subgroups), grades=grades, withheld=tuple(dict.fromkeys(withheld)))


def first_of_each(study: Study) -> set[str]:
    """Subgroup variables that are told: of several on one column the first, for others cut the same patients elsewhere.

    Cuts at 60 and at 61 would show who is 60 by difference.
    """
    sources, seen, told = sources_of(study), set[str](), set[str]()
    for group in study.evidence.subgroups if study.evidence else ():
        if not sources[group.name] & seen:
            told.add(group.name)
        seen |= sources[group.name]
    return told


def _check_words(reply: AssessReply, study: Study) -> None:
    """Variables, levels and grades are the study's own words, or short plain ones of the table; each stands once."""
    groups = {group.name: group for group in study.evidence.subgroups} if study.evidence else {}
    if not groups.keys() >= set(reply.withheld):
        raise ReplyRefused("a variable that the study has no room for", remedy=_FAULT)
    for one in reply.subgroups:
        named = named_levels(groups[one.variable]) if one.variable in groups else None
        fits = named is not None and (one.level in named if named else PLAIN_WORD.fullmatch(one.level))
        if not fits:
            raise ReplyRefused("a level that the study has no room for", remedy=_FAULT)
    scales: list[ScaleName | None] = [*study.endpoint.scales, None]
    words = [set(grade_levels(study, scale)) for scale in scales]
    grades = [one.grade for one in reply.grades]
    pairs = [(one.variable, one.level) for one in reply.subgroups]
    if not any(set(grades) <= known for known in words):
        raise ReplyRefused("a grade that the study has no room for", remedy=_FAULT)
    if len(set(grades)) < len(grades) or len(set(pairs)) < len(pairs):
        raise ReplyRefused("a group that is told twice", remedy=_FAULT)


def _histograms(reply: ScoresReply, policy: Policy, *, secure: bool) -> ScoresReply:
    """A secure sum hides its small cells; outside one they are merged. Where the policy tells no histogram, one bin."""
    positives, negatives = np.asarray(reply.positives_by_score), np.asarray(reply.negatives_by_score)
    told = "histogram" in policy.metrics
    if not (secure and told):
        least = policy.minimum_cell if told else reply.patients + 1
        positives, negatives = coarsen(positives, negatives, least)
    return changed(reply, positives_by_score=positives, negatives_by_score=negatives)


def _large(members: list[Subset], reply: AssessReply, cell: int) -> bool:
    """Whether every level has `cell` patients of each outcome, and so have the patients whose level is not known.

    All levels or none: one that is left out is what is known less what is shown, and the cohort's table tells what is
    known.
    """
    sizes = [(one.positives, one.patients - one.positives) for one in members]
    rest = [
        whole - sum(part)
        for whole, part in zip(
            (reply.positives, reply.patients - reply.positives), zip(*sizes, strict=True), strict=True
        )
    ]
    return min(min(size) for size in sizes) >= cell and (not any(rest) or min(rest) >= cell)


def _shown_grades(reply: AssessReply, cell: int) -> tuple[Graded, ...]:
    """All grades or none: a grade that is left out could be worked out from the others."""
    for one in reply.grades:
        called = round(one.called * one.patients)
        if one.patients < cell or 0 < called < cell or 0 < one.patients - called < cell:
            return ()
    return reply.grades
