"""The variants of a comparison: what each changes in the study, and what it must not."""

from __future__ import annotations

from typing import Any

import pytest

from fedloupe.study import Study, parse_study
from fedloupe_client.dataset import derivation
from fedloupe_server.simulation.demo import demo_study
from fedloupe_server.simulation.variants import NotCompared, Plan, PlanInvalid, design_of, plan_of, variants


def changed(study: Study, **changes: Any) -> Study:
    return parse_study({**study.model_dump(mode="json"), **changes})


class TestPlan:
    def test_seeds_are_counted_from_the_studys_own_or_named(self):
        study = demo_study(5)
        rest: dict[str, Any] = {"architectures": " transformer ,gcn", "design": None, "folds": 5, "modalities": False}
        assert plan_of(study, seeds="3", **rest).seeds == (5, 6, 7)
        assert plan_of(study, seeds="3,9", **rest).seeds == (3, 9)
        assert plan_of(study, seeds="7,", **rest).seeds == (7,)
        assert plan_of(study, seeds="3", **rest).architectures == ("transformer", "gcn")
        for wrong in ("", "0", "1.5", "a,b", "101"):
            with pytest.raises(PlanInvalid):
                plan_of(study, seeds=wrong, **rest)

    def test_the_design_follows_the_sites(self):
        study = demo_study(1)
        assert design_of(study, Plan()) == "split"
        inside = changed(study, sites=[{"name": name, "role": "train"} for name in study.train_sites])
        assert design_of(inside, Plan()) == "leave-one-site-out"
        sites = [{"name": n, "role": "train"} for n in ("north", "harbour")]
        two = changed(study, sites=sites, quorum={"minimum": 2}, aggregation="plain")
        with pytest.raises(PlanInvalid, match="no federation"):
            design_of(two, Plan())


class TestVariants:
    def test_seed_and_architecture_change_and_nothing_that_decides_derived_data(self):
        study = demo_study(1)
        found = variants(study, Plan(seeds=(1, 2), architectures=("gcn", "transformer")))
        assert [v.name for v in found] == ["transformer-seed-1", "gcn-seed-1", "transformer-seed-2", "gcn-seed-2"]
        for v in found:
            assert (v.study.seed, v.study.model.architecture, v.pooled) == (v.seed, v.group, True)
            assert derivation(v.study) == derivation(study)
            assert v.study.training == study.training

    @pytest.mark.parametrize("design", ["split", "leave-one-site-out"])
    def test_on_one_machine_nothing_is_hidden_and_own_models_are_judged_everywhere(self, design):
        study = changed(demo_study(1), evaluation={"reference_score": "true_probability"})
        assert (study.aggregation, study.evaluation.local_models) == ("secure", "home")
        found = variants(study, Plan(seeds=(1,), architectures=("transformer", "gcn"), design=design))
        how = {(v.study.aggregation, v.study.evaluation.local_models) for v in found}
        assert len(found) > 1 and how == {("plain", "everywhere")}

    def test_trees_are_grown_and_sites_described_no_oftener_than_needed(self):
        plan = {
            "trees": {"rounds": 3},
            "clinical_baseline": True,
            "describe": True,
            "reference_score": "true_probability",
        }
        study = changed(demo_study(1), evaluation=plan, prediction={}, personalisation={}, aggregation="plain")
        first, second = variants(study, Plan(seeds=(1,), architectures=("transformer", "cnn")))
        assert first.study.evaluation.trees and first.study.evaluation.clinical_baseline
        assert not (second.study.evaluation.trees or second.study.evaluation.clinical_baseline)
        assert not first.study.evaluation.describe
        assert first.study.prediction is None and first.study.personalisation is None

    def test_each_site_is_left_out_once_and_the_quorum_still_can_be_met(self):
        study = demo_study(1)
        found = variants(study, Plan(seeds=(1,), architectures=("transformer",), design="leave-one-site-out"))
        assert [v.part for v in found] == [f"without-{site}" for site in study.train_sites]
        for v, left in zip(found, study.train_sites, strict=True):
            assert v.study.role(left) == "validate"
            assert len(v.study.train_sites) == 4
            assert v.study.quorum.must == (() if left == "north" else ("north",))
            assert derivation(v.study) == derivation(study)

    def test_five_folds(self):
        found = variants(demo_study(1), Plan(seeds=(1,), architectures=("transformer",), design="kfold", folds=5))
        assert [(v.study.split.folds, v.study.split.fold) for v in found] == [(5, k) for k in range(5)]

    def test_sets_of_inputs_keep_of_the_harmonisation_what_they_can_use(self):
        """Without features there is nothing to harmonise; without clinical values there is no covariate."""
        study = changed(demo_study(1), harmonisation={"covariates": ["age"]}, quality=None)
        found = {v.group: v.study.harmonisation for v in variants(study, Plan((1,), modalities=True))}
        assert found["images"] is None and found["clinical"] is None
        assert found["radiomics"] is not None and found["radiomics"].covariates == ()
        assert all(found[name].covariates == ("age",) for name in ("MRI+CT", "MRI", "CT"))

    def test_modalities_restrict_the_inputs_and_keep_the_derived_data(self):
        study = changed(demo_study(1), quality=None)  # features are judged for all inputs together
        found = {v.group: v for v in variants(study, Plan(seeds=(1,), modalities=True))}
        assert list(found) == ["MRI+CT", "MRI", "CT", "radiomics", "images", "clinical"]
        assert set(found["CT"].study.model.inputs) == {"radiomics-ct", "image-ct", "clinical"}
        assert found["clinical"].study.model.inputs == ("clinical",)
        assert {derivation(v.study) for v in found.values()} == {derivation(study)}
        assert not any(v.pooled for v in found.values())

    def test_a_study_that_could_give_no_honest_answer(self):
        with pytest.raises(NotCompared, match="private"):
            variants(demo_study(1, epsilon=8.0), Plan())
        with pytest.raises(PlanInvalid, match="unknown"):
            variants(demo_study(1), Plan(architectures=("forest",)))
