"""The baselines on real feature tables of four hospitals, through the real in-process federation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from fedloupe.models import Preparation, design_matrix
from fedloupe.study import Study, parse_study
from fedloupe_client.dataset import load_cohort
from fedloupe_server.evidence import Results
from fedloupe_server.simulation.local import run_here
from fedloupe_server.simulation.sites import make_homes

CONFIGS = Path(__file__).parents[2] / "configs"
pytestmark = [pytest.mark.data, pytest.mark.filterwarnings("ignore")]


def glioma(**evaluation: object) -> Study:
    """The shipped study with one short round, and another section `evaluation`."""
    content = yaml.safe_load((CONFIGS / "glioma-radiomics.yaml").read_text())
    content["training"] |= {"rounds": 1, "local_epochs": 1}
    content["evaluation"] = {"local_baseline": False, "ridge": 10.0, **evaluation}
    return parse_study(content)


@pytest.fixture(scope="module")
def go(real_data, tmp_path_factory):
    """Run a study of these hospitals, which keep their stores from study to study."""
    sites = tmp_path_factory.mktemp("hospitals")

    def run(study: Study, folder: Path) -> tuple[dict[str, Path], Results]:
        homes = make_homes(study, CONFIGS / "glioma-radiomics.sites.yaml", real_data, sites)
        return homes, run_here(study, homes, folder, tell=lambda *_: None, workers=1).results

    return run


def pooled_patients(study: Study, homes: dict[str, Path], run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Every hospital's training patients in one matrix, which exists nowhere but here."""
    preparation = Preparation.read(run / "preparation.safetensors")
    designs, labels = [], []
    for site, home in homes.items():
        cohort = load_cohort(home, study, site)
        rows = cohort.rows("train")
        designs.append(design_matrix(cohort.inputs(preparation, rows)))
        labels.append(cohort.labels[rows])
    return np.concatenate(designs), np.concatenate(labels)


class TestLogisticOfFourHospitals:
    @pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
    def test_its_coefficients_equal_those_of_the_pooled_patients(self, go, tmp_path, l1_ratio):
        from sklearn.linear_model import LogisticRegression

        study = glioma(l1_ratio=l1_ratio)
        homes, _ = go(study, tmp_path / "run")
        beta = load_file(tmp_path / "run/logistic.safetensors")["beta"]
        design, labels = pooled_patients(study, homes, tmp_path / "run")
        assert design.shape[1] == 21 and len(labels) > 90
        how = {"solver": "saga", "l1_ratio": l1_ratio} if l1_ratio else {"solver": "newton-cholesky"}
        pooled = LogisticRegression(C=1 / study.evaluation.ridge, tol=1e-12, max_iter=500_000, **how)
        pooled.fit(design[:, 1:], labels)
        np.testing.assert_allclose(beta, [*pooled.intercept_, *pooled.coef_[0]], atol=1e-6, rtol=0)
        assert ((beta == 0).sum() > 0) == (l1_ratio > 0)
