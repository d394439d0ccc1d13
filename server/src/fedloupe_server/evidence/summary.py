"""A run in a few rows, for the terminal and for scripts.

for row in summary_table(results): print(row.site, row.auc)
json.dumps(summary_json(results))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, Literal

from fedloupe_server.evidence.results import Results, Scores, SiteResult


@dataclass(frozen=True)
class SummaryRow:
    """One site, or the pooled training sites. AUCs in [0, 1]; None where not computed.

    Attributes:
        n: patients tested (the test split; all patients of a validate-only site).
        events: of them with the event.
        auc, low, high: the federated model with its 95 % interval.
        local_auc: the site's own model; at a validate-only site the mean over the training sites' own models.
        logistic_auc: the federated logistic baseline.
        oracle_auc: the best possible, synthetic studies only; pooled: mean weighted by patients.
        epsilon: record-level, spent by the site; None without DP-SGD.
        baselines: AUC of each further baseline by label; empty in the pooled row.
        personal_auc: the site's personal model made from the federated one; None in a study without.
    """

    site: str
    role: Literal["train", "validate", "pooled"]
    n: int
    events: int
    auc: float
    low: float
    high: float
    local_auc: float | None
    logistic_auc: float | None
    oracle_auc: float | None
    epsilon: float | None
    baselines: dict[str, float] = field(default_factory=dict)
    personal_auc: float | None = None


def summary_table(results: Results) -> list[SummaryRow]:
    """Training sites in the study's order, then the pooled row where there is one, then validate-only sites."""
    train = [_row(site) for site in results.sites if site.role == "train"]
    apart = [_row(site) for site in results.sites if site.role == "validate"]
    if not results.pooled:
        return train + apart
    pooled = SummaryRow(
        site="pooled",
        role="pooled",
        n=results.pooled.patients,
        events=sum(row.events for row in train),
        auc=results.pooled.auc,
        low=results.pooled.low,
        high=results.pooled.high,
        local_auc=results.pooled_local.auc if results.pooled_local else None,
        logistic_auc=None,
        oracle_auc=_oracle([site.federated for site in results.sites if site.role == "train"]),
        epsilon=None,
    )
    return [*train, pooled, *apart]


def summary_json(results: Results) -> dict[str, Any]:
    """The same rows with what identifies the run, ready for `json.dumps`; numbers are not rounded."""
    return {
        "run": results.run,
        "version": results.version,
        "study": results.study,
        "title": results.title,
        "synthetic": results.synthetic,
        "fingerprint": results.fingerprint,
        "seed": results.seed,
        "privacy": results.privacy,
        "client_level": results.client_level.model_dump() if results.client_level else None,
        "threshold": results.threshold,
        "frozen": results.frozen,
        "weights": results.rounds[-1].weights if results.rounds else None,
        "rounds": len(results.rounds),
        "sites": [asdict(row) for row in summary_table(results)],
        "prediction_interval": [results.pooled.prediction_low, results.pooled.prediction_high]
        if results.pooled
        else None,
        "left_out": [
            {
                "site": fold.site,
                "n": fold.federated.patients,
                "auc": fold.federated.auc,
                "low": fold.federated.auc_low,
                "high": fold.federated.auc_high,
                "logistic_auc": fold.logistic.auc if fold.logistic else None,
                "baselines": {label: scores.auc for label, scores in fold.baselines.items()},
            }
            for fold in results.left_out
        ],
    }


def mean_elsewhere(site: SiteResult) -> float | None:
    """Mean AUC of the training sites' own models at a validate-only site."""
    return fmean(scores.auc for scores in site.local_elsewhere) if site.local_elsewhere else None


def _row(site: SiteResult) -> SummaryRow:
    federated = site.federated
    return SummaryRow(
        site=site.site,
        role=site.role,
        n=federated.patients,
        events=federated.positives,
        auc=federated.auc,
        low=federated.auc_low,
        high=federated.auc_high,
        local_auc=mean_elsewhere(site) if site.role == "validate" else site.local.auc if site.local else None,
        logistic_auc=site.logistic.auc if site.logistic else None,
        oracle_auc=federated.reference_auc,
        epsilon=site.epsilon,
        baselines={label: scores.auc for label, scores in site.baselines.items()},
        personal_auc=site.personal.auc if site.personal else None,
    )


def _oracle(scores: Sequence[Scores]) -> float | None:
    known = [(s.reference_auc, s.patients) for s in scores if s.reference_auc is not None]
    return sum(a * n for a, n in known) / sum(n for _, n in known) if known else None
