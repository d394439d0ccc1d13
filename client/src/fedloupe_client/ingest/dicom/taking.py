"""The volumes of a case's chosen series: as they are, one of several, or a map computed from several.

volumes, notes = take_all(chosen)             # {"t2w": image, "adc": image, ...} float32, native grids

A dynamic series gives its phases and kinetic maps (`dynamic`), a diffusion series its highest b-value or the ADC
(`diffusion`). An ADC map is in 1e-6 mm2/s.
"""

# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fedloupe_client.ingest.dicom import diffusion, dynamic
from fedloupe_client.ingest.dicom.choose import Chosen
from fedloupe_client.ingest.dicom.rules import DYNAMIC
from fedloupe_client.ingest.dicom.series import on_grid, read_stacks, read_volume
from fedloupe_client.ingest.formats.volumes import build
from fedloupe_client.ingest.problems import AdcUnit, DataProblem, ImageInvalid

_PHASES = ("pre", "peak", "late")


def take_all(chosen: dict[str, Chosen]) -> tuple[dict[str, sitk.Image], tuple[str, ...]]:
    """The image of each sequence, and the notes on how each was chosen and made.

    Raises:
        FileMissing, PermissionRefused, FileUnreadable: the pixels.
        ImageInvalid: values that are not finite.
        AdcUnit, BValues, DynamicTimes, DynamicTooShort, NoEnhancement: see `diffusion` and `dynamic`.
    """
    volumes: dict[str, sitk.Image] = {}
    notes: list[str] = []
    dynamics: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, one in chosen.items():
        if one.note:
            notes.append(one.note)
        try:
            if one.diffusivity:
                image, note = _given_adc(one)
            elif not one.stacks:
                image, note = read_volume(one.grid), ""
            elif one.take in DYNAMIC:
                if one.uid not in dynamics:  # every phase and map of a series comes from one reading
                    wanted: set[str] = {c.take for c in chosen.values() if c.stacks and c.uid == one.uid}
                    dynamics[one.uid] = _dynamic(one, wanted)
                image = on_grid(dynamics[one.uid][one.take], one.grid)
                note = f"taken from a dynamic series of {len(one.stacks)} time points: {one.take.replace('_', ' ')}"
            else:
                image, note = _diffusion(one)
        except DataProblem as error:
            if error.where:
                raise
            raise type(error)(error.what, where=f"{name}: {_folder(one)}", remedy=error.remedy) from None
        if not np.isfinite(sitk.GetArrayViewFromImage(image)).all():
            raise ImageInvalid(
                "the image holds values that are not finite", where=str(_folder(one)), remedy="export the series again"
            )
        volumes[name] = image
        if note:
            notes.append(f"`{name}`: {note}")
    return volumes, tuple(notes)


def _folder(one: Chosen) -> Path:
    return one.grid.slices[0].path.parent


def _dynamic(one: Chosen, wanted: set[str]) -> dict[str, NDArray[np.float32]]:
    frames = read_stacks([stack.grid for stack in one.stacks])
    times = [math.nan if stack.time_s is None else stack.time_s for stack in one.stacks]
    index = dynamic.phases(times, dynamic.mean_curve(frames).tolist())
    found = {phase: frames[index[phase]].copy() for phase in _PHASES if phase in wanted}
    if wanted - set(_PHASES):
        found.update(dynamic.kinetic_maps(frames, times))
    return found


def _diffusion(one: Chosen) -> tuple[sitk.Image, str]:
    b_values = [stack.b_value or 0.0 for stack in one.stacks]
    told = ", ".join(f"{b:g}" for b in sorted(set(b_values)))
    if one.take == "adc":
        frames = read_stacks([stack.grid for stack in one.stacks])
        adc = diffusion.adc_map(frames, b_values)
        return on_grid(adc, one.grid), f"computed from the b-values {told} s/mm2, because there is no ADC series"
    highest = [stack.grid for stack in one.stacks if stack.b_value == max(b_values)]
    mean = read_stacks(highest).mean(0, dtype=np.float64).astype(np.float32)
    return on_grid(mean, one.grid), f"the highest of the b-values {told} s/mm2"


def _given_adc(one: Chosen) -> tuple[sitk.Image, str]:
    """A scanner's ADC map: by its real-world mapping where that is there (PS3.3 C.7.6.16.2.11), else its rescale."""
    values = read_stacks([one.grid], real_world=True)[0]
    micro, note = _in_micro(values, one.grid.slices[0].unit or None)
    return on_grid(micro, one.grid), note


def _in_micro(values: NDArray[np.float32], unit: str | None) -> tuple[NDArray[np.float32], str]:
    """`diffusion.in_micro`, judged by the whole map, else by its brighter tissue.

    Scanners leave the noise of air in the map, some at low values: where there is much of it, as with an endorectal
    coil, it and not the tissue makes the median. Then only what lies above half of the 99.9th percentile votes.
    """
    try:
        return diffusion.in_micro(values, unit)
    except AdcUnit:
        positive = values[values > 0]
        if not positive.size:
            raise
        bright = positive[positive > 0.5 * np.percentile(positive, 99.9)]
        micro, note = diffusion.in_micro(bright, unit)
        factor = 10.0 ** round(math.log10(float(micro[0]) / float(bright[0])))  # units differ by powers of ten
        return (values * factor).astype(np.float32), note


def adc_image(image: sitk.Image, where: str) -> tuple[sitk.Image, str]:
    """An ADC map from a file without a unit, in 1e-6 mm2/s by its magnitude.

    Raises:
        AdcUnit: the magnitude does not tell.
    """
    try:
        values, note = _in_micro(sitk.GetArrayFromImage(image).astype(np.float32), None)
    except AdcUnit as error:
        raise AdcUnit(error.what, where=where, remedy=error.remedy) from None
    return build(values, image), note
