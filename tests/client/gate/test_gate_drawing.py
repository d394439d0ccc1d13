"""A drawing study at the gate: what may be asked in it, and how much of a Dice may leave."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.messages import OverlapReply, OverlapRequest, decode, encode
from fedloupe_client.gate import CellTooSmall, CohortTooSmall, NotInStudy, ReplyRefused, SplitRefused, approve
from sealing import open_site

HEADER = ("version", "fingerprint", "run", "site")


@pytest.fixture
def drawing(make_study, home):
    study = make_study(
        sequences=[{"name": "t2w"}],
        radiomics={"source": "none"},
        model={"image": True},
        evaluation={},
        segmentation={"field_mm": 64, "channels": [8, 16, 32]},
    )
    approve(home, study, by="officer")
    return study


@pytest.fixture
def ask_overlap(ask, drawing):
    def make(of=drawing, **changes):
        header = {name: getattr(ask("hello", of), name) for name in HEADER}
        body = {"label": "federated", "split": "test", "weights": np.zeros(5, np.float32)}
        return OverlapRequest(**{**header, **body, **changes})

    return make


@pytest.fixture
def drawn(ask_overlap):
    def make(request=None, **changes):
        header = {name: getattr(request or ask_overlap(), name) for name in HEADER}
        counts = np.array([1, 0, 0, 0, 0, 2, 0, 4, 5, 0], np.float64)
        body = {"label": "federated", "split": "test", "patients": 12, "mean": 0.7, "sd": 0.2, "by_dice": counts}
        return OverlapReply(**{**header, **body, **changes})

    return make


class TestAsked:
    def test_a_drawing_study_may_be_greeted_trained_and_drawn(self, gate, ask, ask_overlap, drawing):
        for request in (ask("hello", drawing), ask("train", drawing), ask_overlap()):
            assert gate.admit(encode(request))[1] == drawing

    @pytest.mark.parametrize("kind", ["describe", "sketch", "prepare", "newton", "evaluate"])
    def test_sums_and_scores_have_no_place_in_it(self, gate, ask, drawing, kind):
        with pytest.raises(NotInStudy):
            gate.admit(encode(ask(kind, drawing)))

    def test_another_study_is_never_asked_to_draw(self, gate, ask_overlap, study):
        with pytest.raises(NotInStudy):
            gate.admit(encode(ask_overlap(study)))

    def test_all_patients_are_drawn_where_a_site_only_validates_and_nowhere_else(
        self, gate, ask_overlap, home, drawing
    ):
        whole = ask_overlap(site="coast", split="all")
        coast = open_site(home, drawing, whole)
        coast.admit(encode(whole))
        with pytest.raises(SplitRefused):
            coast.admit(encode(ask_overlap(site="coast")))
        with pytest.raises(SplitRefused):
            gate.admit(encode(ask_overlap(split="all")))


class TestLeaving:
    def test_no_bin_of_dice_shows_fewer_than_the_smallest_cell(self, gate, ask_overlap, drawn):
        request = ask_overlap()
        reply = decode(gate.release(drawn(), request))
        assert reply.by_dice.sum() == pytest.approx(12)
        # 1 + 2 patients are three, spread over the six bins that were merged
        assert reply.by_dice.tolist() == pytest.approx([0.5] * 6 + [0, 4, 5, 0])

    def test_of_too_few_patients_nothing_leaves(self, gate, ask_overlap, drawn):
        counts = np.zeros(10)
        counts[7] = 2
        with pytest.raises(CellTooSmall):
            gate.release(drawn(patients=2, by_dice=counts), ask_overlap())

    @pytest.mark.parametrize("counts", [np.full(10, 1.2), np.arange(10.0), np.ones(12)])
    def test_a_histogram_that_does_not_count_the_patients_does_not_leave(self, gate, ask_overlap, drawn, counts):
        with pytest.raises(ReplyRefused):
            gate.release(drawn(by_dice=counts), ask_overlap())

    def test_weights_of_too_small_a_cohort_do_not_leave(self, gate, ask, trained, drawing):
        request = ask("train", drawing)
        with pytest.raises(CohortTooSmall):
            gate.release(trained(request, patients=19), request)
