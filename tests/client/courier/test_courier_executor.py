"""The executor's walls: the bundle's digest before all, and no word but a code and a title on failure."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.supercore.task_identity import TaskIdentity

from fedloupe_client.courier.app import courier, pack, unpack
from fedloupe_client.courier.executor import answer, steady
from fedloupe_client.site.server import SiteSilent


@pytest.fixture(autouse=True)
def identity():
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 5, 7


@pytest.fixture
def home(tmp_path):
    (tmp_path / "approved").write_text(hashlib.sha256(b"bundle").hexdigest() + "\n")
    return tmp_path


def message(content=None, kind="query.ask"):
    about = Metadata(
        run_id=5, message_id="m", src_node_id=1, dst_node_id=7, reply_to_message_id="", group_id="1",
        created_at=1.8e9, ttl=3600.0, message_type=kind,
    )  # fmt: skip
    return make_message(metadata=about, content=content or pack(b"question"))


def context():
    return Context(run_id=5, node_id=7, node_config={}, state=RecordDict(), run_config={}, series_id=1)


def site(blob, timeout_s):
    return b"answer to " + blob


run = courier(lambda _: site)


class TestAnswer:
    def test_an_approved_bundle_gets_the_sites_answer(self, home):
        assert unpack(answer(message(), context(), b"bundle", home, run).content) == b"answer to question"

    def test_another_bundle_is_refused_before_anything_of_the_message_is_read(self, home):
        asked = []
        reply = answer(message(), context(), b"other bundle", home, courier(lambda _: asked.append))
        assert (reply.error.code, reply.error.reason) == (100, "FL-628 app bundle not approved by this site")
        assert asked == []

    def test_a_kind_of_message_that_we_do_not_know_is_an_error_without_text(self, home):
        reply = answer(message(kind="train"), context(), b"bundle", home, run)
        assert reply.error.reason == "FL-627 the courier failed"

    def test_what_an_exception_says_stays_here(self, home):
        def broken(message, context):
            raise RuntimeError("/data/patient-4711/mri.nii")

        reply = answer(message(), context(), b"bundle", home, broken)
        assert reply.error.reason == "FL-627 the courier failed"

    def test_a_silent_site_is_named_by_its_code_only(self, home):
        def silent(blob, timeout_s):
            raise SiteSilent("unavailable", where="/run/fedloupe/site.sock", remedy="start it")

        reply = answer(message(), context(), b"bundle", home, courier(lambda _: silent))
        assert reply.error.reason == "FL-620 the site process does not answer"

    def test_a_record_of_another_shape_is_refused(self, home):
        other = RecordDict({"weights": ArrayRecord({"w": Array(np.zeros(3))})})
        reply = answer(message(other), context(), b"bundle", home, run)
        assert reply.error.reason == "FL-625 not a FedLoupe message record"


class TestSteadyReply:
    def test_the_same_answer_to_the_same_message_has_the_same_id(self):
        asked = message()
        first, second = (steady(Message(pack(b"a"), reply_to=asked), asked) for _ in range(2))
        assert first.object_id == second.object_id
        assert first.object_id != steady(Message(pack(b"b"), reply_to=asked), asked).object_id

    def test_it_lives_no_longer_than_the_message(self):
        asked = message()
        about = steady(Message(pack(b"a"), reply_to=asked), asked).metadata
        assert about.created_at + about.ttl == asked.metadata.created_at + asked.metadata.ttl
