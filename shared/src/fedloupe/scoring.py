"""The messages that score a model, calibrate it and hand it over; part of `fedloupe.messages`.

    midpoint                        # sums that training sites give: of log-odds, for the threshold
    calibrate, embed, conform       # likewise: line, training range, prediction sets
    open                            # validate-only sites, before anything else: the seal of what is frozen
    evaluate                        # any site: discrimination, calibration, coverage
    overlap                         # a drawing study's sites: Dice of drawn and own masks
    release                         # every site of a study with `prediction`: what it keeps of the frozen model

d numbers describe a patient where the training range is judged (`fedloupe.models.range_vector`).
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fedloupe.metrics.conformal import DISTANCES, MISFITS
from fedloupe.record import A, C, M, Message, P, Tensor, says

Architecture = Literal["transformer", "logistic", "trees"]
"""How weights are read: `transformer` stands for the study's own model, whatever `model.architecture` is."""
TOO_FEW = ("FL-512", "FL-603")
"""Codes by which a site says that a split has too few patients of an outcome to be described."""


LONGEST_SEAL = 2**18
"""Characters of a seal's JSON."""


Share = Annotated[float, Field(ge=0, le=1)]


def _check_line(line: Tensor) -> None:
    if np.shape(line) != (2,):
        raise ValueError(f"`line` has the shape {np.shape(line)}, it is an intercept and a slope")


def _check_range(centre: Tensor, precision: Tensor) -> None:
    size = np.size(centre)
    if np.shape(centre) != (size,) or np.shape(precision) != (size, size):
        raise ValueError(f"`precision` {np.shape(precision)} for a `centre` of {np.shape(centre)}")


def _none() -> NDArray[np.float64]:
    return np.zeros(0)


def _nothing() -> NDArray[np.float64]:
    return np.zeros((0, 0))


class MidpointRequest(Message):
    """Ask how the model's log-odds of tuning patients lie, from which the threshold follows (`youden_threshold`)."""

    tensors: ClassVar[tuple[str, ...]] = ("weights",)
    kind: Literal["midpoint"] = "midpoint"
    weights: Tensor = says(M, "(m) float32: all parameters, flat")


class MidpointReply(Message):
    """The site's sums over its tuning patients."""

    tensors: ClassVar[tuple[str, ...]] = ("odds",)
    kind: Literal["midpoint-reply"] = "midpoint-reply"
    patients: int = says(C, "tuning patients", ge=0)
    positives: int = says(C, "of them with the event", ge=0)
    odds: Tensor = says(A, "(2) float64: summed log-odds of patients without, and with the event")


class CalibrateRequest(Message):
    """One Newton step of the line logit(p) = a + b x, x the model's log-odds of tuning patients."""

    tensors: ClassVar[tuple[str, ...]] = ("weights", "line")
    kind: Literal["calibrate"] = "calibrate"
    step: int = says(P, "step, from 0", ge=0, le=99)
    targets: tuple[Share, Share] = says(A, "what stands for no event and for event (Platt 1999)")
    line: Tensor = says(A, "(2) float64: a and b")
    weights: Tensor = says(M, "(m) float32: all parameters, flat")

    @model_validator(mode="after")
    def _a_line(self) -> Self:
        _check_line(self.line)
        return self


class CalibrateReply(Message):
    """The site's gradient and Hessian of the log-likelihood of its tuning patients."""

    tensors: ClassVar[tuple[str, ...]] = ("gradient", "hessian")
    kind: Literal["calibrate-reply"] = "calibrate-reply"
    patients: int = says(C, "tuning patients", ge=0)
    positives: int = says(C, "of them with the event", ge=0)
    gradient: Tensor = says(A, "(2) float64")
    hessian: Tensor = says(A, "(2, 2) float64: negative")


class EmbedRequest(Message):
    """Ask how the training patients lie in the space in which the training range is judged."""

    tensors: ClassVar[tuple[str, ...]] = ("weights",)
    kind: Literal["embed"] = "embed"
    size: int = says(P, "d", ge=1, le=100_000)
    weights: Tensor = says(M, "(m) float32: all parameters, flat")


class EmbedReply(Message):
    """Sums over the site's training patients."""

    tensors: ClassVar[tuple[str, ...]] = ("count", "total", "product")
    kind: Literal["embed-reply"] = "embed-reply"
    patients: int = says(C, "training patients", ge=0)
    count: Tensor = says(A, "(d, d) int64: patients in whom neither of two numbers is zero; too few count as none")
    total: Tensor = says(A, "(d) float64: sum")
    product: Tensor = says(A, "(d, d) float64: sums of products")


class ConformRequest(Message):
    """Ask how wrong the calibrated model is on tuning patients, and how far from the training patients they lie."""

    tensors: ClassVar[tuple[str, ...]] = ("weights", "centre", "precision")
    kind: Literal["conform"] = "conform"
    line: tuple[float, float] = says(A, "intercept and slope of the log-odds")
    weights: Tensor = says(M, "(m) float32: all parameters, flat")
    centre: Tensor = says(A, "(d) float64: mean of the training patients' vectors")
    precision: Tensor = says(A, "(d, d) float64: inverse of their covariance")

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        _check_range(self.centre, self.precision)
        return self


class ConformReply(Message):
    """Tuning patients in bins (`fedloupe.metrics.conformal`)."""

    tensors: ClassVar[tuple[str, ...]] = ("misfits", "distances")
    kind: Literal["conform-reply"] = "conform-reply"
    patients: int = says(C, "tuning patients", ge=0)
    positives: int = says(C, "of them with the event", ge=0)
    misfits: Tensor = says(A, "(50) float64: patients by 1 - p(what happened); small bins merged, spread evenly")
    distances: Tensor = says(A, "(200) float64: patients by distance from the training patients; likewise")


class OpenRequest(Message):
    """Before a validate-only site is asked anything of a run: what was frozen, and who gave something to it."""

    kind: Literal["open"] = "open"
    seal: str = says(P, "the seal, canonical JSON (`fedloupe.freezing`)", max_length=LONGEST_SEAL)


class OpenReply(Message):
    """The site took no part, keeps the seal, and scores nothing else in this run."""

    kind: Literal["open-reply"] = "open-reply"
    seal: str = says(P, "SHA-256 of what is sealed", pattern=r"^[0-9a-f]{64}$")


class EvaluateRequest(Message):
    """Score a split with these weights and send statistics of the scores."""

    tensors: ClassVar[tuple[str, ...]] = ("weights", "centre", "precision")
    kind: Literal["evaluate"] = "evaluate"
    label: str = says(P, "which model: federated, local-<site>, or a baseline", pattern=r"^[a-z][a-z0-9_-]{0,59}$")
    architecture: Architecture = says(P, "how to read the weights")
    split: Literal["test", "all"] = says(P, "all: validate-only sites, and a site left out of a fold")
    threshold: float = says(P, "fixed before", ge=0, le=1)
    shift: Literal["own", "none"] = says(P, "with the site's own shift taken out, or as measured", default="own")
    personal: bool = says(P, "with this site's own model made from these weights", default=False)
    alone: bool = says(P, "with the site's own model, trained from these weights on its patients alone", default=False)
    weights: Tensor = says(M, "flat parameters; of trees, their table of nodes")
    line: tuple[float, float] | None = says(
        A, "intercept and slope of the log-odds; None: probabilities as the model gives them", default=None
    )
    admitted: float | None = says(
        A, "largest 1 - p with which a set holds an outcome; None: no sets", ge=0, le=1, default=None
    )
    limit: float | None = says(A, "distance beyond which a case lies outside the training range", ge=0, default=None)
    centre: Tensor = says(A, "(d) float64: mean of the training patients' vectors; else (0)", default_factory=_none)
    precision: Tensor = says(A, "(d, d) float64: inverse of their covariance; else (0, 0)", default_factory=_nothing)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Sets need calibrated probabilities and the training range; a site has one own model at a time."""
        if self.personal and self.alone:
            raise ValueError("`personal` and `alone` are two models")
        _check_range(self.centre, self.precision)
        if (self.admitted is None) != (self.limit is None) or (self.admitted is not None and self.line is None):
            raise ValueError("`admitted` and `limit` go together, and with `line`")
        return self

    @property
    def rests_on(self) -> str:
        """SHA-256 of what the scores depend on beside the patients: weights, line, shift, and whose model it is."""
        state = hashlib.sha256()
        shaping = (self.architecture, self.split, self.shift, self.personal, self.alone, self.line)
        state.update(json.dumps(shaping).encode())
        weights = np.ascontiguousarray(self.weights)
        state.update(f"{weights.dtype.str}{weights.shape}".encode())
        state.update(weights.tobytes())
        return state.hexdigest()


class EvaluateReply(Message):
    """Discrimination and calibration on one split of one site."""

    tensors: ClassVar[tuple[str, ...]] = ("positives_by_score", "negatives_by_score")
    kind: Literal["evaluate-reply"] = "evaluate-reply"
    label: str = says(P, "as asked")
    split: str = says(P, "as asked")
    patients: int = says(C, "patients scored", ge=1)
    positives: int = says(C, "of them with the event", ge=0)
    auc: float = says(A, "area under the ROC curve", ge=0, le=1)
    auc_se: float = says(A, "DeLong standard error", ge=0)
    auc_low: float = says(A, "95 % interval, DeLong on the logit scale", ge=0, le=1)
    auc_high: float = says(A, "95 % interval, DeLong on the logit scale", ge=0, le=1)
    brier: float = says(A, "mean squared error of the probability", ge=0, le=1)
    accuracy: float = says(A, "at the threshold", ge=0, le=1)
    sensitivity: float = says(A, "at the threshold", ge=0, le=1)
    specificity: float = says(A, "at the threshold", ge=0, le=1)
    calibration: tuple[tuple[float, float, int], ...] = says(
        A, "risk groups: mean predicted, observed rate, patients; groups below the site's cell size are merged"
    )
    reference_auc: float | None = says(
        A, "AUC of the generator's true probability on the same patients; synthetic only"
    )
    positives_by_score: Tensor = says(
        A, "(20) float64: patients with the event by score bin; small bins merged, spread evenly"
    )
    negatives_by_score: Tensor = says(A, "(20) float64: patients without the event by score bin; likewise")
    slope: float | None = says(A, "calibration slope; None where the outcomes part the scores", default=None)
    slope_se: float | None = says(A, "its standard error", ge=0, default=None)
    in_the_large: float | None = says(A, "calibration in the large: intercept at slope 1", default=None)
    in_the_large_se: float | None = says(A, "its standard error", ge=0, default=None)
    ece: float | None = says(A, "expected calibration error over equal groups", ge=0, le=1, default=None)
    covered: float | None = says(A, "share of patients whose set holds the truth", ge=0, le=1, default=None)
    covered_se: float | None = says(A, "its standard error", ge=0, default=None)
    single: float | None = says(A, "share of patients whose set holds one outcome", ge=0, le=1, default=None)
    beyond: float | None = says(A, "share of patients outside the training range", ge=0, le=1, default=None)


class OverlapRequest(Message):
    """Draw the tumours of a split with these weights and compare them with the site's own masks."""

    tensors: ClassVar[tuple[str, ...]] = ("weights",)
    kind: Literal["overlap"] = "overlap"
    label: str = says(P, "which model: federated, local-<site>", pattern=r"^[a-z][a-z0-9_-]{0,59}$")
    split: Literal["test", "all"] = says(P, "all: validate-only sites")
    alone: bool = says(P, "with the site's own model, trained from these weights on its patients alone", default=False)
    weights: Tensor = says(M, "(m) float32: all parameters of the U-Net, flat")


class OverlapReply(Message):
    """Dice of drawn and own masks on one split of one site."""

    tensors: ClassVar[tuple[str, ...]] = ("by_dice",)
    kind: Literal["overlap-reply"] = "overlap-reply"
    label: str = says(P, "as asked")
    split: str = says(P, "as asked")
    patients: int = says(C, "patients drawn", ge=1)
    mean: float = says(A, "mean Dice", ge=0, le=1)
    sd: float = says(A, "standard deviation of the Dice", ge=0, le=1)
    by_dice: Tensor = says(A, "(10) float64: patients by Dice in tenths; small bins merged, spread evenly")


class ReleaseRequest(Message):
    """Keep the frozen model; see `fedloupe.release`. What the site's preparation holds is not sent again."""

    tensors: ClassVar[tuple[str, ...]] = ("weights", "line", "centre", "precision")
    kind: Literal["release"] = "release"
    weights: Tensor = says(M, "(m) float32: all parameters, flat")
    line: Tensor = says(A, "(2) float64: intercept and slope of the log-odds")
    threshold: float = says(A, "on the calibrated probability", ge=0, le=1)
    admitted: float = says(A, "largest 1 - p with which a set holds an outcome", ge=0, le=1)
    centre: Tensor = says(A, "(d) float64: mean of the training patients' vectors")
    precision: Tensor = says(A, "(d, d) float64: inverse of their covariance")
    limit: float = says(A, "distance beyond which a case lies outside the training range", ge=0)
    patients: int = says(C, "training patients of all sites", ge=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _check_line(self.line)
        _check_range(self.centre, self.precision)
        return self


class ReleaseReply(Message):
    """Kept."""

    kind: Literal["release-reply"] = "release-reply"
    release: str = says(P, "SHA-256 of the file", pattern=r"^[0-9a-f]{64}$")


def shapes_of(reply: Message, request: Message) -> dict[str, tuple[int, ...]]:
    """The shape that each array of an answer must have; the gate asks before it leaves, the coordinator after."""
    match reply, request:
        case MidpointReply(), _:
            return {"odds": (2,)}
        case CalibrateReply(), _:
            return {"gradient": (2,), "hessian": (2, 2)}
        case EmbedReply(), EmbedRequest(size=d):
            return {"count": (d, d), "total": (d,), "product": (d, d)}
        case ConformReply(), _:
            return {"misfits": (MISFITS,), "distances": (DISTANCES,)}
        case EvaluateReply(), _:
            return dict.fromkeys(reply.tensors, (20,))
        case _:
            return {}
