"""What may be asked about who the patients are, and what leaves of the answer: no line that shows few of them.

check_tabulating(request, study)          # or GateRefused
reply = protect(reply, study, policy)     # small groups are left out with what would give them away, and named
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import NamedTuple

from fedloupe.assessing import Described, Part
from fedloupe.messages import CohortReply, CohortRequest, Message
from fedloupe.study import ScaleName, Study
from fedloupe.study.levels import OUTCOMES, PLAIN_WORD, PRESENCE, grade_levels, named_levels, value_levels
from fedloupe_client.gate.cells import changed
from fedloupe_client.gate.errors import NotInStudy, ReplyRefused
from fedloupe_client.gate.policy import Policy

_FAULT = "this is a fault of the site's software: report it; nothing left"
INTERVALS = ("imaging_to_treatment", "imaging_to_outcome")
Lines = list[Described]


class Key(NamedTuple):
    """What lines belong together."""

    part: Part
    variable: str
    number: bool


def _key(line: Described) -> Key:
    return Key(line.part, line.variable, line.level is None)


def check_tabulating(request: Message, study: Study) -> None:
    """Tables of patients only where the study declares its evidence, and never beside differential privacy.

    Raises:
        NotInStudy: see above.
    """
    if isinstance(request, CohortRequest) and (study.evidence is None or study.private):
        raise NotInStudy(
            "`cohort` in a study without `evidence`, or one that is private",
            where=study.study,
            remedy="ask the coordinator; a request outside the approved study should not have been sent",
        )


def protect(reply: CohortReply, study: Study, policy: Policy) -> CohortReply:
    """The answer as it may leave.

    Everything of a variable in a part stays where its value is known, or is not, in a few patients (0 < n <
    `minimum_cell`), or where it is read from the column of one that is shown: two ways of grouping the same values part
    patients by their difference. A level that few patients are in stays with the next smaller one (`kept`). The outcome
    is told in both parts or in none, for the number of events is known of both together.

    Args:
        reply: everything that the site counted.
        study: as approved.
        policy: of the site.

    Raises:
        ReplyRefused: lines that the study has no room for, or that do not add up; a patient in two splits.
    """
    if reply.shared:
        raise ReplyRefused("patients have cases in more than one split", remedy=_FAULT)
    scale = _scale(reply, study)
    _check_lines(reply, study, scale)
    found: dict[Key, Lines] = {}
    for line in reply.lines:
        found.setdefault(_key(line), []).append(line)
    cell, told = policy.minimum_cell, "cohort" in policy.metrics
    shown = {key: _shown(lines, study, scale, cell) if told else [] for key, lines in found.items()}
    if any(len(shown[key]) < len(found[key]) for key in found if key.variable == "outcome"):
        shown |= {key: [] for key in found if key.variable == "outcome"}
    _drop_second_groupings(shown, study)
    withheld = {key.variable for key in found if len(shown[key]) < len(found[key])}
    lines = tuple(line for some in shown.values() for line in some)
    return changed(reply, lines=lines, withheld=tuple(sorted(withheld)))


def _shown(lines: Lines, study: Study, scale: ScaleName | None, cell: int) -> Lines:
    """What of one variable in one part may be shown by its numbers alone."""
    one = lines[0]
    if any(0 < size < cell for size in (one.patients, one.missing)):
        return []
    if one.level is None:
        return lines
    counts = {line.level or "": line.count or 0 for line in lines}
    totals = grade_levels(study, scale) if one.variable == "grade" else dict.fromkeys(counts, 0)
    levels = kept(counts, totals, cell)
    return [line for line in lines if line.level in levels]


def kept(counts: Mapping[str, int], totals: Mapping[str, int], cell: int) -> frozenset[str]:
    """Levels that may be shown: nobody, or at least `cell` patients, and so that the others cannot be worked out.

    Where a level is left out, what is left out together is known: the total less what is shown. So these are two
    levels at least, of `cell` patients at least; the smallest of the others join until it is so.

    Args:
        counts: patients by level.
        totals: of each level, which total is known that it is part of: all, or those with one outcome.
        cell: smallest count that may be shown.
    """
    out: set[str] = set()
    for total in set(totals.values()):
        filled = sorted((n, level) for level, n in counts.items() if n and totals[level] == total)
        small = [level for n, level in filled if n < cell]
        while small and (len(small) < 2 or sum(counts[level] for level in small) < cell) and len(small) < len(filled):
            small.append(filled[len(small)][1])
        out.update(small)
    return frozenset(counts) - out


def _drop_second_groupings(shown: dict[Key, Lines], study: Study) -> None:
    """Of several variables with levels of one column, the first stays."""
    sources = sources_of(study)
    seen: dict[Part, set[str]] = {}
    for key, lines in shown.items():
        if key.number or not lines or key.variable not in sources:
            continue
        if seen.setdefault(key.part, set()) & sources[key.variable]:
            shown[key] = []
        seen[key.part] |= sources[key.variable]
    if study.aggregation == "plain":
        # sums of training patients leave too, for description, baseline or harmonisation: less them, a table's would be
        # the few tuning patients' own
        columns = {variable.column for variable in study.clinical}
        for key in shown:
            if key.part == "development" and sources.get(key.variable, set()) & columns:
                shown[key] = []


def sources_of(study: Study) -> dict[str, set[str]]:
    """Columns, or the header's attribute, that each declared variable is read from."""
    sources = {variable.name: {variable.column} for variable in study.clinical}
    for group in study.evidence.subgroups if study.evidence else ():
        read = {group.column or "", f"header {group.header}" if group.header else ""} - {""}
        sources[group.name] = sources.get(group.name, set()) | read
    return sources


def _scale(reply: CohortReply, study: Study) -> ScaleName | None:
    """The scale that the site declares, which is one of the study's."""
    if reply.scale is None:
        return None
    for name in study.endpoint.scales:
        if name == reply.scale:
            return name
    raise ReplyRefused("a scale that the study does not accept", remedy=_FAULT)


def _check_lines(reply: CohortReply, study: Study, scale: ScaleName | None) -> None:
    """Variables and levels of the study, that count the same patients in each line of a part."""
    known, sizes = _known(study, scale), set()
    for key, group in groupby(reply.lines, key=_key):
        lines = list(group)
        first, levels = lines[0], {line.level for line in lines}
        wanted = known.get((key.variable, key.number))
        plain = all(PLAIN_WORD.fullmatch(level or "") for level in levels)
        nobody = levels == {None} and first.patients == 0
        fits = levels == wanted or (wanted == set() and (plain or nobody))
        if not fits or len(lines) > len(levels):
            raise ReplyRefused("a line of a table that the study has no room for", remedy=_FAULT)
        alike = len({(line.patients, line.missing) for line in lines}) == 1
        if not alike or (not key.number and sum(line.count or 0 for line in lines) != first.patients):
            raise ReplyRefused("lines of a table that do not count the patients", remedy=_FAULT)
        sizes.add((key.part, first.patients + first.missing))
    if len(sizes) > len({part for part, _ in sizes}):
        raise ReplyRefused("lines of a table that count different patients", remedy=_FAULT)


def _known(study: Study, scale: ScaleName | None) -> dict[tuple[str, bool], set[str | None]]:
    """Levels by variable, and by whether it is a number, whose one line has no level; none where words are levels."""
    known: dict[tuple[str, bool], set[str | None]] = {("outcome", False): {*OUTCOMES}}
    known["grade", False] = {*grade_levels(study, scale)}
    for group in study.evidence.subgroups if study.evidence else ():
        known[group.name, False] = {*named_levels(group)}
        if not named_levels(group):
            known[group.name, True] = set()
    for variable in study.clinical:
        number = variable.levels is None
        known[variable.name, number] = {None} if number else {*value_levels(variable).values()}
    known |= {(f"sequence {sequence.name}", False): {*PRESENCE} for sequence in study.sequences}
    return known | {(f"interval {name}", True): {None} for name in INTERVALS}
