"""Real sites behind sockets that say `working`: the run waits, and what a killed coordinator asked for is not lost."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedloupe_client.site.desk import Desk, Entered
from fedloupe_client.site.server import ask, serve
from fedloupe_client.site.site import Site
from fedloupe_client.site.training import Bench
from fedloupe_server.federation import run_study
from fedloupe_server.federation.exchange import Arrival, Outbox
from fedloupe_server.federation.journal import read_tensors
from fedloupe_server.hub.inprocess import inprocess_exchange
from fedloupe_server.simulation.preparing import prepare_sites
from fedloupe_server.simulation.sites import make_homes
from sealing import hearing


@contextmanager
def behind_sockets(homes: dict[str, Path], run_dir: Path, patience_s: float) -> Iterator[object]:
    """An exchange with sites that answer on sockets, as couriers ask them."""
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        sites = {name: Site(home) for name, home in homes.items()}
        paths = {name: Path(folder) / f"{name}.sock" for name in homes}
        turn = threading.Lock()  # PyTorch's random state is one a process, and hospitals are processes

        def entering(site: Site) -> Callable[[bytes], Entered]:
            def work(blob: bytes) -> bytes:
                with turn:
                    return hearing(site, run_dir)(blob)

            return lambda blob: Entered(blob, lambda: work(blob))

        servers = [
            serve(Desk(entering(site), site.progress, site.tell, site.again, patience_s=patience_s), paths[name])
            for name, site in sites.items()
        ]

        def exchange(outbox: Outbox, timeout_s: float) -> Generator[Arrival | None, None, None]:
            for site, blob in outbox:
                yield Arrival(site, ask(paths[site], blob, timeout_s))

        try:
            yield exchange
        finally:
            for server in servers:
                server.stop(0)


class TestWorking:
    def test_a_coordinator_killed_while_sites_train_gets_what_they_did_and_nothing_is_done_twice(
        self, tables, make_study, tmp_path, monkeypatch
    ):
        training = {"rounds": 2, "local_epochs": 20, "start": "random", "batch_size": 8}
        evaluation = {"logistic_baseline": False, "local_baseline": False}
        study = make_study(training=training, evaluation=evaluation)
        homes = {name: make_homes(study, tables / "sites.yaml", tables, tmp_path / name) for name in ("one", "two")}
        for both in homes.values():
            prepare_sites(study, both, lambda *_: None, workers=1)
        whole = tmp_path / "whole" / "trial"
        run_study(study, inprocess_exchange({n: hearing(Site(h), whole) for n, h in homes["one"].items()}), whole)

        trained: list[tuple[str, int]] = []
        seen = threading.Event()  # that a site trains; until then it goes no further
        ordinary = Bench.train

        def counted(self, header, request, *rest):
            trained.append((header["site"], request.round))

            def pause(done, total):
                self.tell(done, total)
                seen.wait(60)
                seen.set()

            return ordinary(replace(self, tell=pause), header, request, *rest)

        monkeypatch.setattr(Bench, "train", counted)
        told = []

        def tell(event):
            told.append(event)
            if event.stage == "sites" and "%" in event.note:
                seen.set()
            if event.stage == "sites" and not any(e.stage == "killed" for e in told):
                told.append(type(event)("killed", 0, 0))
                raise KeyboardInterrupt

        broken = tmp_path / "broken" / "trial"
        with behind_sockets(homes["two"], broken, patience_s=0.05) as exchange:
            with pytest.raises(KeyboardInterrupt):
                run_study(study, exchange, broken, observer=tell)
            run_study(study, exchange, broken, observer=tell)
        words = [event.note for event in told if event.stage == "sites"]
        assert any("training" in word and "%" in word for word in words), words
        assert sorted(trained) == [("alpha", 1), ("alpha", 2), ("beta", 1), ("beta", 2)]
        for number in ("0001", "0002"):
            one, two = (read_tensors(run / "rounds" / f"{number}.safetensors")[0] for run in (whole, broken))
            assert np.array_equal(one["weights"], two["weights"])
