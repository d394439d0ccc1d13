"""The messages of harmonisation, in the order in which they are sent; part of `fedloupe.messages`.

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
