"""Which cases look unlike the site's others, and which are two times the same.

warnings = unusual(looks)                # {case: ("t2w slice spacing is 6 mm; the site's median is 3 mm", ...)}
twins = duplicates({case: digests})      # (("0123456789abcdef", "fedcba9876543210"), ...)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fedloupe_client.preflight.looks import CaseLook
from fedloupe_client.preflight.measures import SequenceLook
from fedloupe_client.preflight.outliers import standing_apart


@dataclass(frozen=True)
class Quantity:
    """Something measured in every case: its name, unit, scale, and the value by case."""

    name: str
    unit: str
    log: bool
    values: dict[str, float]

    def say(self, value: float) -> str:
        """With its unit."""
        return f"{value:.3g} {self.unit}".rstrip()


def quantities(looks: Iterable[CaseLook]) -> tuple[Quantity, ...]:
    """All that is compared between the cases that were measured."""
    found: dict[tuple[str, str, bool], dict[str, float]] = defaultdict(dict)
    for look in looks:
        for name, sequence in look.sequences.items():
            for what, unit, log, value in _of_sequence(sequence):
                found[f"{name} {what}", unit, log][look.case] = value
        if look.tumour is not None:
            found["tumour volume", "mL", True][look.case] = look.tumour.volume_ml
            for axis, value in zip("xyz", look.tumour.position, strict=True):
                found[f"tumour position along {axis}", "of the image", False][look.case] = value
    return tuple(Quantity(*key, values) for key, values in found.items())


def _of_sequence(look: SequenceLook) -> Iterator[tuple[str, str, bool, float]]:
    yield "pixel spacing", "mm", True, max(look.spacing_mm[:2])
    yield "slice spacing", "mm", True, look.spacing_mm[2]
    yield "field of view", "mm", True, max(look.fov_mm)
    yield "slices' range", "mm", True, look.fov_mm[2]
    yield "median intensity", "", True, look.percentiles[1]
    if look.snr is not None:
        yield "SNR", "", True, look.snr


def unusual(looks: tuple[CaseLook, ...]) -> dict[str, tuple[str, ...]]:
    """Sentences by case, without identifiers, for cases that have any."""
    found: dict[str, list[str]] = defaultdict(list)
    for quantity in quantities(looks):
        cases, values = list(quantity.values), list(quantity.values.values())
        apart = standing_apart(values, log=quantity.log)
        centre = float(np.median(values))
        for case, value, is_apart in zip(cases, values, apart, strict=True):
            if is_apart:
                found[case].append(
                    f"{quantity.name} is {quantity.say(value)}; the site's median is {quantity.say(centre)}"
                )
    for case, sentence in _otherwise(looks):
        found[case].append(sentence)
    return {case: tuple(found[case]) for case in sorted(found)}


def _otherwise(looks: tuple[CaseLook, ...]) -> Iterator[tuple[str, str]]:
    """What no rule of numbers tells: another orientation, pieces, a tumour cut off at the image's rim."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for look in looks:
        for name, sequence in look.sequences.items():
            counts[name][sequence.orientation] += 1
    for look in looks:
        for name, sequence in look.sequences.items():
            (usual, times), *_ = counts[name].most_common(1)
            if sequence.orientation != usual and times > counts[name].total() / 2:
                yield look.case, f"{name} axes point to {sequence.orientation}; most cases have {usual}"
        if look.tumour is not None and look.tumour.components > 1:
            yield look.case, f"the tumour mask has {look.tumour.components} separate pieces"
        if look.tumour is not None and look.tumour.at_edge:
            yield look.case, "the tumour mask touches the image's rim: it may be cut off"


def duplicates(digests: Mapping[str, Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    """Groups of cases that share a digest, each sorted."""
    holders: dict[str, set[str]] = defaultdict(set)
    for case, own in digests.items():
        for digest in own:
            holders[digest].add(case)
    return tuple(sorted({tuple(sorted(cases)) for cases in holders.values() if len(cases) > 1}))
