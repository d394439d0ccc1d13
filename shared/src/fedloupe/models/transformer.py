"""The Transformer radiomics model: tokens from radiomics, clinical values, MR and CT crops; a linear path beside."""

from __future__ import annotations

from torch import Tensor, nn

from fedloupe.models.base import RadiomicsModel
from fedloupe.models.inputs import Inputs, Schema
from fedloupe.models.layers import Block
from fedloupe.models.tokens import Tokens
from fedloupe.study import Model


class RadiomicsTransformer(RadiomicsModel):
    """Pre-norm Transformer over modality tokens with mean pooling."""

    def __init__(self, size: Model, schema: Schema) -> None:
        super().__init__(size)
        self.tokens = Tokens(schema, size.width)
        self.blocks = nn.ModuleList(Block(size.width, size.heads, size.dropout) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)
        self._finish(size, schema)

    def embed(self, inputs: Inputs) -> Tensor:
        """(B, width) mean of the tokens after the last block."""
        stream: Tensor = self.tokens(inputs)
        for block in self.blocks:
            stream = block(stream)
        pooled: Tensor = self.norm(stream).mean(dim=1)
        return pooled
