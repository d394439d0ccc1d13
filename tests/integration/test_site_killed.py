"""A real site process, killed with -9 while it trains: under DP-SGD what it spent stays spent, else it goes on."""

from __future__ import annotations

import shutil
import signal
import socket as sockets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedloupe import __version__
from fedloupe.messages import (
    Failure,
    HelloReply,
    HelloRequest,
    PrepareRequest,
    TrainReply,
    TrainRequest,
    Working,
    decode,
    encode,
)
from fedloupe.models import Schema, build_model, flatten
from fedloupe.privacy import epsilon
from fedloupe.sealed import seal
from fedloupe_client.gate import Ledger
from fedloupe_client.site.server import SiteSilent, ask
from fedloupe_client.site.site import Site
from fedloupe_client.training.private import planned_spend
from fedloupe_server.simulation.enrolling import enrol_here
from fedloupe_server.simulation.preparing import prepare_sites
from fedloupe_server.simulation.sites import make_homes

pytestmark = pytest.mark.filterwarnings("ignore")


@contextmanager
def site_process(home: Path, socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "fedloupe_client.cli", "start", str(home), "--socket", str(socket)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not _answers(socket) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


def _answers(path: Path) -> bool:
    """Whether somebody listens: a killed process leaves its socket's file behind."""
    with sockets.socket(sockets.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


class Talk:
    """Sends a private study's requests to one site, signed by a coordinator that it trusts."""

    def __init__(self, study, home: Path, socket: Path) -> None:
        self.study, self.socket, self.key = study, socket, enrol_here({"alpha": home}, socket.parent)
        self.header = {"version": __version__, "fingerprint": study.fingerprint, "run": "kill-drill", "site": "alpha"}
        self.weights = flatten(build_model(study, Schema.of(study, ("table",))))

    def __call__(self, request):
        end = time.monotonic() + 600
        while isinstance(reply := decode(ask(self.socket, self.sealed(request), 120)), Working):
            assert time.monotonic() < end, reply
        return reply

    def sealed(self, request) -> bytes:
        return encode(seal(encode(request), self.key, lifetime_s=120))

    def prepare(self, preparation) -> None:
        arrays = {"mean": preparation.mean, "scale": preparation.scale, "projection": preparation.projection}
        assert self(PrepareRequest(**self.header, **arrays, origin="public")).kind == "prepare-reply"

    def train(self, number: int):
        return self(TrainRequest(**self.header, round=number, scope="federated", weights=self.weights))


class TestASiteKilledWhileItTrains:
    def test_keeps_its_spent_epsilon_and_pays_the_lost_round_again(
        self, tables, private_study, public_preparation, tmp_path
    ):
        study = private_study(local_epochs=100)  # long enough to be killed in
        homes = make_homes(study, tables / "sites.yaml", tables, tmp_path / "homes")
        prepare_sites(study, homes, lambda *_: None)
        home, socket = homes["alpha"], tmp_path / "a.sock"
        talk, spend = Talk(study, home, socket), planned_spend(study, study.privacy)
        with site_process(home, socket):
            talk.prepare(public_preparation)
            first = talk.train(1)
            assert np.array_equal(first.weights, talk.train(1).weights)
            assert first.epsilon == pytest.approx(epsilon([spend], 1e-5))
            assert first.loss is None
        with site_process(home, socket) as process:
            rows = len(Ledger(home).entries())
            assert rows == 1, "the repeated request was answered from disk, not paid twice"
            waiting = subprocess.Popen(
                [sys.executable, "-c", _ASK, str(socket), str(_write(tmp_path, talk))], stderr=subprocess.DEVNULL
            )
            end = time.monotonic() + 600
            while len(Ledger(home).entries()) == rows:
                assert time.monotonic() < end and not waiting.poll()
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            process.wait()
            waiting.wait()
            assert not Ledger(home).entries()[-1].confirmed, "killed too late to show anything"
        with site_process(home, socket):
            again = talk.train(2)
        assert isinstance(again, TrainReply)
        assert len(Ledger(home).entries()) == 3
        assert again.epsilon == pytest.approx(epsilon([spend] * 3, 1e-5))
        assert again.epsilon > epsilon([spend] * 2, 1e-5)

    def test_a_dead_site_is_silent_not_wrong(self, tmp_path):
        with pytest.raises(SiteSilent):
            ask(tmp_path / "nobody.sock", b"x", 2)


class TestASiteKilledInTheMiddleOfARound:
    def test_goes_on_there_and_answers_as_if_it_had_never_stopped(self, tables, make_study, tmp_path):
        training = {"rounds": 2, "local_epochs": 100, "start": "random", "batch_size": 8}
        study = make_study(training=training)
        homes = make_homes(study, tables / "sites.yaml", tables, tmp_path / "homes")
        prepare_sites(study, homes, lambda *_: None)
        home, twin = homes["alpha"], tmp_path / "twin"
        header = {"version": __version__, "fingerprint": study.fingerprint, "run": "kill-drill", "site": "alpha"}
        scaling = {"mean": np.zeros(12), "scale": np.ones(12), "projection": np.eye(12, 6, dtype=np.float32)}
        installed = Site(home).answer(encode(PrepareRequest(**header, **scaling, origin="federated")))
        assert decode(installed).kind == "prepare-reply"
        shutil.copytree(home, twin)
        weights = flatten(build_model(study, Schema.of(study, ("table",))))
        request, answer, log = (tmp_path / name for name in ("request", "answer", "log"))
        request.write_bytes(encode(TrainRequest(**header, round=1, scope="federated", weights=weights)))
        state = home / "runs" / "kill-drill" / "training.safetensors"
        command = [sys.executable, "-c", _WORK, *map(str, (home, request, answer, log))]
        process = subprocess.Popen([*command, "0"])
        while process.poll() is None and not (state.exists() and load_file(state)["counts"][1] >= 2):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not answer.exists(), "killed too late to show anything"
        reached = load_file(state)["counts"].tolist()
        subprocess.run([*command, "20"], check=True)
        assert f"goes on in round 1, epoch {reached[1] + 1}, after {reached[2]} batches" in log.read_text()
        assert not state.exists()
        undisturbed = [sys.executable, "-c", _WORK, *map(str, (twin, request, tmp_path / "other", tmp_path / "log-2"))]
        subprocess.run([*undisturbed, "20"], check=True)
        assert "goes on" not in (tmp_path / "log-2").read_text()
        assert decode(answer.read_bytes()).kind == "train-reply"
        assert answer.read_bytes() == (tmp_path / "other").read_bytes()


class TestABudgetTooSmall:
    def test_is_refused_at_the_first_word_and_nothing_is_spent(self, tables, private_study, tmp_path):
        study = private_study(epsilon=8.0)
        homes = make_homes(study, tables / "sites.yaml", tables, tmp_path / "homes")
        prepare_sites(study, homes, lambda *_: None)
        home, socket = homes["alpha"], tmp_path / "a.sock"
        policy = home / "policy.yaml"
        policy.write_text(policy.read_text().replace("12.0", "4.0"))
        talk = Talk(study, home, socket)
        with site_process(home, socket):
            reply = talk(HelloRequest(**talk.header))
            assert isinstance(reply, Failure) and reply.code.startswith("FL-5")
            assert isinstance(talk.train(1), Failure)
        assert Ledger(home).entries() == ()

    def test_counts_what_earlier_runs_spent(self, tables, private_study, tmp_path):
        study = private_study(epsilon=8.0)
        homes = make_homes(study, tables / "sites.yaml", tables, tmp_path / "homes")
        prepare_sites(study, homes, lambda *_: None)
        home, socket = homes["alpha"], tmp_path / "a.sock"
        talk, spend = Talk(study, home, socket), planned_spend(study, study.privacy)
        policy = home / "policy.yaml"
        policy.write_text(policy.read_text().replace("12.0", "10.0"))  # enough for one such run, not for two
        with site_process(home, socket):
            assert isinstance(talk(HelloRequest(**talk.header)), HelloReply)
        for number in range(1, 5):
            Ledger(home).intend("last-year", number, "0" * 64, spend, 12.0, 1e-5)
        talk.header["run"] = "another-run"
        with site_process(home, socket):
            reply = talk(HelloRequest(**talk.header))
        assert isinstance(reply, Failure) and reply.code.startswith("FL-5")
        assert len(Ledger(home).entries()) == 4


def _write(folder: Path, talk: Talk) -> Path:
    path = folder / "request.bin"
    path.write_bytes(talk.sealed(TrainRequest(**talk.header, round=2, scope="federated", weights=talk.weights)))
    return path


_WORK = """
import logging, sys
from pathlib import Path
import torch
from fedloupe_client.site.site import Site
home, request, answer, log = map(Path, sys.argv[1:5])
logging.basicConfig(level=logging.INFO, filename=log, force=True)
torch.set_num_threads(1)
answer.write_bytes(Site(home, checkpoint_s=float(sys.argv[5])).answer(request.read_bytes()))
"""

_ASK = """
import sys
from pathlib import Path
from fedloupe_client.site.server import ask
ask(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), 60)
"""
