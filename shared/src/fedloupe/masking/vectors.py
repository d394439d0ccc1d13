"""What of an answer is added over sites, and as which integers.

    term, layout = term_of(reply, equal=False)                  # two vectors of integers and what they hold
    reply_of(add_terms(terms), layout, request, kind)           # the sum as an answer of the same kind

Two rings: integers modulo 2^384 for values of any size (`fedloupe.statistics.ring`), integers modulo 2^64 for counts
and for weights. Weights travel as n w, n the site's patients, with 32 fraction bits: their mean is off by 2^-33 times
sites over patients at most, below 1.2e-10. Sums of integers do not depend on order, so a sum has the same bits masked
or not, whoever adds first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.messages import (
    BucketsReply,
    CalibrateReply,
    ConformReply,
    CovarianceReply,
    CrossProductsReply,
    DescribeReply,
    EmbedReply,
    MidpointReply,
    NewtonReply,
    PriorReply,
    RedundancyReply,
    Reply,
    Request,
    ResidualsReply,
    ScoresReply,
    SketchReply,
    StabilityReply,
    SummaryReply,
    TrainReply,
    TrainRequest,
    encode,
)
from fedloupe.record import Message
from fedloupe.statistics import ring

Form = Literal["count", "exact", "real", "weights", "mean"]
"""count: int64; exact: ring elements as they are; real: float64 as ring elements; weights, mean: times patients."""
FRACTION = 32
"""Fraction bits of weights and means."""
MOST_SITES = 256
ALL = "all"
"""Stands for the site in a sum."""

SUMMED: dict[type[Message], dict[str, Form]] = {
    SummaryReply: {
        "patients": "count",
        "events": "count",
        "count": "count",
        "total": "exact",
        "square": "exact",
        "told_count": "count",
        "told_total": "exact",
        "told_square": "exact",
        "event_count": "count",
        "event_total": "exact",
    },
    BucketsReply: {"counts": "count"},
    CovarianceReply: {"count": "count", "total": "exact", "square": "exact", "product": "exact"},
    DescribeReply: {"count": "count", "total": "exact", "square": "exact"},
    CrossProductsReply: {"count": "count", "cross": "exact", "moment": "exact"},
    ResidualsReply: {"count": "count", "total": "exact", "square": "exact"},
    PriorReply: {"sums": "exact"},
    SketchReply: {"sketch": "real"},
    StabilityReply: {"patients": "count", "count": "real", "total": "real", "product": "real"},
    RedundancyReply: {"patients": "count", "pairs": "real", "product": "real", "total": "real"},
    NewtonReply: {"gradient": "real", "hessian": "real"},
    TrainReply: {"patients": "count", "weights": "weights", "loss": "mean"},
    MidpointReply: {"patients": "count", "positives": "count", "odds": "real"},
    CalibrateReply: {"patients": "count", "positives": "count", "gradient": "real", "hessian": "real"},
    EmbedReply: {"patients": "count", "count": "count", "total": "real", "product": "real"},
    ScoresReply: {
        "patients": "count",
        "positives": "count",
        "positives_by_score": "real",
        "negatives_by_score": "real",
    },
    ConformReply: {"patients": "count", "positives": "count", "misfits": "real", "distances": "real"},
}
"""Each answer that is only ever used as a sum, and how each field is added."""

Layout = dict[str, tuple[int, ...]]
R = TypeVar("R", bound=Message)


class NotSummable(FedLoupeError):
    """A value is too large for the integers of secure sums, which mostly means that training diverged."""

    code = "FL-553"
    title = "a value is too large for secure sums"


@dataclass(frozen=True)
class Term:
    """A site's term, or a sum of terms.

    Attributes:
        wide: (a, 6) int64, elements of the ring modulo 2^384.
        narrow: (b) int64, modulo 2^64.
    """

    wide: NDArray[np.int64]
    narrow: NDArray[np.int64]


def is_summed(request: Request) -> bool:
    """Whether the answer to this is only ever used as a sum; a site's own model is not."""
    if isinstance(request, TrainRequest):
        return request.scope == "federated"
    return f"{request.kind}-reply" in {str(kind.model_fields["kind"].default) for kind in SUMMED}


def sum_digest(request: Request) -> str:
    """SHA-256 of what an answer depends on: the same for every site, in every run, at whatever step it is asked."""
    blank = {"site": ALL, "run": ALL} | {
        name: 0 for name in ("step", "iteration") if name in type(request).model_fields
    }
    return hashlib.sha256(encode(request.model_copy(update=blank))).hexdigest()


def term_of(reply: Reply, *, equal: bool) -> tuple[Term, Layout]:
    """An answer as integers, and the shape of each field that it fills.

    Args:
        reply: one of `SUMMED`.
        equal: sites' weights count alike, whatever their patients.

    Raises:
        NotSummable: a value out of range.
    """
    wide, narrow, layout = [np.zeros((0, ring.WORDS), dtype=np.int64)], [np.zeros(0, dtype=np.int64)], {}
    for name, form in SUMMED[type(reply)].items():
        if (value := getattr(reply, name)) is None:
            continue
        array = np.asarray(value)
        layout[name] = tuple(array.shape)
        match form:
            case "count":
                narrow.append(array.astype(np.int64).ravel())
            case "exact":
                wide.append(array.astype(np.int64).reshape(-1, ring.WORDS))
            case "real":
                wide.append(_elements(array.ravel(), reply.kind))
            case "weights" | "mean":
                weight = 1 if equal and form == "weights" else vars(reply)["patients"]
                narrow.append(_fixed(array.astype(np.float64).ravel() * weight, reply.kind))
    return Term(np.concatenate(wide), np.concatenate(narrow)), layout


def real_sum(terms: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Arrays of one shape added as a sum over sites adds them: exactly, and rounded once."""
    total = ring.add(*(ring.encode(np.asarray(term).ravel()) for term in terms))
    return ring.decode(total).reshape(np.shape(terms[0]))


def weighted_mean(shares: Sequence[tuple[NDArray[Any], int]]) -> NDArray[np.float64]:
    """sum n w / sum n of (weights, patients), as a sum over sites gives it."""
    total = np.zeros(len(shares[0][0]), dtype=np.int64)
    for weights, patients in shares:
        total += _fixed(np.asarray(weights, dtype=np.float64) * patients, "weights")
    return np.asarray(total / 2.0**FRACTION / sum(patients for _, patients in shares), dtype=np.float64)


def check_term(term: Term, layout: Layout, kind: type[Message]) -> None:
    """That the integers fill the layout of an answer of this kind.

    Raises:
        ValueError: they do not.
    """
    wide = narrow = 0
    for name, shape in layout.items():
        form = SUMMED[kind].get(name)
        if form is None or any(size < 0 for size in shape):
            raise ValueError(f"a field `{name}` {shape}")
        size = int(np.prod(shape, dtype=object))
        wide += size // ring.WORDS if form == "exact" else size if form == "real" else 0
        narrow += size if form not in ("exact", "real") else 0
    shapes = (np.shape(term.wide), np.shape(term.narrow))
    whole = term.wide.dtype == np.int64 and term.narrow.dtype == np.int64
    if not whole or shapes != ((wide, ring.WORDS), (narrow,)):
        raise ValueError(f"integers {shapes} for {wide} and {narrow}")


class RunningSum:
    """A sum in both rings that takes one term after the other and keeps none of them."""

    def __init__(self) -> None:
        self._total: Term | None = None

    def add(self, term: Term) -> None:
        """Add a term.

        Raises:
            ValueError: it has other shapes than the first one.
        """
        if self._total is None:
            self._total = Term(term.wide, term.narrow.copy())
            return
        total = self._total
        if (term.wide.shape, term.narrow.shape) != (total.wide.shape, total.narrow.shape):
            raise ValueError("terms of different shapes")
        narrow = total.narrow.view(np.uint64)
        np.add(narrow, term.narrow.view(np.uint64), out=narrow)
        self._total = Term(ring.add(total.wide, term.wide), total.narrow)

    @property
    def total(self) -> Term:
        """The sum so far.

        Raises:
            ValueError: nothing was added.
        """
        if self._total is None:
            raise ValueError("no terms")
        return self._total


def add_terms(terms: Iterable[Term]) -> Term:
    """The sum in both rings.

    Raises:
        ValueError: terms of different shapes, or none.
    """
    running = RunningSum()
    for term in terms:
        running.add(term)
    return running.total


def negated(term: Term) -> Term:
    """What added to the term gives zero."""
    one = np.zeros_like(term.wide)
    one[:, :1] = 1
    return Term(ring.add(~term.wide, one), (-term.narrow.view(np.uint64).astype(np.uint64)).view(np.int64))


def reply_of(total: Term, layout: Layout, kind: type[R], request: Request, sites: int, *, equal: bool) -> R:
    """The sum over sites as an answer of the same kind, its site called `all`; weights and means are divided.

    Args:
        total: over these sites.
        layout: of each site's term, the same.
        kind: of the answers.
        request: one of those asked.
        sites: how many terms.
        equal: as in `term_of`.

    Raises:
        ValueError: the integers do not fill the layout.
    """
    wide, narrow, found = total.wide, total.narrow, dict[str, Any]()
    for name, form in SUMMED[kind].items():
        if name not in layout:
            found[name] = None
            continue
        shape, size = layout[name], int(np.prod(layout[name]))
        if form in ("exact", "real"):
            size = size // ring.WORDS if form == "exact" else size
            part, wide = wide[:size], wide[size:]
            found[name] = part.reshape(shape) if form == "exact" else ring.decode(part).reshape(shape)
        else:
            part, narrow = narrow[:size], narrow[size:]
            if form != "count":
                part = part / 2.0**FRACTION / (sites if equal and form == "weights" else found["patients"])
            found[name] = part.reshape(shape) if shape else part[0].item()
    if len(wide) or len(narrow):
        raise ValueError("more integers than the layout has room for")
    header = {name: getattr(request, name) for name in Message.model_fields} | {"site": ALL}
    asked = {n: getattr(request, n) for n in kind.model_fields if n not in found and n in type(request).model_fields}
    return kind(**{**asked, **header, "kind": kind.model_fields["kind"].default, **found})


def _elements(values: NDArray[Any], kind: str) -> NDArray[np.int64]:
    try:
        return ring.encode(values)
    except ValueError as error:
        raise NotSummable(
            f"`{kind}`: {error}", remedy="find the feature or clinical value that is no measurement, and leave it out"
        ) from None


def _fixed(values: NDArray[np.float64], kind: str) -> NDArray[np.int64]:
    limit = 2.0 ** (63 - FRACTION) / MOST_SITES
    if not (np.abs(values) < limit).all():
        raise NotSummable(
            f"`{kind}`: patients times a weight reach {limit:g} or are no number",
            remedy="lower the study's learning rate: its training diverged",
        )
    return np.rint(values * 2.0**FRACTION).astype(np.int64)
