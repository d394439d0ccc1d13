"""A study that harmonises: what it may say, and that studies without it keep the fingerprint that was approved."""

from __future__ import annotations

from typing import Any

import pytest

from fedloupe.study import Study, StudyInvalid, parse_study

_PLAIN: dict[str, Any] = {
    "study": "combat-test",
    "title": "Harmonised",
    "endpoint": {"name": "r", "column": "outcome", "positive": ["1"], "negative": ["0"]},
    "clinical": [{"name": "age", "column": "age"}, {"name": "told", "column": "outcome"}],
    "aggregation": "plain",
    "sites": [{"name": n, "role": "train"} for n in ("north", "south")] + [{"name": "coast", "role": "validate"}],
    "radiomics": {"source": "table"},
}


def harmonised(rules: dict[str, Any] | None = None, **changes: Any) -> Study:
    return parse_study({**_PLAIN, "harmonisation": rules or {}, **changes})


class TestFingerprint:
    def test_a_study_that_does_not_harmonise_keeps_its_canonical_form(self):
        plain = parse_study(_PLAIN)
        assert "harmonisation" not in plain.canonical
        assert parse_study({**_PLAIN, "harmonisation": None}).fingerprint == plain.fingerprint

    def test_every_key_changes_it(self):
        changes: list[dict[str, Any]] = [
            {},
            {"empirical_bayes": False},
            {"mean_only": True},
            {"covariates": ["age"]},
            {"batch": "scanner"},
            {"reference": "north"},
            {"minimum": 20},
            {"small": "mean-only"},
            {"unseen": "none"},
        ]
        assert len({harmonised(c).fingerprint for c in changes} | {parse_study(_PLAIN).fingerprint}) == 10

    def test_the_canonical_form_is_the_study_again(self):
        study = harmonised({"covariates": ["age"], "reference": "south"})
        assert Study.model_validate_json(study.canonical) == study


class TestDescription:
    def test_a_study_without_one_keeps_its_canonical_form(self):
        plain = parse_study(_PLAIN)
        assert "describe" not in plain.canonical
        asked = parse_study({**_PLAIN, "evaluation": {"describe": True}})
        assert asked.fingerprint != plain.fingerprint
        assert parse_study({**_PLAIN, "evaluation": {"describe": False}}).fingerprint == plain.fingerprint
        assert Study.model_validate_json(asked.canonical) == asked

    def test_it_is_refused_under_differential_privacy(self):
        private = {
            "privacy": {"mode": "dp-sgd", "epsilon": 8},
            "training": {"preparation": "public", "start": "random"},
        }
        parse_study({**_PLAIN, **private})
        with pytest.raises(StudyInvalid, match="describe"):
            parse_study({**_PLAIN, **private, "evaluation": {"describe": True}})


class TestRules:
    @pytest.mark.parametrize(
        ("rules", "changes", "says"),
        [
            ({"covariates": ["weight"]}, {}, "weight"),
            ({"covariates": ["age", "age"]}, {}, "more than once"),
            ({"covariates": ["told"]}, {}, "endpoint"),
            ({"batch": "outcome"}, {}, "endpoint"),
            ({"reference": "coast"}, {}, "training sites"),
            ({"reference": "north", "batch": "scanner"}, {}, "remove `batch`"),
            ({"reference": "north"}, {"evaluation": {"leave_one_site_out": True}}, "leave_one_site_out"),
            ({"minimum": 1}, {}, "minimum"),
            ({"method": "combat"}, {}, "unknown key"),
            ({}, {"training": {"preparation": "public"}}, "preparation: federated"),
            (
                {},
                {"radiomics": {"source": "none"}, "sequences": [{"name": "t2w"}], "model": {"image": True}},
                "needs features",
            ),
            (
                {},
                {
                    "privacy": {"mode": "dp-sgd", "epsilon": 8},
                    "training": {"preparation": "public", "start": "random"},
                },
                "dp-sgd",
            ),
        ],
    )
    def test_what_cannot_be_is_refused_by_name(self, rules, changes, says):
        with pytest.raises(StudyInvalid, match=says):
            harmonised(rules, **changes)
