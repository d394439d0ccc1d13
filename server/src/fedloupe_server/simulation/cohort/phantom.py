"""A synthetic pelvis with a tumour that shows a patient's latents, before any scanner has touched it.

phantom = build_phantom(patient.latents, rng)
phantom.volumes["t2w"], phantom.mask         # (50, 80, 80) each, on a grid of 1.6 mm

Arrays are (z, y, x) with z to superior, y to posterior and x to left (DICOM patient axes); the centre is at 0 mm.

**Polarity is a mirror.** The tumour is drawn on a patch of odd size with its sub-region (dark on T2w, bright after
contrast) anterior; for polarity -1 the whole patch is flipped front to back. Everything else in the patch has a
mirror-symmetric distribution, and polarity enters nowhere else, so a feature that a flip leaves unchanged (first-order,
shape, direction-merged texture) has the same distribution for both polarities: no classifier on such features of the
tumour can tell them apart, while a coarse look at the image can.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]

SPACING = 1.6
SHAPE = (50, 80, 80)
HALF = 15  # voxels from the centre of the tumour patch to its edge: 24 mm
ANTERIOR_POSTERIOR = 1  # array axis

# Tissue: T2w, ADC (1e-6 mm2/s), DCE before, at peak and late (arbitrary units), CT (HU).
TISSUES = {
    "air": (20, 0, 15, 15, 15, -1000),
    "fat": (850, 150, 160, 180, 180, -95),
    "muscle": (280, 1400, 300, 420, 470, 55),
    "bone": (480, 450, 200, 240, 250, 320),
    "bladder": (1250, 2900, 130, 130, 220, 8),
    "lumen": (130, 300, 70, 70, 70, -300),
    "wall": (450, 1500, 310, 620, 600, 40),
}
CHANNELS = ("t2w", "adc", "dce_pre", "dce_peak", "dce_late", "ct")
_LABEL = {name: i for i, name in enumerate(TISSUES)}


@dataclass(frozen=True)
class Phantom:
    """Volumes by sequence name and the true tumour mask, (50, 80, 80); `centre`: voxel (z, y, x) of its patch."""

    volumes: dict[str, Volume]
    mask: Mask
    centre: tuple[int, int, int]


@dataclass(frozen=True)
class _Tumour:
    mask: Mask
    volumes: dict[str, Volume]


def build_phantom(latents: Mapping[str, float], rng: np.random.Generator, *, late_shift: float = 0.0) -> Phantom:
    """Pelvis and tumour of one patient.

    Args:
        latents: standardised values by name; the five image latents are used.
        rng: everything else about the anatomy.
        late_shift: added to the late-to-peak enhancement ratio (delay of the late phase at the site).
    """
    side = 1 if rng.random() < 0.5 else -1
    jitter = rng.integers(-2, 3, size=3)
    centre = (SHAPE[0] // 2 + int(jitter[0]), 43 + int(jitter[1]), SHAPE[2] // 2 + side * 6 + int(jitter[2]))
    tissue = _pelvis(rng, centre, side)
    grain = 1 + 0.05 * _noise(rng, SHAPE, 2.4)
    tumour = _tumour(latents, rng, late_shift)
    window = tuple(slice(c - HALF, c + HALF + 1) for c in centre)
    volumes: dict[str, Volume] = {}
    for channel, name in enumerate(CHANNELS):
        table = np.array([row[channel] for row in TISSUES.values()], dtype=np.float32)
        volume = table[tissue] if name == "ct" else table[tissue] * grain
        volume[window][tumour.mask] = tumour.volumes[name][tumour.mask]
        volumes[name] = volume
    mask = np.zeros(SHAPE, dtype=np.bool_)
    mask[window] = tumour.mask
    return Phantom(volumes, mask, centre)


def _pelvis(rng: np.random.Generator, centre: tuple[int, int, int], side: int) -> NDArray[np.uint8]:
    """Tissue labels. Around the tumour lie fat and, to the side, the lumen: alike to the front and to the back."""
    size = 1 + 0.06 * rng.standard_normal(8)
    tissue = np.full(SHAPE, _LABEL["air"], dtype=np.uint8)

    def put(name: str, at: tuple[float, float, float], radii: tuple[float, float, float]) -> None:
        tissue[_ellipsoid(at, radii)] = _LABEL[name]

    tall = 1e3
    put("fat", (0, 0, 0), (tall, 57 * size[0], 61 * size[0]))
    put("muscle", (0, 0, 0), (tall, 50 * size[0], 54 * size[0]))
    put("fat", (0, 2, 0), (tall, 42 * size[0], 38 * size[0]))
    for lateral in (-1, 1):
        put("bone", (-6, 4, lateral * 45), (26, 15 * size[1], 7))
    put("bone", (4, 47, 0), (34, 7, 20 * size[2]))
    put("bladder", (10, -34, 0), (18 * size[3], 8 * size[4], 20 * size[5]))
    z, y, x = ((c - (n - 1) / 2) * SPACING for c, n in zip(centre, SHAPE, strict=True))
    put("wall", (z, y, x - side * 17), (tall, 10 * size[6], 10 * size[6]))
    put("lumen", (z, y, x - side * 17), (tall, 6 * size[7], 6 * size[7]))
    return tissue


def _ellipsoid(at: tuple[float, float, float], radii: tuple[float, float, float]) -> Mask:
    total = np.zeros((1, 1, 1), dtype=np.float32)
    for axis in range(3):
        mm = (np.arange(SHAPE[axis], dtype=np.float32) - (SHAPE[axis] - 1) / 2) * SPACING
        shape = [1, 1, 1]
        shape[axis] = -1
        total = total + (((mm - at[axis]) / radii[axis]) ** 2).reshape(shape).astype(np.float32)
    result: Mask = total <= 1
    return result


def _tumour(latents: Mapping[str, float], rng: np.random.Generator, late_shift: float) -> _Tumour:
    """The tumour patch, (31, 31, 31), flipped front to back where polarity is -1."""
    edge = 2 * HALF + 1
    shape = (edge, edge, edge)
    mm = (np.arange(edge, dtype=np.float32) - HALF) * np.float32(SPACING)
    millilitres = min(max(math.exp(rng.normal(math.log(17.0), 0.28)), 9.0), 30.0)
    radius = (3000 * millilitres / (4 * math.pi)) ** (1 / 3)
    stretch = np.exp(0.10 * rng.standard_normal(3))
    distance = np.sqrt(
        (mm[:, None, None] / stretch[0]) ** 2 + (mm[None, :, None] / stretch[1]) ** 2 + (mm / stretch[2]) ** 2
    )
    roughness = 0.15 * math.exp(0.5 * latents["shape"])
    depth = (distance / radius + roughness * _noise(rng, shape, 3.6)).astype(np.float32)
    for axis in range(3):  # the tumour stays inside its patch
        np.moveaxis(depth, axis, 0)[[0, -1]] = np.inf
    mask = _largest(depth <= _lowest(depth, round(1000 * millilitres / SPACING**3)))

    length = 1.8 * math.exp(0.45 * latents["texture"])
    grain = [_noise(rng, shape, length) for _ in range(3)]
    share = 0.05 + 0.65 / (1 + math.exp(0.5 - 1.0 * latents["habitat"]))
    inward = np.where(mask, depth + 0.20 * _noise(rng, shape, 3.2), np.inf)
    core = inward <= _lowest(inward, max(round(share * int(mask.sum())), 1))
    front = np.tanh(-mm / 4.0)[None, :, None]  # +1 anterior, -1 posterior
    base_t2, rim_adc, base_dce, peak_dce = 1 + 0.04 * rng.standard_normal(4)
    ratio = 0.90 - 0.24 * latents["washout"] + late_shift
    before = 310 * base_dce * (1 + 0.08 * grain[2])
    rise = 400 * peak_dce * (1 + 0.15 * grain[2])
    volumes = {
        "t2w": 600 * base_t2 + 130 * grain[0] - 85 * front,
        "adc": np.where(core, 700.0, 1250.0) * rim_adc + 60 * grain[1],
        "dce_pre": before,
        "dce_peak": before + rise + 100 * front,
        "dce_late": before + rise * ratio + 60 * front,
        "ct": np.full(shape, 48.0),
    }
    flip = latents["polarity"] < 0
    axes = (ANTERIOR_POSTERIOR,) if flip else ()
    turned = {name: np.flip(volume, axes).astype(np.float32) for name, volume in volumes.items()}
    return _Tumour(np.flip(mask, axes), turned)


def _noise(rng: np.random.Generator, shape: tuple[int, int, int], length_mm: float) -> Volume:
    """Gaussian noise smoothed to a correlation length (SD of the kernel, mm), mean 0 and SD 1 within the array."""
    field = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), length_mm / SPACING, truncate=3.0)
    result: Volume = ((field - field.mean()) / field.std()).astype(np.float32)
    return result


def _lowest(values: NDArray[Any], number: int) -> float:
    """The threshold below or at which `number` values lie."""
    return float(np.partition(values.ravel(), number - 1)[number - 1])


def _largest(mask: Mask) -> Mask:
    parts, number = label(mask)
    if number < 2:
        return mask
    result: Mask = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return result
