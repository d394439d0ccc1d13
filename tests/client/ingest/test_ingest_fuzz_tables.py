"""Damaged clinical and feature tables, each with what it must come to.

The hospitals are synthetic. Run with `-s` for the table of families in docs/ingest.md; see `damages`.
"""

from __future__ import annotations

import gzip
import random
from functools import partial

import pytest

from damages import (
    ANYTHING,
    CASES,
    FEATURES,
    HEADER,
    LINES,
    MARK,
    ROWS,
    TABLE,
    Damage,
    Refused,
    Variant,
    add_to,
    check,
    features,
    flip,
    folder_instead,
    general_to,
    link_instead,
    rewrite,
    text,
)

VARIANTS: list[Variant] = []
add = partial(add_to, VARIANTS)
general = partial(general_to, VARIANTS)


def first(line: str) -> Damage:
    return text(HEADER, line, *LINES[1:])


def semicolons(line: str) -> str:
    return line.replace(",", ";")


everybody = partial(add, "nifti", cases=CASES, site=True)
everybody(
    "table, other dialect",
    "ready",
    {
        "BOM": text(HEADER, *LINES, encoding="utf-8-sig"),
        "UTF-16": text(HEADER, *LINES, encoding="utf-16"),
        "UTF-16 big endian": lambda root: (root / TABLE).write_bytes(
            b"\xfe\xff" + "\n".join([HEADER, *LINES]).encode("utf-16-be")
        ),
        "Windows-1252": text(HEADER + ",note", *(f"{line},früh" for line in LINES), encoding="cp1252"),
        "semicolons": text(*map(semicolons, (HEADER, *LINES))),
        "semicolons, BOM": text(*map(semicolons, (HEADER, *LINES)), encoding="utf-8-sig"),
        "tabs": text(*(line.replace(",", "\t") for line in (HEADER, *LINES))),
        "tabs, UTF-16": text(*(line.replace(",", "\t") for line in (HEADER, *LINES)), encoding="utf-16"),
        "sep line": text("sep=;", *map(semicolons, (HEADER, *LINES))),
        "CRLF": text(HEADER, *LINES, end="\r\n"),
        "CR": text(HEADER, *LINES, end="\r"),
        "blank lines": text("", HEADER, "", *LINES, "", ",,,", ""),
        "spaces": text(*(line.replace(",", "  ,  ") + "  " for line in (HEADER, *LINES))),
        "no-break spaces": text(HEADER, *(line.replace(",", "\u00a0,\u00a0") for line in LINES)),
        "quoted": text(*(",".join(f'"{cell}"' for cell in line.split(",")) for line in (HEADER, *LINES))),
        "quoted line break": text(HEADER + ",note", *(f'{line},"one\ntwo"' for line in LINES)),
        "quoted separator": text(HEADER + ",note", *(f'{line},"a, b"' for line in LINES)),
        "more columns": text(HEADER + ",x,y", *(f"{line},1,{MARK}" for line in LINES)),
        "empty last column": text(HEADER + ",", *(line + "," for line in LINES)),
        "columns in another order": text(*(",".join(reversed(line.split(","))) for line in (HEADER, *LINES))),
        "zipped": lambda root: (root / TABLE).write_bytes(gzip.compress("\n".join([HEADER, *LINES]).encode(), mtime=0)),
    },
)
everybody(
    "table, no text",
    "corruption",
    {
        "NUL": lambda root: (root / TABLE).write_bytes("\n".join([HEADER, *LINES]).encode() + b"\0\0"),
        "NUL within": text(HEADER, LINES[0].replace("6", "\0"), *LINES[1:]),
        "UTF-16 without a mark": text(HEADER, *LINES, encoding="utf-16-le"),
        "UTF-16 cut": lambda root: (root / TABLE).write_bytes("\n".join([HEADER, *LINES]).encode("utf-16")[:-1]),
        "UTF-32": text(HEADER, *LINES, encoding="utf-32"),
        "spreadsheet": lambda root: (root / TABLE).write_bytes(b"PK\x03\x04" + bytes(200)),
        "old spreadsheet": lambda root: (root / TABLE).write_bytes(b"\xd0\xcf\x11\xe0" + bytes(200)),
        "PDF": lambda root: (root / TABLE).write_bytes(b"%PDF-1.7\n"),
        "zipped, cut": lambda root: (root / TABLE).write_bytes(gzip.compress(b"case,trg" * 50, mtime=0)[:-9]),
        "zipped, spoiled": lambda root: (root / TABLE).write_bytes(
            gzip.compress(b"case,trg" * 50, mtime=0)[:12] + b"xxxxxxxx"
        ),
        "zipped, bad sum": lambda root: (root / TABLE).write_bytes(
            gzip.compress(b"case,trg\n" * 50, mtime=0)[:-8] + bytes(8)
        ),
        "zipped, reserved method": lambda root: (root / TABLE).write_bytes(b"\x1f\x8b\x07" + bytes(30)),
        "control characters": text(HEADER, LINES[0].replace("6", "\x07"), *LINES[1:]),
        "another alphabet": text(HEADER + ",note", *(f"{line},хорошо" for line in LINES), encoding="cp1251"),
    },
)
everybody(
    "table, shape",
    "corruption",
    {
        "short row": text(HEADER, "P-0001,good", *LINES[1:]),
        "long row": text(HEADER, LINES[0] + ",x,y", *LINES[1:]),
        "open quote": text(HEADER, '"P-0001,good,61,T2', *LINES[1:]),
        "stray quote": text(HEADER, '"P"-0001,good,61,T2', *LINES[1:]),
        "column twice": text(HEADER + ",age", *(line + ",1" for line in LINES)),
        "separator unclear": text("case,trg;age,ct;x", *LINES),
        "mixed separators": text(HEADER, semicolons(LINES[0]), *LINES[1:]),
        "no line": lambda root: (root / TABLE).write_bytes(b"\n \n\n"),
    },
)
add("nifti", "row of an id without files", "absence corruption", {"long": first(f"P-{'x' * 300},good,61,T2")})
everybody("table, columns", "configuration", {
    **{f"no {name}": text(HEADER.replace(name, "x" + name[::-1]), *LINES) for name in HEADER.split(",")},
    "upper case": text(HEADER.upper(), *LINES), "no header": text(*LINES),
    "spaces in names": text(HEADER.replace("trg", "t rg"), *LINES), "one column": text("case", *CASES),
})  # fmt: skip
everybody("table, no rows", "absence", {
    "header only": text(HEADER), "id empty": first(",good,61,T2"), "id blank": first("\u00a0,good,61,T2"),
})  # fmt: skip
everybody("table, one class", "degenerate", {
    "good": text(HEADER, *(line.replace("poor", "good") for line in LINES)),
    "one row": text(HEADER, LINES[0]),
    "poor unknown": text(HEADER, *(line.replace("poor", MARK) for line in LINES)),
})  # fmt: skip
everybody(
    "table, formula for id", "corruption", {"=": first('"=A1&""0001""",good,61,T2'), "#REF!": first("#REF!,good,61,T2")}
)
everybody(
    "table, decimals",
    "mislabelled",
    {"both": text(*map(semicolons, (HEADER, LINES[0])), "P-0002;poor;5,5;T3", "P-0004;good;6.1;T3")},
)
add("nifti", "row repeated", "mislabelled", {
    "same": text(HEADER, LINES[0], *LINES), "another outcome": text(HEADER, *LINES, "P-0001,poor,61,T2"),
    "with spaces": text(HEADER, *LINES, " P-0001 ,good,61,T2"), "lower case": text(HEADER, *LINES, "p-0001,good,61,T2"),
})  # fmt: skip
add("nifti", "row's outcome", "mislabelled", {
    value: first(f"P-0001,{value},61,T2") for value in (MARK, "Good", "1", "good?", "n/a", "goodpoor")
})  # fmt: skip
add("nifti", "row's outcome empty", "absence", {"empty": first("P-0001,,61,T2"), "spaces": first("P-0001,   ,61,T2")})
add("nifti", "row's clinical value", "mislabelled degenerate", {
    f"{age} {stage}": first(f"P-0001,good,{age},{stage}")
    for age, stage in ((MARK, "T2"), ("nan", "T2"), ("inf", "T2"), ("-inf", "T2"), ("1e999", "T2"), ("61 y", "T2"),
                       ('"61,5"', "T2"), ("61", MARK), ("61", "t2"), ("61", "T9"))
})  # fmt: skip
add(
    "nifti",
    "row's formula",
    "corruption",
    {
        value: first(f"P-0001,{value}")
        for value in ('"=1+1",61,T2', "good,=SUM(C2),T2", "#N/A,61,T2", "good,#DIV/0!,T2", "good,61,#REF!")
    },
)
add("nifti", "row of an id without files", "absence", {
    name: first(f'"{name}",good,61,T2')
    for name in (MARK, "../P-0001", "/etc", "P-0001/..", "..", "*", "P-000?", "é", "a\nb", "{case}", "%s")
}, cases=CASES[:1])  # fmt: skip
for _name in (TABLE,):
    everybody("zero-length", "corruption", {_name: rewrite(_name, lambda content: b"")})
    everybody("folder instead", "corruption absence", {_name: folder_instead(_name)})
    everybody("broken link", "absence", {_name: link_instead(_name, "nowhere")})
    everybody("link to itself", "corruption absence", {_name: link_instead(_name, "clinical.csv")})
    everybody("permission", "permission", {_name: Refused(_name)})


def cut_table(length: int) -> str:
    """What is right where the table ends after `length` characters: told by where the cut falls."""
    kept = "\n".join([HEADER, *LINES])[:length].split("\n")
    if len(kept) == 1:
        return "absence" if kept[0] == HEADER else "configuration absence corruption"
    if kept[-1].count(",") < 3:
        return "corruption" if kept[-1] else "ready degenerate absence"  # the end of a line is no sign of a cut
    return "ready mislabelled degenerate"  # within the last cell: empty, or another stage; or one class is left


everybody_cut = {n: cut_table(n) for n in sorted(random.Random(8).sample(range(1, 88), 20))}
for _length, _may in everybody_cut.items():
    everybody("table cut off", _may, {f"after {_length}": rewrite(TABLE, lambda content, n=_length: content[:n])})
everybody("bits of the table", ANYTHING, {f"{n}": flip(TABLE, n) for n in range(12)})


def row(line: str) -> Damage:
    return features(ROWS[0], line, *ROWS[2:])


add("features", "feature not a number", "degenerate", {
    value or "empty": row(f"P-0001,{value},2")
    for value in ("", "nan", "inf", "-inf", MARK, "1e999", "1.5.2", "0x10", "--1", "1 2", "True")
})  # fmt: skip
add(
    "features", "feature formula", "corruption", {value: row(f"P-0001,{value},2") for value in ("=A1", "#N/A", "#NUM!")}
)
add("features", "feature row missing", "absence", {
    "gone": features(ROWS[0], *ROWS[2:]), "another id": row("P-0009,1.5,2"), "empty id": row(",1.5,2"),
    "lower case": row("p-0001,1.5,2"),
})  # fmt: skip
add(
    "features",
    "feature row repeated",
    "mislabelled",
    {
        "same": features(*ROWS, ROWS[1]),
        "other values": features(*ROWS, "P-0001,9,9"),
        "spaces": features(*ROWS, " P-0001 ,1,2"),
    },
)
all_features = partial(add, "features", cases=CASES, site=True)
all_features(
    "feature table, other dialect",
    "ready",
    {
        "BOM": features(*ROWS, encoding="utf-8-sig"),
        "UTF-16": features(*ROWS, encoding="utf-16"),
        "semicolons": features(*map(semicolons, ROWS)),
        "tabs": features(*(line.replace(",", "\t") for line in ROWS)),
        "more rows": features(*ROWS, "Q-1,1,2"),
        "quoted": features(*(",".join(f'"{c}"' for c in line.split(",")) for line in ROWS)),
    },
)
all_features("feature table, columns", "configuration", {
    "no case": features("id,f,g", *ROWS[1:]), "no features": features("case", *CASES),
    "text": features("case,f,g", *(f"{case},1,{MARK}" for case in CASES)), "no header": features(*ROWS[1:]),
    "empty column": features("case,f,g", *(f"{case},1," for case in CASES)), "header only": features(ROWS[0]),
})  # fmt: skip
all_features("feature table, no text", "corruption", {
    "NUL": features(*ROWS, "\0"), "UTF-16 without a mark": features(*ROWS, encoding="utf-16-le"),
    "short row": row("P-0001,1"), "long row": row("P-0001,1,2,3"), "column twice": features("case,f,f", *ROWS[1:]),
    "open quote": row('"P-0001,1,2'), "zero-length": rewrite(FEATURES, lambda content: b""),
})  # fmt: skip
all_features(
    "feature table, decimals",
    "mislabelled",
    {"both": features("case;f;g", "P-0001;1,5;2", "P-0002;1.5;2", *map(semicolons, ROWS[3:]))},
)
all_features("permission", "permission", {FEATURES: Refused(FEATURES)})
all_features("broken link", "absence", {FEATURES: link_instead(FEATURES, "nowhere")})
all_features("folder instead", "corruption absence", {FEATURES: folder_instead(FEATURES)})
all_features("bits of the feature table", ANYTHING, {f"{n}": flip(FEATURES, n) for n in range(8)})


@pytest.mark.usefixtures("no_wait_for_the_disk")
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v.hospital}, {v.family}: {v.name}"[:90])
def test_damage_ends_in_the_right_finding(variant, hospital_of, outcomes, refuse_reading, monkeypatch):
    check(variant, hospital_of(variant.hospital), outcomes, refuse_reading, monkeypatch)


def test_there_are_enough_variants_and_none_is_there_twice():
    assert len(VARIANTS) >= 180
    assert len({(v.hospital, v.family, v.name) for v in VARIANTS}) == len(VARIANTS)
