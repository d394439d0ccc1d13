"""The chain shows every alteration, and mends what a crash tore, saying so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

from fedloupe_client.gate import Audit, AuditDamaged, verify
from fedloupe_client.gate.chain import Chain, Head


@pytest.fixture
def folder(tmp_path):
    audit = Audit(tmp_path)
    for number in range(6):
        audit.append(direction="in", kind="train", run="demo", round=number, size=100, digest="d" * 64)
    return tmp_path / "gate"


def read(folder):
    return (folder / "audit.jsonl").read_bytes().splitlines(keepends=True)


def write(folder, lines):
    (folder / "audit.jsonl").write_bytes(b"".join(lines))


class TestVerify:
    def test_finds_nothing_in_an_untouched_chain(self, folder):
        assert verify(folder.parent) == []
        assert [json.loads(line)["sequence"] for line in read(folder)] == list(range(6))

    def test_finds_nothing_where_nothing_ever_passed(self, tmp_path):
        assert verify(tmp_path) == []

    def test_finds_nothing_where_the_first_line_comes_while_it_is_read(self, tmp_path, monkeypatch):
        real = Chain.head

        def head(chain):
            monkeypatch.setattr(Chain, "head", real)
            Audit(tmp_path).append(direction="in", kind="train", run="demo", round=1, size=100, digest="d" * 64)
            return real(chain)

        monkeypatch.setattr(Chain, "head", head)
        assert verify(tmp_path) == []
        assert len(read(tmp_path / "gate")) == 1

    @pytest.mark.parametrize("line", range(1, 7))
    def test_finds_an_altered_line(self, folder, line):
        lines = read(folder)
        lines[line - 1] = lines[line - 1].replace(b'"bytes":100', b'"bytes":101')
        write(folder, lines)
        assert [p.line for p in verify(folder.parent)] == [line if line < 6 else 7]

    @pytest.mark.parametrize("line", range(1, 7))
    def test_finds_a_dropped_line(self, folder, line):
        lines = read(folder)
        del lines[line - 1]
        write(folder, lines)
        assert verify(folder.parent)[0].line == line

    @pytest.mark.parametrize("line", range(1, 6))
    def test_finds_two_lines_in_another_order(self, folder, line):
        lines = read(folder)
        lines[line - 1], lines[line] = lines[line], lines[line - 1]
        write(folder, lines)
        assert verify(folder.parent)[0].line == line

    @pytest.mark.parametrize("keep", range(6))
    def test_finds_a_chain_cut_short(self, folder, keep):
        write(folder, read(folder)[:keep])
        (problem,) = verify(folder.parent)
        assert problem.line == keep + 1
        assert "does not end at entry 5" in problem.what

    def test_finds_a_line_renumbered_to_fill_a_gap(self, folder):
        lines = read(folder)
        del lines[2]
        lines = [
            json.dumps({**json.loads(x), "sequence": n}, sort_keys=True).encode() + b"\n" for n, x in enumerate(lines)
        ]
        write(folder, lines)
        assert verify(folder.parent)

    def test_finds_foreign_lines(self, folder):
        write(folder, [*read(folder)[:3], b"not json\n", *read(folder)[3:]])
        assert verify(folder.parent)[0].line == 4

    def test_finds_a_head_that_is_gone_or_unreadable(self, folder):
        (folder / "audit.head").write_text("{")
        assert verify(folder.parent)
        (folder / "audit.head").unlink()
        assert verify(folder.parent)

    def test_names_each_of_two_alterations(self, folder):
        lines = read(folder)
        for at in (1, 4):
            lines[at] = lines[at].replace(b"demo", b"DEMO")
        write(folder, lines)
        assert [p.line for p in verify(folder.parent)] == [2, 5]


class TestAppend:
    def test_refuses_to_go_on_after_a_cut(self, folder):
        write(folder, read(folder)[:4])
        with pytest.raises(AuditDamaged):
            Audit(folder.parent).append(direction="in", kind="hello")
        assert len(read(folder)) == 4

    def test_refuses_to_go_on_after_an_altered_last_line(self, folder):
        lines = read(folder)
        lines[-1] = lines[-1].replace(b"demo", b"DEMO")
        write(folder, lines)
        with pytest.raises(AuditDamaged):
            Audit(folder.parent).append(direction="in", kind="hello")

    def test_mends_a_line_torn_by_a_crash_and_says_so(self, folder):
        with (folder / "audit.jsonl").open("ab") as file:
            file.write(b'{"bytes":10')
        assert verify(folder.parent)[0].line == 7
        Audit(folder.parent).append(direction="in", kind="hello")
        torn, hello = (json.loads(line) for line in read(folder)[-2:])
        assert (torn["kind"], torn["direction"], torn["bytes"], torn["sequence"]) == ("torn", "local", 11, 6)
        assert (hello["kind"], hello["sequence"]) == ("hello", 7)
        assert verify(folder.parent) == []

    def test_mends_a_first_line_torn_by_a_crash(self, tmp_path):
        (tmp_path / "gate").mkdir()
        (tmp_path / "gate" / "audit.jsonl").write_bytes(b"{")
        Audit(tmp_path).append(direction="in", kind="hello")
        assert [json.loads(line)["kind"] for line in read(tmp_path / "gate")] == ["torn", "hello"]

    def test_does_not_mend_a_line_torn_by_hand(self, folder):
        content = (folder / "audit.jsonl").read_bytes()
        (folder / "audit.jsonl").write_bytes(content[:-20])
        with pytest.raises(AuditDamaged):
            Audit(folder.parent).append(direction="in", kind="hello")

    def test_goes_on_after_a_crash_between_the_line_and_the_head(self, folder):
        head = (folder / "audit.head").read_bytes()
        Audit(folder.parent).append(direction="in", kind="hello")
        (folder / "audit.head").write_bytes(head)
        assert verify(folder.parent) == []
        Audit(folder.parent).append(direction="out", kind="hello-reply")
        assert verify(folder.parent) == []

    def test_goes_on_after_two_crashes_between_a_line_and_the_head(self, folder, monkeypatch):
        """Each time the line is on disk and the head is not: the second may not leave the head two lines behind."""

        class Killed(BaseException):
            pass

        def crash_in(chain: Chain, head: Head) -> None:
            if head.sequence > known["sequence"]:  # not where an older end is caught up with
                raise Killed

            whole(chain, head)

        whole = Chain._write_head
        for _ in range(2):
            known = {"sequence": len(read(folder)) - 1}
            monkeypatch.setattr(Chain, "_write_head", crash_in)
            with pytest.raises(Killed):
                Audit(folder.parent).append(direction="in", kind="hello")
        monkeypatch.setattr(Chain, "_write_head", whole)
        assert verify(folder.parent) == []
        Audit(folder.parent).append(direction="out", kind="hello-reply")
        assert verify(folder.parent) == [] and len(read(folder)) == 9

    def test_by_many_threads_keeps_one_chain(self, folder):
        audit = Audit(folder.parent)
        threads = [
            threading.Thread(target=lambda: [audit.append(direction="in", kind="hello") for _ in range(5)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(read(folder)) == 26
        assert verify(folder.parent) == []

    def test_survives_being_killed_at_any_moment(self, tmp_path):
        code = (
            "import sys; from pathlib import Path; from fedloupe_client.gate.audit import Audit\n"
            "audit = Audit(Path(sys.argv[1]))\n"
            "while True: print(audit.append(direction='in', kind='hello').sequence, flush=True)"
        )
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(8)][-1]
        child.kill()
        told = max([told, *(int(x) for x in child.stdout.read().split("\n")[:-1])])
        child.wait()
        Audit(tmp_path).append(direction="in", kind="hello")
        assert verify(tmp_path) == []
        assert len(read(tmp_path / "gate")) >= told + 2

    def test_tells_the_clocks_time(self, tmp_path):
        noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
        assert (
            Audit(tmp_path, clock=lambda: noon).append(direction="in", kind="hello").time.startswith("2026-11-23T12:00")
        )

    def test_keeps_the_chain_from_other_users(self, folder):
        assert os.stat(folder / "audit.jsonl").st_mode & 0o077 == 0
        assert os.stat(folder).st_mode & 0o077 == 0
