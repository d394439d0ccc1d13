"""`fedloupe-site quality`: the site's own table, in words and as JSON."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fedloupe_client.cli import app


@pytest.fixture
def study_file(tmp_path, study):
    path = tmp_path / "study.yaml"
    path.write_text(study.canonical)
    return path


def test_the_table_is_shown_and_kept_with_every_feature(home, study_file):
    said = CliRunner().invoke(app, ["quality", str(home), str(study_file), "--workers", "1"])
    assert said.exit_code == 0
    assert all(word in said.stdout for word in ("shape", "glcm", "contour", "12 own training patients", "stays here"))
    kept = json.loads((home / "quality" / "tiny.json").read_text())
    again = json.loads(
        CliRunner().invoke(app, ["quality", str(home), str(study_file), "--workers", "1", "--json"]).stdout
    )
    assert again == kept and len(kept["features"]) == 64
