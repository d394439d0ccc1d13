"""The sizes that a study fixes, and the logistic baseline's design."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from fedloupe.models import Inputs, Schema, build_model, design_matrix, logistic_probability, start_at_logistic
from fedloupe.study import Model

DEEP = [name for name in get_args(Model.model_fields["architecture"].annotation) if name != "logistic"]
every_architecture = pytest.mark.parametrize("architecture", DEEP)


class TestSchema:
    def test_volumes_are_counted_by_modality_and_the_crop_in_voxels(self, schema):
        assert (schema.mr, schema.ct, schema.clinical, schema.components, schema.crop) == (2, 1, 2, 3, 12)

    def test_without_image_tokens_there_are_no_volumes(self, make_study):
        study = make_study(model={"image": False, "components": 3})
        assert Schema.of(study, ("a",)) == Schema(("a",), 3, 2, 0, 0, 0)


class TestLogistic:
    def test_the_design_is_intercept_components_and_clinical_values(self):
        inputs = Inputs(
            torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]),
            torch.tensor([[1.0, 0.0]]),
            torch.tensor([[5.0, 6.0]]),
            torch.tensor([[0.0, 1.0]]),
            *(torch.zeros(1, 0) for _ in range(4)),
        )
        assert design_matrix(inputs).tolist() == [[1, 1, 2, 0, 0, 0, 6]]
        beta = np.array([0.5, -1, 0.25, 9, 9, 9, 0.1])
        expected = 1 / (1 + np.exp(-(0.5 - 1 + 0.5 + 0.6)))
        assert logistic_probability(inputs, beta) == pytest.approx([expected], abs=1e-12)

    @every_architecture
    def test_a_model_that_starts_at_it_gives_its_probabilities(self, study, schema, make_inputs, missing):
        model = start_at_logistic(build_model(study, schema), np.zeros(12)).eval()
        beta = np.random.default_rng(0).standard_normal(12)
        assert start_at_logistic(model, beta) is model
        for gone in ((), ("clinical",), ("radiomics", "mr")):
            inputs = missing(make_inputs(schema), *gone)
            with torch.no_grad():
                found = torch.sigmoid(model(*inputs.tensors).double()).numpy()
            np.testing.assert_allclose(found, logistic_probability(inputs, beta), atol=1e-6)

    @every_architecture
    def test_the_deep_path_can_still_be_learned_from_there(self, study, schema, make_inputs):
        model = start_at_logistic(build_model(study, schema), np.ones(12)).train()
        model(*make_inputs(schema).tensors).sum().backward()
        assert model.deep.weight.grad.abs().sum() > 0

    def test_an_extreme_score_is_a_probability(self):
        inputs = Inputs(
            torch.full((2, 1, 1), 1e4) * torch.tensor([[[1.0]], [[-1.0]]]),
            torch.ones(2, 1),
            torch.zeros(2, 0),
            torch.zeros(2, 0),
            *(torch.zeros(2, 0) for _ in range(4)),
        )
        assert logistic_probability(inputs, np.array([0.0, 1.0])).tolist() == [1.0, 0.0]
