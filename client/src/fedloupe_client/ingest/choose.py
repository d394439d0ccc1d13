"""Which DICOM series is which sequence: the site's regular expression, else the series' own name, else its tags.

    chosen = choose(sequence, series, pattern=config.source.series.get("t2w"))
    chosen.grid, chosen.note                      # the note says when a repeat was settled

Tags (used only where the site gives no pattern): CT by modality; ADC by Image Type or description; a name that begins
with `t2` or `t1` by spin or gradient echo and echo time (at least 60 ms, at most 30 ms). Of several that fit by tags,
transverse ones are preferred. Two that lie on one grid are a repeat: the later acquisition is taken, and the record
says so. Anything else is ambiguous.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from fedloupe.study import Sequence
from fedloupe_client.ingest.dicom import Grid, Slice, series_grid
from fedloupe_client.ingest.problems import SequenceAmbiguous, SeriesRefused


class Reference(IntEnum):
    """How a structure set or segmentation refers to a series; larger is nearer."""

    NOT = 0
    FRAME = 1  # drawn in the same frame of reference: on a repeat, or on another series
    SERIES = 2


@dataclass(frozen=True)
class Chosen:
    """The series of one sequence."""

    uid: str
    frame_of_reference: str
    grid: Grid
    note: str = ""


def by_series(slices: list[Slice]) -> dict[str, list[Slice]]:
    """Slices by Series Instance UID; a file that was copied twice (one SOP Instance UID) counts once."""
    seen: set[tuple[str, int | None]] = set()
    found: dict[str, list[Slice]] = {}
    for item in sorted(slices, key=lambda s: (s.series, str(s.path), s.frame or 0)):
        if (item.instance, item.frame) not in seen:
            seen.add((item.instance, item.frame))
            found.setdefault(item.series, []).append(item)
    return found


def choose(sequence: Sequence, series: dict[str, list[Slice]], pattern: str | None) -> Chosen | None:
    """The series of a sequence, or None where no series fits.

    Raises:
        SequenceAmbiguous: several series fit, and they are not repeats of one another.
        SeriesRefused: the one that fits is no volume (see `series_grid`).
    """
    usable = [s for s in series.values() if s[0].modality == sequence.modality]
    if pattern is not None:
        fitting = [s for s in usable if re.search(pattern, s[0].description)]
    else:
        fitting = [s for s in usable if _plain(s[0].description) == _plain(sequence.name)]
        if not fitting:
            fitting = [s for s in usable if _by_tags(sequence, s[0])]
            fitting = [s for s in fitting if _transverse(s[0])] or fitting
    if not fitting:
        return None
    if len(fitting) == 1:
        return _chosen(fitting[0])
    return _latest_repeat(sequence, fitting)


def _chosen(slices: list[Slice], note: str = "") -> Chosen:
    return Chosen(slices[0].series, slices[0].frame_of_reference, series_grid(slices), note)


def _latest_repeat(sequence: Sequence, fitting: list[list[Slice]]) -> Chosen:
    where = "; ".join(f"{s[0].path.parent} `{s[0].description}` at {s[0].time or 'unknown time'}" for s in fitting)
    ambiguous = SequenceAmbiguous(
        f"{len(fitting)} series fit `{sequence.name}`",
        where=where,
        remedy=f"give a regular expression under `series.{sequence.name}` in site.yaml, or remove the ones not meant",
    )
    try:
        options = [_chosen(slices) for slices in fitting]
    except SeriesRefused:
        raise ambiguous from None
    # an empty or equal time does not say which is later
    times = [min(s.time for s in slices) for slices in fitting]
    same = all(options[0].grid.close_to(option.grid) for option in options[1:])
    if not same or "" in times or len(set(times)) < len(times):
        raise ambiguous
    latest = options[times.index(max(times))]
    note = f"`{sequence.name}` was acquired {len(fitting)} times on one grid: the latest acquisition was taken"
    return Chosen(latest.uid, latest.frame_of_reference, latest.grid, note)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _transverse(slice_: Slice) -> bool:
    if len(slice_.orientation) != 6:
        return False
    a, b, _, d, e, _ = slice_.orientation
    return abs(a * e - b * d) > 0.7  # the normal's component along the body


def _by_tags(sequence: Sequence, slice_: Slice) -> bool:
    if "LOCALIZER" in slice_.image_type:
        return False
    if sequence.modality == "CT":
        return True
    is_adc = "ADC" in slice_.image_type or bool(re.search(r"(?i)adc|apparent.?diffusion", slice_.description))
    if "adc" in sequence.name:
        return is_adc
    echo, scanning = slice_.echo_time, set(slice_.scanning)
    if is_adc or echo is None or "EP" in scanning or "DIFFUSION" in slice_.image_type:
        return False
    return (sequence.name.startswith("t2") and echo >= 60 and "SE" in scanning) or (
        sequence.name.startswith("t1") and echo <= 30 and not scanning.isdisjoint({"SE", "GR"})
    )
