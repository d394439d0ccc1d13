# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""CT rigidly onto MRI by mutual information, and the gate that decides whether to believe it.

    result = register(reference, ct, mask)
    result.transform if result.accepted else result.reason

Mattes mutual information over all voxels of about 4 mm, two resolutions, one thread: the same images give the same
transform. It is run from two starts; a true match draws both to one place, a wrong one seldom does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

VOXEL_MM = 4.0
MAX_SHIFT_MM = 30.0
MAX_ROTATION_DEGREES = 15.0
MAX_DISAGREEMENT_MM = 2.0
SECOND_START_MM = (6.0, -6.0, 6.0)
BODY_HU = (-200.0, 300.0)


@dataclass(frozen=True)
class Registration:
    """A rigid transform from points of the MRI to points of the CT, and how far to trust it.

    Attributes:
        transform: Euler, about the MRI's centre.
        shift_mm: length of the translation from the start, mm.
        rotation_degrees: angle of the rotation.
        disagreement_mm: mean distance of the tumour's voxels between the two starts.
        gain: mutual information at the end minus that at the start, nats.
        reason: why it is refused; empty when it is accepted.
    """

    transform: sitk.Euler3DTransform
    shift_mm: float
    rotation_degrees: float
    disagreement_mm: float
    gain: float
    reason: str

    @property
    def accepted(self) -> bool:
        """Whether the gate lets it pass."""
        return not self.reason


def register(reference: sitk.Image, ct: sitk.Image, mask: sitk.Image) -> Registration:
    """Register a CT onto the reference MRI.

    Args:
        reference: float32 MR image.
        ct: float32 CT in HU.
        mask: the tumour on the reference's grid; where the two starts are compared.
    """
    fixed = _coarse(reference)
    moving = _coarse(sitk.Clamp(ct, sitk.sitkFloat32, *BODY_HU))
    centre = _centre(fixed)
    # scans of one session share their coordinates; otherwise bring the centres together
    start = np.zeros(3) if _overlap(fixed, moving) >= 0.5 else _centre(moving) - centre
    ends = [_optimise(fixed, moving, centre, start + offset) for offset in (np.zeros(3), np.array(SECOND_START_MM))]
    (first, before, after), (second, _, _) = ends
    points = _tumour_points(mask)
    moved = [np.array([end.TransformPoint(p) for p in points.tolist()]) for end in (first, second)]
    disagreement = float(np.linalg.norm(moved[0] - moved[1], axis=1).mean())
    shift = float(np.linalg.norm(np.array(first.GetTranslation()) - start))
    turn = np.array(first.GetMatrix()).reshape(3, 3)
    rotation = float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
    gain = after - before
    reasons = [
        text
        for wrong, text in (
            (shift > MAX_SHIFT_MM, f"a shift of {shift:.0f} mm"),
            (rotation > MAX_ROTATION_DEGREES, f"a rotation of {rotation:.0f} degrees"),
            (disagreement > MAX_DISAGREEMENT_MM, f"two starts that end {disagreement:.1f} mm apart"),
            (gain < 0, "less mutual information than before"),
        )
        if wrong
    ]
    reason = f"CT does not register onto the MRI: {', '.join(reasons)}" if reasons else ""
    return Registration(first, shift, rotation, disagreement, gain, reason)


def _coarse(image: sitk.Image) -> sitk.Image:
    factors = [
        max(1, min(round(VOXEL_MM / s), n // 8)) for s, n in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    shrunk: sitk.Image = sitk.BinShrink(image, factors)
    return shrunk


def _centre(image: sitk.Image) -> NDArray[np.float64]:
    return np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))


def _overlap(fixed: sitk.Image, moving: sitk.Image) -> float:
    ones = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(moving)
    seen = sitk.Resample(ones, fixed, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkNearestNeighbor, 0)
    return float(sitk.GetArrayViewFromImage(seen).mean())


def _tumour_points(mask: sitk.Image) -> NDArray[np.float64]:
    inside = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0)[:, ::-1]
    inside = inside[:: max(1, len(inside) // 200)]
    axes = np.array(mask.GetDirection()).reshape(3, 3)
    points: NDArray[np.float64] = (inside * np.array(mask.GetSpacing())) @ axes.T + np.array(mask.GetOrigin())
    return points


def _optimise(
    fixed: sitk.Image, moving: sitk.Image, centre: NDArray[np.float64], start: NDArray[np.float64]
) -> tuple[sitk.Euler3DTransform, float, float]:
    """Transform, and mutual information in nats before and after."""
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetTranslation(start.tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0, minStep=0.02, numberOfIterations=60, relaxationFactor=0.5, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([4, 2])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.SetInitialTransform(transform, inPlace=True)
    before = -float(method.MetricEvaluate(fixed, moving))
    method.Execute(fixed, moving)
    return transform, before, -float(method.GetMetricValue())
