"""What the logistic baselines see of a patient, and what they say: radiomics components and clinical values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fedloupe.models.inputs import Inputs


def design_matrix(inputs: Inputs) -> NDArray[np.float64]:
    """(B, 1 + G*K + V): intercept, components, clinical values; missing values stand at their mean, zero."""
    radiomics = (inputs.radiomics * inputs.radiomics_present.unsqueeze(-1)).flatten(1).double().cpu().numpy()
    clinical = (inputs.clinical * inputs.clinical_present).double().cpu().numpy()
    return np.concatenate([np.ones((len(inputs), 1)), radiomics, clinical], axis=1)


def logistic_probability(inputs: Inputs, beta: NDArray[Any]) -> NDArray[np.float64]:
    """(B) probability of the endpoint under coefficients `beta` (1 + G*K + V)."""
    return np.asarray(expit(design_matrix(inputs) @ beta), dtype=np.float64)
