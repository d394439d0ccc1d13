"""Rounds of trees: the mean of the sites' trees, a quorum, and on with the last complete round after a crash."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.models import count_trees, join, no_trees
from fedloupe_server.evidence import load_results
from fedloupe_server.federation import run_study
from fedloupe_server.federation.conversation import QuorumNotMet, WrongAnswer
from fedloupe_server.federation.journal import JournalDamaged

TRAIN = {"north": 30, "south": 10, "east": 20}
PLAN = {"rounds": 4, "depth": 2}


@pytest.fixture
def growing(make_study):
    def make(**changes):
        evaluation = {"trees": PLAN, "local_baseline": False, "logistic_baseline": False}
        return make_study(evaluation={**evaluation, **changes.pop("evaluation", {})}, **changes)

    return make


def final(hospitals, run="trial"):
    (trees,) = {m.weights.tobytes(): m.weights for m in hospitals.asked("evaluate", label="trees", run=run)}.values()
    return trees


class TestRounds:
    @pytest.mark.parametrize("weighting", ["patients", "equal"])
    def test_each_round_adds_the_mean_of_the_sites_trees(self, growing, hospitals, run_dir, weighting):
        run_study(growing(training={"weighting": weighting}), hospitals, run_dir)
        expected = no_trees()
        for number in range(1, 5):
            asked = hospitals.asked("grow", round=number)
            assert {m.site for m in asked} == set(TRAIN)
            assert all(np.array_equal(m.trees, expected) for m in asked)
            grown = {m.site: hospitals.stump(m) for m in asked}
            share = {s: TRAIN[s] / 60 if weighting == "patients" else 1 / 3 for s in TRAIN}
            expected = join(expected, [(grown[site], share[site]) for site in sorted(grown)])
        assert np.array_equal(final(hospitals), expected)
        assert count_trees(expected) == 12

    def test_they_are_scored_at_every_site_and_frozen(self, growing, hospitals, new_hospitals, run_dir, tmp_path):
        study = growing(evaluation={"leave_one_site_out": True})
        results = run_study(study, hospitals, run_dir)
        assert [list(s.baselines) for s in results.sites] == [["trees"]] * 4
        assert results.sites[-1].baselines["trees"].split == "all"
        for fold in results.left_out:
            grown = hospitals.asked("grow", run=f"trial/without-{fold.site}")
            assert {m.site for m in grown} == set(TRAIN) - {fold.site} and len(grown) == 8
            assert fold.baselines["trees"].label == "trees"
        other = new_hospitals()
        other.stump = lambda request: np.array([[0, -1, 0.25, -1, -1]])
        assert run_study(study, other, tmp_path / "other/trial").frozen != results.frozen

    def test_without_the_section_nobody_is_asked(self, make_study, hospitals, run_dir):
        results = run_study(make_study(), hospitals, run_dir)
        assert not hospitals.asked("grow")
        assert all(s.baselines == {} for s in results.sites)

    def test_a_round_without_a_required_site_pauses_the_run(self, growing, hospitals, run_dir):
        hospitals.hook = lambda r: None if r.kind == "grow" and r.round == 3 and r.site == "north" else ...
        with pytest.raises(QuorumNotMet, match="north"):
            run_study(growing(), hospitals, run_dir)

    def test_who_answered_makes_the_round(self, growing, hospitals, run_dir):
        hospitals.hook = lambda r: None if r.kind == "grow" and r.round == 1 and r.site == "south" else ...
        run_study(growing(), hospitals, run_dir)
        assert count_trees(final(hospitals)) == 11
        first = next(m for m in hospitals.asked("grow", round=2)).trees
        alone = {m.site: hospitals.stump(m) for m in hospitals.asked("grow", round=1)}
        assert np.array_equal(first, join(no_trees(), [(alone["east"], 0.4), (alone["north"], 0.6)]))

    @pytest.mark.parametrize(
        "bad",
        [
            np.array([[0, 6, 0.5, 1, 2], [0, -1, 0, -1, -1], [0, -1, 0, -1, -1]]),
            np.array([[0, -1, 0.0, -1, -1], [1, -1, 0, -1, -1]]),
            np.array([[0, 1, 0.51, 1, 2], [0, -1, 0, -1, -1], [0, -1, 0, -1, -1]]),
        ],
        ids=["a feature that there is not", "two trees", "off the grid"],
    )
    def test_what_is_not_one_tree_of_the_study_is_not_taken(self, growing, hospitals, run_dir, bad):
        hospitals.hook = lambda r: (
            hospitals.answer(r).model_copy(update={"trees": bad}) if r.kind == "grow" and r.site == "east" else ...
        )
        with pytest.raises(WrongAnswer, match="east"):
            run_study(growing(), hospitals, run_dir)


class TestResume:
    @pytest.mark.parametrize("at", [1, 2, 4])
    def test_killed_in_a_round_it_goes_on_and_ends_the_same(
        self, growing, hospitals, new_hospitals, run_dir, tmp_path, stopped, at
    ):
        study = growing()
        run_study(study, new_hospitals(), tmp_path / "whole/trial")

        def kill(request):
            if request.kind == "grow" and request.round == at and request.site == "south":
                raise stopped
            return ...

        hospitals.hook = kill
        with pytest.raises(stopped):
            run_study(study, hospitals, run_dir)
        again = new_hospitals()
        results = run_study(study, again, run_dir)
        assert {m.round for m in again.asked("grow")} == set(range(at, 5))
        assert results == load_results(tmp_path / "whole/trial")

    def test_an_altered_round_is_not_built_upon(self, growing, hospitals, run_dir):
        run_study(growing(), hospitals, run_dir)
        path = run_dir / "trees/0004.safetensors"
        blob = bytearray(path.read_bytes())
        blob[-1] ^= 1
        path.write_bytes(blob)
        with pytest.raises(JournalDamaged, match="0004"):
            run_study(growing(), hospitals, run_dir)
