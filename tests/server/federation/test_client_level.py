"""Client-level privacy at the coordinator: one hospital moves a round by clip / sites at most, and noise hides it.

The coordinator measures nobody's update: sites clip, and their gates measure (`tests/client/gate`). What it makes of
their sum is held to here; with secure sums (`test_client_level_sums.py`) it has nothing else.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import chi2, kstest, norm
from tests.server.federation.clipped import COLUMNS, Silence, after, at_length, private, public

from fedloupe.models import digest
from fedloupe.privacy import SeededNoise, clipped_weights
from fedloupe.study import ClientDp
from fedloupe_server.evidence.results import Results
from fedloupe_server.federation import client_level, run_study
from fedloupe_server.federation.client_level import ClientLevel, NoiseDrawn
from fedloupe_server.federation.fit import initial_weights
from fedloupe_server.federation.journal import JournalDamaged

PRIVACY = ClientDp(mode="client-dp", epsilon=8, clip=0.5)


@pytest.fixture
def central(tmp_path):
    def make(sites: int, source=None, privacy=PRIVACY, rounds=20) -> ClientLevel:
        return ClientLevel(privacy, rounds, sites, tmp_path / "noise.jsonl", source or Silence())

    return make


def step(level: ClientLevel, start: np.ndarray, updates: list[np.ndarray]) -> np.ndarray:
    """(m) what a round adds to the weights, from the mean of those who answered."""
    mean = np.mean([start.astype(float) + update for update in updates], axis=0)
    return level.noised(start, mean, len(updates)) - start


class TestSensitivity:
    """Of the sum: a hospital's clipped update, there or zero, moves it by the bound at most."""

    @pytest.mark.parametrize("others", [0.0, 0.3, 1e3, 1e6])
    @pytest.mark.parametrize("length", [0.1, 0.5, 3.0, 1e12])
    def test_a_hospital_moves_the_sum_by_the_bound_at_most_whatever_the_others_send(self, central, length, others):
        """`length` is what it trained, before its site clips; `others` how far each other hospital moved, unclipped."""
        rng = np.random.default_rng(1)
        start = rng.standard_normal(400).astype(np.float32)
        rest = [at_length(rng, 400, others) for _ in range(9)]
        sent = clipped_weights(start + at_length(rng, 400, length), start, PRIVACY.clip)
        moved = step(central(10), start, [*rest, sent.astype(float) - start])
        still = step(central(10), start, [*rest, np.zeros(400)])
        influence = float(np.linalg.norm(moved - still)) * 10
        assert influence <= PRIVACY.clip + 1e-8
        assert influence == pytest.approx(min(length, PRIVACY.clip), rel=1e-4)

    def test_the_noise_knows_nothing_of_the_updates(self, central):
        rng = np.random.default_rng(2)
        start = np.zeros(400, np.float32)
        updates = [at_length(rng, 400, PRIVACY.clip) for _ in range(10)]
        moved = step(central(10, SeededNoise(7)), start, updates)
        still = step(central(10, SeededNoise(7)), start, [*updates[:9], np.zeros(400)])
        np.testing.assert_allclose((moved - still) * 10, updates[9], rtol=0, atol=1e-13)

    @pytest.mark.parametrize("clearance", [-0.2, -1e-3, 1e-3, 0.2])
    def test_at_the_rings_edge_the_noise_decides_the_side_and_not_the_hospital(self, central, clearance):
        """Somebody brought the sum this close to the edge; the decoded sum is on one side or the other."""
        start, edge = np.zeros(2000, np.float32), 2.0**31
        lifted = np.full(2000, edge + clearance)
        decoded = lifted - (2 * edge if clearance > 0 else 0)
        level, noise = central(10, SeededNoise(5)), SeededNoise(5).normal((2000,), central(10).noise * PRIVACY.clip)
        found = level.noised(start, decoded / 3, 3) * 10
        wanted = np.where(lifted + noise >= edge, lifted + noise - 2 * edge, lifted + noise)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
        assert 0.3 < np.mean(found < 0) < 0.7

    def test_the_sum_is_that_of_the_updates_as_they_were_sent(self, central):
        """The coordinator neither stretches nor shortens."""
        start, updates = np.full(16, 2, np.float32), [np.full(16, 0.01), np.full(16, -3.0)]
        np.testing.assert_allclose(step(central(2), start, updates), np.full(16, (0.01 - 3) / 2), rtol=1e-12)

    def test_patients_do_not_count(self, make_study, new_hospitals, tmp_path, monkeypatch):
        monkeypatch.setattr(client_level, "SecureNoise", Silence)
        ends = set()
        for name, patients in (("few", 1), ("many", 100_000)):
            hospitals, folder = new_hospitals(), tmp_path / name / "trial"
            hospitals.hook = lambda r, h=hospitals, n=patients: (
                h.answer(r).model_copy(update={"patients": n}) if r.kind == "train" and r.site == "south" else ...
            )
            public(folder)
            ends.add(run_study(private(make_study), hospitals, folder).rounds[-1].weights)
        assert len(ends) == 1


class TestDenominator:
    @pytest.mark.parametrize("absent", [0, 1, 3])
    def test_an_absent_hospital_is_a_zero_and_moves_nothing_else(self, central, absent):
        start, update = np.full(4, 0.25, np.float32), np.full(4, 0.1)
        moved = step(central(4), start, [update] * (4 - absent))
        np.testing.assert_allclose(moved, update * (4 - absent) / 4, rtol=1e-12)
        zeros = step(central(4), start, [update] * (4 - absent) + [np.zeros(4)] * absent)
        np.testing.assert_allclose(moved, zeros, rtol=1e-12)

    def test_it_is_the_studys_number_in_a_run(self, make_study, hospitals, run_dir, monkeypatch):
        """`south` is silent in every round; the others' updates are divided by three all the same."""
        monkeypatch.setattr(client_level, "SecureNoise", Silence)
        study = private(make_study, clip=100.0)
        public(run_dir)
        hospitals.hook = lambda r: None if r.kind == "train" and r.site == "south" else ...
        results = run_study(study, hospitals, run_dir)
        weights = initial_weights(study, COLUMNS).astype(float)
        for _ in range(3):
            updates = [(0.5 * weights + hospitals.shift(s)) - weights for s in ("north", "east")]
            weights = weights + sum(updates) / 3
        np.testing.assert_allclose(after(run_dir, 3), weights, rtol=1e-4, atol=1e-6)
        assert [r.absent for r in results.rounds] == [("south",)] * 3


class TestNoise:
    def test_its_deviation_is_the_planned_one(self, central):
        """Ten thousand hospitals; what is left of a round without their mean is the noise, one value a parameter."""
        hospitals, size = 10_000, 3000
        start = np.random.default_rng(4).standard_normal(size).astype(np.float32)
        spread = np.zeros(size)
        spread[:8] = sum(at_length(np.random.default_rng(i), 8, PRIVACY.clip) for i in range(hospitals))
        level = central(hospitals, SeededNoise(11))
        found = level.noised(start, start + spread / hospitals, hospitals)
        noise = (found - start) * hospitals - spread
        wanted = level.noise * PRIVACY.clip
        low, high = chi2.ppf([0.0005, 0.9995], size)
        assert low < float(np.sum((noise / wanted) ** 2)) < high
        assert kstest(noise / wanted, norm.cdf).pvalue > 1e-3

    def test_it_comes_from_the_operating_system_and_never_twice(self, make_study, new_hospitals, tmp_path):
        ends = set()
        for name in ("a", "b"):
            public(tmp_path / name / "trial")
            ends.add(run_study(private(make_study), new_hospitals(), tmp_path / name / "trial").rounds[-1].weights)
        assert len(ends) == 2

    def test_it_serves_all_rounds_of_the_study(self, central):
        """Twice the noise for four times the rounds: the account is one Gaussian mechanism of sqrt(T) / noise."""
        few, many = central(5, rounds=10).noise, central(5, rounds=40).noise
        assert many / few == pytest.approx(2.0, rel=0.01)


def analytic(noise: float, rounds: int, delta: float) -> float:
    """Balle & Wang 2018, theorem 8, by bisection."""
    mu, low, high = math.sqrt(rounds) / noise, 0.0, 200.0
    for _ in range(200):
        eps = (low + high) / 2
        found = norm.cdf(mu / 2 - eps / mu) - math.exp(eps + norm.logcdf(-mu / 2 - eps / mu))
        low, high = (eps, high) if found > delta else (low, eps)
    return high


class TestRun:
    def test_the_account_is_the_coordinators_and_a_field_of_its_own(self, make_study, hospitals, run_dir):
        public(run_dir)
        results = run_study(private(make_study), hospitals, run_dir)
        account = results.client_level
        assert account is not None
        assert (account.delta, account.clip, account.hospitals) == (1e-5, 0.5, 3)
        for record in results.rounds:
            exact = analytic(account.noise_multiplier, record.round, 1e-5)
            assert exact <= record.client_epsilon <= exact + 0.0125
            assert record.epsilon == {} and record.loss is None
        assert 7.9 < account.epsilon == results.rounds[-1].client_epsilon <= 8
        assert all(site.epsilon is None for site in results.sites)
        assert results.privacy == "client-dp, epsilon 8, delta 1e-05, clip 0.5"
        assert Results.model_validate_json((run_dir / "results.json").read_bytes()) == results

    def test_an_epsilon_or_a_loss_that_a_site_sends_is_not_taken_up(self, make_study, hospitals, run_dir):
        public(run_dir)
        hospitals.hook = lambda r: (
            hospitals.answer(r).model_copy(update={"loss": 0.5, "epsilon": 1.0}) if r.kind == "train" else ...
        )
        results = run_study(private(make_study), hospitals, run_dir)
        assert all(r.epsilon == {} and r.loss is None for r in results.rounds)
        assert all(site.epsilon is None for site in results.sites)

    def test_nothing_exact_is_asked_for(self, make_study, hospitals, run_dir):
        public(run_dir)
        results = run_study(private(make_study), hospitals, run_dir)
        assert {m.kind for m in hospitals.log} == {"hello", "prepare", "train", "midpoint", "open", "evaluate"}
        assert not hospitals.asked("train", scope="local")
        assert all(s.local is None and s.logistic is None for s in results.sites)
        assert results.pooled_local is None

    def test_only_noised_weights_are_sent_and_kept(self, make_study, hospitals, run_dir):
        public(run_dir)
        study = private(make_study)
        run_study(study, hospitals, run_dir)
        start = initial_weights(study, COLUMNS).astype(float)
        bare = np.mean([0.5 * start + hospitals.shift(s) for s in ("north", "south", "east")], axis=0)
        noise = ClientLevel(study.privacy, 3, 3, run_dir / "unused").noise
        apart = (after(run_dir, 1) - bare) * 3 / (noise * 0.5)
        assert 0.6 < float(np.std(apart)) < 1.4
        for request in hospitals.asked("train", round=2):
            assert np.array_equal(request.weights, after(run_dir, 1))

    def test_adams_momentum_is_made_of_noised_updates(self, make_study, hospitals, run_dir, monkeypatch):
        """A step of Adam from rest is eta d / (|d| + tau): its sign is that of the noised update, not of the sum."""
        monkeypatch.setattr(client_level, "SecureNoise", lambda: SeededNoise(3))
        public(run_dir)
        study = private(make_study, strategy="fedadam", rounds=1)
        run_study(study, hospitals, run_dir)
        start = initial_weights(study, COLUMNS)
        mean = np.mean([0.5 * start.astype(float) + hospitals.shift(s) for s in ("north", "south", "east")], axis=0)
        noised = ClientLevel(study.privacy, 1, 3, run_dir / "unused", SeededNoise(3)).noised(start, mean, 3)
        change = after(run_dir, 1) - start
        assert np.mean(np.sign(change) == np.sign(noised - start)) > 0.98


class TestKilled:
    @pytest.fixture
    def killed(self, make_study, hospitals, stopped, run_dir):
        """A run that is killed when round 3 is asked for."""
        public(run_dir)

        def hook(r):
            if r.kind == "train" and r.round == 3:
                raise stopped
            return ...

        hospitals.hook = hook
        study = private(make_study)
        with pytest.raises(stopped):
            run_study(study, hospitals, run_dir)
        hospitals.hook = lambda r: ...
        hospitals.log.clear()
        return study

    def test_it_goes_on_after_the_last_round_kept(self, killed, hospitals, run_dir):
        second = after(run_dir, 2)
        results = run_study(killed, hospitals, run_dir)
        assert sorted({m.round for m in hospitals.asked("train")}) == [3]
        assert np.array_equal(after(run_dir, 2), second)
        kept = [json.loads(line)["weights"] for line in (run_dir / "noise.jsonl").read_text().splitlines()]
        assert kept == [r.weights for r in results.rounds] == [digest(after(run_dir, n)) for n in (1, 2, 3)]

    @pytest.mark.parametrize("last", ["", '{"round": 2, "wei'])
    def test_killed_between_journal_and_account_the_round_stands(self, killed, hospitals, run_dir, last):
        path = run_dir / "noise.jsonl"
        path.write_text(path.read_text().splitlines(keepends=True)[0] + last)
        results = run_study(killed, hospitals, run_dir)
        assert sorted({m.round for m in hospitals.asked("train")}) == [3]
        assert [json.loads(line)["round"] for line in path.read_text().splitlines()] == [1, 2, 3]
        assert results.rounds[1].weights == digest(after(run_dir, 2))

    def test_a_round_that_left_is_never_drawn_again(self, killed, hospitals, run_dir):
        """Two noised versions of one sum, averaged, have less noise than the account says."""
        (run_dir / "rounds" / "0002.json").unlink()
        with pytest.raises(NoiseDrawn, match="round 2") as caught:
            run_study(killed, hospitals, run_dir)
        assert caught.value.code == "FL-708" and caught.value.where and caught.value.remedy
        assert not hospitals.asked("train")

    def test_a_round_in_the_place_of_another_is_noticed(self, killed, hospitals, run_dir):
        path = run_dir / "noise.jsonl"
        path.write_text(path.read_text().replace(digest(after(run_dir, 2)), "ab" * 32))
        with pytest.raises(NoiseDrawn, match="round 2"):
            run_study(killed, hospitals, run_dir)

    def test_an_account_that_cannot_be_read_stops_the_run(self, killed, hospitals, run_dir):
        (run_dir / "noise.jsonl").write_text("no account\n")
        with pytest.raises(JournalDamaged, match="account of noise"):
            run_study(killed, hospitals, run_dir)
        assert not hospitals.asked("train")

    def test_a_study_of_another_mode_keeps_no_such_account(self, study, hospitals, run_dir):
        results = run_study(study, hospitals, run_dir)
        assert not (run_dir / "noise.jsonl").exists()
        assert results.client_level is None and all(r.client_epsilon is None for r in results.rounds)
