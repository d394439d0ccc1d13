"""Everything that may cross a hospital's door: one frozen record a message, each field with its disclosure class.

    blob = encode(TrainRequest(..., weights=vector))
    request = decode(blob)                       # refuses what is not exactly one of these records

On the wire a message is one safetensors file: arrays as tensors, everything else as one JSON string in its header.
No pickle, no code, no field that is not declared here or in a room's `records`.
"""

# ruff: noqa: PLC0414 - names of `record`, `scoring` and `statistics.records` are this module's as well

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from fedloupe.assessing import AssessReply as AssessReply
from fedloupe.assessing import AssessRequest as AssessRequest
from fedloupe.assessing import CohortReply as CohortReply
from fedloupe.assessing import CohortRequest as CohortRequest
from fedloupe.assessing import ScoresReply as ScoresReply
from fedloupe.assessing import ScoresRequest as ScoresRequest
from fedloupe.errors import FedLoupeError
from fedloupe.masked import KeysReply as KeysReply
from fedloupe.masked import KeysRequest as KeysRequest
from fedloupe.masked import SharesReply as SharesReply
from fedloupe.masked import SharesRequest as SharesRequest
from fedloupe.masked import SumReply as SumReply
from fedloupe.masked import SumRequest as SumRequest
from fedloupe.masked import UnmaskReply as UnmaskReply
from fedloupe.masked import UnmaskRequest as UnmaskRequest
from fedloupe.record import A, C, M, P, Tensor, says
from fedloupe.record import Disclosure as Disclosure
from fedloupe.record import Message as Message
from fedloupe.scoring import TOO_FEW as TOO_FEW
from fedloupe.scoring import Architecture as Architecture
from fedloupe.scoring import CalibrateReply as CalibrateReply
from fedloupe.scoring import CalibrateRequest as CalibrateRequest
from fedloupe.scoring import ConformReply as ConformReply
from fedloupe.scoring import ConformRequest as ConformRequest
from fedloupe.scoring import EmbedReply as EmbedReply
from fedloupe.scoring import EmbedRequest as EmbedRequest
from fedloupe.scoring import EvaluateReply as EvaluateReply
from fedloupe.scoring import EvaluateRequest as EvaluateRequest
from fedloupe.scoring import MidpointReply as MidpointReply
from fedloupe.scoring import MidpointRequest as MidpointRequest
from fedloupe.scoring import OpenReply as OpenReply
from fedloupe.scoring import OpenRequest as OpenRequest
from fedloupe.scoring import OverlapReply as OverlapReply
from fedloupe.scoring import OverlapRequest as OverlapRequest
from fedloupe.scoring import ReleaseReply as ReleaseReply
from fedloupe.scoring import ReleaseRequest as ReleaseRequest
from fedloupe.sealed import SealedRequest as SealedRequest
from fedloupe.statistics.records import BucketsReply as BucketsReply
from fedloupe.statistics.records import BucketsRequest as BucketsRequest
from fedloupe.statistics.records import CovarianceReply as CovarianceReply
from fedloupe.statistics.records import CovarianceRequest as CovarianceRequest
from fedloupe.statistics.records import CrossProductsReply as CrossProductsReply
from fedloupe.statistics.records import CrossProductsRequest as CrossProductsRequest
from fedloupe.statistics.records import HarmoniseReply as HarmoniseReply
from fedloupe.statistics.records import HarmoniseRequest as HarmoniseRequest
from fedloupe.statistics.records import PriorReply as PriorReply
from fedloupe.statistics.records import PriorRequest as PriorRequest
from fedloupe.statistics.records import ResidualsReply as ResidualsReply
from fedloupe.statistics.records import ResidualsRequest as ResidualsRequest
from fedloupe.statistics.records import SummaryReply as SummaryReply
from fedloupe.statistics.records import SummaryRequest as SummaryRequest
from fedloupe.working import Working as Working

MAX_BYTES = 512 * 2**20
MAX_HEADER_BYTES = 8 * 2**20


class MessageRefused(FedLoupeError):
    """The bytes are not a message of this version."""

    code = "FL-601"
    title = "not a valid FedLoupe message"


class HelloRequest(Message):
    """Is the study approved, the version right, the data ready?"""

    kind: Literal["hello"] = "hello"


class HelloReply(Message):
    """The site is ready, with its cohort in numbers."""

    kind: Literal["hello-reply"] = "hello-reply"
    train: int = says(C, "patients that train", ge=0)
    tune: int = says(C, "patients that fix the threshold", ge=0)
    test: int = says(C, "patients that test (validate-only site: all)", ge=0)
    positives: int = says(C, "patients with the event, of all", ge=0)
    excluded: dict[str, int] = says(C, "cases left out, by error code")
    features: tuple[str, ...] = says(P, "names of the feature columns, in order")
    groups: tuple[str, ...] = says(P, "group of each feature column")
    drawn: int = says(C, "patients whose mask a model drew, of all", ge=0, default=0)
    drawn_by: str | None = says(P, "SHA-256 of that model", pattern=r"^[0-9a-f]{64}$", default=None)
    data_digest: str = says(P, "SHA-256 of the site's feature table and splits, keyed by a secret of the site")


class DescribeRequest(Message):
    """Ask for the sums that standardisation needs."""

    kind: Literal["describe"] = "describe"
    harmonised: bool = says(P, "of the features after harmonisation", default=False)


class DescribeReply(Message):
    """Sums over the site's training patients, a feature each."""

    tensors: ClassVar[tuple[str, ...]] = ("count", "total", "square")
    kind: Literal["describe-reply"] = "describe-reply"
    count: Tensor = says(A, "(p) int64: patients with the feature present")
    total: Tensor = says(A, "(p, 6) int64: exact sum of values, a ring element each (`fedloupe.statistics.ring`)")
    square: Tensor = says(A, "(p, 6) int64: exact sum of squares, likewise")


class SketchRequest(Message):
    """Ask for X'X Omega, a sketch of the covariance (Halko, Martinsson & Tropp 2011)."""

    tensors: ClassVar[tuple[str, ...]] = ("mean", "scale", "probe")
    kind: Literal["sketch"] = "sketch"
    mean: Tensor = says(A, "(p) float64: pooled mean")
    scale: Tensor = says(A, "(p) float64: pooled standard deviation")
    probe: Tensor = says(P, "(p, k) float32: Omega, the same for every site")
    iteration: int = says(P, "power iteration, from 0", ge=0, le=9)


class SketchReply(Message):
    """The site's term of the sum over sites."""

    tensors: ClassVar[tuple[str, ...]] = ("sketch",)
    kind: Literal["sketch-reply"] = "sketch-reply"
    sketch: Tensor = says(A, "(p, k) float64: X'X Omega over training patients, group by group")


class StabilityRequest(Message):
    """Ask for the sums from which it follows how well features repeat (`study.quality`)."""

    tensors: ClassVar[tuple[str, ...]] = ("mean", "scale")
    kind: Literal["stability"] = "stability"
    mean: Tensor = says(A, "(p) float64: pooled mean")
    scale: Tensor = says(A, "(p) float64: pooled standard deviation")


class StabilityReply(Message):
    """Sums over chosen training patients of each feature's versions, centred and scaled; k versions."""

    tensors: ClassVar[tuple[str, ...]] = ("count", "total", "product")
    kind: Literal["stability-reply"] = "stability-reply"
    patients: int = says(C, "training patients", ge=0)
    count: Tensor = says(A, "(p) float64: chosen patients with all versions of the feature")
    total: Tensor = says(A, "(p, k) float64: sum of each version")
    product: Tensor = says(A, "(p, k(k+1)/2) float64: sum of the product of each two versions")


class RedundancyRequest(Message):
    """Ask how a block of features correlates within itself and with those that are kept already."""

    tensors: ClassVar[tuple[str, ...]] = ("mean", "scale", "earlier", "block")
    kind: Literal["redundancy"] = "redundancy"
    mean: Tensor = says(A, "(p) float64: pooled mean")
    scale: Tensor = says(A, "(p) float64: pooled standard deviation")
    earlier: Tensor = says(P, "(a) int64: positions of features that are kept")
    block: Tensor = says(P, "(b) int64: positions of features in question")


class RedundancyReply(Message):
    """Sums over training patients of z-scores; rows are the kept features, then the block."""

    tensors: ClassVar[tuple[str, ...]] = ("pairs", "product", "total")
    kind: Literal["redundancy-reply"] = "redundancy-reply"
    patients: int = says(C, "training patients", ge=0)
    pairs: Tensor = says(A, "(a+b, b) float64: patients with both features present")
    product: Tensor = says(A, "(a+b, b) float64: summed products")
    total: Tensor = says(A, "(b) float64: summed z-scores of the block")


class PrepareRequest(Message):
    """Install the agreed scaling and projection; `origin` says where it was fitted."""

    tensors: ClassVar[tuple[str, ...]] = ("mean", "scale", "projection")
    kind: Literal["prepare"] = "prepare"
    mean: Tensor = says(A, "(p) float64")
    scale: Tensor = says(A, "(p) float64")
    projection: Tensor = says(A, "(p, k) float32: principal loadings, block by group")
    origin: Literal["federated", "public"] = says(P, "fitted on the training sites' sums, or on a public artefact")


class PrepareReply(Message):
    """Installed."""

    kind: Literal["prepare-reply"] = "prepare-reply"
    preparation: str = says(P, "SHA-256 of what was installed")


class NewtonRequest(Message):
    """One step of federated logistic regression, ridge or elastic net."""

    tensors: ClassVar[tuple[str, ...]] = ("beta",)
    kind: Literal["newton"] = "newton"
    step: int = says(P, "step, from 0", ge=0, le=99)
    beta: Tensor = says(M, "(1+q) float64: intercept first")


class NewtonReply(Message):
    """The site's gradient and Hessian of the log-likelihood."""

    tensors: ClassVar[tuple[str, ...]] = ("gradient", "hessian")
    kind: Literal["newton-reply"] = "newton-reply"
    gradient: Tensor = says(A, "(1+q) float64")
    hessian: Tensor = says(A, "(1+q, 1+q) float64")


class TrainRequest(Message):
    """Train from these weights; every hyperparameter is the approved study's."""

    tensors: ClassVar[tuple[str, ...]] = ("weights",)
    kind: Literal["train"] = "train"
    round: int = says(P, "round, from 1; 0 with scope `local`", ge=0)
    scope: Literal["federated", "local"] = says(P, "a round's share, or the site's own model with the whole budget")
    weights: Tensor = says(M, "(m) float32: all parameters, flat")


class TrainReply(Message):
    """The weights after local training."""

    tensors: ClassVar[tuple[str, ...]] = ("weights",)
    kind: Literal["train-reply"] = "train-reply"
    round: int = says(P, "as asked", ge=0)
    weights: Tensor = says(M, "(m) float32: all parameters, flat")
    patients: int = says(C, "training patients: the FedAvg weight", ge=1)
    loss: float | None = says(A, "mean training loss of the last epoch; never sent under DP")
    epsilon: float | None = says(P, "spent so far by this site, all runs together; None without DP", default=None)


class GrowRequest(Message):
    """Grow one boosted tree beyond these; every hyperparameter is the approved study's."""

    tensors: ClassVar[tuple[str, ...]] = ("trees",)
    kind: Literal["grow"] = "grow"
    round: int = says(P, "round of trees, from 1", ge=1)
    trees: Tensor = says(M, "(nodes, 5) float64: the federation's trees so far, see `fedloupe.models.trees`")


class GrowReply(Message):
    """The tree that the site grew."""

    tensors: ClassVar[tuple[str, ...]] = ("trees",)
    kind: Literal["grow-reply"] = "grow-reply"
    round: int = says(P, "as asked", ge=1)
    trees: Tensor = says(
        M,
        "(nodes, 5) float64: one tree; a threshold parts two groups of patients on the study's grid of a standardised "
        "feature, a leaf's log-odds describe at least the site's smallest cell",
    )
    patients: int = says(C, "training patients: the tree's weight", ge=1)


class Failure(Message):
    """The site refused or failed; the details stay in its log."""

    kind: Literal["failure"] = "failure"
    code: str = says(P, "error code, FL-nnn", pattern=r"^FL-\d{3}$")
    title: str = says(P, "the error in general words", max_length=120)


Request = (
    HelloRequest
    | SummaryRequest
    | BucketsRequest
    | CovarianceRequest
    | DescribeRequest
    | CrossProductsRequest
    | ResidualsRequest
    | PriorRequest
    | HarmoniseRequest
    | SketchRequest
    | StabilityRequest
    | RedundancyRequest
    | PrepareRequest
    | NewtonRequest
    | TrainRequest
    | GrowRequest
    | MidpointRequest
    | CalibrateRequest
    | EmbedRequest
    | ConformRequest
    | CohortRequest
    | OpenRequest
    | EvaluateRequest
    | ScoresRequest
    | AssessRequest
    | ReleaseRequest
    | OverlapRequest
    | KeysRequest
    | SharesRequest
    | SumRequest
    | UnmaskRequest
)
Reply = (
    HelloReply
    | SummaryReply
    | BucketsReply
    | CovarianceReply
    | DescribeReply
    | CrossProductsReply
    | ResidualsReply
    | PriorReply
    | HarmoniseReply
    | SketchReply
    | StabilityReply
    | RedundancyReply
    | PrepareReply
    | NewtonReply
    | TrainReply
    | GrowReply
    | MidpointReply
    | CalibrateReply
    | EmbedReply
    | ConformReply
    | CohortReply
    | OpenReply
    | EvaluateReply
    | ScoresReply
    | AssessReply
    | ReleaseReply
    | OverlapReply
    | KeysReply
    | SharesReply
    | SumReply
    | UnmaskReply
    | Working
    | Failure
)
KINDS: dict[str, type[Message]] = {
    str(kind.model_fields["kind"].default): kind for kind in (*Request.__args__, *Reply.__args__, SealedRequest)
}
_ANY: TypeAdapter[Any] = TypeAdapter(Annotated[Request | Reply | SealedRequest, Field(discriminator="kind")])


def encode(message: Request | Reply | SealedRequest) -> bytes:
    """A message as safetensors bytes, the same bytes for the same message."""
    tensors = {name: np.ascontiguousarray(getattr(message, name)) for name in message.tensors}
    header = message.model_dump(mode="json", exclude=set(message.tensors))
    return save_tensors(tensors, metadata={"fedloupe": json.dumps(header, sort_keys=True)})


def decode(blob: bytes) -> Request | Reply | SealedRequest:
    """Bytes as a message.

    Raises:
        MessageRefused: too large, not safetensors, an unknown kind or field, a missing, unexpected or non-finite array.
    """
    try:
        if len(blob) > MAX_BYTES:
            raise ValueError(f"{len(blob)} bytes, more than {MAX_BYTES}")
        length = int.from_bytes(blob[:8], "little")
        if length > MAX_HEADER_BYTES:  # before it is parsed: JSON takes twenty times its size in memory
            raise ValueError(f"a header of {length} bytes, more than {MAX_HEADER_BYTES}")
        header = json.loads(json.loads(blob[8 : 8 + length])["__metadata__"]["fedloupe"])
        tensors = load_tensors(blob)
        kind = KINDS[header["kind"]]
        if set(tensors) != set(kind.tensors):
            raise ValueError(f"arrays {sorted(tensors)}, expected {sorted(kind.tensors)}")
        for name, array in tensors.items():
            wanted = ("uint8",) if name in kind.octets else ("float32", "float64", "int64")
            if array.dtype.name not in wanted or not np.isfinite(array).all():
                raise ValueError(f"array `{name}` is not finite {' or '.join(wanted)}")
        message: Request | Reply | SealedRequest = _ANY.validate_python({**header, **tensors})
        return message
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError, ValidationError) as error:
        raise MessageRefused(
            f"the bytes are not a message: {type(error).__name__}: {str(error)[:300]}",
            remedy="run the same FedLoupe version everywhere",
        ) from None
