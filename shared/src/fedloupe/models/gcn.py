"""The graph convolutional radiomics model: feature groups, clinical values and places of the crops as nodes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedloupe.models.base import RadiomicsModel
from fedloupe.models.graph import GraphConvolution, Nodes, adjacency, normalised
from fedloupe.models.inputs import Inputs, Schema
from fedloupe.models.tokens import Tokens
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
        self.tokens = Tokens(schema, size.width)
        _, clinical, mr, ct = self.tokens.counts
        nodes = Nodes(schema.groups, clinical, mr, ct)
        self.kinds = nodes.kinds
        # A constant, not a buffer: rounds carry parameters alone, and every site builds the same graph.
        self.a_hat = torch.from_numpy(normalised(adjacency(nodes, modality)).astype(np.float32))
        self.layers = nn.ModuleList(GraphConvolution(size.width, size.dropout) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)
        self.join = nn.Linear(len(self.kinds) * size.width, size.width)
        self._finish(size, schema)

    def embed(self, inputs: Inputs) -> Tensor:
        """(B, width) from the mean of each kind of node after the last graph convolution."""
        nodes: Tensor = self.tokens(inputs)
        a_hat = self.a_hat.to(nodes)
        for layer in self.layers:
            nodes = layer(nodes, a_hat)
        means = [kind.mean(dim=1) for kind in self.norm(nodes).split(self.kinds, dim=1)]
        joined: Tensor = F.gelu(self.join(torch.cat(means, dim=1)))
        return joined
