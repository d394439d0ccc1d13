"""An answer's way to the coordinator, with lost receipts and kills: our client over Flower's handlers and state."""

from __future__ import annotations

import functools
import threading

import httpx
import pytest
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_push_object_fn_protobuf
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.superlink.grid import http_grid

from fedloupe_client.courier import internals as flower
from fedloupe_client.courier.app import pack, unpack
from fedloupe_client.courier.executor import steady
from fedloupe_client.courier.fleet import DELIVERIES, fleet_client
from fedloupe_client.courier.hand import Hand
from flower_link import FlowerLink, flower_state


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return flower_state(tmp_path_factory.mktemp("link") / "state.db")


@pytest.fixture
def link(state, monkeypatch):
    few = functools.partial(http_grid.pull_objects, max_tries_per_object=4, initial_backoff=0.01)
    monkeypatch.setattr(http_grid, "pull_objects", few)  # where it would wait for three minutes, it gives up at once
    return FlowerLink(state)


@pytest.fixture
def start(link, tmp_path):
    """Start a client, as a new SuperNode process would."""

    def make(answer=None):
        kind = fleet_client(Hand(tmp_path), lambda event, **fields: None, threading.Event(), tmp_path)
        client = kind.from_server_address("localhost:1", True, None, interceptors=[])
        client._client = httpx.Client(transport=httpx.MockTransport(answer or link))
        return client

    return make


@pytest.fixture
def retries():
    invoker = make_simple_http_retry_invoker()
    invoker.wait_function = lambda _: None
    return invoker


@pytest.fixture
def receive(link, retries):
    def receive(client):
        got = retries.invoke(client.PullMessages, flower.PullMessagesRequest(node=link.node))
        return flower.message_from_proto(got.messages_list[0])

    return receive


def answer_to(message, blob):
    """No two alike, as the tests share one state, and Flower knows a part by its content."""
    content = pack(blob + b" to " + message.metadata.message_id.encode())
    reply = steady(Message(content, reply_to=message), message)
    reply.metadata.__dict__["_message_id"] = reply.object_id
    return reply


def said(answer):
    return unpack(answer.content).partition(b" to ")[0]


def envelope_of(reply, link):
    return flower.PushMessagesRequest(
        node=link.node,
        messages_list=[flower.message_to_proto(remove_content_from_message(reply))],
        message_object_trees=[flower.get_object_tree(reply)],
        clientapp_runtime_list=[0.1],
    )


@pytest.fixture
def begin(link, retries):
    """As Flower's loop: the envelope, tried again when the line breaks."""
    return lambda client, reply: retries.invoke(client.PushMessages, envelope_of(reply, link))


@pytest.fixture
def send(link, retries, begin):
    """As Flower's loop: the envelope, and the parts that are asked for; how many these were."""

    def send(client, reply):
        begun = begin(client, reply)
        push = make_push_object_fn_protobuf(
            lambda request: retries.invoke(client.PushObject, request), link.node, link.run, begun.session_id
        )
        wanted = set(begun.objects_to_push)
        for name, part in flower.get_all_nested_objects(reply).items():
            if name in wanted:
                push(name, part.deflate())
        return len(wanted)

    return send


class TestLostReceipt:
    """The coordinator has the answer's envelope, and the courier does not know."""

    def lose(self, link, asked, waited_for):
        link.lost["push-messages"] = lambda: waited_for.extend(link.take_envelope(asked))

    def test_of_an_envelope_that_the_server_app_has_taken_the_parts_are_sent(self, link, start, receive, send):
        asked, waited_for = link.ask(b"question"), []
        client = start()
        reply = answer_to(receive(client), b"answer")
        self.lose(link, asked, waited_for)
        send(client, reply)
        assert waited_for[-1] == reply.metadata.message_id
        assert all(link.parts(waited_for)), "otherwise it waits until the session ends, three minutes"

    def test_also_after_a_kill(self, link, start, receive, send):
        asked, waited_for = link.ask(b"question"), []
        first = start()
        self.lose(link, asked, waited_for)
        with pytest.raises(httpx.TransportError):
            first.PushMessages(envelope_of(answer_to(receive(first), b"answer"), link))
        second = start()
        send(second, answer_to(receive(second), b"answer"))
        assert all(link.parts(waited_for))

    def test_also_when_a_kill_follows_in_the_middle_of_the_parts(self, link, start, receive, begin, send):
        asked, waited_for = link.ask(b"question"), []
        first = start()
        reply = answer_to(receive(first), b"answer")
        self.lose(link, asked, waited_for)
        begun = begin(first, reply)
        first.PushObject(
            flower.PushObjectRequest(
                node=link.node,
                run_id=link.run,
                session_id=begun.session_id,
                object_id=reply.object_id,
                object_content=reply.deflate(),
            )
        )
        second = start()
        assert send(second, answer_to(receive(second), b"answer")) == len(waited_for)
        assert all(link.parts(waited_for))

    def test_of_one_that_nobody_took_yet_the_parts_are_asked_for(self, link, start, receive, send):
        asked, client = link.ask(b"question"), start()
        link.lost["push-messages"] = lambda: None
        send(client, answer_to(receive(client), b"answer"))
        (answer,) = link.answers(asked)
        assert said(answer) == b"answer"

    def test_also_of_a_refusal(self, link, start, receive):
        asked, waited_for = link.ask(b"poison"), []
        for _ in range(DELIVERIES):
            receive(start())
        self.lose(link, asked, waited_for)
        link.ask(b"next")
        receive(start())
        (content,) = link.parts(waited_for)
        assert Message.inflate(content).error.reason.startswith("FL-674")

    def test_an_answer_that_is_refused_at_once_is_not_sent(self, link, start, receive, send):
        asked, client = link.ask(b"question"), start()
        message = receive(client)
        link.state.delete_messages({asked})
        assert send(client, answer_to(message, b"answer")) == 0

    def test_an_answer_that_has_arrived_does_not_travel_again(self, link, start, receive, send):
        asked, waited_for = link.ask(b"question"), []
        self.lose(link, asked, waited_for)
        first, second = start(), start()
        assert send(first, answer_to(receive(first), b"answer")) == len(waited_for)
        assert send(second, answer_to(receive(second), b"answer")) == 0


class TestAnotherAnswer:
    """After a kill in the middle of an upload the site says something else, as `Working` with another share."""

    def test_the_server_app_that_waits_for_the_first_one_hears_of_an_error_at_once(
        self, link, start, receive, begin, send
    ):
        asked, first = link.ask(b"question"), start()
        begin(first, answer_to(receive(first), b"43 %"))
        second = start()
        link.meanwhile["PullObject"] = lambda: send(second, answer_to(receive(second), b"44 %"))
        (answer,) = link.answers(asked)
        assert answer.metadata.reply_to_message_id == asked
        assert "could not be found" in answer.error.reason, "not after three minutes"

    def test_so_does_one_that_has_not_looked_yet(self, link, start, receive, begin, send):
        asked, first = link.ask(b"question"), start()
        begin(first, answer_to(receive(first), b"43 %"))
        second = start()
        assert send(second, answer_to(receive(second), b"44 %")) == 0, "the coordinator takes no second envelope"
        assert link.answers(asked) == [], "it finds out only now"
        (answer,) = link.answers(asked)
        assert answer.has_error()

    def test_where_the_first_one_never_arrived_it_gets_the_second(self, link, start, receive, send):
        asked, first = link.ask(b"question"), start()
        message = receive(first)

        def away(_):
            raise httpx.ConnectError("no line")

        with pytest.raises(httpx.TransportError):
            start(away).PushMessages(envelope_of(answer_to(message, b"43 %"), link))
        second = start()
        send(second, answer_to(receive(second), b"44 %"))
        (answer,) = link.answers(asked)
        assert said(answer) == b"44 %"

    @pytest.mark.parametrize("lost", [False, True])
    def test_where_all_of_the_first_one_has_arrived_that_one_counts(self, link, start, receive, send, lost):
        asked, first = link.ask(b"question"), start()
        if lost:
            link.lost["push-messages"] = lambda: None
        send(first, answer_to(receive(first), b"43 %"))
        second = start()
        assert send(second, answer_to(receive(second), b"44 %")) == 0
        (answer,) = link.answers(asked)
        assert said(answer) == b"43 %"

    def test_a_message_given_up_is_such_an_answer(self, link, start, receive, begin):
        asked = link.ask(b"poison")
        for _ in range(DELIVERIES):
            client = start()
            begin(client, answer_to(receive(client), b"answer"))
        waited_for = link.take_envelope(asked)
        link.ask(b"next")
        receive(start())
        assert link.parts(waited_for) == [None] * len(waited_for)

    def test_an_upload_of_an_earlier_message_is_left_alone(self, link, start, receive, send, tmp_path):
        first_asked, client = link.ask(b"first"), start()
        send(client, answer_to(receive(client), b"answer"))
        kept = (tmp_path / "upload.json").read_text()
        link.ask(b"second")
        message = receive(client)
        (tmp_path / "upload.json").write_text(kept)  # killed between the two files
        send(client, answer_to(message, b"other answer"))
        (answer,) = link.answers(first_asked)
        assert said(answer) == b"answer"

    def test_the_first_one_is_thrown_away_also_where_the_line_breaks_then(self, link, start, receive, begin, send):
        asked, first = link.ask(b"question"), start()
        begin(first, answer_to(receive(first), b"43 %"))
        waited_for = link.take_envelope(asked)
        link.lost["confirm-message-received"] = lambda: None
        second = start()
        send(second, answer_to(receive(second), b"44 %"))
        assert link.asked.count("confirm-message-received") == 2
        assert link.parts(waited_for) == [None] * len(waited_for)


class TestLostMessage:
    def test_where_a_messages_way_here_breaks_off_the_next_one_is_asked_for(self, link, start, receive):
        # Flower gives no message twice: the coordinator asks again.
        link.ask(b"lost")
        second = link.ask(b"second")
        link.lost["pull-messages"] = lambda: None
        assert receive(start()).metadata.message_id == second
