"""What the report says of harmonisation, and the sites that never trained under both rules for their shifts.

words(results), unseen(results)
"""

from __future__ import annotations

from fedloupe_server.evidence import formats
from fedloupe_server.evidence.results import Beside, Results, Scores
from fedloupe_server.evidence.tables import AUC, Table, auc_values

RULES = {"estimate": "own shift taken out", "none": "as measured"}


def words(results: Results) -> list[str]:
    """How scanners' shifts were taken out; nothing where they were not."""
    by = results.harmonised
    if by is None:
        return []
    way = "with empirical Bayes" if by.empirical_bayes else "without empirical Bayes"
    parts = "shifts alone" if by.mean_only else "shifts and widths"
    kept = f", keeping the effect of {formats.listed(list(by.covariates))}" if by.covariates else ""
    batch = "The hospital" if by.batch is None else f"The column {by.batch} of the clinical table"
    said = [
        f"Features were harmonised by ComBat {way}: {parts} were taken out{kept}.",
        f"{batch} is the batch; the training sites have {sum(by.batches.values())} of them.",
        "What the sites share was fitted on training patients from sums and frozen; each site's shift stayed there.",
    ]
    if by.reference:
        said.append(f"The others were brought to {by.reference}, which stayed as it is.")
    if by.small_batches:
        few = sum(by.small_batches.values())
        said.append(
            f"{formats.count(few, 'batch', 'batches')} with few training patients had only the shift taken out."
        )
    said.append(
        "At a site that did not train, the declared rule is "
        + (
            "to take out its own shift, estimated from its unlabelled patients and the frozen prior."
            if by.unseen == "estimate"
            else "to take its features as measured."
        )
    )
    if by.unseen == "estimate":
        said.append("That shift rests on the site's whole group of patients: a single new patient does not have one.")
    return said


def unseen(results: Results) -> Table | None:
    """External sites and sites left out, as declared and under the other rule."""
    rows = [(s.site, "external", s.federated, s.logistic, s.beside) for s in results.sites if s.beside]
    rows += [(f.site, "left out", f.federated, f.logistic, f.beside) for f in results.left_out if f.beside]
    if results.harmonised is None or not rows:
        return None
    declared = results.harmonised.unseen
    other = "none" if declared == "estimate" else "estimate"
    return Table(
        "Sites that did not train, with their own shift taken out and as measured; the declared rule comes first",
        (
            "Site",
            "",
            f"Federated, {RULES[declared]}",
            f"Federated, {RULES[other]}",
            f"Logistic, {RULES[declared]}",
            f"Logistic, {RULES[other]}",
        ),
        tuple(
            (site, part, _auc(fed), _auc(beside.federated), _auc(logistic), _auc(beside.logistic))
            for site, part, fed, logistic, beside in rows
            if isinstance(beside, Beside)
        ),
        columns=(
            "site",
            "part",
            *(f"{m}_{r}_{c}" for m in ("federated", "logistic") for r in (declared, other) for c in AUC),
        ),
        numbers=tuple(
            (site, part, *(v for s in (fed, b.federated, logistic, b.logistic) for v in auc_values(s)))
            for site, part, fed, logistic, b in rows
            if isinstance(b, Beside)
        ),
    )


def _auc(scores: Scores | None) -> str:
    if scores is None:
        return formats.ABSENT
    return formats.with_interval(scores.auc, scores.auc_low, scores.auc_high)
