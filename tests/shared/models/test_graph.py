"""The graph of a patient: which nodes are joined, its normalised matrix, and one step along its edges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import erf

from fedloupe.models import Schema, build_model
from fedloupe.models.graph import GraphConvolution, Nodes, adjacency, grid, modalities_of, normalised

MODALITY = {"t2w": "MR", "adc": "MR", "ct": "CT"}


class TestGrid:
    def test_places_that_share_a_face_are_joined(self):
        joined = grid(27)
        assert np.flatnonzero(joined[13]).tolist() == [4, 10, 12, 14, 16, 22]  # the middle
        assert np.flatnonzero(joined[0]).tolist() == [1, 3, 9]  # a corner
        assert np.array_equal(joined, joined.T)

    @pytest.mark.parametrize("edge", [1, 2, 3, 5, 8])
    def test_a_cube_has_three_e_squared_times_e_less_one_edges(self, edge):
        assert grid(edge**3).sum() == 2 * 3 * edge**2 * (edge - 1)

    def test_no_place_has_no_edge(self):
        assert grid(0).shape == (0, 0)


class TestModality:
    def test_a_group_belongs_to_the_images_that_it_was_measured_on(self):
        groups = ("shape", "table", "t2w", "t2w|rim", "ct", "t2w:adc", "ct:t2w")
        assert [modalities_of(group, MODALITY) for group in groups] == [
            set(), set(), {"MR"}, {"MR"}, {"CT"}, {"MR"}, {"CT", "MR"},
        ]  # fmt: skip


class TestAdjacency:
    NODES = Nodes(("shape", "t2w", "ct", "ct:t2w"), clinical=2, mr=8, ct=8)

    def test_each_node_has_the_edges_that_are_documented(self):
        joined = adjacency(self.NODES, MODALITY)
        mr, ct = list(range(6, 14)), list(range(14, 22))
        found = [np.flatnonzero(row).tolist() for row in joined]
        assert found[0] == [1, 2, 3, 4, 5]  # shape: every other group, every clinical value
        assert found[1] == [0, 2, 3, 4, 5, *mr]
        assert found[2] == [0, 1, 3, 4, 5, *ct]
        assert found[3] == [0, 1, 2, 4, 5, *mr, *ct]
        assert found[4] == found[5] == [0, 1, 2, 3]  # clinical values: groups only
        assert found[6] == [1, 3, 7, 8, 10]  # an MR place: its groups, three neighbours in a cube of 2
        assert found[14] == [2, 3, 15, 16, 18]

    def test_it_is_symmetric_without_loops(self):
        joined = adjacency(self.NODES, MODALITY)
        assert np.array_equal(joined, joined.T)
        assert not joined.diagonal().any()

    @pytest.mark.parametrize("nodes", [Nodes((), 2, 8, 0), Nodes((), 0, 27, 0), Nodes(("table",), 3, 0, 0)])
    def test_a_study_may_lack_any_kind(self, nodes):
        joined = adjacency(nodes, MODALITY)
        assert len(joined) == sum(nodes.kinds)
        assert joined.sum() == grid(nodes.mr).sum() + 2 * len(nodes.groups) * nodes.clinical

    def test_a_studys_model_knows_the_modality_of_its_groups(self, make_study):
        study = make_study(model={"architecture": "gcn", "components": 3, "width": 16})
        model = build_model(study, Schema.of(study, ("shape", "t2w", "adc", "ct")))
        nodes = Nodes(("shape", "t2w", "adc", "ct"), 2, 8, 8)
        expected = normalised(adjacency(nodes, MODALITY))
        np.testing.assert_allclose(model.a_hat.numpy(), expected, atol=1e-7)


class TestPooling:
    def test_each_kind_of_node_is_averaged_into_columns_of_its_own(self, make_study, make_inputs):
        study = make_study(model={"architecture": "gcn", "components": 3, "width": 16})
        schema = Schema.of(study, ("shape", "t2w", "adc", "ct"))
        model, inputs = build_model(study, schema).eval(), make_inputs(schema)
        seen: list[torch.Tensor] = []
        model.join.register_forward_hook(lambda _layer, given, _result: seen.append(given[0]))
        model.layers = torch.nn.ModuleList()  # no edges, so each token stays with its kind
        for name in ("radiomics", "clinical", "mr", "ct"):
            changed = replace(inputs, **{name: getattr(inputs, name) + torch.randn_like(getattr(inputs, name))})
            with torch.no_grad():
                model.embed(inputs), model.embed(changed)
        moved = [
            (a - b).view(5, 4, 16).abs().amax(dim=(0, 2)) > 1e-4 for a, b in zip(seen[::2], seen[1::2], strict=True)
        ]
        assert torch.equal(torch.stack(moved), torch.eye(4, dtype=torch.bool))


class TestNormalised:
    def test_three_nodes_by_hand(self):
        """A path a - b - c: with loops, degrees are 2, 3, 2."""
        path = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
        off = 1 / np.sqrt(6)
        expected = [[1 / 2, off, 0], [off, 1 / 3, off], [0, off, 1 / 2]]
        np.testing.assert_allclose(normalised(path), expected, atol=1e-15)

    def test_its_largest_eigenvalue_is_one(self):
        """So that many layers neither blow up nor fade (Kipf & Welling 2017, section 2.2)."""
        values = np.linalg.eigvalsh(normalised(adjacency(TestAdjacency.NODES, MODALITY)))
        assert values.max() == pytest.approx(1, abs=1e-12)
        assert values.min() > -1

    def test_a_node_without_edges_keeps_itself(self):
        assert np.array_equal(normalised(np.zeros((2, 2), dtype=bool)), np.eye(2))


class TestGraphConvolution:
    @pytest.fixture
    def layer(self) -> GraphConvolution:
        torch.manual_seed(0)
        return GraphConvolution(4, 0.0).double()

    def test_it_is_the_equation(self, layer):
        a_hat = normalised(grid(8))
        nodes = np.random.default_rng(0).standard_normal((3, 8, 4))
        level = nodes - nodes.mean(axis=-1, keepdims=True)
        level /= np.sqrt((level**2).mean(axis=-1, keepdims=True) + 1e-5)
        mixed = np.einsum("ij,bjk,lk->bil", a_hat, level, layer.weight.weight.detach().numpy())
        expected = nodes + mixed * (1 + erf(mixed / np.sqrt(2))) / 2
        found = layer(torch.from_numpy(nodes), torch.from_numpy(a_hat)).detach().numpy()
        np.testing.assert_allclose(found, expected, atol=1e-12)

    def test_a_node_reaches_its_neighbours_alone_in_one_step(self, layer):
        a_hat = torch.from_numpy(normalised(grid(27)))
        nodes = torch.randn(1, 27, 4, dtype=torch.double)
        changed = nodes.clone()
        changed[0, 13] = torch.randn(4, dtype=torch.double)
        with torch.no_grad():
            moved = (layer(nodes, a_hat) - layer(changed, a_hat)).abs().amax(dim=-1)[0]
        assert moved.nonzero().flatten().tolist() == [4, 10, 12, 13, 14, 16, 22]
