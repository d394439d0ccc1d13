# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""A tumour drawn by a trained model, for a case without a mask.

mask = draw(read_drawing(folder), {"t2w": image}, case)      # uint8 on the first sequence's native grid, maybe empty
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from fedloupe.drawing import DrawingModel
from fedloupe.models import unet, unflatten
from fedloupe_client.imaging.field import field_images, field_region
from fedloupe_client.ingest.formats.volumes import build


def draw(model: DrawingModel, volumes: Mapping[str, sitk.Image], case: str) -> sitk.Image:
    """The largest connected piece (26 neighbours) of what the model takes for tumour; uint8, 0 or 1, empty where none.

    The model's probability is put onto the native grid of its first sequence by linear interpolation, then cut at its
    threshold. On the CPU and one thread, so that the same images give the same mask.

    Args:
        model: from `read_drawing`.
        volumes: each of its sequences on its native grid.
        case: for errors.

    Raises:
        ImageFlat: a sequence without contrast.
    """
    card = model.card
    reference = volumes[card.sequences[0].name]
    spacing = card.imaging.spacing_mm
    region = field_region(reference, spacing_mm=spacing, edge=card.segmentation.edge(spacing))
    images = field_images(volumes, card.sequences, card.imaging, region, case)
    probability = build(_probability(model, images), region)
    native = sitk.Resample(probability, reference, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear, 0.0)
    tumour = sitk.GetArrayFromImage(native) >= card.segmentation.threshold
    return build(largest(tumour), reference)


def _probability(model: DrawingModel, images: NDArray[np.float32]) -> NDArray[np.float32]:
    network = unet(model.card.segmentation, model.card.sequences)
    unflatten(network, model.weights)
    network.eval()
    # A cohort keeps images in half precision; the network has seen them so.
    seen = torch.from_numpy(images.astype(np.float16).astype(np.float32)[None])
    with _one_torch_thread(), torch.no_grad():
        found: NDArray[np.float32] = torch.sigmoid(network(seen))[0, 0].numpy()
    return found


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Sums in another order differ in their last digits, which may turn a voxel."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def largest(tumour: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The largest connected piece (26 neighbours) of a mask (D, H, W), 0 or 1; empty where the mask is."""
    if not tumour.any():
        return tumour.astype(np.uint8)
    pieces = sitk.ConnectedComponent(sitk.GetImageFromArray(tumour.astype(np.uint8)), True)
    ordered = sitk.GetArrayFromImage(sitk.RelabelComponent(pieces, sortByObjectSize=True))
    return np.asarray(ordered == 1, dtype=np.uint8)
