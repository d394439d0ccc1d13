"""The pack's readable pages: what a study declares is repeated as declared, and nothing is made up beside it."""

from __future__ import annotations

import re

import pytest

from fedloupe.study import parse_study
from fedloupe_server.pack.lists import anchored, shown, slug
from fedloupe_server.pack.words import index, model_card, protocol
from fedloupe_server.simulation.demo import demo_study

HEADINGS = (
    "question", "eligibility", "outcome", "predictors", "sites", "split", "preprocessing", "features", "training",
    "privacy", "evaluation", "sample-size", "missing",
)  # fmt: skip


@pytest.fixture
def silent():
    """The demo's study without anything declared."""
    content = demo_study(1).model_dump(mode="json")
    content["evidence"] = {}
    return parse_study(content)


class TestProtocol:
    def test_has_every_heading_that_checklists_point_to(self):
        found = [
            slug(line.lstrip("# ")) for line in protocol(demo_study(1), 9813).splitlines() if line.startswith("## ")
        ]
        assert tuple(found) == HEADINGS

    def test_repeats_what_is_declared_as_declared(self):
        declared = demo_study(1).evidence.declared
        page = protocol(demo_study(1), 9813)
        for text in (
            declared.eligibility,
            declared.treatment,
            declared.setting,
            declared.accrual,
            declared.sample_size,
        ):
            assert text in page
        assert page.count("Declared by the study") >= 3

    def test_says_where_nothing_is_declared(self, silent):
        page = protocol(silent, 9813)
        assert "is for a person to say" in page and "not declared by the study" in page
        assert "nothing is declared" in page

    def test_maps_each_value_of_the_outcome(self):
        page = protocol(demo_study(1), 9813)
        assert re.search(r"\| near-complete \| event \|", page) and re.search(r"\| partial \| no event \|", page)

    def test_of_a_private_study_names_its_level(self):
        assert "record-level" in protocol(demo_study(1, epsilon=8.0), 9813)


class TestModelCard:
    def test_says_use_and_limits_and_that_nobody_is_treated_by_it(self, rich):
        page = model_card(rich, demo_study(1), files=True)
        assert "not a medical device" in page and "Not for decisions about patients" in page
        assert demo_study(1).evidence.declared.use in page
        assert all(limit in page for limit in ("Synthetic data", "## Limits", "## How to run"))

    def test_has_a_row_a_site(self, rich):
        page = model_card(rich, demo_study(1), files=True)
        assert all(f"| {site.site} | " in page for site in rich.sites)

    def test_without_model_files_says_so(self, rich):
        assert "this pack holds no model files" in model_card(rich, demo_study(1), files=False)


class TestIndex:
    def test_says_why_there_is_no_pdf(self, rich):
        page = index(rich, models=True, sealed=True, note="install Pango")
        assert "`report.pdf` is not there: install Pango" in page
        assert "same page" in index(rich, models=True, sealed=True, note=None)


class TestWhatIsShown:
    def test_nothing_is_shown_by_an_empty_folder(self, rich, tmp_path):
        assert shown(rich, demo_study(1), tmp_path) == {}

    def test_an_anchor_must_be_in_the_file(self, tmp_path):
        (tmp_path / "page.html").write_text('<section id="flow">')
        (tmp_path / "page.md").write_text("# Title\n\n## Sample size\n")
        assert anchored(tmp_path, "page.html#flow") and not anchored(tmp_path, "page.html#flo")
        assert anchored(tmp_path, "page.md#sample-size") and not anchored(tmp_path, "page.md#size")
        assert anchored(tmp_path, "page.md#") and not anchored(tmp_path, "other.md#")

    def test_of_a_run_without_training_sites_nothing_is_internal(self, rich, tmp_path):
        (tmp_path / "report.html").write_text('<section id="discrimination"><section id="splits">')
        apart = rich.model_copy(update={"sites": tuple(s for s in rich.sites if s.role == "validate")})
        assert {"internal", "splits"} <= set(shown(rich, demo_study(1), tmp_path))
        assert not {"internal", "splits"} & set(shown(apart, demo_study(1), tmp_path))

    def test_what_is_not_declared_is_not_shown(self, rich, silent, tmp_path):
        (tmp_path / "protocol.md").write_text(protocol(silent, 9813))
        without = set(shown(rich, silent, tmp_path))
        (tmp_path / "protocol.md").write_text(protocol(demo_study(1), 9813))
        gained = set(shown(rich, demo_study(1), tmp_path)) - without
        assert gained == {"eligibility", "treatment", "design", "setting", "source", "accrual", "size", "outcome"}
