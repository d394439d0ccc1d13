"""The answer in the terminal: the verdict, what to fix, and where the page is. No local names.

say_result(seen.result, page)
"""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from fedloupe.terminal import console
from fedloupe_client.preflight.check import Preflight
from fedloupe_client.preflight.page import duration, verdict


def say_result(result: Preflight, page: Path) -> None:
    """Print it."""
    style = "bold green" if result.ready else "bold red"
    console.print(f"[bold]{result.site}[/] for {result.study}: [{style}]{verdict(result)}[/]", highlight=False)
    statuses = ", ".join(f"{n} {status}" for status, n in result.statuses.items())
    splits = ", ".join(f"{n} {name}" for name, n in result.patients.items())
    took = "no dry round: " + result.rehearsal_note
    if result.rehearsal is not None:
        done = result.rehearsal
        each = "scoring" if done.work == "validate" else "round"
        took = f"{done.seconds:.1f} s and {done.peak_bytes / 2**30:.1f} GiB a {each} here"
        took += f", the whole study about {duration(done.study_seconds)}"
    facts = {
        "cases": statuses,
        "patients": f"{splits}; {result.events} with the event",
        "features": str(result.features),
        "training": took,
        "connection": result.connection.state,
        "engine": "not needed" if result.machine.engine is None else result.machine.engine.line,
        "fingerprint": result.fingerprint,
        "approved": "yes" if result.approved else "not yet",
    }
    if result.budget is not None:
        b = result.budget
        facts["privacy"] = (
            f"epsilon {b.spent:.3g} spent, {b.planned:.3g} planned for {b.rounds} rounds, {b.after:.3g} after them, "
            f"of {b.budget:g} at delta {b.delta:g}"
        )
    if result.drawn:
        facts["masks"] = f"{result.drawn} drawn by a model, the others the site's own"
    for key, value in facts.items():
        console.print(f"{key:12} {value}", highlight=False, markup=False)
    table = Table("", "code", "kind", "cases", "what", "do")
    for finding in result.findings:
        count = str(len(finding.cases)) if finding.cases else ""
        table.add_row(finding.severity, finding.code, finding.kind, count, finding.what, finding.remedy)
    if table.row_count:
        console.print(table)
    console.print(f"Pictures, files and commands: {page} (stays here)", style="dim", soft_wrap=True)
    if result.ready and not result.approved:
        console.print("Next: read the study, then `fedloupe-site approve`.", style="yellow")
