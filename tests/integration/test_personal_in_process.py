"""Personal models through real sites, their gates and Flower's in-process Grid, on synthetic tables."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

import fedloupe
from fedloupe.messages import EvaluateRequest, TrainRequest, decode, encode
from fedloupe_client.site.site import Site
from fedloupe_server.simulation.local import run_here
from fedloupe_server.simulation.sites import make_homes

RUN = "run"


@pytest.fixture(scope="module", params=["fine-tune", "local-norm"])
def ran(request, tables, make_study, tmp_path_factory):
    """One run of each method."""
    rules = {"method": request.param, "epochs": 2}
    study = make_study(evaluation={"logistic_baseline": False, "local_baseline": False}, personalisation=rules)
    folder = tmp_path_factory.mktemp(request.param)
    homes = make_homes(study, tables / "sites.yaml", tables, folder / "sites")
    outcome = run_here(study, homes, folder / RUN, tell=lambda *_: None, workers=1)
    return study, homes, folder / RUN, outcome


class TestARun:
    def test_judges_a_personal_model_at_each_training_site_on_the_same_patients(self, ran):
        _, _, _, outcome = ran
        for site in outcome.results.sites:
            if site.role == "validate":
                assert site.personal is None
                continue
            federated, own = site.federated, site.personal
            assert (own.split, own.patients, own.positives) == ("test", federated.patients, federated.positives)
            assert own.brier != federated.brier, "it is another model"
        assert "Personal (95 % interval)" in outcome.report.read_text("utf-8").replace("\u00a0", " ")

    def test_leaves_what_is_personal_at_the_sites(self, ran):
        study, homes, run, _ = ran
        final = load_file(run / "rounds" / "0002.safetensors")["weights"]
        name, key = ("norms", "after") if study.personalisation.method == "local-norm" else ("personal", "weights")
        own = [load_file(homes[site] / "runs" / RUN / f"{name}.safetensors")[key] for site in ("alpha", "beta")]
        assert not np.array_equal(*own)
        assert all(not np.array_equal(final[: len(o)], o) for o in own)
        assert not (homes["omega"] / "runs" / RUN / f"{name}.safetensors").exists()

    def test_gives_the_same_bytes_again_after_a_restart_and_without_the_stored_answers(self, ran):
        study, homes, run, outcome = ran
        home = homes["alpha"]
        header = {"version": fedloupe.__version__, "fingerprint": study.fingerprint, "run": RUN, "site": "alpha"}
        first, final = (load_file(run / "rounds" / f"{n:04d}.safetensors")["weights"] for n in (1, 2))
        judge = {"label": "personal", "architecture": "transformer", "split": "test", "personal": True}
        requests = [
            encode(TrainRequest(**header, round=2, scope="federated", weights=first)),
            encode(EvaluateRequest(**header, **judge, threshold=outcome.results.threshold, weights=final)),
        ]
        stored = [Site(home).answer(request) for request in requests]
        assert [decode(answer).kind for answer in stored] == ["train-reply", "evaluate-reply"]
        shutil.rmtree(home / "gate" / "answers" / RUN)
        (home / "runs" / RUN / "personal.safetensors").unlink(missing_ok=True)
        assert [Site(home).answer(request) for request in requests] == stored
