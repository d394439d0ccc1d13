"""A run that is killed goes on, and ends as if it had not been; what does not fit is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from fedloupe.errors import FedLoupeError
from fedloupe_server.federation import run_study
from fedloupe_server.federation.journal import AnotherStudy, JournalDamaged, read_tensors, write_tensors


def kill_at(hospitals, stopped, call: int):
    def exchange(outbox, timeout_s):
        if hospitals.calls == call:
            raise stopped
        return hospitals(outbox, timeout_s)

    return exchange


@pytest.fixture
def after_round(hospitals, stopped):
    """A run that is killed when round k + 1 is asked for."""

    def go(study, run_dir, last: int):
        def hook(r):
            if r.kind == "train" and r.scope == "federated" and r.round == last + 1:
                raise stopped
            return ...

        hospitals.hook = hook
        with pytest.raises(stopped):
            run_study(study, hospitals, run_dir)
        hospitals.hook = lambda r: ...
        hospitals.log.clear()

    return go


class TestResume:
    @pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
    @pytest.mark.parametrize("last", [0, 1, 2])
    def test_it_goes_on_after_the_last_complete_round_and_ends_the_same(
        self, make_study, hospitals, new_hospitals, after_round, tmp_path, strategy, last
    ):
        study = make_study(training={"strategy": strategy})
        run_study(study, new_hospitals(), tmp_path / "whole" / "trial")
        broken = tmp_path / "broken" / "trial"
        after_round(study, broken, last)
        assert len(list((broken / "rounds").glob("????.json"))) == last
        run_study(study, hospitals, broken)
        asked = sorted({m.round for m in hospitals.asked("train", scope="federated")})
        assert asked == list(range(last + 1, 4))
        assert (broken / "results.json").read_bytes() == (tmp_path / "whole/trial/results.json").read_bytes()
        for name in ("rounds/0003.safetensors", "frozen.json", "preparation.safetensors"):
            assert (broken / name).read_bytes() == (tmp_path / "whole/trial" / name).read_bytes()

    def test_killed_at_any_request_it_ends_the_same(self, make_study, new_hospitals, stopped, tmp_path):
        study = make_study(
            training={"rounds": 2, "strategy": "fedadam"},
            evaluation={"leave_one_site_out": True, "logistic_baseline": False},
        )
        whole = new_hospitals()
        run_study(study, whole, tmp_path / "whole" / "trial")
        expected = (tmp_path / "whole/trial/results.json").read_bytes()
        assert whole.calls > 30
        for call in range(0, whole.calls, 3):
            broken = tmp_path / f"at-{call}" / "trial"
            with pytest.raises(stopped):
                run_study(study, kill_at(new_hospitals(), stopped, call), broken)
            run_study(study, new_hospitals(), broken)
            assert (broken / "results.json").read_bytes() == expected, call
            shutil.rmtree(broken)

    def test_a_finished_run_asks_for_no_training(self, study, hospitals, run_dir):
        run_study(study, hospitals, run_dir)
        first = (run_dir / "results.json").read_bytes()
        hospitals.log.clear()
        run_study(study, hospitals, run_dir)
        assert not hospitals.asked("train")
        assert (run_dir / "results.json").read_bytes() == first

    def test_a_model_without_its_record_does_not_count(self, study, hospitals, after_round, run_dir):
        after_round(study, run_dir, 2)
        (run_dir / "rounds" / "0002.json").unlink()
        run_study(study, hospitals, run_dir)
        assert {m.round for m in hospitals.asked("train", scope="federated")} == {2, 3}

    def test_a_threshold_that_was_frozen_stays_whoever_answers_later(self, study, hospitals, stopped, run_dir):
        """Killed while a validate-only site is opened; then a site that was refusing to tune answers."""

        def hook(r):
            if r.kind == "midpoint" and r.site == "south":
                return hospitals.failure(r, "FL-512", "a group of patients is too small to report")
            if r.site == "coast":
                raise stopped
            return ...

        hospitals.hook = hook
        with pytest.raises(stopped):
            run_study(study, hospitals, run_dir)
        frozen = json.loads((run_dir / "frozen.json").read_text())

        def later(r):
            if r.kind == "midpoint" and r.site == "south":
                reply = hospitals.answer(r)
                # events with low scores: a threshold fitted anew would fall
                return reply.model_copy(update={"odds": np.array([-3.5, -15.0])})
            return ...

        hospitals.hook = later
        assert run_study(study, hospitals, run_dir).threshold == frozen["threshold"]


class TestRefused:
    def test_a_folder_of_another_study(self, make_study, study, hospitals, run_dir):
        run_study(study, hospitals, run_dir)
        before = (run_dir / "results.json").read_bytes()
        with pytest.raises(AnotherStudy, match="trial"):
            run_study(make_study(seed=2), hospitals, run_dir)
        assert (run_dir / "results.json").read_bytes() == before

    def test_an_altered_model(self, study, hospitals, after_round, run_dir):
        after_round(study, run_dir, 2)
        path = run_dir / "rounds" / "0002.safetensors"
        tensors, _ = read_tensors(path)
        tensors["weights"] = tensors["weights"] + np.float32(1e-6)
        write_tensors(path, tensors)
        with pytest.raises(JournalDamaged, match=r"0002\.safetensors"):
            run_study(study, hospitals, run_dir)

    def test_an_altered_state_of_the_strategy(self, make_study, hospitals, after_round, run_dir):
        study = make_study(training={"strategy": "fedadam"})
        after_round(study, run_dir, 2)
        path = run_dir / "rounds" / "0002.safetensors"
        tensors, _ = read_tensors(path)
        tensors["state.m"] = tensors["state.m"] * 2
        write_tensors(path, tensors)
        with pytest.raises(JournalDamaged, match=r"0002\.safetensors"):
            run_study(study, hospitals, run_dir)

    @pytest.mark.parametrize("name", ["rounds/0002.safetensors", "preparation.safetensors"])
    def test_a_truncated_file_is_named(self, study, hospitals, after_round, run_dir, name):
        after_round(study, run_dir, 2)
        path = run_dir / name
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(FedLoupeError, match=path.name):
            run_study(study, hospitals, run_dir)

    def test_a_model_without_weights(self, study, hospitals, after_round, run_dir):
        after_round(study, run_dir, 2)
        write_tensors(run_dir / "rounds" / "0002.safetensors", {"other": np.zeros(3)})
        with pytest.raises(JournalDamaged, match=r"0002\.safetensors"):
            run_study(study, hospitals, run_dir)

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"round": 2}'])
    def test_a_damaged_record_is_named(self, study, hospitals, after_round, run_dir, text):
        after_round(study, run_dir, 2)
        (run_dir / "rounds" / "0002.json").write_text(text)
        with pytest.raises(JournalDamaged, match=r"0002\.json"):
            run_study(study, hospitals, run_dir)

    def test_weights_that_changed_after_the_freeze(self, study, hospitals, run_dir):
        run_study(study, hospitals, run_dir)
        path = run_dir / "frozen.json"
        path.write_text(path.read_text().replace('"threshold": 0', '"threshold": 1'))
        with pytest.raises(JournalDamaged, match=r"frozen\.json"):
            run_study(study, hospitals, run_dir)

    def test_nothing_is_left_half_written(self, study, hospitals, run_dir):
        run_study(study, hospitals, run_dir)
        assert not list(run_dir.rglob("*.part"))
        assert {f.suffix for f in run_dir.rglob("*") if f.is_file()} == {".json", ".safetensors", ".lock"}
