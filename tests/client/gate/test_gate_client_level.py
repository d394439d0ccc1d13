"""A client-level study at the gate: the bound holds for what leaves, whatever code trained, and it is no DP-SGD."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedloupe.messages import decode, encode
from fedloupe_client.gate import NotInStudy, PrivacyRequired, UpdateTooLong, approve
from fedloupe_client.site.training import Bench
from fedloupe_client.training.local import Trained

CLIP = 0.5


@pytest.fixture
def make_client_study(make_study, home):
    def make(**changes):
        content = {
            "training": {"rounds": 4, "preparation": "public", "start": "random", "weighting": "equal"},
            "privacy": {"mode": "client-dp", "epsilon": 8.0, "clip": CLIP},
            "evaluation": {},
        }
        study = make_study(**{**content, **changes})
        approve(home, study, by="officer")
        return study

    return make


@pytest.fixture
def client_study(make_client_study):
    return make_client_study()


class TestBound:
    def test_an_update_within_it_leaves(self, gate, ask, trained, client_study):
        request = ask("train", client_study)
        reply = trained(request, weights=np.array([0.3, -0.39, 0, 0, 0], np.float32), loss=None)
        assert np.array_equal(decode(gate.release(reply, request)).weights, reply.weights)

    @pytest.mark.parametrize("length", [0.5001, 1.0, 1e30])
    def test_code_that_does_not_clip_is_refused(self, gate, ask, trained, client_study, home, length):
        request = ask("train", client_study, weights=np.full(5, 0.25, np.float32))
        reply = trained(request, weights=request.weights + np.float32([length, 0, 0, 0, 0]), loss=None)
        with pytest.raises(UpdateTooLong) as caught:
            gate.release(reply, request)
        assert caught.value.code == "FL-524" and caught.value.where and caught.value.remedy
        line = json.loads((home / "gate" / "audit.jsonl").read_text().splitlines()[-1])
        assert (line["kind"], line["outcome"]) == ("held-back", "FL-524")

    def test_one_unit_in_the_last_place_beyond_it_is_too_long(self, gate, ask, trained, client_study):
        request = ask("train", client_study)
        at = np.array([CLIP, 0, 0, 0, 0], np.float32)
        assert gate.release(trained(request, weights=at, loss=None), request)
        with pytest.raises(UpdateTooLong):
            gate.release(trained(request, weights=np.nextafter(at, np.float32(2) * at + 1), loss=None), request)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_weights_that_are_no_numbers_do_not_leave(self, gate, ask, trained, client_study, value):
        request = ask("train", client_study)
        with pytest.raises(UpdateTooLong):
            gate.release(trained(request, weights=np.full(5, value, np.float32), loss=None), request)

    def test_the_measure_is_from_the_weights_of_the_request_and_not_from_zero(self, gate, ask, trained, client_study):
        request = ask("train", client_study, weights=np.full(5, 100, np.float32))
        assert gate.release(trained(request, weights=request.weights + np.float32(0.1), loss=None), request)

    def test_a_term_of_a_sum_is_measured_like_an_answer(self, gate, ask, trained, make_client_study, home):
        """Before it is masked: afterwards nobody can."""
        names = ("north", "south", "east")
        study = make_client_study(aggregation="secure", sites=[{"name": name, "role": "train"} for name in names])
        request = ask("train", study)
        reply = trained(request, weights=np.array([0.3, -0.39, 0, 0, 0], np.float32))
        kept = decode(gate.release(reply, request, summed=True))
        assert np.array_equal(kept.weights, reply.weights) and kept.loss is None
        with pytest.raises(UpdateTooLong):
            gate.release(trained(request, weights=np.float32([CLIP, 0.01, 0, 0, 0])), request, summed=True)
        last = json.loads((home / "gate" / "audit.jsonl").read_text().splitlines()[-1])
        assert (last["kind"], last["outcome"]) == ("held-back", "FL-524")

    def test_a_study_without_it_has_no_bound(self, gate, ask, trained):
        request = ask("train")
        assert gate.release(trained(request, weights=np.full(5, 1e6, np.float32)), request)


class TestNothingElse:
    def test_neither_loss_nor_an_epsilon_of_the_site_leaves(self, gate, ask, trained, client_study):
        request = ask("train", client_study)
        reply = decode(gate.release(trained(request, weights=request.weights, loss=0.6, epsilon=1.0), request))
        assert (reply.loss, reply.epsilon) == (None, None)

    def test_nothing_is_written_into_the_record_level_ledger(self, gate, ask, trained, client_study):
        request = ask("train", client_study)
        gate.release(trained(request, weights=request.weights), request)
        assert gate.ledger.entries() == ()

    @pytest.mark.parametrize("local_models", ["home", "everywhere"])
    @pytest.mark.parametrize(
        ("kind", "changes"),
        [
            ("newton", {}),
            ("train", {"scope": "local", "round": 0}),
            ("evaluate", {"label": "local-north", "alone": True}),
            ("describe", {}),
        ],
    )
    def test_what_would_go_round_the_account_is_refused(
        self, gate, ask, make_client_study, local_models, kind, changes
    ):
        study = make_client_study(evaluation={"local_models": local_models})
        with pytest.raises(NotInStudy):
            gate.admit(encode(ask(kind, study, **changes)))


class TestPolicy:
    def test_a_policy_that_requires_dp_means_record_level(self, gate, ask, client_study, private_study, set_policy):
        gate.admit(encode(ask("hello", client_study)))
        set_policy(require_dp=True)
        gate.admit(encode(ask("hello", private_study)))
        with pytest.raises(PrivacyRequired, match=r"record-level \(one patient\).*client-level \(one hospital"):
            gate.admit(encode(ask("hello", client_study)))


class TestBench:
    """The site's own clipping, before the gate looks."""

    @pytest.fixture
    def train(self, client_study, make_study, ask, tmp_path, monkeypatch):
        def run(update, study=client_study):
            request = ask("train", study, weights=np.full(5, 3.0, np.float32))
            trained = Trained(request.weights + np.float32(update), 0.4)
            monkeypatch.setattr(Bench, "_round", lambda *_: trained)
            header = {name: getattr(request, name) for name in ("version", "fingerprint", "run", "site")}
            cohort = type("Cohort", (), {"rows": staticmethod(lambda _: range(40))})
            return request, Bench(tmp_path).train(header, request, study, cohort, object())

        return run

    def test_what_it_trained_passes_the_gate(self, train, gate):
        request, reply = train([7.0, -1.0, 0.3, 0, 0])
        assert gate.release(reply, request)
        norm = float(np.linalg.norm(reply.weights.astype(float) - request.weights))
        assert 0.999 * CLIP < norm <= CLIP
        assert reply.loss is None

    def test_weights_that_are_no_numbers_are_left_to_the_gate(self, train, gate):
        request, reply = train([np.nan, 0, 0, 0, 0])
        with pytest.raises(UpdateTooLong):
            gate.release(reply, request)

    def test_another_study_is_not_clipped(self, train, study):
        _, reply = train([7.0, 0, 0, 0, 0], study)
        assert reply.weights[0] == 10.0 and reply.loss == 0.4
