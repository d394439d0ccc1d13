"""What a round costs the coordinator: seconds of its own work, and memory that must not grow with the number of sites.

    python benchmarks/aggregation.py

Answers are invented and made one at a time; everything else is the product's: messages, Flower's in-process Grid and
its serialisation, `Sums`, FedAvg, the journal. Seconds are those of the process less those spent in the sites. Peak
memory is that of a process of its own for each number of sites, less what it has before the first round (Linux).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from fedloupe.messages import Message, TrainReply, TrainRequest, decode, encode
from fedloupe.models import digest
from fedloupe.study import Study, parse_study
from fedloupe_server.evidence.results import RoundRecord
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.exchange import Arrival, Outbox
from fedloupe_server.federation.journal import Journal
from fedloupe_server.federation.strategies import FedAvg
from fedloupe_server.hub.inprocess import inprocess_exchange

SITES, PARAMETERS, LARGE, ROUNDS = 8, 320_000, 10_000_000, 5
FEDERATIONS, MEMORY_PARAMETERS = (4, 16, 64), 4_000_000
BAR_S, BAR_GROWTH = 0.2, 1.1


def study_of(names: tuple[str, ...]) -> Study:
    return parse_study(
        {
            "study": "aggregation",
            "title": "Cost of a round at the coordinator",
            "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
            "sites": [{"name": site, "role": "train"} for site in names],
            "radiomics": {"source": "table"},
            "aggregation": "plain",
        }
    )


def names_of(sites: int) -> tuple[str, ...]:
    return tuple(f"site-{i:02d}" for i in range(sites))


def answer(blob: bytes) -> bytes:
    """Weights that differ from site to site, of which none are kept."""
    request: Any = decode(blob)
    header = {name: getattr(request, name) for name in Message.model_fields}
    weights = request.weights + np.float32(0.001 * int(request.site[-2:]))
    return encode(TrainReply(**header, round=request.round, weights=weights, patients=120, loss=0.5, epsilon=None))


class Timed:
    """Sites without a wire, and the seconds spent in them."""

    def __init__(self) -> None:
        self.spent = 0.0

    def __call__(self, outbox: Outbox, timeout_s: float) -> Any:
        for site, blob in outbox:
            began = time.perf_counter()
            found = answer(blob)
            self.spent += time.perf_counter() - began
            yield Arrival(site, found)


def one_round(talk: Conversation, names: tuple[str, ...], journal: Journal, number: int, weights: Any) -> Any:
    def ask(header: dict[str, Any]) -> TrainRequest:
        return TrainRequest(**header, round=number, scope="federated", weights=weights)

    summed = talk.sums.quorum(names, ask, TrainReply)
    weights = FedAvg().aggregate(weights, summed.reply.weights)
    record = RoundRecord(
        round=number, participants=summed.sites, absent=(), loss=0.5, epsilon={}, weights=digest(weights)
    )
    journal.save_round(record, weights, {})
    return weights


def seconds(parameters: int) -> float:
    """Median seconds of the coordinator's own work in a round of `SITES` sites."""
    names, found = names_of(SITES), []
    with tempfile.TemporaryDirectory() as folder:
        sites, journal = Timed(), Journal(Path(folder))
        talk = Conversation(study_of(names), sites, "cost")
        weights = np.zeros(parameters, np.float32)
        for number in range(1, ROUNDS + 1):
            began, sites.spent = time.perf_counter(), 0.0
            weights = one_round(talk, names, journal, number, weights)
            found.append(time.perf_counter() - began - sites.spent)
    return float(np.median(found))


def peak(sites: int) -> None:
    """Print the MiB that two rounds add to this process at their peak."""
    names = names_of(sites)
    with tempfile.TemporaryDirectory() as folder:
        exchange, journal = inprocess_exchange(dict.fromkeys(names, answer)), Journal(Path(folder))
        talk = Conversation(study_of(names), exchange, "cost")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = _mebibytes("VmRSS")
        weights = np.zeros(MEMORY_PARAMETERS, np.float32)
        for number in (1, 2):
            weights = one_round(talk, names, journal, number, weights)
    print(_mebibytes("VmHWM") - before)


def _mebibytes(name: str) -> float:
    """From Linux's account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    if len(sys.argv) > 1:
        peak(int(sys.argv[1]))
        return
    for parameters in (PARAMETERS, LARGE):
        bar = f" (bar {BAR_S:g})" if parameters == PARAMETERS else ""
        print(f"{SITES} sites, {parameters:,} parameters: {seconds(parameters):.3f} s a round{bar}", flush=True)
    peaks = {}
    for sites in FEDERATIONS:
        done = subprocess.run(
            [sys.executable, __file__, str(sites)], capture_output=True, text=True, check=True, timeout=600
        )
        peaks[sites] = float(done.stdout)
        print(f"{sites} sites, {MEMORY_PARAMETERS:,} parameters: peak {peaks[sites]:.0f} MiB", flush=True)
    few, many = FEDERATIONS[0], FEDERATIONS[-1]
    print(f"memory of {many} sites over that of {few}: {peaks[many] / peaks[few]:.2f} (bar {BAR_GROWTH:g})")


if __name__ == "__main__":
    main()
