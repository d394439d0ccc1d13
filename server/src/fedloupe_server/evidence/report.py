"""One self-contained HTML file that says what was found, and how sure one may be.

path = write_report(results, Path("runs/demo/pack"))     # report.html, figures/*.svg and *.csv, tables/*.csv
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateNotFound
from markupsafe import Markup

from fedloupe.errors import FedLoupeError
from fedloupe.study import CLIENT, RECORD, Study
from fedloupe_server.evidence import (
    baselines,
    before,
    cohort_tables,
    decision,
    fairness,
    formats,
    grades,
    making,
    meta,
    paired,
    pooled_curves,
    predicting,
    private,
    recalibration,
    scanners,
    smooth,
    subgroups,
    wording,
)
from fedloupe_server.evidence.drawing import Figure
from fedloupe_server.evidence.results import Results
from fedloupe_server.evidence.sections import FIGURES, SECTIONS, STUDIED, TABLES, Section, draw, tabulate

SPEAKING = {
    "words": wording,
    "private": private,
    "baselines": baselines,
    "before": before,
    "cohort_tables": cohort_tables,
    "decision": decision,
    "fairness": fairness,
    "formats": formats,
    "grades": grades,
    "meta": meta,
    "paired": paired,
    "pooled_curves": pooled_curves,
    "predicting": predicting,
    "recalibration": recalibration,
    "scanners": scanners,
    "making": making,
    "smooth": smooth,
    "subgroups": subgroups,
}
"""Modules whose sentences the sections' templates ask for."""


class ReportUnwritable(FedLoupeError):
    """The report's folder cannot be written."""

    code = "FL-813"
    title = "report cannot be written"


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page."""

    label: str
    value: str
    note: str
    kind: str = ""


def write_report(results: Results, folder: Path, study: Study | None = None) -> Path:
    """Write `report.html` and every figure as SVG and CSV; the same results give the same bytes.

    Each file appears whole or not at all; the page comes last. Without the study the page lacks what only it says.

    Returns:
        The path of `report.html`.

    Raises:
        ReportUnwritable: the folder or a file cannot be written.
    """
    figures, tabled = draw(results), tabulate(results, study)
    page = render(results, figures, study)
    files: dict[str, str | None] = {}
    for name in FIGURES:
        files[f"figures/{name}.svg"] = figures[name].svg if name in figures else None
        files[f"figures/{name}.csv"] = figures[name].csv if name in figures else None
    for name in (*TABLES, *STUDIED):
        files[f"tables/{name}.csv"] = tabled[name].csv if name in tabled else None
    try:
        for name in ("figures", "tables"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            if text is None:  # an older report of this run may have had one
                (folder / path).unlink(missing_ok=True)
            else:
                _write(folder / path, text)
        return _write(folder / "report.html", page)
    except OSError as error:
        raise ReportUnwritable(
            f"writing failed: {error.strerror or error}",
            where=str(folder),
            remedy="check that the folder may be written and the disk has room, then run `fedloupe report` again",
        ) from None


def render(results: Results, figures: dict[str, Figure], study: Study | None = None) -> str:
    """The page as text; sections without content are left out."""
    environment = Environment(
        loader=PackageLoader("fedloupe_server.evidence", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    source = environment.loader
    style = source.get_source(environment, "report.css")[0] if source else ""
    context: dict[str, object] = {
        **SPEAKING,
        "results": results,
        "study": study,
        "tabled": tabulate(results, study),
        "tiles": tiles(results),
        "apart": wording.validating(results),
        "best": [s.federated.reference_auc for s in results.sites if s.federated.reference_auc is not None],
        # Figures and style are made here and in the package, every name escaped, and so may enter the page as they are.
        "figures": {name: Markup(figure.svg) for name, figure in figures.items()},
        "style": Markup(style),
    }
    bodies = [(section, _body(environment, section, context)) for section in SECTIONS]
    shown = [{"id": s.id, "title": s.title, "short": s.short, "body": Markup(body)} for s, body in bodies if body]
    page = environment.get_template("report.html").render(context, sections=shown)
    return page.replace(" %", "\u00a0%")  # a number and its sign stay on one line


def _body(environment: Environment, section: Section, context: dict[str, object]) -> str:
    """A section as its template renders it, escaped there; nothing where it has no template, or nothing to say."""
    try:
        template = environment.get_template(f"sections/{section.id}.html")
    except TemplateNotFound:
        return ""
    return template.render(context).strip()


def tiles(results: Results) -> list[Tile]:
    """The first look: pooled, external, own models, privacy."""
    found = []
    if pooled := results.pooled:
        note = f"95 % interval {formats.interval(pooled.low, pooled.high)}"
        found.append(Tile(f"Pooled AUC, {formats.count(pooled.sites, 'training site')}", formats.auc(pooled.auc), note))
    apart = wording.validating(results)
    if len(apart) == 1:
        s = apart[0].federated
        note = f"95 % interval {formats.interval(s.auc_low, s.auc_high)}"
        found.append(Tile(f"AUC at {apart[0].site}, external", formats.auc(s.auc), note, "external"))
    elif apart:
        aucs = [s.federated.auc for s in apart]
        value = f"{formats.auc(min(aucs))}–{formats.auc(max(aucs))}"
        found.append(Tile(f"AUC at {len(apart)} external sites", value, "range; intervals below", "external"))
    pairs = [(s.federated, s.local) for s in results.sites if s.local]
    if pairs:
        better = sum(formats.gain(fed.auc, own.auc) > 0 for fed, own in pairs)
        found.append(Tile("Above the site's own model", f"{better} of {len(pairs)}", "training sites, by AUC"))
    spent = [s.epsilon for s in results.sites if s.epsilon is not None]
    if account := results.client_level:
        note = f"{CLIENT}; not against the coordinator"
        found.append(Tile("Privacy", f"ε {formats.epsilon(account.epsilon)}", note))
    elif wording.is_private(results):
        value = f"ε {formats.epsilon(max(spent))}" if spent else formats.ABSENT
        found.append(Tile("Privacy", value, f"largest spent by a site; {RECORD}"))
    else:
        found.append(Tile("Privacy", "None formal", "weights left without noise", "warning"))
    return found


def _write(path: Path, text: str) -> Path:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)
    return path
