"""The SuperLink knows the couriers of the federation folder, whatever it knew before."""

from __future__ import annotations

import pytest

from fedloupe_server.hub.control import Node
from fedloupe_server.hub.register import reconcile
from fedloupe_server.provision import Courier


class Registry:
    def __init__(self, *nodes: Node) -> None:
        self.all = {node.id: node for node in nodes}
        self.done: list[tuple[str, object]] = []

    def nodes(self):
        return list(self.all.values())

    def register(self, public_key, site):
        number = max(self.all, default=10) + 1
        self.all[number] = Node(number, public_key, "registered", "")
        self.done.append(("register", site))
        return number

    def unregister(self, node):
        del self.all[node]
        self.done.append(("unregister", node))


def courier(site, key, superseded=False):
    return Courier(site, f"ecdsa-sha2-nistp384 {key}", superseded)


def node(number, key, contact=""):
    return Node(number, f"ecdsa-sha2-nistp384 {key}", "online" if contact else "registered", contact)


def test_what_is_missing_is_registered_once():
    registry = Registry()
    for _ in range(2):
        found = reconcile(registry, [courier("north", "A"), courier("south", "B")])
    assert registry.done == [("register", "north"), ("register", "south")]
    assert {site: one.node for site, one in found.items()} == {"north": 11, "south": 12}


def test_a_comment_behind_the_key_is_no_other_key():
    registry = Registry(node(1, "A"))
    reconcile(registry, [Courier("north", "ecdsa-sha2-nistp384 A hospital-1", False)])
    assert registry.done == []


def test_what_nobody_names_any_more_is_taken_back():
    registry = Registry(node(1, "A", "2026"), node(2, "B", "2026"))
    found = reconcile(registry, [courier("south", "B")])
    assert registry.done == [("unregister", 1)] and set(found) == {"south"}


@pytest.mark.parametrize(("contact", "asked"), [("", 1), ("2026-11-28", 2)])
def test_a_hospital_is_asked_by_its_old_key_until_the_new_one_was_online(contact, asked):
    registry = Registry(node(1, "old", "2026-11-01"), node(2, "new", contact))
    found = reconcile(registry, [courier("north", "old", superseded=True), courier("north", "new")])
    assert found["north"].node == asked and registry.done == []


def test_a_hospital_that_was_never_there_is_asked_by_its_newest_key():
    registry = Registry(node(1, "old"), node(2, "new"))
    found = reconcile(registry, [courier("north", "old", superseded=True), courier("north", "new")])
    assert (found["north"].node, found["north"].status) == (2, "registered")
