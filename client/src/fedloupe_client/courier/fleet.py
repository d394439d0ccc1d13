"""What our SuperNode says to the coordinator: Flower's HTTP client, with watch, patience, memory and one lock.

    kind = fleet_client(Hand(Path("courier")), report, leaving=threading.Event(), home=Path("flower-home"))

Different from Flower's own:
- it asks for work soon after work and rarely when idle, where Flower waits 3 s each time;
- an answer 5xx, a foreign answer or a broken line is tried again, where Flower gives up at the first 500;
- a message is kept on disk until it is answered, and a node that was killed takes up its place and its message again,
  where Flower refuses the node for a minute and loses the message;
- an app bundle whose SHA-256 is not approved is refused before Flower reads its configuration.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from flwr.app import Error, Message

from fedloupe.errors import FedLoupeError
from fedloupe_client.courier import internals as flower
from fedloupe_client.courier.app import FAILED
from fedloupe_client.courier.approved import BundleRefused, require_approved
from fedloupe_client.courier.executor import steady
from fedloupe_client.courier.hand import Hand, Upload

SOONEST_S, LATEST_S = 0.2, 3.0
DELIVERIES = 3
_PROTOBUF = "application/protobuf"
_log = logging.getLogger(__name__)
Say = Callable[..., None]


class CoordinatorRefuses(FedLoupeError):
    """The coordinator does not know this hospital's key, or believes that its courier runs elsewhere."""

    code = "FL-671"
    title = "the coordinator refuses this hospital's courier"


class CoordinatorAway(FedLoupeError):
    """No answer, a server's error, or an answer that is not the coordinator's."""

    code = "FL-672"
    title = "the coordinator does not answer"


class CertificateRefused(FedLoupeError):
    """What answers at the coordinator's address has no certificate of the coordinator's authority."""

    code = "FL-673"
    title = "the coordinator's certificate is not trusted"


class MessageDropped(FedLoupeError):
    """The courier died of a message as often as it may: answered with this error instead of trying for ever."""

    code = "FL-674"
    title = "the courier ended too often during this message"


def next_look_s(idle_s: float) -> float:
    """Seconds until the next look for work: a tenth of the time without any, between 0.2 and 3 s.

    The slowest site of a round has just answered when the next one begins, so it waits least.
    """
    return min(LATEST_S, max(SOONEST_S, idle_s / 10))


class Watch:
    """An interceptor of Flower's HTTP client: reports each exchange, and makes what may pass look as if it may pass."""

    def __init__(self, say: Say, hand: Hand) -> None:
        self._say, self._hand = say, hand

    def intercept(self, context: flower.ProtobufRequestContext, call_next: flower.ProtobufCall) -> httpx.Response:
        """Send one request.

        Raises:
            httpx.TransportError: a kind and a text upon which Flower tries again, unless a certificate is refused.
        """
        try:
            response = call_next(context)
        except httpx.TransportError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                self._say("trouble", code=CertificateRefused.code, title=CertificateRefused.title)
                raise
            _log.warning("no contact: %s", error)
            self._say("trouble", code=CoordinatorAway.code, title=CoordinatorAway.title)
            raise httpx.ConnectError(CoordinatorAway.title, request=context.request) from None
        kind = response.headers.get("content-type", "")
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or (
            response.is_success and not kind.startswith(_PROTOBUF)
        ):
            _log.warning("no contact: status %d, %s", response.status_code, kind)
            self._say("trouble", code=CoordinatorAway.code, title=CoordinatorAway.title)
            return httpx.Response(httpx.codes.SERVICE_UNAVAILABLE, request=context.request)
        if response.is_success:  # a refusal is an answer too, but not one to us as a member
            self._hand.touch()
            self._say("contact")
        return response


def fleet_client(hand: Hand, say: Say, leaving: threading.Event, home: Path) -> type[flower.FleetHttpClient]:
    """Flower's client of the coordinator's interface, with our watch, patience and memory.

    Args:
        hand: what is kept on disk.
        say: sends a report.
        leaving: set when the process was asked to end.
        home: the hospital's Flower home, with the approved digest.
    """

    class Fleet(flower.FleetHttpClient):
        _active = time.monotonic()
        _began = False

        def __init__(self, base_url: str, **options: object) -> None:
            options["interceptors"] = (Watch(say, hand), *options["interceptors"])  # type: ignore[misc]
            super().__init__(base_url, **options)  # type: ignore[arg-type]
            self._unsure: set[str] = set()  # parts that may have arrived
            self._sending, self._left = ("", Upload("", "", [])), set[str]()  # an answer, and its parts still to go
            self._lock = threading.Lock()

        def ActivateNode(self, request: flower.ActivateNodeRequest) -> flower.ActivateNodeResponse:
            try:
                response = super().ActivateNode(request)
            except httpx.HTTPStatusError as error:
                known = flower.FlowerError.from_json(error.response.text)
                if known is None or known.code != flower.ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
                    raise
                node = hand.node()
                if node is None or not self._still(node):
                    say("refused", code=CoordinatorRefuses.code, title=CoordinatorRefuses.title)
                    raise
                _log.info("taking up node %d again", node)
                response = flower.ActivateNodeResponse(node_id=node)
            hand.be(response.node_id)
            say("online", node=str(response.node_id))
            return response

        def _still(self, node: int) -> bool:
            """Whether the coordinator counts us as this node (the request is signed with our key)."""
            beat = flower.SendNodeHeartbeatRequest(
                node=flower.Node(node_id=node), heartbeat_interval=flower.HEARTBEAT_DEFAULT_INTERVAL
            )
            try:
                return bool(self.SendNodeHeartbeat(beat).success)
            except httpx.HTTPStatusError:
                return False

        def DeactivateNode(self, request: flower.DeactivateNodeRequest) -> flower.DeactivateNodeResponse:
            # After a goodbye the coordinator answers for us that we are gone, to what it has asked and to what it asks.
            if not leaving.is_set() or hand.taken() is not None:  # we shall be back in a moment
                return flower.DeactivateNodeResponse()
            response = super().DeactivateNode(request)
            hand.leave()
            return response

        def PullMessages(self, request: flower.PullMessagesRequest) -> flower.PullMessagesResponse:
            """The next message; Flower's loop asks for it when it is done with the last. Never an empty answer."""
            if (kept := hand.taken()) is not None:
                response = flower.PullMessagesResponse.FromString(kept[0])
                if not self._began and kept[1] < DELIVERIES:
                    return self._deliver(response, kept[1] + 1)
                if not self._began:
                    self._refuse(request.node, response, MessageDropped)
                about = response.messages_list[0].metadata
                self._throw_away(request.node, about.run_id, about.message_id)
                hand.put_down()
                self._active = time.monotonic()
                say("done")
            self._began = True
            while not (response := super().PullMessages(request)).messages_list:
                time.sleep(next_look_s(time.monotonic() - self._active))
            return self._deliver(response, 1)

        def _deliver(self, response: flower.PullMessagesResponse, deliveries: int) -> flower.PullMessagesResponse:
            hand.take(response.SerializeToString(), deliveries)
            self._began = True
            say("message", delivery=deliveries)
            return response

        def PushMessages(self, request: flower.PushMessagesRequest) -> flower.PushMessagesResponse:
            """An answer's envelope; the parts that the coordinator waits for then.

            Where an upload of the same answer was begun (it has the same id here, by `executor.steady`):
            - with a receipt of the coordinator: the envelope is not sent again, and its parts are, under that session;
            - without one: the envelope is sent again. The coordinator takes it as the one that it has, or as the first.
              Where the ServerApp took it meanwhile, Flower has forgotten what it answers: it asks for no parts, but the
              ServerApp waits for them, three minutes long. They are sent without a session; Flower finds the open one.

            Where an upload of another answer to the same message was begun (a kill came between), as `Working` with
            another share, Flower takes no second envelope, whether the ServerApp has taken the first one or not: this
            answer is refused without a word, has no parts to push, and the loop lets the message go. The former one
            - counts, where all of it had arrived;
            - is thrown away, where it will never be whole. A ServerApp that waits for its parts hears of an error at
              once, and asks again; one that has not taken the envelope yet does so at its next look but one. Where the
              envelope never arrived there is nothing to throw away, and this answer is the first.
            """
            about = request.messages_list[0].metadata
            begun = hand.begun_upload(about.reply_to_message_id)
            if begun is not None and begun.reply != about.message_id:
                if begun.parts:
                    self._throw_away(request.node, about.run_id, begun.reply)
                begun = None
            if begun is None or (begun.parts and not begun.session):
                begun = self._push_envelope(request, again=begun is not None)
            else:
                self._unsure.update(begun.parts)
            self._sending, self._left = (about.reply_to_message_id, begun), set(begun.parts)
            return flower.PushMessagesResponse(objects_to_push=begun.parts, session_id=begun.session)

        def _push_envelope(self, request: flower.PushMessagesRequest, *, again: bool) -> Upload:
            """Send an answer's envelope, once more where the first had no receipt."""
            about = request.messages_list[0].metadata
            parts = [part.object_id for part in flower.iterate_object_tree(request.message_object_trees[0])]
            unheard = Upload(about.message_id, "", parts)
            hand.begin_upload(about.reply_to_message_id, unheard)
            response = super().PushMessages(request)
            if again and not response.objects_to_push:
                self._unsure.update(parts)
                return unheard
            heard = Upload(about.message_id, response.session_id, list(response.objects_to_push))
            hand.begin_upload(about.reply_to_message_id, heard)
            return heard

        def PushObject(self, request: flower.PushObjectRequest) -> flower.PushObjectResponse:
            """A part of an answer. One that is not wanted, where an earlier try had no answer, has arrived already."""
            again = request.object_id in self._unsure
            self._unsure.add(request.object_id)
            response = super().PushObject(request)
            self._unsure.discard(request.object_id)
            if stored := response.stored or again:
                self._arrived(request.object_id)
            return flower.PushObjectResponse(stored=stored)

        def _arrived(self, part: str) -> None:
            """Keep in mind that all of an answer has arrived, with the last of its parts; several arrive at a time."""
            with self._lock:
                if part in self._left:
                    self._left.remove(part)
                    if not self._left:
                        message, upload = self._sending
                        hand.begin_upload(message, upload._replace(parts=[]))

        def PullObject(self, request: flower.PullObjectRequest) -> flower.PullObjectResponse:
            """A part of a message; none where the run has ended, upon which Flower throws the message away.

            At the coordinator's own word for it (403) it would keep the half message, and the executor would wait for
            the rest for ever.
            """
            try:
                return super().PullObject(request)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.FORBIDDEN:
                    raise
                return flower.PullObjectResponse(object_found=False)

        def GetRun(self, request: flower.GetRunRequest) -> flower.GetRunResponse:
            """Each run is an ordinary one here: what is not is refused by its bundle, as the executor tells.

            Flower would keep the message of an agent's run for an executor of agents, and wait for it for ever.
            """
            response = super().GetRun(request)
            response.run.primary_task_type = flower.TaskType.SERVER_APP
            return response

        def GetFab(self, request: flower.GetFabRequest) -> flower.GetFabResponse:
            response = super().GetFab(request)
            try:
                require_approved(response.fab.content, home)
            except BundleRefused as refused:
                _log.error("%s", refused)
                content = response.fab.content
                say("bundle", code=refused.code, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
                if (kept := hand.taken()) is not None:
                    self._refuse(request.node, flower.PullMessagesResponse.FromString(kept[0]), type(refused))
                raise flower.RunNotRunningException from None  # upon which the loop lets the message go
            return response

        def ConfirmMessageReceived(
            self, request: flower.ConfirmMessageReceivedRequest
        ) -> flower.ConfirmMessageReceivedResponse:
            """Not yet: the coordinator throws a message's content away once we confirm it, and we may need it again."""
            return flower.ConfirmMessageReceivedResponse()

        def _throw_away(self, node: flower.Node, run: int, name: str) -> None:
            """Have the coordinator throw away the content of a message, to us or of ours, as one that was received."""
            received = flower.ConfirmMessageReceivedRequest(node=node, run_id=run, message_object_id=name)
            try:
                super().ConfirmMessageReceived(received)
            except httpx.HTTPStatusError as error:
                if error.response.is_server_error:  # otherwise the run has ended: all of it is gone
                    raise

        def _refuse(self, node: flower.Node, response: flower.PullMessagesResponse, why: type[FedLoupeError]) -> None:
            """Answer a message with an error in the place of the site."""
            _log.error("refused: %s %s", why.code, why.title)
            message = flower.message_from_proto(response.messages_list[0])
            reply = steady(Message(Error(code=FAILED, reason=f"{why.code} {why.title}"), reply_to=message), message)
            reply.metadata.__dict__["_message_id"] = reply.object_id  # as Flower does for its own
            try:
                pushed = self.PushMessages(
                    flower.PushMessagesRequest(
                        node=node,
                        messages_list=[flower.message_to_proto(reply)],
                        message_object_trees=[flower.get_object_tree(reply)],
                        clientapp_runtime_list=[0.0],
                    )
                )
                for name, part in flower.get_all_nested_objects(reply).items():
                    if name in pushed.objects_to_push:
                        self.PushObject(
                            flower.PushObjectRequest(
                                node=node,
                                run_id=message.metadata.run_id,
                                session_id=pushed.session_id,
                                object_id=name,
                                object_content=part.deflate(),
                            )
                        )
            except httpx.HTTPStatusError as error:
                if error.response.is_server_error:
                    raise

    return Fleet
