"""What the service is started for: whom it needs, where it works, and when it is over."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from federations import build_once, found, small_study
from fedloupe import __version__
from fedloupe.freezing import Seal, SealedModel
from fedloupe.signing import Signer
from fedloupe_server.cli import app
from fedloupe_server.federation.freezing import SealBroken, keep_seal
from fedloupe_server.federation.frozen import NotSealable
from fedloupe_server.federation.journal import write_atomic
from fedloupe_server.hub.job import read_job
from fedloupe_server.hub.service import Ports, Service, watch_run
from fedloupe_server.hub.showing import screen
from fedloupe_server.hub.status import status_of
from fedloupe_server.hub.task import Task
from submissions import Flower

TRAIN = [{"name": name, "role": "train"} for name in ("north", "south", "west")]
INSIDE, LATER = [*TRAIN, {"name": "coast", "role": "validate"}], {"name": "island", "role": "validate"}


@pytest.fixture
def fed(tmp_path, monkeypatch):
    build_once(monkeypatch)
    found(tmp_path / "FED", study=small_study(sites=INSIDE))
    return tmp_path / "FED"


@pytest.fixture
def flower():
    return Flower()


def seal(fed, study):
    """FED/run as it is once it was sealed."""
    header = {"version": __version__, "study": study.study, "title": study.title, "sites": study.sites}
    sealed = Seal(
        **{**header, "fingerprint": study.fingerprint, "run": "small-1", "contributed": study.train_sites, "plan": {}},
        models={"federated": SealedModel(weights="0" * 64)},
    )
    return keep_seal(fed / "run", sealed.signed(Signer.load(fed / "coordinator.key")))


def look(fed, flower, name, study):
    """A service's parts after one look: the watch, its job and its status."""
    federation, task = found(fed, study=study).federation, Task.of(name, fed)
    (fed / "service").mkdir(exist_ok=True)
    watch = watch_run(federation, flower, flower, task)
    watch.look()
    processes = SimpleNamespace(running={})
    return watch, status_of(Service(federation, Ports(), processes, flower, flower, watch, task, trouble=""))


class TestUntilItIsSealed:
    def test_only_those_who_train_are_needed(self, fed, flower):
        watch, status = look(fed, flower, "freeze", small_study(sites=INSIDE))
        assert flower.submitted[0]["task"] == "freeze" and flower.submitted[0]["run-dir"] == str(fed / "run")
        assert list(status.sites) == ["north", "south", "west"] and read_job(watch.job).sealed is None

    def test_it_is_over_once_this_study_is_sealed(self, fed, flower):
        study = small_study(sites=INSIDE)
        write_atomic(fed / "run" / "study.json", b"{}")
        seal(fed, study)
        watch, status = look(fed, flower, "freeze", study)
        assert (watch.state, flower.submitted) == ("completed", [])
        assert "sealed" in said(status) and "completed" not in said(status)
        another, _ = look(fed, flower, "freeze", small_study(sites=INSIDE, seed=9))
        assert another.state == "running"
        watch, _ = look(fed, flower, "study", study)
        assert watch.state == "running" and flower.submitted[-1]["task"] == "study", "the rest is still to do"

    def test_a_drawing_study_is_refused_before_anything_is_started(self, fed):
        study = SimpleNamespace(segmentation=object(), study="drawn")
        with pytest.raises(NotSealable, match="drawing study"):
            Task.of("freeze", fed).needs(study)

    def test_a_seal_that_somebody_changed_fails_it(self, fed, flower):
        study = small_study(sites=INSIDE)
        seal(fed, study)
        path = fed / "run" / "seal.json"
        path.write_text(path.read_text().replace(study.title, "Another title"))
        watch, _ = look(fed, flower, "freeze", study)
        assert watch.state == "failed" and SealBroken.code in watch.why


class TestALaterValidation:
    @pytest.fixture
    def later(self, fed):
        study = small_study(sites=INSIDE)
        seal(fed, study)  # without results: so nobody has validated it yet
        return small_study(sites=[*INSIDE, LATER], title="And one more hospital")

    def test_only_hospitals_that_validate_are_needed_and_it_works_beside_the_sealed_run(self, fed, flower, later):
        watch, status = look(fed, flower, "validate", later)
        assert list(status.sites) == ["coast", "island"]
        assert flower.submitted[0]["run-dir"] == str(fed / "validation")
        job = read_job(watch.job)
        assert job.sealed == fed / "run" and job.name == f"small-{later.fingerprint[:8]}"

    def test_it_is_over_with_its_own_results(self, fed, flower, later):
        for folder in ("run", "validation"):
            write_atomic(fed / folder / "pack" / "SHA256SUMS", b"")
        write_atomic(fed / "validation" / "results.json", json.dumps({"fingerprint": later.fingerprint}).encode())
        watch, status = look(fed, flower, "validate", later)
        assert (watch.state, flower.submitted) == ("completed", []) and "validated" in said(status)

    @pytest.mark.parametrize(
        "changes", [{"seed": 9}, {"sites": [*TRAIN, LATER]}, {"sites": [*INSIDE, {"name": "new", "role": "train"}]}]
    )
    def test_another_study_is_refused_before_anything_is_started(self, fed, flower, later, changes):
        with pytest.raises(NotSealable, match="differs from the sealed one"):
            look(fed, flower, "validate", small_study(**{"sites": [*INSIDE, LATER], **changes}))


class TestTheCommand:
    def test_without_a_sealed_run_it_says_what_to_do(self, fed):
        done = CliRunner().invoke(app, ["start", str(fed), "--validate", "--port", "1", "--superlink-port", "2"])
        assert done.exit_code == 1 and "FL-729" in done.output and "fedloupe freeze" in done.output
        assert not (fed / "service" / "state.db").exists()

    def test_one_opens_hospitals_and_the_other_opens_none(self, fed):
        done = CliRunner().invoke(app, ["start", str(fed), "--validate", "--until", "frozen"])
        assert done.exit_code == typer.main.click.UsageError.exit_code and "opens none" in done.output


def said(status) -> str:
    """The screen's first line."""
    return str(screen(status, fresh=True).renderables[0])
