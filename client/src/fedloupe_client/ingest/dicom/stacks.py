"""The volumes that one series holds: one, or one a b-value, or one a time point.

    stacks = split(slices)                        # one Stack an image of the whole body part
    stacks[0].grid, stacks[0].b_value, stacks[0].time_s

Diffusion images are told apart by b-value (see `bvalues`), the time points of a dynamic series by the first of these
that divides the series into whole volumes: Temporal Position Identifier or Index, Trigger Time, Acquisition Number,
Acquisition Time, Content Time, or the order of Acquisition Times at each position.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from fedloupe_client.ingest.dicom.headers import Slice
from fedloupe_client.ingest.dicom.series import Grid, series_grid

Key = Callable[[Slice], Hashable]
DAY_S = 86_400.0
_TIME_KEYS: tuple[Key, ...] = (
    lambda s: s.temporal,
    lambda s: s.offset_s,
    lambda s: s.trigger_ms,
    lambda s: s.acquisition,
    lambda s: seconds(s.time),
    lambda s: seconds(s.content_time),
)


@dataclass(frozen=True)
class Stack:
    """One volume of a series.

    Attributes:
        grid: its slices and where they lie.
        b_value: s/mm2; None where no b-value told it from others.
        time_s: seconds from the series' first time point; None where there is one volume, or no tag tells the time.
    """

    grid: Grid
    b_value: float | None = None
    time_s: float | None = None


def seconds(time: str) -> float | None:
    """A DICOM time (TM, PS3.5 6.2: HHMMSS.FFFFFF, its end may be cut off) as seconds of the day."""
    digits = time.strip().replace(":", "").partition("&")[0].split("+")[0]
    whole, _, fraction = digits.partition(".")
    if len(whole) not in (2, 4, 6) or not whole.isascii() or not whole.isdigit() or not (fraction + "0").isdigit():
        return None
    hours, minutes, rest = (int(whole[i : i + 2] or 0) for i in (0, 2, 4))
    return hours * 3600 + minutes * 60 + rest + float(f"0.{fraction or 0}")


def split(slices: list[Slice]) -> tuple[Stack, ...]:
    """The volumes of one series, by time or by b-value.

    Raises:
        SeriesRefused: the slices are no volume, or lie several to a position and no tag tells them apart
            (`RepeatedPosition`), as echoes or phase images do.
    """
    places = _by(slices, _place)
    counts = {len(found) for found in places.values()}
    if counts == {1} or len(places) < 3 or any(len(s.position) != 3 for s in slices):
        return (Stack(series_grid(slices)),)
    b_values = {s.b_value for s in slices}
    if None not in b_values and len(b_values) > 1:
        return _by_b_value(slices)
    if len(counts) == 1 and len({(s.echo_time, s.image_type, s.b_value) for s in slices}) == 1:
        for parts in _time_parts(slices, counts.pop()):
            if all(len(part) == len(places) == len(_by(part, _place)) for part in parts):
                return _timed(parts)
    return (Stack(series_grid(slices)),)  # raises RepeatedPosition


def _by_b_value(slices: list[Slice]) -> tuple[Stack, ...]:
    """One stack a b-value and, where directions or averages repeat a position, a repeat."""
    found = []
    for value, part in sorted(_by(slices, lambda s: s.b_value).items(), key=lambda item: float(str(item[0]))):
        at_place = list(_by(part, _place).values())
        for rank in range(max(len(repeats) for repeats in at_place)):
            same = [_ordered(repeats)[rank] for repeats in at_place if rank < len(repeats)]
            found.append(Stack(series_grid(same), b_value=float(str(value))))
    if not all(stack.grid.close_to(found[0].grid) for stack in found):
        return (Stack(series_grid(slices)),)  # raises RepeatedPosition
    return tuple(found)


def _time_parts(slices: list[Slice], count: int) -> list[list[list[Slice]]]:
    """Every division of the slices into `count` groups that a tag makes; which are whole volumes is not yet said."""
    found = []
    for key in _TIME_KEYS:
        if any(key(s) is None for s in slices):
            continue
        parts = _by(slices, key)
        if len(parts) == count:
            found.append([parts[value] for value in sorted(parts, key=lambda value: float(str(value)))])
    times = [{seconds(s.time) for s in repeats} for repeats in _by(slices, _place).values()]
    if all(None not in at_place and len(at_place) == count for at_place in times):
        ranked = [sorted(repeats, key=_clock) for repeats in _by(slices, _place).values()]
        found.append([[repeats[rank] for repeats in ranked] for rank in range(count)])
    return found


def _timed(parts: list[list[Slice]]) -> tuple[Stack, ...]:
    return tuple(Stack(series_grid(part), time_s=time) for part, time in _with_times(parts))


def joined(series: list[list[Slice]]) -> tuple[Stack, ...]:
    """Series of one volume each, on one grid, as the time points of one dynamic series.

    Returns:
        () where they lie on several grids, or nothing tells their times.
    """
    ordered = sorted(_with_times(series), key=lambda item: (item[1] is None, item[1], item[0][0].series))
    stacks = [Stack(series_grid(part), time_s=time) for part, time in ordered]
    times = {stack.time_s for stack in stacks}
    if None in times or len(times) < len(stacks) or not all(s.grid.close_to(stacks[0].grid) for s in stacks):
        return ()
    start = stacks[0].time_s or 0.0
    return tuple(replace(stack, time_s=(stack.time_s or 0.0) - start) for stack in stacks)


def _with_times(parts: list[list[Slice]]) -> list[tuple[list[Slice], float | None]]:
    """Each part with its time, s from the first, by the first tag that gives each part another one.

    A series that runs over midnight goes on counting.
    """
    sources: tuple[Callable[[Slice], float | None], ...] = (
        lambda s: s.offset_s,
        lambda s: seconds(s.time),
        lambda s: None if s.trigger_ms is None else s.trigger_ms / 1000,
        lambda s: seconds(s.content_time),
    )
    for source in sources:
        told = [[source(s) for s in part] for part in parts]
        starts = [min(time for time in part if time is not None) if None not in part else None for part in told]
        known = [start for start in starts if start is not None]
        if len(known) == len(parts) == len(set(known)):
            late = max(known)
            known = [start + DAY_S if late - start > DAY_S / 2 else start for start in known]
            return [(part, start - min(known)) for part, start in zip(parts, known, strict=True)]
    return [(part, None) for part in parts]


def _by(slices: list[Slice], key: Key) -> dict[Hashable, list[Slice]]:
    found: dict[Hashable, list[Slice]] = defaultdict(list)
    for item in slices:
        found[key(item)].append(item)
    return found


def _place(slice_: Slice) -> Hashable:
    """Position to 0.01 mm: what one scanner writes for one place may differ in the last digits."""
    return tuple(round(v, 2) + 0.0 for v in slice_.position)


def _clock(slice_: Slice) -> float:
    return seconds(slice_.time) or 0.0


def _ordered(repeats: list[Slice]) -> list[Slice]:
    return sorted(repeats, key=lambda s: (s.acquisition or 0, _clock(s), s.instance, s.frame or 0))
