"""The convolutional radiomics model: a 3-D CNN of the crops, joined late with radiomics and clinical values.

maps = model.maps(inputs.mr, inputs.mr_present, inputs.ct, inputs.ct_present)       # (B, C, d, h, w)
vectors = model.head(maps, *inputs.tensors[:4])                                     # what `embed` gives
"""

from __future__ import annotations

import torch
from monai.networks.blocks.convolutions import Convolution, ResidualUnit
from torch import Tensor, nn
from torch.nn import functional as F

from fedloupe.models.base import RadiomicsModel
from fedloupe.models.inputs import Inputs, Schema
from fedloupe.study import Model

PARTS = 3
"""The last map is averaged to at most so many parts an axis before it is flattened."""


class Convolutions(nn.Module):
    """A strided 3-D convolution and two strided residual units (He 2016) with GroupNorm and GELU.

    (B, M, D, H, W) to (B, C, d, h, w) with d = ceil(D / 8). All volumes lie on one grid, so they are the channels of
    one image. A missing volume is zero, and told from one of zeros by a learned shift of the first map's channels.
    """

    def __init__(self, volumes: int, channels: int, convolutions: int) -> None:
        super().__init__()
        middle = max(8, channels // 2 // 8 * 8)
        self.first = Convolution(3, volumes, 8, strides=2, kernel_size=3, act="GELU", norm=_norm(8))
        self.missing = nn.Linear(volumes, 8, bias=False)
        self.second = ResidualUnit(3, 8, middle, 2, subunits=convolutions, act="GELU", norm=_norm(middle))
        self.third = ResidualUnit(3, middle, channels, 2, subunits=convolutions, act="GELU", norm=_norm(channels))

    def forward(self, images: Tensor, present: Tensor) -> Tensor:
        """The last map; `present` (B, M)."""
        shift = self.missing(1 - present)[:, :, None, None, None]
        maps: Tensor = self.third(self.second(self.first(images) + shift))
        return maps


def _norm(channels: int) -> tuple[str, dict[str, int]]:
    return ("GROUP", {"num_groups": 4, "num_channels": channels})


class RadiomicsCnn(RadiomicsModel):
    """Late fusion: image features and tabular features are made apart, concatenated, and joined by one layer.

    The last map is flattened, not averaged over the crop: where in the crop something is seen (towards the sacrum or
    the bladder) stays known. Larger maps are first averaged to `PARTS` parts an axis, so the flattened layer does not
    grow with the crop.

    Attributes:
        stride: voxels between neighbouring places of the last map.

    Args:
        size: `depth` is the number of convolutions in a residual unit; `heads` plays no part.
        schema: what the study has.
    """

    stride = 8

    def __init__(self, size: Model, schema: Schema) -> None:
        super().__init__(size)
        channels = max(8, size.width // 8 * 8)
        volumes = schema.mr + schema.ct
        self.parts = min(PARTS, -(-schema.crop // 8))
        self.image = Convolutions(volumes, channels, size.depth) if volumes else None
        self.flat = nn.Linear(channels * self.parts**3, size.width) if volumes else None
        columns = len(schema.groups) * (schema.components + 1) + 2 * schema.clinical
        self.tabular = nn.Linear(columns, size.width) if columns else None
        self.drop = nn.Dropout(size.dropout)
        self.join = nn.Linear(size.width * (bool(volumes) + bool(columns)), size.width)
        self._finish(size, schema)

    def maps(self, mr: Tensor, mr_present: Tensor, ct: Tensor, ct_present: Tensor) -> Tensor:
        """(B, C, d, h, w) the last convolutional map, for gradients with respect to it (Grad-CAM, Selvaraju 2017).

        Place (i, j, k) is centred on voxel (i, j, k) times `stride`. Arguments as in `Inputs`; (B, 0, ...) in a
        study without crops.
        """
        if self.image is None:
            return mr
        maps: Tensor = self.image(torch.cat([mr, ct], dim=1), torch.cat([mr_present, ct_present], dim=1))
        return maps

    def head(
        self, maps: Tensor, radiomics: Tensor, radiomics_present: Tensor, clinical: Tensor, clinical_present: Tensor
    ) -> Tensor:
        """(B, width) the patient from what `maps` gave and the tabular inputs, these as for `embed`."""
        features = []
        if self.flat is not None:
            features.append(self.flat(F.adaptive_avg_pool3d(maps, self.parts).flatten(1)))
        if self.tabular is not None:
            values = [radiomics.flatten(1), radiomics_present, clinical * clinical_present, clinical_present]
            features.append(self.tabular(torch.cat(values, dim=1)))
        joined: Tensor = F.gelu(self.join(self.drop(F.gelu(torch.cat(features, dim=1)))))
        return joined

    def embed(self, inputs: Inputs) -> Tensor:
        """(B, width) `head` of `maps`."""
        maps = self.maps(inputs.mr, inputs.mr_present, inputs.ct, inputs.ct_present)
        return self.head(maps, *inputs.tensors[:4])
