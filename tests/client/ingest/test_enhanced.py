"""Enhanced multi-frame files: geometry, times, b-values and scales of each frame from its functional groups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import FileDataset
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

from fedloupe_client.ingest.dicom.series import read_headers, read_stacks, series_grid
from fedloupe_client.ingest.dicom.stacks import split
from fedloupe_client.ingest.problems import FileUnreadable, SeriesRefused

PLANES, ROWS, COLUMNS = 4, 5, 6


def item(**values: object) -> list[Dataset]:
    made = Dataset()
    for tag, value in values.items():
        setattr(made, tag, value)
    return [made]


def enhanced(path: Path, volumes: list[dict], slopes: list[float] | None = None) -> np.ndarray:
    """Frames of each volume in turn, its last plane first; stored values `(volume, z, y, x)`."""
    stored = np.random.default_rng(0).integers(1, 500, (len(volumes), PLANES, ROWS, COLUMNS)).astype(np.uint16)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        EnhancedMRImageStorage,
        generate_uid(entropy_srcs=["enhanced"]),
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = EnhancedMRImageStorage, meta.MediaStorageSOPInstanceUID
    made.PatientID, made.Modality, made.SeriesInstanceUID = "P", "MR", generate_uid(entropy_srcs=["series"])
    made.ImageType, made.EchoPulseSequence = ["ORIGINAL", "PRIMARY", "M", "NONE"], "GRADIENT"
    made.Rows, made.Columns, made.NumberOfFrames = ROWS, COLUMNS, len(volumes) * PLANES
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=[0.5, 0.75], SliceThickness=2.0)
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.MREchoSequence = item(EffectiveEchoTime=2.5)
    shared.MRTimingAndRelatedParametersSequence = item(RepetitionTime=5.0)
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], []
    pixels = []
    for k, tags in enumerate(volumes):
        for z in reversed(range(PLANES)):
            frame = Dataset()
            frame.PlanePositionSequence = item(ImagePositionPatient=[1.0, 2.0, 3.0 + 2.0 * z])
            slope = slopes[k] if slopes else 1.0
            frame.PixelValueTransformationSequence = item(RescaleSlope=slope, RescaleIntercept=-1.0, RescaleType="US")
            for group, values in tags.items():
                setattr(frame, group, item(**values))
            made.PerFrameFunctionalGroupsSequence.append(frame)
            pixels.append(stored[k, z])
    made.PixelData = np.stack(pixels).tobytes()
    made.save_as(path, enforce_file_format=True)
    return stored.astype(np.float64)


class TestGeometry:
    def test_frames_are_placed_by_their_positions(self, tmp_path):
        stored = enhanced(tmp_path / "a.dcm", [{}])
        slices = read_headers(tmp_path / "a.dcm")
        grid = series_grid(slices)
        assert (grid.origin, grid.spacing) == ((1, 2, 3), (0.75, 0.5, 2))
        np.testing.assert_array_equal(read_stacks([grid])[0], stored[0] - 1)

    def test_tags_are_read_from_shared_groups_and_the_pulse_sequence(self, tmp_path):
        enhanced(tmp_path / "a.dcm", [{}])
        first = read_headers(tmp_path / "a.dcm")[0]
        assert (first.echo_time, first.repetition_time, first.scanning) == (2.5, 5.0, ("GR",))


class TestVolumes:
    def test_time_points_by_their_index_and_time(self, tmp_path):
        times = ["20110707101500", "20110707101512.5", "20110707101525"]
        tags = [
            {"FrameContentSequence": {"TemporalPositionIndex": k + 1, "FrameAcquisitionDateTime": time}}
            for k, time in enumerate(times)
        ]
        stored = enhanced(tmp_path / "a.dcm", tags)
        stacks = split(read_headers(tmp_path / "a.dcm"))
        assert [stack.time_s for stack in stacks] == [0, 12.5, 25]
        np.testing.assert_array_equal(read_stacks([stack.grid for stack in stacks]), stored - 1)

    def test_a_time_offset_goes_before_a_clock(self, tmp_path):
        tags = [
            {
                "FrameContentSequence": {
                    "TemporalPositionIndex": k + 1,
                    "FrameAcquisitionDateTime": f"2011070710150{k}",
                },
                "TemporalPositionSequence": {"TemporalPositionTimeOffset": 8.0 * k},
            }
            for k in range(3)
        ]
        enhanced(tmp_path / "a.dcm", tags)
        assert [stack.time_s for stack in split(read_headers(tmp_path / "a.dcm"))] == [0, 8, 16]

    def test_b_values_with_a_scale_of_their_own(self, tmp_path):
        """GDCM alone puts every frame through the first one's slope."""
        tags = [{"MRDiffusionSequence": {"DiffusionBValue": b}} for b in (0.0, 800.0)]
        stored = enhanced(tmp_path / "a.dcm", tags, slopes=[2.0, 0.25])
        stacks = split(read_headers(tmp_path / "a.dcm"))
        assert [stack.b_value for stack in stacks] == [0, 800]
        got = read_stacks([stack.grid for stack in stacks])
        np.testing.assert_allclose(got[0], stored[0] * 2 - 1)
        np.testing.assert_allclose(got[1], stored[1] * 0.25 - 1)

    def test_a_scale_of_zero_is_damage(self, tmp_path):
        tags = [{"MRDiffusionSequence": {"DiffusionBValue": b}} for b in (0.0, 800.0)]
        enhanced(tmp_path / "a.dcm", tags, slopes=[0.0, 1.0])
        with pytest.raises(FileUnreadable):
            read_stacks([stack.grid for stack in split(read_headers(tmp_path / "a.dcm"))])


class TestDamagedHeaders:
    @pytest.mark.parametrize("frames", [-1, 2_000_000_000])
    def test_an_absurd_number_of_frames_is_damage(self, tmp_path, frames):
        enhanced(tmp_path / "a.dcm", [{}])
        head = pydicom.dcmread(tmp_path / "a.dcm")
        head.NumberOfFrames = frames
        head.save_as(tmp_path / "a.dcm")
        with pytest.raises(FileUnreadable):
            read_headers(tmp_path / "a.dcm")

    @pytest.mark.parametrize("orientation", [(0.0,) * 6, (float("nan"), 0.0, 0.0, 0.0, 1.0, 0.0)])
    def test_an_orientation_that_is_none_makes_no_grid(self, tmp_path, orientation):
        enhanced(tmp_path / "a.dcm", [{}])
        slices = [replace(one, orientation=orientation) for one in read_headers(tmp_path / "a.dcm")]
        with pytest.raises(SeriesRefused):
            series_grid(slices)
