"""What is remembered of source files: for as long as nothing says that they changed, or might have."""

from __future__ import annotations

import os
import time

from ageing import age
from fedloupe_client.ingest.store.memory import FileMemory, stamp


class TestFileMemory:
    def test_it_forgets_what_changed_and_what_left(self, tmp_path):
        one, two = tmp_path / "one", tmp_path / "two"
        for path in (one, two):
            path.write_bytes(b"first")
        age(tmp_path)
        with FileMemory(tmp_path / "memory", "1") as memory:
            for path in (one, two):
                memory.learn("digest", path, stamp(path), "d")
            assert memory.recall("digest", one, stamp(one)) == "d"
            one.write_bytes(b"second")
            assert memory.recall("digest", one, stamp(one)) is None
            memory.keep_only([one])
            assert memory.recall("digest", two, stamp(two)) is None

    def test_a_file_that_was_young_when_it_was_read_is_not_learnt_later(self, tmp_path, monkeypatch):
        path = tmp_path / "one"
        path.write_bytes(b"first")
        with FileMemory(tmp_path / "memory", "1") as memory:
            seen, now = stamp(path), time.time_ns()
            monkeypatch.setattr(time, "time_ns", lambda: now + 3600 * 10**9)  # the ingest took an hour
            memory.learn("digest", path, seen, "d")
            assert memory.recall("digest", path, seen) is None

    def test_another_version_begins_anew(self, tmp_path):
        path = tmp_path / "one"
        path.write_bytes(b"first")
        age(tmp_path)
        for version, expected in (("1", None), ("1", "d"), ("2", None)):
            with FileMemory(tmp_path / "memory", version) as memory:
                assert memory.recall("digest", path, stamp(path)) == expected
                memory.learn("digest", path, stamp(path), "d")

    def test_a_name_that_is_no_unicode_is_remembered(self, tmp_path):
        path = tmp_path / os.fsdecode(b"M\xfcller")
        path.write_bytes(b"first")
        age(tmp_path)
        with FileMemory(tmp_path / "memory", "1") as memory:
            memory.learn("digest", path, stamp(path), "d")
            assert memory.recall("digest", path, stamp(path)) == "d"

    def test_only_its_owner_may_read_it(self, tmp_path):
        with FileMemory(tmp_path / "memory", "1"):
            assert (tmp_path / "memory").stat().st_mode & 0o777 == 0o600
