"""Two rules by which an oracle departs from us knowingly, applied to our own values: they show that nothing else does.

by_their_rules(image, mask, job, "z-rad")["simoncelli_1|cm_contrast"]
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from engines.job import Bools, Floats, Job, around, mirrored
from engines.run_ours import settings_of
from fedloupe.features import FEATURES
from fedloupe_client.radiomics.discretise import discretise
from fedloupe_client.radiomics.families import image_features
from fedloupe_client.radiomics.filters import filter_responses
from fedloupe_client.radiomics.region import make_region


def by_their_rules(image: Floats, mask: Bools, job: Job, engine: str) -> dict[str, float]:
    """Our values by an oracle's rules, FILTER|TAG, where its rule is another.

    Rings: both oracles sample Simoncelli's frequencies as IBSI's reference maps do. Percentiles: pictologics' is the
    nearest rank.
    """
    settings = settings_of(job)
    image = image.astype(np.float32).astype(np.float64)
    region = make_region(mask, job.spacing_mm)
    box, ranks = around(mask, 0), not engine.startswith("z-rad")
    responses = {"original": image[box]} | dict(filter_responses(image, box, job.spacing_mm, settings))
    found = {}
    for name, response in responses.items():
        ring = name.startswith("simoncelli")
        chosen = skewed_ring(image, int(name[-1]), centred=not ranks)[box] if ring else response
        values = chosen[region.inside].astype(np.float32).astype(np.float64)
        if ring:
            blocks = image_features(values, region, settings.discretisation.response, settings, 0.0)
            for family, block in blocks.items():
                found |= {
                    f"{name}|{feature.ibsi_tag}": float(value)
                    for feature, value in zip(FEATURES[family], block.values, strict=True)
                }
        if ranks:
            levels = discretise(values, settings.discretisation.response)
            found |= {f"{name}|stat_{tag}": value for tag, value in nearest_rank(values).items()}
            found |= {f"{name}|ih_{tag}": value for tag, value in nearest_rank(levels).items()}
    return found


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
