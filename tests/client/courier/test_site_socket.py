"""The Unix socket between courier and site, with real gRPC."""

from __future__ import annotations

import os
import socket as sockets
import stat
import tempfile
import threading
import time
from pathlib import Path

import pytest

from fedloupe.messages import HelloRequest, Working, decode, encode
from fedloupe_client.site.server import (
    MessageTooLarge,
    SiteBroken,
    SiteSilent,
    SocketTaken,
    SocketUnusable,
    ask,
    desk_of,
    note,
    serve,
)


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        yield Path(folder) / "site.sock"


@pytest.fixture
def echo(path):
    server = serve(desk_of(lambda blob: b"<" + blob + b">"), path)
    yield server
    server.stop(0)


def listening():
    """Sockets of this process that take TCP connections."""
    mine = {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    tables = [Path(f"/proc/self/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    fields = [line.split() for lines in tables for line in lines]
    return {f"socket:[{one[9]}]" for one in fields if one[3] == "0A"} & mine  # TCP_LISTEN


class TestBytesPass:
    def test_the_answer_is_what_the_handler_returned(self, echo, path):
        assert ask(path, bytes(range(256)), 5.0) == b"<" + bytes(range(256)) + b">"

    def test_an_empty_message_passes(self, echo, path):
        assert ask(path, b"", 5.0) == b"<>"

    def test_a_message_above_grpcs_default_of_4_mib_passes(self, echo, path):
        blob = os.urandom(9 * 2**20)
        assert ask(path, blob, 20.0) == b"<" + blob + b">"

    def test_requests_run_one_at_a_time(self, path):
        running, most = [], []

        def handle(blob):
            running.append(blob)
            most.append(len(running))
            time.sleep(0.1)
            running.remove(blob)
            return blob

        server = serve(desk_of(handle), path)
        threads = [threading.Thread(target=ask, args=(path, bytes([i]), 10.0)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.stop(0)
        assert most == [1, 1, 1, 1]


class TestWhoMayKnock:
    def test_the_socket_belongs_to_its_owner_alone(self, echo, path):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_group_can_be_let_in(self, path):
        server = serve(desk_of(bytes), path, mode=0o660)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        server.stop(0)

    def test_no_tcp_port_is_opened(self, path):
        before = listening()
        server = serve(desk_of(bytes), path)
        assert listening() - before == set()
        with sockets.create_server(("127.0.0.1", 0)):
            assert len(listening() - before) == 1, "it would have been seen"
        server.stop(0)


class TestTheSocketFile:
    def test_a_dead_servers_file_is_replaced(self, path):
        with sockets.socket(sockets.AF_UNIX) as dead:
            dead.bind(str(path))
        server = serve(desk_of(bytes), path)
        assert ask(path, b"x", 5.0) == b"x"
        server.stop(0)

    def test_a_living_server_is_not_displaced(self, echo, path):
        with pytest.raises(SocketTaken, match="FL-621"):
            serve(desk_of(bytes), path)
        assert ask(path, b"x", 5.0) == b"<x>"

    def test_stopping_removes_it(self, path):
        serve(desk_of(bytes), path).stop(0)
        assert not path.exists()

    def test_a_file_that_is_no_socket_is_left_alone(self, path):
        path.write_text("precious")
        with pytest.raises(SocketUnusable, match="FL-622"):
            serve(desk_of(bytes), path)
        assert path.read_text() == "precious"

    def test_a_path_longer_than_the_kernel_allows_is_refused(self, path):
        with pytest.raises(SocketUnusable, match="107 bytes"):
            serve(desk_of(bytes), path.parent / ("x" * 120))

    def test_a_missing_folder_is_named(self, path):
        with pytest.raises(SocketUnusable, match="no such folder"):
            serve(desk_of(bytes), path.parent / "absent" / "site.sock")


class TestSilence:
    def test_nobody_there_is_a_silent_site(self, path):
        with pytest.raises(SiteSilent, match="FL-620"):
            ask(path, b"x", 5.0)

    def test_an_answer_that_comes_too_late_is_silence(self, path):
        server = serve(desk_of(lambda blob: time.sleep(1.0) or blob), path)
        with pytest.raises(SiteSilent, match="deadline"):
            ask(path, b"x", 0.2)
        server.stop(0)

    def test_a_handler_that_raises_gives_a_code_and_no_text(self, path):
        def handle(blob):
            raise ValueError("patient 4711 at /data/secret")

        server = serve(desk_of(handle), path)
        with pytest.raises(SiteBroken) as caught:
            ask(path, b"x", 5.0)
        server.stop(0)
        assert "4711" not in str(caught.value)
        assert "secret" not in str(caught.value)

    def test_a_message_over_the_limit_is_named(self, path, monkeypatch):
        monkeypatch.setattr("fedloupe_client.site.server._OPTIONS", [("grpc.max_receive_message_length", 1000)])
        server = serve(desk_of(bytes), path)
        with pytest.raises(MessageTooLarge, match="FL-624"):
            ask(path, bytes(2000), 5.0)
        server.stop(0)


class TestALongRequest:
    def test_the_caller_hears_that_it_is_worked_on_and_the_answer_waits_for_it(self, path):
        go, header = threading.Event(), {"version": "0", "fingerprint": "0" * 64, "run": "trial", "site": "north"}
        desk = desk_of(lambda blob: str(go.wait(60)).encode(), patience_s=0.05)
        server = serve(desk, path)
        request = encode(HelloRequest(**header))
        assert isinstance(decode(ask(path, request, 60.0)), Working)
        go.set()
        desk._patience_s = 30
        assert ask(path, request, 60.0) == b"True"
        server.stop(0)


class TestNotes:
    @pytest.fixture
    def noted(self, path):
        told = []
        server = serve(desk_of(bytes), path, noted=lambda *note: told.append(note))
        yield told
        server.stop(0)

    def test_a_refused_bundle_is_told(self, noted, path):
        note(path, "FL-628", "ab" * 32, 936)
        assert noted == [("FL-628", "ab" * 32, 936)]

    @pytest.mark.parametrize(
        "what", [("FL-62", "ab" * 32, 1), ("FL-628", "patient Novak", 1), ("FL-628", "ab" * 32, "many")]
    )
    def test_anything_else_is_not_taken(self, noted, path, what):
        with pytest.raises(SiteBroken):
            note(path, *what)
        assert noted == []
