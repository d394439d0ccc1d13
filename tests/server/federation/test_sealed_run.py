"""Lock, then test: the run is sealed before a site that only validates is opened, and holds to its seal."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.server.federation.conftest import COLUMNS, NAMES
from tests.server.federation.wire import SITES, Wire

from fedloupe.freezing import Seal, columns_digest
from fedloupe.models import digest
from fedloupe.signing import Signer
from fedloupe_server.evidence.results import Results
from fedloupe_server.federation import run_study
from fedloupe_server.federation.freezing import NotExternal, SealBroken, read_seal
from fedloupe_server.federation.journal import read_tensors, write_tensors
from fedloupe_server.federation.run import freeze_study

HONEST = ("east", "north", "south")


def sealed(run_dir) -> Seal:
    found = read_seal(run_dir)
    assert found is not None
    return found


class TestWhatIsSealed:
    def test_every_model_that_is_scored_at_a_validating_site_as_it_is_scored(self, make_study, hospitals, run_dir):
        study = make_study(
            clinical=[{"name": "age", "column": "age"}],
            evaluation={"clinical_baseline": True, "trees": {"rounds": 2}},
        )
        run_study(study, hospitals, run_dir)
        seal, scored = sealed(run_dir), hospitals.asked("evaluate", site="coast")
        assert {r.label for r in scored} == set(seal.models)
        assert {"federated", "logistic", "clinical", "trees", "local-north", "local-south", "local-east"} == set(
            seal.models
        )
        for request in scored:
            model = seal.models[request.label]
            assert (digest(request.weights), request.architecture, request.shift) == (
                model.weights, model.architecture, model.shift,
            )  # fmt: skip
            assert request.threshold == seal.raw_threshold

    def test_what_it_says_of_the_run(self, study, hospitals, run_dir):
        results = run_study(study, hospitals, run_dir)
        seal = sealed(run_dir)
        assert (seal.run, seal.study, seal.fingerprint) == ("trial", study.study, study.fingerprint)
        assert (seal.preparation, seal.threshold) == (results.preparation, results.threshold)
        assert seal.columns == columns_digest(NAMES, COLUMNS)
        assert seal.contributed == HONEST
        assert seal.plan["endpoint"]["positive"] == ["1"] and "Youden" in seal.plan["threshold"]
        assert results.sealed.digest == seal.digest
        assert Results.model_validate_json((run_dir / "results.json").read_bytes()).sealed == results.sealed

    def test_it_is_signed_by_the_coordinator_who_runs_the_study(self, study, hospitals, run_dir, tmp_path):
        key = Signer.make(tmp_path / "another.key")
        run_study(study, hospitals, run_dir, key=key)
        assert sealed(run_dir).coordinator == key.public
        sealed(run_dir).check()

    def test_the_results_are_the_same_whoever_signs(self, study, new_hospitals, tmp_path):
        for name in ("one", "two"):
            run_study(study, new_hospitals(), tmp_path / name / "trial")
        one, two = (tmp_path / name / "trial" for name in ("one", "two"))
        assert sealed(one).coordinator != sealed(two).coordinator
        assert (one / "results.json").read_bytes() == (two / "results.json").read_bytes()

    def test_in_secure_sums_who_gave_a_term_contributed(self, secure, wire: Wire, run_dir):
        run_study(secure, wire, run_dir)
        assert sealed(run_dir).contributed == SITES


class TestOpened:
    def test_with_the_seal_on_disk_and_before_anything_else_but_a_greeting(self, study, hospitals, run_dir):
        def hook(r):
            if r.site == "coast" and r.kind == "open":
                assert r.seal == sealed(run_dir).text
            return ...

        hospitals.hook = hook
        run_study(study, hospitals, run_dir)
        assert [r.kind for r in hospitals.log if r.site == "coast"][:3] == ["hello", "open", "prepare"]
        assert {r.site for r in hospitals.asked("open")} == {"coast"}

    def test_a_site_that_says_it_took_part_ends_the_run_and_is_named(self, study, hospitals, run_dir):
        hospitals.hook = lambda r: hospitals.failure(r, "FL-543", "took part") if r.kind == "open" else ...
        with pytest.raises(NotExternal, match="coast"):
            run_study(study, hospitals, run_dir)
        assert not hospitals.asked("evaluate") and not (run_dir / "results.json").exists()

    def test_it_ends_a_run_that_otherwise_waits_for_ever(self, study, hospitals, run_dir):
        hospitals.hook = lambda r: hospitals.failure(r, "FL-543", "took part") if r.kind == "open" else ...
        with pytest.raises(NotExternal, match="coast"):
            run_study(study, hospitals, run_dir, patient=True)

    def test_one_that_contributed_by_the_coordinators_own_list_is_not_asked(self, study, hospitals, run_dir):
        freeze_study(study, hospitals, run_dir)
        (run_dir / "seal.json").unlink()
        (run_dir / "frozen.json").unlink()
        (run_dir / "contributed.json").write_text(json.dumps([*HONEST, "coast"]))
        with pytest.raises(NotExternal, match="coast"):
            run_study(study, hospitals, run_dir)
        assert not hospitals.asked("open") and not hospitals.asked("evaluate")


class TestUntilFrozen:
    def test_no_validating_site_hears_of_it_and_the_run_goes_on_from_there(
        self, study, hospitals, new_hospitals, run_dir, tmp_path
    ):
        seal = freeze_study(study, hospitals, run_dir)
        assert seal == sealed(run_dir)
        assert {r.site for r in hospitals.log} == set(HONEST) and not (run_dir / "results.json").exists()
        hospitals.log.clear()
        run_study(study, hospitals, run_dir)
        assert not hospitals.asked("train")
        run_study(study, new_hospitals(), tmp_path / "whole" / "trial")
        assert (run_dir / "results.json").read_bytes() == (tmp_path / "whole/trial/results.json").read_bytes()


def threshold_moves(run_dir):
    path = run_dir / "threshold.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "threshold": content["threshold"] + 1e-9}))


def weights_move(run_dir):
    """The last round's model and the record that names it."""
    stem = run_dir / "rounds" / "0003"
    tensors, words = read_tensors(stem.with_suffix(".safetensors"))
    tensors["weights"] = tensors["weights"] + np.float32(1e-6)
    write_tensors(stem.with_suffix(".safetensors"), tensors, **words)
    record = json.loads(stem.with_suffix(".json").read_text())
    stem.with_suffix(".json").write_text(json.dumps({**record, "weights": digest(tensors["weights"])}))


def baseline_moves(run_dir):
    tensors, _ = read_tensors(run_dir / "logistic.safetensors")
    write_tensors(run_dir / "logistic.safetensors", {"beta": tensors["beta"] * (1 + 1e-12)})


def own_model_moves(run_dir):
    tensors, _ = read_tensors(run_dir / "local" / "south.safetensors")
    write_tensors(run_dir / "local" / "south.safetensors", {"weights": -tensors["weights"]})


def preparation_moves(run_dir):
    path = run_dir / "preparation.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def own_model_goes(run_dir):
    (run_dir / "local" / "south.safetensors").unlink()


def somebody_contributes(run_dir):
    (run_dir / "contributed.json").write_text(json.dumps([*HONEST, "coast"]))


class TestBroken:
    @pytest.mark.parametrize(
        ("change", "item"),
        [
            (threshold_moves, "threshold"),
            (weights_move, "models.federated"),
            (baseline_moves, "models.logistic"),
            (own_model_moves, "models.local-south"),
            (own_model_goes, "models.local-south"),
            (preparation_moves, "preparation"),
            (somebody_contributes, "contributed"),
        ],
    )
    @pytest.mark.parametrize("finished", [False, True])
    def test_what_changed_since_is_named_and_nothing_is_scored(self, study, hospitals, run_dir, change, item, finished):
        (run_study if finished else freeze_study)(study, hospitals, run_dir)
        change(run_dir)
        hospitals.log.clear()
        with pytest.raises(SealBroken, match=rf"\b{item}\b"):
            run_study(study, hospitals, run_dir)
        assert not hospitals.asked("open") and not hospitals.asked("evaluate") and not hospitals.asked("train")

    def test_another_coordinators_key(self, study, hospitals, run_dir, tmp_path):
        freeze_study(study, hospitals, run_dir)
        with pytest.raises(SealBroken, match="coordinator"):
            run_study(study, hospitals, run_dir, key=Signer.make(tmp_path / "other.key"))

    @pytest.mark.parametrize("field", ["threshold", "contributed", "models", "signature"])
    def test_a_seal_that_was_edited(self, study, hospitals, run_dir, field):
        freeze_study(study, hospitals, run_dir)
        content = json.loads((run_dir / "seal.json").read_text())
        other = {"threshold": 0.123, "contributed": ["north"], "signature": "0" * 128}
        models = {**content["models"], "federated": {**content["models"]["federated"], "weights": "0" * 64}}
        (run_dir / "seal.json").write_text(json.dumps({**content, field: {**other, "models": models}[field]}))
        with pytest.raises(SealBroken, match=r"seal\.json"):
            run_study(study, hospitals, run_dir)

    def test_a_site_that_may_come_and_comes_after_the_seal_changes_nothing(self, make_study, hospitals, run_dir):
        """Nobody has it train a model of its own then, and what was sealed holds."""
        study = make_study(quorum={"minimum": 2, "must": ["north"], "may": ["east"], "attempts": 1, "retry_after_s": 0})
        hospitals.hook = lambda r: None if r.site == "east" else ...
        seal = freeze_study(study, hospitals, run_dir)
        assert "local-east" not in seal.models and "east" not in seal.contributed
        hospitals.hook = lambda r: ...
        results = run_study(study, hospitals, run_dir)
        assert sealed(run_dir) == seal
        assert results.sealed.contributed == ("north", "south")


class TestFolds:
    def test_killed_in_the_second_fold_the_first_is_not_fitted_again_and_the_end_is_the_same(
        self, make_study, hospitals, new_hospitals, stopped, run_dir, tmp_path
    ):
        study = make_study(evaluation={"leave_one_site_out": True})
        run_study(study, new_hospitals(), tmp_path / "whole" / "trial")
        first, second = "trial/without-north", "trial/without-south"

        def hook(r):
            if r.run == second and r.kind == "train" and r.round == 2:
                raise stopped
            return ...

        hospitals.hook = hook
        with pytest.raises(stopped):
            run_study(study, hospitals, run_dir)
        assert hospitals.asked("train", run=first)
        hospitals.hook = lambda r: ...
        hospitals.log.clear()
        run_study(study, hospitals, run_dir)
        for kind in ("describe", "sketch", "newton", "train", "midpoint"):
            assert not hospitals.asked(kind, run=first) and not hospitals.asked(kind, run="trial"), kind
        assert {r.round for r in hospitals.asked("train", run=second)} == {2, 3}
        assert (run_dir / "results.json").read_bytes() == (tmp_path / "whole/trial/results.json").read_bytes()
        assert not hospitals.asked("open", run=second)
