"""A drawing study's local work: epochs of the U-Net on the site's own masks, and the Dice of what it draws.

trained = train_round(study, "north", cohort, weights, number=3)
reply = overlap(study, cohort, request)           # Dice over a split; cells are merged at the gate
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fedloupe.errors import FedLoupeError
from fedloupe.messages import OverlapReply, OverlapRequest
from fedloupe.models import build_unet, dice, drawing_loss, flatten, unflatten
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.imaging.drawing import largest
from fedloupe_client.training.checkpoint import Checkpoint
from fedloupe_client.training.local import Trained, device, epochs, first_round, seed_for
from fedloupe_client.training.telling import Tell, part_of

BINS = 10
GAIN, TURN, STRETCH, SHIFT = 0.1, 0.25, 0.15, 0.05
"""Of augmentation: standard deviation of the gain; most radians about each axis; most change of size; most move, as a
share of half the field."""


class NoMasks(FedLoupeError):
    """A drawing study needs cases with masks, and this split has none."""

    code = "FL-609"
    title = "no patient of the split has a mask to compare with"


def train_round(
    study: Study,
    site: str,
    cohort: Cohort,
    weights: NDArray[Any],
    *,
    number: int,
    checkpoint: Checkpoint | None = None,
    tell: Tell | None = None,
) -> Trained:
    """One round's share: `local_epochs` epochs. FedProx adds mu/2 |w - w_round|^2 (Li 2020, eq. 2)."""
    proximal = study.training.proximal_mu if study.training.strategy == "fedprox" else 0.0
    model = _model(study, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(study, site, "federated", number))
        loss = _epochs(study, model, cohort, number, proximal, checkpoint, tell)
    return Trained(flatten(model), loss)


def train_alone(
    study: Study,
    site: str,
    cohort: Cohort,
    weights: NDArray[Any],
    *,
    checkpoint: Checkpoint | None = None,
    tell: Tell | None = None,
) -> Trained:
    """The site's own model: the same budget and schedule as the federation, its own patients only."""
    model = _model(study, weights)
    loss = math.nan
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(study, site, "local", 0))
        for number in range(first_round(checkpoint), study.training.rounds + 1):
            part = part_of(tell, number - 1, study.training.rounds)
            loss = _epochs(study, model, cohort, number, 0.0, checkpoint, part)
    return Trained(flatten(model), loss)


def overlap(study: Study, cohort: Cohort, request: OverlapRequest, tell: Tell | None = None) -> OverlapReply:
    """The reply about a split: how well these weights draw its tumours.

    Raises:
        NoMasks: nobody is in the split.
    """
    scores = dices(study, cohort, request.weights, cohort.rows(request.split), tell)
    if not len(scores):
        raise NoMasks("there is nobody to draw", where=request.site, remedy="bring cases with masks")
    return OverlapReply(
        version=request.version,
        fingerprint=request.fingerprint,
        run=request.run,
        site=request.site,
        label=request.label,
        split=request.split,
        patients=len(scores),
        mean=float(scores.mean()),
        sd=float(scores.std()),
        by_dice=np.histogram(scores, BINS, (0.0, 1.0))[0].astype(np.float64),
    )


def dices(
    study: Study, cohort: Cohort, weights: NDArray[Any], rows: NDArray[np.int64], tell: Tell | None = None
) -> NDArray[np.float64]:
    """Dice of drawn and own mask for these patients, (n), on the study's field; drawn as hospitals will get it."""
    assert study.segmentation is not None and cohort.masks is not None, "only a drawing study has masks"
    model = _model(study, weights)
    model.eval()
    found = []
    with torch.no_grad():
        for row in rows:
            probability = torch.sigmoid(model(_images(cohort, np.array([row]))))[0, 0].cpu().numpy()
            seen = (cohort.mr[row] != 0).any(axis=0)  # beyond the image's own field of view there is nothing to draw on
            found.append(dice(largest((probability >= study.segmentation.threshold) & seen), cohort.masks[row]))
            if tell:
                tell(len(found), len(rows))
    return np.array(found, dtype=np.float64)


def _model(study: Study, weights: NDArray[Any]) -> nn.Module:
    model = build_unet(study)
    unflatten(model, weights)
    return model.to(device())


def _epochs(
    study: Study,
    model: nn.Module,
    cohort: Cohort,
    number: int,
    proximal: float,
    checkpoint: Checkpoint | None,
    tell: Tell | None,
) -> float:
    rows = cohort.rows("train")

    def loss_of(batch: Tensor) -> Tensor:
        taken = rows[batch.numpy()]
        images, masks = augment(_images(cohort, taken), _masks(cohort, taken))
        return drawing_loss(model(images), masks)

    return epochs(study, model, len(rows), loss_of, number=number, proximal=proximal, checkpoint=checkpoint, tell=tell)


def augment(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Each patient mirrored left to right, turned, stretched and moved a little with the mask, and another gain.

    Args:
        images: (B, C, D, H, W).
        masks: (B, 1, D, H, W), 0 or 1.
    """
    shape = (len(images), 1, 1, 1, 1)
    moved = _moves(len(images)).to(images.device)
    gain = (1 + GAIN * torch.randn(shape)).to(images.device)
    grid = F.affine_grid(moved, list(images.shape), align_corners=False)
    return (
        F.grid_sample(images, grid, align_corners=False) * gain,
        F.grid_sample(masks, grid, mode="nearest", align_corners=False),
    )


def _moves(count: int) -> Tensor:
    """(B, 3, 4) affine maps of x (left to right), y, z in [-1, 1]: anatomy allows the mirror in x alone."""
    angles = TURN * (2 * torch.rand(count, 3) - 1)
    cross = torch.zeros(count, 3, 3)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        cross[:, i, j], cross[:, j, i] = -angles[:, k], angles[:, k]
    scale = 1 + STRETCH * (2 * torch.rand(count, 3) - 1)
    scale[:, 0] *= torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    move = SHIFT * (2 * torch.rand(count, 3, 1) - 1)
    return torch.cat([torch.matrix_exp(cross) * scale[:, None], move], dim=2)


def _images(cohort: Cohort, rows: NDArray[np.int64]) -> Tensor:
    """(B, C, D, H, W); the cohort stays in main memory, a batch goes to the device."""
    return torch.from_numpy(cohort.mr[rows]).to(device())


def _masks(cohort: Cohort, rows: NDArray[np.int64]) -> Tensor:
    assert cohort.masks is not None, "only a drawing study has masks"
    return torch.from_numpy(cohort.masks[rows][:, None].astype(np.float32)).to(device())
