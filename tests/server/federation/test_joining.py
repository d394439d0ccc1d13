"""How a training site comes into a running study: hello, its own shifts against the frozen ones, scaling."""

from __future__ import annotations

import numpy as np
import pytest

from fedloupe.messages import Failure, HarmoniseReply, HelloReply, PrepareReply, Working
from fedloupe.models import Preparation, digest
from fedloupe.statistics.combat import Harmoniser
from fedloupe_server.federation.conversation import Conversation, WrongAnswer
from fedloupe_server.federation.joining import Entry, Guest

FEATURES, GROUPS = ("a", "b"), ("shape", "t2w")


@pytest.fixture
def talk(make_study, hospitals):
    study = make_study(quorum={"minimum": 1, "may": ["east"]})
    found = Conversation(study, hospitals, "trial")
    found.require_all({}, ("east",))  # not there at the start
    return found


@pytest.fixture
def entry():
    numbers = {name: np.arange(2.0) + i for i, name in enumerate(("centre", "scale", "level"))}
    harmoniser = Harmoniser(**numbers, beta=np.zeros((2, 0)), spread=np.ones(2), prior=np.zeros(0))
    preparation = Preparation(np.zeros(2), np.ones(2), np.eye(2, dtype=np.float32), "federated")
    return Entry(FEATURES, GROUPS, preparation, harmoniser)


def hello(talk, **changes):
    counts = {"train": 9, "tune": 1, "test": 1, "positives": 4, "excluded": {}, "data_digest": "0"}
    return HelloReply(**{**talk.header("east"), **counts, "features": FEATURES, "groups": GROUPS, **changes})


def harmonised(talk, entry, made=None):
    made = made or digest(*entry.harmoniser.arrays.values())
    return HarmoniseReply(**talk.header("east"), harmoniser=made, batches=1, small=0)


class TestGuest:
    def test_is_given_what_is_frozen_step_by_step_and_then_takes_part(self, talk, entry):
        guest = Guest(talk, "east", entry)
        assert guest.request.kind == "hello"
        assert guest.heard(hello(talk))
        assert (guest.request.kind, guest.request.scope) == ("harmonise", "train")
        assert np.array_equal(guest.request.level, entry.harmoniser.level)
        assert guest.heard(harmonised(talk, entry))
        assert guest.request.kind == "prepare"
        assert np.array_equal(guest.request.projection, entry.preparation.projection)
        assert talk.there(("north", "east")) == ("north",)
        assert not guest.heard(PrepareReply(**talk.header("east"), preparation=entry.preparation.digest))
        assert talk.there(("north", "east")) == ("north", "east")
        assert talk.hellos["east"].train == 9
        assert entry.replies["east"].batches == 1

    def test_without_scaling_hello_is_enough(self, talk):
        """As in a drawing study."""
        assert not Guest(talk, "east", Entry()).heard(hello(talk))
        assert talk.there(("east",)) == ("east",)

    def test_at_work_or_refusing_it_keeps_its_place(self, talk, entry):
        guest = Guest(talk, "east", entry)
        assert not guest.heard(Working(**talk.header("east"), stage="features", fraction=0.5))
        assert not guest.heard(Failure(**talk.header("east"), code="FL-530", title="a person must decide"))
        assert talk.refusals["east"] == "FL-530 a person must decide"
        assert guest.request.kind == "hello" and not guest.barred

    @pytest.mark.parametrize("changes", [{"features": ("a", "c")}, {"groups": ("shape", "shape")}])
    def test_other_columns_bar_it(self, talk, entry, changes):
        guest = Guest(talk, "east", entry)
        assert not guest.heard(hello(talk, **changes))
        assert guest.barred and talk.there(("east",)) == ()
        assert talk.watch.state.sites["east"].refusal.startswith("cannot join: FL-707")

    def test_another_harmonisation_bars_it(self, talk, entry):
        guest = Guest(talk, "east", entry)
        guest.heard(hello(talk))
        assert not guest.heard(harmonised(talk, entry, "f" * 64))
        assert guest.barred and "FL-724" in talk.refusals["east"]

    def test_an_answer_to_something_else_names_it(self, talk, entry):
        with pytest.raises(WrongAnswer, match="east sent a PrepareReply"):
            Guest(talk, "east", entry).heard(PrepareReply(**talk.header("east"), preparation="0"))

    def test_who_is_barred_is_asked_no_more(self, talk, entry):
        talk.entry = entry
        (guest,) = talk.guests().values()
        guest.heard(hello(talk, features=("a", "c")))
        assert talk.guests() == {}
