"""Lock, then test, with real sites and their gates: an honest run passes, and each way round the seal is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedloupe
from fedloupe.freezing import Seal
from fedloupe.messages import DescribeReply, DescribeRequest, decode, encode
from fedloupe.study import Study
from fedloupe_client.config import load_site
from fedloupe_client.gate import approve, verify
from fedloupe_client.ingest import ingest
from fedloupe_client.site.site import Site
from fedloupe_server.federation.conversation import SiteRefused
from fedloupe_server.federation.freezing import NotExternal, SealBroken, read_seal
from fedloupe_server.federation.journal import read_tensors, write_tensors
from fedloupe_server.federation.run import freeze_study, run_study
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.sites import make_homes
from sealing import hearing

pytestmark = pytest.mark.filterwarnings("ignore")
QUORUM = {"minimum": 2, "attempts": 1, "retry_after_s": 0}


class Federation:
    """Real sites behind their gates; `meddle` may change what the coordinator asks of the one that validates."""

    def __init__(self, study: Study, homes: dict[str, Path], run_dir: Path) -> None:
        self.study, self.homes, self.run_dir = study, homes, run_dir
        self.meddle: Callable[[Any], Any] = lambda request: request
        for home in homes.values():
            if not (home / "store").exists():
                ingest(load_site(home), study, home)
            approve(home, study, by="test")
        self.answered: list[str] = []

    def handlers(self) -> dict[str, Callable[[bytes], bytes]]:
        def at(site: str) -> Callable[[bytes], bytes]:
            answer = hearing(Site(self.homes[site]), self.run_dir)

            def handle(blob: bytes) -> bytes:
                reply = answer(encode(self.meddle(decode(blob))) if site == "omega" else blob)
                self.answered += [decode(reply).kind] if site == "omega" else []
                return reply

            return handle

        return {site: at(site) for site in self.homes}

    def run(self) -> Any:
        return run_study(self.study, inprocess_exchange(self.handlers()), self.run_dir)

    def freeze(self) -> Seal:
        return freeze_study(self.study, inprocess_exchange(self.handlers()), self.run_dir)


@pytest.fixture
def federation(tables, make_study, tmp_path) -> Federation:
    study = make_study(quorum=QUORUM, evaluation={"local_models": "everywhere"}, prediction={}, split={"tune": 0.3})
    homes = make_homes(study, tables / "sites.yaml", tables, tmp_path / "homes")
    return Federation(study, homes, tmp_path / "run")


class TestAnHonestRun:
    def test_passes_and_the_site_keeps_the_seal(self, federation):
        results = federation.run()
        assert {s.site for s in results.sites} == {"alpha", "beta", "omega"}
        kept = federation.homes["omega"] / "gate" / "sealed" / "run.json"
        assert Seal.parse(kept.read_bytes()) == read_seal(federation.run_dir)
        assert not (federation.homes["alpha"] / "gate" / "sealed").exists()
        assert "failure" not in federation.answered and "release-reply" in federation.answered
        assert verify(federation.homes["omega"]) == []
        assert federation.run() == results, "also when it is started again"


class TestWhoTookPart:
    def test_one_statistic_given_to_the_run_is_enough_to_be_refused(self, federation, make_study):
        """In another study, in which the hospital trained, under the run's name."""
        roles = [{"name": name, "role": "train"} for name in federation.homes]
        before = make_study(quorum=QUORUM, sites=roles)
        approve(federation.homes["omega"], before, by="test")
        header = {"version": fedloupe.__version__, "fingerprint": before.fingerprint, "run": "run", "site": "omega"}
        site = Site(federation.homes["omega"])
        assert isinstance(decode(site.answer(encode(DescribeRequest(**header)))), DescribeReply)
        with pytest.raises(NotExternal, match="omega"):
            federation.run()
        assert federation.answered == ["failure"]
        assert not (federation.run_dir / "results.json").exists()


def other_threshold(request: Any) -> Any:
    return request.model_copy(update={"threshold": request.threshold + 1e-9})


def other_weights(request: Any) -> Any:
    weights = np.array(request.weights)
    weights[0] = np.nextafter(weights[0], np.inf, dtype=weights.dtype)
    return request.model_copy(update={"weights": weights})


class TestChangedAfterTheSeal:
    @pytest.mark.parametrize("kind", ["evaluate", "release"])
    @pytest.mark.parametrize("change", [other_threshold, other_weights])
    def test_a_site_refuses_it_whoever_changed_it(self, federation, kind, change):
        federation.meddle = lambda request: change(request) if request.kind == kind else request
        with pytest.raises(SiteRefused, match="omega: FL-546"):
            federation.run()
        assert f"{kind}-reply" not in federation.answered
        assert not (federation.homes["omega"] / "models").exists()

    def test_the_coordinator_refuses_to_go_on_with_another_threshold(self, federation):
        federation.freeze()
        path = federation.run_dir / "threshold.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "threshold": content["threshold"] + 1e-9}))
        with pytest.raises(SealBroken, match="threshold"):
            federation.run()
        assert federation.answered == []

    def test_the_coordinator_refuses_to_go_on_with_other_weights(self, federation):
        federation.freeze()
        path = federation.run_dir / "local" / "alpha.safetensors"
        tensors, _ = read_tensors(path)
        write_tensors(path, {"weights": tensors["weights"] + np.float32(1e-6)})
        with pytest.raises(SealBroken, match=r"models\.local-alpha"):
            federation.run()
        assert federation.answered == []
