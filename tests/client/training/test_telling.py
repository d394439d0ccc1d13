"""Training says how far it is: after each step, of those planned, whatever it trains."""

from __future__ import annotations

import numpy as np
import pytest
from tests.client.training.conftest import STILL

from fedloupe.models import Schema, build_model, flatten, group_order
from fedloupe.privacy import SeededNoise, Spend
from fedloupe.study import DpSgd
from fedloupe_client.training.local import fine_tune, train_alone, train_round
from fedloupe_client.training.private import train_round_privately

STEPS = 4
"""32 training patients in batches of 8."""


@pytest.fixture
def told():
    return []


@pytest.fixture
def tell(told):
    return lambda done, total: told.append((done, total))


class TestTelling:
    def test_a_round_tells_each_of_its_steps(self, study, cohort, preparation, start, tell, told):
        quiet = train_round(study, "north", cohort, preparation, start, number=1)
        loud = train_round(study, "north", cohort, preparation, start, number=1, tell=tell)
        assert told == [(i, 2 * STEPS) for i in range(1, 2 * STEPS + 1)]
        assert np.array_equal(quiet.weights, loud.weights)

    def test_the_sites_own_model_is_told_over_all_its_rounds(self, study, cohort, preparation, start, tell, told):
        train_alone(study, "north", cohort, preparation, start, tell=tell)
        assert told == [(i, 3 * 2 * STEPS) for i in range(1, 3 * 2 * STEPS + 1)]

    def test_fine_tuning_is_told(self, make_study, cohort, preparation, start, tell, told):
        study = make_study(personalisation={"method": "fine-tune", "epochs": 3}, model={**STILL, "image": False})
        fine_tune(study, "north", cohort, preparation, start, tell=tell)
        assert told[-1] == (3 * STEPS, 3 * STEPS) and len(told) == 3 * STEPS

    def test_a_private_round_is_told(self, make_study, cohort, preparation, tell, told):
        study = make_study()
        model = build_model(study, Schema.of(study, group_order(cohort.columns)))
        train_round_privately(
            study,
            "north",
            cohort,
            preparation,
            flatten(model),
            number=1,
            privacy=DpSgd(mode="dp-sgd", epsilon=8),
            spend=Spend(1.0, 0.25, 5),
            source=SeededNoise(1),
            tell=tell,
        )
        assert told == [(i, 5) for i in range(1, 6)]
