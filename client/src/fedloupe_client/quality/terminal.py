"""A site's own table on the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from fedloupe.terminal import console
from fedloupe_client.quality.own import OwnQuality


def say_quality(found: OwnQuality, path: Path) -> None:
    """Offered and repeatable features by filter and by family, with the share that each kind of perturbation leaves."""
    kinds = list(dict.fromkeys(kind for row in found.by_family for kind in row.kinds))
    for title, rows in (("by filter", found.by_filter), ("by family", found.by_family)):
        table = Table("group", "offered", "repeatable", "median ICC", *kinds, title=title, title_justify="left")
        for row in rows:
            median = "" if row.median is None else f"{row.median:.2f}"
            shares = [f"{100 * row.kinds[kind]:.0f} %" if kind in row.kinds else "" for kind in kinds]
            table.add_row(row.group, str(row.offered), str(row.stable), median, *shares)
        console.print(table)
    console.print(
        f"[bold]{found.site}[/]: {found.patients} own training patients; the federation's list rests on all sites."
    )
    console.print(f"Every feature: {path} (stays here)", style="dim", highlight=False)
