"""From a stored case to one common grid, and to the cube that the network sees.

grid = to_grid(store, record, study)          # images (z, y, x) float32, mask, spacing in mm
cube = crop(grid, study.imaging.crop_mm)      # (C, D, H, W) float32, zeros where a sequence is missing
"""

from fedloupe_client.imaging.cropping import Crop, crop
from fedloupe_client.imaging.field import field_images, field_mask, field_region
from fedloupe_client.imaging.grid import GridCase, OpenCase, open_case, to_grid
from fedloupe_client.imaging.posing import STILL, Pose

__all__ = [
    "STILL",
    "Crop",
    "GridCase",
    "OpenCase",
    "Pose",
    "crop",
    "field_images",
    "field_mask",
    "field_region",
    "open_case",
    "to_grid",
]
