"""The Transformer radiomics model: tokens from radiomics, clinical values, MR and CT crops; a linear path beside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedloupe.models.base import RadiomicsModel
from fedloupe.models.inputs import Schema
from fedloupe.models.layers import Block, GroupTokens, ImageTokens
from fedloupe.study import Model


class RadiomicsTransformer(RadiomicsModel):
    """Pre-norm Transformer over modality tokens with mean pooling."""

    def __init__(self, size: Model, schema: Schema) -> None:
        super().__init__(size)
        groups = len(schema.groups)
        self.radiomics = GroupTokens(groups, schema.components, size.width) if groups else None
        self.clinical = GroupTokens(schema.clinical, 1, size.width) if schema.clinical else None
        self.mr = ImageTokens(schema.mr, schema.crop, size.width) if schema.mr else None
        self.ct = ImageTokens(schema.ct, schema.crop, size.width) if schema.ct else None
        self.blocks = nn.ModuleList(Block(size.width, size.heads, size.dropout) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)
        self._finish(size, schema)

    def embed(
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
        """(B, width) mean of the tokens after the last block."""
        tokens = []
        if self.radiomics is not None:
            tokens.append(self.radiomics(torch.cat([radiomics, radiomics_present.unsqueeze(-1)], dim=-1)))
        if self.clinical is not None:
            tokens.append(self.clinical(torch.stack([clinical, clinical_present], dim=-1)))
        if self.mr is not None:
            tokens.append(self.mr(mr, mr_present))
        if self.ct is not None:
            tokens.append(self.ct(ct, ct_present))
        stream = torch.cat(tokens, dim=1)
        for block in self.blocks:
            stream = block(stream)
        pooled: Tensor = self.norm(stream).mean(dim=1)
        return pooled
