"""The network of a drawing study: MONAI's 3-D U-Net, its loss, and the Dice of two masks.

model = build_unet(study)                     # same study, same initial parameters everywhere
logits = model(images)                        # (B, C, D, H, W) to (B, 1, D, H, W)
dice(drawn, own)                              # 0 to 1
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.losses.dice import DiceCELoss
from monai.networks.nets.unet import UNet
from numpy.typing import NDArray
from torch import Tensor

from fedloupe.study import Segmentation, Sequence, Study


def build_unet(study: Study) -> UNet:
    """A drawing study's network, initialised from the study's seed; leaves the global random state as it was."""
    assert study.segmentation is not None, "only a drawing study has a U-Net"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(study.seed)
        return unet(study.segmentation, study.sequences)


def unet(segmentation: Segmentation, sequences: tuple[Sequence, ...]) -> UNet:
    """A U-Net with one input channel a sequence and one output, the logit of tumour.

    Instance normalisation (Ulyanov 2016) keeps no running statistics, so the parameters are the whole model, and what a
    site's scanner does to contrast stays at the site.
    """
    return UNet(
        spatial_dims=3,
        in_channels=len(sequences),
        out_channels=1,
        channels=segmentation.channels,
        strides=(2,) * (len(segmentation.channels) - 1),
        num_res_units=1,
        norm="INSTANCE",
    )


def drawing_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Soft Dice (Milletari 2016) plus cross-entropy, the mean over the batch; both (B, 1, D, H, W)."""
    loss: Tensor = DiceCELoss(sigmoid=True)(logits, masks)
    return loss


def dice(one: NDArray[Any], other: NDArray[Any]) -> float:
    """2 |A n B| / (|A| + |B|) (Dice 1945) of two masks of one shape; 1 where both are empty."""
    a, b = np.asarray(one) > 0, np.asarray(other) > 0
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2.0 * int((a & b).sum()) / total
