"""What is changed at random while a model trains, and what stays as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from fedloupe.models import Inputs
from fedloupe.study import Study
from fedloupe_client.training.augmenting import SHIFT, augmenting, mild, strong


class TestMild:
    def test_each_patient_is_mirrored_or_not_and_scaled_whole(self):
        torch.manual_seed(0)
        mr, ct = torch.randn(40, 2, 3, 4, 5), torch.randn(40, 1, 3, 4, 5)
        rest = [torch.rand(40, 2) for _ in range(6)]
        batch = Inputs(rest[0], rest[1], rest[2], rest[3], mr, rest[4], ct, rest[5])
        changed = mild(batch)
        mirrored = 0
        for i in range(40):
            gains = set()
            for before, after in ((mr[i], changed.mr[i]), (ct[i], changed.ct[i])):
                gain = float(after.norm() / before.norm())
                same = torch.allclose(after, before * gain, atol=1e-4)
                turned = torch.allclose(after, before.flip(-1) * gain, atol=1e-4)
                assert same != turned
                gains.add((round(gain, 3), turned))
            assert len(gains) == 1  # MR and CT of one patient alike
            mirrored += next(iter(gains))[1]
        assert 8 <= mirrored <= 32
        for name in ("radiomics", "radiomics_present", "clinical", "clinical_present", "mr_present", "ct_present"):
            assert getattr(changed, name) is getattr(batch, name)


def images(patients: int = 12) -> Inputs:
    """T2w and ADC crops, the second absent in the first patient, and a CT."""
    torch.manual_seed(1)
    mr, present = torch.randn(patients, 2, 8, 8, 8), torch.ones(patients, 2)
    present[0, 1] = 0
    mr[0, 1] = 0
    flat = [torch.rand(patients, 3, 2), torch.ones(patients, 3), torch.rand(patients, 1), torch.ones(patients, 1)]
    return Inputs(*flat, mr, present, torch.randn(patients, 1, 8, 8, 8), torch.ones(patients, 1))


class TestStrong:
    def test_an_absent_volume_stays_absent_and_everything_else_changes(self):
        batch = images()
        changed = strong(batch)
        assert not changed.mr[0, 1].any() and changed.mr[0, 0].any()
        assert changed.mr.shape == batch.mr.shape and changed.ct.shape == batch.ct.shape
        assert (changed.mr[1:] != batch.mr[1:]).all()
        for name in ("radiomics", "radiomics_present", "clinical", "clinical_present", "mr_present", "ct_present"):
            assert getattr(changed, name) is getattr(batch, name)

    def test_volumes_have_scales_of_their_own_and_a_ct_keeps_its_own(self):
        """A constant volume c becomes g (a c + o) + noise; the mean over 512 voxels of noise 0.1 is below 0.02."""
        batch = images(200)
        batch = replace(batch, mr=torch.full_like(batch.mr, 2.0), mr_present=torch.ones(200, 2))
        batch = replace(batch, ct=torch.full_like(batch.ct, 2.0))
        changed = strong(batch)
        means = changed.mr.mean((-3, -2, -1))
        # gain a patient, gain a volume, offset: 2 sqrt(0.1^2 + 0.1^2) and 0.1
        assert 0.2 < float(means.std()) < 0.4
        assert 0.5 < float((means[:, 0] - means[:, 1]).std() / means.std()) < 1.5
        ratio = changed.ct.mean((-3, -2, -1))[:, 0] / 2
        assert 0.07 < float(ratio.std()) < 0.13  # the patient's gain of `mild` alone

    def test_crops_move_by_two_voxels_at_most_and_mr_and_ct_of_a_patient_alike(self):
        batch = images(60)
        point = torch.zeros(60, 1, 9, 9, 9)
        point[..., 4, 4, 4] = 100.0
        changed = strong(replace(batch, mr=point, mr_present=torch.ones(60, 1), ct=point.clone()))
        where = [[divmod(int(one.argmax()), 81) for one in part] for part in (changed.mr, changed.ct)]
        places = [[(z - 4, yx // 9 - 4, yx % 9 - 4) for z, yx in part] for part in where]
        assert places[0] == places[1]
        assert {abs(step) for place in places[0] for step in place} == set(range(SHIFT + 1))


class TestHiding:
    STUDY: ClassVar = {
        "study": "hiding",
        "title": "Synthetic",
        "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
        "aggregation": "plain",
        "sites": [{"name": "north", "role": "train"}],
        "quorum": {"minimum": 1},
        "sequences": [
            {"name": "t2w"},
            {"name": "adc", "required": False},
            {"name": "ct", "modality": "CT", "intensity": "hounsfield", "required": False},
        ],
        "radiomics": {"source": "none"},
    }
    GROUPS = ("t2w", "adc|rim_5mm", "ct")

    def disturbed(self, hide: float, patients: int = 400) -> tuple[Inputs, Inputs]:
        study = Study.model_validate({**self.STUDY, "training": {"hide": hide}})
        batch = images(patients)
        return batch, augmenting(study, self.GROUPS)(batch)

    def test_features_and_crop_of_an_optional_sequence_go_together(self):
        _, changed = self.disturbed(0.3)
        assert torch.equal(changed.radiomics_present[1:, 1], changed.mr_present[1:, 1])
        assert torch.equal(changed.radiomics_present[:, 2], changed.ct_present[:, 0])
        for values, present in (
            (changed.radiomics[:, 1], changed.radiomics_present[:, 1]),
            (changed.mr[:, 1], changed.mr_present[:, 1]),
            (changed.ct[:, 0], changed.ct_present[:, 0]),
        ):
            assert torch.equal(values.flatten(1).any(dim=1), present > 0)

    def test_it_happens_as_often_as_asked_and_of_each_sequence_for_itself(self):
        """400 patients: four standard errors of 0.3 are 0.09."""
        _, changed = self.disturbed(0.3)
        adc, ct = changed.mr_present[1:, 1] == 0, changed.ct_present[1:, 0] == 0
        assert abs(float(adc.float().mean()) - 0.3) < 0.09 and abs(float(ct.float().mean()) - 0.3) < 0.09
        assert abs(float((adc & ct).float().mean()) - 0.09) < 0.06

    def test_what_is_required_stays_and_the_batch_itself_too(self):
        batch, changed = self.disturbed(0.9)
        before = images(400)
        assert torch.equal(changed.radiomics[:, 0], batch.radiomics[:, 0]) and changed.mr_present[:, 0].all()
        assert all(torch.equal(a, b) for a, b in zip(batch.tensors, before.tensors, strict=True))

    def test_a_study_with_nothing_optional_is_refused(self):
        content = {**self.STUDY, "sequences": [{"name": "t2w"}], "training": {"hide": 0.2}}
        with pytest.raises(ValidationError, match="required: false"):
            Study.model_validate(content)
