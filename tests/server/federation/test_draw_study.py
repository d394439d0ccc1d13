"""A drawing study at the coordinator: rounds through the journal, freeze, Dice by site, the folder for hospitals."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedloupe.drawing import read_drawing
from fedloupe.messages import OverlapReply, OverlapRequest, TrainRequest
from fedloupe.models import build_unet, flatten
from fedloupe.study import Study
from fedloupe_server.federation import draw_study
from fedloupe_server.federation.conversation import QuorumNotMet, SiteRefused

CELL = "FL-512"


@pytest.fixture
def drawing(make_study) -> Study:
    return make_study(
        sequences=[{"name": "t2w"}],
        radiomics={"source": "none"},
        model={"image": True},
        segmentation={"field_mm": 16, "channels": [2, 4]},
        imaging={"spacing_mm": 1.0},
    )


def answering(hospitals: Any, instead: Callable[[Any], Any] = lambda request: ...) -> Any:
    """Hospitals that draw as well: the federated model with a Dice of 0.8, their own with 0.6."""

    def hook(request: Any) -> Any:
        if (other := instead(request)) is not ...:
            return other
        if not isinstance(request, OverlapRequest):
            return ...
        header = {k: getattr(request, k) for k in ("version", "fingerprint", "run", "site", "label", "split")}
        mean = 0.8 if request.label == "federated" else 0.6
        counts = np.eye(10)[int(10 * mean)] * 8
        return OverlapReply(**header, patients=8, mean=mean, sd=0.1, by_dice=counts)

    hospitals.hook = hook
    return hospitals


class TestRun:
    def test_the_folder_holds_the_last_rounds_model_and_every_sites_dice(self, drawing, hospitals, run_dir):
        card = draw_study(drawing, answering(hospitals), run_dir)
        model = read_drawing(run_dir / "drawing")
        assert model.card == card
        assert (card.fingerprint, card.sequences, card.segmentation) == (
            drawing.fingerprint,
            drawing.sequences,
            drawing.segmentation,
        )
        asked = hospitals.asked("overlap", label="federated")
        assert all((request.weights == model.weights).all() for request in asked)
        assert {r.site: r.split for r in asked} == {"north": "test", "south": "test", "east": "test", "coast": "all"}
        assert [(s.site, s.mean, s.own_mean) for s in card.sites] == [
            ("north", 0.8, 0.6),
            ("south", 0.8, 0.6),
            ("east", 0.8, 0.6),
            ("coast", 0.8, None),
        ]

    def test_rounds_are_the_patient_weighted_mean_of_the_sites(self, drawing, hospitals, run_dir):
        draw_study(drawing, answering(hospitals), run_dir)
        patients = np.array([30, 10, 20])
        expected = flatten(build_unet(drawing)).astype(float)
        for _ in range(3):
            expected = 0.5 * expected + (patients / patients.sum() * 0.01 * patients).sum()
        np.testing.assert_allclose(read_drawing(run_dir / "drawing").weights, expected, atol=1e-6)

    def test_equal_sites_give_what_one_of_them_gives(self, drawing, hospitals, run_dir):
        trained = np.full(len(flatten(build_unet(drawing))), 0.25, np.float32)

        def same(request: Any) -> Any:
            if isinstance(request, TrainRequest):
                return hospitals.answer(request).model_copy(update={"weights": trained})
            return ...

        draw_study(drawing, answering(hospitals, same), run_dir)
        np.testing.assert_allclose(read_drawing(run_dir / "drawing").weights, trained, rtol=1e-6)

    def test_nothing_is_asked_of_a_validate_only_site_before_the_freeze(self, drawing, hospitals, run_dir):
        draw_study(drawing, answering(hospitals), run_dir)
        kinds = [request.kind for request in hospitals.log if request.site == "coast"]
        assert kinds == ["hello", "open", "overlap"]
        first = next(i for i, request in enumerate(hospitals.log) if request.site == "coast")
        assert {"train"} == {r.kind for r in hospitals.log[first - 3 : first]}
        assert (
            json.loads((run_dir / "frozen.json").read_text())["frozen"] == read_drawing(run_dir / "drawing").card.model
        )


class TestTrouble:
    def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bytes(
        self, drawing, hospitals, new_hospitals, run_dir, tmp_path, stopped
    ):
        def kill(request: Any) -> Any:
            if isinstance(request, TrainRequest) and request.round == 3:
                raise stopped
            return ...

        with pytest.raises(stopped):
            draw_study(drawing, answering(hospitals, kill), run_dir)
        again = answering(new_hospitals())
        draw_study(drawing, again, run_dir)
        assert {request.round for request in again.asked("train", scope="federated")} == {3}
        draw_study(drawing, answering(new_hospitals()), tmp_path / "whole" / run_dir.name)
        for name in ("drawing.json", "model.safetensors"):
            whole = tmp_path / "whole" / run_dir.name / "drawing" / name
            assert (run_dir / "drawing" / name).read_bytes() == whole.read_bytes()

    def test_a_site_with_too_few_patients_is_named_and_the_others_are_shown(self, drawing, hospitals, run_dir):
        def few(request: Any) -> Any:
            if isinstance(request, OverlapRequest) and request.site == "south":
                return hospitals.failure(request, CELL, "too few patients in a group")
            return ...

        card = draw_study(drawing, answering(hospitals, few), run_dir)
        assert [s.site for s in card.sites] == ["north", "east", "coast"]
        assert card.unscored == {"south": f"{CELL} too few patients in a group"}

    def test_a_site_that_is_silent_about_its_dice_stops_the_run(self, drawing, hospitals, run_dir):
        silent = answering(hospitals, lambda r: None if isinstance(r, OverlapRequest) and r.site == "east" else ...)
        with pytest.raises(SiteRefused, match="east"):
            draw_study(drawing, silent, run_dir)
        assert not (run_dir / "drawing").exists()

    def test_the_quorum_holds(self, drawing, hospitals, run_dir):
        lost = answering(hospitals, lambda r: None if isinstance(r, TrainRequest) and r.site == "north" else ...)
        with pytest.raises(QuorumNotMet, match="north"):
            draw_study(drawing, lost, run_dir)
