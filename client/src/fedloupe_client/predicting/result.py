"""What is said of one patient: numbers and words, no local name; what `--json` prints.

result.headline, result.probability, result.range.inside
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Verdict = Literal["event", "no event", "undecided", "neither", "outside"]
Used = Literal["train", "tune", "test", "new"]
NOTICE = "Research use only, not a medical device."


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RangePart(_Frozen):
    """See `abstaining.PartRange`."""

    kind: Literal["embedding", "radiomics", "clinical"]
    name: str
    distance: float | None
    clipped: float | None
    value: float | None
    usual: tuple[float, float] | None


class RangeResult(_Frozen):
    """See `abstaining.Range`."""

    inside: bool
    distance: float
    limit: float
    clipped: float
    reasons: tuple[str, ...]
    parts: tuple[RangePart, ...]


class PartResult(_Frozen):
    """See `attribution.Part`; changes and linear parts in log-odds of the model's own, uncalibrated logit."""

    kind: Literal["radiomics", "clinical", "image"]
    name: str
    present: bool
    change: float | None
    linear: float | None
    without: str


class NeighbourResult(_Frozen):
    """See `neighbours.Neighbour`."""

    case: str
    label: int
    split: str
    distance: float
    probability: float


class MapResult(_Frozen):
    """A map and its two checks.

    Attributes:
        kind: how it was made.
        cube_mm: edge of the occluding cube; None for Grad-CAM.
        largest, smallest: of the map, in log-odds (occlusion) or its own unit (Grad-CAM).
        peak: voxel z, y, x of the largest absolute value.
        in_tumour: share of the summed absolute map that lies within the tumour's mask.
        tumour_share: share of the crop that the tumour takes: a map that ignores it has the same share.
        correlations: rank correlation with the maps of random weights; None where a map is flat.
        changed: they are low enough.
        deletion_share, deletion_ordered, deletion_random: the deletion curves.
        deletion_area: between them, log-odds.
        deletion_sooner: share of the random orders that the map's order beats.
        deletion_moved: how far blanking moves the number at most, log-odds; `matters` where that is enough.
        deletion_passed: it beats all of them, and the images matter.
        passed: both checks.
    """

    kind: Literal["occlusion", "grad-cam"]
    cube_mm: float | None
    largest: float
    smallest: float
    peak: tuple[int, int, int]
    in_tumour: float
    tumour_share: float
    correlations: tuple[float | None, ...]
    changed: bool
    deletion_share: tuple[float, ...]
    deletion_ordered: tuple[float, ...]
    deletion_random: tuple[float, ...]
    deletion_area: float
    deletion_sooner: float
    deletion_moved: float
    matters: bool
    deletion_passed: bool
    passed: bool


class Result(_Frozen):
    """One patient under one released model.

    Attributes:
        case: pseudonym.
        site, study, fingerprint, run, model_digest, version, trained_on, synthetic: where it comes from.
        verdict: `outside` means that no prediction is made; the numbers are then for whoever looks into it.
        headline: the verdict in words.
        endpoint: its name.
        logit: the model's own; `probability` calibrated; `threshold` frozen.
        coverage: of the prediction set; `allowed` are the outcomes that it holds, in words.
        used_for: what the case was to the model; `certain` whether the site's data are those of the run (None: the
            site keeps nothing of it).
        outcome: on record, None where it is not known.
        intercept: of the linear path; `linear` the whole path with it.
        neighbours: the nearest of this site; `responded` how many of them had the event.
        maps: none where the model reads no image.
    """

    notice: str = NOTICE
    case: str
    site: str
    study: str
    fingerprint: str
    run: str
    model_digest: str
    version: str
    trained_on: int
    synthetic: bool
    verdict: Verdict
    headline: str
    endpoint: str
    logit: float
    probability: float
    threshold: float
    coverage: float
    allowed: tuple[str, ...]
    used_for: Used
    certain: bool | None
    outcome: int | None
    range: RangeResult
    intercept: float
    linear: float
    attribution: tuple[PartResult, ...]
    neighbours: tuple[NeighbourResult, ...]
    responded: int
    maps: tuple[MapResult, ...]
