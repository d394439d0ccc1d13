"""Answers are added as they come: order does not matter, and memory does not grow with the number of sites."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from tests.server.federation.wire import SITES, describing, plain_sum, same, training

from fedloupe.messages import DescribeReply, TrainReply, TrainRequest, decode, encode
from fedloupe_server.federation.conversation import Conversation
from fedloupe_server.federation.exchange import Arrival, Outbox, ask_once


class TestOutbox:
    def test_a_request_is_encoded_when_it_is_taken_and_again_when_it_is_asked_again(self):
        encoded = []
        outbox = Outbox("ab", lambda site: encoded.append(site) or site.encode())
        taken = iter(outbox)
        assert next(taken) == ("a", b"a")
        assert (encoded, outbox.sites) == (["a"], ("b",))
        outbox.add("a", first=True)
        assert list(taken) == [("a", b"a"), ("b", b"b")]
        outbox.add("b")
        assert list(outbox) == [("b", b"b")]

    def test_the_answers_to_a_few_requests_come_together(self):
        def exchange(outbox, timeout_s):
            for site, blob in outbox:
                yield None
                yield Arrival(site, None if site == "b" else blob * 2)

        assert ask_once(exchange, {"a": b"1", "b": b"2", "c": b"3"}, 1.0) == {"a": b"11", "c": b"33"}


class TestOrder:
    @pytest.mark.parametrize("aggregation", ["plain", "secure"])
    def test_whoever_answers_first_the_sum_has_the_same_bits(self, secure, wire, make_study, aggregation):
        content = {**secure.model_dump(mode="json"), "aggregation": aggregation}
        study = type(secure).model_validate(content)
        for order in itertools.islice(itertools.permutations(SITES), 0, None, 40):

            def exchange(outbox, timeout_s, order=order):
                arrivals = {a.site: a for a in wire(outbox, timeout_s)}
                yield from (arrivals[site] for site in order if site in arrivals)

            wire.study = study
            talk = Conversation(study, exchange, "trial")
            for make, kind in ((training, TrainReply), (describing, DescribeReply)):
                assert same(talk.sums.all(SITES, make, kind), plain_sum(wire, make, kind, SITES))


class TestMemory:
    PARAMETERS = 200_000

    def peak(self, make_study, sites: int) -> int:
        """Bytes at the peak of a sum over so many sites, of which each answer is made when it is wanted."""
        names = tuple(f"site-{i:02d}" for i in range(sites))
        study = make_study(sites=[{"name": name, "role": "train"} for name in names], quorum={})

        def exchange(outbox, timeout_s):
            for site, blob in outbox:
                request = decode(blob)
                header = {name: getattr(request, name) for name in ("version", "fingerprint", "run", "site")}
                weights = request.weights + np.float32(1)
                reply = TrainReply(**header, round=1, weights=weights, patients=10, loss=0.5, epsilon=None)
                yield Arrival(site, encode(reply))

        def ask(header):
            return TrainRequest(**header, round=1, scope="federated", weights=start)

        start = np.zeros(self.PARAMETERS, np.float32)
        talk = Conversation(study, exchange, "trial")
        tracemalloc.start()
        try:
            found = talk.sums.quorum(names, ask, TrainReply)
            assert len(found.sites) == sites
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def test_thirty_sites_take_hardly_more_than_three(self, make_study):
        self.peak(make_study, 2)  # what is imported on first use
        few, many = self.peak(make_study, 3), self.peak(make_study, 30)
        one = self.PARAMETERS * 4
        assert few > 2 * one, "the measurement sees no arrays"
        assert many - few < one / 2
