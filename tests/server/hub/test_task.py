"""What the service is started for: whom it needs, where it works, and when it is over."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from federations import build_once, found, small_study
from fedloupe import __version__
from fedloupe.freezing import Seal, SealedModel
from fedloupe.signing import Signer
from fedloupe_server.cli import app
from fedloupe_server.evidence.results import Sealed
from fedloupe_server.federation.freezing import SealBroken, keep_seal
from fedloupe_server.federation.frozen import NotSealable
from fedloupe_server.federation.journal import write_atomic
from fedloupe_server.hub import service as hub_service
from fedloupe_server.hub.job import read_job
from fedloupe_server.hub.metrics import numbers
from fedloupe_server.hub.service import Ports, Service
from fedloupe_server.hub.showing import screen
from fedloupe_server.hub.status import changes, status_of
from fedloupe_server.hub.task import Task, remembered
from fedloupe_server.provision.errors import FederationUnusable
from judged import judged
from submissions import Flower

TRAIN = [{"name": name, "role": "train"} for name in ("north", "south", "west")]
COAST, ISLAND, CAPE = ({"name": name, "role": "validate"} for name in ("coast", "island", "cape"))
STUDY = small_study(sites=[*TRAIN, COAST])
LATER = small_study(sites=[*TRAIN, COAST, ISLAND], title="And one more hospital")
LATEST = small_study(sites=[*TRAIN, COAST, ISLAND, CAPE], title="And another one")


@pytest.fixture
def fed(tmp_path, monkeypatch):
    build_once(monkeypatch)
    found(tmp_path / "FED", study=STUDY)
    return tmp_path / "FED"


@pytest.fixture
def flower(monkeypatch):
    """In the place of Flower's processes, of which none is started."""
    fake = Flower()
    fake.configure = fake.close = fake.nodes = lambda: []
    monkeypatch.setattr(hub_service, "Flower", lambda *_: fake)
    monkeypatch.setattr(hub_service, "Control", lambda *_: fake)
    monkeypatch.setattr(Service, "_start", lambda service: fake.submitted.append("started"))
    return fake


def serve(fed, study, name=None):
    """What a service does at its first look, and its status."""
    found(fed, study=study)
    with Service.open(fed, Ports(), name) as service:
        service.trouble, service._looked = "", float("inf")
        service.tick()
        return service, status_of(service)


def seal(fed, study=STUDY):
    """FED/run as it is once it is sealed."""
    header = {"version": __version__, "study": study.study, "title": study.title, "sites": study.sites}
    sealed = Seal(
        **{**header, "fingerprint": study.fingerprint, "run": "small-1", "contributed": study.train_sites, "plan": {}},
        models={"federated": SealedModel(weights="0" * 64)},
    )
    write_atomic(fed / "run" / "frozen.json", b"{}")
    return keep_seal(fed / "run", sealed.signed(Signer.load(fed / "coordinator.key")))


def end(folder, results, study, seal, *sites):
    """A folder as it is at the run's end: results of these sites, and a pack."""
    some, name = results.sites[0], f"small-{study.fingerprint[:8]}"
    of = {s.name: some.model_copy(update={"site": s.name, "role": s.role}) for s in study.sites}
    told = results.model_copy(
        update={
            "run": name,
            "fingerprint": study.fingerprint,
            "sites": tuple(of[name] for name in sites),
            "sealed": Sealed.of(seal),
        }
    )
    write_atomic(folder / "name.txt", name.encode())
    write_atomic(folder / "results.json", told.model_dump_json().encode())
    write_atomic(folder / "pack" / "SHA256SUMS", b"")


class TestUntilItIsSealed:
    def test_only_those_who_train_are_needed(self, fed, flower):
        service, status = serve(fed, STUDY, "freeze")
        assert flower.submitted[0] == "started" and flower.submitted[1]["task"] == "freeze"
        assert flower.submitted[1]["run-dir"] == str(fed / "run")
        assert list(status.sites) == ["north", "south", "west"] and read_job(service.watch.job).sealed is None

    def test_it_is_over_once_this_study_is_sealed_and_all_that_is_frozen_is_written(self, fed, flower):
        seal(fed)
        service, status = serve(fed, STUDY, "freeze")
        assert service.watch.state == "completed" and flower.submitted == ["started"]
        assert "sealed" in said(status) and "completed" not in said(status)
        assert "run: sealed" in [one["event"] for one in changes(None, status)]
        (about,) = [one for one in numbers(status) if one.name == "fedloupe"]
        assert about.samples[0].labels["task"] == "freeze"
        (fed / "run" / "frozen.json").unlink()
        assert serve(fed, STUDY, "freeze")[0].watch.state == "running"
        assert serve(fed, small_study(sites=[*TRAIN, COAST], seed=9), "freeze")[0].watch.state == "running"

    def test_whoever_starts_it_again_opens_nobody_either(self, fed, flower):
        seal(fed)
        serve(fed, STUDY, "freeze")
        assert serve(fed, STUDY)[0].task.name == "freeze"
        service, status = serve(fed, STUDY, "study")
        assert service.watch.state == "running" and flower.submitted[-1]["task"] == "study", "the rest is still to do"
        assert list(status.sites) == ["north", "south", "west", "coast"]
        assert serve(fed, STUDY)[0].task.name == "study"
        assert serve(fed, LATER)[0].task.name == "study", "of which nothing is held back"

    @pytest.mark.parametrize("text", ["", "frozen", "freeze", "freeze ef12"])
    def test_a_task_that_cannot_be_read_or_is_of_another_study_opens_nobody(self, fed, flower, text):
        assert remembered(fed, STUDY) == "study"
        (fed / "task.txt").write_text(text)
        with pytest.raises(FederationUnusable, match=r"task\.txt.*--until frozen"):
            serve(fed, STUDY)
        assert flower.submitted == []
        assert serve(fed, STUDY, "freeze")[0].task.name == remembered(fed, STUDY) == "freeze", "said anew, it holds"
        with pytest.raises(FederationUnusable, match="another study"):
            serve(fed, LATER)

    def test_a_drawing_study_is_refused(self, fed):
        study = SimpleNamespace(segmentation=object(), study="drawn", fingerprint="ab" * 32)
        for name in ("freeze", "validate"):
            with pytest.raises(NotSealable, match="drawing study"):
                Task.of(name, fed, study).needs(study)

    def test_a_seal_that_somebody_changed_fails_it(self, fed, flower):
        seal(fed)
        path = fed / "run" / "seal.json"
        path.write_text(path.read_text().replace(STUDY.title, "Another title"))
        service, _ = serve(fed, STUDY, "freeze")
        assert service.watch.state == "failed" and SealBroken.code in service.watch.why


class TestALaterValidation:
    @pytest.fixture
    def results(self):
        return judged()

    def test_only_who_has_not_validated_is_needed_and_it_works_beside_the_sealed_run(self, fed, flower, results):
        end(fed / "run", results, STUDY, seal(fed), "north", "coast")
        service, status = serve(fed, LATER, "validate")
        assert list(status.sites) == ["island"]
        assert flower.submitted[-1]["run-dir"] == str(fed / f"validation-{LATER.fingerprint[:8]}")
        job = read_job(service.watch.job)
        assert job.sealed == fed / "run" and job.name == f"small-{LATER.fingerprint[:8]}"

    def test_of_a_run_that_was_only_sealed_its_own_hospitals_are_needed_too(self, fed, flower):
        seal(fed)
        assert list(serve(fed, LATER, "validate")[1].sites) == ["coast", "island"]

    def test_who_validated_before_is_not_asked_again(self, fed, flower, results):
        of = seal(fed)
        end(fed / "run", results, STUDY, of, "north", "coast")
        before = fed / f"validation-{LATER.fingerprint[:8]}"
        end(before, results, LATER, of, "north", "coast", "island")
        write_atomic(before / "sealed-run.txt", b"../run\n")
        assert list(serve(fed, LATEST, "validate")[1].sites) == ["cape"]
        (fed / "latest").symlink_to(before)
        shutil.copytree(before, fed / "a-copy")
        assert serve(fed, LATER, "validate")[0].watch.state == "completed", "neither is another validation"
        shutil.rmtree(fed / "a-copy")
        end(before, results, LATER, of.model_copy(update={"threshold": 0.1}), "north", "coast", "island")
        assert list(serve(fed, LATEST, "validate")[1].sites) == ["island", "cape"], "that was another seal"

    def test_it_is_over_with_results_on_this_very_seal(self, fed, flower, results):
        of = seal(fed)
        end(fed / "run", results, STUDY, of, "north", "coast")
        folder = fed / f"validation-{LATER.fingerprint[:8]}"
        end(folder, results, LATER, of, "north", "coast", "island")
        service, status = serve(fed, LATER, "validate")
        assert service.watch.state == "completed" and "validated" in said(status)
        end(folder, results, LATER, of.model_copy(update={"threshold": 0.1}), "north", "coast", "island")
        assert serve(fed, LATER, "validate")[0].watch.state == "running"

    @pytest.mark.parametrize(
        ("study", "why"),
        [
            (small_study(sites=[*TRAIN, COAST, ISLAND], seed=9), "differs from the sealed one"),
            (small_study(sites=[*TRAIN, ISLAND]), "differs from the sealed one"),
            (small_study(sites=[*TRAIN, COAST, {"name": "new", "role": "train"}]), "differs from the sealed one"),
            (STUDY, "sealed study itself.*--until end"),
        ],
    )
    def test_another_study_is_refused_before_anything_is_started(self, fed, flower, study, why):
        seal(fed)
        serve(fed, STUDY, "freeze")
        flower.submitted.clear()
        with pytest.raises(NotSealable, match=why):
            serve(fed, study, "validate")
        assert flower.submitted == [] and remembered(fed, STUDY) == "freeze"


class TestTheCommand:
    def test_without_a_sealed_run_it_says_what_to_do(self, fed):
        done = CliRunner().invoke(app, ["start", str(fed), "--validate", "--port", "1", "--superlink-port", "2"])
        assert done.exit_code == 1 and "FL-729" in done.output and "fedloupe freeze" in done.output
        assert not (fed / "service" / "state.db").exists()

    def test_of_two_tasks_it_takes_neither(self, fed):
        done = CliRunner().invoke(app, ["start", str(fed), "--validate", "--until", "frozen"])
        assert done.exit_code == 2 and "task of its own" in done.output
        assert not (fed / "service").exists()


def said(status) -> str:
    """The screen's first line."""
    return str(screen(status, fresh=True).renderables[0])
