"""Before a private study: has this site patients enough for the noise that its epsilon asks for?"""

from __future__ import annotations

from fedloupe.privacy import FEW, too_few
from fedloupe.study import DpSgd, Study
from fedloupe_client.preflight.findings import FewForNoise, Finding
from fedloupe_client.training.private import planned_spend


def few_for_noise(study: Study, patients: int) -> list[Finding]:
    """A warning where a private study asks a small site to train; `patients` are those who train."""
    privacy = study.privacy
    if not isinstance(privacy, DpSgd) or not too_few(patients, privacy.epsilon):
        return []
    spend = planned_spend(study, privacy)
    drawn = round(spend.sampling_rate * patients)
    error = FewForNoise(
        f"{patients} patients train here, fewer than {FEW}, at epsilon {privacy.epsilon:g}: a step draws {drawn} of "
        f"them and adds noise as large as {spend.noise_multiplier:.3g} of them could move the model at most",
        remedy="expect a weaker model (docs/privacy.md has what was measured); more patients or a larger epsilon help, "
        "and so does a smaller model",
    )
    return [Finding.of(error, "warning")]
