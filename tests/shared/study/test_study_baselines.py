"""The baselines that a study asks for, and that studies without them keep the fingerprint that hospitals approved."""

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


_AGE = [{"name": "age", "column": "age"}]


def asking(**evaluation: Any) -> Study:
    adding = {"aggregation": "plain"} if evaluation.get("trees") is not None else {}
    return parse_study({**_PLAIN, **adding, "clinical": _AGE, "evaluation": evaluation})


class TestFingerprint:
    def test_a_study_that_asks_for_none_keeps_its_canonical_form(self):
        """The digest is that of the version before these keys existed."""
        plain = parse_study(_PLAIN)
        assert plain.fingerprint == "a4f071cfb5af4623db334fe3c6c6fd91ff02ec53453661f3ee7228a4f7c164df"
        assert asking(l1_ratio=0, clinical_baseline=False, trees=None).fingerprint == asking().fingerprint

    def test_each_baseline_gives_another(self):
        studies = [asking(), asking(l1_ratio=0.5), asking(l1_ratio=1), asking(clinical_baseline=True)]
        studies += [asking(trees=plan) for plan in ({}, {"rounds": 9}, {"depth": 3}, {"grid": 8})]
        assert len({s.fingerprint for s in studies}) == len(studies)

    def test_the_canonical_form_is_the_study_again(self):
        study = asking(l1_ratio=0.5, clinical_baseline=True, trees={"rounds": 7})
        assert Study.model_validate_json(study.canonical) == study


class TestRules:
    PRIVATE: ClassVar = {
        "clinical": _AGE,
        "privacy": {"mode": "dp-sgd", "epsilon": 8},
        "training": {"preparation": "public", "start": "random"},
    }

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"evaluation": {"l1_ratio": 1.5}}, "l1_ratio"),
            ({"evaluation": {"l1_ratio": -1}}, "l1_ratio"),
            ({"evaluation": {"clinical_baseline": True}}, "needs `clinical`"),
            ({**PRIVATE, "evaluation": {"trees": {}}}, "trees.*dp-sgd"),
            ({"evaluation": {"trees": {"depth": 0}}}, "trees.depth"),
            ({"evaluation": {"trees": {"booster": "dart"}}}, "trees.booster.*unknown key"),
            (
                {
                    "radiomics": {"source": "none"},
                    "sequences": [{"name": "t2w"}],
                    "evaluation": {"trees": {}},
                },
                "needs features",
            ),
            ({**PRIVATE, "evaluation": {"clinical_baseline": True}}, "clinical_baseline.*dp-sgd"),
        ],
    )
    def test_what_cannot_be_is_refused(self, change, says):
        with pytest.raises(StudyInvalid, match=says):
            parse_study({**_PLAIN, **change})
