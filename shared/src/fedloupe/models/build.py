"""From a study to a model with its initial parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedloupe.models.base import RadiomicsModel
from fedloupe.models.cnn import RadiomicsCnn
from fedloupe.models.gcn import RadiomicsGcn
from fedloupe.models.inputs import Schema
from fedloupe.models.linear import RadiomicsLogistic
from fedloupe.models.transformer import RadiomicsTransformer
from fedloupe.study import Study


def build_model(study: Study, schema: Schema) -> RadiomicsModel:
    """The model of the study's architecture, initialised from its seed; leaves the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(study.seed)
        match study.model.architecture:
            case "transformer":
                return RadiomicsTransformer(study.model, schema)
            case "cnn":
                return RadiomicsCnn(study.model, schema)
            case "gcn":
                return RadiomicsGcn(study.model, schema, {s.name: s.modality for s in study.sequences})
            case "logistic":
                return RadiomicsLogistic(study.model, schema)


def start_at_logistic(model: RadiomicsModel, beta: NDArray[Any]) -> RadiomicsModel:
    """The model whose logit is that of logistic regression with these coefficients: training adds what is not linear.

    Args:
        model: changed in place.
        beta: (1 + G*K + V), in the order of `design_matrix`.
    """
    with torch.no_grad():
        if not isinstance(model, RadiomicsLogistic):
            model.deep.weight.zero_()
            model.deep.bias.zero_()
        model.wide.weight.copy_(torch.from_numpy(np.asarray(beta[1:], dtype=np.float32)[None]))
        model.wide.bias.fill_(float(beta[0]))
    return model
