"""A site's own model at the gate: only where the study makes one, where it trained, and on the test split."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.messages import encode
from fedloupe_client.gate import Gate, NotInStudy, RoleRefused, RoundRefused, SplitRefused, approve


@pytest.fixture
def personal(make_study, home):
    study = make_study(personalisation={})
    approve(home, study, by="officer")
    return study


class TestAsked:
    def test_on_the_test_split_of_a_training_site_it_is_admitted(self, gate, ask, personal):
        assert gate.admit(encode(ask("evaluate", personal, personal=True)))[1] == personal

    def test_a_fourth_different_model_of_its_own_is_refused(self, gate, ask, personal):
        """Each is trained anew on the site's patients."""
        asked = [ask("evaluate", personal, personal=True, weights=np.full(5, v, np.float32)) for v in range(4)]
        for one in (*asked[:3], asked[0]):
            gate.admit(encode(one))
        with pytest.raises(RoundRefused, match="personal"):
            gate.admit(encode(asked[3]))

    def test_no_other_split_is_scored(self, gate, ask, personal):
        gate.admit(encode(ask("evaluate", personal, split="all")))
        with pytest.raises(SplitRefused, match="personal"):
            gate.admit(encode(ask("evaluate", personal, personal=True, split="all")))
        with pytest.raises(ValueError, match="split"):
            ask("evaluate", personal, personal=True, split="tune")  # no request can name it

    def test_a_study_without_the_section_makes_none(self, gate, ask):
        gate.admit(encode(ask("evaluate")))
        with pytest.raises(NotInStudy):
            gate.admit(encode(ask("evaluate", personal=True)))

    def test_no_baseline_has_one(self, gate, ask, personal):
        with pytest.raises(NotInStudy):
            gate.admit(encode(ask("evaluate", personal, personal=True, architecture="logistic")))

    def test_a_site_that_only_validates_has_none(self, home, ask, personal):
        with pytest.raises(RoleRefused):
            Gate(home, "coast").admit(encode(ask("evaluate", personal, personal=True, site="coast", split="all")))
