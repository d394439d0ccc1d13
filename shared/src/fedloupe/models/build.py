"""From a study to a model with its initial parameters."""

from __future__ import annotations

import torch

from fedloupe.models.inputs import Schema
from fedloupe.models.transformer import RadiomicsTransformer
from fedloupe.study import Study


def build_model(study: Study, schema: Schema) -> RadiomicsTransformer:
    """The study's model, initialised from the study's seed; leaves the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(study.seed)
        return RadiomicsTransformer(study.model, schema)
