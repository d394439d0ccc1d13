"""Architecture, folds, prediction and personalisation: what they may hold, and that studies without keep their form."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from fedloupe.study import Study, StudyInvalid, parse_study

_PLAIN: dict[str, Any] = {
    "study": "baselines-test",
    "title": "Baselines",
    "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
    "sites": [{"name": name, "role": "train"} for name in ("north", "south", "east")],
    "radiomics": {"source": "table"},
    "quorum": {"minimum": 1},
}
BEFORE = "a4f071cfb5af4623db334fe3c6c6fd91ff02ec53453661f3ee7228a4f7c164df"
"""Fingerprint of `_PLAIN` before these keys existed."""


class TestFingerprint:
    @pytest.mark.parametrize(
        "defaults",
        [
            {},
            {"model": {"architecture": "transformer"}},
            {"split": {"folds": None, "fold": 0}},
            {"prediction": None, "personalisation": None},
        ],
    )
    def test_a_study_without_them_keeps_its_canonical_form(self, defaults):
        assert parse_study({**_PLAIN, **defaults}).fingerprint == BEFORE

    def test_each_gives_another(self):
        changes = [
            {"model": {"architecture": "cnn"}},
            {"model": {"architecture": "gcn"}},
            {"split": {"folds": 5}},
            {"split": {"folds": 5, "fold": 1}},
            {"prediction": {}},
            {"prediction": {"calibration": "temperature"}},
            {"prediction": {"coverage": 0.8}},
            {"prediction": {"beyond": 0.05}},
            {"personalisation": {}},
            {"personalisation": {"method": "local-norm"}},
        ]
        studies = [parse_study({**_PLAIN, **change}) for change in changes]
        assert len({s.fingerprint for s in studies} | {BEFORE}) == 1 + len(changes)
        assert all(Study.model_validate_json(s.canonical) == s for s in studies)


class TestRules:
    PRIVATE: ClassVar = {
        "privacy": {"mode": "dp-sgd", "epsilon": 8},
        "training": {"preparation": "public", "start": "random"},
    }

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"model": {"architecture": "mamba"}}, "architecture"),
            ({"split": {"folds": 1}}, "folds"),
            ({"split": {"fold": 1}}, "`fold` is 1, with `folds` None"),
            ({"split": {"folds": 3, "fold": 3}}, "`fold` is 3, with `folds` 3"),
            ({"split": {"folds": 2, "tune": 0.4}}, "less than 10 %"),
            ({"prediction": {"coverage": 1}}, "coverage"),
            ({**PRIVATE, "prediction": {}}, "`prediction` is not fitted under"),
            ({**PRIVATE, "personalisation": {}}, "`personalisation` is not fitted under"),
        ],
    )
    def test_what_cannot_be_is_named(self, change, says):
        with pytest.raises(StudyInvalid, match=says):
            parse_study({**_PLAIN, **change})
