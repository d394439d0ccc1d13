"""Feature tables that a site already has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedloupe_client.config import SiteConfig
from fedloupe_client.ingest import ingest, load_store
from fedloupe_client.ingest.problems import ColumnMissing, ConfigMismatch, FeatureNotNumeric


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def study(make_study):
    return make_study(sequences=[], clinical=[], radiomics={"source": "table"})


def hospital(root: Path, features: str, **changes) -> SiteConfig:
    root.mkdir()
    (root / "clinical.csv").write_text("case,trg\na,good\nb,poor\nc,good\n")
    (root / "features.csv").write_text(features)
    source = {"format": "table", "root": str(root), "clinical": {"file": "clinical.csv"}, "features": "features.csv"}
    return SiteConfig.model_validate({"site": "north", "source": {**source, **changes}})


class TestFeatures:
    def test_numbers_survive_exactly_and_labels_are_no_feature(self, tmp_path, study, home, by_local):
        text = "case,t2_mean,trg,t2_sd\nb,0.1,poor,2\na,0.30000000000000004,good,1e-7\nc,3,good,4\n"
        records = by_local(ingest(hospital(tmp_path / "h", text), study, home))
        table = load_store(home).features()
        assert list(table.columns) == ["t2_mean", "t2_sd"]
        assert list(table.index) == sorted(record.case for record in records.values())
        np.testing.assert_array_equal(table.loc[records["a"].case], [0.30000000000000004, 1e-7])

    @pytest.mark.parametrize(
        ("row", "code"),
        [("a,nan,1", "FL-251"), ("a,,1", "FL-251"), ("a,inf,1", "FL-251"), ("a,x,1", "FL-251"), ("z,1,1", "FL-250")],
    )
    def test_a_case_without_finite_features_is_left_out(self, tmp_path, study, home, by_local, row, code):
        text = f"case,f,g\n{row}\nb,1,2\nc,3,4\n"
        records = by_local(ingest(hospital(tmp_path / "h", text), study, home))
        assert {local: record.code for local, record in records.items()} == {"a": code, "b": None, "c": None}
        assert len(load_store(home).features()) == 2

    def test_of_a_case_without_an_outcome_are_kept(self, tmp_path, study, home, by_local):
        config = hospital(tmp_path / "h", "case,f,g\na,5,6\nb,1,2\nc,3,4\nd,nan,1\n")
        (tmp_path / "h" / "clinical.csv").write_text("case,trg\na,\nb,poor\nc,good\nd,\n")
        records = by_local(ingest(config, study, home))
        assert [records[local].status for local in "abcd"] == ["excluded", "ready", "ready", "excluded"]
        store = load_store(home)
        assert [record.case for record in store.unlabelled] == [records["a"].case]
        assert list(store.features().loc[records["a"].case]) == [5, 6]
        assert "FL-251" in records["d"].notes[-1]

    def test_two_rows_of_features_for_one_case(self, tmp_path, study, home, by_local):
        text = "case,f\na,1\na,2\nb,1\nc,3\n"
        assert by_local(ingest(hospital(tmp_path / "h", text), study, home))["a"].code == "FL-211"

    def test_a_column_of_text_is_refused_until_it_is_excluded(self, tmp_path, study, home):
        text = "case,f,scanner\na,1,Skyra\nb,2,Skyra\nc,3,Avanto\n"
        config = hospital(tmp_path / "h", text)
        with pytest.raises(FeatureNotNumeric, match="scanner"):
            ingest(config, study, home)
        assert not home.exists()
        source = config.source.model_copy(update={"exclude": ("scanner",)})
        assert ingest(config.model_copy(update={"source": source}), study, home).statuses["ready"] == 3

    def test_features_in_the_clinical_table_are_read_in_its_layout(self, tmp_path, study, home, by_local):
        root = tmp_path / "h"
        root.mkdir()
        (root / "all.csv").write_text("1,2,good\n?,4,poor\n5,6,poor\n")
        layout = {"names": ["f", "g", "trg"], "missing": ["?"], "number": "row"}
        clinical = {"file": "all.csv", "case": "row", "layout": layout}
        source = {"format": "table", "root": str(root), "clinical": clinical, "features": "all.csv"}
        config = SiteConfig.model_validate({"site": "north", "source": source})
        records = by_local(ingest(config, study, home))
        assert {local: record.code for local, record in records.items()} == {
            "row-1": None, "row-2": "FL-251", "row-3": None,
        }  # fmt: skip
        table = load_store(home).features()
        np.testing.assert_array_equal(table.loc[[records["row-1"].case, records["row-3"].case]], [[1, 2], [5, 6]])
        assert list(table.columns) == ["f", "g"]

    def test_a_feature_table_of_its_own_does_not_take_the_clinical_layout(self, tmp_path, study, home, by_local):
        clinical = {"file": "clinical.csv", "layout": {"missing": ["-9"]}}
        config = hospital(tmp_path / "h", "case,f\na,-9\nb,1\nc,2\n", clinical=clinical)
        records = by_local(ingest(config, study, home))
        assert load_store(home).features().loc[records["a"].case, "f"] == -9

    def test_a_feature_table_without_the_case_column(self, tmp_path, study, home):
        with pytest.raises(ColumnMissing, match="case"):
            ingest(hospital(tmp_path / "h", "id,f\na,1\n"), study, home)

    def test_a_table_for_a_study_that_wants_images(self, tmp_path, make_study, home):
        with pytest.raises(ConfigMismatch, match="`table`"):
            ingest(hospital(tmp_path / "h", "case,f\na,1\n"), make_study(clinical=[]), home)


@pytest.mark.data
class TestArita:
    @pytest.mark.parametrize(("prefix", "cases"), [("NCC*", 73), ("OTR*", 10)])
    def test_one_hospital_of_the_published_table(self, real_data, make_study, home, prefix, cases):
        study = make_study(
            endpoint={"name": "idh", "column": "Target", "positive": ["1"], "negative": ["0"]},
            sequences=[],
            clinical=[],
            radiomics={"source": "table"},
        )
        name = "Arita2018.csv.gz"
        source = {
            "format": "table",
            "root": str(real_data / "tables" / "radmlbench"),
            "clinical": {"file": name, "case": "ID", "where": {"ID": prefix}},
            "features": name,
        }
        report = ingest(SiteConfig.model_validate({"site": "north", "source": source}), study, home)
        assert report.statuses == {"ready": cases, "excluded": 0, "broken": 0}
        table = load_store(home).features()
        assert table.shape == (cases, 683)
        assert not {"ID", "Target"} & set(table.columns)
        assert {record.label for record in report.records} == {0, 1}
