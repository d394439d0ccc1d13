"""A server's guess from an update, for each architecture: exact for one patient's SGD, and blind on a masked vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedloupe.masking import Secrets, term_of
from fedloupe.messages import TrainReply
from fedloupe.models import Inputs, Schema, build_model, flatten
from fedloupe.study import parse_study
from fedloupe_server.simulation.auditing import attack_on, likeness
from fedloupe_server.simulation.demo import demo_study

GROUPS = ("shape", "t2w", "adc")
STEPS = 5


def study_of(architecture="transformer"):
    content = demo_study(1, epsilon=8.0).model_dump(mode="json")
    content["model"] |= {"architecture": architecture, "feature_dropout": 0.0, "feature_noise": 0.0, "dropout": 0.0}
    return parse_study(content)


def one_patient(schema, seed=3):
    rng = torch.Generator().manual_seed(seed)
    radiomics = torch.randn((1, len(schema.groups), schema.components), generator=rng)
    clinical = torch.randn((1, schema.clinical), generator=rng)
    images, none = torch.zeros(1, 0, 1, 1, 1), torch.zeros(1, 0)
    return Inputs(
        radiomics,
        torch.ones(1, len(schema.groups)),
        clinical,
        torch.ones(1, schema.clinical),
        images,
        none,
        images,
        none,
    )


def trained_on_one(study, steps=STEPS):
    """Update (m) of plain SGD on one patient, written here without the product's training; the patient's values."""
    schema = Schema.of(study, GROUPS)
    model, patient = build_model(study, schema), one_patient(schema)
    start = flatten(model).astype(np.float64)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(model(*patient.tensors), torch.ones(1)).backward()
        optimiser.step()
    values = torch.cat([patient.radiomics.flatten(1), patient.clinical], dim=1)
    return flatten(model) - start, values.double().numpy()[0]


class TestExact:
    @pytest.mark.parametrize(("architecture", "ways"), [("transformer", 2), ("gcn", 2), ("cnn", 1)])
    @pytest.mark.parametrize("steps", [1, STEPS])
    def test_one_patients_update_gives_every_value_back(self, architecture, ways, steps):
        study = study_of(architecture)
        update, values = trained_on_one(study, steps)
        guesses = attack_on(study, GROUPS)(update)
        assert guesses.shape == (ways, len(values))
        for guess in guesses:
            np.testing.assert_allclose(guess, values, atol=2e-3)  # the weights are float32, the update their difference
        assert likeness(guesses, values[None]) > 0.99999

    def test_the_scale_of_the_update_does_not_matter(self):
        update, values = trained_on_one(study_of())
        np.testing.assert_allclose(attack_on(study_of(), GROUPS)(-37.0 * update)[0], values, atol=2e-3)

    def test_a_wrong_model_reads_nonsense(self):
        """Another architecture's places: the attack is no tautology."""
        update, values = trained_on_one(study_of("cnn"))
        size = sum(p.numel() for p in build_model(study_of(), Schema.of(study_of(), GROUPS)).parameters())
        assert likeness(attack_on(study_of(), GROUPS)(np.resize(update, size)), values[None]) < 0.9


class TestBlind:
    def test_a_masked_vector_tells_no_more_than_chance(self):
        """What a hospital sends under secure sums, by the masks of a set-up of three."""
        study = study_of()
        attack, (update, values) = attack_on(study, GROUPS), trained_on_one(study)
        rng = np.random.default_rng(5)
        header = {"version": "0", "fingerprint": "0" * 64, "run": "r", "site": "a"}
        reply = TrainReply(**header, round=1, weights=update.astype(np.float32), patients=1, loss=None)
        term, _ = term_of(reply, equal=False)
        members = ("a", "b", "c")
        sites = {name: Secrets(rng.bytes(32), "0" * 32, name) for name in members}
        keys = np.stack([one.masks(1)[0] for one in sites.values()])
        masked = [sites["a"].mask(term, 0, f"{number}", members, keys) for number in range(300)]
        read = [one.narrow[1 : 1 + len(update)].astype(np.float64) for one in masked]
        seen = np.mean([likeness(attack(one), values[None]) for one in read])
        blind = np.mean([likeness(rng.standard_normal((2, len(values))), values[None]) for _ in range(300)])
        assert seen == pytest.approx(blind, abs=0.04)  # four standard errors of the difference are 0.04
        bare = term.narrow[1 : 1 + len(update)].astype(np.float64)
        assert likeness(attack(bare), values[None]) > 0.9  # and the masks did it

    def test_an_update_of_nothing_guesses_nothing(self):
        study = study_of()
        update, values = trained_on_one(study)
        assert likeness(attack_on(study, GROUPS)(np.zeros_like(update)), values[None]) == 0.0

    def test_likeness_is_the_largest_size_of_a_correlation(self):
        rng = np.random.default_rng(1)
        guesses, patients = rng.standard_normal((2, 20)), rng.standard_normal((3, 20))
        every = [abs(np.corrcoef(g, p)[0, 1]) for g in guesses for p in patients]
        assert likeness(guesses, patients) == pytest.approx(max(every))
        assert likeness(-2 * patients[:1] + 5, patients) == pytest.approx(1.0)
