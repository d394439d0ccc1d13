"""Record-level and client-level privacy are never confused, on the page, in the terminal or in what scripts read."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console
from tests.server.evidence.test_private_wording import chance

from fedloupe.study import CLIENT, RECORD
from fedloupe_server.evidence import Results, journey, noise, private, report, summary_json, tables, wording
from fedloupe_server.evidence.results import ClientAccount
from fedloupe_server.simulation.showing import result_table

Maker = Callable[..., Results]
SAW = {
    "plain": "Each hospital's weights and aggregates left it, and the coordinator saw them one by one.",
    "secure": "Weights and fitted statistics were added up securely: the coordinator saw sums over at least three "
    "hospitals, and each hospital's test results as its policy releases them.",
}
"""What the coordinator saw, as every page says it, private or not."""


def client(make_results: Maker, hospitals: int = 5, **changes: object) -> Results:
    """The same run under client-level privacy: no site has an epsilon, the coordinator has one."""
    account = ClientAccount(epsilon=7.4312, delta=1e-5, clip=0.5, noise_multiplier=2.7, hospitals=hospitals)
    results = make_results(
        private=True, privacy="client-dp, epsilon 8, delta 1e-05, clip 0.5", client_level=account, **changes
    )
    return results.model_copy(
        update={
            "sites": tuple(s.model_copy(update={"epsilon": None}) for s in results.sites),
            "rounds": tuple(
                r.model_copy(update={"epsilon": {}, "client_epsilon": 0.37 * r.round}) for r in results.rounds
            ),
        }
    )


def seen(results: Results) -> str:
    """The page as a reader sees it."""
    page = report.render(results, report.draw(results)).split("<body>")[1]
    page = re.sub(r"<(th|td|p|li|dd|dt|caption|h2|figcaption|text|title|desc)\b", r". <\1", page)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.:!?])\s+(?=[A-Z“])|\s\.\s", text) if s.strip()]


def terminal(results: Results) -> str:
    console = Console(file=io.StringIO(), width=400)
    console.print(result_table(results))
    return " ".join(console.file.getvalue().split())


class TestClientLevel:
    def test_the_page_names_unit_and_who_adds_the_noise(self, make_results: Maker) -> None:
        text = seen(client(make_results))
        assert "client-level (one hospital, noise added by the coordinator)" in text
        assert "Over this run's 20 rounds epsilon is 7.44 at delta 1e-05." in text
        assert "It does not protect against the coordinator" in text

    def test_no_sentence_promises_a_patient_anything_at_that_epsilon(self, make_results: Maker) -> None:
        """Whatever speaks of epsilon or of a guarantee does not speak of a patient, but to say what it is not."""
        spoken = re.compile(r"epsilon|ε|differential|guarantee|protect", re.IGNORECASE)
        found = [s for s in sentences(seen(client(make_results))) if spoken.search(s)]
        assert len(found) >= 5
        for sentence in found:
            if "patient" in sentence:
                assert re.search(r"\bnot\b|outside the account", sentence), sentence

    def test_nothing_said_of_its_privacy_speaks_of_a_patient_but_to_exclude_one(self, make_results: Maker) -> None:
        """Also where a sentence says `it` for epsilon."""
        said = sentences(" ".join([*private.told(client(make_results)), *private.limit(client(make_results))]))
        about = [sentence for sentence in said if "patient" in sentence]
        assert about
        for sentence in about:
            assert re.search(r"\bnot\b|outside the account|stayed at the hospitals|For a handful", sentence), sentence

    @pytest.mark.parametrize("aggregation", ["plain", "secure"])
    def test_no_sentence_says_that_the_coordinator_is_kept_from_seeing(
        self, make_results: Maker, aggregation: str
    ) -> None:
        """Beyond what secure sums keep from it: the one sentence about them, and no other."""
        said = [s for s in sentences(seen(client(make_results, aggregation=aggregation))) if "coordinator" in s]
        assert said.count(SAW[aggregation]) == 1
        for sentence in said:
            allowed = CLIENT in sentence or "not protect against the coordinator" in sentence
            assert allowed or sentence == SAW[aggregation], sentence

    @pytest.mark.parametrize(
        ("aggregation", "without"),
        [("plain", "each hospital's clipped update"), ("secure", "the sum of clipped updates")],
    )
    def test_what_the_coordinator_saw_without_noise_is_named(
        self, make_results: Maker, aggregation: str, without: str
    ) -> None:
        text = seen(client(make_results, aggregation=aggregation))
        assert f"It does not protect against the coordinator, who saw {without} without noise" in text

    def test_the_record_levels_words_do_not_stand_on_its_page(self, make_results: Maker) -> None:
        text = seen(client(make_results))
        for words in ("largest spent by a site", "site's ledger", "Epsilon spent", "Each hospital adds its own noise"):
            assert words not in text
        assert "Epsilon, record-level" not in text

    def test_what_the_account_leaves_out_is_said(self, make_results: Maker) -> None:
        text = " ".join([*wording.privacy(client(make_results)), *wording.limits(client(make_results))])
        for outside in ("numbers of patients", "threshold", "by name", "other runs with the same hospitals"):
            assert outside in text
        assert "outside the account" in text

    def test_the_figures_numbers_hold_it_in_a_column_of_its_own(self, make_results: Maker) -> None:
        figure = journey.rounds(client(make_results))
        assert figure is not None and "psilon" not in figure.svg
        rows = [dict(zip(figure.header, row, strict=True)) for row in figure.rows]
        assert {row["epsilon"] for row in rows} == {None}
        assert rows[-1]["client_epsilon"] == pytest.approx(7.4)

    def test_the_terminal_says_the_same(self, make_results: Maker) -> None:
        text = terminal(client(make_results))
        assert CLIENT in text and "no protection against the coordinator" in text
        assert "7.44" in text
        assert "epsilon" not in text.split("AUC; local")[0]  # no column of sites' epsilons

    def test_scripts_find_it_apart_from_the_sites_epsilon(self, make_results: Maker) -> None:
        said = summary_json(client(make_results))
        assert said["client_level"]["epsilon"] == 7.4312
        assert {row["epsilon"] for row in said["sites"]} == {None}

    def test_why_no_own_models_were_trained(self, make_results: Maker) -> None:
        text = " ".join(wording.benefit(client(make_results)))
        assert "would have left without noise" in text and "budget" not in text

    def test_provenance_has_level_and_noise(self, make_results: Maker) -> None:
        rows = dict(tables.provenance(client(make_results)).rows)
        assert rows["Privacy"].startswith(CLIENT) and rows["Noise multiplier, over the clipping bound"] == "2.7"


class TestRecordLevel:
    def test_its_page_speaks_of_one_patient_and_of_no_hospital_as_unit(self, make_results: Maker) -> None:
        text = seen(make_results(private=True))
        assert "record-level (one patient)" in text
        assert "client-level" not in text and "noise added by the coordinator" not in text

    def test_the_terminal_says_the_same(self, make_results: Maker) -> None:
        text = terminal(make_results(private=True))
        assert RECORD in text and "client-level" not in text
        assert "7.43" in text

    def test_without_privacy_neither_is_named(self, make_results: Maker) -> None:
        text = seen(make_results())
        assert "client-level" not in text and "record-level" not in text
        assert summary_json(make_results())["client_level"] is None


class TestTooFew:
    def test_five_hospitals_are_told_how_much_longer_the_noise_is(self, make_results: Maker) -> None:
        """2.7 sqrt(48321) = 593.5, over 5 hospitals 118.7."""
        text = seen(client(make_results))
        assert "5 hospitals are too few for client-level privacy with a model of 48,321 parameters" in text
        assert "the noise is 119 times as long as the longest step" in text
        assert "About 594 hospitals would make them equal" in text
        assert "the mode is `dp-sgd`, record-level (one patient)" in text
        assert "119 times" in terminal(client(make_results))

    def test_enough_hospitals_are_not(self, make_results: Maker) -> None:
        text = seen(client(make_results, hospitals=1000))
        assert "too few for client-level" not in text
        assert "the noise is 0.6 times as long" in text

    def test_the_limit_is_where_noise_and_longest_step_are_equal(self) -> None:
        assert private.too_few(2.0, 10_000, 199)
        assert private.too_few(2.0, 10_000, 200) is None


class TestTheFirstPage:
    def test_calls_a_model_that_nothing_tells_from_chance_destroyed_too(self, make_results: Maker) -> None:
        assert noise.destroyed(client(make_results)) == []
        (said,) = noise.destroyed(chance(client(make_results)))
        assert said.startswith("At epsilon 7.44 nothing shows") and "More hospitals, a smaller model" in said


class TestWhatTheCoordinatorSaw:
    @pytest.mark.parametrize("models", ["home", "everywhere"])
    def test_names_own_models_that_left_also_where_nobody_validates(self, make_results: Maker, models: str) -> None:
        results = make_results(external=False).model_copy(update={"aggregation": "secure", "local_models": models})
        assert ("own models left them in the clear" in private.stays(results)) == (models == "everywhere")
