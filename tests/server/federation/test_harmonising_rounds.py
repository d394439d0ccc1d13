"""ComBat's rounds at the coordinator: what it refuses, and what it takes from the journal."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.messages import DescribeReply, HarmoniseReply, PriorReply, ResidualsReply
from fedloupe.statistics import Moments, ring
from fedloupe.statistics.combat import Residuals, to_scores
from fedloupe_server.federation.conversation import Conversation, WrongAnswer
from fedloupe_server.federation.harmonising import (
    HarmonisationRefused,
    fit_harmoniser,
    harmoniser_digest,
    install_harmoniser,
)
from fedloupe_server.federation.journal import Journal, JournalDamaged
from fedloupe_server.statistics.scaling import SumsDiffer, pooled_moments

SITES = ("north", "south", "east")


@pytest.fixture
def study(make_study):
    return make_study(harmonisation={"empirical_bayes": True})


@pytest.fixture
def harmonising(hospitals):
    """The hospitals' tables, with honest answers to ComBat's rounds."""

    def answer(request):
        header = {k: getattr(request, k) for k in ("version", "fingerprint", "run", "site")}
        table = hospitals.table(request.site)
        match request.kind:
            case "residuals":
                scores, none = to_scores(table, request.centre, request.scale), np.zeros((len(table), 0))
                terms = Residuals.of(scores, none, np.zeros(len(table), np.int64), request.beta)
                return ResidualsReply(**header, **vars(terms))
            case "prior":
                return PriorReply(**header, sums=ring.encode(np.array([1.0, 0, 0, 0.1, 1.0, 1, 1, 0.1])))
            case "harmonise":
                return HarmoniseReply(**header, harmoniser="ab" * 32, batches=1, small=0)
        return ...

    hospitals.hook = answer
    return hospitals


def test_it_is_fitted_once_and_then_taken_from_the_journal(study, harmonising, run_dir):
    talk, journal = Conversation(study, harmonising, "trial"), Journal(run_dir)
    first = fit_harmoniser(study.harmonisation, talk, SITES, 6, journal)
    asked = len(harmonising.log)
    again = fit_harmoniser(study.harmonisation, talk, SITES, 6, journal)
    assert len(harmonising.log) == asked
    assert harmoniser_digest(first) == harmoniser_digest(again)
    tables = np.concatenate([harmonising.table(site) for site in SITES])
    np.testing.assert_allclose(first.centre, tables.mean(axis=0), rtol=1e-12)
    within = sum(len(t) * t.var(axis=0) for t in map(harmonising.table, SITES)) / len(tables)
    np.testing.assert_allclose(first.spread * first.scale, np.sqrt(within), rtol=1e-9)
    assert not harmonising.asked("crossproducts")
    assert first.prior.tolist() == pytest.approx([0, 0.1 * 4 / 2, 1, 0.1])


def test_a_file_of_other_features_is_damage(study, harmonising, run_dir):
    talk, journal = Conversation(study, harmonising, "trial"), Journal(run_dir)
    fit_harmoniser(study.harmonisation, talk, SITES, 6, journal)
    with pytest.raises(JournalDamaged, match="these features"):
        fit_harmoniser(study.harmonisation, talk, SITES, 5, journal)


def test_a_site_that_installs_something_else_stops_the_run(study, harmonising, run_dir):
    talk = Conversation(study, harmonising, "trial")
    harmoniser = fit_harmoniser(study.harmonisation, talk, SITES, 6, Journal(run_dir))
    with pytest.raises(HarmonisationRefused, match="north"):
        install_harmoniser(talk, ("north",), harmoniser, "train")


def test_sums_of_another_shape_are_no_answer(study, harmonising, run_dir):
    honest = harmonising.hook

    def short(request):
        reply = honest(request)
        if isinstance(reply, ResidualsReply) and request.site == "south":
            return reply.model_copy(update={"total": reply.total[:5]})
        return reply

    harmonising.hook = short
    with pytest.raises(WrongAnswer, match="south"):
        fit_harmoniser(study.harmonisation, Conversation(study, harmonising, "trial"), SITES, 6, Journal(run_dir))


def test_sums_of_another_number_of_features_are_refused():
    header = {"version": "0", "fingerprint": "0" * 64, "run": "test", "site": "all"}
    with pytest.raises(SumsDiffer, match=r"2 sums, 3 features \(test\)"):
        pooled_moments(DescribeReply(**header, **vars(Moments.of(np.ones((4, 2))))), 3)
