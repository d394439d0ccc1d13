"""docs/hospital-it.md says of each file of a joined hospital what it is and whether to copy it."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "hospital-it.md"


def described() -> dict[str, str]:
    """Paths to what the page's table says of copying; a name without a root lies in the folder of its row's first."""
    found = {}
    rows = re.findall(r"^\| (`(?:HOME|COURIER)/[^|]*) \|[^|]*\| ([^|]*) \|$", PAGE.read_text(), re.MULTILINE)
    for cell, copy in rows:
        names = re.findall(r"`([^`]+)`", cell)
        folder = names[0].rstrip("/").rpartition("/")[0]
        for name in names:
            found[name if name.startswith(("HOME/", "COURIER/")) else f"{folder}/{name}"] = copy
    return found


def row_of(path: str, rows: dict[str, str]) -> str | None:
    """The row that a file falls under: by its name, a folder above it, or a pattern."""
    for name, copy in rows.items():
        pattern = re.escape(name.rstrip("/")).replace(r"\*", ".*")
        if re.fullmatch(f"{pattern}(/.*)?", path):
            return copy
    return None


class TestTheTable:
    def test_knows_every_file_of_a_joined_hospital(self, hospital):
        rows = described()
        assert len(rows) > 20
        passing = {"HOME/north.request.json"}  # sent, and of no use any more
        files = [f"HOME/{p.relative_to(hospital.home)}" for p in hospital.home.rglob("*") if p.is_file()]
        files += [f"COURIER/{p.relative_to(hospital.courier)}" for p in hospital.courier.rglob("*") if p.is_file()]
        assert {"HOME/gate/site.key", "COURIER/courier.json"} <= set(files)
        assert {name for name in files if row_of(name, rows) is None} - passing == set()

    def test_no_private_key_of_the_hospital_and_no_secret_of_a_sum_is_copied(self):
        rows = described()
        for name in (
            "HOME/gate/site.key",
            "COURIER/courier.key",
            "HOME/gate/sums/x.root",
            "COURIER/state/executor.secret",
        ):
            assert row_of(name, rows).strip("*").split(":")[0].strip("*") in ("no", "never"), name

    def test_ledger_and_audit_chain_are_copied_daily(self):
        for name in ("HOME/gate/ledger.jsonl", "HOME/gate/audit.head"):
            assert "daily" in row_of(name, described())
