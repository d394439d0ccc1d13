"""The greedy choice among correlated features: in blocks and over sites it is that of the whole pooled matrix."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.messages import RedundancyReply
from fedloupe.quality import Verdict
from fedloupe_server.statistics import quality
from fedloupe_server.statistics.quality import AgreedQuality, Greedy, QualitySummary, blocks, without_redundant
from summed import added

HEADER = {"version": "0", "fingerprint": "0" * 64, "run": "test", "site": "north"}
LIMIT = 0.9


def reply(scores: np.ndarray, earlier: np.ndarray, block: np.ndarray) -> RedundancyReply:
    """A site's sums by definition; NaN: not present."""
    there, z = np.isfinite(scores).astype(float), np.nan_to_num(scores)
    rows = np.concatenate([earlier, block])
    sums = {"pairs": there[:, rows].T @ there[:, block], "product": z[:, rows].T @ z[:, block]}
    return RedundancyReply(**HEADER, patients=len(z), **sums, total=z[:, block].sum(axis=0))


@pytest.fixture
def table() -> np.ndarray:
    """(90, 40): eight groups of five features that share a source to an unlike degree; one is shifted, one rare."""
    rng = np.random.default_rng(4)
    sources, noise = np.repeat(rng.standard_normal((90, 8)), 5, axis=1), rng.standard_normal((90, 40))
    found = sources * rng.choice([-1, 1], 40) + rng.uniform(0.05, 0.8, 40) * noise + 0.1
    found[:, 7] += 2
    found[rng.random((90, 40)) < 0.02] = np.nan
    found[3:, 39] = np.nan
    return found


@pytest.fixture
def found() -> tuple[Verdict, ...]:
    icc = np.random.default_rng(5).uniform(0.75, 1, 40).round(2)  # with ties
    return tuple(
        Verdict(name=f"f{place}", patients=90, icc=value, why="unstable" if place == 2 else "")
        for place, value in enumerate(icc.tolist())
    )


def by_definition(table: np.ndarray, found: tuple[Verdict, ...]) -> tuple[list[int], dict[int, int]]:
    """Greedy over the full correlation matrix of all patients, missing values at the mean of the scores, 0."""
    matrix, together = np.corrcoef(np.nan_to_num(table).T), np.isfinite(table).astype(float)
    matrix = np.where(together.T @ together >= 10, np.abs(matrix), 0)
    kept: list[int] = []
    dropped: dict[int, int] = {}
    for place in sorted((p for p in range(40) if p != 2), key=lambda p: -found[p].icc):
        rivals = [k for k in kept if matrix[place, k] >= LIMIT]
        if rivals:
            dropped[place] = max(rivals, key=lambda k: matrix[place, k])
        else:
            kept.append(place)
    return kept, dropped


def run(parts: list[np.ndarray], found: tuple[Verdict, ...]) -> Greedy:
    greedy = Greedy(LIMIT)
    for block in blocks(found):
        greedy.judge(block, added([reply(part, greedy.earlier, block) for part in parts]))
    return greedy


class TestGreedy:
    @pytest.mark.parametrize("block", [1, 7, 256])
    def test_in_blocks_and_over_sites_it_is_that_of_the_whole_matrix(self, monkeypatch, table, found, block):
        monkeypatch.setattr(quality, "BLOCK", block)
        kept, dropped = by_definition(table, found)
        greedy = run([table[:20], table[20:55], table[55:]], found)
        assert greedy.kept == kept and len(dropped) > 5
        assert {place: like for place, (like, _) in greedy.dropped.items()} == dropped

    def test_the_correlation_is_the_pooled_one(self, table, found):
        matrix = np.corrcoef(np.nan_to_num(table).T)
        for place, (like, correlation) in run([table[:20], table[20:]], found).dropped.items():
            assert correlation == pytest.approx(matrix[place, like], abs=1e-10)

    def test_a_site_without_patients_changes_nothing(self, table, found):
        assert run([table, table[:0]], found).dropped == run([table], found).dropped

    def test_of_equals_the_more_repeatable_stays_and_of_ties_the_first_column(self):
        column = np.random.default_rng(0).standard_normal((30, 1))
        found = [Verdict(name=n, patients=30, icc=icc) for n, icc in (("a", 0.8), ("b", 0.9), ("c", 0.9))]
        greedy = run([np.repeat(column, 3, axis=1)], tuple(found))
        assert greedy.kept == [1]
        verdicts = without_redundant(found, greedy)
        assert [v.why for v in verdicts] == ["redundant", "", "redundant"]
        assert [v.like for v in verdicts] == ["b", None, "b"]

    def test_features_hardly_ever_seen_together_are_not_called_alike(self):
        column = np.random.default_rng(0).standard_normal((30, 1))
        table = np.repeat(column, 2, axis=1)
        table[9:, 1] = np.nan
        table[9:, 0] = 0  # present, at the mean
        found = tuple(Verdict(name=n, patients=30) for n in "ab")
        assert run([table], found).kept == [0, 1]
        table[9, 1] = table[9, 0]
        assert run([table], found).kept == [0]


class TestSummary:
    def test_it_counts_offered_stable_and_kept_by_filter_and_family(self):
        rows = [
            ("shape|volume_mesh", ""),
            ("t2w|original|glcm|contrast", ""),
            ("t2w|log_2mm|glcm|contrast", "redundant"),
            ("t2w|log_2mm|glcm|energy", "unstable"),
        ]
        features = tuple(Verdict(name=n, patients=12, icc=0.8, kinds={"pose": 0.8}, why=w) for n, w in rows)
        agreed = AgreedQuality(sites=("north",), patients=12, minimum_icc=0.75, redundancy=0.95, features=features)
        summary = QualitySummary.of(agreed)
        assert [(r.group, r.offered, r.stable, r.kept) for r in summary.by_filter] == [
            ("shape", 1, 1, 1),
            ("original", 1, 1, 1),
            ("log_2mm", 2, 1, 0),
        ]
        assert [(r.group, r.offered, r.stable, r.kept) for r in summary.by_family] == [
            ("shape", 1, 1, 1),
            ("glcm", 3, 2, 1),
        ]
        assert summary.reasons == {"redundant": 1, "unstable": 1}

    def test_the_digest_is_that_of_the_file_and_survives_reading_it(self):
        features = (Verdict(name="a", patients=12, icc=0.812345, low=-0.1, high=1.0, kinds={"pose": 0.8}),)
        agreed = AgreedQuality(sites=("n",), patients=12, minimum_icc=0.75, redundancy=None, features=features)
        again = AgreedQuality.model_validate_json(agreed.content)
        assert again.content == agreed.content and again.digest == agreed.digest
