"""The federated logistic baseline: ridge logistic regression on radiomics components and clinical values."""

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


def newton_step(
    beta: NDArray[np.float64], gradient: NDArray[Any], hessian: NDArray[Any], ridge: float
) -> NDArray[np.float64]:
    """The step of penalised Newton for ridge logistic regression; the intercept is not penalised.

    Args:
        beta: (1+q) current coefficients.
        gradient: (1+q) of the log-likelihood at `beta`, summed over patients.
        hessian: (1+q, 1+q) negative Hessian, summed over patients.
        ridge: lambda of lambda/2 |beta|^2.

    Returns:
        (1+q) what to add to `beta`.
    """
    penalty = np.full(len(beta), ridge)
    penalty[0] = 0.0
    # 1e-9 keeps the system solvable where a component is constant
    step = np.linalg.solve(hessian + np.diag(penalty + 1e-9), gradient - penalty * beta)
    return np.asarray(step, dtype=np.float64)
