"""Synthetic volumes as classic DICOM series, one file a slice, with identifying tags for de-identification to remove.

series = write_series(folder, image, "t2w", case)      # returns the slices' headers, for RTSTRUCT and SEG to refer to
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO, DicomIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.tag import BaseTag
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from fedloupe_server.simulation.cohort.latents import Patient
from fedloupe_server.simulation.cohort.scanner import Image
from fedloupe_server.simulation.cohort.spec import Vendor, entropy

# Typical habits of naming; the site's configuration finds the sequence by a regular expression.
DESCRIPTIONS: dict[Vendor, dict[str, str]] = {
    "a": {
        "t2w": "SYNTHETIC t2_tse_tra_hr",
        "adc": "SYNTHETIC ep2d_diff_tra_ADC",
        "dce_pre": "SYNTHETIC t1_vibe_tra_dyn_pre",
        "dce_peak": "SYNTHETIC t1_vibe_tra_dyn_peak",
        "dce_late": "SYNTHETIC t1_vibe_tra_dyn_late",
        "ct": "SYNTHETIC Pelvis 4.0 B31f",
    },
    "b": {
        "t2w": "SYNTHETIC Ax T2 FSE",
        "adc": "SYNTHETIC Apparent Diffusion Coefficient",
        "dce_pre": "SYNTHETIC Ax 3D T1 +C Ph0",
        "dce_peak": "SYNTHETIC Ax 3D T1 +C Ph1",
        "dce_late": "SYNTHETIC Ax 3D T1 +C Ph4",
        "ct": "SYNTHETIC CT PELVIS STANDARD",
    },
}
PATTERNS: dict[Vendor, dict[str, str]] = {
    "a": {
        "t2w": "(?i)t2_tse",
        "adc": "(?i)_adc",
        "dce_pre": "(?i)dyn_pre",
        "dce_peak": "(?i)dyn_peak",
        "dce_late": "(?i)dyn_late",
        "ct": "(?i)pelvis",
    },
    "b": {
        "t2w": "(?i)T2 FSE",
        "adc": "(?i)apparent diffusion",
        "dce_pre": r"(?i)\+C Ph0",
        "dce_peak": r"(?i)\+C Ph1",
        "dce_late": r"(?i)\+C Ph4",
        "ct": "(?i)CT PELVIS",
    },
}
# Repetition and echo time, ms.
_TIMES = {"t2w": ("4500", "100"), "adc": ("6000", "70")}
_DCE_TIMES = ("4.2", "1.8")
_DATE = "20200102"


@dataclass(frozen=True)
class CaseNames:
    """Who a synthetic DICOM case claims to be, and how its UIDs are derived."""

    seed: int
    patient: Patient
    vendor: Vendor

    def uid(self, *parts: str | int) -> UID:
        """A UID of the form 2.25.<number> (ITU-T X.667), a pure function of seed, case and parts."""
        return UID(f"2.25.{entropy(self.seed, self.patient.site, self.patient.index, 'uid', *parts)}")


def patient_and_study(names: CaseNames) -> Dataset:
    """The attributes that every object of the case shares, identifying ones included (all invented)."""
    patient, site = names.patient, names.patient.site.upper()
    number = patient.index + 1
    shared = Dataset()
    shared.SpecificCharacterSet = "ISO_IR 100"
    shared.PatientName = f"SYNTHETIC^{site} {number:04d}"
    shared.PatientID = patient.case
    shared.PatientBirthDate = f"{2020 - patient.age}0101"
    shared.PatientSex = patient.sex
    shared.PatientAge = f"{patient.age:03d}Y"
    shared.PatientAddress = f"{number} Synthetic Street"
    shared.OtherPatientIDs = f"SYNTHETIC-{number:06d}"
    shared.InstitutionName = f"SYNTHETIC HOSPITAL {site}"
    shared.ReferringPhysicianName = "SYNTHETIC^REFERRER"
    shared.AccessionNumber = f"SYN{number:07d}"
    shared.StudyInstanceUID = names.uid("study")
    shared.StudyID = f"{number}"
    shared.StudyDescription = "SYNTHETIC pelvis, research use only"
    shared.StudyDate = shared.SeriesDate = shared.ContentDate = _DATE
    shared.StudyTime = shared.SeriesTime = shared.ContentTime = "101500"
    shared.Manufacturer = f"SYNTHETIC VENDOR {names.vendor.upper()}"
    shared.ManufacturerModelName = "FedLoupe generator"
    shared.ImageComments = "SYNTHETIC: generated, no patient"
    return shared


def write_series(folder: Path, image: Image, sequence: str, names: CaseNames) -> list[Dataset]:
    """Write one series, a file a slice from inferior to superior.

    Returns:
        The slices' headers, without pixel data, in the order of the array's first axis.
    """
    template = _series_template(image, sequence, names)
    shared = _encoded(template)
    folder.mkdir(parents=True, exist_ok=True)
    headers = []
    z, y, x = image.origin
    for k, plane in enumerate(image.array):
        own = Dataset()
        own.SOPInstanceUID = names.uid(sequence, k)
        own.InstanceNumber = str(k + 1)
        at = z + k * image.spacing[0]
        own.ImagePositionPatient = [f"{value:.4f}" for value in (x, y, at)]
        own.SliceLocation = f"{at:.4f}"
        headers.append(Dataset({**template, **own}))
        own.PixelData = np.ascontiguousarray(plane).astype("<i2").tobytes()
        own["PixelData"].VR = "OW"
        elements = shared | _encoded(own)
        with open(folder / f"IM-{k + 1:04d}.dcm", "wb") as file:
            file.write(bytes(128) + b"DICM")
            write_file_meta_info(DicomIO(file), _file_meta(template.SOPClassUID, own.SOPInstanceUID))
            file.writelines(elements[tag] for tag in sorted(elements))
    return headers


def _encoded(dataset: Dataset) -> dict[BaseTag, bytes]:
    """Each attribute as it stands in a file: what the slices share is encoded once, a third of the time."""
    found = {}
    for element in dataset:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, element, ["iso8859"])
        found[element.tag] = buffer.getvalue()
    return found


def save(dataset: Dataset, path: Path) -> None:
    """Write one object with file meta information that depends on nothing but the object."""
    dataset.file_meta = _file_meta(dataset.SOPClassUID, dataset.SOPInstanceUID)
    dcmwrite(path, dataset, enforce_file_format=True)


def _file_meta(kind: UID, instance: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(f"2.25.{entropy('fedloupe generator')}")
    meta.ImplementationVersionName = "FEDLOUPE"
    return meta


def _series_template(image: Image, sequence: str, names: CaseNames) -> Dataset:
    template = patient_and_study(names)
    is_ct = sequence == "ct"
    template.Modality = "CT" if is_ct else "MR"
    template.SOPClassUID = CTImageStorage if is_ct else MRImageStorage
    derived = ["DERIVED", "SECONDARY", "DIFFUSION", "ADC"]
    template.ImageType = derived if sequence == "adc" else ["ORIGINAL", "PRIMARY", "AXIAL" if is_ct else "M"]
    template.SeriesInstanceUID = names.uid(sequence)
    template.FrameOfReferenceUID = names.uid("ct frame" if is_ct else "frame")
    template.PositionReferenceIndicator = ""
    template.SeriesNumber = str(1 + list(DESCRIPTIONS[names.vendor]).index(sequence))
    template.SeriesDescription = DESCRIPTIONS[names.vendor][sequence]
    template.AcquisitionNumber = "1"
    template.PatientPosition = "HFS"
    if is_ct:
        template.KVP = "120"
    else:
        repetition, echo = _TIMES.get(sequence, _DCE_TIMES)
        template.ScanningSequence = "SE" if sequence in _TIMES else "GR"
        template.SequenceVariant = "SK"
        template.ScanOptions = ""
        template.MRAcquisitionType = "2D" if sequence in _TIMES else "3D"
        template.RepetitionTime, template.EchoTime, template.EchoTrainLength = repetition, echo, "1"
        template.MagneticFieldStrength = "1.5"
    template.Rows, template.Columns = image.array.shape[1:]
    template.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    template.PixelSpacing = [f"{image.spacing[1]:g}", f"{image.spacing[2]:g}"]
    template.SliceThickness = template.SpacingBetweenSlices = f"{image.spacing[0]:g}"
    template.SamplesPerPixel = 1
    template.PhotometricInterpretation = "MONOCHROME2"
    template.BitsAllocated = template.BitsStored = 16
    template.HighBit = 15
    template.PixelRepresentation = 1
    template.RescaleIntercept, template.RescaleSlope = "0", "1"
    if is_ct:
        template.RescaleType = "HU"
    return template
