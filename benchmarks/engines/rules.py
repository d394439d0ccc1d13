"""The rules by which an oracle departs from us knowingly, applied to our own values: they show that nothing else does.

by_their_rules(image, mask, job, "z-rad")["simoncelli_1|cm_contrast"]
"""

from __future__ import annotations

import numpy as np
import pywt
from scipy import fft, ndimage
from skimage.measure import marching_cubes

from engines.job import Bools, Floats, Job, around, mirrored
from engines.run_ours import settings_of
from fedloupe.features import FEATURES
from fedloupe_client.radiomics.discretise import discretise
from fedloupe_client.radiomics.families import image_features
from fedloupe_client.radiomics.filters import filter_responses
from fedloupe_client.radiomics.region import make_region


def by_their_rules(image: Floats, mask: Bools, job: Job, engine: str) -> dict[str, float]:
    """Our values by an oracle's rules, FILTER|TAG, where its rule is another.

    Rings: both oracles sample Simoncelli's frequencies as IBSI's reference maps do. Z-Rad takes the lowest of several
    modes, where IBSI's is the one nearest to the mean. pictologics takes the nearest rank for a percentile, rounds a
    wavelet's response to float32 after each axis, and makes the mesh by the classic tables.
    """
    settings = settings_of(job)
    image = image.astype(np.float32).astype(np.float64)
    region = make_region(mask, job.spacing_mm)
    box, pictologics = around(mask, 0), not engine.startswith("z-rad")
    responses = {"original": image[box]} | dict(filter_responses(image, box, job.spacing_mm, settings))
    found = classic_mesh(mask[box], job.spacing_mm) if pictologics else {}
    for name, exact in responses.items():
        kind, _, what = name.partition("_")
        response = exact
        if kind == "simoncelli":
            response = skewed_ring(image, int(what), centred=not pictologics)[box]
        elif kind == "wavelet" and pictologics:
            response = rounded_band(image, job.wavelet, what)[box]
        values = response[region.inside].astype(np.float32).astype(np.float64)
        if kind in ("simoncelli", "wavelet"):
            blocks = image_features(values, region, settings.discretisation.response, settings, 0.0)
            for family, block in blocks.items():
                tags = (feature.ibsi_tag for feature in FEATURES[family])
                found |= {f"{name}|{tag}": float(value) for tag, value in zip(tags, block.values, strict=True)}
        levels = discretise(values, settings.discretisation.response)
        if pictologics:
            found |= {f"{name}|stat_{tag}": value for tag, value in nearest_rank(values).items()}
            found |= {f"{name}|ih_{tag}": value for tag, value in nearest_rank(levels).items()}
        else:
            found[f"{name}|ih_mode"] = float(np.bincount(levels).argmax())
    return found


def rounded_band(image: Floats, wavelet: str, passes: str) -> Floats:
    """A wavelet's sub-band in float32: convolved along x, y, then z, each result rounded."""
    banks = dict(zip("LH", pywt.Wavelet(wavelet).filter_bank[:2], strict=True))
    response = image.astype(np.float32)
    for axis, letter in zip((2, 1, 0), passes, strict=True):
        response = ndimage.convolve1d(response, np.asarray(banks[letter], dtype=np.float32), axis, mode="reflect")
    return response.astype(np.float64)


def classic_mesh(inside: Bools, spacing_mm: float) -> dict[str, float]:
    """What hangs on the mesh alone, by the marching cubes of 1987 around what is not the tumour.

    Ours and Z-Rad's are Lewiner's of 2003, whose mesh is always closed: they differ where voxels touch by an edge.
    """
    outside = 1 - np.pad(inside, 1).astype(np.float32)
    corners, faces, _, _ = marching_cubes(outside, 0.5, spacing=(spacing_mm,) * 3, method="lorensen")
    a, b, c = (corners[faces[:, k]].astype(np.float64) for k in range(3))
    volume = abs(float(np.einsum("ij,ij->", a, np.cross(b, c)))) / 6
    area = float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()) / 2
    compactness = 36 * np.pi * volume**2 / area**3
    tags = {"volume": volume, "area_mesh": area, "comp_2": compactness, "asphericity": compactness ** (-1 / 3) - 1}
    return {f"original|morph_{tag}": value for tag, value in tags.items()}


def nearest_rank(values: Floats) -> dict[str, float]:
    """What hangs on a percentile, when that is the smallest value with at least that share at or below it.

    Ours, Z-Rad's and NumPy's is interpolated between the two nearest. IBSI's reference values fit both.
    """
    p10, p25, p75, p90 = (float(one) for one in np.percentile(values, [10, 25, 75, 90], method="inverted_cdf"))
    inner = values[(values >= p10) & (values <= p90)]
    robust = float(np.abs(inner - inner.mean()).mean())
    dispersion = (p75 - p25) / (p75 + p25) if p75 + p25 else float("nan")
    return {"p10": p10, "p90": p90, "iqr": p75 - p25, "rmad": robust, "qcod": dispersion}


def skewed_ring(image: Floats, level: int, *, centred: bool) -> Floats:
    """Simoncelli's map with reflected edges, its N frequencies an axis at 2 pi / (N - 1) instead of 2 pi / N.

    That is how IBSI's reference maps were made, and for an even N no frequency is 0.

    Args:
        image: (z, y, x).
        level: 1 is the finest.
        centred: Z-Rad sets the frequency nearest to 0 to 0; pictologics does not.
    """
    doubled = mirrored(image)
    squared = np.zeros((1,) * 3)
    for axis, size in enumerate(doubled.shape):
        along = np.fft.ifftshift(np.linspace(-np.pi, np.pi, size))
        if centred:
            along[0] = 0.0
        squared = squared + along.reshape([-1 if a == axis else 1 for a in range(3)]) ** 2
    octave = 0.5 * np.log2(np.maximum(squared, 1e-300)) - np.log2(np.pi) + level
    passed = np.where(np.abs(octave) <= 1, np.cos(np.pi / 2 * np.clip(octave, -1, 1)), 0.0)
    opposite = np.roll(passed[::-1, ::-1, ::-1], 1, axis=(0, 1, 2))  # the same waves, running the other way
    response = fft.ifftn(fft.fftn(doubled) * (passed + opposite) / 2).real
    return response[tuple(slice(0, size) for size in image.shape)]
