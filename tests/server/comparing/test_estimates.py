"""From scores to estimates and differences: which patients, which models, which weights; on scores made up here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedloupe.metrics import Repeated, delong, repeated_auc
from fedloupe_server.comparing import Comparison, Costs, Fit, Setting, SiteScores, compare, comparison_page
from fedloupe_server.comparing.tables import verdict

SETTING = Setting(
    study="made-up",
    title="Made-up scores",
    synthetic=True,
    fingerprint="0" * 64,
    version="0",
    kind="architectures",
    design="split",
    folds=None,
    seeds=(1, 2),
    groups=("transformer", "cnn"),
    reference="transformer",
    rounds=2,
    local_epochs=1,
)
SIZES = {"alpha": 40, "beta": 24, "omega": 30}


def labels(site: str) -> np.ndarray:
    return (np.arange(SIZES[site]) % 3 == 0).astype(np.int64)


def scores(site: str, group: str, seed: int, tested: np.ndarray, role: str) -> SiteScores:
    rng = np.random.default_rng([SIZES[site], seed, len(group)])
    names = ["federated", "pooled", "logistic", *(["local-alpha", "local-beta"] if role == "validate" else [])]
    names += [f"local-{site}"] if role == "train" else []
    found: dict[str, Any] = {}
    for name in names:
        found[name] = np.where(
            tested, np.clip(0.3 + 0.2 * labels(site) + 0.2 * rng.normal(size=SIZES[site]), 0, 1), np.nan
        )
    return SiteScores(role, labels(site), found)


def split(group: str, seed: int) -> Fit:
    sites = {}
    for site, size in SIZES.items():
        role = "validate" if site == "omega" else "train"
        tested = np.arange(size) % 2 == seed % 2 if role == "train" else np.ones(size, bool)
        sites[site] = scores(site, group, seed, tested, role)
    return Fit(group, seed, "", sites)


@pytest.fixture
def fits() -> list[Fit]:
    return [split(group, seed) for seed in (1, 2) for group in SETTING.groups]


def run(fits: list[Fit], **changes: Any) -> Comparison:
    return compare(SETTING.model_copy(update=changes), fits, {"transformer": 10, "cnn": 20})


class TestSplit:
    def test_inside_each_seed_tests_its_own_patients_and_sites_weigh_by_theirs(self, fits):
        found = run(fits).estimate("cnn", "federated", "internal")
        strata = [
            Repeated(labels(site), [f.sites[site].scores["federated"] for f in fits if f.group == "cnn"])
            for site in ("alpha", "beta")
        ]
        assert vars(repeated_auc(strata, [40, 24])).items() <= found.model_dump().items()
        assert (found.patients, found.sites) == (64, ("alpha", "beta"))

    def test_outside_the_local_models_are_the_mean_of_all_sites_own(self, fits):
        found = run(fits).estimate("cnn", "local", "omega")
        aucs = [
            delong(labels("omega"), f.sites["omega"].scores[f"local-{site}"]).auc
            for f in fits
            if f.group == "cnn"
            for site in ("alpha", "beta")
        ]
        assert found.auc == pytest.approx(np.mean(aucs))

    def test_baselines_come_once_from_the_reference(self, fits):
        logistic = [e for e in run(fits).estimates if e.regime == "baseline" and e.place == "omega"]
        assert [e.group for e in logistic] == ["logistic"]
        own = [f.sites["omega"].scores["logistic"] for f in fits if f.group == "transformer"]
        assert logistic[0].auc == pytest.approx(np.mean([delong(labels("omega"), row).auc for row in own]))

    def test_what_is_paired(self, fits):
        pairs = [(d.first, d.second, d.second_regime) for d in run(fits).differences if d.place == "omega"]
        assert pairs == [
            ("cnn", "transformer", "federated"),
            ("transformer", "transformer", "pooled"),
            ("transformer", "transformer", "local"),
            ("transformer", "logistic", "baseline"),
            ("cnn", "cnn", "pooled"),
            ("cnn", "cnn", "local"),
            ("cnn", "logistic", "baseline"),
        ]

    def test_a_baseline_is_paired_with_the_inputs_it_has(self, fits):
        pairs = [(d.first, d.second) for d in run(fits, kind="inputs").differences]
        assert ("cnn", "logistic") not in pairs and ("transformer", "logistic") in pairs


class TestFolds:
    def test_the_folds_of_a_seed_are_joined_inside_and_averaged_outside(self):
        fits = []
        for seed in (1, 2):
            for fold in (0, 1):
                one = split("transformer", seed)
                tested = np.arange(SIZES["alpha"]) % 2 == fold
                alpha = scores("alpha", "t" * (fold + 1), seed, tested, "train")
                omega = scores("omega", "o" * (fold + 1), seed, np.ones(SIZES["omega"], bool), "validate")
                fits.append(replace(one, part=f"fold-{fold}", sites={"alpha": alpha, "omega": omega}))
        found = run(fits, design="kfold", folds=2, groups=("transformer",))
        inside = found.estimate("transformer", "federated", "internal")
        joined = [
            np.where(
                np.isnan(a := fits[i].sites["alpha"].scores["federated"]),
                fits[i + 1].sites["alpha"].scores["federated"],
                a,
            )
            for i in (0, 2)
        ]
        assert inside.patients == SIZES["alpha"]
        assert inside.auc == pytest.approx(np.mean([delong(labels("alpha"), row).auc for row in joined]))
        outside = found.estimate("transformer", "federated", "omega")
        aucs = [delong(labels("omega"), f.sites["omega"].scores["federated"]).auc for f in fits]
        assert (outside.auc, outside.fits) == (pytest.approx(np.mean(aucs)), 2)


class TestGaps:
    def test_a_site_of_which_nothing_is_said_is_left_out_of_all_models_with_a_note(self, fits):
        silent = [replace(f, sites={**f.sites, "beta": SiteScores("train", labels("beta"), {})}) for f in fits]
        found = run(silent)
        assert {e.sites for e in found.estimates if e.place == "internal"} == {("alpha",)}
        assert [note for note in found.footnotes if note.startswith("beta")]

    def test_a_seed_with_one_outcome_is_no_crash(self, fits):
        one = fits[0].sites["omega"]
        rows = {name: np.where(one.labels == 1, row, np.nan) for name, row in one.scores.items()}
        fits[0] = replace(fits[0], sites={**fits[0].sites, "omega": replace(one, scores=rows)})
        found = run(fits)
        assert found.estimate("transformer", "federated", "omega") is None
        assert found.estimate("cnn", "federated", "omega") is not None
        assert any("one outcome" in note for note in found.footnotes)


class TestWords:
    def test_the_page_says_only_what_intervals_carry(self, fits):
        found = run(fits)
        page = comparison_page(found, {g: Costs(federated=1, local=2, pooled=3) for g in SETTING.groups})
        assert "SYNTHETIC" in page and "| cnn | 20 | 1 s | 2 s | 3 s |" in page
        first = found.differences[0]
        for low, high, word in ((0.01, 0.2, "higher"), (-0.2, -0.01, "lower"), (-0.1, 0.1, "not told apart")):
            assert verdict(first.model_copy(update={"low": low, "high": high})) == word

    def test_models_that_no_patient_parts_get_no_interval(self, fits):
        """An interval of no width would claim what eight patients cannot carry."""
        found = run(fits)
        none = found.differences[0].model_copy(update={"difference": 0.0, "se": 0.0, "low": 0.0, "high": 0.0, "p": 1.0})
        costs = {group: Costs(federated=1, local=2, pooled=3) for group in SETTING.groups}
        page = comparison_page(found.model_copy(update={"differences": (none,)}), costs)
        assert "| +0.000 | - | these patients ranked alike |" in page
