"""In a study that harmonises, a patient is shifted by the site's own shifts of the run before anything is computed."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedloupe.statistics.combat import Harmoniser
from fedloupe.statistics.shifts import Shift
from fedloupe.study import parse_study
from fedloupe_client.gate import approve
from fedloupe_client.harmonising import Harmonised
from fedloupe_client.predicting import embed_cohort, find_case, open_model
from fedloupe_client.predicting.inputs import read_patient
from fedloupe_client.predicting.problems import BatchUnharmonised


def shifts(release, batch: str) -> bytes:
    """Two standard deviations taken out of each feature of one batch."""
    p = len(release.mean)
    harmoniser = Harmoniser(
        release.mean, release.scale, np.zeros((p, 0)), np.zeros(p), (release.scale > 0).astype(float), np.zeros(0)
    )
    return Harmonised(harmoniser, {batch: Shift(np.full(p, 2.0), np.ones(p), None)}, 0).to_bytes()


@pytest.fixture
def opened(clinic, tmp_path):
    """The clinic under a study that harmonises, its shifts for a batch of this name."""

    def make(batch: str, named: bytes | None = None):
        home = Path(shutil.copytree(clinic.home, tmp_path / "home"))
        content = clinic.study.model_dump(mode="json") | {"harmonisation": {"covariates": []}}
        study = parse_study(content)
        approve(home, study, by="Dr Ito")
        release = replace(clinic.frozen.release, fingerprint=study.fingerprint)
        own = shifts(release, batch)
        kept = replace(release, shifts=hashlib.sha256(own if named is None else named).hexdigest())
        (home / "models" / "tiny.safetensors").write_bytes(kept.to_bytes())
        (home / "models" / "tiny-harmonisation.safetensors").write_bytes(own)
        return open_model(home, study)

    return make


class TestAHarmonisedPatient:
    def test_has_the_shift_taken_out_like_every_neighbour(self, clinic, opened):
        frozen, case = opened(""), clinic.extreme(1)
        measured = read_patient(clinic.frozen, find_case(clinic.frozen, case)).cohort.features[0]
        seen = read_patient(frozen, find_case(frozen, case))
        np.testing.assert_allclose(seen.cohort.features[0], measured - 2 * frozen.release.scale, rtol=1e-9, atol=1e-9)
        embedded = embed_cohort(frozen)
        row = embedded.cases.index(case)
        components = seen.inputs.radiomics[0].flatten().numpy()
        np.testing.assert_allclose(embedded.vectors[row][8 : 8 + len(components)], components, atol=1e-5)
        assert not np.allclose(embedded.vectors[row], clinic.embedded.vectors[row], atol=1e-2)

    def test_of_a_scanner_that_took_no_part_is_refused(self, clinic, opened):
        frozen = opened("another scanner")
        with pytest.raises(BatchUnharmonised, match="took no part"):
            read_patient(frozen, find_case(frozen, clinic.extreme(1)))
        assert embed_cohort(frozen).cases == ()  # nor are its other patients anybody's neighbours

    def test_under_another_runs_shifts_is_refused(self, opened):
        with pytest.raises(BatchUnharmonised, match="another run's"):
            opened("", named=b"shifts of another run")
