"""Each strategy against its formula."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.study import Training
from fedloupe_server.federation.strategies import FedAdam, FedAvg, strategy_for


class TestFedAvg:
    def test_it_is_the_mean(self):
        assert FedAvg().aggregate(np.zeros(2, np.float32), np.array([3.25, -0.25])).tolist() == [3.25, -0.25]

    def test_its_result_is_float32_and_it_has_no_state(self):
        strategy = FedAvg()
        assert strategy.aggregate(np.zeros(1, np.float32), np.ones(1)).dtype == np.float32
        assert strategy.state() == {}


class TestFedAdam:
    def test_two_steps_by_hand(self):
        """b1 .9, b2 .99, tau 1e-3, no bias correction (Reddi 2021, alg. 2)."""
        strategy = FedAdam(0.1)
        w0 = np.array([1.0], np.float32)
        w1 = strategy.aggregate(w0, np.array([4.25]))  # d = 3.25
        m, v = 0.325, 0.01 * 3.25**2
        assert w1[0] == pytest.approx(1 + 0.1 * m / (v**0.5 + 1e-3), rel=1e-6)
        w2 = strategy.aggregate(w1, np.array([0.0]))
        d = 0 - float(w1[0])
        m, v = 0.9 * m + 0.1 * d, 0.99 * v + 0.01 * d**2
        assert w2[0] == pytest.approx(float(w1[0]) + 0.1 * m / (v**0.5 + 1e-3), rel=1e-6)

    def test_a_restored_strategy_goes_on_as_the_first_would(self):
        mean = np.array([2.0, 3.0])
        first = FedAdam(0.1)
        weights = first.aggregate(np.zeros(2, np.float32), mean)
        second = FedAdam(0.1)
        second.restore({k: v.copy() for k, v in first.state().items()})
        assert np.array_equal(first.aggregate(weights, mean), second.aggregate(weights, mean))
        assert not np.array_equal(FedAdam(0.1).aggregate(weights, mean), second.aggregate(weights, mean))

    def test_nothing_is_kept_before_the_first_step(self):
        assert FedAdam(0.1).state() == {}


class TestChoice:
    @pytest.mark.parametrize(("name", "kind"), [("fedavg", FedAvg), ("fedprox", FedAvg), ("fedadam", FedAdam)])
    def test_the_study_names_it(self, name, kind):
        strategy = strategy_for(Training(strategy=name, server_learning_rate=0.3))
        assert type(strategy) is kind
        if kind is FedAdam:
            assert strategy.rate == 0.3
