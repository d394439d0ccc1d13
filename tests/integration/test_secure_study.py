"""Whole studies with secure sums, through real sites, their gates and Flower's in-process Grid, every byte kept."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tests.integration.conftest import write_tables

from fedloupe.masking import SUMMED, term_of
from fedloupe.messages import SumRequest, decode
from fedloupe.models import Preparation
from fedloupe.study import Study
from fedloupe_client.config import load_site
from fedloupe_client.gate import approve
from fedloupe_client.ingest import ingest
from fedloupe_client.site.site import Site
from fedloupe_server.federation import run_study
from fedloupe_server.federation.journal import read_tensors, write_atomic
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.enrolling import enrol_here
from fedloupe_server.simulation.sites import make_homes
from sealing import hearing

PATIENTS = {"alpha": 60, "beta": 48, "gamma": 52, "delta": 40, "omega": 44}
EVERYTHING: dict[str, Any] = {
    "training": {"rounds": 2, "local_epochs": 1, "batch_size": 16, "random_intercept": 1.5},
    "evaluation": {"describe": True},
    "harmonisation": {},
    "prediction": {"prior": {}},
    "split": {"test": 0.25, "tune": 0.25},
}
SECRET = {str(kind.model_fields["kind"].default) for kind in SUMMED}


class Federation:
    """Real sites, and everything that came back from them."""

    def __init__(self, study: Study, folder: Path, tables: Path) -> None:
        self.study, self.folder = study, folder
        self.homes = make_homes(study, tables / "sites.yaml", tables, folder / "homes")
        for home in self.homes.values():
            if not (home / "store").exists():
                ingest(load_site(home), study, home)
            approve(home, study, by="test")
        enrol_here(self.homes, folder)
        self.sites = {site: Site(home) for site, home in self.homes.items()}
        self.received: dict[str, list[bytes]] = defaultdict(list)
        self.lose: Any = lambda site, request: False

    def run(self, name: str = "run") -> Any:
        def handler(site: str) -> Any:
            def handle(blob: bytes) -> bytes:
                if self.lose(site, decode(blob)):
                    raise ConnectionError("the site is away")
                answer = hearing(self.sites[site], self.folder / name)(blob)
                self.received[site].append(answer)
                return answer

            return handle

        return run_study(self.study, inprocess_exchange({s: handler(s) for s in self.sites}), self.folder / name)

    def weights(self, name: str = "run") -> np.ndarray:
        rounds = sorted((self.folder / name / "rounds").glob("*.safetensors"))
        return read_tensors(rounds[-1])[0]["weights"]


@pytest.fixture(scope="module")
def four(tmp_path_factory) -> Path:
    return write_tables(tmp_path_factory.mktemp("four"), PATIENTS)


@pytest.fixture(scope="module")
def make(four, make_study, tmp_path_factory) -> Any:
    def federation(**changes: Any) -> Federation:
        roles = [{"name": s, "role": "validate" if s == "omega" else "train"} for s in PATIENTS]
        quorum = {"minimum": 3, "timeout_s": 60, "retry_after_s": 0, "attempts": 1}
        study = make_study(**{"sites": roles, "aggregation": "secure", "quorum": quorum, **EVERYTHING, **changes})
        return Federation(study, tmp_path_factory.mktemp("federation"), four)

    return federation


@pytest.fixture(scope="module")
def secure(make) -> tuple[Federation, Any]:
    federation = make()
    return federation, federation.run()


class TestTheSame:
    def test_every_number_is_that_of_plain_sums(self, make, secure):
        federation, results = secure
        plain = make(aggregation="plain")
        expected = plain.run()
        assert federation.weights().tobytes() == plain.weights().tobytes()
        own = {"fingerprint", "rounds", "aggregation", "sealed"}  # the seal names the fingerprint
        assert results.model_dump(exclude=own) == expected.model_dump(exclude=own)
        assert results.sealed.contributed == expected.sealed.contributed
        assert [r.loss for r in results.rounds] == [r.loss for r in expected.rounds]
        described = [(f.folder / "run" / "statistics.csv").read_bytes() for f in (federation, plain)]
        assert described[0] == described[1]


class TestSecrecy:
    def test_no_answer_that_is_summed_reached_the_coordinator(self, secure):
        federation, _ = secure
        kinds = {decode(blob).kind for blobs in federation.received.values() for blob in blobs}
        assert not kinds & SECRET
        assert {"sum-reply", "unmask-reply", "evaluate-reply"} <= kinds

    def test_what_a_site_worked_out_is_in_nothing_that_it_sent(self, secure):
        """Its stored answers lie at the site: neither their arrays nor the integers that are masked crossed the wire.

        Small integers and round fractions, which other messages hold too, are left out.
        """
        federation, _ = secure
        for site in ("alpha", "delta"):
            sent = b"".join(federation.received[site])
            kept = [decode(p.read_bytes()) for p in (federation.homes[site] / "gate" / "answers" / "run").iterdir()]
            secret = [reply for reply in kept if reply.kind in SECRET]
            assert {"train-reply", "newton-reply", "sketch-reply", "calibrate-reply"} <= {r.kind for r in secret}
            for reply in secret:
                term, _ = term_of(reply, equal=False)
                bare = b"".join(array.tobytes() for array in (term.wide, term.narrow))
                words = np.concatenate([term.wide.ravel(), term.narrow])
                needles = [word.tobytes() for word in words if len(set(word.tobytes())) > 5][:400]
                if reply.kind == "train-reply":
                    bare += reply.weights.tobytes()
                    needles += [reply.weights[i : i + 4].tobytes() for i in range(0, 400, 4)]
                if reply.kind in ("train-reply", "newton-reply", "sketch-reply", "calibrate-reply", "describe-reply"):
                    assert needles, reply.kind
                assert all(needle in bare for needle in needles)
                assert not [needle for needle in needles if needle in sent], reply.kind

    def test_the_sites_own_model_stays_at_home(self, secure):
        federation, results = secure
        assert all(s.local is not None for s in results.sites if s.role == "train")
        own = read_tensors(federation.homes["beta"] / "runs" / "run" / "alone.safetensors")[0]["weights"]
        assert own.tobytes() not in b"".join(federation.received["beta"])
        assert not (federation.folder / "run" / "local").exists()

    def test_the_audit_says_what_stayed_and_what_left(self, secure):
        federation, _ = secure
        text = (federation.homes["alpha"] / "gate" / "audit.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        stayed = {line["kind"] for line in lines if line["outcome"] == "to be summed"}
        left = {line["kind"]: line["disclosure"] for line in lines if line["direction"] == "out"}
        assert {"train-reply", "newton-reply", "midpoint-reply"} <= stayed <= SECRET
        assert not set(left) & SECRET
        assert left["sum-reply"] == ["masked", "protocol"]


class TestVanishing:
    def test_a_site_that_vanishes_with_its_masks_on_is_left_out_of_the_round(self, make):
        federation = make(
            training={"rounds": 2, "local_epochs": 1, "batch_size": 16, "start": "random"},
            evaluation={"logistic_baseline": False, "local_baseline": False},
            harmonisation=None,
            prediction=None,
        )

        def away(site: str, request: Any) -> bool:
            if not isinstance(request, SumRequest):
                return False
            inner = decode(request.inner.tobytes())
            return site == "delta" and inner.kind == "train" and inner.round == 2

        federation.lose = away
        results = federation.run()
        assert [r.absent for r in results.rounds] == [(), ("delta",)]
        replies = {}
        for site in ("alpha", "beta", "gamma"):
            answers = federation.homes[site] / "gate" / "answers" / "run"
            kept = [decode(p.read_bytes()) for p in answers.iterdir()]
            replies[site] = next(r for r in kept if r.kind == "train-reply" and r.round == 2)
        patients = sum(r.patients for r in replies.values())
        mean = sum(r.patients * r.weights.astype(np.float64) for r in replies.values()) / patients
        np.testing.assert_allclose(federation.weights(), mean, atol=1e-7)


class TestPrivate:
    def test_private_rounds_travel_masked_and_say_what_they_spent(self, make, public_preparation):
        federation = make(
            privacy={"mode": "dp-sgd", "epsilon": 8},
            training={"rounds": 2, "local_epochs": 1, "preparation": "public", "start": "random"},
            evaluation={},
            harmonisation=None,
            prediction=None,
        )
        write_atomic(federation.folder / "run" / "public-preparation.safetensors", _bytes(public_preparation))
        results = federation.run()
        assert [set(r.epsilon) for r in results.rounds] == [{"alpha", "beta", "gamma", "delta"}] * 2
        assert all(0 < e <= 8 for e in results.rounds[-1].epsilon.values())
        assert all(r.loss is None for r in results.rounds)
        arrived = [decode(blob) for blobs in federation.received.values() for blob in blobs]
        terms = [message for message in arrived if message.kind == "sum-reply" and message.of == "train-reply"]
        assert len(terms) == 2 * 4 and all(term.epsilon for term in terms)
        assert "train-reply" not in {message.kind for message in arrived}


def _bytes(preparation: Preparation) -> bytes:
    return preparation.to_bytes()


def test_a_hospital_that_requires_secure_sums_refuses_a_plain_study(make):
    from fedloupe_server.federation.conversation import SiteRefused

    federation = make(aggregation="plain")
    path = federation.homes["gamma"] / "policy.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "require_secure_sums": True}))
    with pytest.raises(SiteRefused, match="gamma: FL-523"):
        federation.run()
