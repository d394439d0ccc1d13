"""A trained drawing model as a folder that a coordinator writes and a hospital reads; two files, no code.

model_bytes(weights)                          # `model.safetensors`, whose SHA-256 is the model's name
model = read_drawing(folder)                  # checked against its digest; needs no PyTorch

drawing.json             `DrawingCard`: what the model is, what it sees, how well it drew at each site
model.safetensors        all parameters, one flat float32 vector
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedloupe.errors import FedLoupeError
from fedloupe.study import Imaging, Segmentation, Sequence

CARD, MODEL = "drawing.json", "model.safetensors"


class DrawingUnreadable(FedLoupeError):
    """The folder of a drawing model is not there, damaged, or its two files do not belong together."""

    code = "FL-608"
    title = "a drawing model cannot be read"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DrawingScores(_Frozen):
    """Dice of the drawn tumours against the site's own masks, over its test patients.

    Attributes:
        by_dice: (10) patients by Dice in tenths; small bins merged and spread evenly.
        own_mean: mean Dice of the site's own model, trained alone with the same budget, on the same patients.
    """

    site: str
    role: Literal["train", "validate"]
    patients: int
    mean: float
    sd: float
    by_dice: tuple[float, ...]
    own_mean: float | None = None


class DrawingCard(_Frozen):
    """What a drawing model is.

    Attributes:
        model: SHA-256 of `model.safetensors`: the digest that marks what it drew.
        sites: how well it drew, at each site that could say so.
        unscored: code and title of the refusal, by site that could not.
    """

    study: str
    title: str
    synthetic: bool
    fingerprint: str
    version: str
    model: str = Field(pattern=r"^[0-9a-f]{64}$")
    sequences: tuple[Sequence, ...] = Field(min_length=1)
    imaging: Imaging
    segmentation: Segmentation
    sites: tuple[DrawingScores, ...]
    unscored: dict[str, str] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if misfit := self.segmentation.misfit(self.imaging.spacing_mm):
            raise ValueError(misfit)
        return self


@dataclass(frozen=True)
class DrawingModel:
    """A card and the (m) float32 parameters that belong to it."""

    card: DrawingCard
    weights: NDArray[np.float32]


def model_bytes(weights: NDArray[Any]) -> bytes:
    """`model.safetensors` of these parameters: the same bytes for the same parameters."""
    return save({"weights": np.ascontiguousarray(weights, dtype=np.float32)})


def read_drawing(folder: Path) -> DrawingModel:
    """The model in a folder.

    Raises:
        DrawingUnreadable: a file is absent, not permitted, damaged, or not the one that the card names.
    """
    remedy = "copy the whole folder from the coordinator again; it holds drawing.json and model.safetensors"
    try:
        card = DrawingCard.model_validate_json((folder / CARD).read_bytes())
        content = (folder / MODEL).read_bytes()
        if hashlib.sha256(content).hexdigest() != card.model:
            raise ValueError(f"{MODEL} is not the one that {CARD} names")
        tensors = load(content)
        if set(tensors) != {"weights"} or tensors["weights"].dtype != np.float32 or tensors["weights"].ndim != 1:
            raise ValueError(f"{MODEL} does not hold one flat vector")
        if not np.isfinite(tensors["weights"]).all():
            raise ValueError(f"{MODEL} holds numbers that are not finite")
    except (OSError, ValidationError, SafetensorError, ValueError) as error:
        raise DrawingUnreadable(
            f"no drawing model ({type(error).__name__}): {str(error).splitlines()[0][:300]}",
            where=str(folder),
            remedy=remedy,
        ) from None
    return DrawingModel(card, tensors["weights"])
