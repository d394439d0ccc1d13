"""The exchange over a Grid: who is asked, who answers, who is absent; in one process, through Flower's wire format."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError
from flwr.superlink.grid import http_grid

from fedloupe.messages import HelloRequest, decode, encode
from fedloupe.signing import Signer, check
from fedloupe_client.courier import app as courier_app
from fedloupe_server.federation.exchange import Outbox, ask_once
from fedloupe_server.hub import grid as hub_grid
from fedloupe_server.hub.grid import SLACK_S, GridExchange, NotOneMessage, hasten, pack, unpack
from fedloupe_server.hub.inprocess import InProcessGrid, inprocess_exchange, through_wire


def sites(*names):
    return {name: lambda blob, name=name: f"{name}:".encode() + blob for name in names}


def echo(asked):
    """A ClientApp whose site answers with what it was asked."""
    return courier_app.courier(lambda _: lambda blob, timeout_s: asked.append(blob) or blob)


class TestExchange:
    def test_each_site_gets_its_own_bytes_and_its_answer_is_under_its_name(self):
        exchange = inprocess_exchange(sites("north", "south", "east"))
        assert ask_once(exchange, {"south": b"2", "north": b"1"}, 5.0) == {"south": b"south:2", "north": b"north:1"}

    def test_a_request_is_encoded_when_the_answer_before_it_has_been_taken(self):
        exchange, taken = inprocess_exchange(sites("a", "b", "c")), []

        def encode(site):
            taken.append(site)
            return b""

        seen = [(a.site, list(taken)) for a in exchange(Outbox("cab", encode), 5.0) if a]
        assert seen == [("c", ["c"]), ("a", ["c", "a"]), ("b", ["c", "a", "b"])]

    def test_who_is_added_while_others_are_asked_is_asked_too(self):
        outbox, heard = Outbox("ab", str.encode), []
        for arrival in inprocess_exchange(sites("a", "b"))(outbox, 5.0):
            heard.append(arrival.site)
            if heard == ["a"]:
                outbox.add("a", first=True)
        assert heard == ["a", "a", "b"]

    def test_a_fast_site_is_heard_before_a_slow_one_has_answered(self):
        go = threading.Event()
        slow = {"slow": lambda blob: str(go.wait(60)).encode(), "fast": bytes}
        answers = inprocess_exchange(slow, at_once=2)(Outbox(slow, str.encode), 60.0)
        assert next(a for a in answers if a) == ("fast", b"fast", "")
        go.set()
        assert [a for a in answers if a] == [("slow", b"True", "")]

    def test_sites_that_may_be_asked_together_are(self):
        meeting = threading.Barrier(3, timeout=60)
        exchange = inprocess_exchange({name: lambda blob: str(meeting.wait()).encode() for name in "abc"}, at_once=3)
        answers = ask_once(exchange, {"c": b"", "a": b"", "b": b""}, 60.0)
        assert set(answers.values()) == {b"0", b"1", b"2"}

    def test_bytes_survive_flowers_chunks_of_5_mib(self):
        blob = np.random.default_rng(1).bytes(11 * 2**20)
        assert ask_once(inprocess_exchange({"north": bytes}), {"north": blob}, 5.0) == {"north": blob}

    def test_nobody_asked_is_nobody_answered(self):
        assert ask_once(inprocess_exchange(sites("north")), {}, 5.0) == {}

    def test_equal_requests_to_two_sites_are_not_confused(self):
        exchange = inprocess_exchange(sites("north", "south"))
        assert ask_once(exchange, {"north": b"x", "south": b"x"}, 5.0) == {"north": b"north:x", "south": b"south:x"}

    def test_a_site_without_a_node_is_absent_and_found_as_soon_as_it_has_one(self):
        asked, nodes = [], {"north": 2}
        grid = InProcessGrid({2: echo(asked), 3: echo(asked)})
        exchange = GridExchange(grid, nodes, pause=grid.pause)
        assert ask_once(exchange, {"north": b"a", "west": b"b"}, 5.0) == {"north": b"a"}
        nodes["west"] = 3
        assert ask_once(exchange, {"north": b"a", "west": b"b"}, 5.0) == {"north": b"a", "west": b"b"}

    def test_each_request_is_sealed_anew_when_it_is_sent(self, tmp_path):
        asked, key = [], Signer.make(tmp_path / "coordinator.key")
        hello = encode(HelloRequest(version="1", fingerprint="0" * 64, run="demo", site="north"))
        exchange = inprocess_exchange({"north": lambda blob: asked.append(decode(blob)) or b""}, key=key)
        for _ in range(2):
            ask_once(exchange, {"north": hello}, 60.0)
        assert [bytes(sealed.inner) for sealed in asked] == [hello, hello]
        assert asked[0].nonce != asked[1].nonce
        for sealed in asked:
            check("request", sealed.said, sealed.signature, key.public)
            assert 60 <= sealed.expires - sealed.issued <= 60 + SLACK_S


class TestAbsence:
    def test_a_failing_site_is_absent_and_told_by_code_alone(self):
        def fail(blob):
            raise RuntimeError("patient 4711")

        lines = []
        exchange = inprocess_exchange({"north": fail, "south": bytes})
        exchange._observer = lines.append
        assert ask_once(exchange, {"north": b"x", "south": b"y"}, 5.0) == {"south": b"y"}
        assert "asked 2, answered 1" in lines[0]
        assert "north: error 100: FL-627 the courier failed" in lines[0]
        assert "4711" not in lines[0]

    def test_a_lost_reply_makes_its_site_absent_when_the_time_is_over(self, monkeypatch):
        pauses = []
        monkeypatch.setattr(hub_grid, "time", SimpleNamespace(monotonic=lambda: sum(pauses)))
        exchange, lines = faulty(
            lambda replies: [r for r in replies if b"north" not in unpack(r.content)], pause=pauses.append
        )
        assert ask_once(exchange, {"north": b"", "south": b""}, 0.3) == {"south": b"south:"}
        assert sum(pauses) == pytest.approx(0.3)
        assert "north: silent" in lines[0]

    def test_a_late_reply_to_an_earlier_exchange_is_not_taken_for_an_answer(self):
        kept = []

        def late(replies):
            arrived = [*kept, *replies]
            kept[:] = replies
            return arrived

        exchange, _ = faulty(late)
        assert ask_once(exchange, {"north": b"1"}, 0.3) == {"north": b"north:1"}
        assert ask_once(exchange, {"north": b"2"}, 0.3) == {"north": b"north:2"}

    def test_a_reply_that_is_no_message_makes_its_site_absent(self):
        def corrupt(replies):
            for reply in replies:
                reply.content = RecordDict({"x": ArrayRecord({"y": Array(np.zeros(2))})})
            return replies

        exchange, lines = faulty(corrupt)
        assert ask_once(exchange, {"north": b""}, 0.3) == {}
        assert "FL-721" in lines[0]

    @pytest.mark.parametrize("sent, answered", [([False, True], {"south": b"south:"}), ([False, False], {}), ([], {})])
    def test_a_message_that_could_not_be_sent_makes_its_site_absent(self, sent, answered):
        fates = iter(sent)

        class Refusing(InProcessGrid):
            def push_messages(self, messages):
                ids = super().push_messages(messages)
                return [id_ if kept else None for id_, kept in zip(ids, fates, strict=False)]

        exchange, lines = faulty(list, Refusing)
        assert ask_once(exchange, {"north": b"", "south": b""}, 0.3) == answered
        assert lines[0].count("could not be sent") == 2 - len(answered)


def faulty(change, base=InProcessGrid, **options):
    """Two sites behind a grid whose pulled replies pass through `change`; the exchange and what it tells."""

    class Faulty(base):
        def pull_messages(self, message_ids):
            return change(list(super().pull_messages(message_ids)))

    nodes = {"north": 2, "south": 3}
    handlers = sites(*nodes)
    apps = {
        node: courier_app.courier(lambda _, site=site: lambda blob, timeout_s: handlers[site](blob))
        for site, node in nodes.items()
    }
    lines = []
    return GridExchange(Faulty(apps), nodes, poll_s=0.01, observer=lines.append, **options), lines


class TestRecords:
    def test_both_sides_of_the_wire_agree(self):
        assert courier_app.unpack(pack(b"abc")) == b"abc"
        assert unpack(courier_app.pack(b"abc")) == b"abc"
        assert (hub_grid.RECORD, hub_grid.ARRAY) == (courier_app.RECORD, courier_app.ARRAY)

    @pytest.mark.parametrize(
        "content",
        [
            RecordDict(),
            RecordDict({"fedloupe": ArrayRecord({"message": Array(np.zeros(3))})}),
            RecordDict({"fedloupe": ArrayRecord({"message": Array("uint8", (3,), "torch", b"abc")})}),
            RecordDict({"fedloupe": ArrayRecord({"message": Array("uint8", (3,), "numpy.ndarray", b"abc")})}),
        ],
    )
    def test_anything_else_is_refused(self, content):
        with pytest.raises(NotOneMessage, match="FL-721"):
            unpack(content)

    def test_a_message_through_the_wire_is_equal_and_not_the_same(self):
        InProcessGrid({})  # gives the process its identity
        message = Message(pack(b"abc"), 7, "query.ask", ttl=30.0)
        arrived, id_ = through_wire(message)
        assert arrived is not message
        assert unpack(arrived.content) == b"abc"
        assert arrived.metadata.message_id == id_ == message.object_id
        assert (arrived.metadata.dst_node_id, arrived.metadata.ttl) == (7, 30.0)


class TestUploads:
    def test_the_parts_of_an_answer_are_looked_for_soon_and_as_long_as_flower_would(self, monkeypatch):
        monkeypatch.setattr(http_grid, "pull_objects", http_grid.pull_objects)  # put back afterwards
        looks, waits = [], []

        class Event(threading.Event):
            def wait(self, timeout=None):
                waits.append(timeout)

        monkeypatch.setattr(inflatable_utils, "threading", SimpleNamespace(Lock=threading.Lock, Event=Event))

        def pull(part):
            looks.append(part)
            if len(looks) < 4:
                raise ObjectUnavailableError("part")
            return b"content"

        hasten()
        assert http_grid.pull_objects(["part"], pull) == {"part": b"content"}
        assert waits == pytest.approx([0.1, 0.2, 0.4], rel=0.2), "Flower adds or takes a fifth at most"
        assert http_grid.pull_objects.keywords["max_tries_per_object"] is None
