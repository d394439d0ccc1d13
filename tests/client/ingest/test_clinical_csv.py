"""Clinical tables as hospitals export them: encodings, separators, spreadsheets' remains, ids, scales."""

from __future__ import annotations

import codecs
import gzip

import pytest

from fedloupe.errors import FedLoupeError
from fedloupe_client.config import SiteConfig
from fedloupe_client.ingest.problems import (
    ColumnMissing,
    DecimalsMixed,
    FileUnreadable,
    FormulaCell,
    ScaleNotAccepted,
    TableEmpty,
)
from fedloupe_client.ingest.tables.clinical import read_clinical_table
from fedloupe_client.ingest.tables.delimited import read_sheet
from fedloupe_client.ingest.tables.readymade import read_features

PLAIN = "case,trg,age,ct\nP-001,good,61.5,T2\nP-002,poor,55,T3\n"


@pytest.fixture
def read(tmp_path, study):
    """The clinical table that these bytes or this text are."""

    def reading(content: bytes | str, study_=study, role="train", **clinical):
        (tmp_path / "clinical.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        source = {"format": "nifti", "root": str(tmp_path), "files": {}, "mask": "{case}"}
        config = SiteConfig.model_validate(
            {"site": "north", "source": {**source, "clinical": {"file": "clinical.csv", **clinical}}}
        )
        return read_clinical_table(config.source, study_, role)

    return reading


def facts(table):
    return [(row.local, row.label, row.clinical) for row in table.rows]


class TestForms:
    @pytest.mark.parametrize(
        "content",
        [
            codecs.BOM_UTF8 + PLAIN.encode(),
            codecs.BOM_UTF16_LE + PLAIN.encode("utf-16-le"),
            codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
            gzip.compress(PLAIN.encode()),
            PLAIN.replace("\n", "\r\n").encode(),
            PLAIN.replace("\n", "\r").encode(),
            PLAIN.replace(",", ";").encode(),
            PLAIN.replace(",", "\t").encode(),
            b"sep=;\r\n" + PLAIN.replace(",", ";").encode(),
            PLAIN.replace("\n", ",,,\n").encode() + b",,,,,,\n,,\n",
            ("\n \n" + PLAIN.replace(",", "\u00a0, ").replace("\n", " \u200b\n")).encode(),
            codecs.BOM_UTF8 + PLAIN.replace("T2", '"T2"').replace("case", '"case"').encode(),
            PLAIN.replace(",", ";").replace("61.5", "61,5").encode(),
        ],
        ids=["utf-8 mark", "utf-16 le", "utf-16 be", "gzip", "crlf", "cr", "semicolon", "tab", "sep line",
             "trailing empty", "blanks", "quotes", "decimal comma"],
    )  # fmt: skip
    def test_one_table_in_every_form_is_the_same_table(self, read, content):
        assert facts(read(content)) == facts(read(PLAIN))
        assert facts(read(PLAIN))[0] == ("P-001", 1, {"age": 61.5, "stage": -1.0})

    def test_a_quoted_cell_may_break_its_line(self, read):
        table = read('case,trg,age,ct,remark\nP-001,good,61,T2,"first line\nsecond, line"\nP-002,poor,,,\n')
        assert [row.label for row in table.rows] == [1, 0]

    def test_a_decimal_comma_is_read_by_rule_and_said(self, read):
        table = read("case;trg;age;ct\na;good;61,5;T2\nb;poor;7;\n")
        assert table.rows[0].clinical["age"] == 61.5
        assert any("decimal comma" in note and "`age`" in note for note in table.notes)
        assert read(PLAIN).notes == ()

    def test_comma_and_point_in_one_column_are_not_guessed(self, read):
        with pytest.raises(DecimalsMixed, match="age"):
            read("case;trg;age;ct\na;good;61,5;T2\nb;poor;1.234;\n")

    def test_leading_zeros_stay(self, read):
        assert [row.local for row in read("case,trg,age,ct\n007,good,,\n0042,poor,,\n").rows] == ["0042", "007"]

    def test_windows_1252_is_taken_with_a_note_only_where_it_can_be_meant(self, read, make_study):
        text = "case,trg,age,ct,ort\nMüller,good,61,T2,Köln\nb,poor,,,\n"
        table = read(text.encode("cp1252"))
        assert [row.local for row in table.rows] == ["Müller", "b"]
        assert any("Windows-1252" in note for note in table.notes)
        assert read(text).notes == ()
        with pytest.raises(FileUnreadable, match="encoding"):
            read("case,trg,age,ct,医院\n一号病人,good,61,T2,北京医院\nb,poor,,,\n".encode("gb18030"))

    def test_a_declared_encoding_counts(self, read):
        text = "case,trg,age,ct,医院\n病人一,good,61,T2,北京医院\nb,poor,,,\n"
        assert {row.local for row in read(text.encode("gb18030"), encoding="gb18030").rows} == {"b", "病人一"}
        with pytest.raises(FileUnreadable, match="utf-8"):
            read("case,trg,age,ct\nMüller,good,61,T2\n".encode("cp1252"), encoding="utf-8")


class TestLayouts:
    """Tables without a header line, without ids, and with signs for what is unknown."""

    NAMES = ("age", "ct", "trg")
    BARE = "61.5,T2,good\n?,T3,poor\n\n55,-9,poor\n"

    def layout(self, **changes):
        return {"names": list(self.NAMES), "missing": ["?", "-9"], "number": "row", **changes}

    def test_rows_are_named_and_numbered_from_the_top_and_signs_are_unknown_values(self, read):
        table = read(self.BARE, case="row", layout=self.layout())
        assert facts(table) == [
            ("row-1", 1, {"age": 61.5, "stage": -1.0}),
            ("row-2", 0, {"age": None, "stage": 0.0}),
            ("row-3", 0, {"age": 55.0, "stage": None}),
        ]

    def test_a_sign_counts_as_a_whole_cell_only(self, read):
        content = "case,trg,age,ct\n-99,good,-9,T2\nb?,poor,5,?\n"
        rows = read(content, layout={"missing": ["?", "-9"]}).rows
        assert [(row.local, row.clinical["age"], row.clinical["stage"]) for row in rows] == [
            ("-99", None, -1.0),
            ("b?", 5.0, None),
        ]

    def test_an_unknown_outcome_is_missing_and_not_an_unknown_label(self, read):
        row = read("case,trg,age,ct\na,?,61,T2\nb,poor,5,T3\n", role="validate", layout={"missing": ["?"]}).rows[0]
        assert row.problem is None and row.label is None

    def test_rows_are_numbered_in_the_file_and_not_among_those_that_are_kept(self, read):
        table = read(self.BARE, case="row", layout=self.layout(), where={"trg": "poor"}, role="validate")
        assert [row.local for row in table.rows] == ["row-2", "row-3"]

    @pytest.mark.parametrize("names", [["age", "ct"], ["age", "ct", "trg", "site"]])
    def test_a_row_with_more_or_fewer_cells_than_names_is_refused(self, read, names):
        with pytest.raises(FileUnreadable, match=f"has 3 cells, `layout.names` has {len(names)}"):
            read(self.BARE, case="row", layout=self.layout(names=names))

    def test_a_number_never_replaces_a_column_of_the_table(self, read):
        with pytest.raises(FileUnreadable, match="`case`"):
            read(PLAIN, layout={"number": "case"})

    def test_a_name_that_stands_twice_is_refused(self, read):
        with pytest.raises(ValueError, match="more than once"):
            read(self.BARE, case="row", layout=self.layout(number="age"))


class TestRefusals:
    @pytest.mark.parametrize(
        "content",
        [
            b"", b"\n\n", b",,,\n", b"\0\0\0\0", b"case,trg\0,age,ct\n", b"PK\x03\x04rubbish",
            b"\xd0\xcf\x11\xe0rubbish", b"\x1f\x8brubbish", gzip.compress(PLAIN.encode())[:-9], b"\xff\xfe\x00",
            b"\x89PNG\r\n\x1a\n\x00\x00", bytes(range(1, 256)), b'case,trg,age,ct\nP-001,"good,61,T2\n',
            b'case,trg,age,ct\nP-001,good,61,"T2\nP-002,poor,5,T3\n', b"case,trg,age,ct\nP-001,good,61,T2\x07\n",
            b"case,trg,age,ct\nP-001,good\n", b"case,trg,age,ct\nP-001,good,61,T2,extra\n",
            b"case,trg,trg,ct\na,good,61,T2\n", b"a,b;c\n1,2;3\n", b"," * 1_000_000 + b"x\n",
            b"x" * 1_000_000 + b",trg\n1,2\n", "case,trg,age,ct\n".encode("utf-16-le"),
        ],
    )  # fmt: skip
    def test_what_is_no_table_is_refused_and_never_a_traceback(self, read, content):
        with pytest.raises(FileUnreadable) as caught:
            read(content)
        assert caught.value.remedy

    def test_a_table_of_a_million_columns_without_rows(self, read):
        with pytest.raises(FedLoupeError):
            read(b"c," * 1_000_000 + b"c\n")

    def test_a_header_alone_has_no_rows(self, read):
        with pytest.raises(TableEmpty):
            read("case,trg,age,ct\n")

    @pytest.mark.parametrize(("header", "near"), [("Case", "Case"), ("case ", None), ("CASE\u00a0ID", None)])
    def test_a_column_of_another_case_is_named_as_the_remedy(self, read, header, near):
        content = PLAIN.replace("case", header, 1).replace("trg", "TRG", 1)
        with pytest.raises(ColumnMissing) as caught:
            read(content)
        assert "rename `TRG` to `trg`" in caught.value.remedy
        assert ("rename `Case` to `case`" in caught.value.remedy) == (near is not None)

    def test_without_a_header_no_cell_stands_in_what_or_remedy(self, read):
        with pytest.raises(ColumnMissing) as caught:
            read("Jane Doe,good,61,T2\nJohn Roe,poor,5,T3\n")
        assert "Jane" not in caught.value.what + caught.value.remedy

    @pytest.mark.parametrize("cell", ["=A1+1", "#N/A", '="001"', "#div/0!"])
    def test_a_spreadsheets_remains_are_the_cases_problem(self, read, cell):
        quoted = '"' + cell.replace('"', '""') + '"'
        table = read(f"case,trg,age,ct\na,good,{quoted},T2\nb,poor,5,T3\nc,good,5,T3\n")
        assert [row.problem and row.problem.code for row in table.rows] == ["FL-282", None, None]
        assert cell not in table.rows[0].problem.reason + table.rows[0].problem.remedy

    def test_a_formula_in_a_column_that_nobody_reads_does_no_harm(self, read):
        assert read("case,trg,age,ct,x\na,good,,T2,#N/A\nb,poor,5,T3,=1\n").rows[0].problem is None

    def test_a_formula_as_an_id_is_the_sites_problem(self, read):
        with pytest.raises(FormulaCell, match="case"):
            read("case,trg,age,ct\n=A1,good,61,T2\nb,poor,5,T3\n")

    def test_a_formula_among_the_features_leaves_the_case_out(self, tmp_path, make_study):
        (tmp_path / "f.csv").write_text("case;f\na;1,5\nb;=2\n")
        source = {"format": "table", "root": str(tmp_path), "clinical": {"file": "c.csv"}, "features": "f.csv"}
        config = SiteConfig.model_validate({"site": "north", "source": source})
        table = read_features(config.source, make_study(sequences=[], clinical=[], radiomics={"source": "table"}))
        assert table.take("a") == (1.5,)
        assert "decimal comma" in table.notes[0]
        with pytest.raises(FormulaCell):
            table.take("b")


class TestIds:
    def test_ids_that_look_alike_are_said_not_joined(self, read):
        table = read("case,trg,age,ct\nP-001,good,,\np-001 ,poor,,\nP-002,good,,\n")
        assert {row.local: row.problem and row.problem.code for row in table.rows} == {
            "P-001": "FL-280",
            "p-001": "FL-280",
            "P-002": None,
        }

    def test_patients_that_look_alike_are_said(self, read):
        table = read("case,who,trg,age,ct\na,M1,good,,\nb,m 1,poor,,\nc,M2,good,,\n", patient="who")
        assert [row.problem and row.problem.code for row in table.rows] == ["FL-280", "FL-280", None]

    def test_ids_and_dates_are_remembered_as_identifiers(self, read):
        content = "case,who,trg,age,ct,mri,site\na1,M1,good,,,2024-01-02,x\nb1,M2,poor,,,2024-01-03,y\n"
        table = read(content, role="validate", patient="who", dates={"imaging": "mri"}, where={"site": "x"})
        assert [row.local for row in table.rows] == ["a1"]
        assert table.identifiers == {"a1", "b1", "M1", "M2", "2024-01-02", "2024-01-03"}


class TestScales:
    @pytest.fixture
    def graded(self, make_study):
        mapping = {"mandard": {"positive": ["1", "2"], "negative": ["3", "4"]},
                   "dworak": {"positive": ["4", "3"], "negative": ["2", "1", "0"]}}  # fmt: skip
        return make_study(endpoint={"name": "r", "column": "trg", "scales": mapping})

    def test_the_declared_scale_reads_the_column(self, read, graded):
        content = "case,trg,age,ct\na,TRG 4,,\nb,Grade 1,,\n"
        assert [row.label for row in read(content, graded, scale="dworak").rows] == [1, 0]
        assert [row.label for row in read(content, graded, scale="mandard").rows] == [0, 1]
        assert any("`dworak`" in note for note in read(content, graded, scale="dworak").notes)

    @pytest.mark.parametrize("cell", ["Dworak 4", "6", "good", "5"])
    def test_what_the_table_or_the_study_does_not_know_is_an_error_with_a_remedy(self, read, graded, cell):
        table = read(f"case,trg,age,ct\na,{cell},,\nb,1,,\nc,3,,\n", graded, scale="mandard")
        problem = table.rows[0].problem
        assert problem.code == "FL-214" and problem.remedy
        assert cell not in problem.reason

    def test_a_scale_that_the_study_does_not_accept(self, read, graded, study):
        with pytest.raises(ScaleNotAccepted, match="dworak"):
            read(PLAIN, graded, scale="recist")
        with pytest.raises(ScaleNotAccepted, match="remove"):
            read(PLAIN, study, scale="mandard")

    def test_a_study_of_grades_wants_a_declared_scale(self, read, graded):
        with pytest.raises(ScaleNotAccepted, match=r"clinical\.scale"):
            read(PLAIN, graded)


def test_a_column_without_a_name_is_left_out_with_a_note(tmp_path):
    (tmp_path / "t.csv").write_text(",case,f\n0,a,1\n1,b,2\n")
    sheet = read_sheet(tmp_path / "t.csv")
    assert list(sheet.cells.columns) == ["case", "f"]
    assert sheet.notes == ("1 columns without a name were left out",)
