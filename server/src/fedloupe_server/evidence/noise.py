"""What noise cost, as far as a run knows it, and a plain sentence where it destroyed the model.

destroyed(results)      # at either level of privacy: one sentence or none, for the first page
cost(results)           # record-level: sentences beside the epsilon that was spent
"""

from __future__ import annotations

from fedloupe.privacy import FEW, too_few
from fedloupe_server.evidence import formats
from fedloupe_server.evidence.results import Results


def destroyed(results: Results) -> list[str]:
    """That nothing is left of the model, where no group of patients that it was tested on shows otherwise."""
    epsilon = results.client_level.epsilon if results.client_level else results.planned_epsilon
    if epsilon is None:
        return []
    tested = [(s.federated.auc, s.federated.auc_low) for s in results.sites if s.role == "validate"]
    if results.pooled:
        tested.append((results.pooled.auc, results.pooled.low))
    if not tested:
        tested = [(s.federated.auc, s.federated.auc_low) for s in results.sites]
    if any(low > 0.5 for _, low in tested):
        return []
    best = max(auc for auc, _ in tested)
    return [
        f"At epsilon {formats.epsilon(epsilon)} nothing shows that this model is better than chance (highest AUC "
        f"{formats.auc(best)}, every interval holds 0.5): the noise has most likely destroyed it. Do not use it. More "
        f"{'hospitals' if results.client_level else 'training patients'}, a smaller model or a larger epsilon would be "
        "needed."
    ]


def cost(results: Results) -> list[str]:
    """What is known of the price: who had few patients for it, and that this run cannot tell the rest."""
    planned = results.planned_epsilon
    if planned is None:
        return []
    few = [f"{s.site} ({s.train})" for s in results.sites if s.role == "train" and too_few(s.train, planned)]
    said = []
    if few:
        said.append(
            f"Fewer than {FEW} training patients at epsilon {planned:g}, so that these sites' noise weighs heavily: "
            f"{formats.listed(few)}."
        )
    return [
        *said,
        "What the noise cost in AUC is not known from this run: the same training without noise was not done, because "
        "its weights would have been outside the account. docs/privacy.md of FedLoupe has what was measured elsewhere, "
        "by epsilon, model and number of patients.",
    ]  # fmt: skip
