"""The courier's executor: takes a message from the SuperNode, carries it to the site's socket, brings the answer back.

    python -m fedloupe_client.courier.executor --report 3 --parent 4711 --address 127.0.0.1:9094 \
        --secret executor.secret --home flower-home

It stays while messages come and go, so that none waits for a Python to start. Flower's own executor would unpack each
app bundle and run what it finds; this one compares the bundle's whole SHA-256 with the approved one and then runs
`fedloupe_client.courier.app`, the installed one: nothing of a bundle is ever unpacked, imported or run. It asks for
client apps alone; agents, models, connectors and server apps wait in vain.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from flwr.app import Context, Error, Message

from fedloupe.errors import FedLoupeError
from fedloupe_client.courier import internals as flower
from fedloupe_client.courier.app import FAILED, CourierFailed, app
from fedloupe_client.courier.approved import require_approved
from fedloupe_client.courier.tether import own_log, tether

SOONEST_S, LATEST_S, UNREACHABLE_S = 0.05, 0.25, 0.25
TASK_LOST = 73
_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_log = logging.getLogger("fedloupe_client.courier.executor")
Run = Callable[[Message, Context], Message]


def answer(message: Message, context: Context, bundle: bytes, home: Path, run: Run = app) -> Message:
    """What the site says to one message, or an error that holds a code and a title and nothing else.

    Args:
        message: from the coordinator.
        context: the SuperNode's, with its node-config.
        bundle: the app bundle that the coordinator submitted; only its digest is looked at.
        home: the hospital's Flower home, which holds the approved digest.
        run: our ClientApp.
    """
    try:
        require_approved(bundle, home)
        return run(message, context)
    except FedLoupeError as error:
        _log.error("%s", error)
        reason = f"{error.code} {error.title}"
    except Exception:  # noqa: BLE001 - the outermost wall: the text of what escapes here must not reach the coordinator
        _log.exception("the client app failed")
        reason = f"{CourierFailed.code} {CourierFailed.title}"
    return Message(Error(code=FAILED, reason=reason), reply_to=message)


@dataclass(frozen=True)
class Executor:
    """Where the SuperNode is, and what is approved.

    Attributes:
        address: `host:port` of the SuperNode on loopback.
        secret: the secret that both were given at this start of the courier.
        home: the hospital's Flower home.
    """

    address: str
    secret: bytes
    home: Path

    def work(self) -> None:
        """Carry messages for ever.

        Any failure of Flower's machinery in the middle of a message escapes: the process ends, and the supervisor has
        the message delivered again. (A task that is only reported as failed would never be answered.)
        """
        signed = flower.SuperExecAuthHttpInterceptor(master_secret=self.secret, protected_methods={_ACQUIRE})
        wanted = flower.AcquireTaskRequest(supported_task_types=[flower.TaskType.CLIENT_APP])
        active = time.monotonic()
        with self._client(signed) as client:
            while True:
                try:
                    got = client.AcquireTask(wanted)
                except (httpx.TransportError, httpx.HTTPStatusError) as error:
                    _log.debug("no SuperNode: %s", error)  # it starts, or starts again
                    time.sleep(UNREACHABLE_S)
                    continue
                if got.HasField("task") and got.token:
                    self._carry(got.token)
                    active = time.monotonic()
                else:
                    time.sleep(min(LATEST_S, max(SOONEST_S, (time.monotonic() - active) / 20)))

    def _carry(self, token: str) -> None:
        began = time.monotonic()
        with self._client(flower.RuntimeTokenHttpInterceptor(token)) as client, _beating(client):
            message, context, _, fab = flower.pull_task_input(client)
            reply = steady(answer(message, context, fab.content, self.home), message)
            flower.push_message(client, reply, context)
            done = flower.SubStatus.FAILED if reply.has_error() else flower.SubStatus.COMPLETED
            flower.push_task_output(client, context, done, "")
        _log.info("message answered in %.2f s", time.monotonic() - began)

    def _client(self, interceptor: flower.ProtobufClientInterceptor) -> flower.RuntimeHttpClient:
        version = flower.RuntimeVersionHttpInterceptor(component_name="flwr-clientapp")
        return flower.RuntimeHttpClient.from_server_address(
            self.address, insecure=True, root_certificates=None, interceptors=[version, interceptor]
        )


def steady(reply: Message, message: Message) -> Message:
    """The reply, dated as the message: the same answer to the same message has the same id.

    A reply that was half uploaded when the courier was killed can then be completed (`fleet`): another id is refused.
    It also keeps a hospital's clock, which may be a little wrong, out of the coordinator's arithmetic of time to live.
    """
    reply.metadata.created_at, reply.metadata.ttl = message.metadata.created_at, message.metadata.ttl
    return reply


@contextmanager
def _beating(client: flower.RuntimeHttpClient) -> Iterator[None]:
    """Tell the SuperNode that the task is alive; end the process when the SuperNode has given it up."""

    def beat() -> bool:
        try:
            alive = client.SendTaskHeartbeat(flower.SendTaskHeartbeatRequest()).success
        except httpx.HTTPError as error:
            _log.warning("no heartbeat: %s", error)
            return False  # tried again; the supervisor ends us where the SuperNode is gone
        if not alive:
            _log.error("the SuperNode gave the message up")
            os._exit(TASK_LOST)
        return True

    sender = flower.HeartbeatSender(beat)
    sender.start()
    try:
        yield
    finally:
        sender.stop()


def install() -> None:
    """Look again soon for the parts of a message that the SuperNode still receives; Flower waits 1 s, and most do wait.

    Raises:
        FlowerChanged: there is no such place any more.
    """
    soon = functools.partial(flower.pull_and_inflate_object_from_tree, initial_backoff=SOONEST_S)
    flower.replace(flower.CLIENT_APP, "pull_and_inflate_object_from_tree", soon)


def main() -> None:
    """Run until killed."""
    parser = argparse.ArgumentParser(prog="fedloupe_client.courier.executor")
    parser.add_argument("--report", type=int, required=True, help="file descriptor for reports")
    parser.add_argument("--parent", type=int, required=True, help="process id of the supervisor")
    parser.add_argument("--address", required=True, help="host:port of the SuperNode")
    parser.add_argument("--secret", type=Path, required=True, help="file with the shared secret")
    parser.add_argument("--home", type=Path, required=True, help="the hospital's Flower home")
    parser.add_argument("--log", choices=("words", "json"), default="words")
    given = parser.parse_args()
    own_log(given.log)
    tether(given.report, given.parent)
    install()
    Executor(given.address, given.secret.read_bytes(), given.home).work()


if __name__ == "__main__":
    try:
        main()
    except FedLoupeError as error:
        sys.exit(str(error))
