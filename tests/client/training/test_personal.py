"""A site's own model: fine-tuned from the federation's, with normalisation layers that never leave, or alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedloupe.messages import EvaluateRequest, TrainRequest
from fedloupe.models import Preparation, Schema, build_model, norm_positions
from fedloupe_client.site import training
from fedloupe_client.site.personal import NormsMissing, OwnDamaged, RoundPassed
from fedloupe_client.site.training import Bench
from fedloupe_client.training.local import fine_tune, model_for, seed_for, train_alone, train_round

TRAINING = {"rounds": 3, "local_epochs": 2, "batch_size": 8}


class TestFineTuning:
    def test_is_the_same_epochs_by_hand(self, make_study, cohort, preparation, start):
        """A constant rate, the study's decay and batches, on the site's own training patients."""
        study = make_study(personalisation={"epochs": 3, "learning_rate": 0.004}, training={**TRAINING, "rounds": 9})
        model = model_for(study, cohort, start)
        rows = cohort.rows("train")
        inputs, labels = cohort.inputs(preparation, rows), torch.from_numpy(cohort.labels[rows].astype(np.float32))
        model.train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=0.004, weight_decay=study.training.weight_decay)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(study, "north", "personal", 0))
            for _ in range(3):
                for batch in torch.randperm(len(rows)).split(8):
                    optimiser.zero_grad()
                    F.binary_cross_entropy_with_logits(model(*inputs.take(batch).tensors), labels[batch]).backward()
                    optimiser.step()
        expected = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])
        found = fine_tune(study, "north", cohort, preparation, start)
        np.testing.assert_array_equal(found.weights, expected)

    def test_has_no_proximal_term(self, make_study, cohort, preparation, start):
        found = [
            fine_tune(make_study(personalisation={}, training={**TRAINING, **t}), "north", cohort, preparation, start)
            for t in ({}, {"strategy": "fedprox", "proximal_mu": 1e4})
        ]
        assert np.array_equal(found[0].weights, found[1].weights)


@pytest.fixture
def local_norm(make_study):
    return make_study(personalisation={"method": "local-norm"}, training=TRAINING)


@pytest.fixture
def positions(local_norm, cohort):
    found = norm_positions(build_model(local_norm, Schema.of(local_norm, cohort.feature_groups)))
    assert 0 < found.sum() < len(found)
    return found


def header(site: str = "north") -> dict[str, Any]:
    return {"version": "1", "fingerprint": "f" * 64, "run": "r", "site": site}


@pytest.fixture
def train(local_norm, cohort, preparation, tmp_path) -> Callable[..., np.ndarray]:
    """One round at a site that was started anew: nothing but its folder is left of the rounds before."""

    def do(weights, number: int, site: str = "north", study=local_norm) -> np.ndarray:
        (tmp_path / site).mkdir(exist_ok=True)
        request = TrainRequest(**header(site), round=number, scope="federated", weights=weights)
        return Bench(tmp_path / site).train(header(site), request, study, cohort, preparation).weights

    return do


@pytest.fixture
def judged(local_norm, cohort, preparation, tmp_path) -> Callable[..., np.ndarray]:
    """The weights that a site scores when its own model is asked for."""

    def do(weights, study=local_norm, site: str = "north") -> np.ndarray:
        (tmp_path / site).mkdir(exist_ok=True)
        body = {"label": "personal", "architecture": "transformer", "split": "test", "threshold": 0.5}
        request = EvaluateRequest(**header(site), **body, personal=True, weights=weights)
        return Bench(tmp_path / site).personal(header(site), request, study, cohort, preparation)

    return do


class TestOwnNormalisation:
    def test_stays_at_the_site_while_everything_else_is_received(self, make_study, train, start, positions):
        """A round whose rate is nearly nothing shows what it started from."""
        first = train(start, 1)
        rules = {**TRAINING, "learning_rate": 1e-12, "weight_decay": 0}
        still = make_study(personalisation={"method": "local-norm"}, training=rules)
        received = start + 1
        second = train(received, 2, study=still)
        np.testing.assert_allclose(second[positions], first[positions], atol=1e-9)
        np.testing.assert_allclose(second[~positions], received[~positions], atol=1e-9)
        assert np.abs(first[positions] - start[positions]).max() > 1e-4

    def test_differs_between_sites(self, train, start, positions, judged):
        for site in ("north", "south"):
            train(start, 1, site)
        own = [judged(start, site=site) for site in ("north", "south")]
        assert not np.array_equal(own[0][positions], own[1][positions])
        assert np.array_equal(own[0][~positions], own[1][~positions])
        assert np.array_equal(own[0][~positions], start[~positions])

    def test_a_repeated_round_gives_the_same_bytes_and_the_next_one_too(self, train, start):
        first = train(start, 1)
        assert train(start, 1).tobytes() == first.tobytes()
        second = train(first, 2)
        assert train(first, 2).tobytes() == second.tobytes()
        once = train(second, 3)
        assert train(second, 3).tobytes() == once.tobytes()

    def test_a_site_that_missed_a_round_brings_its_own_from_the_last(self, train, start):
        train(start, 1)
        third = train(start + 1, 3)
        assert train(start + 1, 3).tobytes() == third.tobytes()

    def test_the_first_round_is_the_one_without_personalisation(self, make_study, train, cohort, preparation, start):
        plain = train_round(make_study(training=TRAINING), "north", cohort, preparation, start, number=1)
        assert train(start, 1).tobytes() == plain.weights.tobytes()

    def test_an_earlier_round_with_other_weights_is_refused(self, train, start):
        train(start, 1)
        train(start, 2)
        with pytest.raises(RoundPassed):
            train(start + 1, 1)

    def test_is_missing_before_the_first_round(self, judged, start):
        with pytest.raises(NormsMissing):
            judged(start)

    def test_that_is_damaged_is_an_error_and_nothing_is_trained_over_it(self, train, start, tmp_path):
        train(start, 1)
        path = tmp_path / "north" / "norms.safetensors"
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(OwnDamaged):
            train(start, 2)


class TestThePersonalModel:
    def test_is_made_once_for_the_same_weights(self, make_study, judged, start, cohort, preparation, monkeypatch):
        study = make_study(personalisation={"epochs": 2}, training=TRAINING)
        first = judged(start, study)
        assert first.tobytes() == fine_tune(study, "north", cohort, preparation, start).weights.tobytes()
        other = judged(start + 1, study)
        assert not np.array_equal(first, other)
        monkeypatch.setattr(training, "fine_tune", lambda *_, **__: pytest.fail("trained again"))
        assert judged(start + 1, study).tobytes() == other.tobytes()


class TestTheModelOfTheSiteAlone:
    @pytest.fixture
    def study(self, make_study):
        return make_study(personalisation={"epochs": 1}, training=TRAINING)

    @pytest.fixture
    def alone(self, study, cohort, preparation, tmp_path) -> Callable[..., np.ndarray]:
        """As a site makes it that was started anew: nothing but its folder is left."""

        (tmp_path / "north").mkdir()

        def do(weights, prepared=preparation) -> np.ndarray:
            return Bench(tmp_path / "north").alone(header(), weights, study, cohort, prepared)

        return do

    @pytest.fixture
    def expected(self, study, cohort, preparation, start) -> bytes:
        return train_alone(study, "north", cohort, preparation, start).weights.tobytes()

    def test_is_trained_once_and_kept(self, alone, start, expected, tmp_path, monkeypatch):
        assert alone(start).tobytes() == expected
        kept = tmp_path / "north" / "alone.safetensors"
        assert kept.stat().st_mode & 0o077 == 0
        monkeypatch.setattr(training, "train_alone", lambda *_, **__: pytest.fail("trained again"))
        assert alone(start).tobytes() == expected
        kept.unlink()
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            alone(start)

    def test_of_other_weights_or_another_preparation_is_another(self, alone, start, expected, preparation):
        other = Preparation(preparation.mean + 1, preparation.scale, preparation.projection, "federated")
        for changed in ((start + 1, preparation), (start, other)):
            assert alone(start).tobytes() == expected
            assert alone(*changed).tobytes() != expected

    def test_that_leaves_where_the_study_says_so_is_the_same(
        self, study, cohort, preparation, start, expected, tmp_path
    ):
        request = TrainRequest(**header(), round=0, scope="local", weights=start)
        reply = Bench(tmp_path).train(header(), request, study, cohort, preparation)
        assert reply.weights.tobytes() == expected
        assert (reply.round, reply.patients, reply.loss) == (0, 32, None)

    def test_is_not_the_personal_one(self, alone, judged, start, study, expected, tmp_path):
        personal = judged(start, study)
        assert alone(start).tobytes() == expected != personal.tobytes()
        assert judged(start, study).tobytes() == personal.tobytes()
        assert {p.name for p in (tmp_path / "north").iterdir()} == {"alone.safetensors", "personal.safetensors"}

    def test_that_is_damaged_is_an_error(self, alone, start, tmp_path):
        alone(start)
        path = tmp_path / "north" / "alone.safetensors"
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(OwnDamaged):
            alone(start)
