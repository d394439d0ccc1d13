"""Logistic regression as an architecture: the linear path and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedloupe.models import (
    RadiomicsLogistic,
    Schema,
    build_model,
    design_matrix,
    flatten,
    logistic_probability,
    range_vector,
    start_at_logistic,
    unflatten,
)
from fedloupe.study import StudyInvalid, parse_study
from fedloupe_client.training.per_patient import PerPatient

GROUPS = ("shape", "t2w", "adc")
LINEAR = {"architecture": "logistic", "image": False, "components": 3, "feature_dropout": 0.0, "feature_noise": 0.0}


@pytest.fixture
def linear(make_study):
    study = make_study(model=LINEAR)
    return build_model(study, Schema.of(study, GROUPS))


@pytest.fixture
def inputs(make_study, make_inputs):
    """One group and one clinical value are marked missing; the numbers behind the marks are not zero."""
    whole = make_inputs(Schema.of(make_study(model=LINEAR), GROUPS))
    there = torch.ones_like(whole.radiomics_present), torch.ones_like(whole.clinical_present)
    there[0][1, 2] = there[1][3, 0] = 0
    return replace(whole, radiomics_present=there[0], clinical_present=there[1])


def test_it_has_an_intercept_and_a_coefficient_an_input_and_begins_at_zero(linear):
    assert type(linear) is RadiomicsLogistic
    assert not flatten(linear).any() and len(flatten(linear)) == 1 + len(GROUPS) * 3 + 2


def test_it_says_what_logistic_regression_says(linear, inputs):
    beta = np.random.default_rng(1).standard_normal(12)
    start_at_logistic(linear, beta)
    with torch.no_grad():
        said = torch.sigmoid(linear.eval()(*inputs.tensors)).double().numpy()
    np.testing.assert_allclose(said, logistic_probability(inputs, beta), atol=1e-6)
    assert np.ptp(said) > 0.1


def test_a_patients_gradient_is_the_residual_times_the_inputs(linear, inputs):
    unflatten(linear, np.random.default_rng(2).standard_normal(12))
    labels = torch.tensor([0.0, 1, 0, 1, 1])
    design = design_matrix(inputs)
    residual = logistic_probability(inputs, np.roll(flatten(linear), 1)) - labels.numpy()  # the bias comes last
    PerPatient(linear.train()).of(inputs, labels)
    np.testing.assert_allclose(linear.wide.weight.grad_sample[:, 0], residual[:, None] * design[:, 1:], atol=1e-6)
    np.testing.assert_allclose(linear.wide.bias.grad_sample[:, 0], residual, atol=1e-6)
    assert np.abs(residual).min() > 1e-3


def test_without_a_deep_part_the_range_is_that_of_the_inputs(linear, inputs):
    assert linear.embed(inputs).shape == (5, 0)
    assert range_vector(linear, inputs).shape == (5, 11)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": {**LINEAR, "image": True}}, "image: false"),
        ({"prediction": {}}, "prediction.*logistic"),
        ({"personalisation": {}}, "personalisation.*logistic"),
    ],
)
def test_a_study_that_asks_it_for_a_deep_part_is_refused(make_study, changes, named):
    with pytest.raises(StudyInvalid, match=named):
        parse_study({**make_study(model=LINEAR).model_dump(mode="json"), **changes})
