"""One case as it might have come out otherwise: other pose, other contour, noise, other grey levels.

for values, code in perturbed(open_case(store, record, study), study, case):
    ...                                # one perturbation of `study.quality` each, in their order
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.features import BinNumber, BinSize, DiscretisationPlan, FeatureSettings, feature_table, parse_settings
from fedloupe.study import Perturbation, Study
from fedloupe_client.imaging import GridCase, OpenCase, Pose
from fedloupe_client.radiomics import EmptyRegion, extract_case

FEWEST, MOST = 2, 256  # grey levels that the settings allow


def perturbed(opened: OpenCase, study: Study, case: str) -> Iterator[tuple[NDArray[np.float64], str]]:
    """Features of each version of a case.

    Args:
        opened: the case.
        study: with `quality`, its features computed.
        case: its id; with the study's seed and the perturbation it draws directions and noise.

    Yields:
        (p) values, and the code of the error for which this version has none (all NaN), or "".
    """
    settings = parse_settings(study.radiomics.settings)
    width = len(feature_table(settings, [s.name for s in study.sequences]))
    for number, change in enumerate(study.quality.perturbations if study.quality else (), start=1):
        key = hashlib.sha256(f"{study.seed}|quality|{case}|{number}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
        try:
            values = _version(opened, change, settings, rng)
        except FedLoupeError as error:
            # The tumour is gone or outside the image in this version alone: the patient counts where all versions are.
            yield np.full(width, np.nan), error.code
            continue
        yield values, ""


def _version(
    opened: OpenCase, change: Perturbation, settings: FeatureSettings, rng: np.random.Generator
) -> NDArray[np.float64]:
    turn, x, y, z = (float(sign) for sign in rng.choice((-1.0, 1.0), size=4))
    move = change.translate_mm
    grid = opened.grid(Pose(turn * change.rotate_deg, (x * move, y * move, z * move)), change.grow_mm)
    if not grid.mask.any():
        raise EmptyRegion("nothing is left of the mask", where=opened.case, remedy="see `quality` in the study")
    images = noisy(grid, change.noise_sd, rng) if change.noise_sd else grid.images
    rules = with_bins(settings, change.bins_times)
    return extract_case(images, grid.mask, grid.spacing_mm, rules, grid.intensities).values


def noisy(grid: GridCase, share: float, rng: np.random.Generator) -> dict[str, NDArray[np.float32] | None]:
    """Every image with independent Gaussian noise in each voxel.

    Args:
        grid: a case on its grid.
        share: noise's standard deviation, of the image's within the mask.
        rng: draws it.
    """
    result: dict[str, NDArray[np.float32] | None] = {}
    for name, image in grid.images.items():
        result[name] = None
        if image is not None:
            noise = rng.standard_normal(image.shape) * float(image[grid.mask].std()) * share
            result[name] = (image + noise).astype(np.float32)
    return result


def with_bins(settings: FeatureSettings, times: float) -> FeatureSettings:
    """The settings with so many times the grey levels: more or fewer bins, or narrower or wider ones."""
    if times == 1:
        return settings
    plan = settings.discretisation
    changed = {
        name: _rule(rule, times)
        for name in DiscretisationPlan.model_fields
        if isinstance(rule := getattr(plan, name), BinNumber | BinSize)
    }
    fields = {**{name: getattr(plan, name) for name in DiscretisationPlan.model_fields}, **changed}
    return settings.model_copy(update={"discretisation": DiscretisationPlan.model_validate(fields)})


def _rule(rule: BinNumber | BinSize, times: float) -> BinNumber | BinSize:
    if isinstance(rule, BinNumber):
        return BinNumber(bins=_allowed(rule.bins * times))
    return BinSize(origin=rule.origin, width=rule.width / times, limit=_allowed(rule.limit * times))


def _allowed(levels: float) -> int:
    return min(MOST, max(FEWEST, round(levels)))
