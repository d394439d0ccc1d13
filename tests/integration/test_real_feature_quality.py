"""Redundancy on real feature tables of four hospitals: the list that they agree on is that of their pooled patients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedloupe.models import standardise
from fedloupe.study import load_study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.dataset import load_cohort
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest
from fedloupe_client.site.site import Site
from fedloupe_server.federation.run import run_study
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.enrolling import enrol_here
from fedloupe_server.simulation.sites import make_homes
from sealing import hearing

CONFIGS = Path(__file__).parents[2] / "configs"
LIMIT = 0.95


@pytest.mark.data
@pytest.mark.filterwarnings("ignore")
def test_four_hospitals_agree_on_the_list_of_their_pooled_patients(real_data, tmp_path):
    content = json.loads(load_study(CONFIGS / "glioma-radiomics.yaml").canonical)
    content["training"]["rounds"] = 1
    content["evaluation"].update(leave_one_site_out=False, local_baseline=False, logistic_baseline=False)
    study = parse_study({**content, "quality": {"perturbations": [], "redundancy": LIMIT}})
    homes = make_homes(study, CONFIGS / "glioma-radiomics.sites.yaml", real_data, tmp_path / "homes")
    for home in homes.values():
        ingest(load_site(home), study, home)
        approve(home, study, by="test")
    enrol_here(homes, tmp_path)
    exchange = inprocess_exchange({site: hearing(Site(home), tmp_path / "run") for site, home in homes.items()})
    run_study(study, exchange, tmp_path / "run")

    cohorts = [load_cohort(home, study, site) for site, home in homes.items()]
    pooled = np.concatenate([cohort.features[cohort.rows("train")] for cohort in cohorts])
    mean, spread = np.nanmean(pooled, axis=0), np.nanstd(pooled, axis=0, ddof=1)
    varying = np.flatnonzero(spread > 1e-7 * np.abs(mean))
    scores = standardise(pooled, mean, spread)[:, varying]
    matrix, kept = np.abs(np.corrcoef(scores.T)), []
    for place in range(len(varying)):
        if not kept or matrix[place, kept].max() < LIMIT:
            kept.append(place)
    listed = json.loads((tmp_path / "run" / "quality.json").read_text())["features"]
    assert [v["name"] for v in listed if not v["why"]] == [cohorts[0].names[varying[place]] for place in kept]
    assert len(kept) < 300 < len(varying)
