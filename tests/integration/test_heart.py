"""UCI heart disease at its four hospitals: the shipped table study reaches what FLamby published for FedAdam."""

from __future__ import annotations

import hashlib
from math import ceil
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from fedloupe.models import Preparation
from fedloupe.study import parse_study
from fedloupe_client.config import load_site
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest
from fedloupe_client.site.site import Site
from fedloupe_client.training.evaluation import probabilities
from fedloupe_server.federation import run_study
from fedloupe_server.federation.fit import initial_weights
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.enrolling import enrol_here
from fedloupe_server.simulation.sites import make_homes
from sealing import hearing

CONFIGS = Path(__file__).parents[2] / "configs"
SEEDS = (1, 2, 3, 4, 5)
FEDADAM = 0.779
"""FLamby's published accuracy at its pooled test, mean of five seeds; its local models: 0.48 to 0.78."""
pytestmark = [pytest.mark.data, pytest.mark.filterwarnings("ignore")]


def heart(seed: int, real_data: Path, folder: Path) -> tuple[dict[str, float], dict[str, int]]:
    """Accuracy at 0.5 on the pooled test patients by model, and how many patients each hospital brings to them."""
    content = yaml.safe_load((CONFIGS / "heart.yaml").read_text())
    content["evaluation"]["local_models"] = "everywhere"  # their weights are judged here on all hospitals' patients
    study = parse_study(content | {"seed": seed})
    homes = make_homes(study, CONFIGS / "heart.sites.yaml", real_data, folder / "sites")
    for home in homes.values():
        ingest(load_site(home), study, home)
        approve(home, study, by="test")
    enrol_here(homes, folder)
    rooms, run_dir = {site: Site(home) for site, home in homes.items()}, folder / "run"
    run_study(study, inprocess_exchange({site: hearing(room, run_dir) for site, room in rooms.items()}), run_dir)
    preparation = Preparation.read(folder / "run/preparation.safetensors")
    cohorts = {site: room.cohort(study) for site, room in rooms.items()}
    rows = {site: cohort.rows("test") for site, cohort in cohorts.items()}
    # it only validates, so all its patients test: as many count here as FLamby takes
    cases = cohorts["switzerland"].cases
    drawn = sorted(range(len(cases)), key=lambda i: hashlib.sha256(f"{seed}|switzerland|{cases[i]}".encode()).digest())
    rows["switzerland"] = np.array(drawn[: ceil(0.34 * len(cases))])

    def right(path: str, tensor: str, architecture: str) -> float:
        weights = load_file(folder / "run" / path)[tensor]
        hits = [
            (probabilities(study, cohort, preparation, architecture, weights, rows[site]) > 0.5)
            == cohort.labels[rows[site]]
            for site, cohort in cohorts.items()
        ]
        return float(np.mean(np.concatenate(hits)))

    found = {
        "federated": right(f"rounds/{study.training.rounds:04d}.safetensors", "weights", "transformer"),
        # exactly the fit on all training patients in one place: see TestLogisticOfFourHospitals
        "logistic": right("logistic.safetensors", "beta", "logistic"),
        **{site: right(f"local/{site}.safetensors", "weights", "transformer") for site in study.train_sites},
    }
    weights = load_file(folder / "run" / f"rounds/{study.training.rounds:04d}.safetensors")["weights"]
    columns = rooms["cleveland"].cohort(study).columns
    start = initial_weights(study, columns, load_file(folder / "run/logistic.safetensors")["beta"])
    found["moved"] = float(np.linalg.norm(weights - start) / np.linalg.norm(start))
    return found, {site: len(tested) for site, tested in rows.items()}


class TestHeartDiseaseOfFourHospitals:
    @pytest.fixture(scope="class")
    def seeds(self, real_data, tmp_path_factory):
        return [heart(seed, real_data, tmp_path_factory.mktemp(f"heart-{seed}")) for seed in SEEDS]

    def test_the_patients_are_those_with_all_ten_measurements_and_a_third_of_each_hospital_tests(self, seeds):
        for _, tested in seeds:
            # FLamby: 104, 89, 45 and 16; here each outcome is rounded by itself
            assert tested == {"cleveland": 103, "hungary": 88, "longbeach": 44, "switzerland": 16}

    def test_the_federated_models_reach_what_flamby_published_for_fedadam(self, seeds):
        means = {model: fmean(found[model] for found, _ in seeds) for model in seeds[0][0]}
        print(means)  # each hospital's own model stands beside; benchmarks/heart.py adds pooled training
        assert means["federated"] >= FEDADAM
        assert all(found["moved"] > 0.01 for found, _ in seeds)  # it is no logistic regression under another name
        assert means["logistic"] >= FEDADAM
