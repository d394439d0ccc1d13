"""A site's tree of a round, grown by XGBoost on what the federation's trees leave unexplained.

grown, smallest = grow(study, "north", cohort, preparation, trees, number=3, cell=5)

XGBoost gets this site's patients and the trees' log-odds for them as base margin, which is what going on from a model
does, and reads no model from anywhere else. What it returns is written as a table of `fedloupe.models.trees`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fedloupe.models import Limits, Preparation, TreesInvalid, between_grid, check_trees, leaves, logits, on_grid
from fedloupe.study import Study, TreePlan
from fedloupe_client.dataset import Cohort

Floats = NDArray[np.float64]


def plan_of(study: Study) -> TreePlan:
    """The study's section `evaluation.trees`.

    Raises:
        TreesInvalid: it has none.
    """
    if study.evaluation.trees is None:
        raise TreesInvalid("the study grows no trees", where=study.study, remedy="ask the coordinator")
    return study.evaluation.trees


def limits(study: Study, features: int, *, trees: int | None = None) -> Limits:
    """What the study allows of trees; all of its rounds and sites together where `trees` is None."""
    plan = plan_of(study)
    most = plan.rounds * len(study.train_sites) if trees is None else trees
    return Limits(features=features, depth=plan.depth, grid=plan.grid, trees=most)


def grow(
    study: Study,
    site: str,
    cohort: Cohort,
    preparation: Preparation,
    trees: Floats,
    *,
    number: int,
    cell: int,
) -> tuple[Floats, int]:
    """One tree from the site's training patients.

    A patient's Hessian is p (1 - p) <= 1/4, so a leaf whose Hessians sum to `cell` / 4 holds at least `cell` patients:
    XGBoost's `min_child_weight` is never below that.

    Args:
        study: its section `evaluation.trees`, its seed.
        site: this site.
        cohort: its patients.
        preparation: agreed scaling.
        trees: the federation's so far.
        number: of the round, from 1.
        cell: smallest group of patients that may be described.

    Returns:
        (nodes, 5) the tree, and the number of patients in its smallest leaf.

    Raises:
        TreesInvalid: `trees` are not within the study's limits.
    """
    import xgboost

    plan = plan_of(study)
    rows = cohort.rows("train")
    values = on_grid(cohort.features[rows], cohort.clinical[rows], preparation, plan.grid)
    check_trees(trees, limits(study, values.shape[1]))
    text = f"{study.seed}|{site}|trees|{number}"
    patients = xgboost.DMatrix(
        values.astype(np.float32),
        label=cohort.labels[rows],
        base_margin=logits(trees, values).astype(np.float32),
        nthread=1,
    )
    settings: dict[str, Any] = {
        "objective": "binary:logistic",
        "base_score": 0.5,
        "tree_method": "exact",  # its thresholds lie half-way between values; the other methods' are values
        "max_depth": plan.depth,
        "eta": plan.eta,
        "lambda": plan.ridge,
        "colsample_bytree": plan.columns,
        "min_child_weight": max(plan.minimum_weight, cell / 4),
        "nthread": 1,
        "seed": int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1,
        "verbosity": 0,
    }
    booster = xgboost.train(settings, patients, num_boost_round=1)
    grown = from_xgboost(json.loads(bytes(booster.save_raw("json"))))
    inner = grown[:, 1] >= 0
    grown[inner, 2] = between_grid(grown[inner, 2], plan.grid)  # XGBoost keeps float32
    check_trees(grown, limits(study, values.shape[1], trees=1))
    sizes = np.unique(leaves(grown, values), return_counts=True)[1]
    return grown, int(sizes.min())


def tree_probabilities(
    study: Study, cohort: Cohort, preparation: Preparation, trees: Floats, rows: NDArray[np.int64]
) -> Floats:
    """(n) probability of the endpoint under these trees for the patients at `rows`; needs no XGBoost.

    Raises:
        TreesInvalid: the trees are not within the study's limits.
    """
    values = on_grid(cohort.features[rows], cohort.clinical[rows], preparation, plan_of(study).grid)
    check_trees(trees, limits(study, values.shape[1]))
    return np.asarray(expit(logits(trees, values)), dtype=np.float64)


def from_xgboost(model: dict[str, Any]) -> Floats:
    """(nodes, 5) the trees of an XGBoost model in its JSON format; nodes in the order of levels, from each root on."""
    rows: list[list[float]] = []
    for number, tree in enumerate(model["learner"]["gradient_booster"]["model"]["trees"]):
        left, right = tree["left_children"], tree["right_children"]
        order = [0]
        for node in order:
            if left[node] != -1:
                order += [left[node], right[node]]
        place = {node: row for row, node in enumerate(order)}
        for node in order:
            leaf = left[node] == -1
            feature = -1 if leaf else tree["split_indices"][node]
            children = (-1, -1) if leaf else (place[left[node]], place[right[node]])
            rows.append([number, feature, tree["split_conditions"][node], *children])
    return np.array(rows, dtype=np.float64)
