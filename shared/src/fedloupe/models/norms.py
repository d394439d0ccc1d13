"""Which numbers of a flat weight vector scale and shift the normalisation layers.

own = norm_positions(model)              # (m) bool
weights[own] = kept                      # a site's own scales and shifts on the federation's weights
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

NORMS = (nn.GroupNorm, nn.LayerNorm)
"""The normalisation layers of the models here; no BatchNorm, whose running statistics would be buffers."""


def norm_positions(model: nn.Module) -> NDArray[np.bool_]:
    """(m) bool in the order of `flatten`: True for the affine parameters of `NORMS`; FedBN (Li 2021, 2102.07623)."""
    own = {id(p) for layer in model.modules() if isinstance(layer, NORMS) for p in layer.parameters(recurse=False)}
    parts = [np.full(p.numel(), id(p) in own) for p in model.parameters()]
    return np.concatenate(parts) if parts else np.zeros(0, np.bool_)
