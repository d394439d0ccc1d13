"""Patients drawn by coins pass; every other way of filling batches, under the same price, is caught."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from fedloupe.privacy import SecureNoise, SeededNoise, Spend
from fedloupe.study import DpSgd
from fedloupe_server.simulation.auditing import audit_canaries, audit_sampling
from fedloupe_server.simulation.auditing.sampling import _spread

THREE = Spend(3.49, 1 / 7, 280)  # epsilon 3.00 at delta 1e-5
PRIVACY = DpSgd(mode="dp-sgd", epsilon=3)


class Everyone(SeededNoise):
    """Every patient in every step."""

    def poisson(self, patients, rate):
        return np.arange(patients)


class Dealt(SeededNoise):
    """An epoch's patients shuffled and dealt out into batches of one size: what a data loader does."""

    left = np.zeros(0, dtype=np.int64)

    def poisson(self, patients, rate):
        size = round(patients * rate)
        if len(self.left) < size:
            self.left = np.random.default_rng(self._words(1)[0]).permutation(patients)
        drawn, self.left = self.left[:size], self.left[size:]
        return np.sort(drawn)


class Scattered(SeededNoise):
    """Each epoch every patient into one step at random: batches of every size, everybody once an epoch."""

    where, step = np.zeros(0, dtype=np.int64), 0

    def poisson(self, patients, rate):
        steps = round(1 / rate)
        if self.step % steps == 0:
            self.where = np.random.default_rng(self._words(1)[0]).integers(0, steps, patients)
        self.step += 1
        return np.flatnonzero(self.where == (self.step - 1) % steps)


class SameSize(SeededNoise):
    """A new draw in every step, without replacement, of one size."""

    def poisson(self, patients, rate):
        return np.sort(np.random.default_rng(self._words(1)[0]).choice(patients, round(patients * rate), replace=False))


class More(SeededNoise):
    """A twentieth more often than the accountant was told."""

    def poisson(self, patients, rate):
        return super().poisson(patients, 1.05 * rate)


class Twice(SeededNoise):
    """One patient twice in one step, clipped twice: too little for any spread."""

    step = 0

    def poisson(self, patients, rate):
        drawn = super().poisson(patients, rate)
        self.step += 1
        return np.concatenate([drawn[:-1], drawn[:1]]) if self.step == 5 else drawn


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("spend", [THREE, Spend(1.0, 0.02, 60)], ids=["an epoch of seven", "small batches"])
def test_coins_pass(spend, seed):
    found = audit_sampling(spend, PRIVACY, source=SeededNoise(seed))
    assert not found.broken
    assert found.drawn == pytest.approx(spend.sampling_rate, rel=0.1)
    assert 0.5 < found.sizes < 2 and 0.5 < found.turns < 2


def test_the_operating_systems_coins_pass():
    # Sound ones are called broken once in a thousand times.
    assert not all(audit_sampling(THREE, PRIVACY).broken for _ in range(2))


@pytest.mark.parametrize("wrong", [Everyone, Dealt, Scattered, SameSize, More, Twice])
def test_every_other_way_is_caught(wrong):
    assert audit_sampling(THREE, PRIVACY, source=wrong(2)).broken


def test_what_is_dealt_out_has_no_spread_and_canaries_do_not_see_it():
    found = audit_sampling(THREE, PRIVACY, source=Dealt(1))
    assert found.sizes < 0.05 and found.turns < 0.2 and found.drawn == pytest.approx(1 / 7, abs=0.003)
    assert not audit_canaries(THREE, PRIVACY, source=Dealt(1)).broken  # which is why there is this audit


def test_where_everybody_is_drawn_as_priced_nothing_is_wrong():
    assert not audit_sampling(Spend(9.0, 1.0, 20), PRIVACY, source=Everyone(1)).broken
    assert audit_sampling(Spend(9.0, 1.0, 20), PRIVACY, source=SameSize(1)).drawn == 1.0


def test_the_spreads_probability_is_near_chi_squares():
    counts = np.random.default_rng(3).binomial(400, 0.3, 150)
    counts[:4] += 30
    spread, p = _spread(counts, 400, 0.3)
    assert p == pytest.approx(2 * chi2.sf(spread * 150, 150), rel=0.3, abs=2e-3)


def test_the_secure_source_is_what_a_hospital_draws_from():
    assert SecureNoise.poisson is SeededNoise.poisson
