"""Client-level privacy over secure sums: sites that clip and mask, a coordinator that sees sums and adds the noise."""

from __future__ import annotations

import numpy as np
import pytest
from tests.server.federation.clipped import COLUMNS, Silence, after, clipping, private, public
from tests.server.federation.wire import SITES, SIZES, Wire

from fedloupe.messages import SumReply, SumRequest, TrainReply, TrainRequest, decode
from fedloupe.privacy import SeededNoise
from fedloupe_server.federation import client_level, run_study
from fedloupe_server.federation.client_level import ClientLevel
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.fit import initial_weights

CLIP = 0.3  # the rule of `Hospitals` moves weights further than this


@pytest.fixture
def study(make_study):
    def make(aggregation: str = "secure"):
        changes = {
            "aggregation": aggregation,
            "sites": [{"name": n, "role": "train"} for n in SITES] + [{"name": "coast", "role": "validate"}],
            "quorum": {"minimum": 2, "attempts": 2, "retry_after_s": 0},
            "evaluation": {"local_models": "home"},
        }
        return private(make_study, CLIP, changes)

    return make


@pytest.fixture
def wire(study, new_hospitals, tmp_path):
    """To new homes at each call: a site helps to open a sum over one set of sites only."""

    def make(**instead) -> Wire:
        homes = tmp_path / f"homes-{len(list(tmp_path.iterdir()))}"
        homes.mkdir()
        return Wire(clipping(new_hospitals(SIZES), CLIP, instead), homes, study())

    return make


@pytest.fixture
def seeded(monkeypatch):
    monkeypatch.setattr(client_level, "SecureNoise", lambda: SeededNoise(3))


def expected(study, hospitals, sites) -> np.ndarray:
    """Weights after three rounds of McMahan 2018, alg. 1, in plain arithmetic."""
    weights, source = initial_weights(study, COLUMNS).astype(float), SeededNoise(3)
    std = client_level.noise_multiplier(study.privacy, 3) * CLIP
    for _ in range(3):
        updates = [0.5 * weights + hospitals.shift(site) - weights for site in sites]
        shortened = [update * min(1.0, CLIP / np.linalg.norm(update)) for update in updates]
        weights = weights + (sum(shortened) + source.normal(weights.shape, std)) / len(SITES)
    return weights


def noiseless(wire: Wire, size: int = 300) -> np.ndarray:
    """(m) what one round adds to the weights, times the hospitals, without noise."""
    start = np.linspace(-1, 1, size, dtype=np.float32)
    talk = Conversation(wire.study, wire, "trial")
    summed = talk.sums.quorum(
        SITES, lambda header: TrainRequest(**header, round=1, scope="federated", weights=start), TrainReply
    )
    level = ClientLevel(wire.study.privacy, 3, len(SITES), wire.folder / "unused", Silence())
    return (level.noised(start, summed.reply.weights, len(summed.sites)) - start) * len(SITES)


class TestRun:
    def test_a_study_ends_with_the_noised_weights_of_plain_sums(self, study, wire, new_hospitals, tmp_path, seeded):
        secure, plain = tmp_path / "secure" / "trial", tmp_path / "plain" / "trial"
        public(secure)
        public(plain)
        one = run_study(study(), wire(), secure)
        two = run_study(study("plain"), clipping(new_hospitals(SIZES), CLIP), plain)
        for number in (1, 2, 3):
            np.testing.assert_allclose(after(secure, number), after(plain, number), rtol=0, atol=1e-6)
        found = expected(study(), new_hospitals(SIZES), SITES)
        np.testing.assert_allclose(after(secure, 3), found, rtol=0, atol=1e-6)
        assert one.client_level == two.client_level and one.client_level.hospitals == 5
        assert [r.client_epsilon for r in one.rounds] == [r.client_epsilon for r in two.rounds]
        assert (one.aggregation, two.aggregation) == ("secure", "plain")

    def test_no_hospitals_weights_reach_the_coordinator(self, study, wire, tmp_path):
        public(tmp_path / "trial")
        kept = wire()
        run_study(study(), kept, tmp_path / "trial")
        assert "train-reply" not in kept.kinds()
        sums = [m for m in kept.seen if isinstance(m, SumReply) and m.of == "train-reply"]
        assert len(sums) == 3 * len(SITES)
        assert {tuple(sorted(m.layout)) for m in sums} == {("patients", "weights")}  # and no loss
        assert all(m.epsilon is None for m in sums)

    def test_an_absent_hospital_is_a_zero_and_the_denominator_stays(self, study, wire, new_hospitals, tmp_path, seeded):
        public(tmp_path / "trial")
        without = wire()
        without.lose = lambda r: (
            isinstance(r, SumRequest) and r.site == "york" and decode(r.inner.tobytes()).kind == "train"
        )
        results = run_study(study(), without, tmp_path / "trial")
        found = expected(study(), new_hospitals(SIZES), SITES[:-1])
        np.testing.assert_allclose(after(tmp_path / "trial", 3), found, rtol=0, atol=1e-6)
        assert [r.absent for r in results.rounds] == [("york",)] * 3
        assert results.client_level.hospitals == 5

    def test_a_rounds_sum_is_never_kept_on_disk_beside_its_noised_model(self, study, wire, tmp_path):
        talk = Conversation(study(), wire(), "trial", tmp_path / "run")
        start = np.zeros(300, np.float32)
        make = lambda header: TrainRequest(**header, round=1, scope="federated", weights=start)  # noqa: E731
        assert talk.sums.quorum(SITES, make, TrainReply).sites == SITES
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["contributed.json", "sums.json"]


class TestSensitivity:
    @pytest.mark.parametrize("others", [None, 1e3, 1e6])
    @pytest.mark.parametrize("site", ["east", "york"])
    def test_a_hospital_moves_the_sum_by_the_bound_at_most_whatever_the_others_send(self, wire, site, others):
        """`others`: numbers that the other four put in the place of their updates, each parameter by as much."""
        signs = np.where(np.arange(300) % 2, 1.0, -1.0)
        rest = {} if others is None else {other: others * signs for other in SITES if other != site}
        moved, still = noiseless(wire(**rest)), noiseless(wire(**rest, **{site: 0.0}))
        influence = float(np.linalg.norm(moved - still))
        assert influence <= CLIP + 1e-7
        assert influence == pytest.approx(CLIP, rel=1e-5)

    def test_to_be_silent_and_to_send_a_zero_are_the_same(self, wire):
        silent = wire()
        silent.lose = lambda r: isinstance(r, SumRequest) and r.site == "york"
        np.testing.assert_allclose(noiseless(silent), noiseless(wire(york=0.0)), rtol=0, atol=1e-8)
