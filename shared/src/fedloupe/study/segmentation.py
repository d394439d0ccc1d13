"""The section that makes a study a *drawing study*: it trains a model that draws tumours, and no other.

segmentation: {field_mm: 192, channels: [16, 32, 64, 128]}      # in a study's YAML
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Segmentation(BaseModel):
    """A 3-D U-Net (Cicek 2016) for hospitals whose cases have no mask.

    It sees the whole field, a cube about the centre of the first sequence: nobody tells it where the tumour is. Rounds,
    batches and rates are those of `training`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    field_mm: float = Field(default=192.0, ge=8, le=512, description="edge of the cube that the network sees")
    channels: tuple[Annotated[int, Field(ge=1, le=512)], ...] = Field(
        default=(16, 32, 64, 128), min_length=2, max_length=6, description="feature maps at each level of the U-Net"
    )
    threshold: float = Field(default=0.5, gt=0, lt=1, description="probability from which a voxel is tumour")

    def edge(self, spacing_mm: float) -> int:
        """Edge of the field in voxels."""
        return round(self.field_mm / spacing_mm)

    def misfit(self, spacing_mm: float) -> str | None:
        """Why the field does not fit the U-Net, which halves it once a level; None where it does."""
        edge, halvings = self.edge(spacing_mm), len(self.channels) - 1
        if edge % 2**halvings == 0 and edge >= 2 * 2**halvings:
            return None
        fitting = max(2, round(edge / 2**halvings)) * 2**halvings * spacing_mm
        return (
            f"`segmentation.field_mm` is {edge} voxels of `imaging.spacing_mm`, which {len(self.channels)} `channels` "
            f"cannot halve {halvings} times; {fitting:g} fits"
        )
