"""`results.json`: everything the report says, as one frozen record; no time stamps, so equal seeds give equal bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from fedloupe.messages import EvaluateReply
from fedloupe.study import Evidence, LinePrior
from fedloupe_server.evidence.assessed import Assessed, CohortTable, PooledScores
from fedloupe_server.statistics.quality import QualitySummary

if TYPE_CHECKING:
    from fedloupe.freezing import Seal  # brings the models along


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scores(_Frozen):
    """One model on one split of one site; fields as in `fedloupe.messages.EvaluateReply`."""

    label: str
    split: str
    patients: int
    positives: int
    auc: float
    auc_se: float
    auc_low: float
    auc_high: float
    brier: float
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    calibration: tuple[tuple[float, float, int], ...]
    reference_auc: float | None
    positives_by_score: tuple[float, ...]
    negatives_by_score: tuple[float, ...]
    slope: float | None = None
    slope_se: float | None = None
    in_the_large: float | None = None
    in_the_large_se: float | None = None
    ece: float | None = None
    covered: float | None = None
    covered_se: float | None = None
    single: float | None = None
    beyond: float | None = None

    @property
    def poolable(self) -> bool:
        """Whether the AUC has an error: with a single patient of an outcome none can be estimated."""
        return min(self.positives, self.patients - self.positives) > 1

    @classmethod
    def of(cls, reply: EvaluateReply) -> Scores:
        """The scores in a site's reply."""
        fields = {name: getattr(reply, name) for name in cls.model_fields}
        for name in ("positives_by_score", "negatives_by_score"):
            fields[name] = tuple(round(float(v), 6) for v in fields[name])
        return cls.model_validate(fields)


class Beside(_Frozen):
    """The same models at a site that was not fitted, under the rule for its shift that the study did not declare."""

    rule: Literal["estimate", "none"]
    federated: Scores
    logistic: Scores | None


class HarmonisedBy(_Frozen):
    """How scanners' shifts were taken out of the features; numbers of batches are of the training sites."""

    harmoniser: str  # SHA-256 of what the sites share
    empirical_bayes: bool
    mean_only: bool
    covariates: tuple[str, ...]
    batch: str | None  # column of the clinical table; None: the hospital
    reference: str | None
    unseen: Literal["estimate", "none"]
    batches: dict[str, int]
    small_batches: dict[str, int]  # of them below the study's minimum, shifted only


class Predicted(_Frozen):
    """What single predictions rest on; fitted on the training sites and frozen with the model."""

    calibration: Literal["platt", "temperature"]
    line: tuple[float, float]  # intercept and slope of the calibrated log-odds on the model's
    coverage: float  # that sets are to reach
    admitted: float
    beyond: float  # share of tuning patients outside the training range
    limit: float
    sites: tuple[str, ...]  # that had enough tuning patients
    tuned: int  # tuning patients of these
    trained: int  # training patients of all training sites
    raw_threshold: float  # on the model's probability: at it, models without calibration are judged
    digest: str  # SHA-256
    prior: LinePrior | None = None  # that kept the line near the identity


class SiteResult(_Frozen):
    """One hospital. `federated` is on its test split, or on all its patients where it only validates."""

    site: str
    role: Literal["train", "validate"]
    train: int
    tune: int
    test: int
    positives: int
    excluded: dict[str, int]
    drawn: int = 0  # patients whose mask a model drew, because the site had none
    drawn_by: str | None = None  # SHA-256 of that model
    data_digest: str
    federated: Scores
    logistic: Scores | None
    baselines: dict[str, Scores] = {}  # further ones by label: clinical, trees
    local: Scores | None  # training sites: the site's own model on its own test split
    local_elsewhere: tuple[Scores, ...]  # validate-only sites: every training site's own model (label local-<site>)
    epsilon: float | None
    beside: Beside | None = None  # validate-only sites of a study that harmonises
    personal: Scores | None = None  # training sites of a study that personalises
    uncalibrated: Scores | None = None  # federated model as it comes, in a study with `prediction`
    assessed: Assessed | None = None  # of the federated model, in a study with `evidence`
    cohort: CohortTable | None = None  # likewise; None under differential privacy


class RoundRecord(_Frozen):
    """One round: who took part, and what it gave."""

    round: int
    participants: tuple[str, ...]
    absent: tuple[str, ...]
    loss: float | None  # mean over the training patients of those who took part; None under DP
    epsilon: dict[str, float]  # record-level, by site, all runs of the site together
    weights: str  # SHA-256 of the round's model
    client_epsilon: float | None = None  # client-level, of this run so far, by the coordinator's account
    late: tuple[str, ...] = ()  # at work, and not waited for
    carried: tuple[str, ...] = ()  # whose answer to the round before was added
    seconds: dict[str, float] = {}  # until each answer; in the journal, not in `results.json`, which is the same again


class ClientAccount(_Frozen):
    """Client-level privacy of a run: the unit is a hospital, and the coordinator added the noise."""

    epsilon: float  # of this run's rounds together
    delta: float
    clip: float
    noise_multiplier: float
    hospitals: int  # the fixed denominator: training sites of the study


class Pooled(_Frozen):
    """Random-effects pooling of site AUCs on the logit scale (DerSimonian-Laird, Hartung-Knapp interval)."""

    sites: int
    patients: int
    auc: float
    low: float
    high: float
    prediction_low: float | None  # 95 % prediction interval for a new site; None below 3 sites
    prediction_high: float | None
    tau2: float
    i2: float


class LeftOut(_Frozen):
    """One fold of leave-one-site-out: everything refitted without the site, then all its patients scored."""

    site: str
    federated: Scores
    logistic: Scores | None
    baselines: dict[str, Scores] = {}
    beside: Beside | None = None
    uncalibrated: Scores | None = None
    assessed: Assessed | None = None


class Sealed(_Frozen):
    """What was fixed before a validate-only site was opened, `seal.json`; the same whoever signed it."""

    digest: str  # SHA-256
    run: str  # that was sealed
    fingerprint: str  # of its study
    contributed: tuple[str, ...]  # sites that gave anything to it

    @classmethod
    def of(cls, seal: Seal) -> Sealed:
        """What results say of a seal."""
        return cls(digest=seal.digest, run=seal.run, fingerprint=seal.fingerprint, contributed=seal.contributed)


class Results(_Frozen):
    """One run."""

    run: str
    version: str
    code: str | None = None  # SHA-256 of the packages that the coordinator ran
    libraries: dict[str, str] = {}  # versions that the coordinator ran with
    study: str
    title: str
    synthetic: bool
    fingerprint: str
    endpoint: str
    seed: int
    strategy: str  # in words
    aggregation: Literal["secure", "plain"] = "plain"  # whether the coordinator saw sums alone
    local_models: Literal["home", "everywhere"] = "home"  # whether sites' own models left them
    privacy: str  # "none", or e.g. "dp-sgd, epsilon 8, delta 1e-05, clip 1" (`client-dp` likewise)
    preparation: str  # SHA-256
    preparation_origin: Literal["federated", "public"]
    features: int
    parameters: int
    threshold: float
    threshold_sites: tuple[str, ...] = ()  # training sites whose tuning patients fixed the threshold
    frozen: str  # SHA-256 over weights, preparation, threshold; made before a validate-only site was opened
    sites: tuple[SiteResult, ...]
    rounds: tuple[RoundRecord, ...]
    pooled: Pooled | None  # federated model, test splits of the training sites
    pooled_local: Pooled | None  # each site's own model on its own test split
    left_out: tuple[LeftOut, ...]
    quality: QualitySummary | None = None  # a study with `quality`: which features entered the model
    harmonised: HarmonisedBy | None = None
    personalised: Literal["fine-tune", "local-norm"] | None = None
    predicted: Predicted | None = None
    planned_epsilon: float | None = None  # that the study allows each site over all rounds; None without DP
    client_level: ClientAccount | None = None  # a study under `client-dp`; its sites have no epsilon of their own
    evidence: Evidence | None = None  # the study's section: what was declared before validation
    pooled_scores: PooledScores | None = None  # federated model, test patients of the training sites added up
    sealed: Sealed | None = None
