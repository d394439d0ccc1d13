"""Boosted trees as one array: what crosses the wire is a table of nodes, checked before anything reads it.

    values = on_grid(features, clinical, preparation, grid=16)       # (n, p + V)
    check_trees(trees, Limits(features=values.shape[1], depth=2, grid=16, trees=200))
    logits(trees, values)                                            # (n) log-odds of the endpoint

A node is a row of five float64: number of its tree, feature (-1: a leaf), threshold (of a leaf: its log-odds), and the
rows of its two children within the tree (-1 at a leaf). Left is `value < threshold`. Trees are numbered from 0 and
stand one after the other, each root first; a child stands below its parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.models.preparation import CLIP, Preparation, standardise

Trees = NDArray[np.float64]

TREE, FEATURE, VALUE, LEFT, RIGHT = range(5)
LARGEST = 100.0
"""No honest leaf comes near this log-odds."""
MANY = 2**31


class TreesInvalid(FedLoupeError):
    """An array is not a table of trees within the study's limits."""

    code = "FL-617"
    title = "boosted trees are not valid"


@dataclass(frozen=True)
class Limits:
    """What a study allows of trees.

    Attributes:
        features: columns that a node may ask; None where they are not known.
        depth: splits from root to leaf, at most.
        grid: thresholds are multiples of 1 / (2 grid), half-way between neighbours on the features' grid.
        trees: how many, at most.
    """

    features: int | None
    depth: int
    grid: int
    trees: int


def no_trees() -> Trees:
    """The model before its first tree: log-odds 0 for everybody."""
    return np.zeros((0, 5))


def count_trees(trees: NDArray[Any]) -> int:
    """How many trees a table holds."""
    return int(trees[-1, TREE]) + 1 if len(trees) else 0


def on_grid(
    features: NDArray[np.float64], clinical: NDArray[np.float64], preparation: Preparation, grid: int
) -> NDArray[np.float64]:
    """(n, p + V) standardised features and clinical values, clipped and rounded to multiples of 1 / grid.

    A threshold then lies half-way between two of these multiples, never at a patient's value. Missing values stand at
    their mean, zero, as in the logistic baselines.
    """
    scores = standardise(features, preparation.mean, preparation.scale)
    values = np.concatenate([scores, np.clip(np.nan_to_num(clinical, nan=0.0), -CLIP, CLIP)], axis=1)
    return np.asarray(np.rint(values * grid) / grid, dtype=np.float64)


def between_grid(thresholds: NDArray[np.float64], grid: int) -> NDArray[np.float64]:
    """The nearest multiples of 1 / (2 grid): where thresholds stand, each as the one float64 that both sides know."""
    return np.asarray(np.rint(thresholds * 2 * grid) / (2 * grid), dtype=np.float64)


def check_trees(trees: NDArray[Any], limits: Limits) -> None:
    """Accept exactly what the module's text describes, within these limits.

    Raises:
        TreesInvalid: saying what is wrong, with no value from the table.
    """
    if trees.dtype != np.float64 or trees.ndim != 2 or trees.shape[1] != 5 or not np.isfinite(trees).all():
        raise _invalid("not a finite float64 table of five columns")
    if len(trees) > limits.trees * (2 ** (limits.depth + 1) - 1):
        raise _invalid(f"{len(trees)} nodes, more than {limits.trees} trees of depth {limits.depth} have")
    if not len(trees):
        return
    whole = np.delete(trees, VALUE, axis=1)
    if (whole != np.rint(whole)).any() or (np.abs(whole) > MANY).any():
        raise _invalid("a node's tree, feature or child is not a whole number, or a huge one")
    numbers, values, inner = trees[:, TREE], trees[:, VALUE], trees[:, FEATURE] >= 0
    if numbers[0] != 0 or not np.isin(np.diff(numbers), (0, 1)).all() or count_trees(trees) > limits.trees:
        raise _invalid(f"trees are not numbered in order from 0, or are more than {limits.trees}")
    if (trees[~inner][:, [FEATURE, LEFT, RIGHT]] != -1).any():
        raise _invalid("a leaf has a child, or a feature below -1")
    if limits.features is not None and (trees[:, FEATURE] >= limits.features).any():
        raise _invalid(f"a node asks a feature beyond the {limits.features} that there are")
    if (np.abs(values[~inner]) > LARGEST).any():
        raise _invalid(f"a leaf's log-odds are beyond {LARGEST:g}")
    if (values[inner] != between_grid(values[inner], limits.grid)).any() or (np.abs(values[inner]) > CLIP).any():
        raise _invalid("a threshold lies off the features' grid")
    for start, stop in _bounds(trees):
        _check_shape(trees[start:stop], limits.depth)


def join(trees: Trees, grown: Sequence[tuple[Trees, float]]) -> Trees:
    """The trees with those that sites grew in one round, each leaf times its site's share (shares sum to 1).

    So the step of a round is the mean of the sites' steps, as FedAvg takes it of weights. With equal shares this is
    Flower's bagging (`FedXgbBagging`) with a learning rate divided by the number of sites.
    """
    parts, number = [trees], count_trees(trees)
    for new, share in grown:
        part = new.copy()
        part[:, TREE] += number
        part[new[:, FEATURE] < 0, VALUE] *= share
        parts.append(part)
        number += count_trees(new)
    return np.concatenate(parts)


def leaves(trees: Trees, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n, trees) the row of the leaf in which each patient ends.

    Args:
        trees: checked.
        values: (n, features) on the grid.
    """
    bounds = _bounds(trees)
    found = np.zeros((len(values), len(bounds)), dtype=np.int64)
    for number, (start, _) in enumerate(bounds):
        at = np.full(len(values), start)
        while (inner := trees[at, FEATURE] >= 0).any():
            rows, nodes = np.flatnonzero(inner), at[inner]
            asked = values[rows, trees[nodes, FEATURE].astype(np.int64)]
            side = np.where(asked < trees[nodes, VALUE], trees[nodes, LEFT], trees[nodes, RIGHT])
            at[rows] = start + side.astype(np.int64)
        found[:, number] = at
    return found


def logits(trees: Trees, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n) log-odds of the endpoint: the sum of the leaves in which a patient ends; arguments as in `leaves`."""
    return np.asarray(trees[leaves(trees, values), VALUE].sum(axis=1), dtype=np.float64)


def _bounds(trees: NDArray[Any]) -> list[tuple[int, int]]:
    """First row and the row after the last, a tree."""
    edges = [int(row) + 1 for row in np.flatnonzero(np.diff(trees[:, TREE]))]
    return list(zip([0, *edges], [*edges, len(trees)], strict=True)) if len(trees) else []


def _check_shape(tree: NDArray[Any], depth: int) -> None:
    """Every node but the root has one parent above it, and no leaf lies too deep: a tree, and finite to walk."""
    level = np.full(len(tree), -1)
    level[0] = 0
    for row in np.flatnonzero(tree[:, FEATURE] >= 0):
        for child in tree[row, [LEFT, RIGHT]].astype(np.int64):
            if not row < child < len(tree) or level[child] != -1:
                raise _invalid("a child stands above its parent, beyond its tree, or has two parents")
            level[child] = level[row] + 1
    if (level < 0).any() or level.max() > depth:
        raise _invalid(f"a node belongs to no parent, or is deeper than {depth}")


def _invalid(what: str) -> TreesInvalid:
    return TreesInvalid(what, remedy="run the same FedLoupe version everywhere")
