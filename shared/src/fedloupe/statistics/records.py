"""The messages of description and harmonisation, in the order in which they are sent; part of `fedloupe.messages`.

p features, q covariates. Integer arrays are exact sums in the ring of `fedloupe.statistics.ring`, six words an element.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from fedloupe.record import A, C, Message, P, Tensor, says


class _Scaled(Message):
    centre: Tensor = says(A, "(p) float64: pooled mean")
    scale: Tensor = says(A, "(p) float64: pooled standard deviation")


class _Sloped(_Scaled):
    beta: Tensor = says(A, "(p, q) float64: slopes of the covariates")


class _Levelled(_Sloped):
    level: Tensor = says(A, "(p) float64: grand mean, of scores")
    spread: Tensor = says(A, "(p) float64: residual standard deviation, of scores")


class CrossProductsRequest(_Scaled):
    """Ask for the sums that give the covariates' slopes: the first round of ComBat."""

    tensors: ClassVar[tuple[str, ...]] = ("centre", "scale")
    kind: Literal["crossproducts"] = "crossproducts"


class CrossProductsReply(Message):
    """The site's term, from values centred in each batch: it shows no mean."""

    tensors: ClassVar[tuple[str, ...]] = ("count", "cross", "moment")
    kind: Literal["crossproducts-reply"] = "crossproducts-reply"
    count: Tensor = says(A, "(p) int64: training patients with the feature")
    cross: Tensor = says(A, "(p, q, q, 6) int64: X'X of the q covariates, ring elements")
    moment: Tensor = says(A, "(p, q, 6) int64: X'y")


class ResidualsRequest(_Sloped):
    """Ask for the sums that give grand mean and pooled variance: the second round of ComBat."""

    tensors: ClassVar[tuple[str, ...]] = ("centre", "scale", "beta")
    kind: Literal["residuals"] = "residuals"


class ResidualsReply(Message):
    """The site's term; zeros from a site that is not the reference, where the study has one."""

    tensors: ClassVar[tuple[str, ...]] = ("count", "total", "square")
    kind: Literal["residuals-reply"] = "residuals-reply"
    count: Tensor = says(A, "(p) int64: training patients with the feature")
    total: Tensor = says(A, "(p, 6) int64: sum of y - x beta, ring elements")
    square: Tensor = says(A, "(p, 6) int64: sum of its squares about the batch's mean")


class PriorRequest(_Levelled):
    """Ask how far batches lie apart: what a batch that never trained is shrunk towards."""

    tensors: ClassVar[tuple[str, ...]] = ("centre", "scale", "beta", "level", "spread")
    kind: Literal["prior"] = "prior"


class PriorReply(Message):
    """The site's term: over its batches, sums of what their shifts and widths are like over all features."""

    tensors: ClassVar[tuple[str, ...]] = ("sums",)
    kind: Literal["prior-reply"] = "prior-reply"
    sums: Tensor = says(A, "(8, 6) int64: of shifts, then of widths: batches, means, their squares, variances")


class HarmoniseRequest(_Levelled):
    """Install the agreed part of ComBat; the site works out its own shifts, which stay there."""

    tensors: ClassVar[tuple[str, ...]] = ("centre", "scale", "beta", "level", "spread", "prior")
    kind: Literal["harmonise"] = "harmonise"
    scope: Literal["train", "unseen"] = says(P, "a site that was fitted, or one that takes no part in the run's fit")
    prior: Tensor = says(A, "(0), (2) or (4) float64: mean and variance of shifts, then of widths")


class HarmoniseReply(Message):
    """Installed."""

    kind: Literal["harmonise-reply"] = "harmonise-reply"
    harmoniser: str = says(P, "SHA-256 of what was installed")
    batches: int = says(C, "batches at the site", ge=0)
    small: int = says(C, "of them below the study's minimum: shifted only", ge=0)


class SummaryRequest(Message):
    """Ask for the sums that describe features and clinical values, and how they go with the outcome."""

    kind: Literal["summary"] = "summary"


class SummaryReply(Message):
    """Sums over training patients; m columns: the features, then the clinical variables."""

    tensors: ClassVar[tuple[str, ...]] = (
        *("count", "total", "square", "told_count", "told_total", "told_square", "event_count", "event_total"),
    )
    kind: Literal["summary-reply"] = "summary-reply"
    patients: int = says(C, "training patients", ge=0)
    events: int = says(C, "of them with the event", ge=0)
    count: Tensor = says(A, "(m) int64: patients with a value")
    total: Tensor = says(A, "(m, 6) int64: exact sum of values, ring elements")
    square: Tensor = says(A, "(m, 6) int64: exact sum of squares")
    told_count: Tensor = says(A, "(m) int64: `count` where the site tells of the outcome; 0 where a cell is too small")
    told_total: Tensor = says(A, "(m, 6) int64: `total`, likewise")
    told_square: Tensor = says(A, "(m, 6) int64: `square`, likewise")
    event_count: Tensor = says(A, "(m) int64: patients with value and event, where the site tells of the outcome")
    event_total: Tensor = says(A, "(m, 6) int64: exact sum of their values")


class BucketsRequest(Message):
    """Ask for counts in buckets about the pooled mean, from which quantiles follow."""

    tensors: ClassVar[tuple[str, ...]] = ("centre", "scale")
    kind: Literal["buckets"] = "buckets"
    centre: Tensor = says(A, "(m) float64: pooled mean")
    scale: Tensor = says(A, "(m) float64: pooled standard deviation")


class BucketsReply(Message):
    """Training patients by bucket."""

    tensors: ClassVar[tuple[str, ...]] = ("counts",)
    kind: Literal["buckets-reply"] = "buckets-reply"
    counts: Tensor = says(A, "(m, b) int64: patients by bucket; small buckets merged")


class CovarianceRequest(Message):
    """Ask for the sums of products of some columns."""

    tensors: ClassVar[tuple[str, ...]] = ("columns",)
    kind: Literal["covariance"] = "covariance"
    columns: Tensor = says(P, "(k) int64: places among the m columns, 64 at most")


class CovarianceReply(Message):
    """Sums over training patients in whom both of a pair are known."""

    tensors: ClassVar[tuple[str, ...]] = ("count", "total", "square", "product")
    kind: Literal["covariance-reply"] = "covariance-reply"
    count: Tensor = says(A, "(k, k) int64: patients with both")
    total: Tensor = says(A, "(k, k, 6) int64: sum of the first of the pair, ring elements")
    square: Tensor = says(A, "(k, k, 6) int64: sum of its squares")
    product: Tensor = says(A, "(k, k, 6) int64: sum of products")
