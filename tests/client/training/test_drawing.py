"""A drawing study's local work: a U-Net learns a bright ball, the same work gives the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedloupe.messages import OverlapRequest
from fedloupe.models import build_unet, dice, flatten
from fedloupe.study import Study
from fedloupe_client.dataset import Cohort
from fedloupe_client.site.training import Bench
from fedloupe_client.training import drawing
from fedloupe_client.training.drawing import NoMasks, augment, dices, overlap, train_alone, train_round

EDGE, PATIENTS = 16, 24


@pytest.fixture
def make_drawing() -> Callable[..., Study]:
    def make(**training: Any) -> Study:
        content = {
            "study": "drawing-test",
            "title": "Synthetic balls",
            "synthetic": True,
            "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
            "sequences": [{"name": "t2w"}],
            "aggregation": "plain",
            "sites": [{"name": n, "role": "train"} for n in ("north", "south")],
            "imaging": {"spacing_mm": 2.0},
            "radiomics": {"source": "none"},
            "segmentation": {"field_mm": 32, "channels": [8, 16, 32]},
            "training": {"rounds": 6, "local_epochs": 5, "batch_size": 4, "learning_rate": 0.01, **training},
        }
        return Study.model_validate(content)

    return make


@pytest.fixture
def balls() -> Cohort:
    """Noise with one bright ball a patient, of radius 3 to 4 voxels, anywhere that it fits."""
    rng = np.random.default_rng(0)
    axes = np.stack(np.meshgrid(*[np.arange(EDGE)] * 3, indexing="ij"), axis=-1)
    masks = np.stack([((axes - rng.uniform(5, 10, 3)) ** 2).sum(-1) < rng.uniform(3, 4) ** 2 for _ in range(PATIENTS)])
    images = (rng.standard_normal(masks.shape) + 2.5 * masks)[:, None].astype(np.float32)
    none = np.zeros((PATIENTS, 0), np.float32)
    return Cohort(
        cases=tuple(f"c{i:02d}" for i in range(PATIENTS)),
        labels=np.tile([0, 1], PATIENTS // 2),
        split=np.array(["train"] * 14 + ["tune"] * 2 + ["test"] * 8),
        names=(),
        columns=(),
        features=none.astype(np.float64),
        clinical=none.astype(np.float64),
        mr=images,
        mr_present=np.ones((PATIENTS, 1), np.float32),
        ct=np.zeros((PATIENTS, 0, EDGE, EDGE, EDGE), np.float32),
        ct_present=none,
        reference=None,
        masks=masks.astype(np.uint8),
    )


def ask(study: Study, weights: np.ndarray, split: str = "test") -> OverlapRequest:
    header = {"version": "1", "fingerprint": study.fingerprint, "run": "r", "site": "north"}
    return OverlapRequest(**header, label="federated", split=split, weights=weights)


class _Fixed(torch.nn.Module):
    """A network that draws what it is told to."""

    def __init__(self, forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.forward = forward


class TestLearning:
    def test_rounds_learn_to_draw_a_ball_that_the_network_has_not_seen(self, make_drawing, balls):
        study = make_drawing()
        weights = flatten(build_unet(study))
        assert overlap(study, balls, ask(study, weights)).mean < 0.5
        losses = []
        for number in range(1, study.training.rounds + 1):
            trained = train_round(study, "north", balls, weights, number=number)
            weights, losses = trained.weights, [*losses, trained.loss]
        reply = overlap(study, balls, ask(study, weights))
        assert reply.mean > 0.8
        assert losses[-1] < losses[0]
        assert (reply.patients, reply.by_dice.sum()) == (8, 8)

    def test_the_same_round_gives_the_same_weights_and_another_site_others(self, make_drawing, balls):
        study = make_drawing(local_epochs=1)
        start = flatten(build_unet(study))
        one, again = (train_round(study, "north", balls, start, number=1).weights for _ in range(2))
        assert (one == again).all()
        assert (one != train_round(study, "south", balls, start, number=1).weights).any()

    def test_masks_of_other_splits_change_nothing(self, make_drawing, balls):
        study = make_drawing(local_epochs=1)
        start = flatten(build_unet(study))
        masks = balls.masks.copy()
        masks[balls.split != "train"] = 0
        changed = train_round(study, "north", replace(balls, masks=masks), start, number=1).weights
        assert (changed == train_round(study, "north", balls, start, number=1).weights).all()

    def test_a_strong_proximal_term_keeps_the_weights_near_the_rounds(self, make_drawing, balls):
        free = make_drawing(local_epochs=1)
        held = make_drawing(local_epochs=1, strategy="fedprox", proximal_mu=1000.0)
        start = flatten(build_unet(free))
        distance = [
            np.linalg.norm(train_round(s, "north", balls, start, number=1).weights - start) for s in (free, held)
        ]
        assert distance[1] < 0.5 * distance[0]

    def test_the_own_model_uses_the_whole_budget_of_rounds(self, make_drawing, balls):
        study = make_drawing(rounds=2, local_epochs=1)
        start = flatten(build_unet(study))
        assert train_alone(study, "north", balls, start).loss < train_round(study, "north", balls, start, number=1).loss

    def test_the_own_model_is_made_once_and_kept(self, make_drawing, balls, tmp_path, monkeypatch):
        study = make_drawing(rounds=1, local_epochs=1)
        start = flatten(build_unet(study))
        header = {"version": "1", "fingerprint": study.fingerprint, "run": "r", "site": "north"}
        whole = train_alone(study, "north", balls, start).weights.tobytes()
        assert Bench(tmp_path).alone(header, start, study, balls, None).tobytes() == whole
        monkeypatch.setattr(drawing, "train_alone", lambda *_, **__: pytest.fail("trained again"))
        assert Bench(tmp_path).alone(header, start, study, balls, None).tobytes() == whole


class TestOverlap:
    def test_nobody_to_draw_is_an_error(self, make_drawing, balls):
        study = make_drawing()
        with pytest.raises(NoMasks):
            overlap(study, replace(balls, split=np.full(PATIENTS, "train")), ask(study, flatten(build_unet(study))))

    def test_mean_and_deviation_are_those_of_the_dice_of_each_patient(self, make_drawing, balls):
        study = make_drawing()
        weights = flatten(build_unet(study))
        each = dices(study, balls, weights, balls.rows("test"))
        reply = overlap(study, balls, ask(study, weights))
        assert (reply.mean, reply.sd) == (pytest.approx(np.mean(each)), pytest.approx(np.std(each)))

    def test_only_the_largest_piece_counts_as_hospitals_will_get_it(self, make_drawing, balls, monkeypatch):
        def two_pieces(images: torch.Tensor) -> torch.Tensor:
            logits = torch.full_like(images, -9.0)
            logits[..., 0:2, 0:2, 0:2] = 9.0
            logits[..., 6:12, 6:12, 6:12] = 9.0
            return logits

        monkeypatch.setattr("fedloupe_client.training.drawing._model", lambda *_: _Fixed(two_pieces))
        masks = np.zeros_like(balls.masks)
        masks[:, 6:12, 6:12, 6:12] = 1
        study = make_drawing()
        found = dices(study, replace(balls, masks=masks), np.zeros(0), balls.rows("test"))
        assert (found == 1.0).all()

    def test_what_lies_beyond_the_image_is_not_drawn(self, make_drawing, balls, monkeypatch):
        everywhere = _Fixed(lambda images: torch.full_like(images, 9.0))
        monkeypatch.setattr("fedloupe_client.training.drawing._model", lambda *_: everywhere)
        images, masks = balls.mr.copy(), np.zeros_like(balls.masks)
        images[:, :, 10:], masks[:, :10] = 0, 1
        study, part = make_drawing(), replace(balls, mr=images, masks=masks)
        assert (dices(study, part, np.zeros(0), balls.rows("test")) == 1.0).all()

    def test_dice_of_known_masks(self):
        one, other = np.zeros((2, 4)), np.zeros((2, 4))
        one[0], other[:, :2] = 1, 1  # 4 voxels each, 2 in common
        assert dice(one, other) == 0.5
        assert dice(one, one) == 1.0
        assert dice(one, 1 - one) == 0.0
        assert dice(0 * one, 0 * one) == 1.0


class TestAugmentation:
    @pytest.fixture
    def bars(self) -> torch.Tensor:
        """The same bar in 32 patients, (32, 1, 24, 24, 24): off the middle in x alone, long in z."""
        bars = torch.zeros(32, 1, 24, 24, 24)
        bars[:, :, 6:18, 10:14, 15:19] = 1
        return bars

    def test_moves_image_and_mask_alike(self, bars):
        torch.manual_seed(0)
        images, masks = augment(bars.clone(), bars)
        gains = [float(image[mask > 0].median()) for image, mask in zip(images, masks, strict=True)]
        found = [dice(i > g / 2, m) for i, m, g in zip(images.numpy(), masks.numpy(), gains, strict=True)]
        assert min(found) > 0.9
        assert set(masks.unique().tolist()) == {0.0, 1.0}

    def test_keeps_a_tumour_about_where_and_as_large_as_it_was(self, bars):
        torch.manual_seed(0)
        masks = augment(bars.clone(), bars)[1].numpy()
        volumes = masks.sum((1, 2, 3, 4)) / float(bars[0].sum())
        assert volumes.min() > 1 / 1.15**3 - 0.1 and volumes.max() < 1 / 0.85**3 + 0.1
        centres = np.array([np.argwhere(mask[0]).mean(0) - 11.5 for mask in masks])
        assert np.abs(centres[:, :2]).max() < 4
        mirrored = centres[:, 2] < 0
        assert 4 < mirrored.sum() < 28
        np.testing.assert_allclose(np.abs(centres[:, 2]), 5, atol=2.5)
