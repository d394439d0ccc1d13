"""The SuperLink knows the couriers of the federation folder, whatever it knew before."""

from __future__ import annotations

import pytest

from fedloupe_server.hub.control import Node
from fedloupe_server.hub.flower import FlowerRefused
from fedloupe_server.hub.register import reconcile
from fedloupe_server.provision import Courier


class Registry:
    """A SuperLink; like Flower's, it never registers a key that was taken back."""

    def __init__(self, *nodes: Node, gone: tuple[str, ...] = ()) -> None:
        self.all = {node.id: node for node in nodes}
        self.gone = {f"ecdsa-sha2-nistp384 {key}" for key in gone}
        self.done: list[tuple[str, object]] = []

    def nodes(self):
        return list(self.all.values())

    def register(self, public_key, site):
        if public_key in self.gone:
            raise FlowerRefused("in use", remedy="read the SuperLink's log")
        number = max(self.all, default=10) + 1
        self.all[number] = Node(number, public_key, "registered", "")
        self.done.append(("register", site))
        return number

    def unregister(self, node):
        self.gone.add(self.all.pop(node).public_key)
        self.done.append(("unregister", node))


def courier(site, key, kit=1, superseded=False):
    return Courier(site, f"ecdsa-sha2-nistp384 {key}", kit, superseded)


def node(number, key, contact=""):
    return Node(number, f"ecdsa-sha2-nistp384 {key}", "online" if contact else "registered", contact)


def test_what_is_missing_is_registered_once():
    registry = Registry()
    for _ in range(2):
        found = reconcile(registry, [courier("north", "A"), courier("south", "B")]).nodes
    assert registry.done == [("register", "north"), ("register", "south")]
    assert {site: one.node for site, one in found.items()} == {"north": 11, "south": 12}


def test_a_comment_behind_the_key_is_no_other_key():
    registry = Registry(node(1, "A"))
    reconcile(registry, [Courier("north", "ecdsa-sha2-nistp384 A hospital-1", 1, False)])
    assert registry.done == []


def test_what_nobody_names_any_more_is_taken_back():
    registry = Registry(node(1, "A", "2026"), node(2, "B", "2026"))
    found = reconcile(registry, [courier("south", "B")]).nodes
    assert registry.done == [("unregister", 1)] and set(found) == {"south"}


def test_a_superlink_that_goes_in_the_middle_refused_no_key():
    class Going(Registry):
        def nodes(self):
            if self.done:
                raise FlowerRefused("ConnectError", remedy="read the SuperLink's log")
            return super().nodes()

        def register(self, public_key, site):
            self.done.append(("register", site))
            raise FlowerRefused("ReadTimeout", remedy="read the SuperLink's log")

    with pytest.raises(FlowerRefused, match="ConnectError"):
        reconcile(Going(), [courier("north", "A"), courier("south", "B")])


def rotation(*nodes):
    """A hospital whose second kit has another courier's key, twice looked at; the SuperLink, and the first look."""
    registry = Registry(*nodes)
    couriers = [courier("north", "old", 1, superseded=True), courier("north", "new", 2)]
    first = reconcile(registry, couriers)
    reconcile(registry, couriers)
    return registry, first


def test_a_hospital_is_asked_by_its_old_key_until_the_new_one_was_online():
    registry, first = rotation(node(1, "old", "2026-11-01"), node(2, "new"))
    assert first.nodes["north"].node == 1 and first.seen == {} and registry.done == []


@pytest.mark.parametrize("contact", ["", "2026-11-01"])
def test_a_key_that_was_replaced_is_taken_back_once_the_new_one_was_online(contact):
    registry, first = rotation(node(1, "old", contact), node(2, "new", "2026-11-28"))
    assert first.nodes["north"].node == 2 and first.seen == {"north": 2}
    assert registry.done == [("unregister", 1)], "and does not come back with the next look"


def test_a_key_that_was_replaced_does_not_come_back_to_an_empty_superlink_while_the_new_one_is_there():
    registry, first = rotation(node(2, "new", "2026-11-28"))
    assert registry.done == [] and first.seen == {"north": 2}


def test_of_three_keys_those_before_the_newest_that_was_online_are_taken_back():
    registry = Registry(node(1, "a", "2026-11-01"), node(2, "b", "2026-11-02"), node(3, "c"), node(4, "d", "2026"))
    couriers = [courier("north", "a", 1, superseded=True), courier("north", "b", 2, superseded=True)]
    done = reconcile(registry, [*couriers, courier("north", "c", 4), courier("south", "d", 3)])
    assert registry.done == [("unregister", 1)] and done.seen == {"north": 2}
    assert done.nodes["north"].node == 2


def test_a_hospital_that_was_never_there_is_asked_by_its_newest_key():
    registry, first = rotation(node(1, "old"), node(2, "new"))
    assert (first.nodes["north"].node, first.nodes["north"].status) == (2, "registered")
    assert registry.done == []


def test_a_key_that_the_superlink_refuses_does_not_keep_the_others_waiting():
    registry = Registry(gone=("A",))
    done = reconcile(registry, [courier("north", "A"), courier("south", "B", 2)])
    assert done.refused == ("north",) and set(done.nodes) == {"south"}
