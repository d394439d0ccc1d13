"""NIfTI to the case store: what is written, and every way in which a case or a site can be wrong."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fedloupe.errors import FedLoupeError
from fedloupe_client.ingest import build as building
from fedloupe_client.ingest import ingest, load_store
from fedloupe_client.ingest.problems import (
    ColumnMissing,
    ConfigMismatch,
    FileMissing,
    FileUnreadable,
    NoneReady,
    OneClass,
    PermissionRefused,
    SiteUnknown,
    StoreMissing,
    StoreUnreadable,
    TableEmpty,
)
from fedloupe_client.ingest.store.records import SCHEMA

SHAPE = (6, 12, 14)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


class TestStore:
    def test_volumes_and_masks_keep_values_and_geometry(self, nifti_site, study, home):
        report = ingest(nifti_site.config(), study, home)
        assert report.statuses == {"ready": 4, "excluded": 0, "broken": 0}
        store = load_store(home)
        originals = {
            sitk.GetArrayFromImage(sitk.ReadImage(str(nifti_site.path(f"P-000{n}_t2w")))).tobytes() for n in range(1, 5)
        }
        assert {sitk.GetArrayFromImage(store.volume(r.case, "t2w")).tobytes() for r in store.ready} == originals
        volume, mask = store.volume(store.ready[0].case, "t2w"), store.mask(store.ready[0].case)
        for image in (volume, mask):
            assert image.GetSpacing() == (1.0, 1.0, 3.0)
            assert image.GetOrigin() == (-5.0, 7.0, 11.0)
        assert sitk.GetArrayFromImage(mask).sum() == 2 * 4 * 4

    def test_records_hold_labels_and_numbers_but_no_identifier(self, nifti_site, study, home, by_local):
        records = by_local(ingest(nifti_site.config(), study, home))
        assert [records[f"P-000{n}"].label for n in range(1, 5)] == [1, 0, 1, 0]
        assert records["P-0001"].clinical == {"age": 61.0, "stage": -1.0}
        assert records["P-0003"].clinical == {"age": None, "stage": None}
        assert records["P-0001"].sequences == ("t2w", "adc")
        assert b"P-000" not in b"".join(p.read_bytes() for p in (home / "store").rglob("*.json"))
        assert not any("P-000" in str(path) for path in (home / "store").rglob("*"))

    def test_secrets_are_readable_by_the_owner_only(self, nifti_site, study, home):
        ingest(nifti_site.config(), study, home)
        for name in ("secret.key", "ingest-local.csv"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
        assert len((home / "secret.key").read_bytes()) == 32

    def test_the_same_files_give_the_same_bytes_with_one_process_or_two(self, nifti_site, study, home):
        def contents():
            files = (p for p in sorted(home.rglob("*")) if p.is_file() and home / "ingest" not in p.parents)
            return {p.relative_to(home): p.read_bytes() for p in files}

        ingest(nifti_site.config(), study, home)
        first = contents()
        ingest(nifti_site.config(), study, home, workers=2)
        assert contents() == first

    def test_another_secret_gives_other_pseudonyms(self, nifti_site, study, home, tmp_path):
        one = ingest(nifti_site.config(), study, home)
        other = ingest(nifti_site.config(), study, tmp_path / "elsewhere")
        assert {r.case for r in one.records}.isdisjoint(r.case for r in other.records)

    def test_progress_counts_every_case_without_naming_it(self, nifti_site, study, home):
        seen = []
        ingest(nifti_site.config(), study, home, progress=lambda *step: seen.append(step))
        assert [step[:2] for step in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert not any("P-0" in step[2] for step in seen)

    def test_text_in_a_nifti_header_does_not_reach_the_store(self, nifti_site, study, home):
        path = nifti_site.path("P-0001_t2w")
        image = sitk.ReadImage(str(path))
        image.SetMetaData("ITK_FileNotes", "DOE^JANE")
        sitk.WriteImage(image, str(path))
        assert "DOE^JANE" in sitk.ReadImage(str(path)).GetMetaData("ITK_FileNotes")
        ingest(nifti_site.config(), study, home)
        store = load_store(home)
        for record in store.ready:
            image = store.volume(record.case, "t2w")
            assert "DOE" not in "".join(image.GetMetaData(key) for key in image.GetMetaDataKeys())

    def test_before_any_ingest_there_is_no_store(self, home):
        with pytest.raises(StoreMissing):
            load_store(home)

    def test_a_store_of_another_version_is_refused(self, nifti_site, study, home):
        ingest(nifti_site.config(), study, home)
        index = home / "store" / "index.json"
        index.write_text(index.read_text().replace(f'"schema_version": {SCHEMA}', '"schema_version": 99'))
        with pytest.raises(StoreUnreadable, match=r"schema 99.*run ingest again"):
            load_store(home)


class TestAtomicity:
    def test_an_error_midway_leaves_the_earlier_store_untouched(self, nifti_site, study, home, monkeypatch):
        ingest(nifti_site.config(), study, home)
        before = (home / "store" / "index.json").read_bytes()

        def crash(_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(building, "do", crash)
        with pytest.raises(OSError, match="disk full"):
            ingest(nifti_site.config(), study, home)
        assert (home / "store" / "index.json").read_bytes() == before
        assert not (home / "store.new").exists()

    def test_a_swap_cut_off_between_its_renames_is_mended(self, nifti_site, study, home):
        ingest(nifti_site.config(), study, home)
        (home / "store").rename(home / "store.old")
        assert len(load_store(home).ready) == 4

    def test_a_case_that_left_the_table_leaves_the_store(self, nifti_site, study, home):
        ingest(nifti_site.config(), study, home)
        nifti_site.table("P-0001,good,61,T2", "P-0002,poor,55,T3")
        ingest(nifti_site.config(), study, home)
        assert len(load_store(home).records) == len(list((home / "store" / "cases").iterdir())) == 2


def _no_mask(site) -> None:
    site.path("P-0001_mask").unlink()


def _empty_mask(site) -> None:
    site.write("P-0001_mask", np.zeros(SHAPE, np.uint8))


def _mask_of_another_spacing(site) -> None:
    site.write("P-0001_mask", np.ones(SHAPE, np.uint8), spacing=(1.0, 1.0, 3.01))


def _mask_of_another_size(site) -> None:
    site.write("P-0001_mask", np.ones((5, 12, 14), np.uint8))


def _negative_mask(site) -> None:
    site.write("P-0001_mask", np.full(SHAPE, -1, np.int16))


def _damaged(site) -> None:
    site.path("P-0001_t2w").write_bytes(site.path("P-0001_t2w").read_bytes()[:200])


def _not_nifti(site) -> None:
    site.path("P-0001_t2w").write_bytes(b"this is a letter")


def _nan(site) -> None:
    array = np.zeros(SHAPE, np.float32)
    array[1, 2, 3] = np.nan
    site.write("P-0001_t2w", array)


def _four_dimensions(site) -> None:
    stack = sitk.JoinSeries([sitk.Image(14, 12, 6, sitk.sitkInt16)] * 2)
    sitk.WriteImage(stack, str(site.path("P-0001_t2w")))


def _no_t2w(site) -> None:
    site.path("P-0001_t2w").unlink()


def _rows(first: str):
    def spoil(site) -> None:
        site.table(first, "P-0002,poor,55,T3", "P-0003,good,,", "P-0004,poor,70,T3")

    return spoil


def _case_twice(site) -> None:
    site.table("P-0001,good,61,T2", "P-0001,poor,61,T2", "P-0002,poor,55,T3", "P-0003,good,,", "P-0004,poor,70,T3")


class TestBrokenCases:
    @pytest.mark.parametrize(
        ("spoil", "code", "status"),
        [
            (_no_mask, "FL-230", "broken"),
            (_empty_mask, "FL-231", "broken"),
            (_mask_of_another_spacing, "FL-232", "broken"),
            (_mask_of_another_size, "FL-232", "broken"),
            (_negative_mask, "FL-234", "broken"),
            (_damaged, "FL-204", "broken"),
            (_not_nifti, "FL-204", "broken"),
            (_nan, "FL-226", "broken"),
            (_four_dimensions, "FL-226", "broken"),
            (_no_t2w, "FL-216", "excluded"),
            (_rows("P-0001,maybe,61,T2"), "FL-214", "broken"),
            (_rows("P-0001,good,nan,T2"), "FL-215", "broken"),
            (_rows("P-0001,good,inf,T2"), "FL-215", "broken"),
            (_rows("P-0001,good,sixty,T2"), "FL-215", "broken"),
            (_rows("P-0001,good,61,T9"), "FL-215", "broken"),
            (_case_twice, "FL-211", "broken"),
        ],
    )
    def test_one_bad_case_has_its_code_and_stops_no_other(self, nifti_site, study, home, by_local, spoil, code, status):
        spoil(nifti_site)
        records = by_local(ingest(nifti_site.config(), study, home))
        bad = records["P-0001"]
        assert (bad.code, bad.status) == (code, status)
        assert bad.reason and bad.remedy
        assert "P-0001" not in bad.model_dump_json()
        assert [records[f"P-000{n}"].status for n in (2, 3, 4)] == ["ready"] * 3
        assert not (home / "store" / "cases" / bad.case).exists()

    def test_a_case_without_an_outcome_is_excluded_and_its_images_are_kept(self, nifti_site, study, home, by_local):
        _rows("P-0001,,61,T2")(nifti_site)
        new = by_local(ingest(nifti_site.config(), study, home))["P-0001"]
        assert (new.code, new.status, new.kind, new.label) == ("FL-213", "excluded", "absence", None)
        assert new.clinical["age"] == 61 and new.mask == "own"
        store = load_store(home)
        assert [record.case for record in store.unlabelled] == [new.case]
        assert new.case not in [record.case for record in store.ready]
        assert store.mask(new.case).GetSize() == store.volume(new.case, "t2w").GetSize()
        assert "P-0001" not in new.model_dump_json()

    def test_a_case_without_an_outcome_whose_mask_is_damaged_says_both(self, nifti_site, study, home, by_local):
        _rows("P-0001,,61,T2")(nifti_site)
        _no_mask(nifti_site)
        new = by_local(ingest(nifti_site.config(), study, home))["P-0001"]
        assert (new.code, new.mask, load_store(home).unlabelled) == ("FL-213", None, ())
        assert "FL-230" in new.notes[-1]

    def test_an_uncompressed_file_that_is_cut_off_is_not_filled_with_zeros(self, nifti_site, study, home, by_local):
        for number in range(1, 5):
            whole = nifti_site.root / "data" / f"P-000{number}_t2w.nii"
            sitk.WriteImage(sitk.ReadImage(str(nifti_site.path(f"P-000{number}_t2w"))), str(whole))
        first = nifti_site.root / "data" / "P-0001_t2w.nii"
        first.write_bytes(first.read_bytes()[:-500])
        config = nifti_site.config(files={"t2w": "data/{case}_t2w.nii"})
        records = by_local(ingest(config, study, home))
        assert [records[f"P-000{n}"].code for n in range(1, 5)] == ["FL-204", None, None, None]

    def test_permission_is_not_damage_and_its_remedy_protects_the_data(
        self, nifti_site, study, home, by_local, refuse_reading
    ):
        refuse_reading(nifti_site.path("P-0001_t2w"))
        bad = by_local(ingest(nifti_site.config(), study, home))["P-0001"]
        assert bad.code == "FL-203"
        assert "may be fine" in bad.remedy and "do not delete" in bad.remedy

    def test_the_hospital_s_own_list_says_where_the_problem_lies(self, nifti_site, study, home):
        _no_mask(nifti_site)
        ingest(nifti_site.config(), study, home)
        assert "P-0001_mask.nii.gz" in (home / "ingest-local.csv").read_text()

    def test_an_optional_sequence_may_be_missing(self, nifti_site, study, home, by_local):
        nifti_site.path("P-0001_adc").unlink()
        records = by_local(ingest(nifti_site.config(), study, home))
        assert records["P-0001"].status == "ready"
        assert records["P-0001"].sequences == ("t2w",)

    def test_two_cases_of_one_patient_are_both_left_out(self, nifti_site, study, home, by_local):
        nifti_site.table(
            "P-0001,X,good,61,T2",
            "P-0002,Y,poor,55,T3",
            "P-0003,X,good,,",
            "P-0004,Z,poor,70,T3",
            "P-0005,Q,good,1,T3",
            header="case,patient,trg,age,ct",
        )
        for kind in ("t2w", "adc", "mask"):
            nifti_site.path(f"P-0005_{kind}").write_bytes(nifti_site.path(f"P-0001_{kind}").read_bytes())
        clinical = {"file": "clinical.csv", "patient": "patient"}
        records = by_local(ingest(nifti_site.config(clinical=clinical), study, home))
        assert {local for local, record in records.items() if record.code == "FL-212"} == {"P-0001", "P-0003"}
        assert records["P-0001"].patient == records["P-0003"].patient


class TestSiteProblems:
    def refused(self, error: type[FedLoupeError], hospital, study, home, **config) -> str:
        with pytest.raises(error) as caught:
            ingest(hospital.config(**config), study, home)
        assert not home.exists()
        return str(caught.value)

    def test_a_site_that_the_study_does_not_know(self, nifti_site, study, home):
        assert "`north`, `island`" in self.refused(SiteUnknown, nifti_site, study, home, site="south")

    def test_a_training_site_with_one_class_only(self, nifti_site, study, home):
        nifti_site.table("P-0001,good,61,T2", "P-0002,good,55,T3")
        assert "label 1" in self.refused(OneClass, nifti_site, study, home)

    def test_a_validating_site_may_have_one_class(self, nifti_site, study, home):
        nifti_site.table("P-0001,good,61,T2", "P-0002,good,55,T3")
        assert ingest(nifti_site.config("island"), study, home).statuses["ready"] == 2

    def test_a_clinical_table_without_a_column(self, nifti_site, study, home):
        nifti_site.table("P-0001,good,61", header="case,trg,age")
        assert "['ct']" in self.refused(ColumnMissing, nifti_site, study, home)

    def test_a_clinical_table_that_is_absent(self, nifti_site, study, home):
        (nifti_site.root / "clinical.csv").unlink()
        self.refused(FileMissing, nifti_site, study, home)

    def test_a_clinical_table_that_may_not_be_read(self, nifti_site, study, home, monkeypatch):
        def refuse(self: Path) -> bytes:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "read_bytes", refuse)
        assert "may be fine" in self.refused(PermissionRefused, nifti_site, study, home)

    def test_a_clinical_table_with_a_cell_too_many(self, nifti_site, study, home):
        nifti_site.table("P-0001,good,61,T2,extra")
        assert "row 2 has 5 cells" in self.refused(FileUnreadable, nifti_site, study, home)

    def test_a_row_without_a_case(self, nifti_site, study, home):
        nifti_site.table(",good,61,T2")
        self.refused(TableEmpty, nifti_site, study, home)

    def test_a_filter_that_leaves_nothing(self, nifti_site, study, home):
        clinical = {"file": "clinical.csv", "where": {"case": "Q*"}}
        self.refused(TableEmpty, nifti_site, study, home, clinical=clinical)

    def test_patterns_for_sequences_that_the_study_has_not(self, nifti_site, study, home):
        said = self.refused(ConfigMismatch, nifti_site, study, home, files={"t1": "{case}.nii.gz"})
        assert "['t1']" in said and "['t2w']" in said

    def test_a_pattern_without_the_case(self, nifti_site, study, home):
        assert "`mask`" in self.refused(ConfigMismatch, nifti_site, study, home, mask="mask.nii.gz")

    def test_semicolons_and_a_byte_order_mark_are_read(self, nifti_site, study, home):
        text = "\ufeffcase;trg;age;ct\nP-0001;good;61;T2\nP-0002;poor;55;T3\n"
        (nifti_site.root / "clinical.csv").write_text(text, encoding="utf-8")
        assert ingest(nifti_site.config(), study, home).statuses["ready"] == 2

    def test_when_no_case_is_ready_the_earlier_store_stays(self, nifti_site, study, home):
        ingest(nifti_site.config(), study, home)
        before = (home / "store" / "index.json").read_bytes()
        for number in range(1, 5):
            nifti_site.path(f"P-000{number}_mask").unlink()
        with pytest.raises(NoneReady, match="4 x FL-230"):
            ingest(nifti_site.config(), study, home)
        assert (home / "store" / "index.json").read_bytes() == before
        assert (home / "ingest-failed.csv").read_text().count("FL-230") == 4

    def test_when_the_ready_cases_are_of_one_class(self, nifti_site, study, home):
        for number in (2, 4):
            nifti_site.path(f"P-000{number}_mask").unlink()
        with pytest.raises(OneClass, match="2 ready cases of 4 all have label 1"):
            ingest(nifti_site.config(), study, home)
        assert not (home / "store").exists()
