"""What secure sums add to a round: 320,000 parameters, 10 sites, the sites' part and the coordinator's on one core.

    python benchmarks/secure_sums.py

Answers are invented, everything else is the product's: `SecureSums` of each site's gate with its files on disk, encoded
messages, `Sums` of the coordinator. Against the same round with `aggregation: plain`. All ten sites work one after the
other here; at ten hospitals they work at once.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedloupe.masking import sum_digest
from fedloupe.messages import (
    KeysRequest,
    Message,
    SharesRequest,
    SumRequest,
    TrainReply,
    TrainRequest,
    UnmaskRequest,
    decode,
    encode,
)
from fedloupe.study import Study, parse_study
from fedloupe_client.gate.sums import SecureSums
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.exchange import Arrival, Outbox
from fedloupe_server.simulation.enrolling import enrol_here

SITES = tuple(f"site-{i:02d}" for i in range(10))
PARAMETERS, ROUNDS = 320_000, 5


def study_of(aggregation: str) -> Study:
    return parse_study(
        {
            "study": "secure-sums",
            "title": "Cost of secure sums",
            "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
            "sites": [{"name": site, "role": "train"} for site in SITES],
            "radiomics": {"source": "table"},
            "aggregation": aggregation,
        }
    )


class Sites:
    """Ten sites that answer rounds with weights made before; seconds spent by the slowest and by all of them."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study = study
        self.sums = {}
        homes = {site: folder / site for site in SITES}
        enrol_here(homes, folder)
        for site in SITES:
            self.sums[site] = SecureSums(folder / site, site)
        rng = np.random.default_rng(1)
        self.weights = {site: rng.standard_normal(PARAMETERS).astype(np.float32) for site in SITES}
        self.spent = dict.fromkeys(SITES, 0.0)
        self.bytes = 0

    def __call__(self, outbox: Outbox, timeout_s: float) -> Iterator[Arrival | None]:
        for site, blob in outbox:
            began = time.perf_counter()
            answer = encode(self._answer(decode(blob)))  # type: ignore[arg-type]
            self.spent[site] += time.perf_counter() - began
            self.bytes += len(blob) + len(answer)
            yield Arrival(site, answer)

    def _answer(self, request: Message) -> Message:
        sums = self.sums[request.site]
        match request:
            case KeysRequest():
                return sums.keys(request)
            case SharesRequest():
                return sums.shares(request, self.study)
            case UnmaskRequest():
                return sums.unmask(request)
            case SumRequest():
                inner: Any = decode(request.inner.tobytes())
                return sums.mask(request, sum_digest(inner), self._trained(inner), self.study)
            case TrainRequest():
                return self._trained(request)
        raise AssertionError(request.kind)

    def _trained(self, request: TrainRequest) -> TrainReply:
        header = {name: getattr(request, name) for name in Message.model_fields}
        weights = self.weights[request.site]
        return TrainReply(**header, round=request.round, weights=weights, patients=120, loss=0.5, epsilon=None)


def measure(aggregation: str) -> tuple[list[float], list[float], float]:
    """Seconds of each round, of them the slowest site's, and megabytes a site and round."""
    study, whole, slowest = study_of(aggregation), [], []
    start = np.zeros(PARAMETERS, dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        sites = Sites(study, Path(folder))
        talk = Conversation(study, sites, "cost")
        for number in range(1, ROUNDS + 1):
            sites.spent = dict.fromkeys(SITES, 0.0)
            began = time.perf_counter()

            def ask(header: dict[str, Any], number: int = number) -> TrainRequest:
                return TrainRequest(**header, round=number, scope="federated", weights=start)

            found = talk.sums.quorum(SITES, ask, TrainReply)
            whole.append(time.perf_counter() - began)
            slowest.append(max(sites.spent.values()))
            exact = np.mean([w.astype(np.float64) for w in sites.weights.values()], axis=0)
            off = np.abs(found.reply.weights - exact).max() / np.abs(exact).max()
            assert off < 1e-6, off
        return whole, slowest, sites.bytes / ROUNDS / len(SITES) / 2**20


def main() -> None:
    plain, plain_site, plain_bytes = measure("plain")
    secure, secure_site, secure_bytes = measure("secure")
    print(f"{len(SITES)} sites, {PARAMETERS:,} parameters; seconds of a round beside training, all sites on one core")
    print(f"plain   first {plain[0]:.2f}, then {np.median(plain[1:]):.2f}; a site {np.median(plain_site[1:]):.3f}")
    print(f"secure  first {secure[0]:.2f}, then {np.median(secure[1:]):.2f}; a site {np.median(secure_site[1:]):.3f}")
    print(f"added   first {secure[0] - plain[0]:.2f}, then {np.median(secure[1:]) - np.median(plain[1:]):.2f}")
    print(f"MiB a site and round: {plain_bytes:.1f} plain, {secure_bytes:.1f} secure")


if __name__ == "__main__":
    main()
