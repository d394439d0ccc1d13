"""A small site is warned before a private study, by what its noise amounts to in patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from fedloupe.privacy import epsilon
from fedloupe.study import Study, parse_study
from fedloupe_client.config import load_site
from fedloupe_client.ingest import ingest
from fedloupe_client.preflight import preflight
from fedloupe_client.preflight.private import few_for_noise
from fedloupe_client.training.private import planned_spend

CODE = "FL-644"


def make_study(budget: float | None, role: str = "train") -> Study:
    content = {
        "study": "tiny",
        "title": "Synthetic table",
        "synthetic": True,
        "endpoint": {"name": "response", "column": "response", "positive": ["yes"], "negative": ["no"]},
        "aggregation": "plain",
        "sites": [{"name": "alpha", "role": role}, {"name": "beta", "role": "train"}],
        "radiomics": {"source": "table"},
        "model": {"architecture": "logistic", "components": 2, "image": False},
        "training": {"rounds": 2, "local_epochs": 1},
        "quorum": {"minimum": 1},
    }
    if budget is not None:
        content["privacy"] = {"mode": "dp-sgd", "epsilon": budget, "sampling_rate": 0.5}
        content["training"] |= {"preparation": "public", "start": "random"}
    return parse_study(content)


@pytest.mark.parametrize(
    ("budget", "patients", "warned"), [(3.0, 99, True), (3.0, 100, False), (3.1, 99, False), (1.0, 20, True)]
)
def test_fewer_than_a_hundred_are_few_at_epsilon_three_and_less(budget, patients, warned):
    found = few_for_noise(make_study(budget), patients)
    assert [(f.code, f.severity) for f in found] == ([(CODE, "warning")] if warned else [])


def test_the_noise_is_told_in_patients():
    study = make_study(3.0)
    (found,) = few_for_noise(study, 60)
    noise = planned_spend(study, study.privacy).noise_multiplier
    assert "60 patients train here, fewer than 100, at epsilon 3: a step draws 30 of them" in found.what
    assert f"as large as {noise:.3g} of them" in found.what
    assert epsilon([planned_spend(study, study.privacy)] * 2, 1e-5) <= 3


def test_without_privacy_nobody_is_warned():
    assert few_for_noise(make_study(None), 20) == []


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Sixty synthetic patients, of whom 36 train."""
    home = tmp_path_factory.mktemp("table")
    values = np.random.default_rng(0).standard_normal((60, 3))
    rows = [f"PAT-{i:03d},{'yes' if i % 2 else 'no'},{','.join(map(str, row))}" for i, row in enumerate(values)]
    (home / "cases.csv").write_text("\n".join(["case,response,f1,f2,f3", *rows]) + "\n")
    source = {"format": "table", "root": ".", "clinical": {"file": "cases.csv"}, "features": "cases.csv"}
    content = {"site": "alpha", "source": {**source, "exclude": ["response"]}}
    (home / "site.yaml").write_text(yaml.safe_dump(content))
    ingest(load_site(home), make_study(None), home)
    return home


@pytest.mark.parametrize(("budget", "role", "warned"), [(3.0, "train", 1), (8.0, "train", 0), (3.0, "validate", 0)])
def test_it_is_among_the_findings_of_a_check(home, budget, role, warned):
    found = preflight(home, make_study(budget, role)).result.findings
    assert [f.code for f in found].count(CODE) == warned
