"""A hospital that brings a feature table has no images: the page has no map, and says everything else."""

from __future__ import annotations

import yaml

from fedloupe.study import parse_study
from fedloupe_client.config import load_site
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest
from fedloupe_client.predicting import embed_cohort, find_case, open_model, predict_case, write_prediction
from fedloupe_client.preflight.local import local_names

CONTENT = {
    "study": "table",
    "title": "Synthetic table",
    "synthetic": True,
    "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
    "clinical": [{"name": "age", "column": "age", "centre": 60, "scale": 10}],
    "aggregation": "plain",
    "sites": [{"name": "alpha", "role": "train"}],
    "radiomics": {"source": "table"},
    "model": {"components": 2, "image": False, "width": 8, "depth": 1, "heads": 2},
    "quorum": {"minimum": 1},
    "prediction": {},
}


class TestATable:
    def test_is_enough_for_a_page_without_maps_also_for_a_new_patient(self, tmp_path, release_maker):
        rows = [f"PAT-{i:03d},{'yes' if i % 3 == 0 else 'no'},{50 + i},{i * 0.5},{i % 7}" for i in range(30)]
        rows.append("PAT-100,,66,7.5,3")
        (tmp_path / "cases.csv").write_text("\n".join(["case,response,age,f1,f2", *rows]) + "\n")
        source = {
            "format": "table",
            "root": ".",
            "clinical": {"file": "cases.csv"},
            "features": "cases.csv",
            "exclude": ["response", "age"],
        }
        (tmp_path / "site.yaml").write_text(yaml.safe_dump({"site": "alpha", "source": source}))
        study = parse_study(CONTENT)
        ingest(load_site(tmp_path), study, tmp_path)
        approve(tmp_path, study, by="Dr Ito")
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "table.safetensors").write_bytes(release_maker(tmp_path, study).to_bytes())
        frozen = open_model(tmp_path, study)
        predicted = predict_case(frozen, embed_cohort(frozen), find_case(frozen, "PAT-100"))
        result = predicted.result
        assert result.maps == () and result.used_for == "new" and len(result.neighbours) == 5
        assert [(part.kind, part.name) for part in result.attribution] == [("radiomics", "table"), ("clinical", "age")]
        text = write_prediction(frozen, predicted).read_text()
        assert "Where it looked" not in text and "What drove it" in text
        assert local_names(tmp_path)[result.case].local == "PAT-100" and "PAT-100" in text
