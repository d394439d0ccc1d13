"""A patient as tokens: one a feature group, one a clinical value, and one a place of the MR and CT crops."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedloupe.models.inputs import Inputs, Schema
from fedloupe.models.layers import GroupTokens, ImageTokens


class Tokens(nn.Module):
    """(B, N, width) from a batch, in the order feature groups, clinical values, MR places, CT places.

    Attributes:
        counts: tokens of each of the four kinds; 0 where the study has none.
    """

    def __init__(self, schema: Schema, width: int) -> None:
        super().__init__()
        groups = len(schema.groups)
        self.radiomics = GroupTokens(groups, schema.components, width) if groups else None
        self.clinical = GroupTokens(schema.clinical, 1, width) if schema.clinical else None
        self.mr = ImageTokens(schema.mr, schema.crop, width) if schema.mr else None
        self.ct = ImageTokens(schema.ct, schema.crop, width) if schema.ct else None
        places = tuple(len(stem.places.place) if stem is not None else 0 for stem in (self.mr, self.ct))
        self.counts = (groups, schema.clinical, *places)

    def forward(self, inputs: Inputs) -> Tensor:
        """Tokens of a batch."""
        tokens = []
        if self.radiomics is not None:
            present = inputs.radiomics_present.unsqueeze(-1)
            tokens.append(self.radiomics(torch.cat([inputs.radiomics, present], dim=-1)))
        if self.clinical is not None:
            tokens.append(self.clinical(torch.stack([inputs.clinical, inputs.clinical_present], dim=-1)))
        if self.mr is not None:
            tokens.append(self.mr(inputs.mr, inputs.mr_present))
        if self.ct is not None:
            tokens.append(self.ct(inputs.ct, inputs.ct_present))
        return torch.cat(tokens, dim=1)
