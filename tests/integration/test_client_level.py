"""A whole run under client-level privacy: real sites with their gates, secure sums, to the report's words."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import chi2

from fedloupe.messages import Message, SumReply, TrainReply, decode
from fedloupe.models import Preparation
from fedloupe.privacy import update_norm
from fedloupe.study import CLIENT, parse_study
from fedloupe_client.gate import Ledger, approve
from fedloupe_client.site.site import Site
from fedloupe_server.evidence import Results
from fedloupe_server.federation import run_study
from fedloupe_server.federation.conversation import QuorumNotMet
from fedloupe_server.federation.exchange import Arrival
from fedloupe_server.federation.journal import read_tensors
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation import local
from fedloupe_server.simulation.enrolling import enrol_here
from fedloupe_server.simulation.sites import make_homes

FEATURES, CLIP = 12, 0.002
SITES = tuple(f"site{i}" for i in range(6))
TRAIN = SITES[:-1]
CONTENT = {
    "study": "client-level-tables",
    "title": "Synthetic tables of many hospitals",
    "synthetic": True,
    "endpoint": {"name": "response", "column": "response", "positive": ["1"], "negative": ["0"]},
    "sites": [{"name": s, "role": "train" if s in TRAIN else "validate"} for s in SITES],
    "radiomics": {"source": "table"},
    "model": {"components": 6, "image": False, "width": 8, "depth": 1, "heads": 2},
    "training": {"rounds": 3, "local_epochs": 2, "preparation": "public", "start": "random"}
    | {"weighting": "equal", "batch_size": 16},
    "privacy": {"mode": "client-dp", "epsilon": 8, "clip": CLIP},
    "quorum": {"minimum": 3, "timeout_s": 120, "retry_after_s": 1},
    "seed": 3,
}


@pytest.fixture(scope="module")
def study():
    """As a coordinator writes it who says nothing of `aggregation`."""
    return parse_study(CONTENT)


@pytest.fixture(scope="module")
def homes(study, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("client-level")
    rng = np.random.default_rng(5)
    truth = rng.standard_normal(FEATURES)
    sites = {}
    for site in SITES:
        values = rng.standard_normal((40, FEATURES))
        event = rng.random(40) < 1 / (1 + np.exp(-values @ truth))
        with (folder / f"{site}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["case", "response", *(f"f{i:02d}" for i in range(FEATURES))])
            table.writerows(
                [f"{site}-{i:03d}", int(event[i]), *(f"{v:.6f}" for v in values[i])] for i in range(len(values))
            )
        source = {"format": "table", "root": ".", "features": f"{site}.csv", "exclude": ["response"]}
        sites[site] = {"source": source | {"clinical": {"file": f"{site}.csv", "case": "case"}}}
    policy = {"minimum_cohort": 10, "minimum_cell": 2}
    (folder / "sites.yaml").write_text(yaml.safe_dump({"sites": sites, "policy": policy}))
    return make_homes(study, folder / "sites.yaml", folder, folder / "sites")


def put_public(run_dir: Path) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    projection = np.eye(FEATURES, 6, dtype=np.float32)
    blob = Preparation(np.zeros(FEATURES), np.ones(FEATURES), projection, "public").to_bytes()
    (run_dir / "public-preparation.safetensors").write_bytes(blob)


@dataclass(frozen=True)
class Run:
    """A finished run, and all that reached its coordinator."""

    results: Results
    folder: Path
    received: tuple[bytes, ...]

    def messages(self) -> list[Message]:
        return [decode(blob) for blob in self.received]

    def weights(self, number: int) -> np.ndarray:
        return read_tensors(self.folder / "rounds" / f"{number:04d}.safetensors")[0]["weights"]


@pytest.fixture(scope="module")
def outcome(study, homes, tmp_path_factory) -> Run:
    run_dir = tmp_path_factory.mktemp("run") / "trial"
    put_public(run_dir)
    received: list[bytes] = []

    def listening(*args, **options):
        exchange = inprocess_exchange(*args, **options)

        def ask(outbox, timeout_s):
            for arrival in exchange(outbox, timeout_s):
                if arrival and arrival.blob:
                    received.append(arrival.blob)
                yield arrival

        return ask

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "inprocess_exchange", listening)
        found = local.run_here(study, homes, run_dir, tell=lambda *_: None, workers=1)
    return Run(found.results, run_dir, tuple(received))


def kept(home: Path) -> list[TrainReply]:
    """What a site worked out in the rounds and its gate released: with secure sums the terms before their masks."""
    replies = [decode(path.read_bytes()) for path in (home / "gate" / "answers" / "trial").iterdir()]
    return sorted((r for r in replies if isinstance(r, TrainReply)), key=lambda r: r.round)


class TestRun:
    def test_the_report_says_what_is_protected_and_from_whom(self, outcome):
        results = outcome.results
        page = " ".join((outcome.folder / "pack" / "report.html").read_text().replace("&#39;", "'").split())
        assert CLIENT in page
        assert "It does not protect against the coordinator, who saw the sum of clipped updates without noise" in page
        assert "the unit protected is the patient" not in page and "largest spent by a site" not in page
        assert "5 hospitals are too few for client-level privacy" in page
        assert results.client_level.hospitals == 5
        assert results.client_level.epsilon <= 8

    def test_only_bounded_updates_were_added_up(self, outcome, homes):
        """The answers that each site keeps are the terms that it masked."""
        seen = 0
        for site in TRAIN:
            for reply in kept(homes[site])[1:]:
                assert 0.9 * CLIP < update_norm(reply.weights, outcome.weights(reply.round - 1)) <= CLIP
                assert reply.loss is None and reply.epsilon is None
                seen += 1
        assert seen == 10  # five sites, rounds two and three

    def test_a_rounds_step_is_the_sum_of_clipped_updates_and_noise_over_the_hospitals(self, outcome, homes):
        """What is left of the step without the updates has the length of the planned noise, and is no update's."""
        std = outcome.results.client_level.noise_multiplier * CLIP
        for number in (2, 3):
            start = outcome.weights(number - 1).astype(float)
            updates = [kept(homes[site])[number - 1].weights - start for site in TRAIN]
            noise = (outcome.weights(number) - start) * len(TRAIN) - sum(updates)
            low, high = chi2.ppf([1e-6, 1 - 1e-6], len(noise))
            assert low < float(np.sum((noise / std) ** 2)) < high
            for update in updates:
                assert abs(float(update @ noise)) < 5 * std * CLIP

    def test_no_site_spent_of_its_own_ledger(self, outcome, homes):
        assert all(site.epsilon is None for site in outcome.results.sites)
        assert all(Ledger(home).entries() == () for home in homes.values())

    def test_the_sites_were_asked_for_nothing_exact(self, outcome, homes):
        """Terms that stay and masked ones that leave: of rounds and of the threshold, and of nothing else."""
        for site in TRAIN:
            lines = [json.loads(line) for line in (homes[site] / "gate" / "audit.jsonl").read_text().splitlines()]
            left = {line["kind"] for line in lines if line["direction"] == "out"}
            masked = {"keys-reply", "shares-reply", "sum-reply", "unmask-reply"}
            assert left == {"hello-reply", "prepare-reply", "evaluate-reply"} | masked
            stayed = {line["kind"] for line in lines if line["outcome"] == "to be summed"}
            assert stayed == {"train-reply", "midpoint-reply"}


class TestSecrecy:
    """The default: a coordinator with a copy of everything that reached it."""

    def test_no_answer_to_a_round_reaches_the_coordinator(self, outcome):
        assert outcome.results.aggregation == "secure"
        assert [r.participants for r in outcome.results.rounds] == [TRAIN] * 3
        came = outcome.messages()
        assert not [m for m in came if isinstance(m, TrainReply)]
        terms = [m for m in came if isinstance(m, SumReply) and m.of == "train-reply"]
        assert sorted(m.site for m in terms) == sorted(3 * TRAIN)
        assert all(set(m.layout) == {"patients", "weights"} and m.epsilon is None for m in terms)

    def test_no_weight_that_a_site_trained_is_in_what_reached_the_coordinator(self, outcome, homes):
        """Neither as it is, by fours, nor as the integer that is masked; round numbers others may have too."""
        everything = b"".join(outcome.received)
        for site in TRAIN:
            for reply in kept(homes[site]):
                weights = reply.weights
                integers = np.rint(weights.astype(float) * 2.0**32).astype(np.int64)
                told = [value.tobytes() for value in integers[integers % 2**24 != 0]]
                told += [weights[i : i + 4].tobytes() for i in range(0, len(weights) - 4, 4) if weights[i] % 1]
                assert len(told) > 500
                assert not [blob for blob in told if blob in everything]


class TestBrokenSite:
    @pytest.mark.parametrize("aggregation", ["secure", "plain"])
    def test_code_that_forgets_to_clip_is_held_back_by_its_own_gate(
        self, homes, outcome, tmp_path, monkeypatch, aggregation
    ):
        monkeypatch.setattr("fedloupe_client.site.training.clipped_weights", lambda trained, start, bound: trained)
        broken, study = tmp_path / f"broken-{aggregation}", parse_study({**CONTENT, "aggregation": aggregation})
        put_public(broken)
        for site in TRAIN:
            approve(homes[site], study, by="test")
        enrol_here(homes, tmp_path / "homes")
        sites, kinds = {site: Site(homes[site]) for site in TRAIN}, set()

        def exchange(outbox, timeout_s):
            for site, blob in outbox:
                answer = sites[site].answer(blob)
                kinds.add(decode(answer).kind)
                yield Arrival(site, answer)

        with pytest.raises(QuorumNotMet, match="FL-524"):
            run_study(study, exchange, broken)
        assert [path.name for path in (broken / "rounds").iterdir()] == ["0001.intent.json"]
        assert not kinds & {"train-reply", "sum-reply"}
