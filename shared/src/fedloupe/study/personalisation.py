"""The section under which each training site also gets a model of its own, made from the federation's.

personalisation: {method: fine-tune, epochs: 5}        # in a study's YAML
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Personalisation(BaseModel):
    """How; the personal model stays at its site and is judged there beside the federation's, on the same patients.

    fine-tune: after the last round, some epochs more on the site's own training patients.
    local-norm: scales and shifts of the normalisation layers stay at the site between rounds (FedBN, Li 2021, with
    GroupNorm and LayerNorm). Sites that never trained get the mean of these layers, which is the federation's model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Literal["fine-tune", "local-norm"] = "fine-tune"
    epochs: int = Field(default=5, ge=1, le=1000, description="fine-tune only")
    learning_rate: float = Field(default=5e-4, gt=0, description="fine-tune only, constant")
