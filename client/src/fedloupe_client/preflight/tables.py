"""The site's data in a few lines: outcomes, clinical values, and what was measured over all cases.

summary = summarise(records, study, looks)
beside = beside_study(study, looks)           # sentences by case: what the study's grid and crop cannot hold
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from fedloupe.study import Study
from fedloupe_client.ingest import CaseRecord
from fedloupe_client.preflight.findings import BesideStudy, Finding, Frozen, ValuesMissing
from fedloupe_client.preflight.looks import CaseLook
from fedloupe_client.preflight.unusual import quantities

MISSING = 0.2
"""Share of unknown values of a clinical variable that deserves a warning."""
COARSE = 6.0
"""Slice spacing over the study's grid beyond which resampling invents most of what it returns."""


class Spread(Frozen):
    """A quantity over the cases: how many, median and median absolute deviation."""

    name: str
    unit: str
    cases: int
    median: float
    mad: float


class Variable(Frozen):
    """A clinical variable: ready cases, those without a value, and quartiles of the known ones."""

    name: str
    cases: int
    missing: int
    quartiles: tuple[float, float, float] | None


class Summary(Frozen):
    """A fingerprint of the site's data; it is shown at the site only.

    Attributes:
        events, labelled: outcomes among ready cases.
        sequences: ready cases that have each sequence of the study.
        orientations: ready cases by sequence and orientation.
        spreads: of what was measured.
        variables: of the clinical table.
    """

    events: int
    labelled: int
    sequences: dict[str, int]
    orientations: dict[str, dict[str, int]]
    spreads: tuple[Spread, ...]
    variables: tuple[Variable, ...]


def summarise(study: Study, looks: tuple[CaseLook, ...]) -> Summary:
    """Describe the ready cases."""
    ready = [look.record for look in looks if look.record.status == "ready"]
    orientations: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for look in looks:
        for name, sequence in look.sequences.items():
            orientations[name][sequence.orientation] += 1
    spreads = []
    for quantity in quantities(looks):
        values = np.array(list(quantity.values.values()))
        median = float(np.median(values))
        mad = float(np.median(np.abs(values - median)))
        spreads.append(Spread(name=quantity.name, unit=quantity.unit, cases=len(values), median=median, mad=mad))
    return Summary(
        events=sum(record.label == 1 for record in ready),
        labelled=sum(record.label is not None for record in ready),
        sequences={s.name: sum(s.name in record.sequences for record in ready) for s in study.sequences},
        orientations={name: dict(sorted(found.items())) for name, found in orientations.items()},
        spreads=tuple(spreads),
        variables=tuple(_variable(variable.name, ready) for variable in study.clinical),
    )


def _variable(name: str, ready: list[CaseRecord]) -> Variable:
    known = [value for record in ready if (value := record.clinical.get(name)) is not None]
    low, middle, high = (float(v) for v in np.percentile(known, (25, 50, 75))) if known else (0.0, 0.0, 0.0)
    return Variable(
        name=name,
        cases=len(ready),
        missing=len(ready) - len(known),
        quartiles=(low, middle, high) if known else None,
    )


def missing_values(summary: Summary) -> list[Finding]:
    """Clinical variables that are unknown in more than `MISSING` of the ready cases."""
    findings = []
    for variable in summary.variables:
        if variable.missing > MISSING * variable.cases:
            error = ValuesMissing(
                f"`{variable.name}` is unknown in {variable.missing} of {variable.cases} ready cases",
                remedy="the model counts it as missing; fill the column where your records know the value",
            )
            findings.append(Finding.of(error, "warning", commands=()))
    return findings


def beside_study(study: Study, looks: tuple[CaseLook, ...]) -> list[Finding]:
    """What the study's declared grid, crop and sequences do not hold of these data; warnings."""
    findings = []
    edge, grid = study.imaging.crop_mm, study.imaging.spacing_mm

    def warn(what: str, remedy: str, cases: list[str]) -> None:
        if cases:
            error = BesideStudy(what, remedy=remedy)
            findings.append(Finding.of(error, "warning", cases=tuple(cases), commands=()))

    if study.model.image and study.segmentation is None:
        warn(
            f"the tumour is longer than the study's crop of {edge:g} mm",
            "look at the mask; if it is right, the network sees the tumour's middle only: tell the coordinator",
            [look.case for look in looks if look.tumour is not None and max(look.tumour.extent_mm) > edge],
        )
    for sequence in study.sequences:
        seen = [(look.case, look.sequences[sequence.name]) for look in looks if sequence.name in look.sequences]
        warn(
            f"`{sequence.name}` has slices more than {COARSE:g} times as thick as the study's grid of {grid:g} mm",
            "look whether the intended series was taken; `source.series` in site.yaml chooses another",
            [case for case, one in seen if max(one.spacing_mm) > COARSE * grid],
        )
        lacking = [look.case for look in looks if look.sequences and sequence.name not in look.sequences]
        warn(
            f"`{sequence.name}` is absent; the study does without it, the model counts it as missing",
            "add it, if there is one",
            lacking,
        )
    return findings
