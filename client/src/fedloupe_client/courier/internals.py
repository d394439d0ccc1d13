"""Flower's own names that the courier needs beyond Flower's public interface: imported here and nowhere else.

    from fedloupe_client.courier.internals import FleetHttpClient, RuntimeHttpClient

Flower promises nothing about these. When one of them is gone, nothing of the courier starts, and the error says why.
"""

from __future__ import annotations

from types import ModuleType

from fedloupe.errors import FedLoupeError


class FlowerChanged(FedLoupeError):
    """A name inside Flower that the courier relies on is gone: a Flower that changed must not run half guarded."""

    code = "FL-670"
    title = "Flower has changed inside"


def changed(what: str) -> FlowerChanged:
    """The error for a name that is not there."""
    return FlowerChanged(f"not found: {what}", remedy="install the Flower version that FedLoupe pins")


try:
    # What both our processes speak: messages, their objects, the HTTP clients of Flower's two interfaces.
    from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, SubStatus
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.fab_pb2 import GetFabRequest, GetFabResponse
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
    from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
    from flwr.proto.message_pb2 import (
        ConfirmMessageReceivedRequest,
        ConfirmMessageReceivedResponse,
        PullObjectRequest,
        PullObjectResponse,
        PushObjectRequest,
        PushObjectResponse,
    )
    from flwr.proto.node_pb2 import Node
    from flwr.proto.run_pb2 import GetRunRequest, GetRunResponse
    from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
    from flwr.supercore.constant import TaskType
    from flwr.supercore.error import ApiErrorCode, FlowerError
    from flwr.supercore.exit import add_exit_handler
    from flwr.supercore.heartbeat import HeartbeatSender
    from flwr.supercore.inflatable.inflatable_object import (
        get_all_nested_objects,
        get_object_tree,
        iterate_object_tree,
    )
    from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree
    from flwr.supercore.interceptors import (
        RuntimeTokenHttpInterceptor,
        RuntimeVersionHttpInterceptor,
        SuperExecAuthHttpInterceptor,
    )
    from flwr.supercore.protobuf.client import ProtobufCall, ProtobufClientInterceptor, ProtobufRequestContext
    from flwr.supercore.run import RunNotRunningException
    from flwr.supercore.runtime import RuntimeHttpClient
    from flwr.supernode import fleet_http_connection, start_client_internal
    from flwr.supernode.cli import flower_supernode
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.runtime import run_clientapp
    from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output
except ImportError as error:
    raise changed(str(error)) from None

SUPERNODE_CONNECTION, SUPERNODE_LOOP, CLIENT_APP = fleet_http_connection, start_client_internal, run_clientapp

__all__ = [
    "CLIENT_APP",
    "HEARTBEAT_DEFAULT_INTERVAL",
    "SUPERNODE_CONNECTION",
    "SUPERNODE_LOOP",
    "AcquireTaskRequest",
    "ActivateNodeRequest",
    "ActivateNodeResponse",
    "ApiErrorCode",
    "ConfirmMessageReceivedRequest",
    "ConfirmMessageReceivedResponse",
    "DeactivateNodeRequest",
    "DeactivateNodeResponse",
    "FleetHttpClient",
    "FlowerChanged",
    "FlowerError",
    "GetFabRequest",
    "GetFabResponse",
    "GetRunRequest",
    "GetRunResponse",
    "HeartbeatSender",
    "Node",
    "ProtobufCall",
    "ProtobufClientInterceptor",
    "ProtobufRequestContext",
    "PullMessagesRequest",
    "PullMessagesResponse",
    "PullObjectRequest",
    "PullObjectResponse",
    "PushMessagesRequest",
    "PushMessagesResponse",
    "PushObjectRequest",
    "PushObjectResponse",
    "RunNotRunningException",
    "RuntimeHttpClient",
    "RuntimeTokenHttpInterceptor",
    "RuntimeVersionHttpInterceptor",
    "SendNodeHeartbeatRequest",
    "SendTaskHeartbeatRequest",
    "SubStatus",
    "SuperExecAuthHttpInterceptor",
    "TaskType",
    "add_exit_handler",
    "flower_supernode",
    "get_all_nested_objects",
    "get_object_tree",
    "iterate_object_tree",
    "message_from_proto",
    "message_to_proto",
    "pull_and_inflate_object_from_tree",
    "pull_task_input",
    "push_message",
    "push_task_output",
    "replace",
]


def replace(module: ModuleType, name: str, new: object) -> None:
    """Put `new` in the place of a name of Flower's.

    Raises:
        FlowerChanged: the module has no such name, so putting one there would do nothing.
    """
    if not hasattr(module, name):
        raise changed(f"{module.__name__}.{name}")
    setattr(module, name, new)
