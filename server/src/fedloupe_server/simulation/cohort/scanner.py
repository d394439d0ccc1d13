"""A synthetic site's scanner and rater: point spread, sampling, contrast, bias field, noise, and a hand-drawn contour.

images = acquire(phantom, site, rng)
images.volumes["t2w"].array       # (z, y, x) int16 at the site's native spacing
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, binary_fill_holes, gaussian_filter

from fedloupe_server.simulation.cohort.calcification import calcify
from fedloupe_server.simulation.cohort.latents import Patient, draw_patient
from fedloupe_server.simulation.cohort.phantom import SHAPE, SPACING, Mask, Phantom, Volume, build_phantom
from fedloupe_server.simulation.cohort.spec import FIRST_SEQUENCE, CohortSpec, Grid, SiteSpec, entropy


@dataclass(frozen=True)
class Image:
    """One acquired volume.

    Attributes:
        array: (z, y, x) int16; ADC in 1e-6 mm2/s, CT in HU, others in the site's arbitrary units.
        spacing: mm along (z, y, x).
        origin: centre of the first voxel in DICOM patient coordinates (LPS), mm along (z, y, x).
    """

    array: NDArray[np.int16]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]


@dataclass(frozen=True)
class CaseImages:
    """What a site has of one patient: volumes by sequence, and the tumour mask on the grid of T2w."""

    patient: Patient
    volumes: dict[str, Image]
    mask: Mask


def simulate_case(spec: CohortSpec, site: SiteSpec, index: int) -> CaseImages:
    """Patient `index` of a site as the site's scanner and rater see it: a pure function of seed, site and index."""
    patient = draw_patient(spec, site, index)
    body = np.random.default_rng(entropy(spec.seed, site.name, index, "anatomy"))
    machine = np.random.default_rng(entropy(spec.seed, site.name, index, "scanner"))
    phantom = build_phantom(patient.latents, body, late_shift=site.late_shift)
    if site.has_ct:
        clumps = np.random.default_rng(entropy(spec.seed, site.name, index, "clumps"))
        phantom = calcify(phantom, patient.latents, clumps)
    return CaseImages(patient, *acquire(phantom, site, machine))


def acquire(phantom: Phantom, site: SiteSpec, rng: np.random.Generator) -> tuple[dict[str, Image], Mask]:
    """The site's volumes and the rater's mask on the grid of T2w."""
    gain = site.gain * math.exp(0.10 * rng.standard_normal())
    volumes: dict[str, Image] = {}
    for name in site.sequences:
        in_plane, slice_mm = site.t2_mm if name == FIRST_SEQUENCE else site.functional_mm
        truth = _moved(phantom.volumes[name], rng) if name == "ct" else phantom.volumes[name]
        sampled, spacing, origin = _sample(truth, (in_plane, slice_mm), site.blur_mm)
        if name == "ct":
            signal = sampled + 12 * rng.standard_normal(sampled.shape, dtype=np.float32)
        elif name == "adc":
            grain = 1500 * site.noise * rng.standard_normal(sampled.shape, dtype=np.float32)
            signal = np.maximum(site.adc_scale * (sampled + grain), 0)
        else:
            signal = gain * _magnetic(sampled, site, rng)
        array = np.clip(np.rint(signal), -1024, 32767).astype(np.int16)
        volumes[name] = Image(array, spacing, origin)
    return volumes, _contoured(phantom, site, rng)


def _magnetic(sampled: Volume, site: SiteSpec, rng: np.random.Generator) -> Volume:
    """Contrast curve, bias field and Rician noise, in units of about 1000."""
    curved = 1000 * (np.maximum(sampled, 0) / 1000) ** np.float32(site.gamma)
    noise = 1000 * site.noise * rng.standard_normal((2, *sampled.shape), dtype=np.float32)
    result: Volume = np.hypot(curved * _bias(sampled.shape, site.bias, rng) + noise[0], noise[1])
    return result


def _bias(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> Volume:
    """A smooth positive field: exp of a random quadratic, its sign equally likely along every axis."""
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    linear, square = rng.standard_normal((2, 3)).astype(np.float32) * np.float32(strength)
    parts = [0.6 * a * t + 0.4 * b * (t * t - 1 / 3) for a, b, t in zip(linear, square, (z, y, x), strict=True)]
    result: Volume = np.exp(parts[0][:, None, None] + parts[1][None, :, None] + parts[2]).astype(np.float32)
    return result


def _sample(
    volume: Volume, grid: Grid, blur_mm: float
) -> tuple[Volume, tuple[float, float, float], tuple[float, float, float]]:
    """The phantom through a Gaussian point spread onto the native grid of the same field of view."""
    in_plane, slice_mm = grid
    spacing = (slice_mm, in_plane, in_plane)
    spread = (0.35 * slice_mm, blur_mm, blur_mm)
    origin = []
    for axis in range(3):
        number = round(SHAPE[axis] * SPACING / spacing[axis])
        volume = _sample_axis(volume, axis, number, spacing[axis], spread[axis])
        origin.append(-(number - 1) / 2 * spacing[axis])
    return volume, spacing, (origin[0], origin[1], origin[2])


def _sample_axis(volume: Volume, axis: int, number: int, spacing: float, spread: float) -> Volume:
    # A weighted sum of shifted copies and not a matrix product: BLAS may sum in another order with other threads,
    # and the same seed must give the same bytes.
    length = volume.shape[axis]
    at = (np.arange(number) - (number - 1) / 2) * spacing / SPACING + (length - 1) / 2
    reach = math.ceil(2.5 * spread / SPACING)
    taps = np.floor(at).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    weights = np.exp(-0.5 * ((taps - at[:, None]) * SPACING / spread) ** 2)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    taps = np.clip(taps, 0, length - 1)
    shape = [1, 1, 1]
    shape[axis] = number
    total: Volume = np.zeros([number if i == axis else n for i, n in enumerate(volume.shape)], dtype=np.float32)
    for k in range(taps.shape[1]):
        total += volume.take(taps[:, k], axis=axis) * weights[:, k].reshape(shape)
    return total


def _moved(volume: Volume, rng: np.random.Generator) -> Volume:
    """The patient lies otherwise on the CT table: up to 4 degrees about the long axis and a few mm."""
    angle = math.radians(float(rng.uniform(-4, 4)))
    shift = rng.uniform(-5, 5, size=3) / SPACING
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    middle = (np.array(SHAPE) - 1) / 2
    moved: Volume = affine_transform(
        volume, matrix, offset=middle - matrix @ middle + shift, order=1, mode="constant", cval=-1000
    )
    return moved


def _contoured(phantom: Phantom, site: SiteSpec, rng: np.random.Generator) -> Mask:
    """The rater's mask on the T2w grid: about a voxel off at the border, tighter or looser by habit, without holes."""
    wobble = gaussian_filter(rng.standard_normal(SHAPE, dtype=np.float32), 1.5)
    soft = gaussian_filter(phantom.mask.astype(np.float32), 0.8) + 0.16 * wobble / wobble.std()
    near = gaussian_filter(phantom.mask.astype(np.float32), 1.2)
    drawn = (soft > 0.5 + site.contour) & (near > 0.08) | (near > 0.97)
    in_plane, slice_mm = site.t2_mm
    sampled, *_ = _sample(drawn.astype(np.float32), (in_plane, slice_mm), 0.5)
    mask: Mask = sampled > 0.5
    return np.stack([binary_fill_holes(plane) for plane in mask])
