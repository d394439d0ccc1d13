"""Which level of a subgroup variable a patient is in: from a cell of a table, or from what DICOM says of the scanner.

    level_of(age, "63,5")                     # None: no number; "63.5" is `60-<70` with cuts at 60 and 70
    named_levels(age)                         # ("<60", "60-<70", ">=70"); () where every word is a level of its own
    scanner_words("SIEMENS Healthineers", "2.8936")   # {"vendor": "Siemens", "field-strength": "3 T"}

What leaves a site is one of the study's own words, a scanner's class, or a word of the table that is short and plain.
"""

from __future__ import annotations

import math
import re

from fedloupe.study.evidence import Header, Subgroup
from fedloupe.study.outcomes import SCALES, ScaleName
from fedloupe.study.protocol import ClinicalVariable, Study

LONGEST = 80
"""Characters of a level's name on the wire."""
OUTCOMES = ("event", "no event")
PRESENCE = ("present", "absent")
OTHER = "other"
VENDORS = ("GE", "Siemens", "Philips", "Canon", OTHER)
FIELDS = ("1.5 T", "3 T", OTHER)
PLAIN_WORD = re.compile(r"(?!.*\d{4})[^\W_](?:[\w .+/()<>=-]{0,22}[\w.+)])?")
"""Words that may be levels: up to 24 letters, digits and few signs, without four digits on end, as dates and ids have.
"""
# as the vendors write Manufacturer (0008,0070); Toshiba's scanners are Canon's since 2016
_SPELLINGS = (
    (re.compile(r"\bge\b|general electric|\bgems\b"), "GE"),
    (re.compile(r"siemens"), "Siemens"),
    (re.compile(r"philips"), "Philips"),
    (re.compile(r"canon|toshiba"), "Canon"),
)
_TESLA = (("1.5 T", 1.35, 1.65), ("3 T", 2.7, 3.15))
_GAUSS = 100.0  # no magnet for patients has that many tesla: the number is in gauss


def named_levels(group: Subgroup) -> tuple[str, ...]:
    """The levels that a subgroup can have, in order; () where each word of a table is one."""
    if group.cuts:
        inner = (f"{low:g}-<{high:g}" for low, high in zip(group.cuts, group.cuts[1:], strict=False))
        return (f"<{group.cuts[0]:g}", *inner, f">={group.cuts[-1]:g}")
    if group.levels:
        return tuple(group.levels)
    return {None: (), "vendor": VENDORS, "field-strength": FIELDS}[group.header]


def value_levels(variable: ClinicalVariable) -> dict[float, str]:
    """Name of each number of a clinical variable with `levels`: the table's words for it, in the study's order."""
    words: dict[float, list[str]] = {}
    for word, value in (variable.levels or {}).items():
        words.setdefault(value, []).append(word)
    return {value: "/".join(some)[:LONGEST] for value, some in words.items()}


def grade_levels(study: Study, scale: ScaleName | None) -> dict[str, int]:
    """Grades of the outcome that a site may have, events first, and the outcome that each counts as.

    Args:
        study: the protocol.
        scale: that the site declares; None: the study's own words.
    """
    if scale is None:
        words = {word: 1 for word in study.endpoint.positive} | {word: 0 for word in study.endpoint.negative}
        return {word[:LONGEST]: label for word, label in words.items()}
    labels = study.endpoint.graded(scale)
    return {grade: labels[grade] for grade in SCALES[scale].grades if grade in labels}


def level_of(group: Subgroup, text: str) -> str | None:
    """The level of what is written, or None where that is unknown: empty, no number, or in no level.

    Args:
        group: the variable.
        text: a cell, or what DICOM says of the scanner; `vendor` and `field-strength` are read in their own words.
    """
    text = " ".join(text.split())
    if not text:
        return None
    if group.cuts:
        value = _number(text)
        return None if value is None else named_levels(group)[sum(value >= cut for cut in group.cuts)]
    word = text if group.header is None else scanner_word(group.header, text)
    if word is None:
        return None
    if group.levels:
        found = {one.casefold(): name for name, words in group.levels.items() for one in words}
        return found.get(text.casefold(), found.get(word.casefold()))
    if group.header is not None:
        return word
    return word if PLAIN_WORD.fullmatch(word) else None


def scanner_word(header: Header, text: str) -> str | None:
    """A manufacturer as one of `VENDORS`, or a field strength as one of `FIELDS`; None where nothing is said."""
    low = text.casefold().strip()
    if header == "vendor":
        return next((name for spelling, name in _SPELLINGS if spelling.search(low)), OTHER) if low else None
    value = _number(re.sub(r"\s*t(esla)?$", "", low))
    if value is None or value <= 0:
        return None
    tesla = value / 1e4 if value > _GAUSS else value
    return next((name for name, low, high in _TESLA if low <= tesla <= high), OTHER)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
