"""What every architecture of a study has in common: a linear path, and a deep part that adds what is not linear.

    logit = model(*inputs.tensors)          # (B) = deep(embed) + wide
    vectors = model.embed(inputs)           # (B, width): what neighbours and the training range are judged by

The linear path ("wide", Cheng 2016) reads the radiomics components and clinical values and can begin at the federated
logistic baseline. Architectures see the same inputs and differ in `embed` alone. No BatchNorm; every parameter takes
part in every batch.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedloupe.models.inputs import Inputs, Schema
from fedloupe.study import Model


def range_vector(model: RadiomicsModel, inputs: Inputs) -> Tensor:
    """(B, d) what the training range is judged by: the embedding, the radiomics components, the clinical values."""
    known = inputs.radiomics * inputs.radiomics_present.unsqueeze(-1)
    vectors = model.embed(replace(inputs, radiomics=known))
    return torch.cat([vectors, known.flatten(1), inputs.clinical * inputs.clinical_present], dim=1)


class RadiomicsModel(nn.Module):
    """Base of the architectures; see the module's text. A subclass makes its layers, then calls `_finish`."""

    wide: nn.Linear
    deep: nn.Linear

    def __init__(self, size: Model) -> None:
        super().__init__()
        self.feature_dropout, self.feature_noise = size.feature_dropout, size.feature_noise

    def _finish(self, size: Model, schema: Schema) -> None:
        """Make both last layers."""
        self.deep = nn.Linear(size.width, 1)
        self._add_linear_path(schema)

    def _add_linear_path(self, schema: Schema) -> None:
        """Make the linear path; it begins at zero."""
        with warnings.catch_warnings():
            # a study of images alone has no column here, of which PyTorch warns
            warnings.simplefilter("ignore", UserWarning)
            self.wide = nn.Linear(len(schema.groups) * schema.components + schema.clinical, 1)
        nn.init.zeros_(self.wide.weight)
        nn.init.zeros_(self.wide.bias)

    @abstractmethod
    def embed(self, inputs: Inputs) -> Tensor:
        """(B, width) the patient as the last layer sees it; absent radiomics stand at zero."""

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
        """Logit of the endpoint, (B); arguments as in `Inputs`."""
        radiomics = self._disturb(radiomics) * radiomics_present.unsqueeze(-1)
        vectors = self.embed(
            Inputs(radiomics, radiomics_present, clinical, clinical_present, mr, mr_present, ct, ct_present)
        )
        wide = self.wide(torch.cat([radiomics.flatten(1), clinical * clinical_present], dim=1))
        logit: Tensor = (self.deep(vectors) + wide).squeeze(-1)
        return logit

    def _disturb(self, values: Tensor) -> Tensor:
        """Feature dropout and noise while training; within each patient only, so DP-SGD's sensitivity holds."""
        if not self.training:
            return values
        if self.feature_noise:
            values = values + self.feature_noise * torch.randn_like(values)
        return nn.functional.dropout(values, self.feature_dropout) if self.feature_dropout else values
