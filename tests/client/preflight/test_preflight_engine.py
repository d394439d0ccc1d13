"""The check examines the feature engine before a study starts, and a site whose numbers deviate is not ready."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe_client.preflight.check import preflight
from fedloupe_client.preflight.machine import machine
from fedloupe_client.preflight.page import verdict, write_page
from fedloupe_client.preflight.terminal import say_result
from fedloupe_client.radiomics import aggregate


def test_page_and_terminal_say_that_the_engine_agrees(healthy, capsys):
    engine = healthy.seen.result.machine.engine
    assert engine.passed
    assert "482 of 482 IBSI values" in engine.line
    assert f"{engine.line} agree" in healthy.page.read_text(encoding="utf-8")
    say_result(healthy.seen.result, healthy.page)
    assert engine.line in " ".join(capsys.readouterr().out.split())


def test_a_deviating_engine_keeps_the_site_from_being_ready(healthy, monkeypatch, tmp_path):
    right = aggregate.count_surroundings

    def wrong(*args):
        ngldm, valid, differences = right(*args)
        return ngldm, valid, np.asarray(differences) + 1

    assert healthy.seen.result.ready
    monkeypatch.setattr(aggregate, "count_surroundings", wrong)
    seen = preflight(healthy.hospital.home, healthy.study)
    (finding,) = [finding for finding in seen.result.findings if finding.severity == "fix"]
    assert (finding.code, finding.kind, finding.scope) == ("FL-406", "configuration", "site")
    assert "ngt_" in finding.what
    assert not seen.result.ready
    assert verdict(seen.result) == "Not ready: 1 thing to fix"
    monkeypatch.undo()
    page = write_page(seen, healthy.hospital.home, tmp_path / "study.yaml").read_text(encoding="utf-8")
    write_page(healthy.seen, healthy.hospital.home, tmp_path / "study.yaml")  # others read it
    assert "FL-406" in page


@pytest.mark.parametrize("radiomics", [{"source": "none"}, {"source": "table"}])
def test_a_study_that_computes_no_features_does_not_examine_it(healthy, radiomics, tmp_path):
    section = healthy.study.radiomics.model_copy(update=radiomics)
    assert machine(tmp_path, 0, healthy.study.model_copy(update={"radiomics": section})).engine is None
