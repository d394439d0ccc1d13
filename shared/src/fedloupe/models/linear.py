"""Logistic regression as a study's model: the linear path alone, for studies in which every parameter costs noise.

It trains like any other architecture, round by round and under DP-SGD as well. The baseline `logistic`, fitted exactly
from sums, has the same form and cannot be private.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedloupe.models.base import RadiomicsModel
from fedloupe.models.inputs import Inputs, Schema
from fedloupe.study import Model


class RadiomicsLogistic(RadiomicsModel):
    """An intercept, and a coefficient for each radiomics component and clinical value; begins at zero."""

    def __init__(self, size: Model, schema: Schema) -> None:
        super().__init__(size)
        self._add_linear_path(schema)

    def embed(self, inputs: Inputs) -> Tensor:
        """(B, 0): there is no deep part."""
        return inputs.clinical.new_zeros((len(inputs), 0))

    def forward(
        self,
        radiomics: Tensor,
        radiomics_present: Tensor,
        clinical: Tensor,
        clinical_present: Tensor,
        mr: Tensor,
        mr_present: Tensor,
        ct: Tensor,
        ct_present: Tensor,
    ) -> Tensor:
        """Logit of the endpoint, (B); arguments as in `Inputs`, of which crops play no part."""
        known = self._disturb(radiomics) * radiomics_present.unsqueeze(-1)
        logit: Tensor = self.wide(torch.cat([known.flatten(1), clinical * clinical_present], dim=1)).squeeze(-1)
        return logit
