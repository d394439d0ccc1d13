"""Splits: by patient, stratified, seeded, blind to order, and sparing with rare outcomes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from fedloupe.study import Study
from fedloupe_client.dataset import OneClass, split_cases


def make(seed: int = 1, **split: float) -> Study:
    content: dict[str, Any] = {
        "study": "split-test",
        "title": "Synthetic study of the splits' tests",
        "endpoint": {"name": "r", "column": "r", "positive": ["1"], "negative": ["0"]},
        "aggregation": "plain",
        "sites": [{"name": n, "role": "train"} for n in ("north", "south")] + [{"name": "coast", "role": "validate"}],
        "radiomics": {"source": "table"},
        "seed": seed,
        "split": split,
    }
    return Study.model_validate(content)


def cohort(negatives: int, positives: int) -> tuple[list[str], list[int]]:
    labels = [0] * negatives + [1] * positives
    return [f"case-{i:04d}" for i in range(len(labels))], labels


def counts(split: np.ndarray, labels: list[int]) -> dict[int, Counter]:
    return {value: Counter(split[np.array(labels) == value].tolist()) for value in (0, 1)}


class TestCounts:
    def test_each_outcome_is_cut_by_the_studys_fractions(self):
        cases, labels = cohort(60, 20)
        split = split_cases(make(test=0.25, tune=0.15), "north", cases, labels)
        assert counts(split, labels) == {
            0: {"test": 15, "tune": 9, "train": 36},
            1: {"test": 5, "tune": 3, "train": 12},
        }

    @pytest.mark.parametrize(("positives", "expected"), [(2, (1, 0, 1)), (3, (1, 1, 1)), (4, (1, 1, 2))])
    def test_a_rare_outcome_is_tested_first_then_trained_then_tuned(self, positives, expected):
        cases, labels = cohort(30, positives)
        found = counts(split_cases(make(test=0.25, tune=0.15), "north", cases, labels), labels)[1]
        assert tuple(found[name] for name in ("test", "tune", "train")) == expected

    @pytest.mark.parametrize("test", [0.1, 0.25, 0.5, 0.8, 0.85])
    @pytest.mark.parametrize("size", range(2, 12))
    def test_both_outcomes_always_train_and_test(self, test, size):
        cases, labels = cohort(size, size + 1)
        for found in counts(split_cases(make(test=test, tune=0.04), "north", cases, labels), labels).values():
            assert found["train"] >= 1
            assert found["test"] >= 1

    def test_a_validate_only_site_tests_on_everyone_whatever_the_outcomes(self):
        for labels in ([0, 0, 1], [0, 0, 0], []):
            cases = [f"c{i}" for i in range(len(labels))]
            assert split_cases(make(), "coast", cases, labels).tolist() == ["test"] * len(labels)

    @pytest.mark.parametrize(("negatives", "positives"), [(20, 0), (20, 1), (1, 20), (0, 0)])
    def test_one_outcome_is_refused_and_counted(self, negatives, positives):
        with pytest.raises(OneClass, match=f"{min(negatives, positives)} patients.*north"):
            split_cases(make(), "north", *cohort(negatives, positives))


class TestFolds:
    def test_each_patient_tests_in_one_part_and_each_part_has_its_share_of_both_outcomes(self):
        cases, labels = cohort(33, 12)
        parts = [split_cases(make(folds=5, fold=k, tune=0.2), "north", cases, labels) for k in range(5)]
        assert (sum((part == "test").astype(int) for part in parts) == 1).all()
        for part in parts:
            found = counts(part, labels)
            assert found[0]["test"] in (6, 7) and found[1]["test"] in (2, 3)
            assert found[0]["tune"] == 7 and found[1]["tune"] == 2

    def test_a_part_without_a_patient_of_a_rare_outcome_tests_none_of_it(self):
        cases, labels = cohort(30, 2)
        found = counts(split_cases(make(folds=5, fold=4), "north", cases, labels), labels)[1]
        assert (found["test"], found["tune"], found["train"]) == (0, 1, 1)


class TestSeeds:
    def test_the_order_of_cases_does_not_matter(self):
        cases, labels = cohort(40, 25)
        split = dict(zip(cases, split_cases(make(), "north", cases, labels).tolist(), strict=True))
        order = np.random.default_rng(0).permutation(len(cases))
        shuffled = [cases[i] for i in order]
        again = split_cases(make(), "north", shuffled, [labels[i] for i in order])
        assert dict(zip(shuffled, again.tolist(), strict=True)) == split

    def test_seed_and_site_choose_the_patients(self):
        cases, labels = cohort(40, 25)
        splits = [
            split_cases(make(1), "north", cases, labels),
            split_cases(make(2), "north", cases, labels),
            split_cases(make(1), "south", cases, labels),
        ]
        assert len({tuple(s.tolist()) for s in splits}) == 3
        assert np.array_equal(splits[0], split_cases(make(1), "north", cases, labels))

    def test_a_new_patient_moves_only_as_many_as_the_fractions_ask(self):
        cases, labels = cohort(40, 40)
        before = split_cases(make(), "north", cases, labels)
        after = split_cases(make(), "north", [*cases, "late"], [*labels, 1])
        assert (before != after[:-1]).sum() <= 2
