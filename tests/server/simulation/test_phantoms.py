"""The public preparation of the private demo: phantoms, fewer in a smaller demo, through all cores like a hospital."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.features import feature_table, parse_settings
from fedloupe_server.simulation import demo


@pytest.mark.parametrize(("scale", "count"), [(0.1, 24), (0.5, 32), (1.0, 64), (2.44, 64)])
def test_a_smaller_demo_has_fewer_phantoms_and_never_too_few(scale, count):
    (site,) = demo.phantoms(1, scale).sites
    assert site.patients == count
    assert demo.phantoms(1, scale).seed != demo.demo_cohort(1, scale).seed  # none of them is a patient


def test_phantoms_give_a_scaling_and_a_projection_and_say_how_far_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "FEWEST_PHANTOMS", 5)
    study = demo.demo_study(1, epsilon=8.0)
    told = []
    found = demo.public_preparation(study, tmp_path, tell=lambda *said: told.append(said), scale=0.01)
    columns = len(feature_table(parse_settings(study.radiomics.settings), [s.name for s in study.sequences]).names)
    assert found.origin == "public" and found.projection.shape == (columns, study.model.components)
    assert np.isfinite(found.mean).all() and (found.scale > 0).mean() > 0.9 and np.abs(found.projection).max() > 0
    assert told[-1] == ("phantom", "imaging and radiomics", 5, 5)
    assert {stage for _, stage, _, _ in told} >= {"generate", "imaging and radiomics"}
