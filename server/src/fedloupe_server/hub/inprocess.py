"""A federation on one machine without Flower's processes: the courier called inline, through Flower's serialisation.

    exchange = inprocess_exchange({"north": north.handle, "south": south.handle})
    replies = exchange({"north": blob}, timeout_s=60.0)

Needs `fedloupe-client` beside the server (the `simulation` extra). No Ray, no network, no sleep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedloupe_server.federation.exchange import Exchange
from fedloupe_server.hub.grid import GridExchange

RUN_ID = 1
FIRST_NODE = 2  # 1 is the SuperLink


class InProcessGrid(Grid):
    """Delivers a message to a ClientApp at once and keeps the reply in an inbox until it is pulled.

    Args:
        apps: ClientApp by node.
        at_once: messages that are under way together; more than one only for apps that may run in several threads.
    """

    def __init__(self, apps: Mapping[int, ClientApp], at_once: int = 1) -> None:
        self._apps, self._at_once = dict(apps), at_once
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
        """Deliver in order; each ClientApp has answered when this returns."""
        sent = list(messages)
        if self._at_once == 1:
            delivered = [self._deliver(message) for message in sent]
        else:
            with ThreadPoolExecutor(self._at_once) as threads:
                delivered = list(threads.map(self._deliver, sent))
        self._inbox.update(delivered)
        return [id_ for id_, _ in delivered]

    def _deliver(self, message: Message) -> tuple[str, Message]:
        asked, id_ = through_wire(message)
        node = message.metadata.dst_node_id
        context = Context(run_id=RUN_ID, node_id=node, node_config={}, state=RecordDict(), run_config={})
        reply, _ = through_wire(self._apps[node](asked, context))
        return id_, reply

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Take the replies to these messages out of the inbox."""
        return [self._inbox.pop(id_) for id_ in message_ids if id_ in self._inbox]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver and take the replies; `timeout` cannot pass, as nothing waits."""
        return self.pull_messages(self.push_messages(messages))


def through_wire(message: Message) -> tuple[Message, str]:
    """The message after Flower's serialisation and back, and its id: what the other side would see."""
    id_ = message.object_id
    contents = {key: part.deflate() for key, part in get_all_nested_objects(message).items()}
    arrived = inflate_object_from_contents(id_, contents)
    if not isinstance(arrived, Message):
        raise TypeError(f"a message came back as {type(arrived).__name__}")
    arrived.metadata.__dict__["_message_id"] = id_
    return arrived, id_


def inprocess_exchange(handlers: Mapping[str, Callable[[bytes], bytes]], at_once: int = 1) -> Exchange:
    """An exchange with sites that live on this machine.

    Args:
        handlers: `Site.handle` by site name. One that raises makes its site absent, as a dead site process would.
        at_once: sites that are asked together; more than one only where each site works in a process of its own.
    """
    from fedloupe_client.courier.app import Send, courier

    def reach(handle: Callable[[bytes], bytes]) -> Callable[[Context], Send]:
        return lambda _context: lambda blob, _timeout_s: handle(blob)

    nodes = {site: FIRST_NODE + place for place, site in enumerate(handlers)}
    apps = {nodes[site]: courier(reach(handle)) for site, handle in handlers.items()}
    return GridExchange(InProcessGrid(apps, at_once), nodes)
