"""What the courier adds to Flower's SuperNode: watch, patience, and a message that survives a kill."""

from __future__ import annotations

import hashlib
import os
import threading

import httpx
import numpy as np
import pytest
from flwr.app import Message
from flwr.proto.fab_pb2 import Fab, GetFabRequest, GetFabResponse
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.proto.run_pb2 import GetRunRequest, GetRunResponse, Run
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.run import Run as FlowerRun
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState
from flwr.supernode.start_client_internal import _pull_and_store_message

from fedloupe_client.courier import fleet, internals
from fedloupe_client.courier.fleet import DELIVERIES, fleet_client, next_look_s
from fedloupe_client.courier.hand import FRESH_S, Hand
from superlink_double import NODE, Link, envelope


@pytest.fixture
def link():
    return Link()


@pytest.fixture
def hand(tmp_path):
    return Hand(tmp_path)


@pytest.fixture
def leaving():
    return threading.Event()


@pytest.fixture
def home(tmp_path):
    (tmp_path / "approved").write_text(hashlib.sha256(b"bundle").hexdigest() + "\n")
    return tmp_path


@pytest.fixture
def said():
    return []


@pytest.fixture
def start(link, hand, said, leaving, home):
    """Start a client, as a new SuperNode process would."""

    def make(answer=None):
        kind = fleet_client(hand, lambda event, **fields: said.append((event, fields.get("code"))), leaving, home)
        client = kind.from_server_address("localhost:1", True, None, interceptors=[])
        client._client = httpx.Client(transport=httpx.MockTransport(answer or link))
        return client

    return make


class TestPace:
    def test_work_is_asked_for_soon_after_work_and_rarely_when_idle(self):
        assert [next_look_s(s) for s in (0, 1, 5, 20, 3600)] == [0.2, 0.2, 0.5, 2.0, 3.0]

    def test_an_empty_inbox_is_asked_again_here_not_after_flowers_pause(self, start, link, monkeypatch):
        pauses = []

        def sleep(seconds):
            pauses.append(seconds)
            if len(pauses) == 3:
                link.offered.append(envelope())

        monkeypatch.setattr(fleet.time, "sleep", sleep)
        assert start().PullMessages(PullMessagesRequest(node=NODE)).messages_list
        assert pauses == pytest.approx([0.2] * 3)


class TestWatch:
    def test_an_answer_is_a_contact(self, start, said, hand):
        hand.be(7)
        os.utime(hand.folder / "node.json", (0, 0))
        start().SendNodeHeartbeat(SendNodeHeartbeatRequest(node=NODE, heartbeat_interval=30))
        assert said == [("contact", None)]
        assert hand.node() == 7, "and makes the node's file fresh"

    @pytest.mark.parametrize("status", [500, 502, 503, 504, 520])
    def test_a_servers_error_becomes_one_upon_which_flower_tries_again(self, start, link, said, status):
        link.status = status
        with pytest.raises(httpx.HTTPStatusError) as raised:
            start().PullMessages(PullMessagesRequest(node=NODE))
        assert raised.value.response.status_code == 503
        assert said == [("trouble", "FL-672")]

    def test_flower_itself_would_die_of_a_500_and_of_the_bare_kinds_of_broken_line(self):
        # The reason for all this; when Flower changes its mind, our mending can go.
        def once(error):
            calls = []

            def send():
                calls.append(1)
                if len(calls) == 1:
                    raise error
                return "done"

            invoker = make_simple_http_retry_invoker()
            invoker.wait_function = lambda _: None
            return invoker.invoke(send)

        request = httpx.Request("POST", "http://localhost")
        for error in (
            httpx.HTTPStatusError("x", request=request, response=httpx.Response(500, request=request)),
            httpx.ProxyError("407 Proxy Authentication Required"),
            httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred"),
        ):
            with pytest.raises(type(error)):
                once(error)
        assert once(httpx.ConnectError("the coordinator does not answer")) == "done"

    def test_a_portals_page_is_no_answer(self, start, said):
        page = httpx.Response(200, text="<html>log in</html>", headers={"content-type": "text/html"})
        with pytest.raises(httpx.HTTPStatusError) as raised:
            start(lambda _: page).PullMessages(PullMessagesRequest(node=NODE))
        assert raised.value.response.status_code == 503
        assert said == [("trouble", "FL-672")]

    @pytest.mark.parametrize(
        "error", [httpx.ProxyError("407"), httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING]")]
    )
    def test_a_broken_line_is_tried_again_whatever_broke_it(self, start, said, error):
        def broken(_):
            raise error

        with pytest.raises(httpx.ConnectError, match=r"^the coordinator does not answer$"):
            start(broken).PullMessages(PullMessagesRequest(node=NODE))
        assert said == [("trouble", "FL-672")]

    def test_a_false_certificate_is_not_tried_again_for_ever(self, start, said):
        def false(_):
            raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")

        with pytest.raises(httpx.ConnectError, match="CERTIFICATE"):
            start(false).ActivateNode(ActivateNodeRequest(public_key=b"key"))
        assert said == [("trouble", "FL-673")]


class TestMessageInHand:
    def test_a_message_is_confirmed_only_when_the_next_one_is_asked_for(self, start, link, hand, said):
        first, second = envelope(), envelope(created_at=1.8e9 + 1)
        link.offered = [first, second]
        client = start()
        request = PullMessagesRequest(node=NODE)
        got = client.PullMessages(request)
        client.ConfirmMessageReceived(ConfirmMessageReceivedRequest(node=NODE, run_id=5, message_object_id="x"))
        assert (got, link.confirmed, hand.taken()[1]) == (first, [], 1)
        assert client.PullMessages(request) == second
        assert link.confirmed == [first.messages_list[0].metadata.message_id]
        assert [event for event, _ in said if event != "contact"] == ["message", "done", "message"]

    def test_a_new_process_gets_the_message_of_the_killed_one_first(self, start, link):
        link.offered = [envelope(), envelope(created_at=1.8e9 + 1)]
        request = PullMessagesRequest(node=NODE)
        first = start().PullMessages(request)
        again = start()
        assert again.PullMessages(request) == first
        assert link.asked.count("pull-messages") == 1
        assert again.PullMessages(request) != first
        assert len(link.confirmed) == 1

    def test_a_message_that_kills_each_time_is_answered_with_an_error(self, start, link, hand):
        poison, next_one = envelope(), envelope(created_at=1.8e9 + 1)
        link.offered = [poison, next_one]
        request = PullMessagesRequest(node=NODE)
        for _ in range(DELIVERIES):
            assert start().PullMessages(request) == poison
        assert start().PullMessages(request) == next_one
        (reply,) = link.replies
        assert reply.metadata.reply_to_message_id == poison.messages_list[0].metadata.message_id
        assert (reply.error.code, reply.error.reason) == (100, "FL-674 the courier ended too often during this message")
        assert list(link.objects) == [reply.metadata.message_id]
        assert Message.inflate(link.objects[reply.metadata.message_id]).error.code == 100
        assert hand.taken()[1] == 1

    @pytest.mark.parametrize("status", [403, 404])
    def test_the_message_of_a_run_that_has_ended_or_is_not_known_is_let_go(self, start, link, hand, status):
        poison, next_one = envelope(), envelope(created_at=1.8e9 + 1)
        link.offered = [poison, next_one]
        link.confirm_message_received = link.push_messages = lambda _: httpx.Response(status)
        for _ in range(DELIVERIES):
            assert start().PullMessages(PullMessagesRequest(node=NODE)) == poison
        assert start().PullMessages(PullMessagesRequest(node=NODE)) == next_one

    def test_half_a_message_whose_run_ends_meanwhile_is_thrown_away_with_its_task(self, start, link):
        # Flower's own loop, state and retries; without our mending the executor holds a task that never ends.
        link.offered = [envelope()]
        link.pull_object = lambda _: httpx.Response(403)
        client, store = start(), InMemoryObjectStore()
        state, retries = InMemoryNodeState(store), make_simple_http_retry_invoker()
        state.store_run(FlowerRun.create_empty(5))

        def receive():
            got = client.PullMessages(PullMessagesRequest(node=NODE))
            return internals.message_from_proto(got.messages_list[0]), got.message_object_trees[0]

        def pull(run, name):
            ask = make_pull_object_fn_protobuf(lambda asked: retries.invoke(client.PullObject, asked), NODE, run)
            return ask(name)

        assert _pull_and_store_message(state, store, {}, receive, None, None, pull, None, None) is None
        assert not store.store
        assert [task.status.status for task in state.get_tasks()] == ["finished"]

    @pytest.mark.parametrize("damage", ["", "{", '{"message": "?", "deliveries": 1}', "[]"])
    def test_a_damaged_file_does_not_stop_the_courier(self, start, link, hand, damage):
        (hand.folder / "in-hand.json").write_text(damage)
        link.offered = [envelope()]
        assert start().PullMessages(PullMessagesRequest(node=NODE)) == envelope()

    def test_an_agents_run_is_an_ordinary_one_whose_bundle_is_refused(self, start, link):
        link.get_run = lambda _: GetRunResponse(run=Run(run_id=5, primary_task_type="flwr-agentapp"))
        run = start().GetRun(GetRunRequest(node=NODE, run_id=5)).run
        assert run.primary_task_type == internals.TaskType.SERVER_APP

    def test_what_is_kept_on_disk_holds_no_content(self, start, link, hand):
        link.offered = [envelope()]
        start().PullMessages(PullMessagesRequest(node=NODE))
        assert np.arange(9, dtype=np.uint8).tobytes() not in hand.taken()[0]


def push(client, reply="r"):
    request = internals.PushMessagesRequest(node=NODE)
    about = request.messages_list.add().metadata
    about.message_id, about.reply_to_message_id = reply, "m"
    request.message_object_trees.add().object_id = reply
    return client.PushMessages(request)


def push_part(client, name):
    return client.PushObject(
        PushObjectRequest(node=NODE, run_id=5, session_id="s", object_id=name, object_content=b"x")
    )


class TestUpload:
    def test_an_upload_that_a_kill_broke_off_is_completed_under_its_session(self, start, link):
        link.offered = [envelope()]
        first = start()
        first.PullMessages(PullMessagesRequest(node=NODE))
        begun = push(first)
        second = start()
        second.PullMessages(PullMessagesRequest(node=NODE))
        assert push(second) == begun
        assert len(link.replies) == 1, "the coordinator would refuse a second envelope"
        link.push_object = lambda _: PushObjectResponse(stored=False)
        assert push_part(second, "r").stored, "it may have arrived before the kill"

    def test_another_answer_is_sent_as_itself(self, start, link):
        push(start())
        push(start(), "r2")
        assert len(link.replies) == 2

    def test_an_answered_message_leaves_no_upload(self, start, link, hand):
        link.offered = [envelope(), envelope(created_at=1.8e9 + 1)]
        client = start()
        client.PullMessages(PullMessagesRequest(node=NODE))
        push(client)
        assert hand.begun_upload("m") == ("r", "s", ["r"])
        client.PullMessages(PullMessagesRequest(node=NODE))
        assert hand.begun_upload("m") is None

    def test_a_part_whose_receipt_was_lost_counts_as_arrived_when_it_is_not_wanted_again(self, start, link):
        client = start()
        link.status = 500
        with pytest.raises(httpx.HTTPStatusError):
            push_part(client, "part")
        link.status, link.push_object = 200, lambda _: PushObjectResponse(stored=False)
        assert push_part(client, "part").stored
        assert not push_part(client, "part").stored, "but only then"


class TestBundle:
    def ask(self, start, link, bundle):
        link.get_fab = lambda _: GetFabResponse(fab=Fab(content=bundle))
        link.offered = [envelope(), envelope(created_at=1.8e9 + 1)]
        client = start()
        client.PullMessages(PullMessagesRequest(node=NODE))
        return client, lambda: client.GetFab(GetFabRequest(node=NODE, run_id=5, hash_str="claimed"))

    def test_the_approved_one_passes(self, start, link):
        _, get = self.ask(start, link, b"bundle")
        assert get().fab.content == b"bundle"
        assert link.replies == []

    def test_another_one_is_refused_before_flower_reads_it(self, start, link):
        client, get = self.ask(start, link, b"other bundle")
        with pytest.raises(internals.RunNotRunningException):
            get()
        (reply,) = link.replies
        assert reply.error.reason == "FL-628 app bundle not approved by this site"
        assert client.PullMessages(PullMessagesRequest(node=NODE)).messages_list, "and the next message is asked for"


class TestPlace:
    request = ActivateNodeRequest(public_key=b"key")

    def test_a_killed_node_takes_up_its_place_at_once(self, start, link, said):
        assert start().ActivateNode(self.request).node_id == 7
        assert start().ActivateNode(self.request).node_id == 7, "without a goodbye in between"
        assert [event for event, _ in said if event != "contact"] == ["online", "online"]

    def test_without_having_been_that_node_it_is_refused(self, start, link, said):
        link.online = True
        with pytest.raises(httpx.HTTPStatusError):
            start().ActivateNode(self.request)
        assert said[-1] == ("refused", "FL-671")

    def test_after_a_long_silence_it_does_not_push_away_who_came_since(self, start, link, hand, said):
        start().ActivateNode(self.request)
        old = os.stat(hand.folder / "node.json").st_mtime - FRESH_S - 1
        second = start()
        os.utime(hand.folder / "node.json", (old, old))
        with pytest.raises(httpx.HTTPStatusError):
            second.ActivateNode(self.request)
        assert said[-1] == ("refused", "FL-671")

    def test_a_goodbye_gives_the_place_back(self, start, link, hand, leaving):
        client = start()
        client.ActivateNode(self.request)
        leaving.set()
        client.DeactivateNode(DeactivateNodeRequest(node_id=7))
        assert (link.online, hand.node()) == (False, None)

    def test_who_was_not_asked_to_end_says_no_goodbye(self, start, link, hand):
        client = start()
        client.ActivateNode(self.request)
        client.DeactivateNode(DeactivateNodeRequest(node_id=7))
        assert (link.online, hand.node()) == (True, 7)

    def test_with_a_message_in_hand_there_is_no_goodbye(self, start, link, hand, leaving):
        leaving.set()
        link.offered = [envelope()]
        client = start()
        client.ActivateNode(self.request)
        client.PullMessages(PullMessagesRequest(node=NODE))
        client.DeactivateNode(DeactivateNodeRequest(node_id=7))
        assert (link.online, hand.node()) == (True, 7)


class TestFlowerChanged:
    def test_a_missing_name_is_an_error_with_a_code(self):
        with pytest.raises(internals.FlowerChanged, match=r"FL-670.*Gone"):
            internals.replace(internals.SUPERNODE_LOOP, "Gone", object)

    def test_what_we_replace_is_there(self):
        assert issubclass(internals.SUPERNODE_CONNECTION.FleetHttpClient, internals.FleetHttpClient)
        assert callable(internals.SUPERNODE_LOOP.time.sleep)
