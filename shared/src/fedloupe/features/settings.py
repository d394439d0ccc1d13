"""The settings that feature values depend on, their canonical form and its digest.

    settings = parse_settings(yaml.safe_load(text))
    settings.digest          # stands in every feature table; equal where values may be compared

A section that came later than the first version (filters, aggregation, rim, differences) is left out of the canonical
form where it is not used: older settings keep their digest.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from fedloupe.errors import FedLoupeError
from fedloupe.features.catalogue import ALL_FAMILIES, ORIGINAL_FAMILIES, Family, OriginalFamily

Intensity = Literal["zscore", "physical", "hounsfield"]
Aggregation = Literal[
    "averaged_2d", "slice_merged_2d", "direction_merged_25d", "merged_25d", "averaged_3d", "merged_3d"
]
LATER = (
    "original_families",
    "volume_histogram",
    "simoncelli_levels",
    "simoncelli_frequencies",
    "laws",
    "laws_energy_mm",
    "aggregation",
    "rim_mm",
    "delta",
)


class FeatureSettingsInvalid(FedLoupeError):
    """The study's feature settings are not those of this version."""

    code = "FL-405"
    title = "feature settings are not valid"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BinNumber(_Frozen):
    """A fixed number of bins between the ROI's minimum and maximum (IBSI FBN, K15C); for arbitrary units."""

    method: Literal["bin_number"] = "bin_number"
    bins: int = Field(default=32, ge=2, le=256)


class BinSize(_Frozen):
    """Bins of a fixed width from `origin` (IBSI FBS, Q3RU); values beyond either end go into the end's bin."""

    method: Literal["bin_size"] = "bin_size"
    origin: float = Field(description="lower edge of bin 1, in the image's unit")
    width: float = Field(gt=0, description="in the image's unit")
    limit: int = Field(default=64, ge=2, le=256, description="highest bin")


Discretisation = Annotated[BinNumber | BinSize, Field(discriminator="method")]


class DiscretisationPlan(_Frozen):
    """One discretisation for the original image of each intensity kind, and one for all filter responses."""

    zscore: Discretisation = BinNumber()
    physical: Discretisation = BinSize(origin=0, width=50, limit=64)
    hounsfield: Discretisation = BinSize(origin=-200, width=25, limit=20)
    response: BinNumber = BinNumber()


class VolumeBinNumber(BinNumber):
    """Bins of the intensity-volume histogram in arbitrary units; intensities are then bin numbers (IBSI)."""

    bins: int = Field(default=1000, ge=2, le=4096)


class VolumeBinSize(BinSize):
    """Bins of the intensity-volume histogram in a known unit; intensities are then bin centres in that unit."""

    limit: int = Field(ge=2, le=65536, description="highest bin; with `origin` and `width` the range that counts")


class VolumePlan(_Frozen):
    """Bins of the intensity-volume histogram for each intensity kind: fine, so that they decide nothing."""

    zscore: VolumeBinNumber | VolumeBinSize = Field(default=VolumeBinNumber(), discriminator="method")
    physical: VolumeBinNumber | VolumeBinSize = Field(
        default=VolumeBinSize(origin=0, width=10, limit=400), discriminator="method"
    )
    hounsfield: VolumeBinNumber | VolumeBinSize = Field(
        default=VolumeBinSize(origin=-200, width=2.5, limit=200), discriminator="method"
    )


class FeatureSettings(_Frozen):
    """All that feature values depend on, besides the images; what `configs/radiomics.yaml` holds.

    Boundaries reflect as in `scipy.ndimage` mode "reflect", filter responses are rounded to float32 before anything
    else. With a 2D or 2.5D aggregation neighbours, zones, distances and filters stay within the slice.
    """

    version: Literal[1] = 1
    families: tuple[Family, ...] = Field(default=ALL_FAMILIES, min_length=1, description="of every image")
    shape: bool = Field(default=True, description="the case's shape features")
    log_sigmas_mm: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field(
        default=(2.0, 3.0, 5.0), description="Laplacian of Gaussian; at least one voxel, or it samples noise"
    )
    log_truncate: float = Field(default=4.0, ge=3, le=6, description="kernel radius in sigmas")
    wavelet: Literal["coif1", "db2", "db3", "haar"] | None = Field(
        default="coif1", description="undecimated, one level, eight sub-bands"
    )
    wavelet_mirrored: bool = Field(
        default=True, description="average over mirrored kernels: an image and its mirror image get the same features"
    )
    discretisation: DiscretisationPlan = DiscretisationPlan()
    distance: Literal[1] = Field(default=1, description="Chebyshev distance of neighbours, voxels")
    ngldm_alpha: int = Field(
        default=0, ge=0, le=8, description="coarseness: largest difference of dependent grey levels"
    )
    original_families: tuple[OriginalFamily, ...] = Field(default=(), description="of unfiltered images alone")
    volume_histogram: VolumePlan = Field(default=VolumePlan(), description="bins of the family `ivh`")
    simoncelli_levels: tuple[Annotated[int, Field(ge=1, le=3)], ...] = Field(
        default=(), description="non-separable wavelet, band-pass maps by level; 1 is the finest"
    )
    simoncelli_frequencies: Literal["exact", "ibsi"] = Field(
        default="exact", description="exact: whatever the crop's size; ibsi: spread as in IBSI-2's reference maps"
    )
    laws: tuple[Annotated[str, Field(pattern=r"^([LES][35]|[WR]5){2,3}$")], ...] = Field(
        default=(), description="rotation-invariant energies of these kernels: one letter and length an axis"
    )
    laws_energy_mm: float = Field(default=7.0, gt=0, le=20, description="half the edge of the box of the energy's mean")
    aggregation: Aggregation = Field(
        default="merged_3d", description="of texture matrices over slices and directions (IBSI, section 3.6)"
    )
    rim_mm: float | None = Field(
        default=None, gt=0, le=20, description="a second set from the shell around the tumour of this thickness"
    )
    delta: tuple[tuple[str, str], ...] = Field(
        default=(), description="(later, earlier): features of the difference image of two sequences"
    )

    @model_validator(mode="after")
    def _no_repeats(self) -> Self:
        if tuple(f for f in ALL_FAMILIES if f in self.families) != self.families:
            raise ValueError(f"`families` must keep this order, each once: {', '.join(ALL_FAMILIES)}")
        if tuple(f for f in ORIGINAL_FAMILIES if f in self.original_families) != self.original_families:
            raise ValueError(f"`original_families` must keep this order, each once: {', '.join(ORIGINAL_FAMILIES)}")
        for key in ("log_sigmas_mm", "simoncelli_levels"):
            if list(getattr(self, key)) != sorted(set(getattr(self, key))):
                raise ValueError(f"`{key}` must increase")
        if len({tuple(sorted(_kernels(name))) for name in self.laws}) != len(self.laws):
            raise ValueError("`laws` holds two orders of the same kernels, whose rotation-invariant energy is one")
        if any(len(_kernels(name)) != (2 if self.planar else 3) for name in self.laws):
            raise ValueError("`laws` needs three kernels a name, and two with a 2D or 2.5D `aggregation`")
        if len(set(self.delta)) != len(self.delta) or any(later == earlier for later, earlier in self.delta):
            raise ValueError("`delta` must hold pairs of two different sequences, each once")
        return self

    @model_serializer(mode="wrap")
    def _without_unused_sections(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Settings that use nothing newer keep the canonical form, and so the digest, of the first version."""
        content: dict[str, Any] = handler(self)
        for key in LATER:
            if getattr(self, key) == type(self).model_fields[key].default:
                content.pop(key, None)
        return content

    @property
    def canonical(self) -> str:
        """Canonical JSON: sorted keys, no spaces, all defaults written out but for unused later sections."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """SHA-256 of `canonical`: equal where feature values may be compared."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @property
    def planar(self) -> bool:
        """Whether neighbours and filters stay within the slice."""
        return not self.aggregation.endswith("_3d")

    @property
    def margin_mm(self) -> float:
        """How far around the tumour an image is read: by the rim, and from there by the widest finite kernel."""
        kernels = [self.log_truncate * sigma for sigma in self.log_sigmas_mm]
        return (self.rim_mm or 0.0) + max([*kernels, self.laws_energy_mm if self.laws else 0.0], default=0.0)

    @property
    def rim(self) -> str | None:
        """How names call the rim: `rim_5mm`."""
        return None if self.rim_mm is None else f"rim_{self.rim_mm:g}mm"

    @property
    def filters(self) -> tuple[str, ...]:
        """The images of one sequence, in order: `original`, `log_*mm`, `wavelet_***`, `simoncelli_*`, `laws_*`.

        A wavelet's letters are the pass bands along x, y, z (IBSI-2): `wavelet_LHL` is high-pass along y. Within the
        slice there are two: x, y.
        """
        logs = tuple(f"log_{sigma:g}mm" for sigma in self.log_sigmas_mm)
        depth = ("",) if self.planar else ("L", "H")
        bands = tuple(f"wavelet_{x}{y}{z}" for x in "LH" for y in "LH" for z in depth) if self.wavelet else ()
        rings = tuple(f"simoncelli_{level}" for level in self.simoncelli_levels)
        return ("original", *logs, *bands, *rings, *(f"laws_{name}" for name in self.laws))


def _kernels(name: str) -> tuple[str, ...]:
    """`L5E5E5` -> ("L5", "E5", "E5")."""
    return tuple(name[i : i + 2] for i in range(0, len(name), 2))


def parse_settings(content: object, source: str = "radiomics.settings") -> FeatureSettings:
    """Settings from parsed YAML or JSON.

    Raises:
        FeatureSettingsInvalid: naming each wrong key.
    """
    try:
        return FeatureSettings.model_validate(content)
    except ValidationError as error:
        phrases = [f"`{'.'.join(map(str, item['loc']))}`: {item['msg']}" for item in error.errors()]
        raise FeatureSettingsInvalid(
            "; ".join(phrases), where=source, remedy="mend these keys; configs/radiomics.yaml shows all of them"
        ) from None
