"""What a study lets one say before any hospital has been asked: the size of its model, and what its privacy will do.

groups_of(study)         # ("shape", "t2w")
parameters_of(study)     # 48_321
privacy_lines(study)     # for the terminal
"""

from __future__ import annotations

from fedloupe.features import feature_table, parse_settings
from fedloupe.models import Schema, build_model, flatten, group_order
from fedloupe.study import ClientDp, Study, privacy_in_words, sees_group
from fedloupe_server.evidence import private
from fedloupe_server.federation.client_level import noise_multiplier


def groups_of(study: Study) -> tuple[str, ...]:
    """Groups of the feature columns; a ready-made table counts as one."""
    if study.radiomics.source == "table":
        return ("table",)
    if study.radiomics.source == "none":
        return ()
    columns = feature_table(parse_settings(study.radiomics.settings), [s.name for s in study.sequences]).groups
    return tuple(group for group in group_order(columns) if sees_group(study, group))


def parameters_of(study: Study) -> int:
    """Parameters of the model that the study trains; not for a drawing study."""
    return len(flatten(build_model(study, Schema.of(study, groups_of(study)))))


def privacy_lines(study: Study) -> list[str]:
    """The study's privacy: its level, and under client-level privacy its noise, and whether the hospitals are too few.

    Raises:
        NoNoiseSuffices: no noise keeps the study's rounds within its epsilon.
    """
    privacy = study.privacy
    said = f"privacy      {privacy_in_words(privacy)}"
    if not isinstance(privacy, ClientDp):
        return [said]
    hospitals, noise = len(study.train_sites), noise_multiplier(privacy, study.training.rounds)
    size = parameters_of(study)
    few = private.too_few(noise, size, hospitals)
    seen = "the sum of clipped updates" if study.aggregation == "secure" else "each hospital's clipped update"
    return [
        said,
        f"noise        {noise:g} times the clipping bound in each of {study.training.rounds} rounds, against whoever "
        f"receives the models; the coordinator sees {seen} without it",
        *([f"too few      {few}"] if few else []),
    ]
