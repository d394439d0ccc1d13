"""Everything that can be wrong with a hospital's data, each with its own code.

    raise MaskEmpty("the tumour mask holds no voxel", where=str(path), remedy="draw the tumour, or leave the case out")

In this room `what` and `remedy` hold no patient identifier: they become a case record's reason and remedy.
Only `where` may name a file, a case or a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fedloupe.errors import FedLoupeError

Kind = Literal["permission", "absence", "corruption", "degenerate", "mislabelled", "configuration"]
URGENCY: tuple[Kind, ...] = ("permission", "configuration", "corruption", "mislabelled", "degenerate", "absence")


class DataProblem(FedLoupeError):
    """Base of what can be wrong with a site's data.

    Attributes:
        kind: what sort of finding it is, and so who mends it. `permission`: the data may be fine, this user may not
            read them. `absence`: something is not there. `corruption`: it was there and is damaged. `degenerate`: it
            can be read, and holds nothing to work with. `mislabelled`: it can be read, and contradicts itself or
            belongs to something else. `configuration`: the data may be fine, `site.yaml` or the study must say which
            are meant. `URGENCY` lists them in the order in which to mend them.
    """

    kind: ClassVar[Kind]


class FileMissing(DataProblem):
    """A file or folder that the configuration names is not there."""

    code = "FL-202"
    title = "file or folder is missing"
    kind = "absence"


class PermissionRefused(DataProblem):
    """This user may not read a file or folder; the data themselves may be fine."""

    code = "FL-203"
    title = "permission denied"
    kind = "permission"


class FileUnreadable(DataProblem):
    """The content is damaged or of another kind than its place says."""

    code = "FL-204"
    title = "file cannot be read"
    kind = "corruption"


class SiteUnknown(DataProblem):
    """`site.yaml` names a site that the study does not have."""

    code = "FL-205"
    title = "site is not in the study"
    kind = "configuration"


class ColumnMissing(DataProblem):
    """The clinical or feature table lacks columns that the study or the configuration names."""

    code = "FL-206"
    title = "table lacks a column"
    kind = "configuration"


class TableEmpty(DataProblem):
    """No row is left, or rows have no case id."""

    code = "FL-207"
    title = "table has no usable rows"
    kind = "absence"


class OneClass(DataProblem):
    """A training site whose cases all have the same label cannot train or test."""

    code = "FL-208"
    title = "site has one class only"
    kind = "degenerate"


class NoneReady(DataProblem):
    """Every case was left out; the store is not replaced."""

    code = "FL-209"
    title = "no case is ready"
    kind = "absence"


class ConfigMismatch(DataProblem):
    """`site.yaml` is well formed, but is for another kind of study."""

    code = "FL-210"
    title = "site configuration does not fit the study"
    kind = "configuration"


class CaseRepeated(DataProblem):
    """Two rows of one case: which is right is the hospital's to say."""

    code = "FL-211"
    title = "case stands in the table more than once"
    kind = "mislabelled"


class PatientRepeated(DataProblem):
    """Privacy and splits count patients, so a patient brings one case."""

    code = "FL-212"
    title = "two cases of one patient"
    kind = "mislabelled"


class LabelMissing(DataProblem):
    """The outcome is not known: the case is excluded."""

    code = "FL-213"
    title = "label is empty"
    kind = "absence"


class LabelUnknown(DataProblem):
    """The outcome is neither among the positive nor among the negative values."""

    code = "FL-214"
    title = "label outside the study's mapping"
    kind = "mislabelled"


class ClinicalInvalid(DataProblem):
    """A clinical value is not a finite number, or not among the study's levels."""

    code = "FL-215"
    title = "clinical value is not valid"
    kind = "mislabelled"


class SequenceMissing(DataProblem):
    """The case has no image for a required sequence: it is excluded."""

    code = "FL-216"
    title = "required sequence is missing"
    kind = "absence"


class SequenceAmbiguous(DataProblem):
    """Which series is meant is not clear."""

    code = "FL-217"
    title = "several series fit one sequence"
    kind = "configuration"


class SeriesRefused(DataProblem):
    """The files of a series do not form one grey-valued volume in space."""

    code = "FL-220"
    title = "series is not a volume"
    kind: ClassVar[Kind] = "degenerate"


class TooFewSlices(SeriesRefused):
    """Too few slices for a volume."""

    code = "FL-221"
    title = "series has fewer than three slices"


class UnevenSlices(SeriesRefused):
    """A slice is missing, or the increment changes."""

    code = "FL-222"
    title = "slices are unevenly spaced"
    kind = "corruption"


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


class ImageInvalid(DataProblem):
    """The image is not three-dimensional, or holds values that are not finite."""

    code = "FL-226"
    title = "image values or dimensions are not valid"
    kind = "degenerate"


class PatientsMixed(DataProblem):
    """The folder of a case holds more than one PatientID."""

    code = "FL-227"
    title = "files of several patients in one case"
    kind = "mislabelled"


class MaskMissing(DataProblem):
    """There is no mask, structure set or segment for the tumour."""

    code = "FL-230"
    title = "tumour mask is missing"
    kind = "absence"


class MaskEmpty(DataProblem):
    """The mask holds no voxel."""

    code = "FL-231"
    title = "tumour mask is empty"
    kind = "degenerate"


class MaskElsewhere(DataProblem):
    """The mask does not lie on the grid of the study's first sequence."""

    code = "FL-232"
    title = "mask on another grid"
    kind = "mislabelled"


class MaskAmbiguous(DataProblem):
    """More than one structure, segment or file could be the tumour."""

    code = "FL-233"
    title = "several masks fit"
    kind = "configuration"


class MaskInvalid(DataProblem):
    """The mask is not binary, not planar, or not finite."""

    code = "FL-234"
    title = "mask is not valid"
    kind = "degenerate"


class RulesInvalid(DataProblem):
    """The series rules are not valid: each wrong key is named."""

    code = "FL-235"
    title = "series rules are not valid"
    kind = "configuration"


class ChoicesInvalid(DataProblem):
    """The site's own choices of series cannot be understood."""

    code = "FL-236"
    title = "file of series choices is not valid"
    kind = "configuration"


class ChoiceUnknown(DataProblem):
    """The site chose a series that this case does not have, or whose number it has twice."""

    code = "FL-237"
    title = "chosen series is not in the case"
    kind = "configuration"


class FramesDiffer(DataProblem):
    """Sequences of one case lie in different frames of reference: nothing says that the patient lay still."""

    code = "FL-238"
    title = "sequences lie in different frames of reference"
    kind = "mislabelled"


class DrawingEmpty(DataProblem):
    """The case has no mask of its own, and the site's drawing model finds no tumour in it."""

    code = "FL-239"
    title = "no mask, and the model drew none"
    kind = "absence"


class DrawingUnsuited(DataProblem):
    """The site's drawing model was trained on other sequences than the study has."""

    code = "FL-240"
    title = "drawing model does not suit the study"
    kind = "configuration"


class FeaturesMissing(DataProblem):
    """The clinical table has the case, the feature table has not."""

    code = "FL-250"
    title = "case has no row of features"
    kind = "absence"


class FeatureNotFinite(DataProblem):
    """A feature of the case is empty, text, NaN or infinite."""

    code = "FL-251"
    title = "feature is not a finite number"
    kind = "degenerate"


class FeatureNotNumeric(DataProblem):
    """A column holds text throughout: it is not a feature."""

    code = "FL-252"
    title = "feature column is not numeric"
    kind = "configuration"


class StoreMissing(DataProblem):
    """There is no case store in the site's home."""

    code = "FL-260"
    title = "cases have not been ingested"
    kind = "absence"


class StoreUnreadable(DataProblem):
    """The store is of another version, damaged or not permitted."""

    code = "FL-261"
    title = "case store cannot be read"
    kind = "corruption"


class IngestRunning(FedLoupeError):
    """Another ingest works in this home; two at once would undo each other's work."""

    code = "FL-262"
    title = "another ingest is running"


class SourceChanging(DataProblem):
    """A source file changed while its case was read: an export may still be running."""

    code = "FL-263"
    title = "source file changed while it was read"
    kind = "corruption"


class WorkerLost(FedLoupeError):
    """A worker process was ended from outside, most often because memory ran out."""

    code = "FL-264"
    title = "worker process was lost"


class StoreLeaks(FedLoupeError):
    """The new store holds an identifier; it was thrown away, and the earlier store stays."""

    code = "FL-265"
    title = "store would hold an identifier"


class NotWritten(FedLoupeError):
    """A finished case cannot be written: the disk is full, or the home refuses."""

    code = "FL-266"
    title = "case cannot be written"


class DynamicTooShort(DataProblem):
    """A dynamic series needs a frame before contrast and two after."""

    code = "FL-290"
    title = "dynamic series has fewer than three frames"
    kind = "degenerate"


class DynamicTimes(DataProblem):
    """Frames without a time, at one time, or out of order."""

    code = "FL-291"
    title = "times of the dynamic series do not rise"
    kind = "corruption"


class NoEnhancement(DataProblem):
    """No frame is brighter than the first: no contrast arrived, or the frames are of something else."""

    code = "FL-292"
    title = "dynamic series shows no enhancement"
    kind = "mislabelled"


class BValues(DataProblem):
    """ADC is a slope over b-values: it needs two."""

    code = "FL-293"
    title = "diffusion series has fewer than two b-values"
    kind = "degenerate"


class AdcUnit(DataProblem):
    """Neither header nor magnitude tells mm2/s from 1e-6 mm2/s, or they contradict each other."""

    code = "FL-294"
    title = "unit of the ADC map is not clear"
    kind = "mislabelled"


class IdsAlike(DataProblem):
    """Two ids differ in upper and lower case or in spaces only: one person, or two, the hospital must say."""

    code = "FL-280"
    title = "ids look alike"
    kind = "mislabelled"


class DecimalsMixed(DataProblem):
    """A column has numbers with a decimal comma and numbers with a decimal point: `1.234` could be either."""

    code = "FL-281"
    title = "decimal comma and decimal point in one column"
    kind = "mislabelled"


class FormulaCell(DataProblem):
    """A cell holds a spreadsheet's formula or error value instead of a value."""

    code = "FL-282"
    title = "cell holds a formula or a spreadsheet error"
    kind = "corruption"


class StudiesSeveral(DataProblem):
    """The images of a case come from several examinations, and none was declared."""

    code = "FL-283"
    title = "case has several examinations"
    kind = "configuration"


class ExamUndecided(DataProblem):
    """The declared choice of examination cannot be made: dates are absent, equal, or none is before treatment."""

    code = "FL-284"
    title = "examination cannot be chosen"
    kind = "mislabelled"


class DateInvalid(DataProblem):
    """A date is not in the declared format, or no day of the calendar."""

    code = "FL-285"
    title = "date is not valid"
    kind = "mislabelled"


class IntervalImplausible(DataProblem):
    """The dates of a case contradict a pre-treatment image or lie years apart."""

    code = "FL-286"
    title = "interval between dates is not plausible"
    kind = "mislabelled"


class ScaleNotAccepted(DataProblem):
    """The site's outcome column is in a scale that the study has no mapping for."""

    code = "FL-287"
    title = "outcome scale is not accepted by the study"
    kind = "configuration"


@dataclass(frozen=True)
class Trouble:
    """A problem of one case as a value: it can cross processes and becomes the case's record.

    `excluded` means that something is absent; `broken` that something must be mended.
    """

    status: Literal["excluded", "broken"]
    code: str
    kind: Kind
    reason: str
    remedy: str
    where: str

    @classmethod
    def of(cls, error: FedLoupeError) -> Trouble:
        """The problem that an error describes; one that is not of the data is a matter of configuration."""
        status: Literal["excluded", "broken"] = (
            "excluded" if isinstance(error, SequenceMissing | LabelMissing) else "broken"
        )
        kind: Kind = error.kind if isinstance(error, DataProblem) else "configuration"
        return cls(status, error.code, kind, error.what, error.remedy, error.where)
