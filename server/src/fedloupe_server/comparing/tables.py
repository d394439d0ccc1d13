"""A comparison for people: the same tables for the terminal (Rich) and for a page (Markdown).

for table in comparison_tables(comparison, costs): console.print(table)
(folder / "comparison.md").write_text(comparison_page(comparison, costs))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich import box
from rich.table import Table

from fedloupe_server.comparing.record import Comparison, Costs, Difference, Estimate, Regime

CAPTION = (
    "AUC, mean over seeds (95 % interval). federated: one model, data stay; pooled: all training patients in one "
    "place, which only a simulation can do; local: each site's own model, their mean. "
    "Research use only, not a medical device"
)
PAIRED = (
    "Same patients, paired. An interval that holds 0 says that the data do not tell the two apart, not that they are "
    "equal; p-values are not adjusted for their number"
)
WORDS: dict[Regime, str] = {
    "federated": "federated",
    "pooled": "pooled",
    "local": "local",
    "baseline": "baseline",
    "oracle": "true probability",
}


@dataclass(frozen=True)
class Grid:
    """A table before it is drawn."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str


def comparison_tables(comparison: Comparison, costs: Mapping[str, Costs]) -> list[Table]:
    """The tables for a terminal."""
    tables = []
    for grid in _grids(comparison, costs):
        table = Table(
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            title=grid.title,
            title_justify="left",
            caption=grid.caption,
            caption_justify="left",
        )
        for number, name in enumerate(grid.header):
            table.add_column(name, justify="right" if number else "left")
        for row in grid.rows:
            table.add_row(*row)
        tables.append(table)
    return tables


def comparison_page(comparison: Comparison, costs: Mapping[str, Costs]) -> str:
    """The page, `comparison.md`."""
    setting = comparison.setting
    data = "SYNTHETIC data. " if setting.synthetic else ""
    folds = f" of {setting.folds} folds" if setting.folds else ""
    lines = [
        f"# {setting.title}: compared",
        "",
        f"{data}Study `{setting.study}`, fingerprint `{setting.fingerprint[:16]}`, FedLoupe {setting.version}. "
        f"Design: {setting.design}{folds}; seeds {', '.join(map(str, setting.seeds))}; "
        f"{setting.rounds} rounds of {setting.local_epochs} epochs.",
    ]
    for grid in _grids(comparison, costs):
        lines += ["", f"## {grid.title}", "", _line(grid.header), _line(("---",) * len(grid.header))]
        lines += [_line(row) for row in grid.rows]
        lines += ["", grid.caption + "."]
    return "\n".join(lines) + "\n"


def verdict(difference: Difference) -> str:
    """What the interval carries, and no more; where no patient parts the two models there is none."""
    if difference.low == difference.high:
        return "these patients ranked alike"
    if difference.low > 0:
        return "higher"
    return "lower" if difference.high < 0 else "not told apart"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _grids(comparison: Comparison, costs: Mapping[str, Costs]) -> tuple[Grid, ...]:
    setting = comparison.setting
    what = "Which architecture" if setting.kind == "architectures" else "Which inputs"
    synthetic = "SYNTHETIC data: " if setting.synthetic else ""
    models = list(dict.fromkeys((e.group, e.regime) for e in comparison.estimates))
    places = comparison.places
    estimates = tuple(
        (group, WORDS[regime], *(_cell(comparison.estimate(group, regime, place)) for place in places))
        for group, regime in models
    )
    patients = {place: max(e.patients for e in comparison.estimates if e.place == place) for place in places}
    notes = "".join(f". {note}" for note in comparison.footnotes)
    header = ("model", "trained", *(f"{place} ({patients[place]} patients)" for place in places))
    differences = tuple(
        (f"{_name(d.first, d.first_regime)} - {_name(d.second, d.second_regime)}", d.place, *_difference(d))
        for d in comparison.differences
    )
    return (
        Grid(f"{synthetic}{what}, and was federation worth it?", header, estimates, CAPTION + notes),
        Grid("Differences in AUC", ("first - second", "place", "difference", "p", "in words"), differences, PAIRED),
        Grid(
            "Size and time",
            ("model", "parameters", "federated", "local", "pooled"),
            tuple(
                (
                    group,
                    str(comparison.parameters[group]),
                    *(f"{s:.0f} s" if s else "-" for s in costs[group].model_dump().values()),
                )
                for group in setting.groups
            ),
            "CPU seconds of training one whole model, summed over the sites, mean over runs; other work on the same "
            "machine lengthens them",
        ),
    )


def _cell(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.auc:.3f} ({estimate.low:.3f}-{estimate.high:.3f})"


def _difference(difference: Difference) -> tuple[str, str, str]:
    if difference.low == difference.high:
        return f"{difference.difference:+.3f}", "-", verdict(difference)
    interval = f"{difference.difference:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
    return interval, f"{difference.p:.3f}" if difference.p >= 0.001 else "<0.001", verdict(difference)


def _name(group: str, regime: Regime) -> str:
    return group if regime in ("baseline", "oracle") else f"{group}, {WORDS[regime]}"
