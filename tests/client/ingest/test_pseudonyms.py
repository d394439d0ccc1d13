"""The site's secret: made once, whole or not at all, for its owner only."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat

import pytest

from fedloupe_client.ingest.identity.pseudonyms import KEY_BYTES, pseudonym, site_key
from fedloupe_client.ingest.problems import FileUnreadable


class TestSecret:
    def test_it_is_made_once_and_only_its_owner_may_read_it(self, tmp_path):
        key = site_key(tmp_path)
        assert len(key) == KEY_BYTES
        assert site_key(tmp_path) == key
        assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600
        assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]

    def test_a_process_killed_while_making_it_leaves_none(self, tmp_path, monkeypatch):
        def killed(*_args):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            site_key(tmp_path)
        assert not (tmp_path / "secret.key").exists()
        monkeypatch.undo()
        assert len(site_key(tmp_path)) == KEY_BYTES

    def test_the_first_of_two_processes_counts(self, tmp_path, monkeypatch):
        real = os.link

        def later(source, target):
            target.write_bytes(b"k" * KEY_BYTES)
            real(source, target)

        monkeypatch.setattr(os, "link", later)
        assert site_key(tmp_path) == b"k" * KEY_BYTES

    def test_a_file_system_without_links_gets_one_too(self, tmp_path, monkeypatch):
        def refused(*_args):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)
        assert site_key(tmp_path) == site_key(tmp_path)

    def test_a_damaged_one_is_never_replaced(self, tmp_path):
        (tmp_path / "secret.key").write_bytes(b"short")
        with pytest.raises(FileUnreadable, match="5 bytes"):
            site_key(tmp_path)
        assert (tmp_path / "secret.key").read_bytes() == b"short"


def test_a_pseudonym_is_the_hmac_of_kind_and_id():
    key = bytes(32)
    expected = hmac.new(key, b"case:P-0001", hashlib.sha256).hexdigest()[:16]
    assert pseudonym(key, "case", "P-0001") == expected
    assert pseudonym(key, "patient", "P-0001") != expected
