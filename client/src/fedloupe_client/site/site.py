"""One hospital: bytes in, gate, work, gate, bytes out. Holds data and models warm; never opens a connection.

site = Site(home)
reply = site.handle(sealed)           # never raises; a failure is an encoded `Failure` with a code
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from fedloupe.contributing import COMBAT, CONTRIBUTING, DESCRIBING
from fedloupe.errors import FedLoupeError
from fedloupe.messages import (
    AssessRequest,
    BucketsRequest,
    CalibrateRequest,
    CohortRequest,
    ConformRequest,
    CovarianceRequest,
    CrossProductsRequest,
    DescribeReply,
    DescribeRequest,
    EmbedRequest,
    EvaluateRequest,
    GrowReply,
    GrowRequest,
    HarmoniseRequest,
    HelloReply,
    HelloRequest,
    KeysRequest,
    MidpointRequest,
    NewtonReply,
    NewtonRequest,
    OpenRequest,
    OverlapRequest,
    PrepareRequest,
    PriorRequest,
    RedundancyReply,
    RedundancyRequest,
    ReleaseRequest,
    Reply,
    Request,
    ResidualsRequest,
    ScoresRequest,
    SharesRequest,
    SketchReply,
    SketchRequest,
    StabilityReply,
    StabilityRequest,
    SummaryRequest,
    SumRequest,
    TrainReply,
    TrainRequest,
    UnmaskRequest,
    Working,
)
from fedloupe.study import DpSgd, Study
from fedloupe_client.config import load_site
from fedloupe_client.dataset import Cohort, cohort_digest, derive, load_cohort
from fedloupe_client.gate import Gate, load_policy
from fedloupe_client.gate.rules import makes_own
from fedloupe_client.harmonising import Harmonised
from fedloupe_client.quality import chosen_rows, derive_versions, load_versions, redundancy, stability
from fedloupe_client.site import assessing, cohort_table, harmonising, releasing
from fedloupe_client.site.checkpoint import INTERVAL_S
from fedloupe_client.site.desk import Entered
from fedloupe_client.site.files import keep
from fedloupe_client.site.greeting import hello
from fedloupe_client.site.prepared import NotPrepared, Prepared
from fedloupe_client.site.progress import Progress
from fedloupe_client.site.scored import Scored
from fedloupe_client.site.training import Bench
from fedloupe_client.training import description, drawing, predicting, trees
from fedloupe_client.training.evaluation import evaluate
from fedloupe_client.training.private import planned_spend, train_round_privately
from fedloupe_client.training.statistics import describe, newton_terms, sketch

_log = logging.getLogger(__name__)
Description = SummaryRequest | BucketsRequest | CovarianceRequest
Sums = Description | DescribeRequest | StabilityRequest | RedundancyRequest | SketchRequest | NewtonRequest


class DataChanged(FedLoupeError):
    """The site's data changed while a run went on."""

    code = "FL-607"
    title = "the site's data changed since the run began"


class Broken(FedLoupeError):
    """Something unforeseen; the site's log has the details."""

    code = "FL-699"
    title = "unexpected failure at the site"


class Site:
    """A site process's state: its home, its gate, and the cohorts of the studies that it has opened.

    Args:
        home: the site's home folder.
        checkpoint_s: seconds between two states on disk while it trains; a killed process goes on from the last one.

    Attributes:
        progress: how far the running request is, for those who wait for it.
    """

    def __init__(self, home: Path, *, checkpoint_s: float = INTERVAL_S) -> None:
        self.home = home
        self._checkpoint_s = checkpoint_s
        self.name = load_site(home).site
        self.gate = Gate(home, self.name)
        self.progress = Progress()
        self._cohorts: dict[str, Cohort] = {}
        self._digests: dict[str, str] = {}
        self._prepared = Prepared(home)
        self._scored = Scored(home)
        self._harmonised: dict[str, Cohort] = {}

    def handle(self, blob: bytes) -> bytes:
        """Answer one sealed request; the same request gets the same bytes again, also after a restart."""
        entered = self.enter(blob)
        return entered if isinstance(entered, bytes) else entered.work()

    def enter(self, blob: bytes) -> Entered | bytes:
        """Look at a seal: what it holds and how to answer it, or the refusal."""
        try:
            opened = self.gate.unseal(blob)
        except FedLoupeError as error:
            _log.warning("refused: %s", error)
            return self.gate.refuse(error)
        return Entered(opened.inner, lambda: self.answer(opened.inner, opened.seal.coordinator))

    def tell(self, working: Working) -> bytes:
        """That it is at work, as it leaves."""
        return self.gate.tell(working)

    def again(self, blob: bytes, answer: bytes | None) -> None:
        """The same request came again meanwhile; recorded, with the failure that it hears."""
        self.gate.note_again(blob, answer)

    def answer(self, blob: bytes, coordinator: str = "") -> bytes:
        """Answer one request whose seal was good.

        Args:
            blob: the request, encoded.
            coordinator: public key of who signed it.
        """
        request: Request | None = None
        try:
            request, study = self.gate.admit(blob, coordinator)
            if isinstance(request, KeysRequest | SharesRequest | UnmaskRequest | OpenRequest):
                return self.gate.set_up(request, study)
            if isinstance(request, SumRequest):
                answer = self._work(self.gate.asked(request), study, coordinator, summed=True)
                return self.gate.mask(request, study, answer, coordinator)
            return self._work(request, study, coordinator)
        except FedLoupeError as error:
            _log.warning("refused: %s", error)
            return self.gate.refuse(error, request)
        except Exception as error:  # noqa: BLE001 - the outermost wall: the text stays here, a code leaves
            _log.exception("failed")
            wrapped = Broken(
                f"{type(error).__name__}: {error}", remedy="send the site's log to the FedLoupe maintainers"
            )
            return self.gate.refuse(wrapped, request)

    def _work(self, request: Request, study: Study, coordinator: str, *, summed: bool = False) -> bytes:
        """The answer, worked out or as it was stored; of a sum's term it stays here."""
        if not isinstance(request, ReleaseRequest):  # a model that was lost or replaced is written again
            self._check_same_data(request.run, study)
            there = study.evidence is None or self._scored.has(request, self.cohort(study))
            stored = self.gate.stored_answer(request, summed=summed, coordinator=coordinator) if there else None
            if stored is not None:
                self._forget(request)
                return stored
        reply, entry = self._answer(request, study)
        answer = self.gate.release(reply, request, summed=summed, entry=entry, coordinator=coordinator)
        self._forget(request)
        return answer

    def cohort(self, study: Study) -> Cohort:
        """The site's patients for this study; derived and loaded on first use."""
        if study.fingerprint not in self._cohorts:
            self.progress.begin("features")
            derive(self.home, study, progress=self._derived)
            self._cohorts[study.fingerprint] = load_cohort(self.home, study, self.name)
        return self._cohorts[study.fingerprint]

    def _derived(self, done: int, total: int, _case: str) -> None:
        self.progress(done, total)

    def _check_same_data(self, run: str, study: Study) -> None:
        """A run sees one state of the data from its first request to its last."""
        cohort = self.cohort(study)
        if study.fingerprint not in self._digests:
            self._digests[study.fingerprint] = cohort_digest(self.home, cohort)
        digest = self._digests[study.fingerprint]
        path = self.home / "runs" / run / "data.sha256"
        known = path.read_text() if path.exists() else ""  # empty: a crash of an earlier version left it
        if not known:
            keep(path, digest.encode())
        elif known != digest:
            raise DataChanged(
                "features, labels or splits differ from those at the run's first request",
                where=run,
                remedy="let the coordinator start a run under another name, or restore the earlier data",
            )

    def _answer(self, request: Request, study: Study) -> tuple[Reply, int | None]:  # noqa: PLR0912 - one a kind
        """The reply, and under DP the ledger's row that it is paid from."""
        cohort = self._seen(request, study)
        header: dict[str, Any] = {
            "version": request.version,
            "fingerprint": request.fingerprint,
            "run": request.run,
            "site": self.name,
        }
        if isinstance(request, CONTRIBUTING):
            self.gate.check_cohort(len(cohort.rows("train")))
        self.progress.begin(_stage(request))
        reply: Reply
        match request:
            case TrainRequest() if isinstance(study.privacy, DpSgd):
                return self._train_privately(header, request, study, study.privacy, cohort)
            case TrainRequest():
                reply = self._train(header, request, study, cohort)
            case HelloRequest():
                reply = self._hello(header, study, cohort)
            case CrossProductsRequest() | ResidualsRequest() | PriorRequest() | HarmoniseRequest():
                self._harmonised.pop(request.run, None)
                reply = harmonising.answer(header, request, study, cohort, self._harmonised_path(request.run))
            case CohortRequest():
                reply = cohort_table.answer(header, study, cohort, self.home)
            case PrepareRequest():
                reply = self._prepared.install(header, request)
            case GrowRequest():
                reply = self._grow(header, request, study, cohort)
            case EvaluateRequest() | OverlapRequest() | AssessRequest() | ScoresRequest():
                reply = self._judge(header, request, study, cohort)
            case MidpointRequest() | CalibrateRequest() | EmbedRequest() | ConformRequest():
                reply = predicting.answer(header, request, study, cohort, self._prepared.of(request.run))
            case ReleaseRequest():
                preparation, shifts = self._prepared.of(request.run), self._harmonised_path(request.run)
                reply = releasing.answer(header, request, study, cohort, preparation, self.home, shifts)
            case KeysRequest() | SharesRequest() | SumRequest() | UnmaskRequest() | OpenRequest():
                raise TypeError("the gate answers these")
            case _:
                reply = self._sums(header, request, study, cohort)
        return reply, None

    def _sums(self, header: dict[str, Any], request: Sums, study: Study, cohort: Cohort) -> Reply:
        """What is added up over the sites."""
        match request:
            case SummaryRequest() | BucketsRequest() | CovarianceRequest():
                return description.answer(header, request, study, cohort)
            case DescribeRequest():
                sums = describe(cohort)
                return DescribeReply(**header, count=sums.count, total=sums.total, square=sums.square)
            case StabilityRequest():
                return self._stability(header, request, study, cohort)
            case RedundancyRequest():
                rows = np.concatenate([request.earlier, request.block])
                pairs, product, total = redundancy(cohort, request.mean, request.scale, rows, request.block)
                patients = len(cohort.rows("train"))
                return RedundancyReply(**header, patients=patients, pairs=pairs, product=product, total=total)
            case SketchRequest():
                return SketchReply(**header, sketch=sketch(cohort, request.mean, request.scale, request.probe))
            case NewtonRequest():
                spread = study.training.random_intercept
                gradient, hessian = newton_terms(cohort, self._prepared.of(request.run), request.beta, spread)
                return NewtonReply(**header, gradient=gradient, hessian=hessian)

    def _hello(self, header: dict[str, Any], study: Study, cohort: Cohort) -> HelloReply:
        if isinstance(study.privacy, DpSgd) and study.role(self.name) == "train":
            self.gate.check_budget(header["run"], planned_spend(study, study.privacy), study.training.rounds)
        return hello(header, self.home, study, cohort, self._digests[header["fingerprint"]])

    def _stability(
        self, header: dict[str, Any], request: StabilityRequest, study: Study, cohort: Cohort
    ) -> StabilityReply:
        rows = chosen_rows(cohort, study)
        cases = [cohort.cases[row] for row in rows]
        self.progress.begin("perturbing")
        derive_versions(self.home, study, cases, progress=self._derived)
        sums = stability(load_versions(self.home, study, cases, cohort.features[rows]), request.mean, request.scale)
        patients = len(cohort.rows("train"))
        return StabilityReply(**header, patients=patients, count=sums.count, total=sums.total, product=sums.product)

    def _train(self, header: dict[str, Any], request: TrainRequest, study: Study, cohort: Cohort) -> TrainReply:
        preparation = None if study.segmentation is not None else self._prepared.of(request.run)
        return self._bench(request.run).train(header, request, study, cohort, preparation)

    def _bench(self, run: str) -> Bench:
        return Bench(self.home / "runs" / run, self._checkpoint_s, self.progress)

    def _forget(self, request: Request) -> None:
        """Once an answer is stored, where its training stood is no longer needed."""
        if isinstance(request, TrainRequest) or makes_own(request):
            self._bench(request.run).clear()

    def _judge(
        self,
        header: dict[str, Any],
        request: EvaluateRequest | OverlapRequest | AssessRequest | ScoresRequest,
        study: Study,
        cohort: Cohort,
    ) -> Reply:
        """Scores of the weights that came, or of the site's own model, which is made first and stays here."""
        if isinstance(request, AssessRequest | ScoresRequest):
            return assessing.answer(header, request, study, cohort, self.home)
        preparation, asked = None if isinstance(request, OverlapRequest) else self._prepared.of(request.run), request
        if makes_own(request):
            self.gate.check_cohort(len(cohort.rows("train")))
            bench = self._bench(request.run)
            if isinstance(request, EvaluateRequest) and request.personal and preparation is not None:
                own = bench.personal(header, request, study, cohort, preparation)
            else:
                own = bench.alone(header, request.weights, study, cohort, preparation)
            request = request.model_copy(update={"weights": own})
        if isinstance(request, OverlapRequest):
            return drawing.overlap(study, cohort, request, self.progress)
        assert preparation is not None, "only a drawing study has none"
        reply, scores = evaluate(study, cohort, preparation, request, load_policy(self.home).minimum_cell)
        if study.evidence is not None and isinstance(asked, EvaluateRequest):
            self._scored.keep(asked, scores)
        return reply

    def _grow(self, header: dict[str, Any], request: GrowRequest, study: Study, cohort: Cohort) -> GrowReply:
        cell = load_policy(self.home).minimum_cell
        preparation = self._prepared.of(request.run)
        grown, smallest = trees.grow(
            study, self.name, cohort, preparation, request.trees, number=request.round, cell=cell
        )
        self.gate.check_cell(smallest)
        return GrowReply(**header, round=request.round, trees=grown, patients=len(cohort.rows("train")))

    def _train_privately(
        self, header: dict[str, Any], request: TrainRequest, study: Study, privacy: DpSgd, cohort: Cohort
    ) -> tuple[TrainReply, int]:
        patients = len(cohort.rows("train"))
        preparation = self._prepared.of(request.run)
        spend = planned_spend(study, privacy)
        entry = self.gate.intend(request, spend)
        try:
            weights = train_round_privately(
                study,
                self.name,
                cohort,
                preparation,
                request.weights,
                number=request.round,
                privacy=privacy,
                spend=spend,
                tell=self.progress,
            )
        except Exception as error:
            self.gate.give_up(request, error)
            raise
        spent = self.gate.ledger.spent(load_policy(self.home).delta)
        reply = TrainReply(**header, round=request.round, weights=weights, patients=patients, loss=None, epsilon=spent)
        return reply, entry

    def _seen(self, request: Request, study: Study) -> Cohort:
        """The patients as this request sees them: features as measured, or harmonised."""
        measured = self.cohort(study)
        raw = (HelloRequest, CohortRequest, *DESCRIBING, *COMBAT, HarmoniseRequest, StabilityRequest, PrepareRequest)
        if study.harmonisation is None or isinstance(request, raw):
            return measured
        if isinstance(request, DescribeRequest) and not request.harmonised:
            return measured
        if isinstance(request, EvaluateRequest) and request.shift == "none":
            return measured
        if request.run not in self._harmonised:
            own = Harmonised.read(self._harmonised_path(request.run))
            if own is None:
                raise NotPrepared(
                    "no harmonisation for this run", where=request.run, remedy="the coordinator must send it"
                )
            self._harmonised = {request.run: own.apply(study, measured)}  # one run at a time: a copy of all features
        return self._harmonised[request.run]

    def _harmonised_path(self, run: str) -> Path:
        return self.home / "runs" / run / "harmonisation.safetensors"


def _stage(request: Request) -> str:
    """What an answer takes, in a word, for those who wait."""
    match request:
        case TrainRequest() | GrowRequest():
            return "training"
        case EvaluateRequest() | OverlapRequest():
            return "training" if makes_own(request) else "evaluating"
        case _:
            return "working"
