"""The baselines on real feature tables of four hospitals, through the real in-process federation."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

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


def equals_the_pooled_fit(study: Study, homes: dict[str, Path], run: Path) -> np.ndarray:
    """The run's coefficients, which are scikit-learn's on the pooled patients."""
    from sklearn.linear_model import LogisticRegression

    beta = load_file(run / "logistic.safetensors")["beta"]
    design, labels = pooled_patients(study, homes, run)
    assert design.shape[1] == 21 and len(labels) > 90
    ratio = study.evaluation.l1_ratio
    how = {"solver": "saga", "l1_ratio": ratio} if ratio else {"solver": "newton-cholesky"}
    pooled = LogisticRegression(C=1 / study.evaluation.ridge, tol=1e-12, max_iter=500_000, **how)
    pooled.fit(design[:, 1:], labels)
    np.testing.assert_allclose(beta, [*pooled.intercept_, *pooled.coef_[0]], atol=1e-6, rtol=0)
    return beta


class TestLogisticOfFourHospitals:
    def test_ridge_coefficients_equal_those_of_the_pooled_patients(self, go, tmp_path):
        study = glioma()
        homes, _ = go(study, tmp_path / "run")
        assert equals_the_pooled_fit(study, homes, tmp_path / "run").all()


class TestEveryBaselineLeavingASiteOut:
    @pytest.fixture(scope="class")
    def done(self, go, tmp_path_factory):
        study = glioma(leave_one_site_out=True, l1_ratio=0.5, trees={"rounds": 12, "eta": 0.5})
        folder = tmp_path_factory.mktemp("left-out") / "run"
        homes, results = go(study, folder)
        return study, homes, folder, results

    def test_elastic_net_coefficients_equal_those_of_the_pooled_patients(self, done):
        study, homes, folder, _ = done
        beta = equals_the_pooled_fit(study, homes, folder)
        assert 5 < (beta == 0).sum() < 20

    def test_every_model_is_judged_on_all_patients_of_each_hospital_left_out(self, done):
        *_, results = done
        assert sorted(fold.federated.patients for fold in results.left_out) == [10, 24, 61, 73]
        for fold in results.left_out:
            assert fold.logistic.patients == fold.baselines["trees"].patients == fold.federated.patients
            assert fold.logistic.split == fold.baselines["trees"].split == "all"
        for site in results.sites:
            assert site.baselines["trees"].patients == site.federated.patients

    def test_trees_find_more_than_chance_at_hospitals_that_they_never_saw(self, done):
        *_, results = done
        assert fmean(fold.baselines["trees"].auc for fold in results.left_out) > 0.6
