"""Which DICOM series is which sequence: the site's word first, then the declared rules, never a silent guess.

    chosen = choose(sequence, series, rules, pattern=source.series.get("t2w"), choice=None)
    chosen.stacks, chosen.note                    # the note says why, where more than one series could be meant

In this order: the site's line in its file of choices; its regular expression in `site.yaml`; the rule of the sequence
(`rules`); for a sequence without a rule, the series that bears its name. Of several series that fit a rule, those
whose tags say everything go before those that only their description names; then its plane, then its description
decide. Two that are left are a repeat where they lie on one grid and were taken alike, and `repeats` settles them.
Anything else is ambiguous.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from fedloupe.study import Sequence
from fedloupe_client.ingest.dicom.choices import pick
from fedloupe_client.ingest.dicom.headers import Slice
from fedloupe_client.ingest.dicom.rules import DYNAMIC, Rule, Rules, Take, Verdict, judge, plane
from fedloupe_client.ingest.dicom.series import Grid, series_grid
from fedloupe_client.ingest.dicom.stacks import Stack, joined, seconds, split
from fedloupe_client.ingest.problems import MixedOrientation, SequenceAmbiguous, SeriesRefused, TooFewSlices

Series = dict[str, list[Slice]]


class Reference(IntEnum):
    """How a structure set or segmentation refers to a series; larger is nearer."""

    NOT = 0
    FRAME = 1  # drawn in the same frame of reference: on a repeat, or on another series
    SERIES = 2


@dataclass(frozen=True)
class Chosen:
    """The series of one sequence.

    Attributes:
        uid: Series Instance UID.
        grid: of its volume, or of each of its volumes.
        note: why it was taken, without identifiers; empty where there was nothing to decide.
        stacks: its volumes, where it has several.
        take: what the sequence is of them.
        diffusivity: an ADC map, whose unit must be known.
    """

    uid: str
    frame_of_reference: str
    grid: Grid
    note: str = ""
    stacks: tuple[Stack, ...] = ()
    take: Take = "volume"
    diffusivity: bool = False


@dataclass(frozen=True)
class _Candidate:
    """A series that may be meant: its frames and volumes, or why it has none."""

    slices: list[Slice]
    stacks: tuple[Stack, ...]
    refused: SeriesRefused | None = None

    @classmethod
    def of(cls, slices: list[Slice]) -> _Candidate:
        try:
            return cls(slices, split(slices))
        except SeriesRefused as error:
            return cls(slices, (), error)


def by_series(slices: list[Slice]) -> Series:
    """Slices by Series Instance UID; a file that was copied twice (one SOP Instance UID) counts once."""
    seen: set[tuple[str, int | None]] = set()
    found: Series = {}
    for item in sorted(slices, key=lambda s: (s.series, str(s.path), s.frame or 0)):
        if (item.instance, item.frame) not in seen:
            seen.add((item.instance, item.frame))
            found.setdefault(item.series, []).append(item)
    return found


def choose(
    sequence: Sequence, series: Series, rules: Rules, pattern: str | None = None, choice: str | None = None
) -> Chosen | None:
    """The series of a sequence, or None where no series fits.

    Args:
        sequence: of the study.
        series: the case's images, from `by_series`.
        rules: see `load_rules`.
        pattern: the site's regular expression on Series Description.
        choice: the site's series number or Series Instance UID for this case.

    Raises:
        SequenceAmbiguous: several series fit, and no rule settles them.
        ChoiceUnknown: the site's choice is not one series of the case.
        SeriesRefused: the one that fits is no volume (see `series_grid` and `split`).
    """
    name, rule = sequence.name, rules.rule(sequence.name, sequence.modality)
    usable = {uid: s for uid, s in series.items() if s[0].modality == sequence.modality}
    if choice is not None:
        slices = pick(usable, choice, name)
        return _taken(name, rule, _Candidate.of(slices), f"`{name}`: the site's own choice of series was taken")
    if pattern is not None:
        fitting = [_Candidate.of(s) for s in usable.values() if re.search(pattern, s[0].description)]
        return _settled(name, rule, fitting, rules, []) if fitting else None
    own = rule if rule is None or rule.of is None else rules.sequences[rule.of]
    if own is not None:
        candidates = [_Candidate.of(s) for s in usable.values()]
        found = _by_rule(name, rule, own, candidates, rules)
        if found is None and own.instead is not None:
            diffusion = rules.sequences[own.instead]
            computed = diffusion.model_copy(update={"take": "adc"})
            found = _by_rule(name, computed, diffusion, candidates, rules)
        if found is not None or own is rule:
            return found
    named = [_Candidate.of(s) for s in usable.values() if _plain(s[0].description) == _plain(name)]
    return _settled(name, rule, named, rules, []) if named else None


def _by_rule(name: str, rule: Rule | None, own: Rule, candidates: list[_Candidate], rules: Rules) -> Chosen | None:
    """The series that fits the rule `own`, taken as `rule` says."""
    never = own.description_not
    allowed = [c for c in candidates if never is None or not re.search(never, c.slices[0].description)]
    judged = [(c, judge(own, c.slices, c.stacks)) for c in allowed]
    fitting, why = _fitting(name, own, judged)
    if not fitting and own.time_points.at_least > 1:
        return _one_series_a_time_point(name, rule, own, allowed)
    return _settled(name, rule, fitting, rules, why, own) if fitting else None


def _fitting(name: str, rule: Rule, judged: list[tuple[_Candidate, Verdict]]) -> tuple[list[_Candidate], list[str]]:
    whole = [(c, v) for c, v in judged if not v.failed and not v.open]
    if whole:
        words = ", ".join(whole[0][1].met) or "modality"
        return [c for c, _ in whole], [f"{len(whole)} series fit by {words}"] if len(whole) > 1 else []
    partly = [(c, v) for c, v in judged if not v.failed and rule.description and _says(rule, c)]
    if not partly:
        return [], []
    return [c for c, _ in partly], [
        f"found by its description, because its headers do not tell {', '.join(partly[0][1].open)}"
    ]


def _says(rule: Rule, candidate: _Candidate) -> bool:
    return bool(rule.description and re.search(rule.description, candidate.slices[0].description))


def _settled(
    name: str, rule: Rule | None, fitting: list[_Candidate], rules: Rules, why: list[str], own: Rule | None = None
) -> Chosen:
    """One of the series that fit: by plane, by description, or as a repeat."""
    left = fitting
    if own is not None and own.plane is not None and len(left) > 1:
        left, why = _narrowed(left, [c for c in left if plane(c.slices[0]) == own.plane], why, f"{own.plane}")
    if len(left) > 1:
        scouts = [c for c in left if isinstance(c.refused, TooFewSlices | MixedOrientation)]
        left, why = _narrowed(left, [c for c in left if c not in scouts], why, "form a volume")
    if own is not None and own.description is not None and len(left) > 1:
        left, why = _narrowed(left, [c for c in left if _says(own, c)], why, "named so by the description")
    if len(left) == 1:
        return _taken(name, rule, left[0], f"`{name}`: {'; '.join(why)}" if why else "")
    latest = _latest_repeat(left) if rules.repeats == "latest" else None
    if latest is None:
        raise _ambiguous(name, left)
    repeat = f"`{name}` was acquired {len(left)} times on one grid: the latest acquisition was taken"
    return _taken(name, rule, latest, "; ".join([repeat, *why]))


def _narrowed(
    before: list[_Candidate], after: list[_Candidate], why: list[str], words: str
) -> tuple[list[_Candidate], list[str]]:
    if not after or len(after) == len(before):
        return before, why
    return after, [*why, f"{len(after)} of them {words}"]


def _latest_repeat(left: list[_Candidate]) -> _Candidate | None:
    """The last of several acquisitions of one thing; None where they are not that."""
    if any(len(c.stacks) != 1 or seconds(c.slices[0].time) is None for c in left):
        return None
    alike = {(s.echo_time, s.repetition_time, s.image_type, s.contrast, s.b_value) for s in (c.slices[0] for c in left)}
    first = left[0].stacks[0].grid
    ordered = sorted(left, key=_acquired)
    twin = _acquired(ordered[-1]) == _acquired(ordered[-2])
    same = len(alike) == 1 and all(c.stacks[0].grid.close_to(first) for c in left)
    return ordered[-1] if same and not twin else None


def _acquired(candidate: _Candidate) -> float:
    return seconds(candidate.slices[0].time) or 0.0


def _one_series_a_time_point(name: str, rule: Rule | None, own: Rule, candidates: list[_Candidate]) -> Chosen | None:
    """Series of one time point each that together fit a dynamic rule."""
    single = own.model_copy(update={"time_points": type(own.time_points)()})
    fitting, why = _fitting(name, single, [(c, judge(single, c.slices, c.stacks)) for c in candidates])
    groups: list[list[_Candidate]] = []
    for candidate in (c for c in fitting if len(c.stacks) == 1):
        grid = candidate.stacks[0].grid
        home = next((g for g in groups if g[0].stacks[0].grid.close_to(grid)), None)
        if home is None:
            groups.append([candidate])
        else:
            home.append(candidate)
    dynamic = [g for g in groups if len(g) >= own.time_points.at_least]
    if not dynamic:
        return None
    if len(dynamic) > 1:
        raise _ambiguous(name, [c for g in dynamic for c in g])
    stacks = joined([c.slices for c in dynamic[0]])
    if not stacks:
        raise _ambiguous(name, dynamic[0])
    first = stacks[0].grid.slices[0]
    note = f"`{name}`: {len(stacks)} series on one grid are the time points of one dynamic series"
    return Chosen(first.series, first.frame_of_reference, stacks[0].grid, "; ".join([note, *why[1:]]), stacks,
                  rule.take if rule else "volume")  # fmt: skip


def _taken(name: str, rule: Rule | None, candidate: _Candidate, note: str) -> Chosen:
    """What a sequence is of its series; a series of one volume is that volume."""
    if candidate.refused is not None:
        raise candidate.refused
    first, stacks = candidate.slices[0], candidate.stacks
    take: Take = rule.take if rule is not None else "volume"
    diffusivity = rule is not None and rule.quantity == "diffusivity"
    if len(stacks) == 1:
        return Chosen(first.series, first.frame_of_reference, stacks[0].grid, note, diffusivity=diffusivity)
    if take == "volume" or (take in DYNAMIC) != (stacks[0].b_value is None):
        return Chosen(first.series, first.frame_of_reference, series_grid(candidate.slices), note)  # RepeatedPosition
    return Chosen(first.series, first.frame_of_reference, stacks[0].grid, note, stacks, take)


def _ambiguous(name: str, left: list[_Candidate]) -> SequenceAmbiguous:
    seen = (c.slices[0] for c in left)
    return SequenceAmbiguous(
        f"{len(left)} series fit `{name}`",
        where="; ".join(
            f"series {s.number if s.number is not None else 'without number'} `{s.description}` at "
            f"{s.time or 'unknown time'} in {s.path.parent}, UID {s.series}"
            for s in seen
        ),
        remedy=f"name the one meant in the file of series choices, give a regular expression under `series.{name}` in "
        "site.yaml, or remove the ones not meant",
    )


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
