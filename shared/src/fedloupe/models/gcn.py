"""The graph convolutional radiomics model: feature groups, clinical values and places of the crops as nodes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedloupe.models.base import RadiomicsModel
from fedloupe.models.graph import GraphConvolution, Nodes, adjacency, normalised
from fedloupe.models.inputs import Schema
from fedloupe.models.layers import GroupTokens, ImageTokens
from fedloupe.study import Model


class RadiomicsGcn(RadiomicsModel):
    """Graph convolutions (Kipf & Welling 2017) over the tokens of the Transformer, along fixed edges in place of
    attention. Each kind of node is averaged by itself, so that many places do not drown a few clinical values.

    Args:
        size: `depth` is the number of graph convolutions; `heads` plays no part.
        schema: what the study has.
        modality: `MR` or `CT` by name of sequence, for the edges between feature groups and places.
    """

    def __init__(self, size: Model, schema: Schema, modality: Mapping[str, str]) -> None:
        super().__init__(size)
        groups = len(schema.groups)
        self.radiomics = GroupTokens(groups, schema.components, size.width) if groups else None
        self.clinical = GroupTokens(schema.clinical, 1, size.width) if schema.clinical else None
        self.mr = ImageTokens(schema.mr, schema.crop, size.width) if schema.mr else None
        self.ct = ImageTokens(schema.ct, schema.crop, size.width) if schema.ct else None
        nodes = Nodes(
            schema.groups,
            schema.clinical,
            len(self.mr.places.place) if self.mr is not None else 0,
            len(self.ct.places.place) if self.ct is not None else 0,
        )
        self.kinds = nodes.kinds
        # A constant, not a buffer: rounds carry parameters alone, and every site builds the same graph.
        self.a_hat = torch.from_numpy(normalised(adjacency(nodes, modality)).astype(np.float32))
        self.layers = nn.ModuleList(GraphConvolution(size.width, size.dropout) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)
        self.join = nn.Linear(len(self.kinds) * size.width, size.width)
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
        """(B, width) from the mean of each kind of node after the last graph convolution."""
        tokens = []
        if self.radiomics is not None:
            tokens.append(self.radiomics(torch.cat([radiomics, radiomics_present.unsqueeze(-1)], dim=-1)))
        if self.clinical is not None:
            tokens.append(self.clinical(torch.stack([clinical, clinical_present], dim=-1)))
        if self.mr is not None:
            tokens.append(self.mr(mr, mr_present))
        if self.ct is not None:
            tokens.append(self.ct(ct, ct_present))
        nodes = torch.cat(tokens, dim=1)
        a_hat = self.a_hat.to(nodes)
        for layer in self.layers:
            nodes = layer(nodes, a_hat)
        means = [kind.mean(dim=1) for kind in self.norm(nodes).split(self.kinds, dim=1)]
        joined: Tensor = F.gelu(self.join(torch.cat(means, dim=1)))
        return joined
