"""What the courier carries, and what it keeps to itself."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedloupe_client.courier.app import ARRAY, RECORD, NotOneMessage, app, carry, pack, unpack
from fedloupe_client.site.server import desk_of, serve


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def message(content):
    return Message(content, 7, "query.ask", ttl=30.0)


def context(**node_config):
    return Context(run_id=1, node_id=7, node_config=node_config, state=RecordDict(), run_config={})


class TestRecords:
    @pytest.mark.parametrize("blob", [b"", b"x", bytes(range(256)) * 1000])
    def test_bytes_come_back_as_they_were(self, blob):
        assert unpack(pack(blob)) == blob

    def test_a_message_is_one_array_however_long(self):
        record = pack(bytes(10**6)).array_records[RECORD]
        assert [(name, array.dtype, array.shape) for name, array in record.items()] == [(ARRAY, "uint8", (10**6,))]

    @pytest.mark.parametrize(
        "content",
        [
            RecordDict(),
            RecordDict({"other": ArrayRecord({ARRAY: Array(np.zeros(3, np.uint8))})}),
            RecordDict({RECORD: ArrayRecord({"weights": Array(np.zeros(3, np.uint8))})}),
            RecordDict({RECORD: ArrayRecord({ARRAY: Array(np.zeros(3, np.float32))})}),
            RecordDict({RECORD: ArrayRecord({ARRAY: Array(np.zeros((3, 3), np.uint8))})}),
            RecordDict({**pack(b"x"), "config": ConfigRecord({"path": "/etc"})}),
            RecordDict({**pack(b"x"), "metrics": MetricRecord({"auc": 0.5})}),
        ],
    )
    def test_anything_else_is_refused(self, content):
        with pytest.raises(NotOneMessage, match="FL-625"):
            unpack(content)


class TestCarrying:
    def test_the_sites_answer_goes_back(self):
        reply = carry(message(pack(b"abc")), lambda blob, timeout_s: blob[::-1])
        assert unpack(reply.content) == b"cba"

    def test_the_site_gets_the_messages_time_to_live(self):
        seen = []
        carry(message(pack(b"")), lambda blob, timeout_s: seen.append(timeout_s) or blob)
        assert seen == [30.0]

    def test_the_text_of_an_exception_stays_at_the_hospital(self):
        def send(blob, timeout_s):
            raise RuntimeError("patient 4711 in /data/secret")

        reply = carry(message(pack(b"")), send)
        assert (reply.error.code, reply.error.reason) == (100, "FL-627 the courier failed")

    def test_a_strange_record_is_answered_by_its_code(self):
        assert carry(message(RecordDict()), lambda blob, _: blob).error.reason == "FL-625 not a FedLoupe message record"


class TestTheClientApp:
    def test_it_reaches_the_socket_that_the_node_config_names(self):
        with tempfile.TemporaryDirectory(prefix="fl-") as folder:
            server = serve(desk_of(lambda blob: blob.upper()), Path(folder) / "s")
            reply = app(message(pack(b"abc")), context(**{"site-socket": f"{folder}/s"}))
            server.stop(0)
        assert unpack(reply.content) == b"ABC"

    def test_a_dead_site_is_an_error_code_without_its_path(self):
        reply = app(message(pack(b"abc")), context(**{"site-socket": "/nowhere/secret.sock"}))
        assert reply.error.reason == "FL-620 the site process does not answer"

    def test_a_missing_node_config_is_an_error_code(self):
        reply = app(message(pack(b"abc")), context())
        assert reply.error.reason == "FL-626 the courier does not know the site's socket"


class TestTheWall:
    def loaded(self, module):
        program = f"import sys, {module}; print(*sorted(sys.modules))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        return set(done.stdout.split())

    def test_the_courier_loads_neither_pytorch_nor_data(self):
        loaded = self.loaded("fedloupe_client.courier.app")
        assert not loaded & {
            "torch",
            "SimpleITK",
            "pydicom",
            "pandas",
            "fedloupe_client.ingest",
            "fedloupe_client.gate",
        }
        assert "flwr" in loaded

    @pytest.mark.parametrize("module", ["fedloupe_client.site.server", "fedloupe_client.gate"])
    def test_the_side_with_the_data_loads_no_flower(self, module):
        assert "flwr" not in self.loaded(module)

    def test_no_room_of_the_client_but_the_courier_names_flower(self):
        import fedloupe_client

        root = Path(fedloupe_client.__file__).parent
        naming = {
            path.relative_to(root).parts[0]
            for path in root.rglob("*.py")
            if any(line.lstrip().startswith(("import flwr", "from flwr")) for line in path.read_text().splitlines())
        }
        assert naming == {"courier"}
