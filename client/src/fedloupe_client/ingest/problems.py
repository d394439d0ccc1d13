"""Everything that can be wrong with a hospital's data, each with its own code.

    raise MaskEmpty("the tumour mask holds no voxel", where=str(path), remedy="draw the tumour, or leave the case out")

In this room `what` and `remedy` hold no patient identifier: they become a case record's reason and remedy.
Only `where` may name a file, a case or a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedloupe.errors import FedLoupeError


class FileMissing(FedLoupeError):
    """A file or folder that the configuration names is not there."""

    code = "FL-202"
    title = "file or folder is missing"


class PermissionRefused(FedLoupeError):
    """This user may not read a file or folder; the data themselves may be fine."""

    code = "FL-203"
    title = "permission denied"


class FileUnreadable(FedLoupeError):
    """The content is damaged or of another kind than its place says."""

    code = "FL-204"
    title = "file cannot be read"


class SiteUnknown(FedLoupeError):
    """`site.yaml` names a site that the study does not have."""

    code = "FL-205"
    title = "site is not in the study"


class ColumnMissing(FedLoupeError):
    """The clinical or feature table lacks columns that the study or the configuration names."""

    code = "FL-206"
    title = "table lacks a column"


class TableEmpty(FedLoupeError):
    """No row is left, or rows have no case id."""

    code = "FL-207"
    title = "table has no usable rows"


class OneClass(FedLoupeError):
    """A training site whose cases all have the same label cannot train or test."""

    code = "FL-208"
    title = "site has one class only"


class NoneReady(FedLoupeError):
    """Every case was left out; the store is not replaced."""

    code = "FL-209"
    title = "no case is ready"


class ConfigMismatch(FedLoupeError):
    """`site.yaml` is well formed, but is for another kind of study."""

    code = "FL-210"
    title = "site configuration does not fit the study"


class CaseRepeated(FedLoupeError):
    """Two rows of one case: which is right is the hospital's to say."""

    code = "FL-211"
    title = "case stands in the table more than once"


class PatientRepeated(FedLoupeError):
    """Privacy and splits count patients, so a patient brings one case."""

    code = "FL-212"
    title = "two cases of one patient"


class LabelMissing(FedLoupeError):
    """The outcome is not known: the case is excluded."""

    code = "FL-213"
    title = "label is empty"


class LabelUnknown(FedLoupeError):
    """The outcome is neither among the positive nor among the negative values."""

    code = "FL-214"
    title = "label outside the study's mapping"


class ClinicalInvalid(FedLoupeError):
    """A clinical value is not a finite number, or not among the study's levels."""

    code = "FL-215"
    title = "clinical value is not valid"


class SequenceMissing(FedLoupeError):
    """The case has no image for a required sequence: it is excluded."""

    code = "FL-216"
    title = "required sequence is missing"


class SequenceAmbiguous(FedLoupeError):
    """Which series is meant is not clear."""

    code = "FL-217"
    title = "several series fit one sequence"


class SeriesRefused(FedLoupeError):
    """The files of a series do not form one grey-valued volume in space."""

    code = "FL-220"
    title = "series is not a volume"


class TooFewSlices(SeriesRefused):
    """Too few slices for a volume."""

    code = "FL-221"
    title = "series has fewer than three slices"


class UnevenSlices(SeriesRefused):
    """A slice is missing, or the increment changes."""

    code = "FL-222"
    title = "slices are unevenly spaced"


class MixedOrientation(SeriesRefused):
    """A localizer, or several stacks in one series."""

    code = "FL-223"
    title = "slices have different orientations"


class RepeatedPosition(SeriesRefused):
    """Several phases, echoes or b-values in one series."""

    code = "FL-224"
    title = "several slices at one position"


class GantryTilt(SeriesRefused):
    """Slices are shifted against their normal: the grid is not rectangular."""

    code = "FL-225"
    title = "gantry is tilted"


class ImageInvalid(FedLoupeError):
    """The image is not three-dimensional, or holds values that are not finite."""

    code = "FL-226"
    title = "image values or dimensions are not valid"


class PatientsMixed(FedLoupeError):
    """The folder of a case holds more than one PatientID."""

    code = "FL-227"
    title = "files of several patients in one case"


class MaskMissing(FedLoupeError):
    """There is no mask, structure set or segment for the tumour."""

    code = "FL-230"
    title = "tumour mask is missing"


class MaskEmpty(FedLoupeError):
    """The mask holds no voxel."""

    code = "FL-231"
    title = "tumour mask is empty"


class MaskElsewhere(FedLoupeError):
    """The mask does not lie on the grid of the study's first sequence."""

    code = "FL-232"
    title = "mask on another grid"


class MaskAmbiguous(FedLoupeError):
    """More than one structure, segment or file could be the tumour."""

    code = "FL-233"
    title = "several masks fit"


class MaskInvalid(FedLoupeError):
    """The mask is not binary, not planar, or not finite."""

    code = "FL-234"
    title = "mask is not valid"


class FeaturesMissing(FedLoupeError):
    """The clinical table has the case, the feature table has not."""

    code = "FL-250"
    title = "case has no row of features"


class FeatureNotFinite(FedLoupeError):
    """A feature of the case is empty, text, NaN or infinite."""

    code = "FL-251"
    title = "feature is not a finite number"


class FeatureNotNumeric(FedLoupeError):
    """A column holds text throughout: it is not a feature."""

    code = "FL-252"
    title = "feature column is not numeric"


class StoreMissing(FedLoupeError):
    """There is no case store in the site's home."""

    code = "FL-260"
    title = "cases have not been ingested"


class StoreUnreadable(FedLoupeError):
    """The store is of another version, damaged or not permitted."""

    code = "FL-261"
    title = "case store cannot be read"


@dataclass(frozen=True)
class Trouble:
    """A problem of one case as a value: it can cross processes and becomes the case's record.

    `excluded` means that something is absent; `broken` that something must be mended.
    """

    status: Literal["excluded", "broken"]
    code: str
    reason: str
    remedy: str
    where: str

    @classmethod
    def of(cls, error: FedLoupeError) -> Trouble:
        """The problem that an error of this room describes."""
        absent = isinstance(error, SequenceMissing | LabelMissing)
        return cls("excluded" if absent else "broken", error.code, error.what, error.remedy, error.where)
