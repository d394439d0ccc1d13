"""Patient-level splits: seeded, stratified by label, blind to the order of cases."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedloupe.errors import FedLoupeError
from fedloupe.study import Study

SPLITS = ("train", "tune", "test")


class OneClass(FedLoupeError):
    """A split that needs both outcomes has one."""

    code = "FL-603"
    title = "too few patients of one outcome to train and test"


def split_cases(study: Study, site: str, cases: Sequence[str], labels: Sequence[int]) -> NDArray[np.str_]:
    """`train`, `tune` or `test` for each case of a training site; `test` for every case of a validate-only site.

    Within each label the cases are ordered by SHA-256 of seed, site and case, then cut by the study's fractions. Where
    an outcome is rare, testing comes first, then training, then tuning: with two events there is none to tune. With
    `folds` the cases are dealt in that order, and those of part `fold` test.

    Raises:
        OneClass: a training site with fewer than two patients of an outcome.
    """
    if study.role(site) == "validate":
        return np.full(len(cases), "test")
    split = np.full(len(cases), "train")
    for label in (0, 1):
        members = [i for i, value in enumerate(labels) if value == label]
        if len(members) < 2:
            raise OneClass(
                f"{len(members)} patients have outcome {label}; a training site needs two at least",
                where=site,
                remedy="check the label mapping; with so few events the site can only validate",
            )
        members.sort(key=lambda i: hashlib.sha256(f"{study.seed}|{site}|{cases[i]}".encode()).digest())
        tested = _tested(study, members)
        rest = [i for i in members if i not in tested]
        tunes = min(max(1, round(study.split.tune * len(members))), len(rest) - 1)
        split[tested] = "test"
        split[rest[: max(tunes, 0)]] = "tune"
    return split


def _tested(study: Study, members: list[int]) -> list[int]:
    if study.split.folds:
        return members[study.split.fold :: study.split.folds]
    return members[: min(max(1, round(study.split.test * len(members))), len(members) - 1)]
