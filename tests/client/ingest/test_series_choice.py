"""Which series becomes which sequence: b-values, time points, the site's own choices, and ambiguity that is said."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from fedloupe_client.ingest import ingest, load_store
from fedloupe_client.ingest.dicom.headers import read_headers
from fedloupe_client.ingest.dicom.stacks import split
from fedloupe_client.ingest.problems import ChoicesInvalid, RepeatedPosition, StudiesSeveral

DYNAMIC = {"ScanningSequence": "GR", "EchoTime": 2.0}
DYN_NAMES = ("dce_pre", "dce_peak", "dce_late", "dce_wash_in", "dce_wash_out", "dce_time_to_peak", "dce_auc")


def uid(text: str) -> str:
    return generate_uid(entropy_srcs=[text])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def site(dicom_site):
    dicom_site.two_patients()
    return dicom_site


@pytest.fixture
def taken(site, make_study, home, by_local):
    """Ingest P-0001 with more sequences; its record, and its volumes as arrays."""

    def take(*names: str, **config):
        study = make_study(sequences=[{"name": "t2w"}, *({"name": name, "required": False} for name in names)])
        report = ingest(site.config(**config).model_copy(update={"site": "island"}), study, home)
        record, store = by_local(report)["P-0001"], load_store(home)
        return record, {name: sitk.GetArrayFromImage(store.volume(record.case, name)) for name in record.sequences}

    return take


def where(home: Path) -> str:
    with (home / "ingest-local.csv").open() as file:
        return next(row["where"] for row in csv.DictReader(file) if row["local_id"] == "P-0001")


def dynamic(site, slopes=(1.0, 1.0, 3.0, 2.5), one_series: bool = True, **tags):
    """Frames of one pattern, `slopes` times as bright, 30 s apart; the pattern."""
    for k, slope in enumerate(slopes):
        pixels = site.series(
            "P-0001",
            f"dyn{k}",
            description="dyn",
            time=f"1030{30 * (k % 2):02d}" if k < 2 else f"1031{30 * (k % 2):02d}",
            slope=slope,
            **DYNAMIC,
            **({"SeriesInstanceUID": uid("dyn")} if one_series else {"SeriesNumber": 20 + k}),
            **tags,
        )
    return pixels.astype(np.float64)


class TestDiffusion:
    def diffusion(self, site, one_series: bool = True) -> tuple[np.ndarray, np.ndarray]:
        low = site.series("P-0001", "b0000", description="diff", slope=4.0, DiffusionBValue=0.0,
                          SeriesInstanceUID=uid("diff"))  # fmt: skip
        high = site.series("P-0001", "b800", description="diff", DiffusionBValue=800.0, SeriesInstanceUID=uid("diff"))
        return low * 4.0, high * 1.0

    def test_an_adc_is_computed_where_there_is_none_and_said_to_be(self, site, taken):
        low, high = self.diffusion(site)
        record, volumes = taken("adc")
        there = (low > 0) & (high > 0)
        expected = np.log(low[there] / high[there]) / 800 * 1e6  # two points: the slope itself
        np.testing.assert_allclose(volumes["adc"][there], np.maximum(expected, 0), rtol=1e-5, atol=1e-3)
        assert any("computed from the b-values 0, 800 s/mm2" in note for note in record.notes)

    def test_a_given_adc_goes_before_a_computed_one(self, site, taken):
        self.diffusion(site)
        given = site.series("P-0001", "map", description="x", ImageType=["DERIVED", "PRIMARY", "ADC"], slope=4.0)
        record, volumes = taken("adc")
        np.testing.assert_array_equal(volumes["adc"], given * 4.0)
        assert "`adc`: ADC unit by magnitude: 1e-6 mm2/s" in record.notes

    def test_the_highest_b_value_is_the_diffusion_image(self, site, taken):
        _, high = self.diffusion(site)
        record, volumes = taken("dwi")
        np.testing.assert_array_equal(volumes["dwi"], high)
        assert any("the highest of the b-values 0, 800" in note for note in record.notes)

    def test_an_adc_in_mm2_a_second_by_its_real_world_mapping(self, site, taken):
        mapping, unit = Dataset(), Dataset()
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "mm2/s", "UCUM", "mm2/s"
        mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 4e-6, 0.0
        mapping.MeasurementUnitsCodeSequence = [unit]
        stored = site.series("P-0001", "adc", slope=0.5, RealWorldValueMappingSequence=[mapping])
        record, volumes = taken("adc")
        np.testing.assert_allclose(volumes["adc"], stored * 4.0, rtol=1e-6)
        assert "`adc`: ADC unit from the header" in record.notes

    def test_a_map_that_cannot_be_diffusion_is_refused(self, site, make_study, home, by_local):
        site.series("P-0001", "adc", slope=0.03)
        study = make_study(sequences=[{"name": "t2w"}, {"name": "adc"}])
        records = by_local(_lenient(site, study, home))
        assert records["P-0001"].code == "FL-294"
        assert "images/P-0001" in where(home)


def _lenient(site, study, home):
    """Ingest where P-0002 keeps the site alive: its t2w does for what it lacks."""
    optional = [s.model_copy(update={"required": False}) if s.name != "t2w" else s for s in study.sequences]
    study = study.model_copy(update={"sequences": tuple(optional)})
    return ingest(site.config().model_copy(update={"site": "island"}), study, home)


class TestDynamic:
    @pytest.mark.parametrize("one_series", [True, False])
    def test_phases_and_maps_of_a_pattern_that_enhances_threefold(self, site, taken, one_series):
        pattern = dynamic(site, one_series=one_series)
        record, volumes = taken(*DYN_NAMES)
        assert record.sequences == ("t2w", *DYN_NAMES)
        bright = pattern > 100  # well above noise
        np.testing.assert_array_equal(volumes["dce_pre"], pattern)
        np.testing.assert_array_equal(volumes["dce_peak"], 3 * pattern)
        np.testing.assert_array_equal(volumes["dce_late"], 2.5 * pattern)
        # enhancement 0, 2, 1.5 at 0, 30, 60 s after the second frame
        np.testing.assert_allclose(volumes["dce_wash_in"][bright], 2 / 30, rtol=1e-4)
        np.testing.assert_allclose(volumes["dce_wash_out"][bright], 60 * -0.5 / 30, rtol=1e-4)
        np.testing.assert_allclose(volumes["dce_time_to_peak"][bright], 30)
        np.testing.assert_allclose(volumes["dce_auc"][bright], 30 * 1.0 + 30 * 1.75, rtol=1e-4)
        assert any("a dynamic series of 4 time points: wash in" in note for note in record.notes)

    def test_series_on_other_grids_are_not_time_points(self, site, taken):
        dynamic(site, slopes=(1.0, 1.0), one_series=False)
        site.series("P-0001", "dyn9", description="dyn", time="103500", slope=3.0, **DYNAMIC,
                    positions=[(0, 0, 4.0 * k) for k in range(6)])  # fmt: skip
        record, _ = taken("dce_peak")
        assert record.sequences == ("t2w",)

    def test_a_single_phase_that_the_site_names_is_that_phase(self, site, taken):
        dynamic(site, one_series=False)
        late = site.series("P-0001", "last", description="vibe late", time="110000", **DYNAMIC)
        _, volumes = taken("dce_late", series={"dce_late": "vibe late"})
        np.testing.assert_array_equal(volumes["dce_late"], late)

    def test_frames_that_do_not_enhance_are_refused(self, site, make_study, home, by_local):
        dynamic(site, slopes=(1.0, 1.0, 1.0))
        study = make_study(sequences=[{"name": "t2w"}, {"name": "dce_peak"}])
        assert by_local(_lenient(site, study, home))["P-0001"].code == "FL-292"


class TestSplitting:
    def slices(self, site, *series: dict) -> list:
        for k, tags in enumerate(series):
            site.series("X", f"part{k}", SeriesInstanceUID=uid("one"), **tags)
        files = sorted((site.root / "images" / "X").rglob("*.dcm"))
        return [one for path in files for one in read_headers(path)]

    @pytest.mark.parametrize("tag", ["TemporalPositionIdentifier", "TriggerTime", "AcquisitionNumber"])
    def test_a_tag_that_divides_the_series_into_whole_volumes(self, dicom_site, tag):
        parts = [{tag: 10 * k, "ContentTime": f"1200{k:02d}"} for k in range(3)]
        stacks = split(self.slices(dicom_site, *parts))
        assert [len(stack.grid.slices) for stack in stacks] == [6, 6, 6]
        expected = [0.0, 0.01, 0.02] if tag == "TriggerTime" else [0.0, 1.0, 2.0]
        assert [stack.time_s for stack in stacks] == pytest.approx(expected)

    def test_times_go_on_over_midnight(self, dicom_site):
        times = ("235950", "000010", "000030")
        parts = [{"TemporalPositionIdentifier": k, "time": time} for k, time in enumerate(times)]
        assert [stack.time_s for stack in split(self.slices(dicom_site, *parts))] == [0, 20, 40]

    def test_slices_that_have_times_of_their_own(self, dicom_site):
        slices = self.slices(dicom_site, {}, {})
        for k, one in enumerate(slices):
            head = pydicom.dcmread(one.path)
            head.AcquisitionTime = f"1200{k:02d}"
            head.save_as(one.path)
        stacks = split([new for one in slices for new in read_headers(one.path)])
        assert [stack.time_s for stack in stacks] == [0, 6]

    @pytest.mark.parametrize(
        "parts",
        [
            [{"EchoTime": 5.0, "ContentTime": "120000"}, {"EchoTime": 90.0, "ContentTime": "120001"}],
            [{"ImageType": ["ORIGINAL", "PRIMARY", kind], "ContentTime": f"12000{k}"} for k, kind in enumerate("MP")],
            [{}, {}],
        ],
    )
    def test_echoes_phase_images_and_what_no_tag_tells_apart_are_refused(self, dicom_site, parts):
        with pytest.raises(RepeatedPosition):
            split(self.slices(dicom_site, *parts))

    def test_a_b_value_that_lacks_a_slice_is_refused(self, dicom_site):
        slices = self.slices(dicom_site, {"DiffusionBValue": 0.0}, {"DiffusionBValue": 800.0})
        with pytest.raises(RepeatedPosition):
            split([s for s in slices if not (s.b_value == 800 and s.position[2] == 11)])

    def test_three_directions_of_one_b_value_are_three_volumes(self, dicom_site):
        parts = [{"DiffusionBValue": b} for b in (0.0, 800.0, 800.0, 800.0)]
        assert [stack.b_value for stack in split(self.slices(dicom_site, *parts))] == [0, 800, 800, 800]


class TestAmbiguity:
    @pytest.fixture(autouse=True)
    def _two(self, site):
        self.grid = [(0, 0, 4.0 * k) for k in range(6)]
        self.other = site.series(
            "P-0001", "other", description="t2w", time="104500", positions=self.grid, SeriesNumber=10
        )

    def test_both_candidates_are_named_to_the_hospital_alone(self, site, study, home, by_local):
        record = by_local(ingest(site.config().model_copy(update={"site": "island"}), study, home))["P-0001"]
        assert record.code == "FL-217"
        assert "104500" not in record.reason + record.remedy
        said = where(home)
        assert "series 10 `t2w` at 104500" in said and "series without number `t2w` at 101500" in said
        assert said.count("images/P-0001/") == 2

    @pytest.mark.parametrize("series", ["10", uid("series P-0001 other")])
    def test_the_site_s_line_settles_it(self, site, taken, series):
        (site.root / "choices.csv").write_text(f"case,sequence,series\nP-0001,t2w,{series}\n")
        site.structures("P-0001", refers_to="other", names=("Tumour",),
                        contours=[[(1, 1, 8), (5, 1, 8), (5, 5, 8), (1, 5, 8)]])  # fmt: skip
        (site.root / "images" / "P-0001" / "rs-t2w.dcm").unlink()
        record, volumes = taken(choices="choices.csv")
        assert record.status == "ready"
        assert record.notes == ("`t2w`: the site's own choice of series was taken",)
        np.testing.assert_array_equal(volumes["t2w"], self.other)

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("case,sequence,series\nP-0001,t2w,77\n", "FL-237"),
            ("case,sequence\nP-0001,t2w\n", "FL-236"),
            ("case,sequence,series\nP-0001,t2w,\n", "FL-236"),
            ("case,sequence,series\nP-0001,t2w,10\nP-0001,t2w,11\n", "FL-236"),
        ],
    )
    def test_a_line_that_cannot_be_followed_is_said(self, site, study, home, by_local, text, code):
        (site.root / "choices.csv").write_text(text)
        config = site.config(choices="choices.csv").model_copy(update={"site": "island"})
        if code == "FL-237":
            assert by_local(ingest(config, study, home))["P-0001"].code == code
        else:
            with pytest.raises(ChoicesInvalid):
                ingest(config, study, home)


class TestExaminations:
    @pytest.fixture(autouse=True)
    def _two(self, site):
        for path in (site.root / "images" / "P-0001" / "t2w").iterdir():
            head = pydicom.dcmread(path)
            head.StudyDate = "20240110"
            head.save_as(path)
        self.later = site.series(
            "P-0001", "again", description="t2w", StudyInstanceUID=uid("later"), StudyDate="20240301"
        )

    def test_two_examinations_need_a_declared_choice(self, site, study, home, by_local):
        config = site.config().model_copy(update={"site": "island"})
        record = by_local(ingest(config, study, home))["P-0001"]
        assert record.code == StudiesSeveral.code
        assert "2024" not in record.reason + record.remedy

    def test_the_declared_one_is_taken_and_noted(self, taken):
        record, volumes = taken(exam="last")
        np.testing.assert_array_equal(volumes["t2w"], self.later)
        assert any("examination" in note for note in record.notes)


class TestDeclared:
    def rules(self, site, text: str) -> str:
        (site.root / "rules.yaml").write_text(text)
        return "rules.yaml"

    def test_a_repeat_is_refused_where_the_site_s_rules_say_so(self, site, study, home, by_local):
        site.series("P-0001", "t2w-again", description="T2W", time="104500")
        rules = self.rules(site, 'repeats: refuse\nsequences: {t2w: {description: "(?i)t2", echo_time_ms: [60, null]}}')
        config = site.config(rules=rules).model_copy(update={"site": "island"})
        assert by_local(ingest(config, study, home))["P-0001"].code == "FL-217"

    def test_a_series_taken_with_another_echo_time_is_no_repeat(self, site, study, home, by_local):
        site.series("P-0001", "t2w-again", description="T2W", time="104500", RepetitionTime=3000.0)
        config = site.config().model_copy(update={"site": "island"})
        assert by_local(ingest(config, study, home))["P-0001"].code == "FL-217"

    def test_another_frame_of_reference_is_noted_or_refused(self, site, study, home, by_local):
        site.series("P-0001", "adc", slope=4.0, FrameOfReferenceUID=uid("elsewhere"))
        config = site.config().model_copy(update={"site": "island"})
        record = by_local(ingest(config, study, home))["P-0001"]
        assert "`adc` lies in another frame of reference than `t2w`" in record.notes[-1]
        rules = self.rules(
            site,
            "frame_of_reference: refuse\nsequences: {t2w: {description: t2, echo_time_ms: [60, null]}, "
            "adc: {image_type: {wanted: [ADC]}, description: adc, quantity: diffusivity}}",
        )
        config = site.config(rules=rules).model_copy(update={"site": "island"})
        assert by_local(ingest(config, study, home))["P-0001"].code == "FL-238"

    def test_tags_go_before_a_description_that_lies(self, site, taken):
        for path in (site.root / "images" / "P-0001" / "t2w").iterdir():
            head = pydicom.dcmread(path)
            head.SeriesDescription, head.ScanningSequence, head.EchoTime = "ax", "SE", 95.0
            head.save_as(path)
        site.series("P-0001", "wrong", description="t2w", ScanningSequence="GR", EchoTime=3.0)
        record, _ = taken()
        assert (record.status, record.notes) == ("ready", ())

    def test_a_scout_that_fits_by_its_tags_is_passed_over_with_a_note(self, site, taken):
        upright = [1, 0, 0, 0, 0, -1]
        site.series(
            "P-0001",
            "scout",
            description="t2w",
            positions=[(0, 0, 3.0 * k) for k in range(4)],
            orientations=[upright] + [[1, 0, 0, 0, 1, 0]] * 3,  # the last is read first
        )
        record, _ = taken()
        assert record.status == "ready"
        assert "form a volume" in record.notes[0]
