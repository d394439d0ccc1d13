"""Which numbers of the flat vector belong to normalisation layers."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fedloupe.models import flatten, norm_positions, unflatten


def test_affine_parameters_are_found_and_nothing_else():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Conv3d(1, 2, 1), nn.GroupNorm(1, 2), nn.Linear(4, 1))
    # (3 * 4 + 4) linear, 8 norm, (2 + 2) convolution, 4 norm, (4 + 1) linear
    expected = np.repeat([False, True, False, True, False], [16, 8, 4, 4, 5])
    assert np.array_equal(norm_positions(model), expected)


def test_laying_other_numbers_there_changes_these_layers_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    vector = flatten(model)
    vector[norm_positions(model)] = np.arange(8)
    before = model[0].weight.clone()
    unflatten(model, vector)
    assert model[1].weight.tolist() == [0, 1, 2, 3] and model[1].bias.tolist() == [4, 5, 6, 7]
    assert torch.equal(before, model[0].weight)


def test_a_layer_without_affine_parameters_or_a_model_without_layers_has_none():
    assert not norm_positions(nn.Sequential(nn.LayerNorm(4, elementwise_affine=False), nn.Linear(2, 1))).any()
    assert norm_positions(nn.Linear(2, 1)).tolist() == [False] * 3
