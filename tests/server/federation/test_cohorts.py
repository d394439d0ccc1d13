"""Asking who the patients are: one exchange, only with `evidence`; a site with few patients is not there."""

from __future__ import annotations

import pytest

from fedloupe.assessing import Described
from fedloupe.messages import CohortReply, CohortRequest, Failure
from fedloupe.study import DpSgd, Evidence
from fedloupe_server.federation.cohorts import cohort_tables
from fedloupe_server.federation.conversation import Conversation, SiteRefused

SITES = ("north", "south", "coast")


@pytest.fixture
def declared(make_study):
    return make_study().model_copy(update={"evidence": Evidence()})


@pytest.fixture
def telling(hospitals):
    """Every hospital tells; `refusing` maps a site to the code that it answers instead."""
    hospitals.refusing = {}

    def answer(request):
        if not isinstance(request, CohortRequest):
            return ...
        header = {k: getattr(request, k) for k in ("version", "fingerprint", "run", "site")}
        if request.site in hospitals.refusing:
            return Failure(**header, code=hospitals.refusing[request.site], title="no")
        line = Described(variable="age", part="evaluation", patients=9, missing=0, mean=61.0, sd=4.0)
        return CohortReply(**header, candidates=12, patients=9, shared=0, splits="ab" * 32, lines=(line,))

    hospitals.hook = answer
    return hospitals


def test_every_site_is_asked_once(declared, telling):
    found = cohort_tables(declared, Conversation(declared, telling, "trial"), SITES)
    assert sorted(found) == sorted(SITES)
    assert sorted(request.site for request in telling.asked("cohort")) == sorted(SITES)
    assert found["coast"].lines[0].mean == 61.0
    assert found["coast"].splits == "ab" * 32


def test_nobody_is_asked_without_the_section_or_in_a_private_study(make_study, declared, telling):
    plain = make_study()
    assert cohort_tables(plain, Conversation(plain, telling, "trial"), SITES) == {}
    private = declared.model_copy(update={"privacy": DpSgd(mode="dp-sgd", epsilon=3.0, clip=1.0)})
    assert cohort_tables(private, Conversation(private, telling, "trial"), SITES) == {}
    assert not telling.log


def test_a_site_with_too_few_patients_is_simply_not_there(declared, telling):
    telling.refusing = {"south": "FL-512"}
    assert sorted(cohort_tables(declared, Conversation(declared, telling, "trial"), SITES)) == ["coast", "north"]


def test_another_refusal_is_an_error(declared, telling):
    telling.refusing = {"south": "FL-504"}
    with pytest.raises(SiteRefused, match="south"):
        cohort_tables(declared, Conversation(declared, telling, "trial"), SITES)
