"""The report says what it must, and does not say what it may not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedloupe_server.evidence import Results, Scores, formats, tables, wording

Maker = Callable[..., Results]


def with_aucs(results: Results, federated: list[float], local: list[float]) -> Results:
    """The same results with other AUCs at the training sites."""
    sites = list(results.sites)
    for number, (fed, own) in enumerate(zip(federated, local, strict=True)):
        site = sites[number]
        assert site.local
        sites[number] = site.model_copy(
            update={
                "federated": site.federated.model_copy(update={"auc": fed}),
                "local": site.local.model_copy(update={"auc": own, "auc_low": own - 0.1, "auc_high": own + 0.1}),
            }
        )
    return results.model_copy(update={"sites": tuple(sites)})


class TestBenefit:
    def test_a_federation_that_beats_everyone_is_said_to(self, make_results: Maker) -> None:
        text = " ".join(wording.benefit(with_aucs(make_results(), [0.8] * 5, [0.6] * 5)))
        assert "At 5 of 5 training sites the federated model has a higher AUC" in text
        assert "median difference +0.20" in text
        assert "did not beat the own model of north" not in text

    def test_each_site_where_it_does_not_is_named_with_both_numbers(self, make_results: Maker) -> None:
        text = " ".join(
            wording.benefit(with_aucs(make_results(), [0.8, 0.7, 0.8, 0.6, 0.8], [0.6, 0.75, 0.6, 0.71, 0.6]))
        )
        assert "At 3 of 5 training sites" in text
        assert "did not beat the own model of east (0.70 against 0.75) and west (0.60 against 0.71)." in text

    def test_a_difference_that_nobody_can_see_is_no_gain(self, make_results: Maker) -> None:
        text = " ".join(wording.benefit(with_aucs(make_results(), [0.8] * 4 + [0.8034], [0.6] * 4 + [0.7981])))
        assert "At 4 of 5" in text
        assert "At harbour the two are equal to two decimals." in text

    def test_overlap_with_the_own_models_interval_is_admitted(self, make_results: Maker) -> None:
        text = " ".join(wording.benefit(with_aucs(make_results(), [0.8] * 5, [0.75, 0.6, 0.6, 0.6, 0.6])))
        assert "At 1 of 5 the federated AUC lies within the own model's 95 % interval" in text

    def test_own_models_that_win_at_the_external_site_are_named(self, make_results: Maker) -> None:
        results = make_results()
        lakeside = results.sites[-1]
        better = tuple(
            o.model_copy(update={"auc": 0.95}) if o.label == "local-south" else o for o in lakeside.local_elsewhere
        )
        changed = lakeside.model_copy(update={"local_elsewhere": better})
        text = " ".join(wording.benefit(results.model_copy(update={"sites": (*results.sites[:-1], changed)})))
        assert "At lakeside it is above 4 of the 5 own models" in text
        assert "There it did not beat the own model of south." in text

    def test_without_own_models_no_benefit_is_claimed(self, make_results: Maker) -> None:
        text = " ".join(wording.benefit(make_results(private=True)))
        assert text.startswith("Not shown.")
        assert "privacy budget" in text

    def test_a_logistic_baseline_that_does_as_well_is_admitted(self, make_results: Maker) -> None:
        results = make_results()
        sites = tuple(s.model_copy(update={"logistic": s.federated}) for s in results.sites)
        text = " ".join(wording.benefit(results.model_copy(update={"sites": sites})))
        assert "does as well or better at 6 of 6 sites" in text


class TestPrivacy:
    def test_without_dp_there_is_no_formal_guarantee(self, make_results: Maker) -> None:
        assert "No formal privacy guarantee" in " ".join(wording.privacy(make_results()))
        assert "No formal privacy guarantee" in " ".join(wording.limits(make_results()))

    def test_with_dp_every_training_sites_epsilon_is_given_rounded_up(self, make_results: Maker) -> None:
        text = " ".join(wording.privacy(make_results(private=True)))
        assert "No formal privacy guarantee" not in text
        assert "north 7.44, east 7.54, south 7.64, west 7.74 and harbour 7.84" in text  # 7.4312, 7.5312, ...

    def test_with_dp_the_gap_in_the_account_is_told(self, make_results: Maker) -> None:
        for sentences in (wording.privacy(make_results(private=True)), wording.limits(make_results(private=True))):
            assert "held-out patients" in " ".join(sentences)
            assert "outside the account" in " ".join(sentences)


class TestFindings:
    def test_the_external_site_stands_apart_from_the_pooled_figure(self, make_results: Maker) -> None:
        pooled, lakeside, *_ = wording.found(make_results())
        assert "pooled AUC" in pooled and "lakeside" not in pooled
        assert lakeside.startswith("At lakeside, which never trained")

    def test_without_an_external_site_that_is_said(self, make_results: Maker) -> None:
        assert "No external site took part" in " ".join(wording.found(make_results(external=False)))
        assert "all results are internal" in " ".join(wording.limits(make_results(external=False)))

    def test_the_best_possible_auc_is_told_for_synthetic_patients_only(self, make_results: Maker) -> None:
        assert "best possible AUC is known: 0.94." in " ".join(wording.found(make_results()))
        assert "best possible" not in " ".join(wording.found(make_results(synthetic=False)))

    def test_an_external_interval_that_reaches_chance_is_said_to(self, make_results: Maker) -> None:
        results = make_results()
        weak = results.sites[-1].federated.model_copy(update={"auc_low": 0.48})
        sites = (*results.sites[:-1], results.sites[-1].model_copy(update={"federated": weak}))
        assert "This interval includes chance." in wording.found(results.model_copy(update={"sites": sites}))[1]
        assert "chance" not in " ".join(wording.found(results))

    def test_leave_one_site_out_is_reported_when_it_was_done(self, make_results: Maker) -> None:
        assert "Leaving each training site out" in " ".join(wording.found(make_results(left_out=True)))
        assert "Leaving each training site out" not in " ".join(wording.found(make_results()))


class TestCertainty:
    def test_a_prediction_interval_that_reaches_chance_is_said_to(self, make_results: Maker) -> None:
        results = make_results()
        assert results.pooled
        clear, wide = (results.pooled.model_copy(update={"prediction_low": low}) for low in (0.55, 0.45))
        assert "no better than chance" not in " ".join(wording.certainty(results.model_copy(update={"pooled": clear})))
        assert "no better than chance" in " ".join(wording.certainty(results.model_copy(update={"pooled": wide})))

    def test_two_sites_predict_nothing(self, make_results: Maker) -> None:
        results = make_results()
        assert results.pooled
        two = results.pooled.model_copy(update={"sites": 2, "prediction_low": None, "prediction_high": None})
        assert "three are needed" in " ".join(wording.certainty(results.model_copy(update={"pooled": two})))

    def test_without_pooling_nothing_is_summarised(self, make_results: Maker) -> None:
        assert "not pooled" in " ".join(wording.certainty(make_results(pooled=None)))


class TestThreshold:
    def test_its_origin_and_freeze_are_told(self, make_results: Maker) -> None:
        text = wording.threshold_origin(make_results())
        assert "reaches 0.45" in text and "tune splits" in text and "before any validate-only site" in text
        assert "validate-only" not in wording.threshold_origin(make_results(external=False))

    def test_training_sites_without_a_say_are_named(self, make_results: Maker) -> None:
        heard = ("north", "south", "harbour")
        assert "Too few tuning patients to take part in it: east and west." in wording.threshold_origin(
            make_results(threshold_sites=heard)
        )
        every = (*heard, "east", "west")
        assert "Too few" not in wording.threshold_origin(make_results(threshold_sites=every))


class TestLimits:
    def test_synthetic_patients_are_no_evidence(self, make_results: Maker) -> None:
        assert "synthetic" in " ".join(wording.limits(make_results()))
        assert "synthetic" not in " ".join(wording.limits(make_results(synthetic=False)))

    def test_small_sites_are_counted(self, make_results: Maker, make_scores: Callable[..., Scores]) -> None:
        assert "6 of 6 sites have fewer than 100" in " ".join(wording.limits(make_results()))
        results = make_results()
        large = make_scores("federated", "all", 500, 1.3, 1, None)
        sites = (*results.sites[:-1], results.sites[-1].model_copy(update={"federated": large}))
        assert "5 of 6 sites" in " ".join(wording.limits(results.model_copy(update={"sites": sites})))

    def test_probabilities_are_said_to_be_as_shipped(self, make_results: Maker) -> None:
        assert "not recalibrated" in " ".join(wording.limits(make_results()))

    def test_cases_left_out_are_listed_by_code(self, make_results: Maker) -> None:
        expected = "Cases left out, by error code: east 2 × FL-205 and 1 × FL-209; lakeside 1 × FL-207."
        assert wording.excluded(make_results()) == expected


class TestFormats:
    @pytest.mark.parametrize(
        ("value", "shown"), [(0.8349, "0.83"), (0.996, ">0.99"), (1.0, "1.00"), (0.5, "0.50"), (None, "–")]
    )
    def test_an_auc_has_two_decimals_and_never_rounds_up_to_perfect(self, value: float | None, shown: str) -> None:
        assert formats.auc(value) == shown

    @pytest.mark.parametrize(("value", "shown"), [(7.431, "7.44"), (8.0, "8"), (7.9999, "8"), (0.001, "0.01")])
    def test_epsilon_is_never_shown_below_what_was_spent(self, value: float, shown: str) -> None:
        assert formats.epsilon(value) == shown

    def test_differences_carry_a_sign(self) -> None:
        assert [formats.difference(v) for v in (0.061, -0.034, 0.001, -0.001)] == ["+0.06", "−0.03", "0.00", "0.00"]


class TestDrawnMasks:
    DIGEST = "ab12" * 16

    def drawn(self, results: Results) -> Results:
        """North had no mask for seven patients."""
        north = results.sites[0].model_copy(update={"drawn": 7, "drawn_by": self.DIGEST})
        return results.model_copy(update={"sites": (north, *results.sites[1:])})

    def test_are_a_limit_that_names_site_count_and_model(self, make_results: Maker) -> None:
        text = " ".join(wording.limits(self.drawn(make_results())))
        assert "Masks of 7 patients at north were drawn by model ab12ab12ab12" in text
        assert "drawn by model" not in " ".join(wording.limits(make_results()))

    def test_have_a_column_only_where_there_are_any_and_the_whole_digest_in_provenance(
        self, make_results: Maker
    ) -> None:
        table = tables.sites(self.drawn(make_results()))
        column = table.header.index("Masks drawn by a model")
        assert [row[column] for row in table.rows][:2] == ["7 (ab12ab12ab12)", formats.ABSENT]
        assert "Masks drawn by a model" not in tables.sites(make_results()).header
        assert ("Model that drew masks at north", self.DIGEST) in tables.provenance(self.drawn(make_results())).rows
