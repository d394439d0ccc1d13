"""The SuperLink's own handlers over its own state: what `superlink_double.Link` imitates, with Flower's whole memory.

    link = FlowerLink(flower_state(tmp_path / "state.db"))
    asked = link.ask(b"question")            # the ServerApp's side: Flower's own Grid
    httpx.MockTransport(link)                # the courier's side
    link.answers(asked)

Parts are known by their content alone: equal parts of two answers are one, whatever run and node they are of.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from secrets import token_bytes
from types import SimpleNamespace

import httpx
from flwr.app import Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.proto import fleet_pb2, message_pb2
from flwr.proto.node_pb2 import Node
from flwr.server.superlink.linkstate import LinkState, LinkStateFactory
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.date import now
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import http_grid
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers

from fedloupe_client.courier.app import pack


def flower_state(database: Path) -> LinkState:
    """A SuperLink's memory, made new; this takes a second, so that some tests share one."""
    store = ObjectStoreFactory(str(database))
    return LinkStateFactory(str(database), NoOpFederationManager(), store).state()


class FlowerLink:
    """One run, one node, one ServerApp.

    Attributes:
        lost: by verb of the courier's, what happens while its next answer is lost on the way; the request arrives.
        meanwhile: by verb of the ServerApp's, what happens just before its next call.
        asked: verbs that the courier asked for.
    """

    def __init__(self, state: LinkState) -> None:
        self.state, key = state, token_bytes(16)
        self.node = Node(node_id=self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, 30.0))
        self.state.activate_node(self.node.node_id, 30.0)
        self.run = self.state.create_run(
            "fab", "1", "hash", {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        (run,) = self.state.get_run_info(run_ids=[self.run])
        self.state.claim_task(run.primary_task_id)
        self.state.activate_task(run.primary_task_id)
        self.lost: dict[str, Callable[[], object]] = {}
        self.meanwhile: dict[str, Callable[[], object]] = {}
        self.asked: list[str] = []
        self._grid = http_grid.HttpGrid(token="none")
        self._grid.set_run(run)
        task = SimpleNamespace(run_id=self.run, task_id=run.primary_task_id, type=TaskType.SERVER_APP)
        verbs = ("PushMessages", "PullMessages", "PushObject", "PullObject", "ConfirmMessageReceived")
        self._grid._client = SimpleNamespace(**{verb: partial(self._serve_app, verb, task) for verb in verbs})

    def _serve_app(self, verb, task, request):
        self.meanwhile.pop(verb, lambda: None)()
        handler = "".join(f"_{c.lower()}" if c.isupper() else c for c in verb).strip("_")
        return getattr(runtime_handlers, handler)(request, self.state, task)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        verb = request.url.path.rsplit("/", 1)[1]
        self.asked.append(verb)
        name = "".join(word.capitalize() for word in verb.split("-"))
        kind = getattr(fleet_pb2, f"{name}Request", None) or getattr(message_pb2, f"{name}Request")
        needs_store = verb in ("pull-messages", "confirm-message-received")
        more = (self.state.object_store,) if needs_store else ()
        made = getattr(fleet_handlers, verb.replace("-", "_"))(kind.FromString(request.content), self.state, *more)
        if (happens := self.lost.pop(verb, None)) is not None:
            happens()
            raise httpx.ReadError("the line broke")
        headers = {"content-type": "application/protobuf"}
        return httpx.Response(200, content=made.SerializeToString(), headers=headers, request=request)

    def ask(self, blob: bytes) -> str:
        """What the ServerApp sends to the node; the message's id."""
        about = Metadata(
            run_id=self.run, message_id="", src_node_id=SUPERLINK_NODE_ID, dst_node_id=self.node.node_id,
            reply_to_message_id="", group_id="1", created_at=now().timestamp(), ttl=3600.0, message_type="query.ask",
        )  # fmt: skip
        (asked,) = self._grid.push_messages([make_message(metadata=about, content=pack(blob))])
        return asked

    def take_envelope(self, asked: str) -> list[str]:
        """As a ServerApp that has begun to pull: it has the answer's envelope, and the coordinator forgets it.

        Returns:
            The ids of the answer's parts, for which it would wait now.
        """
        response = self._grid._client.PullMessages(runtime_handlers.PullAppMessagesRequest(message_ids=[asked]))
        (tree,) = response.message_object_trees
        return [part.object_id for part in http_grid.iterate_object_tree(tree)]

    def answers(self, asked: str) -> list[Message]:
        """What the ServerApp gets of one message now."""
        return list(self._grid.pull_messages([asked]))

    def parts(self, names: list[str]) -> list[bytes | None]:
        """Of each part its content; b"": waited for; None: no such part any more."""
        return [self.state.get_object(self.run, name) for name in names]
