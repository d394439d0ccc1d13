"""The site's own model, trained on its patients alone: it stays, and is judged where it trained, on the test split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedloupe.messages import OverlapRequest, Request, encode
from fedloupe.study import Study
from fedloupe_client.gate import Gate, NotInStudy, RoleRefused, RoundRefused, SplitRefused, approve, rules
from sealing import open_site


@pytest.fixture
def at_home(make_study, home) -> Study:
    study = make_study(evaluation={"leave_one_site_out": True})
    assert study.evaluation.local_models == "home"
    approve(home, study, by="officer")
    return study


class TestAtHome:
    def test_it_is_judged_on_the_test_split_of_a_training_site(self, gate, ask, at_home):
        assert gate.admit(encode(ask("evaluate", at_home, alone=True)))[1] == at_home

    def test_its_weights_are_not_given(self, gate, ask, at_home):
        with pytest.raises(NotInStudy, match="stays here"):
            gate.admit(encode(ask("train", at_home, scope="local", round=0)))

    def test_a_site_that_only_validates_has_none(self, home, ask, at_home):
        whole = ask("evaluate", at_home, site="coast", split="all")
        coast = open_site(home, at_home, whole)
        coast.admit(encode(whole))
        with pytest.raises(RoleRefused, match="own model"):
            coast.admit(encode(ask("evaluate", at_home, alone=True, site="coast", split="all")))

    def test_no_other_split_is_scored(self, gate, ask, at_home):
        gate.admit(encode(ask("evaluate", at_home, split="all")))
        with pytest.raises(SplitRefused, match="own model"):
            gate.admit(encode(ask("evaluate", at_home, alone=True, split="all")))

    def test_no_baseline_has_one(self, gate, ask, at_home):
        with pytest.raises(NotInStudy, match="another architecture"):
            gate.admit(encode(ask("evaluate", at_home, alone=True, architecture="logistic")))

    def test_a_fourth_different_one_is_refused(self, gate, ask, at_home):
        """Each is trained anew on the site's patients."""
        assert rules.REPEATS["alone"] == 3
        asked = [ask("evaluate", at_home, alone=True, weights=np.full(5, v, np.float32)) for v in range(4)]
        for one in (*asked[:3], asked[0]):
            gate.admit(encode(one))
        with pytest.raises(RoundRefused, match="alone"):
            gate.admit(encode(asked[3]))

    def test_to_make_one_is_to_take_part(self, gate, ask, at_home):
        everybody = encode(ask("evaluate", at_home, split="all"))
        gate.admit(everybody)
        gate.admit(encode(ask("evaluate", at_home, alone=True)))
        with pytest.raises(SplitRefused, match="no external validation"):
            gate.admit(everybody)

    def test_it_is_not_the_one_made_of_the_federations(self, ask, at_home):
        with pytest.raises(ValueError, match="two models"):
            ask("evaluate", at_home, alone=True, personal=True)


class TestElsewhere:
    def test_a_study_whose_models_leave_judges_none_at_home(self, gate, ask, study):
        gate.admit(encode(ask("train", study, scope="local", round=0)))
        with pytest.raises(NotInStudy, match="not judge at home"):
            gate.admit(encode(ask("evaluate", study, alone=True)))

    @pytest.mark.parametrize(
        "changes",
        [
            {"evaluation": {"local_baseline": False}},
            {
                "evaluation": {},
                "training": {"rounds": 4, "preparation": "public", "start": "random"},
                "privacy": {"mode": "dp-sgd", "epsilon": 8.0, "clip": 1.0},
            },
        ],
        ids=["without a local baseline", "under differential privacy"],
    )
    def test_a_study_that_makes_none_is_asked_for_none(self, gate, ask, make_study, home, changes):
        without = make_study(**changes)
        approve(home, without, by="officer")
        gate.admit(encode(ask("evaluate", without)))
        with pytest.raises(NotInStudy, match="not judge at home"):
            gate.admit(encode(ask("evaluate", without, alone=True)))


class TestOfADrawingStudy:
    @pytest.fixture
    def drawing(self, make_study, home) -> Study:
        study = make_study(
            sequences=[{"name": "t2w"}],
            radiomics={"source": "none"},
            model={"image": True},
            evaluation={},
            segmentation={"field_mm": 64, "channels": [8, 16, 32]},
        )
        approve(home, study, by="officer")
        return study

    def overlap(self, ask, study: Study, **changes: Any) -> Request:
        header = {name: getattr(ask("hello", study), name) for name in ("version", "fingerprint", "run", "site")}
        body = {"label": "local-north", "split": "test", "alone": True, "weights": np.zeros(5, np.float32)}
        return OverlapRequest(**{**header, **body, **changes})

    def test_it_draws_the_test_split_where_it_trained_and_nowhere_else(self, gate, ask, drawing, home):
        gate.admit(encode(self.overlap(ask, drawing)))
        with pytest.raises(SplitRefused, match="own model"):
            gate.admit(encode(self.overlap(ask, drawing, split="all")))
        with pytest.raises(RoleRefused, match="own model"):
            Gate(home, "coast").admit(encode(self.overlap(ask, drawing, site="coast", split="all")))

    def test_a_fourth_different_one_is_refused(self, gate, ask, drawing):
        for value in range(3):
            gate.admit(encode(self.overlap(ask, drawing, weights=np.full(5, value, np.float32))))
        with pytest.raises(RoundRefused, match="alone"):
            gate.admit(encode(self.overlap(ask, drawing, weights=np.full(5, 3, np.float32))))
