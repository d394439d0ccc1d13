"""The SuperLink's control interface without a process for each question: nodes, and what became of a run.

    control = Control(authority=Path("FED/authority/ca.crt"), port=8000)
    control.nodes()                              # every node that is registered, with its public key
    control.register("ecdsa-sha2-nistp384 AAAA...", "north")
    control.status(run)                          # "finished:completed"

Only on loopback: the interface asks nobody for a password, and the proxy does not forward it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import httpx
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListNodesResponse,
    ListRunsRequest,
    ListRunsResponse,
    RegisterNodeRequest,
    RegisterNodeResponse,
    StopRunRequest,
    StopRunResponse,
    UnregisterNodeRequest,
    UnregisterNodeResponse,
)
from google.protobuf.message import DecodeError

from fedloupe_server.hub.flower import FlowerRefused

TIMEOUT_S = 20.0
GONE = ("unregistered", "deleted")
"""Status of a node whose registration was taken back: Flower lists it for ever, and never registers its key again."""


class _Record(Protocol):
    """A protobuf message."""

    def SerializeToString(self) -> bytes:
        """As bytes."""
        ...

    def ParseFromString(self, serialized: bytes) -> int:
        """From bytes."""
        ...


_Answer = TypeVar("_Answer", bound=_Record)


@dataclass(frozen=True)
class Node:
    """A courier as the SuperLink knows it.

    Attributes:
        id: its node id.
        public_key: one OpenSSH line, without a comment.
        status: `registered`, `online` or `offline`.
        contact: when it came online or went offline last, UTC, ISO 8601; empty before.
    """

    id: int
    public_key: str
    status: str
    contact: str


class Control:
    """One SuperLink.

    Args:
        authority: CA certificate of the SuperLink, PEM.
        port: its loopback port.
    """

    def __init__(self, authority: Path, port: int) -> None:
        self._client = httpx.Client(
            base_url=f"https://127.0.0.1:{port}",
            verify=ssl.create_default_context(cafile=authority),
            timeout=TIMEOUT_S,
            trust_env=False,  # a proxy variable of the machine must not send this elsewhere
        )

    def nodes(self) -> list[Node]:
        """Registered nodes, in no order.

        Raises:
            FlowerRefused: no answer, or no for an answer.
        """
        answer = self._ask("list-nodes", ListNodesRequest(), ListNodesResponse)
        found = []
        for node in answer.nodes_info:
            if node.status in GONE:
                continue
            key = load_pem_public_key(node.public_key)
            line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
            contact = max(node.last_activated_at, node.last_deactivated_at)
            found.append(Node(node.node_id, line, node.status, contact))
        return found

    def register(self, public_key: str, site: str) -> int:
        """Register a courier's public key; its node id.

        Raises:
            FlowerRefused: no answer, or the key is registered.
        """
        key = load_ssh_public_key(public_key.encode("ascii"))
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        answer = self._ask("register-node", RegisterNodeRequest(public_key=pem, name=site), RegisterNodeResponse)
        return int(answer.node_id)

    def unregister(self, node: int) -> None:
        """Take a node's registration back: it is refused from its next request on.

        Raises:
            FlowerRefused: no answer, or no for an answer.
        """
        self._ask("unregister-node", UnregisterNodeRequest(node_id=node), UnregisterNodeResponse)

    def status(self, run: int) -> str:
        """`pending`, `starting`, `running`, or `finished:` and `completed`, `failed` or `stopped`.

        Raises:
            FlowerRefused: no answer, or no such run.
        """
        answer = self._ask("list-runs", ListRunsRequest(run_id=run), ListRunsResponse)
        if run not in answer.run_dict:
            raise FlowerRefused("no such run", where=f"run {run}", remedy="read the SuperLink's log")
        status = answer.run_dict[run].status
        return f"{status.status}:{status.sub_status}" if status.sub_status else str(status.status)

    def stop(self, run: int) -> None:
        """Stop a run.

        Raises:
            FlowerRefused: no answer, or it is over.
        """
        self._ask("stop-run", StopRunRequest(run_id=run), StopRunResponse)

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _ask(self, verb: str, request: _Record, kind: type[_Answer]) -> _Answer:
        media = {"content-type": "application/protobuf", "accept": "application/protobuf"}
        try:
            answer = self._client.post(f"/v1/control/{verb}", content=request.SerializeToString(), headers=media)
            answer.raise_for_status()
            found = kind()
            found.ParseFromString(answer.content)
        except (httpx.HTTPError, DecodeError) as error:
            raise FlowerRefused(
                f"{type(error).__name__}: {error}", where=f"control, {verb}", remedy="read the SuperLink's log"
            ) from None
        return found
