"""Scales of treatment response: their grades from best to worst, the words hospitals write, and where each is defined.

    SCALES["dworak"].grade("TRG IV")          # "4": total regression, the best
    SCALES["mandard"].grade("Dworak 4")       # None: another scale's word is never read as this one's

The table is explicit: what it does not hold is unknown. Grades of two scales with one number mean different things.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

ScaleName = Literal["mandard", "dworak", "ajcc_cap", "ryan", "ryan_modified", "recist", "pcr", "ccr"]

_ROMAN = {"1": "i", "2": "ii", "3": "iii", "4": "iv", "5": "v"}


@dataclass(frozen=True)
class Scale:
    """One scale.

    Attributes:
        title: its name in words.
        source: where it is defined.
        grades: canonical grades, the best response first.
        words: written form, small letters and single spaces, to grade; `grade` reads the grades themselves too.
        prefixes: what may stand before a numbered grade, such as `trg`.
    """

    title: str
    source: str
    grades: tuple[str, ...]
    words: Mapping[str, str]
    prefixes: tuple[str, ...] = ()

    def grade(self, value: str) -> str | None:
        """The canonical grade, or None where the table does not know what is written.

        Upper and lower case, spaces, and `-`, `_`, `:` or `=` between words do not matter.
        """
        text = " ".join(re.sub(r"(?<=\w)[-_:=\s]+(?=\w)", " ", value.casefold()).split())
        if text in self.words:
            return self.words[text]
        for _ in range(3):  # `mandard trg grade 2`
            cut = next((text[len(p) :].lstrip() for p in self.prefixes if text.startswith(p)), None)
            if cut is None:
                break
            text = cut
        return self.words.get(text)


def _numbered(grades: tuple[str, ...], words: dict[str, tuple[str, ...]]) -> Mapping[str, str]:
    """Numbers, `1.0` as spreadsheets export them, roman numerals, and a scale's own words."""
    table = {form: grade for grade in grades for form in (grade, f"{grade}.0", _ROMAN.get(grade, grade))}
    return MappingProxyType(table | {word: grade for grade, forms in words.items() for word in forms})


def _regression(own: tuple[str, ...]) -> tuple[str, ...]:
    return (*own, "tumour regression grade", "tumor regression grade", "regression grade", "trg", "grade")


_CAP_WORDS = {
    "0": ("complete response", "complete"),
    "1": ("near complete response", "near complete", "moderate response"),
    "2": ("partial response", "partial", "minimal response"),
    "3": ("poor or no response", "poor response", "no response"),
}
_YES = ("yes", "y", "true", "1", "1.0", "positive")
_NO = ("no", "n", "false", "0", "0.0", "negative")


def _stages() -> dict[str, str]:
    """Every ypT and ypN that pathology reports write: ypT0 ypN0 is a complete response, other known stages are none.

    ypTis, ypTX and ypNX are left out: whether they count is each protocol's own decision.
    """
    tumour = ["0", "1", "2", "3", "3a", "3b", "3c", "3d", "4", "4a", "4b"]
    nodes = ["0", "1", "1a", "1b", "1c", "2", "2a", "2b"]
    table: dict[str, str] = {}
    for t in tumour:
        for n in nodes:
            grade = "yes" if t == n == "0" else "no"
            table |= {f"ypt{t}{join}n{n}": grade for join in ("", " ", " yp", "yp")}
            table |= {f"ypt{t}{join}n{n}{end}": grade for join in ("", " ") for end in ("m0", " m0")}
    return table


SCALES: Mapping[ScaleName, Scale] = MappingProxyType({
    "mandard": Scale(
        title="Mandard tumour regression grade, 1 (complete) to 5 (no regression)",
        source="Mandard 1994, Cancer 73:2680, doi:10.1002/1097-0142(19940601)73:11<2680::AID-CNCR2820731105>3.0.CO;2-C",
        grades=("1", "2", "3", "4", "5"),
        words=_numbered(("1", "2", "3", "4", "5"), {"1": ("complete regression",), "5": ("absence of regression",)}),
        prefixes=_regression(("mandard",)),
    ),
    "dworak": Scale(
        title="Dworak regression grade, 4 (total) to 0 (no regression)",
        source="Dworak 1997, Int J Colorectal Dis 12:19, doi:10.1007/s003840050072",
        grades=("4", "3", "2", "1", "0"),
        words=_numbered(("4", "3", "2", "1", "0"), {"4": ("total regression",), "0": ("no regression",)}),
        prefixes=_regression(("dworak",)),
    ),
    "ajcc_cap": Scale(
        title="AJCC/CAP tumour regression score, 0 (complete) to 3 (poor or none)",
        source="AJCC Cancer Staging Manual, 7th and 8th ed., colon and rectum; College of American Pathologists, "
        "protocol for carcinoma of the colon and rectum",
        grades=("0", "1", "2", "3"),
        words=_numbered(("0", "1", "2", "3"), _CAP_WORDS),
        prefixes=_regression(("ajcc/cap", "ajcc", "cap", "tumour regression score", "tumor regression score", "score")),
    ),
    "ryan": Scale(
        title="Ryan regression grade of three tiers, 1 (none or few cells left) to 3",
        source="Ryan 2005, Histopathology 47:141, doi:10.1111/j.1365-2559.2005.02176.x",
        grades=("1", "2", "3"),
        words=_numbered(("1", "2", "3"), {}),
        prefixes=_regression(("ryan",)),
    ),
    "ryan_modified": Scale(
        title="modified Ryan score, 0 (complete) to 3 (poor or none)",
        source="College of American Pathologists, protocol for carcinoma of the colon and rectum, "
        "`Modified Ryan Scheme for Tumor Regression Score`",
        grades=("0", "1", "2", "3"),
        words=_numbered(("0", "1", "2", "3"), _CAP_WORDS),
        prefixes=_regression(
            ("modified ryan", "ryan modified", "tumour regression score", "tumor regression score", "score")
        ),
    ),
    "recist": Scale(
        title="RECIST 1.1 response of target lesions",
        source="Eisenhauer 2009, Eur J Cancer 45:228, doi:10.1016/j.ejca.2008.10.026",
        grades=("CR", "PR", "SD", "PD"),
        words=MappingProxyType({
            "cr": "CR", "complete response": "CR", "complete remission": "CR",
            "pr": "PR", "partial response": "PR", "partial remission": "PR",
            "sd": "SD", "stable disease": "SD",
            "pd": "PD", "progressive disease": "PD", "progression": "PD",
        }),
        prefixes=("recist 1.1", "recist"),
    ),
    "pcr": Scale(
        title="pathological complete response, ypT0 ypN0",
        source="AJCC Cancer Staging Manual, 8th ed. (ypT, ypN); Maas 2010, Lancet Oncol 11:835, "
        "doi:10.1016/S1470-2045(10)70172-8",
        grades=("yes", "no"),
        words=MappingProxyType(
            dict.fromkeys((*_YES, "pcr", "pathological complete response", "pathologic complete response"), "yes")
            | dict.fromkeys((*_NO, "no pcr", "non pcr", "not pcr"), "no")
            | _stages()
        ),
        prefixes=("pcr",),
    ),
    "ccr": Scale(
        title="clinical complete response",
        source="Maas 2011, J Clin Oncol 29:4633, doi:10.1200/JCO.2011.37.7176; van der Valk 2018 (International Watch "
        "and Wait Database), Lancet 391:2537, doi:10.1016/S0140-6736(18)31078-X",
        grades=("yes", "no"),
        words=MappingProxyType(
            dict.fromkeys((*_YES, "ccr", "clinical complete response"), "yes")
            | dict.fromkeys((*_NO, "no ccr", "non ccr", "not ccr"), "no")
        ),
        prefixes=("ccr",),
    ),
})  # fmt: skip
