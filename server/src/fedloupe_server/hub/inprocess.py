"""A federation on one machine without Flower's processes: the courier called inline, through Flower's serialisation.

    exchange = inprocess_exchange({"north": north.handle, "south": south.handle}, key=key)
    replies = ask_once(exchange, {"north": blob}, timeout_s=60.0)

Needs `fedloupe-client` beside the server (the `simulation` extra). No Ray, no network, no sleep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedloupe.signing import Signer
from fedloupe_server.federation.exchange import Exchange
from fedloupe_server.hub.grid import GridExchange, emptied

RUN_ID = 1
FIRST_NODE = 2  # 1 is the SuperLink


class InProcessGrid(Grid):
    """Delivers a message to a ClientApp at once and keeps the reply in an inbox until it is pulled.

    Args:
        apps: ClientApp by node.
        at_once: messages that are under way together; more than one only for apps that may run in several threads.
    """

    def __init__(self, apps: Mapping[int, ClientApp], at_once: int = 1) -> None:
        self._apps = dict(apps)
        self._threads = ThreadPoolExecutor(at_once) if at_once > 1 else None
        self._running: dict[str, Future[Message]] = {}
        self._inbox: dict[str, Message] = {}
        self._run = Run.create_empty(RUN_ID)
        try:
            _ = TaskIdentity.task_id
        except RuntimeError:  # not set yet: Flower wants one identity a process before it makes a message
            TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN_ID, SUPERLINK_NODE_ID

    def set_run(self, run: Run) -> None:
        """Take another run's identity."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Every node."""
        return list(self._apps)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver in order: answered when this returns, or under way in a thread where several may be."""
        return [self._push(message) for message in messages]

    def _push(self, message: Message) -> str:
        asked, id_ = through_wire(message)
        if self._threads is None:
            self._inbox[id_] = self._deliver(asked)
        else:
            self._running[id_] = self._threads.submit(self._deliver, asked)
        return id_

    def _deliver(self, asked: Message) -> Message:
        node = asked.metadata.dst_node_id
        context = Context(run_id=RUN_ID, node_id=node, node_config={}, state=RecordDict(), run_config={})
        answer = self._apps[node](asked, context)
        reply, _ = through_wire(answer)
        emptied(asked.content)
        if answer.has_content():
            emptied(answer.content)
        return reply

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Take the replies to these messages out of the inbox."""
        ids = list(message_ids)
        for id_ in ids:
            if id_ in self._running and self._running[id_].done():
                self._inbox[id_] = self._running.pop(id_).result()
        return [self._inbox.pop(id_) for id_ in ids if id_ in self._inbox]

    def pause(self, longest_s: float) -> None:
        """Wait until a delivery is done, `longest_s` seconds at most."""
        if self._running:
            wait(self._running.values(), longest_s, return_when=FIRST_COMPLETED)
        else:
            time.sleep(longest_s)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver and take the replies that are there within `timeout` seconds; for ever where None."""
        ids = list(self.push_messages(messages))
        wait([self._running[id_] for id_ in ids if id_ in self._running], timeout)
        return self.pull_messages(ids)


def through_wire(message: Message) -> tuple[Message, str]:
    """The message after Flower's serialisation and back, and its id: what the other side would see."""
    id_ = message.object_id
    contents = {key: part.deflate() for key, part in get_all_nested_objects(message).items()}
    arrived = inflate_object_from_contents(id_, contents)
    if not isinstance(arrived, Message):
        raise TypeError(f"a message came back as {type(arrived).__name__}")
    arrived.metadata.__dict__["_message_id"] = id_
    return arrived, id_


def inprocess_exchange(
    handlers: Mapping[str, Callable[[bytes], bytes]], at_once: int = 1, *, key: Signer | None = None
) -> Exchange:
    """An exchange with sites that live on this machine.

    Args:
        handlers: `Site.handle` by site name. One that raises makes its site absent, as a dead site process would.
        at_once: sites that are asked together; more than one only where each site works in a process of its own.
        key: of the coordinator; real sites answer nothing without it.
    """
    from fedloupe_client.courier.app import Send, courier

    def reach(handle: Callable[[bytes], bytes]) -> Callable[[Context], Send]:
        return lambda _context: lambda blob, _timeout_s: handle(blob)

    nodes = {site: FIRST_NODE + place for place, site in enumerate(handlers)}
    apps = {nodes[site]: courier(reach(handle)) for site, handle in handlers.items()}
    grid = InProcessGrid(apps, at_once)
    return GridExchange(grid, nodes, key=key, pause=grid.pause)
