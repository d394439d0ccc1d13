"""What a real SuperLink says of couriers' keys that come and go."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from federations import APP, small_study
from fedloupe.enrolment import openssh
from fedloupe_server.hub.control import Control
from fedloupe_server.hub.coordinator import start_coordinator
from fedloupe_server.hub.flower import FlowerRefused
from fedloupe_server.hub.processes import Processes
from fedloupe_server.hub.register import reconcile
from fedloupe_server.provision import Courier

pytestmark = pytest.mark.deployed


def a_key():
    return openssh(ec.generate_private_key(ec.SECP384R1()).public_key())


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    work = tmp_path_factory.mktemp("superlink")
    with Processes(work / "logs", print) as processes:
        coordinator = start_coordinator(work / "work", processes, study=small_study(), app=APP)
        control = Control(coordinator.authority, coordinator.flower.port)
        yield control
        control.close()


def test_a_key_that_was_taken_back_is_no_longer_there(control):
    node = control.register(a_key(), "north")
    assert node in {one.id for one in control.nodes()}
    control.unregister(node)
    assert node not in {one.id for one in control.nodes()}


def test_a_hospital_that_left_does_not_keep_the_others_from_being_looked_after(control):
    north, south = Courier("north", a_key(), 1, superseded=False), Courier("south", a_key(), 2, superseded=False)
    assert set(reconcile(control, [north, south]).nodes) == {"north", "south"}
    for _ in range(2):
        assert set(reconcile(control, [south]).nodes) == {"south"}


def test_a_key_that_was_taken_back_is_never_registered_again(control):
    """So a hospital whose certificate ended needs new keys."""
    key = a_key()
    control.unregister(control.register(key, "north"))
    with pytest.raises(FlowerRefused, match="412"):
        control.register(key, "north")
