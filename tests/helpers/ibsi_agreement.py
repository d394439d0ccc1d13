"""How many of IBSI-1's published values the engine offers and meets, as the table of docs/radiomics.md.

    python tests/helpers/ibsi_agreement.py FOLDER      # FOLDER holds the CT phantom and its reference values

A cell is "published / offered / within tolerance".
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from fedloupe_client.radiomics.conformance import Consensus, consensus, phantom_values
from ibsi_ct_phantom import CONFIGURATIONS, computed, read_phantom, reference

FAMILIES = (
    "shape", "spatial", "local", "firstorder", "histogram", "ivh",
    "glcm", "glrlm", "glszm", "gldzm", "ngtdm", "ngldm",
)  # fmt: skip
NAMES = {"phantom": "digital phantom", "a": "CT phantom A", "b": "CT phantom B", "c": "CT phantom C"}
MARKS = ("<!-- ibsi-agreement -->\n", "<!-- /ibsi-agreement -->")
Cells = dict[str, str]


def cells(found: Mapping[str, float], published: Mapping[str, Consensus]) -> Cells:
    """One column: a cell for each family, and "all"."""
    column = {}
    for family in (*FAMILIES, "all"):
        tags = [tag for tag, item in published.items() if family in ("all", item.family)]
        offered = [tag for tag in tags if tag in found]
        within = [tag for tag in offered if published[tag].allows(found[tag])]
        column[family] = f"{len(tags)} / {len(offered)} / {len(within)}"
    return column


def digital_phantom() -> Cells:
    """The column that needs no data."""
    return cells(phantom_values(), consensus())


def ct_phantom(folder: Path) -> dict[str, Cells]:
    """The columns of configurations A to C."""
    phantom = read_phantom(folder / "ibsi_1_ct_radiomics_phantom_dicom.tar.xz")
    return {name: cells(computed(phantom, c), reference(folder, name)) for name, c in CONFIGURATIONS.items()}


def table(columns: Mapping[str, Cells]) -> str:
    """In Markdown."""
    lines = ["| family | " + " | ".join(NAMES[name] for name in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {family} | " + " | ".join(column[family] for column in columns.values()) + " |"
        for family in (*FAMILIES, "all")
    ]
    return "\n".join(lines)


def shown(page: str) -> dict[str, Cells]:
    """The table that a page holds, by the keys of `NAMES`."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.split(MARKS[0])[1].split(MARKS[1], maxsplit=1)[0].strip().splitlines()
    ]
    keys = [next(key for key, name in NAMES.items() if name == heading) for heading in rows[0][1:]]
    return {key: {row[0]: row[place] for row in rows[2:]} for place, key in enumerate(keys, start=1)}


if __name__ == "__main__":
    print(table({"phantom": digital_phantom(), **ct_phantom(Path(sys.argv[1]))}))
