"""The report's section on features: present where the study judged them, absent where it did not."""

from __future__ import annotations

from fedloupe.quality import Verdict
from fedloupe_server.evidence import tables, wording
from fedloupe_server.evidence.report import draw, render
from fedloupe_server.statistics.quality import AgreedQuality, QualitySummary

ROWS = [
    ("shape|volume_mesh", 0.99, ""),
    ("t2w|original|glcm|contrast", 0.9, ""),
    ("t2w|log_2mm|glcm|contrast", 0.8, "redundant"),
    ("t2w|log_2mm|glcm|energy", 0.2, "unstable"),
]


def summary(redundancy: float | None = 0.95) -> QualitySummary:
    features = tuple(Verdict(name=n, patients=40, icc=i, kinds={"pose": i}, why=w) for n, i, w in ROWS)
    sites = ("north", "south")
    return QualitySummary.of(
        AgreedQuality(sites=sites, patients=120, minimum_icc=0.75, redundancy=redundancy, features=features)
    )


def test_the_page_counts_offered_repeatable_and_kept(make_results):
    results = make_results(quality=summary())
    assert tables.quality(results.quality).rows == (
        ("Image: shape", "1", "1", "1", "0.99"),
        ("Image: original", "1", "1", "1", "0.90"),
        ("Image: log_2mm", "2", "1", "0", "0.50"),
        ("Family: shape", "1", "1", "1", "0.99"),
        ("Family: glcm", "3", "2", "1", "0.80"),
    )
    page = render(results, draw(results))
    assert "Features offered, repeatable and kept" in page and results.quality.digest[:12] in page


def test_the_words_say_the_rule_the_patients_and_the_reasons():
    text = " ".join(wording.quality(summary()))
    for part in (
        "Of 4 features, 2 entered",
        "at least 0.75",
        "below 0.95",
        "when 40 patients are perturbed",
        "120 training patients",
        "1 unstable",
    ):
        assert part in text
    assert "0.95" not in " ".join(wording.quality(summary(redundancy=None)))


def test_a_study_that_judged_nothing_has_no_such_section(make_results):
    results = make_results()
    assert "Features offered" not in render(results, draw(results))
