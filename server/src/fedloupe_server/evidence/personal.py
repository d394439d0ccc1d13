"""Sentences about models that sites made their own, beside the federated one on the same test patients.

against(results)                       # [] in a study without `personalisation`
"""

from __future__ import annotations

from statistics import median

from fedloupe_server.evidence import formats
from fedloupe_server.evidence.results import Results

_MADE = {
    "fine-tune": "trained a little longer at the site, on its own patients",
    "local-norm": "with normalisation layers that stayed at the site",
}
_UNSEEN = {
    "fine-tune": "A hospital that never trained has none: there the federated model is judged.",
    "local-norm": "A hospital that never trained has none: it gets the mean of the sites' normalisation layers, which "
    "is the federated model.",
}


def against(results: Results) -> list[str]:
    """Where the personal models are above the federated one, and where they are not, by name."""
    pairs = [(s.site, s.federated, s.personal) for s in results.sites if s.personal]
    if results.personalised is None or not pairs:
        return []
    gains = {name: formats.gain(own.auc, fed.auc) for name, fed, own in pairs}
    better = [name for name, gain in gains.items() if gain > 0]
    said = [
        f"The personal model ({_MADE[results.personalised]}) has a higher AUC than the federated one at {len(better)} "
        f"of {formats.count(len(pairs), 'training site')} on the same test patients (median difference "
        f"{formats.difference(median(gains.values()))}); no paired test was made."
    ]
    if worse := [
        f"{name} ({formats.auc(own.auc)} against {formats.auc(fed.auc)})" for name, fed, own in pairs if gains[name] < 0
    ]:
        said.append(f"It is below the federated one at {formats.listed(worse)}.")
    return [*said, f"Personal models never leave their sites. {_UNSEEN[results.personalised]}"]
