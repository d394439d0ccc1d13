"""Several examinations of one patient, and the days between dates."""

from __future__ import annotations

from datetime import date

import pytest

from fedloupe_client.config import Dates, SiteConfig, SiteConfigInvalid, load_site
from fedloupe_client.ingest import ingest
from fedloupe_client.ingest.problems import DateInvalid, ExamUndecided, IntervalImplausible, StudiesSeveral
from fedloupe_client.ingest.tables.clinical import read_clinical_table
from fedloupe_client.ingest.tables.exams import Picked, intervals, pick, pick_study, read_date

DAYS = [("a", date(2024, 3, 1)), ("b", date(2024, 1, 5)), ("c", date(2024, 6, 1))]


class TestDates:
    @pytest.mark.parametrize(
        ("text", "form"), [("2024-02-29", "YYYY-MM-DD"), ("29.02.2024", "DD.MM.YYYY"), ("20240229", "YYYYMMDD")]
    )
    def test_the_declared_form_is_read(self, text, form):
        assert read_date(text, form, "mri", "a") == date(2024, 2, 29)

    @pytest.mark.parametrize(
        ("text", "form"),
        [
            ("29.02.2024", "YYYY-MM-DD"), ("2023-02-29", "YYYY-MM-DD"), ("2024-2-9", "YYYY-MM-DD"),
            ("1.2.2024", "DD.MM.YYYY"), ("02.13.2024", "DD.MM.YYYY"), ("0001-01-01", "YYYY-MM-DD"),
            ("45351", "YYYY-MM-DD"), ("2024022", "YYYYMMDD"), ("unknown", "YYYY-MM-DD"),
            ("2024-02-29T10:00", "YYYY-MM-DD"),
        ],
    )  # fmt: skip
    def test_another_form_is_never_guessed(self, text, form):
        with pytest.raises(DateInvalid) as caught:
            read_date(text, form, "mri", "a")
        assert text not in caught.value.what + caught.value.remedy

    def test_an_empty_cell_is_unknown(self):
        assert read_date("", "YYYY-MM-DD", "mri", "a") is None


class TestPick:
    @pytest.mark.parametrize(("take", "key"), [("first", "b"), ("last", "c")])
    def test_the_declared_end_is_taken_and_noted(self, take, key):
        taken = pick(DAYS, take, "p")
        assert taken.key == key
        assert "of 3 examinations" in taken.note and "2024" not in taken.note

    @pytest.mark.parametrize(
        ("treatment", "key"), [(date(2024, 5, 31), "a"), (date(2024, 6, 1), "c"), (date(2024, 1, 5), "b")]
    )
    def test_the_last_up_to_the_day_of_treatment(self, treatment, key):
        assert pick(DAYS, "closest_before_treatment", "p", treatment=treatment).key == key

    def test_one_examination_needs_no_choice_and_no_note(self):
        assert pick([("a", None)], "first", "p") == Picked("a")

    @pytest.mark.parametrize(
        ("exams", "take", "treatment"),
        [
            ([*DAYS, ("d", None)], "last", None),
            ([*DAYS, ("d", date(2024, 6, 1))], "last", None),
            (DAYS, "closest_before_treatment", None),
            (DAYS, "closest_before_treatment", date(2024, 1, 4)),
        ],
    )
    def test_what_the_dates_do_not_decide_is_refused(self, exams, take, treatment):
        with pytest.raises(ExamUndecided):
            pick(exams, take, "p", treatment=treatment)

    def test_equal_dates_elsewhere_do_not_matter(self):
        assert pick([*DAYS, ("d", date(2024, 1, 5))], "last", "p").key == "c"


class TestStudies:
    def test_one_study_is_no_choice(self):
        assert pick_study([("1.2", ""), ("1.2", "")], None, "p") == Picked("1.2")

    def test_several_undeclared_are_an_error_of_their_own(self):
        with pytest.raises(StudiesSeveral, match="exam: first"):
            pick_study([("1.2", "20240101"), ("1.3", "20240201")], None, "p")

    @pytest.mark.parametrize(("take", "uid"), [("first", "1.3"), ("last", "1.2")])
    def test_the_declared_one_is_taken(self, take, uid):
        taken = pick_study([("1.2", "20240301"), ("1.3", "20240201"), ("1.2", "20240301")], take, "p")
        assert taken.key == uid and "of 2 examinations" in taken.note

    @pytest.mark.parametrize("other", [("1.3", ""), ("1.3", "20240301"), ("1.2", "20240302")])
    def test_dates_that_do_not_decide(self, other):
        with pytest.raises(ExamUndecided):
            pick_study([("1.2", "20240301"), ("1.4", "20230301"), other], "last", "p")


class TestIntervals:
    COLUMNS = Dates(imaging="mri", treatment="rt", outcome="op")

    def days(self, mri, rt, op):
        return intervals({"mri": mri, "rt": rt, "op": op}, self.COLUMNS, "YYYY-MM-DD", "p")

    def test_days_across_a_leap_day(self):
        assert self.days("2024-02-28", "2024-03-01", "2024-07-01") == {
            "imaging_to_treatment": 2,
            "imaging_to_outcome": 124,
        }

    def test_an_unknown_date_gives_no_interval(self):
        assert self.days("2024-02-28", "", "2024-02-28") == {"imaging_to_outcome": 0}
        assert self.days("", "2024-02-28", "2024-02-28") == {}

    @pytest.mark.parametrize(
        ("mri", "rt", "op"),
        [
            ("2024-03-02", "2024-03-01", ""),
            ("2022-02-28", "2024-03-01", ""),
            ("2024-03-02", "", "2024-03-01"),
            ("1924-03-02", "", "2024-03-01"),
        ],
    )
    def test_what_cannot_be_is_a_finding(self, mri, rt, op):
        with pytest.raises(IntervalImplausible) as caught:
            self.days(mri, rt, op)
        assert caught.value.kind == "mislabelled"
        assert mri not in str(caught.value)

    def test_two_years_are_still_plausible(self):
        assert self.days("2022-03-02", "2024-03-01", "")["imaging_to_treatment"] == 730


CONTENT = (
    "case,who,trg,age,ct,mri,rt\n"
    "P-0001,M1,good,61,T2,2024-01-10,2024-02-01\n"
    "P-0003,M1,poor,61,T2,2024-01-20,2024-02-01\n"
    "P-0004,M1,good,61,T2,2024-03-20,2024-02-01\n"
    "P-0002,M2,poor,55,T3,2024-05-01,2024-05-20\n"
)


class TestTable:
    @pytest.fixture
    def config(self, nifti_site):
        def configure(content=CONTENT, exams=None, site="north", **clinical):
            (nifti_site.root / "clinical.csv").write_text(content)
            declared = {"exams": {"date": "mri", "take": exams}} if exams else {}
            dates = {"imaging": "mri", "treatment": "rt"}
            return nifti_site.config(
                site, clinical={"file": "clinical.csv", "patient": "who", "dates": dates, **declared, **clinical}
            )

        return configure

    def test_rows_of_one_patient_become_one_case_by_the_declared_choice(self, config, study):
        rows = read_clinical_table(config(exams="closest_before_treatment").source, study, "validate").rows
        assert [(row.local, row.patient, row.label) for row in rows] == [("P-0002", "M2", 0), ("P-0003", "M1", 0)]
        taken = next(row for row in rows if row.local == "P-0003")
        assert taken.intervals == {"imaging_to_treatment": 12}
        assert "up to the day of treatment of 3" in taken.notes[0]
        assert "different outcomes" in taken.notes[1]

    def test_the_ingest_takes_the_chosen_exam_and_keeps_days_not_dates(self, config, study, tmp_path, by_local):
        home = tmp_path / "home"
        records = by_local(ingest(config(exams="first"), study, home))
        assert set(records) == {"P-0001", "P-0002"}
        text = (home / "store" / "index.json").read_text()
        assert "2024-" not in text and "P-000" not in text and "M1" not in text

    def test_undeclared_it_stays_several_cases_of_one_patient(self, config, study, tmp_path, by_local):
        content = CONTENT.replace("2024-03-20", "2024-01-30")
        records = by_local(ingest(config(content, site="island"), study, tmp_path / "home"))
        codes = {local: record.code for local, record in records.items()}
        assert codes == {"P-0001": "FL-212", "P-0002": None, "P-0003": "FL-212", "P-0004": "FL-212"}

    def test_an_exam_without_a_date_leaves_the_patient_out(self, config, study):
        content = CONTENT.replace("2024-01-20", "")
        rows = read_clinical_table(config(content, exams="first").source, study, "validate").rows
        assert {row.patient: row.problem and row.problem.code for row in rows} == {"M1": "FL-284", "M2": None}

    def test_two_treatments_of_one_patient_do_not_decide(self, config, study):
        content = CONTENT.replace("2024-03-20,2024-02-01", "2024-03-20,2024-04-01")
        rows = read_clinical_table(config(content, exams="closest_before_treatment").source, study, "validate").rows
        assert {row.patient: row.problem and row.problem.code for row in rows} == {"M1": "FL-284", "M2": None}

    def test_an_implausible_interval_breaks_the_case_alone(self, config, study):
        content = CONTENT.replace("M2,poor,55,T3,2024-05-01", "M2,poor,55,T3,2024-06-01")
        rows = read_clinical_table(config(content, exams="first").source, study, "validate").rows
        assert {row.patient: row.problem and row.problem.code for row in rows} == {"M1": None, "M2": "FL-286"}

    def test_closest_to_treatment_needs_the_treatments_column(self, tmp_path):
        clinical = "{file: c.csv, exams: {date: mri, take: closest_before_treatment}}"
        (tmp_path / "site.yaml").write_text(
            f"site: north\nsource: {{format: table, root: ., features: f.csv, clinical: {clinical}}}\n"
        )
        with pytest.raises(SiteConfigInvalid, match=r"dates\.treatment"):
            load_site(tmp_path)

    def test_without_the_new_keys_a_configuration_means_what_it_meant(self):
        source = {"format": "table", "root": ".", "features": "f.csv", "clinical": {"file": "c.csv"}}
        clinical = SiteConfig.model_validate({"site": "north", "source": source}).source.clinical
        assert (clinical.exams, clinical.scale, clinical.encoding, clinical.dates) == (None, None, None, Dates())
