"""What may leave, and in what shape: the last look at an answer before it is encoded.

reply = protect(reply, request, study, policy)      # small cells merged; or GateRefused
print(table())                                      # every field that can leave, for docs/security.md
"""

from __future__ import annotations

import re

import numpy as np
from pydantic.fields import FieldInfo

from fedloupe.assessing import CURVE
from fedloupe.messages import (
    KINDS,
    AssessReply,
    AssessRequest,
    BucketsReply,
    CalibrateReply,
    CohortReply,
    ConformReply,
    CovarianceReply,
    CrossProductsReply,
    DescribeReply,
    EmbedReply,
    EvaluateReply,
    GrowReply,
    HelloReply,
    Message,
    MidpointReply,
    NewtonReply,
    NewtonRequest,
    OverlapReply,
    RedundancyReply,
    RedundancyRequest,
    Reply,
    Request,
    ResidualsReply,
    ScoresReply,
    ScoresRequest,
    SketchReply,
    SketchRequest,
    StabilityReply,
    StabilityRequest,
    SummaryReply,
    TrainReply,
    TrainRequest,
)
from fedloupe.models import Limits, TreesInvalid, check_trees
from fedloupe.scoring import shapes_of
from fedloupe.statistics import shapes
from fedloupe.study import ClientDp, DpSgd, Study
from fedloupe_client.gate import assessing, bounding, describing, predicting, tabulating
from fedloupe_client.gate.cells import changed, check_cells, coarsen, merge_groups
from fedloupe_client.gate.errors import CellTooSmall, CohortTooSmall, ReplyRefused
from fedloupe_client.gate.policy import Policy

_REMEDY = "this is a fault of the site's software: report it; nothing left"
UNSAID = {
    "calibration": ("calibration", "slope", "slope_se", "in_the_large", "in_the_large_se", "ece"),
    "prediction": ("covered", "covered_se", "single", "beyond"),
}
"""Fields of a scored split that stay here where the policy does not list their metric."""
Described = SummaryReply | BucketsReply | CovarianceReply
Sums = DescribeReply | CrossProductsReply | ResidualsReply


def protect(reply: Reply, request: Request, study: Study, policy: Policy) -> Reply:  # noqa: PLR0911, PLR0912 - one a kind
    """The answer as it may leave.

    Args:
        reply: what the site worked out.
        request: what was asked and admitted.
        study: as approved.
        policy: of the site.

    Raises:
        ReplyRefused: not the typed answer to this request, or not of the shape that was asked.
        CohortTooSmall: sums or weights from fewer training patients than the policy asks.
        CellTooSmall: a scored split with too few patients of either label, or a drawn one with too few patients.
        UpdateTooLong: weights beyond the clipping bound of a client-level study.
    """
    _check_answers(reply, request, study)
    match reply:
        case HelloReply():
            if bad := [key for key in reply.excluded if not re.fullmatch(r"FL-\d{3}", key)]:
                raise ReplyRefused(f"{len(bad)} keys of `excluded` are no error codes", remedy=_REMEDY)
            check_cells(reply.train + reply.tune + reply.test, reply.positives, policy.minimum_cell, "the cohort")
            return reply
        case (
            DescribeReply()
            | CrossProductsReply()
            | ResidualsReply()
            | SummaryReply()
            | BucketsReply()
            | CovarianceReply()
        ):
            return _protect_sums(reply, study, policy)
        case StabilityReply():
            return _protect_versions(reply, policy)
        case RedundancyReply():
            return _protect_pairs(reply, policy)
        case TrainReply():
            check_cohort(reply.patients, policy)
            return _protect_weights(reply, request, study)
        case GrowReply():
            check_cohort(reply.patients, policy)
            return _protect_tree(reply, study)
        case EvaluateReply():
            if reply.reference_auc is not None and not study.synthetic:
                raise ReplyRefused("a generator's AUC on patients who were not generated", remedy=_REMEDY)
            return _protect_scores(reply, policy)
        case CohortReply():
            return tabulating.protect(reply, study, policy)
        case ScoresReply() | AssessReply():
            return assessing.protect(reply, study, policy)
        case MidpointReply() | CalibrateReply() | EmbedReply() | ConformReply():
            if isinstance(reply, EmbedReply):
                check_cohort(reply.patients, policy)
            return predicting.protect(reply, policy.minimum_cell)
        case OverlapReply():
            return _protect_overlap(reply, policy.minimum_cell)
        case _:
            return reply


def check_cohort(patients: int, policy: Policy) -> None:
    """The site has enough training patients to contribute.

    Raises:
        CohortTooSmall: fewer than the policy's `minimum_cohort`.
    """
    if patients < policy.minimum_cohort:
        raise CohortTooSmall(
            f"{patients} training patients, the policy asks {policy.minimum_cohort}",
            remedy="bring more cases, or let the security officer lower `minimum_cohort` in policy.yaml",
        )


def check_cell(patients: int, policy: Policy) -> None:
    """A group of patients is large enough to be described.

    Raises:
        CellTooSmall: smaller than the policy's `minimum_cell`.
    """
    if patients < policy.minimum_cell:
        raise CellTooSmall(
            f"a leaf of a tree holds {patients} training patients, the policy asks {policy.minimum_cell}",
            remedy="this is a fault of the site's software: report it; nothing left",
        )


def classes(message: Message) -> tuple[str, ...]:
    """Disclosure classes of the fields that a message fills, sorted."""
    found = {
        _disclosure(field)
        for name, field in type(message).model_fields.items()
        if name != "kind" and getattr(message, name) is not None
    }
    return tuple(sorted(found))


def table() -> str:
    """Every field of every answer, with its disclosure class and meaning, as a Markdown table."""
    rows = ["| message | field | tells | meaning |", "|---|---|---|---|"]
    header = Message.model_fields
    rows += [
        f"| every message | `{name}` | {_disclosure(field)} | {field.description} |" for name, field in header.items()
    ]
    for kind, record in KINDS.items():
        if kind.endswith("-reply") or kind in ("failure", "working"):
            rows += [
                f"| {kind} | `{name}` | {_disclosure(field)} | {field.description} |"
                for name, field in record.model_fields.items()
                if name not in header and name != "kind"
            ]
    return "\n".join(rows) + "\n"


def _disclosure(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if not isinstance(extra, dict):
        raise TypeError(f"a message field without a disclosure class: {field.description}")
    return str(extra["disclosure"])


def _check_answers(reply: Reply, request: Request, study: Study) -> None:
    wanted = KINDS.get(f"{request.kind}-reply")
    if wanted is None or type(reply) is not wanted:
        raise ReplyRefused(f"{type(reply).__name__} is not the answer to `{request.kind}`", remedy=_REMEDY)
    same = ["version", "fingerprint", "run", "site"]
    same += [name for name in ("round", "label", "split") if name in wanted.model_fields]
    if other := [name for name in same if getattr(reply, name) != getattr(request, name)]:
        raise ReplyRefused(f"the answer's {other} are not the request's", remedy=_REMEDY)
    compared = {one.against for one in reply.paired} if isinstance(reply, AssessReply) else set()
    if not compared <= set(request.against if isinstance(request, AssessRequest) else ()):
        raise ReplyRefused("a comparison with a model that was not asked for", remedy=_REMEDY)
    covariates = len(study.harmonisation.covariates) if study.harmonisation else 0
    for name, shape in _shapes(reply, request, study).items():
        if np.shape(getattr(reply, name)) != shape:
            raise ReplyRefused(f"`{name}` is {np.shape(getattr(reply, name))}, asked was {shape}", remedy=_REMEDY)
    if not shapes.fits(reply, request, covariates):
        raise ReplyRefused("arrays are no exact sums of the shape that was asked", remedy=_REMEDY)


def _shapes(reply: Reply, request: Request, study: Study) -> dict[str, tuple[int, ...]]:  # noqa: PLR0911 - one a kind
    """The shape that each array of the answer must have: room for what was asked, and for nothing else."""
    match reply, request:
        case SketchReply(), SketchRequest():
            return {"sketch": np.shape(request.probe)}
        case StabilityReply(), StabilityRequest():
            size, versions = np.size(request.mean), 1 + len(study.quality.perturbations if study.quality else ())
            return {"count": (size,), "total": (size, versions), "product": (size, versions * (versions + 1) // 2)}
        case RedundancyReply(), RedundancyRequest():
            block = np.size(request.block)
            table = (np.size(request.earlier) + block, block)
            return {"pairs": table, "product": table, "total": (block,)}
        case NewtonReply(), NewtonRequest():
            size = np.size(request.beta)
            return {"gradient": (size,), "hessian": (size, size)}
        case TrainReply(), TrainRequest():
            return {"weights": np.shape(request.weights)}
        case ScoresReply(), ScoresRequest(bins=bins):
            return dict.fromkeys(reply.tensors, (bins,))
        case AssessReply(), _:
            return {"curve": (4, CURVE if np.size(reply.curve) else 0)}
        case OverlapReply(), _:
            return dict.fromkeys(reply.tensors, (10,))
        case _:
            return shapes_of(reply, request)


def _protect_weights(reply: TrainReply, request: Request, study: Study) -> TrainReply:
    if isinstance(study.privacy, ClientDp):
        if not isinstance(request, TrainRequest):
            raise ReplyRefused("weights that no round asked for", remedy=_REMEDY)
        return bounding.protect(reply, request, study.privacy.clip)
    if not isinstance(study.privacy, DpSgd):
        return reply
    if reply.epsilon is None:
        raise ReplyRefused("weights of a private study without an epsilon", remedy=_REMEDY)
    # The loss is a function of the patients that no noise protects.
    return changed(reply, loss=None)


def _protect_tree(reply: GrowReply, study: Study) -> GrowReply:
    """One tree, and nothing that the study's limits leave no room for: no threshold off the grid."""
    plan = study.evaluation.trees
    if plan is None:
        raise ReplyRefused("a tree in a study that grows none", remedy=_REMEDY)
    try:
        check_trees(np.asarray(reply.trees), Limits(features=None, depth=plan.depth, grid=plan.grid, trees=1))
    except TreesInvalid as error:
        raise ReplyRefused(error.what, remedy=_REMEDY) from None
    return reply


def _protect_sums(reply: Sums | Described, study: Study, policy: Policy) -> Reply:
    """A feature present in one or two patients would give their values away: it is reported as absent."""
    if isinstance(reply, SummaryReply | BucketsReply | CovarianceReply):
        if isinstance(reply, SummaryReply):
            check_cohort(reply.patients, policy)
            check_cells(reply.patients, reply.events, policy.minimum_cell, "the training patients")
        return describing.protect(reply, policy, secure=study.aggregation == "secure")
    count = np.asarray(reply.count)
    rules = study.harmonisation
    if isinstance(reply, ResidualsReply) and rules and rules.reference not in (None, reply.site):
        if any(np.asarray(getattr(reply, name)).any() for name in reply.tensors):
            raise ReplyRefused("sums of a site that is not the study's reference", remedy=_REMEDY)
        return reply
    if count.size and not count.any():  # a site without the scanner: nobody is described, and nothing may be said
        if any(np.asarray(getattr(reply, name)).any() for name in reply.tensors):
            raise ReplyRefused("sums of features that no patient has", remedy=_REMEDY)
        return reply
    check_cohort(int(count.max(initial=0)), policy)
    keep = count >= policy.minimum_cell
    shown = {name: np.asarray(getattr(reply, name)) for name in reply.tensors}
    return changed(reply, **{name: (sums.T * keep).T for name, sums in shown.items()})


def _protect_versions(reply: StabilityReply, policy: Policy) -> StabilityReply:
    """As with `_protect_sums`, over the patients that were perturbed: a feature of one or two is reported as absent."""
    check_cohort(int(np.asarray(reply.count).max(initial=0)), policy)
    keep = np.asarray(reply.count) >= policy.minimum_cell
    total, product = (np.where(keep[:, None], values, 0.0) for values in (reply.total, reply.product))
    return changed(reply, count=np.where(keep, reply.count, 0.0), total=total, product=product)


def _protect_pairs(reply: RedundancyReply, policy: Policy) -> RedundancyReply:
    """Two features that only one or two patients both have count as never seen together."""
    check_cohort(reply.patients, policy)
    pairs = np.asarray(reply.pairs)
    keep = pairs >= policy.minimum_cell
    alone = np.diagonal(keep[len(pairs) - pairs.shape[1] :])
    pairs, product = (np.where(keep, values, 0.0) for values in (pairs, reply.product))
    return changed(reply, pairs=pairs, product=product, total=np.where(alone, reply.total, 0.0))


def _protect_scores(reply: EvaluateReply, policy: Policy) -> EvaluateReply:
    cell = policy.minimum_cell
    check_cells(reply.patients, reply.positives, cell, f"split `{reply.split}`")
    bins = cell if "histogram" in policy.metrics else reply.patients + 1  # then all bins are merged into one
    positives, negatives = coarsen(np.asarray(reply.positives_by_score), np.asarray(reply.negatives_by_score), bins)
    shown: dict[str, object] = {"calibration": merge_groups(reply.calibration, cell)}
    for name in ("covered", "single", "beyond"):
        share = getattr(reply, name)
        few = share is not None and any(0 < side < cell for side in _sides(share, reply.patients))
        shown[name] = None if few else share
    shown["covered_se"] = None if shown["covered"] is None else reply.covered_se
    for metric, names in UNSAID.items():
        if metric not in policy.metrics:
            shown |= {name: () if name == "calibration" else None for name in names}
    return changed(reply, positives_by_score=positives, negatives_by_score=negatives, **shown)


def _sides(share: float, patients: int) -> tuple[int, int]:
    """How many patients a share is of, and how many are left."""
    count = round(share * patients)
    return count, patients - count


def _protect_overlap(reply: OverlapReply, cell: int) -> OverlapReply:
    """Mean and deviation describe all patients of the split; the histogram shows no smaller group."""
    if reply.patients < cell:
        raise CellTooSmall(
            f"{reply.patients} patients drawn in split `{reply.split}`, the policy asks {cell}",
            remedy="bring more cases, or let the security officer lower `minimum_cell` in policy.yaml",
        )
    counts = np.asarray(reply.by_dice)
    if (counts < 0).any() or (counts != np.rint(counts)).any() or counts.sum() != reply.patients:
        raise ReplyRefused("`by_dice` does not count the patients", remedy=_REMEDY)
    merged, _ = coarsen(counts, np.zeros_like(counts), cell)
    return changed(reply, by_dice=merged)
