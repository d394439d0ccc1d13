"""A SuperLink in memory, as far as a courier's HTTP client sees it: `Link` answers, `envelope` is what it offers."""

from __future__ import annotations

import json

import httpx
import numpy as np
from flwr.app import Array, ArrayRecord, Metadata, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    DeactivateNodeRequest,
    DeactivateNodeResponse,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ConfirmMessageReceivedResponse,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.proto.node_pb2 import Node

from fedloupe_client.courier import internals

NODE = Node(node_id=7)
NOT_ACTIVATED = {"code": 2004, "detail": "Failed to activate SuperNode."}


def envelope(created_at=1.8e9):
    """A message as the SuperLink offers it, with its object tree."""
    content = RecordDict({"fedloupe": ArrayRecord({"message": Array(np.arange(9, dtype=np.uint8))})})
    about = Metadata(
        run_id=5, message_id="", src_node_id=1, dst_node_id=7, reply_to_message_id="", group_id="1",
        created_at=created_at, ttl=3600.0, message_type="query.ask",
    )  # fmt: skip
    message = make_message(metadata=about, content=content)
    message.metadata.__dict__["_message_id"] = message.object_id
    bare = internals.message_to_proto(remove_content_from_message(message))
    return PullMessagesResponse(messages_list=[bare], message_object_trees=[internals.get_object_tree(message)])


class Link:
    """A SuperLink as far as the courier's HTTP client sees it."""

    def __init__(self) -> None:
        self.offered, self.asked, self.online, self.status = [], [], False, 200
        self.confirmed, self.replies, self.objects = [], [], {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        verb = request.url.path.rsplit("/", 1)[1]
        self.asked.append(verb)
        if self.status != 200:
            return httpx.Response(self.status)
        made = getattr(self, verb.replace("-", "_"))(request.content)
        if isinstance(made, httpx.Response):
            return made
        return httpx.Response(
            200, content=made.SerializeToString(), headers={"content-type": "application/protobuf"}, request=request
        )

    def activate_node(self, content):
        assert ActivateNodeRequest.FromString(content).public_key == b"key"
        if self.online:
            return httpx.Response(400, content=json.dumps(NOT_ACTIVATED))
        self.online = True
        return ActivateNodeResponse(node_id=7)

    def send_node_heartbeat(self, content):
        known = SendNodeHeartbeatRequest.FromString(content).node.node_id == 7
        return SendNodeHeartbeatResponse(success=True) if known else httpx.Response(401)

    def deactivate_node(self, content):
        DeactivateNodeRequest.FromString(content)
        self.online = False
        return DeactivateNodeResponse()

    def pull_messages(self, content):
        PullMessagesRequest.FromString(content)
        return self.offered.pop(0) if self.offered else PullMessagesResponse()

    def confirm_message_received(self, content):
        self.confirmed.append(ConfirmMessageReceivedRequest.FromString(content).message_object_id)
        return ConfirmMessageReceivedResponse()

    def push_messages(self, content):
        request = PushMessagesRequest.FromString(content)
        self.replies += request.messages_list
        wanted = [tree.object_id for tree in request.message_object_trees]
        return PushMessagesResponse(objects_to_push=wanted, session_id="s")

    def push_object(self, content):
        request = PushObjectRequest.FromString(content)
        self.objects[request.object_id] = request.object_content
        return PushObjectResponse(stored=True)
