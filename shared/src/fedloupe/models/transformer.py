"""The Transformer radiomics model: tokens from radiomics, clinical values, MR and CT crops; a linear path beside.

    logit = model(*inputs.tensors)          # (B)

The linear path ("wide", Cheng 2016) reads the same radiomics components and clinical values; the tokens add what is
not linear and what only images show. No BatchNorm; every parameter takes part in every batch.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from fedloupe.models.inputs import Schema
from fedloupe.models.layers import Block, GroupTokens, ImageTokens
from fedloupe.study import Model


class RadiomicsTransformer(nn.Module):
    """Pre-norm Transformer over modality tokens with mean pooling; see the module's text."""

    def __init__(self, size: Model, schema: Schema) -> None:
        super().__init__()
        self.feature_dropout, self.feature_noise = size.feature_dropout, size.feature_noise
        groups = len(schema.groups)
        self.radiomics = GroupTokens(groups, schema.components, size.width) if groups else None
        self.clinical = GroupTokens(schema.clinical, 1, size.width) if schema.clinical else None
        self.mr = ImageTokens(schema.mr, schema.crop, size.width) if schema.mr else None
        self.ct = ImageTokens(schema.ct, schema.crop, size.width) if schema.ct else None
        self.blocks = nn.ModuleList(Block(size.width, size.heads, size.dropout) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)
        self.deep = nn.Linear(size.width, 1)
        with warnings.catch_warnings():
            # a study of images alone has no column here, of which PyTorch warns
            warnings.simplefilter("ignore", UserWarning)
            self.wide = nn.Linear(groups * schema.components + schema.clinical, 1)
        nn.init.zeros_(self.wide.weight)
        nn.init.zeros_(self.wide.bias)

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
        pooled = self.norm(stream).mean(dim=1)
        wide = self.wide(torch.cat([radiomics.flatten(1), clinical * clinical_present], dim=1))
        logit: Tensor = (self.deep(pooled) + wide).squeeze(-1)
        return logit

    def _disturb(self, values: Tensor) -> Tensor:
        """Feature dropout and noise while training; within each patient only, so DP-SGD's sensitivity holds."""
        if not self.training:
            return values
        if self.feature_noise:
            values = values + self.feature_noise * torch.randn_like(values)
        return nn.functional.dropout(values, self.feature_dropout) if self.feature_dropout else values
