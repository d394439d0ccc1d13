"""What a synthetic cohort holds: sites, sizes and scanners, each a number on one line.

spec = CohortSpec(seed=7).scaled(0.1)      # six small hospitals, the same patients as the first of the full ones
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from fedloupe.errors import FedLoupeError

Format = Literal["dicom-rtstruct", "dicom-seg", "nifti"]
Vendor = Literal["a", "b"]
Grid = tuple[float, float]

MRI_SEQUENCES = ("t2w", "adc", "dce_pre", "dce_peak", "dce_late")
FIRST_SEQUENCE = "t2w"
SMALLEST_SITE = 8
HEAVIEST = 3.0  # weight of calcification; the others weigh 0.25 to 0.75


class UnknownCohortSite(FedLoupeError):
    """The cohort has no site of that name."""

    code = "FL-780"
    title = "the synthetic cohort has no such site"


class CohortFolderTaken(FedLoupeError):
    """The folder holds something else than this cohort."""

    code = "FL-781"
    title = "the folder for the synthetic cohort holds something else"


class CohortUnwritable(FedLoupeError):
    """The folder cannot be written."""

    code = "FL-782"
    title = "the synthetic cohort cannot be written"


class CohortSpecInvalid(FedLoupeError):
    """Sizes, prevalences or names make no cohort."""

    code = "FL-783"
    title = "the description of the synthetic cohort is not valid"


@dataclass(frozen=True)
class SiteSpec:
    """One synthetic hospital.

    Attributes:
        name: lower case; the first three letters begin its case ids.
        role: `train` or `validate`, as in the study.
        patients: number of patients, one case each.
        prevalence: expected share with the event (response), in (0, 1); solved for by an intercept.
        format: how the site brings its data.
        vendor: naming habits of its DICOM series.
        gain: factor on MR intensity.
        gamma: exponent on MR intensity (vendor-like contrast curve).
        bias: amplitude of the log bias field, about half its range within the volume.
        noise: SD of the Rician noise, as a share of a signal of 1000.
        blur_mm: SD of the in-plane point spread, mm.
        t2_mm: (in-plane, slice) spacing of T2w and the mask, mm.
        functional_mm: (in-plane, slice) spacing of ADC, DCE and CT, mm.
        adc_scale: calibration error of ADC, a factor.
        late_shift: added to the late-to-peak enhancement ratio: another delay of the late phase.
        contour: habit of contouring, in units of the smoothed mask: positive draws tighter.
        missing: a sequence that the whole site lacks, or None.
        has_ct: also a planning CT, off by a rigid motion.
    """

    name: str
    role: Literal["train", "validate"]
    patients: int
    prevalence: float
    format: Format
    vendor: Vendor = "a"
    gain: float = 1.0
    gamma: float = 1.0
    bias: float = 0.15
    noise: float = 0.02
    blur_mm: float = 0.8
    t2_mm: Grid = (1.6, 3.0)
    functional_mm: Grid = (2.0, 4.0)
    adc_scale: float = 1.0
    late_shift: float = 0.0
    contour: float = 0.0
    missing: str | None = None
    has_ct: bool = False

    @property
    def sequences(self) -> tuple[str, ...]:
        """The sequences that the site has, T2w first."""
        mri = tuple(name for name in MRI_SEQUENCES if name != self.missing)
        return (*mri, "ct") if self.has_ct else mri

    def case(self, index: int) -> str:
        """The local id of a patient, as `NOR-0042` for index 41."""
        return f"{self.name[:3].upper()}-{index + 1:04d}"


DEMO_SITES = (
    SiteSpec("north", "train", 70, 0.40, "dicom-rtstruct", gain=0.45, gamma=0.95, bias=0.15, noise=0.020),
    SiteSpec(
        "harbour", "train", 60, 0.33, "dicom-seg", vendor="b", gain=2.6, gamma=1.10, bias=0.25, noise=0.025,
        t2_mm=(1.8, 3.5), adc_scale=1.03, late_shift=-0.05, contour=0.05,
    ),
    SiteSpec(
        "lakeside", "train", 80, 0.48, "nifti", gain=1.0, gamma=0.90, bias=0.20, noise=0.030,
        blur_mm=1.0, adc_scale=0.97, late_shift=0.06, contour=-0.05,
    ),
    SiteSpec(
        "hillcrest", "train", 60, 0.28, "nifti", gain=0.8, gamma=1.05, bias=0.30, noise=0.025,
        t2_mm=(1.8, 3.0), functional_mm=(2.0, 3.5), adc_scale=1.02, missing="dce_late",
    ),
    SiteSpec(
        "riverside", "train", 40, 0.55, "nifti", gain=1.6, gamma=1.00, bias=0.10, noise=0.035,
        blur_mm=0.9, adc_scale=0.98, late_shift=0.03, contour=0.04, has_ct=True,
    ),
    SiteSpec(
        "island", "validate", 100, 0.37, "nifti", gain=3.2, gamma=1.15, bias=0.25, noise=0.030,
        blur_mm=1.0, t2_mm=(1.8, 3.5), adc_scale=1.04, late_shift=-0.03, contour=-0.04,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class CohortSpec:
    """A seed and the sites; the same spec gives the same bytes.

    Attributes:
        seed: of everything that is drawn.
        sites: the hospitals.
        calcification: weight of an image latent that CT alone shows, in the score; 0: CT shows it, and it has no
            bearing on response; None: no tumour is calcified.

    Raises:
        CohortSpecInvalid: no site, a name twice, a size or prevalence out of range, or the first sequence missing.
    """

    seed: int = 1
    sites: tuple[SiteSpec, ...] = DEMO_SITES
    calcification: float | None = None

    def __post_init__(self) -> None:
        prefixes = [site.name[:3] for site in self.sites]
        problems = ["it has no site"] if not self.sites else []
        problems += ["two sites share the first three letters of their names"] * (len(set(prefixes)) < len(prefixes))
        problems += [f"`patients` is below 1 at {s.name}" for s in self.sites if s.patients < 1]
        problems += [f"`prevalence` is not within (0, 1) at {s.name}" for s in self.sites if not 0 < s.prevalence < 1]
        problems += [
            f"`missing` is `{s.missing}` at {s.name}, accepted: {', '.join(MRI_SEQUENCES[1:])}"
            for s in self.sites
            if s.missing not in (None, *MRI_SEQUENCES[1:])
        ]
        if self.calcification is not None and not abs(self.calcification) <= HEAVIEST:
            problems.append(f"`calcification` is not within -{HEAVIEST:g} and {HEAVIEST:g}")
        if self.seed < 0:
            problems.append("`seed` is negative")
        if problems:
            raise CohortSpecInvalid("; ".join(problems), remedy="correct these numbers of the cohort")

    def scaled(self, scale: float) -> CohortSpec:
        """The same hospitals with `scale` times the patients, at least `SMALLEST_SITE` each (or all they have).

        Raises:
            CohortSpecInvalid: `scale` is not positive.
        """
        if not scale > 0:
            raise CohortSpecInvalid(f"`scale` is {scale}", remedy="give a factor above 0, such as 0.25")
        sizes = (max(round(s.patients * scale), min(SMALLEST_SITE, s.patients)) for s in self.sites)
        return replace(self, sites=tuple(replace(s, patients=n) for s, n in zip(self.sites, sizes, strict=True)))

    def site(self, name: str) -> SiteSpec:
        """The site of that name.

        Raises:
            UnknownCohortSite: there is none.
        """
        for site in self.sites:
            if site.name == name:
                return site
        known = ", ".join(site.name for site in self.sites)
        raise UnknownCohortSite(f"there is no synthetic site `{name}`", remedy=f"choose one of: {known}")

    @property
    def digest(self) -> str:
        """SHA-256 of every number of the cohort, in hex."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    @property
    def content(self) -> dict[str, Any]:
        """Every number of the cohort; without `calcification` where there is none, so older digests stay."""
        numbers = asdict(self)
        return numbers if self.calcification is not None else {k: v for k, v in numbers.items() if k != "calcification"}


def entropy(*parts: str | int) -> int:
    """A 128-bit number from a path such as (seed, site, index, purpose): seeds random streams, makes UIDs."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
