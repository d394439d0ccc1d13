"""Secure sums in a study: who can have them, who must say that they have none, and the fingerprint."""

from __future__ import annotations

from typing import Any

import pytest

from fedloupe.study import Study, StudyInvalid, parse_study

_TABLE: dict[str, Any] = {
    "study": "sums-test",
    "title": "Secure sums",
    "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
    "radiomics": {"source": "table"},
    "quorum": {"minimum": 1},
}


def study(train: int, **changes: Any) -> Study:
    sites = [{"name": f"site-{i}", "role": "train"} for i in range(train)] + [{"name": "coast", "role": "validate"}]
    return parse_study({**_TABLE, "sites": sites, **changes})


class TestRules:
    def test_sums_are_secure_by_default(self):
        assert study(3).aggregation == "secure"

    @pytest.mark.parametrize("train", [1, 2])
    def test_fewer_than_three_training_sites_must_say_plain(self, train):
        with pytest.raises(StudyInvalid, match=r"at least 3 training sites.*aggregation: plain"):
            study(train)
        assert study(train, aggregation="plain").aggregation == "plain"

    def test_leaving_one_out_would_show_each_sites_sums_by_difference(self):
        with pytest.raises(StudyInvalid, match="leave_one_site_out"):
            study(5, evaluation={"leave_one_site_out": True})
        assert study(3, evaluation={"leave_one_site_out": True}, aggregation="plain")

    def test_trees_cannot_be_summed(self):
        with pytest.raises(StudyInvalid, match="trees"):
            study(3, evaluation={"trees": {}})
        assert study(3, evaluation={"trees": {}}, aggregation="plain")

    def test_a_reference_would_be_the_whole_sum(self):
        with pytest.raises(StudyInvalid, match="reference"):
            study(3, harmonisation={"reference": "site-0"})
        assert study(3, harmonisation={"reference": "site-0"}, aggregation="plain")

    def test_another_word_is_refused(self):
        with pytest.raises(StudyInvalid, match="aggregation"):
            study(3, aggregation="encrypted")


class TestFingerprint:
    def test_a_secure_study_keeps_the_canonical_form_that_had_no_such_key(self):
        assert "aggregation" not in study(3).canonical
        assert study(3, aggregation="secure").fingerprint == study(3).fingerprint

    def test_plain_is_another_study(self):
        assert study(3, aggregation="plain").fingerprint != study(3).fingerprint
        assert Study.model_validate_json(study(3, aggregation="plain").canonical).aggregation == "plain"

    def test_own_models_that_leave_make_another_study(self):
        assert study(3, evaluation={"local_models": "home"}).fingerprint == study(3).fingerprint
        assert study(3, evaluation={"local_models": "everywhere"}).fingerprint != study(3).fingerprint
