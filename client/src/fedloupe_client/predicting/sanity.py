"""Whether a map explains this model at all: with random weights it should change, and deleting by it should matter.

randomised = randomised_maps(study, schema, map_of)             # Adebayo 2018: another map without training
deleted = deletion(model, inputs, heat, seed=1)                 # Petsiuk 2018: the most important places first

The rules are fixed: the mean absolute rank correlation with the maps of `DRAWS` models with random weights is below
`ALIKE`; removing places in the map's order moves the logit sooner than every one of `ORDERS` random orders does; and it
moves it by `MATTERS` at least somewhere on the way, because an order can be right about next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.stats import rankdata

from fedloupe.models import Inputs, RadiomicsModel, Schema, build_model
from fedloupe.study import Study
from fedloupe_client.predicting.occlusion import blanked_logits, box, crop_edge, cube_corners, whole_logit

DRAWS = 4
ALIKE = 0.5
"""A quarter of the ranks' variance in common."""
ORDERS = 19
"""With random orders alone, ours would be first among 20 one time in 20."""
MATTERS = 0.1
"""Log-odds: 2.5 points where the probability is one half."""
STEPS = 9
BLOCK = 8
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Randomised:
    """Maps of the same architecture with random weights.

    Attributes:
        first: one of them, to be shown beside the model's own.
        correlations: Spearman's with the model's own map, one a draw; NaN where a map is flat.
        passed: their mean absolute value is below `ALIKE`.
    """

    first: Floats
    correlations: tuple[float, ...]
    passed: bool


@dataclass(frozen=True)
class Deletion:
    """The logit while places are made blank, one after another.

    Attributes:
        share: (S) of the blocks that are blank, 0 to 1.
        ordered: (S) logit, the most important places first.
        random: (S) mean logit over the random orders.
        area: between both curves, in log-odds: above 0 the map's order moves the logit sooner.
        sooner: share of the random orders whose own curve the map's beats.
        moved: how far the logit goes at most while the map's order is followed, in log-odds.
        passed: it beats all of them, and the images matter.
    """

    share: Floats
    ordered: Floats
    random: Floats
    area: float
    sooner: float
    moved: float
    passed: bool

    @property
    def matters(self) -> bool:
        """The images move the number enough for a map of them to be worth reading."""
        return self.moved >= MATTERS


def randomised_maps(
    study: Study, schema: Schema, own: Floats, map_of: Callable[[RadiomicsModel], Floats]
) -> Randomised:
    """The map of models that the study would begin with under other seeds.

    Args:
        study: whose architecture it is.
        schema: as for the model.
        own: (D, H, W) map of the trained model.
        map_of: makes the same kind of map of another model.
    """
    maps = []
    for draw in range(1, DRAWS + 1):
        other = study.model_copy(update={"seed": (study.seed + 7919 * draw) % 2**31})
        maps.append(map_of(build_model(other, schema).eval()))
    correlations = tuple(rank_correlation(own, one) for one in maps)
    known = [abs(value) for value in correlations if np.isfinite(value)]
    return Randomised(maps[0], correlations, bool(known) and float(np.mean(known)) < ALIKE)


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's, over all voxels; NaN where one map is flat."""
    ranks = [rankdata(one.ravel()) for one in (a, b)]
    if any(np.ptp(one) == 0 for one in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def deletion(model: RadiomicsModel, inputs: Inputs, heat: Floats, *, seed: int) -> Deletion:
    """Make blocks of the crop blank by the map's order and by random orders.

    Both begin at the whole logit and end with the whole crop blank; where that end lies higher, the most negative
    blocks come first, so that "sooner" means towards the end in either case.

    Args:
        model: not training.
        inputs: of one patient.
        heat: (D, H, W) map in the sense of `Occlusion.map`: above 0 speaks for the endpoint.
        seed: of the random orders.
    """
    size = crop_edge(inputs)
    edge = min(BLOCK, max(1, size // 2))
    blocks = [box(corner, edge, size) for corner in cube_corners(size, edge, edge)]
    begin = whole_logit(model, inputs)
    end = float(blanked_logits(model, inputs, [np.ones((size,) * 3, np.bool_)])[0])
    down = 1.0 if begin >= end else -1.0
    weight = np.array([down * heat[block].mean() for block in blocks])
    rng = np.random.default_rng(seed)
    orders = [np.argsort(-weight, kind="stable"), *(rng.permutation(len(blocks)) for _ in range(ORDERS))]
    cuts = np.unique(np.round(np.linspace(0, len(blocks), STEPS + 1)).astype(int))
    regions = [np.any([blocks[place] for place in order[:cut]], axis=0) for order in orders for cut in cuts[1:-1]]
    middle = blanked_logits(model, inputs, regions).reshape(len(orders), -1)
    ends = np.full((len(orders), 1), begin), np.full((len(orders), 1), end)
    curves = np.concatenate([ends[0], middle, ends[1]], axis=1)
    share = cuts / len(blocks)
    areas = down * trapezoid(curves, share, axis=1)
    beaten = float(np.mean(areas[1:] > areas[0]))
    random = curves[1:].mean(axis=0)
    moved = float(np.abs(curves[0] - begin).max())
    passed = beaten == 1.0 and moved >= MATTERS
    return Deletion(share, curves[0], random, float(areas[1:].mean() - areas[0]), beaten, moved, passed)
