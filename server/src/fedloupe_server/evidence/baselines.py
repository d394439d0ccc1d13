"""What the federated model is held against: which baselines a run has, beside it site by site, and who did as well.

against(results), without_a_site(results)      # lists of sentences
table(results), left_out(results)              # every model with its interval, or None
"""

from __future__ import annotations

from statistics import fmean

from fedloupe.metrics import PooledAuc, pool_auc
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.drawing import Cell
from fedloupe_server.evidence.results import LeftOut, Results, Scores, SiteResult
from fedloupe_server.evidence.tables import AUC, Table, auc_values

NAMES = {"logistic": "Federated logistic", "clinical": "Clinical only", "trees": "Federated trees"}
SENTENCES = {
    "logistic": "federated logistic baseline",
    "clinical": "clinical-only baseline",
    "trees": "federated tree baseline",
}


def scored(at: SiteResult | LeftOut) -> dict[str, Scores]:
    """Every baseline's scores at a site, or where it was left out, by label; the logistic one first."""
    return ({"logistic": at.logistic} if at.logistic else {}) | at.baselines


def labels(results: Results) -> list[str]:
    """Labels of the baselines that this run has, in the order of `NAMES`."""
    places: list[SiteResult | LeftOut] = [*results.sites, *results.left_out]
    found = {label for at in places for label in scored(at)}
    return sorted(found, key=list(NAMES).index)


def against(results: Results) -> list[str]:
    """Each baseline beside the federated model on the same patients: where it does as well, by name."""
    said = []
    for label in labels(results):
        pairs = [(s.site, s.federated, scored(s)[label]) for s in results.sites if label in scored(s)]
        behind = [n for n, fed, simple in pairs if formats.gain(fed.auc, simple.auc) <= 0]
        sites = formats.count(len(pairs), "site")
        if behind:
            said.append(
                f"The simpler {SENTENCES[label]} does as well or better at {len(behind)} of {sites}: "
                f"{formats.listed(behind)}."
            )
        elif pairs:
            said.append(f"It is above the {SENTENCES[label]} at all {sites}.")
    return said


def without_a_site(results: Results) -> list[str]:
    """Leave-one-site-out: mean AUCs of all models, and each baseline that is as good where the site was left out."""
    if not results.left_out:
        return []
    mean = fmean(fold.federated.auc for fold in results.left_out)
    means = [f"{SENTENCES[label].removeprefix('federated ')} {formats.auc(m)}" for label, m in _means(results).items()]
    said = [
        f"Leaving each training site out in turn, the mean AUC at the site left out is {formats.auc(mean)}"
        + (f" ({', '.join(means)})." if means else ".")
    ]
    for label in labels(results):
        pairs = [(f.site, f.federated, scored(f)[label]) for f in results.left_out if label in scored(f)]
        behind = [n for n, fed, simple in pairs if formats.gain(fed.auc, simple.auc) <= 0]
        if behind:
            said.append(
                f"There the {SENTENCES[label]} does as well or better at {len(behind)} of "
                f"{formats.count(len(pairs), 'site')}: {formats.listed(behind)}."
            )
    return said


def table(results: Results) -> Table | None:
    """Federated model and every baseline at each site, on the same patients, with intervals; then the pooled ones."""
    known = labels(results)
    if not known:
        return None
    rows = [(s.site, _cell(s.federated), *(_cell(scored(s).get(label)) for label in known)) for s in results.sites]
    numbers: list[tuple[Cell, ...]] = [
        (s.site, *(v for scores in (s.federated, *map(scored(s).get, known)) for v in auc_values(scores)))
        for s in results.sites
    ]
    train = [s for s in results.sites if s.role == "train"]
    if len(train) > 1:
        columns = [[s.federated for s in train], *([scored(s)[x] for s in train if x in scored(s)] for x in known)]
        means = [_pooled(column) for column in columns]
        shown = (formats.with_interval(m.auc, m.low, m.high) if m else formats.ABSENT for m in means)
        rows.append(("Pooled, training sites", *shown))
        values = [(m.auc, m.low, m.high) if m else (None, None, None) for m in means]
        numbers.append(("Pooled, training sites", *(v for triple in values for v in triple)))
    return Table(
        "AUC of the federated model and of each baseline on the same patients (95 % interval)",
        ("Site", "Federated", *(NAMES[label] for label in known)),
        tuple(rows),
        frozenset(i for i, s in enumerate(results.sites) if s.role == "validate"),
        ("site", *(f"{label}_{column}" for label in ("federated", *known) for column in AUC)),
        tuple(numbers),
    )


def left_out(results: Results) -> Table | None:
    """Leave-one-site-out in numbers."""
    if not results.left_out:
        return None
    known = [x for x in labels(results) if any(x in scored(fold) for fold in results.left_out)]
    return Table(
        "AUC at each site, all its patients, of models that were fitted without it (95 % interval)",
        ("Site left out", "Patients", "Events", "Federated", *(NAMES[label] for label in known)),
        tuple(
            (
                fold.site,
                str(fold.federated.patients),
                str(fold.federated.positives),
                _cell(fold.federated),
                *(_cell(scored(fold).get(label)) for label in known),
            )
            for fold in results.left_out
        ),
        columns=("site", "patients", "events", *(f"{x}_{column}" for x in ("federated", *known) for column in AUC)),
        numbers=tuple(
            (
                *(fold.site, fold.federated.patients, fold.federated.positives),
                *(v for scores in (fold.federated, *map(scored(fold).get, known)) for v in auc_values(scores)),
            )
            for fold in results.left_out
        ),
    )


def _means(results: Results) -> dict[str, float]:
    found = {x: [scored(f)[x].auc for f in results.left_out if x in scored(f)] for x in labels(results)}
    return {label: fmean(aucs) for label, aucs in found.items() if aucs}


def _cell(scores: Scores | None) -> str:
    return formats.with_interval(scores.auc, scores.auc_low, scores.auc_high) if scores else formats.ABSENT


def _pooled(scores: list[Scores]) -> PooledAuc | None:
    known = [(s.auc, s.auc_se, s.patients) for s in scores if s.poolable]
    return pool_auc(known) if len(known) > 1 else None
