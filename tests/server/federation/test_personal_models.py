"""Personal models in a run: asked at training sites alone, after the last round, and only where the study says so."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedloupe_server.evidence import Results
from fedloupe_server.federation import run_study


class TestAStudyThatPersonalises:
    @pytest.mark.parametrize("method", ["fine-tune", "local-norm"])
    def test_asks_each_training_site_with_the_final_weights(self, make_study, hospitals, run_dir, method):
        results = run_study(make_study(personalisation={"method": method}), hospitals, run_dir)
        asked = hospitals.asked("evaluate", personal=True)
        final = hospitals.asked("evaluate", label="federated", split="test")[0]
        assert sorted(request.site for request in asked) == ["east", "north", "south"]
        for request in asked:
            assert (request.label, request.split, request.threshold) == ("personal", "test", results.threshold)
            assert np.array_equal(request.weights, final.weights)
        assert results.personalised == method
        for site in results.sites:
            assert (site.personal is not None) == (site.role == "train")
        assert Results.model_validate_json((run_dir / "results.json").read_bytes()) == results

    def test_leaves_out_a_site_that_trained_in_no_round(self, make_study, hospitals, run_dir):
        def absent(request):
            return None if request.kind == "train" and request.site == "east" else ...

        hospitals.hook = absent
        study = make_study(personalisation={}, evaluation={"local_baseline": False})
        results = run_study(study, hospitals, run_dir)
        assert {site.site for site in results.sites if site.personal} == {"north", "south"}


class TestAStudyThatDoesNot:
    def test_asks_nobody_and_says_nothing_of_it(self, study, hospitals, run_dir):
        run_study(study, hospitals, run_dir)
        assert hospitals.asked("evaluate", personal=True) == []
        content = json.loads((run_dir / "results.json").read_text())
        assert content["personalised"] is None
        assert all(site["personal"] is None for site in content["sites"])
