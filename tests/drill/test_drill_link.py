"""The drill's network does what it is told: packets come through, late, in part, or not at all."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time

import pytest
from tests.drill.link import Link, Namespace, possible

pytestmark = pytest.mark.skipif(not possible(), reason="no network namespaces or TUN devices for this user")
NAMES = itertools.count()


@pytest.fixture(scope="module")
def ends():
    """A UDP socket at each end of a link."""
    with Namespace() as first, Namespace() as second, Link(first, second, 1, seed=1) as link:
        with first.inside():
            near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            near.bind((link.near, 0))
        with second.inside():
            far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            far.bind((link.far, 5000))
        with near, far:
            yield link, near, far


@pytest.fixture
def send(ends):
    """Seconds that each of so many datagrams took, of those that arrived."""
    link, near, far = ends
    link.mend()

    def count(number, patience_s=10.0):
        began, took = {}, {}
        far.settimeout(patience_s)
        for name in (b"%d" % next(NAMES) for _ in range(number)):
            began[name], came = time.monotonic(), b""
            near.sendto(name, (link.far, 5000))
            with contextlib.suppress(TimeoutError):
                while came != name:  # a late one counts too; one of an earlier call does not
                    came = far.recv(10)
                    if came in began:
                        took[came] = time.monotonic() - began[came]
        return list(took.values())

    return link, count


def test_packets_come_through(send):
    _, count = send
    assert len(count(50)) == 50


def test_a_delay_is_of_each_packet(send):
    link, count = send
    link.delay_s = 0.1
    end = time.monotonic() + 60
    while True:
        times = count(5)
        assert len(times) == 5 and min(times) >= 0.1
        if max(times) < 0.2:
            break
        assert time.monotonic() < end, times


def test_a_loss_of_a_tenth_loses_a_tenth(send):
    link, count = send
    link.loss = 0.1
    assert 0.83 < len(count(400, patience_s=0.05)) / 400 < 0.97  # five standard errors


def test_a_cut_link_carries_nothing_and_a_mended_one_does(send):
    link, count = send
    link.cut = True
    assert count(3, patience_s=0.3) == []
    link.mend()
    assert len(count(3)) == 3


def test_nothing_is_left_in_the_machines_own_namespace(send):
    assert {name for _, name in socket.if_nameindex()}.isdisjoint({"h1", "wan"})
