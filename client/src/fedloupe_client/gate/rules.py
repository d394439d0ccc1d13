"""Which request an approved study and the site's policy allow; pure rules, no files. What a site that only validates is
asked must also be as it was sealed: `unsealing`.

check_request(request, study, policy, site="north", took_part=False, asked=set(), digest=digest)   # or GateRefused
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np

import fedloupe
from fedloupe.contributing import COMBAT, CONTRIBUTING, DESCRIBING, JUDGING, PREDICTING
from fedloupe.masking import is_summed
from fedloupe.messages import (
    AssessRequest,
    DescribeRequest,
    EvaluateRequest,
    GrowRequest,
    HarmoniseRequest,
    HelloRequest,
    KeysRequest,
    NewtonRequest,
    OpenRequest,
    OverlapRequest,
    PrepareRequest,
    RedundancyRequest,
    ReleaseRequest,
    Request,
    SharesRequest,
    SketchRequest,
    StabilityRequest,
    SumRequest,
    TrainRequest,
    UnmaskRequest,
)
from fedloupe.models import ASKS
from fedloupe.study import CLIENT, RECORD, ClientDp, DpSgd, Study
from fedloupe_client.gate.assessing import check_assessing
from fedloupe_client.gate.errors import (
    KindNotAllowed,
    NotInStudy,
    PrivacyRequired,
    RoleRefused,
    RoundRefused,
    SecureSumsRequired,
    SplitRefused,
    VersionMismatch,
    WrongSite,
)
from fedloupe_client.gate.policy import Policy
from fedloupe_client.gate.tabulating import check_tabulating

ADDING_UP = (KeysRequest, SharesRequest, SumRequest, UnmaskRequest)
_ASK = "ask the coordinator; a request outside the approved study should not have been sent"


REPEATS = {"calibrate": 2 * ASKS, "embed": 3, "conform": 3, "midpoint": 3, "personal": 3, "alone": 3}
"""Different requests of a kind in one run, at most: what fitting takes, and a little for a run that lost its place."""


def makes_own(request: Request) -> bool:
    """Whether the site trains a model of its own to answer."""
    return counted(request) in ("personal", "alone")


def counted(request: Request) -> str:
    """As what the gate counts a request."""
    if isinstance(request, EvaluateRequest | OverlapRequest) and request.alone:
        return "alone"
    return "personal" if isinstance(request, EvaluateRequest) and request.personal else request.kind


def check_sender(request: Request, site: str) -> None:
    """The request is for this site and from the same version.

    Raises:
        WrongSite, VersionMismatch: see there.
    """
    if request.site != site:
        raise WrongSite(f"the request is for `{request.site}`, this is `{site}`", remedy="check the coordinator's list")
    if request.version != fedloupe.__version__:
        raise VersionMismatch(
            f"the sender runs {request.version}, this site {fedloupe.__version__}",
            remedy="install the same version everywhere",
        )


def check_request(
    request: Request,
    study: Study,
    policy: Policy,
    *,
    site: str,
    took_part: bool,
    asked: Set[str],
    digest: str,
    summed: bool = False,
) -> None:
    """Policy first, then role, then what the study provides for.

    Args:
        request: decoded, its sender checked.
        study: as approved.
        policy: of the site.
        site: this site's name.
        took_part: whether this site's patients already shaped something in this run.
        asked: digests of the requests that count as this one does (`counted`), admitted in this run.
        digest: of this request.
        summed: it came in a sum's request.

    Raises:
        KindNotAllowed, PrivacyRequired, SecureSumsRequired, RoundRefused, WrongSite, RoleRefused, NotInStudy,
        SplitRefused: see there.
    """
    _check_policy(request, study, policy)
    _check_aggregation(request, study, policy, summed=summed)
    role = study.role(site)
    if role is None:
        raise WrongSite(f"the study names no site `{site}`", where=study.study, remedy=_ASK)
    if isinstance(request, (*CONTRIBUTING, *ADDING_UP) if role == "validate" else OpenRequest):
        does = "only validates" if role == "validate" else "trains"
        raise RoleRefused(f"`{request.kind}` at a site that {does}", where=study.study, remedy=_ASK)
    _check_run(request, study)
    _check_purpose(request, study)
    _check_preparation(request, study)
    _check_harmonisation(request, study, role, took_part)
    if isinstance(request, EvaluateRequest) and request.personal:
        _check_personal(request, study, role)
    if isinstance(request, EvaluateRequest | OverlapRequest) and request.alone:
        _check_alone(request, study, role)
    _check_prediction(request, study)
    _check_repeats(request, asked | {digest})
    check_assessing(request, study, role)
    check_tabulating(request, study)
    match request:
        case NewtonRequest() if not _fits_logistic(study):
            raise NotInStudy("the study has no logistic baseline", where=study.study, remedy=_ASK)
        case StabilityRequest() if not (study.quality and study.quality.perturbations):
            raise NotInStudy("the study perturbs no images", where=study.study, remedy=_ASK)
        case RedundancyRequest() if not (study.quality and study.quality.redundancy):
            raise NotInStudy("the study drops no redundant features", where=study.study, remedy=_ASK)
        case GrowRequest():
            _check_growing(request, study, policy, asked | {digest})
        case TrainRequest():
            _check_training(request, study, policy, asked | {digest})
        case EvaluateRequest() if request.architecture == "trees" and study.evaluation.trees is None:
            raise NotInStudy("the study grows no trees", where=study.study, remedy=_ASK)
        case EvaluateRequest() | OverlapRequest() | AssessRequest():
            _check_split(request, study, role, took_part)
        case _:
            pass


def _check_aggregation(request: Request, study: Study, policy: Policy, *, summed: bool) -> None:
    """What a secure study adds up comes as a term of a sum, and nothing else does.

    Args:
        request: itself, or what a sum's request holds.
        study: as approved.
        policy: of the site.
        summed: it came in a sum's request.

    Raises:
        SecureSumsRequired: the study has none.
        NotInStudy: see above.
    """
    secure = study.aggregation == "secure"
    if policy.require_secure_sums and not secure:
        raise SecureSumsRequired(
            "the policy requires secure sums, the study says `aggregation: plain`",
            where=study.study,
            remedy="let the coordinator leave `aggregation` out, or let the security officer change policy.yaml",
        )
    if (isinstance(request, ADDING_UP) or summed) and not secure:
        raise NotInStudy(f"`{request.kind}` of a secure sum, which the study has not", where=study.study, remedy=_ASK)
    if is_summed(request) != summed and secure:
        way = "as a term of a sum, and it is none" if summed else "in the clear, in a study that adds up securely"
        raise NotInStudy(f"`{request.kind}` {way}", where=study.study, remedy=_ASK)


def _fits_logistic(study: Study) -> bool:
    wanted = study.evaluation.logistic_baseline or study.evaluation.clinical_baseline
    return wanted or study.training.start == "logistic"


def _check_policy(request: Request, study: Study, policy: Policy) -> None:
    change = "leave it so, or let the security officer change policy.yaml"
    if request.kind not in policy.messages:
        raise KindNotAllowed(f"the policy does not allow `{request.kind}`", remedy=change)
    if study.training.rounds > policy.maximum_rounds:
        raise RoundRefused(
            f"the study has {study.training.rounds} rounds, the policy allows {policy.maximum_rounds}", remedy=change
        )
    if isinstance(study.privacy, DpSgd):
        # Refused now rather than in a late round, when most of the budget is gone.
        if study.privacy.epsilon > policy.epsilon_budget or study.privacy.delta > policy.delta:
            raise PrivacyRequired(
                f"the study plans epsilon {study.privacy.epsilon:g} at delta {study.privacy.delta:g}, "
                f"the policy allows {policy.epsilon_budget:g} at {policy.delta:g}",
                remedy=change,
            )
    elif policy.require_dp:
        what = "the study has none"
        if isinstance(study.privacy, ClientDp):
            what = f"the study's is {CLIENT}: this site adds no noise"
        raise PrivacyRequired(f"the policy requires {RECORD} differential privacy, {what}", remedy=change)


def _check_run(request: Request, study: Study) -> None:
    """A run within a run is a fold of the study; under any other name all that is counted by run would begin anew."""
    run, within, fold = request.run.partition("/")
    folds = [f"without-{site}" for site in study.train_sites] if study.evaluation.leave_one_site_out else []
    if within and fold not in folds:
        raise NotInStudy(f"`{fold}` is no fold of this study", where=f"run {run}", remedy=_ASK)


def _check_purpose(request: Request, study: Study) -> None:
    """A drawing study is asked to train and to draw, another study never to draw."""
    draws = study.segmentation is not None
    if draws and not isinstance(request, (HelloRequest, OpenRequest, TrainRequest, OverlapRequest, *ADDING_UP)):
        raise NotInStudy(f"`{request.kind}` in a study that trains a drawing model", where=study.study, remedy=_ASK)
    if not draws and isinstance(request, OverlapRequest):
        raise NotInStudy("the study trains no drawing model", where=study.study, remedy=_ASK)


def _check_preparation(request: Request, study: Study) -> None:
    """Sums over patients are sent only where the study fits its scaling on them, and never under DP."""
    if isinstance(request, DESCRIBING) and not study.evaluation.describe:
        raise NotInStudy(f"`{request.kind}` in a study without a description", where=study.study, remedy=_ASK)
    sums = (DescribeRequest, *JUDGING, SketchRequest)
    if isinstance(request, sums) and study.training.preparation != "federated":
        raise NotInStudy(f"`{request.kind}` in a study with a public preparation", where=study.study, remedy=_ASK)
    if isinstance(request, PrepareRequest) and request.origin != study.training.preparation:
        raise NotInStudy(
            f"a {request.origin} preparation in a study that says {study.training.preparation}",
            where=study.study,
            remedy=_ASK,
        )
    if study.private and isinstance(request, NewtonRequest):
        raise NotInStudy("exact Newton sums would bypass differential privacy", where=study.study, remedy=_ASK)


def _check_harmonisation(request: Request, study: Study, role: str, took_part: bool) -> None:
    """Sums for ComBat only where the study harmonises; a shift from all patients only at a site that was not fitted."""
    where = f"run {request.run}"
    asks = isinstance(request, (*COMBAT, HarmoniseRequest)) or (
        (isinstance(request, DescribeRequest) and request.harmonised)
        or (isinstance(request, EvaluateRequest) and request.shift == "none")
    )
    if not asks:
        return
    if study.harmonisation is None:
        raise NotInStudy(f"`{request.kind}` for harmonisation, which the study has not", where=where, remedy=_ASK)
    if isinstance(request, HarmoniseRequest) and request.scope == "train":
        if role != "train":
            raise RoleRefused("scope `train` at a site that only validates", where=where, remedy=_ASK)
    elif isinstance(request, HarmoniseRequest | EvaluateRequest):
        if took_part:
            raise RoleRefused(f"`{request.kind}` as unseen, at a site that was fitted", where=where, remedy=_ASK)
        if role == "train" and not study.evaluation.leave_one_site_out:
            raise NotInStudy(f"`{request.kind}` as unseen, and the study leaves no site out", where=where, remedy=_ASK)


def _check_prediction(request: Request, study: Study) -> None:
    """Line, sets and range only where the study predicts, never under DP; the model of a fold is kept nowhere."""
    where = f"run {request.run}"
    asks = isinstance(request, (*PREDICTING, ReleaseRequest)) or (
        isinstance(request, EvaluateRequest) and (request.line is not None or np.size(request.centre) > 0)
    )
    if asks and (study.prediction is None or study.private):
        raise NotInStudy(f"`{request.kind}` for predictions, which the study has not", where=where, remedy=_ASK)
    if isinstance(request, ReleaseRequest) and "/" in request.run:
        raise NotInStudy("a fold's model is released to nobody", where=where, remedy=_ASK)


def _check_repeats(request: Request, asked: Set[str]) -> None:
    """Whoever may ask the same of other weights, lines or ranges without end can part one patient from the others."""
    most = REPEATS.get(counted(request))
    if most is not None and len(asked) > most:
        raise RoundRefused(
            f"more than {most} different `{counted(request)}` requests in one run",
            where=f"run {request.run}",
            remedy="find out why the coordinator asked again with other weights; a new run has another name",
        )


def _check_training(request: TrainRequest, study: Study, policy: Policy, trained: Set[str]) -> None:
    where = f"run {request.run}"
    if request.scope == "local":
        if not study.evaluation.local_baseline or study.private:
            raise NotInStudy("the study trains no local baseline, or not under DP", where=where, remedy=_ASK)
        if study.evaluation.local_models == "home":
            raise NotInStudy("the site's own model, which stays here", where=where, remedy=_ASK)
        if request.round != 0:
            raise RoundRefused(f"round {request.round} of a local model, which has round 0", where=where, remedy=_ASK)
    elif not 1 <= request.round <= study.training.rounds:
        raise RoundRefused(f"round {request.round} of {study.training.rounds}", where=where, remedy=_ASK)
    # One more than the rounds: the local baseline is a training request of the same run.
    if len(trained) > policy.maximum_rounds + 1:
        raise RoundRefused(
            f"more than {policy.maximum_rounds} different training requests in one run",
            where=where,
            remedy="find out why rounds were asked again with other weights",
        )


def _check_growing(request: GrowRequest, study: Study, policy: Policy, grown: Set[str]) -> None:
    where, plan = f"run {request.run}", study.evaluation.trees
    if plan is None or study.private:
        raise NotInStudy("the study grows no trees", where=where, remedy=_ASK)
    if request.round > plan.rounds or plan.rounds > policy.maximum_rounds:
        raise RoundRefused(
            f"round {request.round} of {plan.rounds} rounds of trees, the policy allows {policy.maximum_rounds}",
            where=where,
            remedy=_ASK,
        )
    if len(grown) > policy.maximum_rounds:
        raise RoundRefused(
            f"more than {policy.maximum_rounds} different requests for trees in one run",
            where=where,
            remedy="find out why rounds were asked again with other trees",
        )


def _check_personal(request: EvaluateRequest, study: Study, role: str) -> None:
    """A site's own model is made at training sites, of the study's architecture, and judged on the test split alone."""
    where = f"run {request.run}"
    if study.personalisation is None or request.architecture != "transformer":
        raise NotInStudy("a personal model, which the study does not make", where=where, remedy=_ASK)
    if role != "train":
        raise RoleRefused("a personal model at a site that only validates", where=where, remedy=_ASK)
    if request.split != "test":
        raise SplitRefused(f"a personal model on `{request.split}`", where=where, remedy=_ASK)


def _check_alone(request: EvaluateRequest | OverlapRequest, study: Study, role: str) -> None:
    """A site's own model that stays at home is judged at its training site, on the test split."""
    where = f"run {request.run}"
    if not study.evaluation.local_baseline or study.evaluation.local_models != "home" or study.private:
        raise NotInStudy("the site's own model, which the study does not judge at home", where=where, remedy=_ASK)
    if isinstance(request, EvaluateRequest) and request.architecture != "transformer":
        raise NotInStudy("the site's own model, of another architecture", where=where, remedy=_ASK)
    if role != "train":
        raise RoleRefused("an own model at a site that only validates", where=where, remedy=_ASK)
    if request.split != "test":
        raise SplitRefused(f"the site's own model on `{request.split}`", where=where, remedy=_ASK)


def _check_split(
    request: EvaluateRequest | OverlapRequest | AssessRequest, study: Study, role: str, took_part: bool
) -> None:
    where = f"run {request.run}"
    if role == "validate":
        if request.split != "all":
            raise SplitRefused(f"`{request.split}` at a site that only validates", where=where, remedy=_ASK)
    elif request.split == "all":
        if not study.evaluation.leave_one_site_out:
            raise SplitRefused("`all` at a training site, and the study leaves no site out", where=where, remedy=_ASK)
        if took_part:
            raise SplitRefused(
                "`all` at a site whose patients took part in this run: that is no external validation",
                where=where,
                remedy="name each fold as a run of its own, and leave this site out of it",
            )
