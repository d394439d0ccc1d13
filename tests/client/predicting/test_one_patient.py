"""Range, attribution and neighbours of one patient, against closed forms and scikit-learn."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from fedloupe.models import build_model, range_vector, start_at_logistic
from fedloupe.models.inputs import Schema
from fedloupe_client.predicting import find_case, predict_case
from fedloupe_client.predicting.abstaining import judge_range
from fedloupe_client.predicting.attribution import attribution, intercept
from fedloupe_client.predicting.inputs import FrozenModel, Patient, read_patient
from fedloupe_client.predicting.neighbours import embed_cohort, nearest
from fedloupe_client.predicting.occlusion import whole_logit
from fedloupe_client.predicting.single import headline, percent, verdict_of


def patient_of(clinic, case: str) -> Patient:
    return read_patient(clinic.frozen, find_case(clinic.frozen, case))


def linear_only(frozen: FrozenModel) -> FrozenModel:
    """The same release with a model whose deep part is silent."""
    model = build_model(frozen.study, Schema.of(frozen.study, frozen.groups)).eval()
    beta = np.random.default_rng(2).standard_normal(1 + model.wide.weight.shape[1])
    return replace(frozen, model=start_at_logistic(model, beta))


class TestAttribution:
    def test_the_linear_parts_and_the_intercept_add_up_to_the_linear_path(self, clinic):
        frozen = linear_only(clinic.frozen)
        patient = patient_of(clinic, clinic.extreme(1))
        parts = attribution(frozen, patient)
        total = sum(part.linear for part in parts if part.linear is not None)
        assert total == pytest.approx(whole_logit(frozen.model, patient.inputs) - intercept(frozen), abs=1e-5)

    def test_a_linear_models_change_is_beta_times_the_deviation_from_the_training_mean(self, clinic):
        frozen = linear_only(clinic.frozen)
        patient = patient_of(clinic, clinic.extreme(1))
        beta, means = frozen.model.wide.weight[0].detach().numpy(), frozen.release.centre[8:]
        values = np.concatenate([patient.inputs.radiomics.flatten().numpy(), patient.inputs.clinical[0].numpy()])
        terms = beta * (values - means)
        parts = [part for part in attribution(frozen, patient) if part.kind != "image"]
        assert [p.name for p in parts] == [*frozen.groups, "age"]
        expected = [*terms[:-1].reshape(-1, 2).sum(axis=1), terms[-1]]
        np.testing.assert_allclose([part.change for part in parts], expected, atol=1e-4)

    def test_a_required_volume_is_made_blank_and_an_optional_one_marked_missing(self, clinic):
        patient = patient_of(clinic, clinic.extreme(1))
        t2w, adc = (part for part in attribution(clinic.frozen, patient) if part.kind == "image")
        assert (t2w.without, adc.without) == ("blank", "marked missing")
        whole = whole_logit(clinic.frozen.model, patient.inputs)
        mr, marks = patient.inputs.mr.clone(), patient.inputs.mr_present.clone()
        mr[0, 1], marks[0, 1] = 0, 0
        gone = whole_logit(clinic.frozen.model, replace(patient.inputs, mr=mr, mr_present=marks))
        assert adc.change == pytest.approx(whole - gone, abs=1e-5) and abs(adc.change) > 1e-3

    def test_what_a_patient_lacks_has_no_change(self, clinic):
        parts = attribution(clinic.frozen, patient_of(clinic, clinic.case("PAT-880003")))
        assert {(p.kind, p.name) for p in parts if not p.present} == {("radiomics", "adc"), ("image", "adc")}
        assert all((p.change is None) == (not p.present) for p in parts)


class TestNeighbours:
    def test_are_those_of_scikit_learn_with_the_releases_metric(self, clinic):
        case = clinic.extreme(1)
        patient = patient_of(clinic, case)
        embedded, frozen = clinic.embedded, clinic.frozen
        others = [row for row, one in enumerate(embedded.cases) if one != case]
        reference = NearestNeighbors(metric="mahalanobis", metric_params={"VI": frozen.release.precision})
        reference.fit(embedded.vectors[others])
        with torch.no_grad():
            vector = range_vector(frozen.model, patient.inputs).numpy()
        distance, index = reference.kneighbors(vector.astype(np.float64), 5)
        found = nearest(frozen, embedded, patient)
        assert [one.case for one in found] == [embedded.cases[others[i]] for i in index[0]]
        width = embedded.vectors.shape[1]
        np.testing.assert_allclose([one.distance for one in found], distance[0] / np.sqrt(width), rtol=1e-6)

    def test_leave_out_every_case_of_the_same_patient(self, clinic):
        patient = patient_of(clinic, clinic.extreme(1))
        first = nearest(clinic.frozen, clinic.embedded, patient)[0]
        owner = clinic.embedded.patients[clinic.embedded.cases.index(first.case)]
        twin = replace(patient, record=patient.record.model_copy(update={"patient": owner}))
        assert first.case not in [one.case for one in nearest(clinic.frozen, clinic.embedded, twin)]

    def test_say_outcome_split_and_the_released_models_probability(self, clinic):
        records = {record.case: record for record in clinic.frozen.store.ready}
        for one in nearest(clinic.frozen, clinic.embedded, patient_of(clinic, clinic.extreme(-1))):
            logit = whole_logit(clinic.frozen.model, patient_of(clinic, one.case).inputs)
            assert one.label == records[one.case].label
            assert one.probability == pytest.approx(clinic.frozen.release.probability(np.array([logit]))[0], abs=1e-5)
        assert Counter(clinic.embedded.split) == {"train": 14, "tune": 4, "test": 6}

    def test_the_kept_file_is_read_until_something_changes_and_made_anew_when_damaged(self, clinic, monkeypatch):
        path = clinic.home / "models" / "tiny-embedded.safetensors"
        again = embed_cohort(clinic.frozen)
        np.testing.assert_array_equal(again.vectors, clinic.embedded.vectors)
        before = path.read_bytes()
        path.write_bytes(b"damaged")
        assert embed_cohort(clinic.frozen).key == clinic.embedded.key
        assert path.read_bytes() == before
        assert path.stat().st_mode & 0o777 == 0o600
        other = replace(clinic.frozen, digest="0" * 64)
        assert embed_cohort(other).key != clinic.embedded.key
        assert embed_cohort(clinic.frozen).key == clinic.embedded.key

    def test_a_patients_use_is_the_weightiest_of_all_his_cases(self, clinic):
        embedded = replace(clinic.embedded, patients=("p", "q", "p"), split=("test", "tune", "train"))
        assert [embedded.use_of(patient) for patient in ("p", "q", "r")] == ["train", "tune", None]

    def test_data_of_the_run_are_told_from_others(self, clinic):
        path = clinic.home / "runs" / "run-7" / "data.sha256"
        assert clinic.embedded.same_data is None
        path.parent.mkdir(parents=True)
        path.write_text("0" * 64)
        try:
            assert embed_cohort(replace(clinic.frozen, digest="1" * 64)).same_data is False
            path.write_text("")  # a crash left it
            assert embed_cohort(replace(clinic.frozen, digest="2" * 64)).same_data is None
        finally:
            path.unlink()
            path.parent.rmdir()
            embed_cohort(clinic.frozen)


class TestTheTrainingRange:
    def test_a_patient_like_the_others_is_inside(self, clinic):
        found = judge_range(clinic.frozen, patient_of(clinic, clinic.extreme(1)))
        assert found.inside and found.reasons == ()
        assert found.distance <= found.limit

    def test_an_absurd_age_is_outside_and_named(self, clinic):
        found = judge_range(clinic.frozen, patient_of(clinic, clinic.case("PAT-880023")))
        assert not found.inside
        assert found.parts[0].name == "age" and found.parts[0].value == pytest.approx(500)
        assert "`age` 500, usual 6" in found.reasons[0]

    def test_a_parts_distance_is_that_of_its_marginal(self, clinic):
        patient = patient_of(clinic, clinic.extreme(1))
        age = next(p for p in judge_range(clinic.frozen, patient).parts if p.name == "age")
        mean, sd = age.usual
        assert age.distance == pytest.approx(abs(age.value - mean) / sd, rel=1e-6)

    def test_more_than_a_tenth_of_the_features_beyond_four_deviations_is_outside(self, clinic):
        patient = patient_of(clinic, clinic.extreme(1))
        scale, mean = clinic.frozen.release.scale, clinic.frozen.release.mean
        used = np.flatnonzero(scale > 0)
        few, many = used[: int(0.1 * len(used))], used[: int(0.1 * len(used)) + 1]
        for rows, inside in ((few, True), (many, False)):
            features = patient.cohort.features.copy()
            features[0] = mean + 3.99 * scale  # nobody's concern
            features[0, rows] = mean[rows] + 4.01 * scale[rows]
            cohort = replace(patient.cohort, features=features)
            found = judge_range(
                clinic.frozen, replace(patient, cohort=cohort)
            )  # inputs, and so the distance, as before
            assert found.clipped == pytest.approx(len(rows) / len(used))
            assert found.inside is inside

    def test_a_missing_required_volume_or_group_is_outside_and_an_optional_one_is_not(self, clinic):
        assert judge_range(clinic.frozen, patient_of(clinic, clinic.case("PAT-880003"))).inside
        patient = patient_of(clinic, clinic.extreme(1))
        gone = replace(patient.inputs, mr_present=torch.tensor([[0.0, 1.0]]))
        found = judge_range(clinic.frozen, replace(patient, inputs=gone))
        assert "volume `t2w` is missing" in found.reasons[0]
        place = clinic.frozen.groups.index("t2w")
        marks = patient.inputs.radiomics_present.clone()
        marks[0, place] = 0
        found = judge_range(clinic.frozen, replace(patient, inputs=replace(patient.inputs, radiomics_present=marks)))
        assert "every feature of `t2w` is missing" in found.reasons[0]


class TestTheVerdict:
    @pytest.mark.parametrize(
        ("inside", "no_event", "event", "verdict", "words"),
        [
            (True, False, True, "event", "Pcr: probability 83 %"),
            (True, True, False, "no event", "No pcr: probability of pcr 83 %"),
            (True, True, True, "undecided", "Undecided: pcr and no pcr are both possible"),
            (True, False, False, "neither", "Neither outcome fits: unlike any tuning patient"),
            (False, False, True, "outside", "Outside the range of the training patients: no prediction"),
        ],
    )
    def test_is_the_prediction_set_in_words(self, inside, no_event, event, verdict, words):
        assert verdict_of(inside, no_event, event) == verdict
        assert headline(verdict, "pcr", 0.83) == words

    def test_no_probability_is_called_certain(self):
        assert (percent(0.0), percent(0.5), percent(1.0)) == ("below 1 %", "50 %", "above 99 %")

    def test_the_number_is_the_calibrated_logit_and_the_set_the_releases(self, clinic):
        result = predict_case(clinic.frozen, clinic.embedded, find_case(clinic.frozen, clinic.extreme(1))).result
        line = clinic.frozen.release.line
        assert result.probability == pytest.approx(1 / (1 + np.exp(-(line[0] + line[1] * result.logit))))
        assert (result.verdict, result.allowed) == ("event", ("response",))
        assert result.responded == sum(one.label for one in result.neighbours)
        (one,) = result.maps
        assert one.kind == "occlusion" and one.cube_mm == 12
        assert one.deletion_ordered[0] == pytest.approx(result.logit, abs=1e-5)

    def test_a_new_patient_without_an_outcome_is_predicted_and_is_nobodys_neighbour(self, clinic):
        case = clinic.case("PAT-880024")
        result = predict_case(clinic.frozen, clinic.embedded, find_case(clinic.frozen, case)).result
        assert (result.outcome, result.used_for) == (None, "new")
        assert 0 < result.probability < 1 and result.verdict != "outside"
        assert len(clinic.embedded.cases) == 24 and case not in clinic.embedded.cases

    def test_the_same_case_gives_the_same_numbers(self, clinic):
        record = find_case(clinic.frozen, clinic.extreme(1))
        first, second = (predict_case(clinic.frozen, clinic.embedded, record).result for _ in range(2))
        assert first == second
