# mypy: disable-error-code="no-untyped-call"
# (SimpleITK ships wrappers without types)
"""CT rigidly onto MRI by mutual information, and the gate that decides whether to believe it.

    result = register(reference, ct, mask)
    result.transform if result.accepted else result.reason

Mattes mutual information over all voxels of the MRI's body, one thread: the same images give the same transform. Three
starts are followed at 4 mm, seven where these do not meet, and the best of them at 2 mm. The gate asks in millimetres,
never by the height of the mutual information, which differs with sequence and body part: do the starts meet, do parts
of the body agree with the whole, and do the two outlines coincide? `benchmarks/README.md` has each answer for true and
for wrong pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fedloupe_client.imaging.outlines import body_of_ct, body_of_mr, mismatch
from fedloupe_client.imaging.threads import one_thread
from fedloupe_client.ingest.formats.volumes import build

COARSE_MM, FINE_MM = 4.0, 2.0
START_MM, START_DEGREES = 12.0, 10.0
FEW_STARTS, MET_MM = 3, 1.0  # as many starts that end so near one another need no more
CORNERS = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
BODY_HU = (-200.0, 300.0)
# Fat to muscle and contrast-filled vessels: what MR tells apart as well. Cortical bone is as dark on it as air.
TISSUE_HU = (-150.0, 150.0)
REACH_MM = 60.0  # of the CT around the MRI's box
SKIN_MM = 6.0  # about the body in the plane, so that its outline counts

MAX_SHIFT_MM = 30.0
MAX_ROTATION_DEGREES = 15.0
MAX_DISAGREEMENT_MM = 3.0
MAX_PARTS_MM = 6.0
MAX_OUTLINE = 0.09


@dataclass(frozen=True)
class Registration:
    """A rigid transform from points of the MRI to points of the CT, and how far to trust it.

    Attributes:
        transform: Euler, about the tumour's centroid.
        shift_mm: how far the tumour's centroid moved from the start, mm.
        rotation_degrees: angle of the rotation.
        disagreement_mm: mean distance of the tumour's voxels between a start's end and the result, median over the
            three or seven starts.
        parts_mm: the same distance between the result and what one half of the body (left, right, front, back, lower,
            upper, cut at the tumour) would choose alone, the largest of the six.
        outline: share of the body that is in one image only, 0 to 1.
        gain: mutual information at the end minus that at the start, nats.
        reason: why it is refused; empty when it is accepted.
    """

    transform: sitk.Euler3DTransform
    shift_mm: float
    rotation_degrees: float
    disagreement_mm: float
    parts_mm: float
    outline: float
    gain: float
    reason: str

    @property
    def accepted(self) -> bool:
        """Whether the gate lets it pass."""
        return not self.reason


@one_thread()
def register(reference: sitk.Image, ct: sitk.Image, mask: sitk.Image) -> Registration:
    """Register a CT onto the reference MRI.

    Args:
        reference: float32 MR image.
        ct: float32 CT in HU.
        mask: the tumour on the reference's grid, not empty; where ends are compared.
    """
    points = _tumour_points(mask)
    # scans of one session share their coordinates; otherwise bring the centres together
    start = np.zeros(3) if _overlap(reference, ct) >= 0.5 else _centre(ct) - _centre(reference)
    ct = _within_reach(ct, reference, start)
    tissue = sitk.Clamp(ct, sitk.sitkFloat32, *TISSUE_HU)
    coarse, fine = (_Pair.at(reference, tissue, mm) for mm in (COARSE_MM, FINE_MM))
    centre = points.mean(0)
    before = coarse.information(_euler(centre, start))
    ends: list[tuple[sitk.Euler3DTransform, float]] = []
    for shift, turn in _starts():
        if len(ends) == FEW_STARTS and _spread(ends, points) <= MET_MM:
            break
        ends.append(coarse.follow(_euler(centre, start + shift, turn)))
    best = max(ends, key=lambda end: end[1])
    final, _ = fine.follow(best[0], levels=1)
    moved = _moved(final, points)
    apart = [float(np.linalg.norm(_moved(end, points) - moved, axis=1).mean()) for end, _ in ends]
    halves = [coarse.only(half).follow(final, levels=1)[0] for half in _halves(coarse.region, centre)]
    parts = [float(np.linalg.norm(_moved(end, points) - moved, axis=1).mean()) for end in halves]
    found = Registration(
        transform=final,
        shift_mm=float(np.linalg.norm(np.array(final.GetTranslation()) - start)),
        rotation_degrees=_angle(final),
        disagreement_mm=float(np.median(apart)),
        parts_mm=max(parts),
        outline=mismatch(fine.body, body_of_ct(_shrunk(ct, FINE_MM)), final),
        gain=best[1] - before,
        reason="",
    )
    return replace(found, reason=_reason(found))


def _reason(found: Registration) -> str:
    """Why a result is not to be believed; empty where it is."""
    reasons = [
        text
        for wrong, text in (
            (found.shift_mm > MAX_SHIFT_MM, f"a shift of {found.shift_mm:.0f} mm"),
            (found.rotation_degrees > MAX_ROTATION_DEGREES, f"a rotation of {found.rotation_degrees:.0f} degrees"),
            (found.disagreement_mm > MAX_DISAGREEMENT_MM, f"starts that end {found.disagreement_mm:.1f} mm apart"),
            (found.parts_mm > MAX_PARTS_MM, f"parts of the body that lie {found.parts_mm:.1f} mm apart"),
            (found.outline > MAX_OUTLINE, f"outlines that differ by {found.outline:.0%} of the body"),
            (found.gain < 0, "less mutual information than before"),
        )
        if wrong
    ]
    return f"CT does not register onto the MRI: {', '.join(reasons)}" if reasons else ""


@dataclass(frozen=True)
class _Pair:
    """Both images at one resolution, and where on the MRI's grid they are compared."""

    fixed: sitk.Image
    moving: sitk.Image
    body: sitk.Image
    region: sitk.Image

    @classmethod
    def at(cls, reference: sitk.Image, ct: sitk.Image, voxel_mm: float) -> _Pair:
        fixed = _shrunk(reference, voxel_mm)
        body = body_of_mr(fixed)
        region = sitk.BinaryDilate(body, [*(round(SKIN_MM / s) for s in fixed.GetSpacing()[:2]), 0])
        return cls(fixed, _shrunk(ct, voxel_mm), body, region)

    def only(self, region: sitk.Image) -> _Pair:
        return replace(self, region=region)

    def _method(self, levels: int) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricSamplingStrategy(method.NONE)
        method.SetMetricFixedMask(self.region)
        method.SetInterpolator(sitk.sitkLinear)
        sigma = self.fixed.GetSpacing()[0] / 2
        method.SetShrinkFactorsPerLevel([2, 1][-levels:])
        method.SetSmoothingSigmasPerLevel([2 * sigma, sigma][-levels:])
        method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=self.fixed.GetSpacing()[0] / (3 - levels),
            minStep=0.02,
            numberOfIterations=40,
            relaxationFactor=0.5,
            gradientMagnitudeTolerance=1e-6,
        )
        method.SetOptimizerScalesFromPhysicalShift()
        return method

    def information(self, transform: sitk.Euler3DTransform) -> float:
        """Mutual information in nats; minus infinity where the images do not meet."""
        method = self._method(1)
        method.SetInitialTransform(sitk.Euler3DTransform(transform), inPlace=True)
        try:
            return -float(method.MetricEvaluate(self.fixed, self.moving))
        except RuntimeError:  # "all samples map outside moving image buffer"
            return -np.inf

    def follow(self, start: sitk.Euler3DTransform, levels: int = 2) -> tuple[sitk.Euler3DTransform, float]:
        """The end of the climb from a start and its mutual information in nats; the start where it leaves the CT."""
        transform = sitk.Euler3DTransform(start)
        method = self._method(levels)
        method.SetInitialTransform(transform, inPlace=True)
        try:
            method.Execute(self.fixed, self.moving)
        except RuntimeError:  # "all samples map outside moving image buffer"
            return start, -np.inf
        return transform, -float(method.GetMetricValue())


def _spread(ends: list[tuple[sitk.Euler3DTransform, float]], points: NDArray[np.float64]) -> float:
    """The largest mean distance of the tumour's voxels between the first end and another, mm."""
    first = _moved(ends[0][0], points)
    return max(float(np.linalg.norm(_moved(end, points) - first, axis=1).mean()) for end, _ in ends[1:])


def _starts() -> Iterator[tuple[NDArray[np.float64], float]]:
    """Shifts in mm, to nowhere and to the corners of a tetrahedron, and turns about the patient's long axis."""
    yield np.zeros(3), 0.0
    for corner in CORNERS:
        yield START_MM / np.sqrt(3) * np.array(corner, float), 0.0
    for degrees in (START_DEGREES, -START_DEGREES):
        yield np.zeros(3), float(np.radians(degrees))


def _euler(centre: NDArray[np.float64], shift: NDArray[np.float64], turn: float = 0.0) -> sitk.Euler3DTransform:
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetRotation(0.0, 0.0, turn)
    transform.SetTranslation(shift.tolist())
    return transform


def _halves(region: sitk.Image, centre: NDArray[np.float64]) -> Iterator[sitk.Image]:
    """The region on either side of the tumour's centroid along each axis of the grid."""
    array = sitk.GetArrayFromImage(region)
    middle = region.TransformPhysicalPointToContinuousIndex(centre.tolist())[::-1]
    for axis, at in enumerate(middle):
        below = np.expand_dims(np.arange(array.shape[axis]) < at, [other for other in range(3) if other != axis])
        yield build(array * below, region)
        yield build(array * ~below, region)


def _angle(transform: sitk.Euler3DTransform) -> float:
    turn = np.array(transform.GetMatrix()).reshape(3, 3)
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))


def _moved(transform: sitk.Euler3DTransform, points: NDArray[np.float64]) -> NDArray[np.float64]:
    turn, centre = np.array(transform.GetMatrix()).reshape(3, 3), np.array(transform.GetCenter())
    moved: NDArray[np.float64] = (points - centre) @ turn.T + centre + np.array(transform.GetTranslation())
    return moved


def _shrunk(image: sitk.Image, voxel_mm: float) -> sitk.Image:
    factors = [
        max(1, min(round(voxel_mm / s), n // 8)) for s, n in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    shrunk: sitk.Image = sitk.BinShrink(image, factors)
    return shrunk


def _within_reach(ct: sitk.Image, reference: sitk.Image, start: NDArray[np.float64]) -> sitk.Image:
    """The part of a long CT that the MRI can get to; the whole where none is near."""
    ends = [(0, n - 1) for n in reference.GetSize()]
    corners = [reference.TransformIndexToPhysicalPoint((i, j, k)) for i in ends[0] for j in ends[1] for k in ends[2]]
    there = np.array([ct.TransformPhysicalPointToContinuousIndex((np.array(c) + start).tolist()) for c in corners])
    reach = REACH_MM / np.array(ct.GetSpacing())
    low = np.maximum(np.floor(there.min(0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(there.max(0) + reach) + 1, ct.GetSize()).astype(int)
    if (high <= low).any():
        return ct
    near: sitk.Image = sitk.RegionOfInterest(ct, (high - low).tolist(), low.tolist())
    return near


def _centre(image: sitk.Image) -> NDArray[np.float64]:
    return np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))


def _overlap(fixed: sitk.Image, moving: sitk.Image) -> float:
    coarse = _shrunk(fixed, 2 * COARSE_MM)
    ones = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(moving)
    seen = sitk.Resample(ones, coarse, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkNearestNeighbor, 0)
    return float(sitk.GetArrayViewFromImage(seen).mean())


def _tumour_points(mask: sitk.Image) -> NDArray[np.float64]:
    inside = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0)[:, ::-1]
    inside = inside[:: max(1, len(inside) // 200)]
    axes = np.array(mask.GetDirection()).reshape(3, 3)
    points: NDArray[np.float64] = (inside * np.array(mask.GetSpacing())) @ axes.T + np.array(mask.GetOrigin())
    return points
