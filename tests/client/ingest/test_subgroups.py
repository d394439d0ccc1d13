"""Subgroup levels and grades in the store: from the table, from DICOM, unknown where a site has neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedloupe_client.ingest import ingest, load_store, work

SUBGROUPS = [
    {"name": "age", "column": "age", "cuts": [60]},
    {"name": "sex", "column": "sex", "levels": {"women": ["f"], "men": ["m"]}},
    {"name": "vendor", "header": "vendor", "column": "scanner"},
    {"name": "field", "header": "field-strength"},
]
HEADER = "case,trg,age,ct,sex,scanner"
ROWS = ("P-0001,good,61,T2,F,GE", "P-0002,poor,55,T3,m,Skyra", "P-0003,good,,,,", "P-0004,poor,70,T3,x,philips")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def study(make_study):
    return make_study(evidence={"subgroups": SUBGROUPS})


def groups(records, name):
    return {local[-1]: record.groups[name] for local, record in records.items()}


class TestTables:
    def test_numbers_are_cut_words_mapped_and_the_unknown_stays_unknown(self, nifti_site, study, home, by_local):
        nifti_site.table(*ROWS, header=HEADER)
        report = ingest(nifti_site.config(), study, home)
        records = by_local(report)
        assert groups(records, "age") == {"1": ">=60", "2": "<60", "3": None, "4": ">=60"}
        assert groups(records, "sex") == {"1": "women", "2": "men", "3": None, "4": None}
        assert any("`sex` is unknown for 2 of 4 cases" in note for note in report.notes)

    def test_without_dicom_the_column_says_the_scanner(self, nifti_site, study, home, by_local):
        nifti_site.table(*ROWS, header=HEADER)
        records = by_local(ingest(nifti_site.config(), study, home))
        assert groups(records, "vendor") == {"1": "GE", "2": "other", "3": None, "4": "Philips"}
        assert groups(records, "field") == dict.fromkeys("1234")

    def test_a_site_that_lacks_a_column_is_told_and_knows_nothing(self, nifti_site, study, home, by_local):
        report = ingest(nifti_site.config(), study, home)
        records = by_local(report)
        assert report.statuses["ready"] == 4
        assert groups(records, "sex") == dict.fromkeys("1234")
        assert "the table has no column `sex`: `sex` is unknown for everybody" in report.notes

    def test_decimal_commas_are_read(self, nifti_site, study, home, by_local):
        rows = ("P-0001;good;59,5", "P-0002;poor;60,5", "P-0003;good;", "P-0004;poor;70")
        nifti_site.table(*(f"{row};T2" for row in rows), header="case;trg;age;ct")
        records = by_local(ingest(nifti_site.config(), study, home))
        assert groups(records, "age") == {"1": "<60", "2": ">=60", "3": None, "4": ">=60"}

    def test_a_study_without_the_section_keeps_none_of_it(self, nifti_site, make_study, home):
        nifti_site.table(*ROWS, header=HEADER)
        ingest(nifti_site.config(), make_study(), home)
        assert all(record.groups == {} and record.grade is None for record in load_store(home).records)


class TestFreeWords:
    @pytest.fixture
    def study(self, make_study):
        return make_study(evidence={"subgroups": [{"name": "histology", "column": "histology"}]})

    def test_are_levels_unless_an_id_or_more_than_a_word_stands_there(self, nifti_site, study, home, by_local):
        words = ["mucinous", "seen with P-0001", "born 1961-02-03", "signet-ring"]
        nifti_site.table(
            *(f"{row.rsplit(',', 2)[0]},{w}" for row, w in zip(ROWS, words, strict=True)),
            header="case,trg,age,ct,histology",
        )
        report = ingest(nifti_site.config(), study, home)
        assert groups(by_local(report), "histology") == {"1": "mucinous", "2": None, "3": None, "4": "signet-ring"}
        index = (home / "store" / "index.json").read_text()
        assert "P-0001" not in index
        assert "1961" not in index

    def test_a_word_that_is_somebodys_id_does_not_stop_the_ingest(self, nifti_site, study, home, by_local):
        nifti_site.table(
            *(f"{row.rsplit(',', 2)[0]},{w}" for row, w in zip(ROWS, ["ab", "xy7 x", "xy7", "ab"], strict=True)),
            header="case,trg,age,ct,histology",
        )
        text = (nifti_site.root / "clinical.csv").read_text().splitlines()
        people = ["patient", "ann7", "xy7", "bob7", "eve7"]
        lines = [f"{line},{p}" for line, p in zip(text, people, strict=True)]
        (nifti_site.root / "clinical.csv").write_text("\n".join(lines) + "\n")
        report = ingest(nifti_site.config(clinical={"file": "clinical.csv", "patient": "patient"}), study, home)
        assert groups(by_local(report), "histology") == {"1": "ab", "2": None, "3": None, "4": "ab"}
        assert any("2 words hold a case's or patient's id" in note for note in report.notes)


class TestGrades:
    def test_of_a_declared_scale_are_canonical(self, nifti_site, make_study, home, by_local):
        grades = {"positive": ["3", "4"], "negative": ["0", "1", "2"]}
        endpoint = {"name": "r", "column": "trg", "scales": {"dworak": grades}}
        nifti_site.table("P-0001,TRG IV,61,T2", "P-0002,1.0,55,T3", "P-0003,grade 3,,", "P-0004,,70,T3")
        clinical = {"file": "clinical.csv", "scale": "dworak"}
        study = make_study(endpoint=endpoint, evidence={})
        records = by_local(ingest(nifti_site.config(clinical=clinical), study, home))
        assert {local[-1]: r.grade for local, r in records.items()} == {"1": "4", "2": "1", "3": "3", "4": None}

    def test_without_a_scale_are_the_studys_words(self, nifti_site, study, home, by_local):
        records = by_local(ingest(nifti_site.config(), study, home))
        assert {local[-1]: r.grade for local, r in records.items()} == {
            "1": "good", "2": "poor", "3": "good", "4": "poor",
        }  # fmt: skip


class TestDicom:
    def test_the_first_sequences_header_says_the_scanner(self, dicom_site, study, home, by_local):
        dicom_site.table("P-0001,good,61,T2,f,Philips", "P-0002,poor,55,T3,m,Philips", header=HEADER)
        dicom_site.series("P-0001", Manufacturer="SIEMENS", MagneticFieldStrength=2.8936)
        dicom_site.series("P-0001", "adc", Manufacturer="GE MEDICAL SYSTEMS", RescaleType="mm2/s", slope=1e-5)
        dicom_site.series("P-0002", Manufacturer="Hitachi Medical Corporation")
        for patient in ("P-0001", "P-0002"):
            dicom_site.structures(patient)
        records = by_local(ingest(dicom_site.config(), study, home))
        assert groups(records, "vendor") == {"1": "Siemens", "2": "other"}
        assert groups(records, "field") == {"1": "3 T", "2": None}
        assert "Hitachi" not in (home / "store" / "index.json").read_text()
        again = by_local(ingest(dicom_site.config(), study, home))
        assert again == records, "taken from the shelf"

    def test_where_the_header_is_silent_the_column_speaks(self, dicom_site, study, home, by_local):
        dicom_site.two_patients()
        dicom_site.table("P-0001,good,61,T2,f,Philips", "P-0002,poor,55,T3,m,", header=HEADER)
        records = by_local(ingest(dicom_site.config(), study, home))
        assert groups(records, "vendor") == {"1": "Philips", "2": None}

    def test_cases_of_an_earlier_ingest_are_read_again_for_a_study_that_asks(
        self, dicom_site, make_study, study, home, by_local
    ):
        dicom_site.table("P-0001,good,61,T2", "P-0002,poor,55,T3")
        for patient in ("P-0001", "P-0002"):
            dicom_site.series(patient, Manufacturer="Philips")
            dicom_site.structures(patient)
        ingest(dicom_site.config(), make_study(), home)
        assert groups(by_local(ingest(dicom_site.config(), study, home)), "vendor") == {"1": "Philips", "2": "Philips"}


def test_what_a_row_gained_does_not_make_finished_cases_be_done_again(nifti_site, make_study, study, home, monkeypatch):
    nifti_site.table(*ROWS, header=HEADER)
    ingest(nifti_site.config(), make_study(), home)
    monkeypatch.setattr(work, "from_nifti", None)
    ingest(nifti_site.config(), study, home)
    assert all(record.grade for record in load_store(home).records)
