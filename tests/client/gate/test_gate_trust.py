"""Which coordinators a site listens to: recorded by name, fail-closed, known to the audit chain before they count."""

from __future__ import annotations

import hashlib
import json

import pytest

from fedloupe_client.gate import CoordinatorsDamaged, verify
from fedloupe_client.gate.errors import AuditDamaged, GateRefused, NothingOfThatName
from fedloupe_client.gate.trust import distrust, trust, trusted

KEY, OTHER = "ab" * 32, "cd" * 32


def chain(home):
    return [json.loads(line) for line in (home / "gate" / "audit.jsonl").read_text().splitlines()]


class TestTrust:
    def test_nobody_is_trusted_at_first(self, tmp_path):
        assert trusted(tmp_path) == {}

    def test_is_recorded_with_name_and_by_whom(self, tmp_path):
        trust(tmp_path, "Coordinating Hospital", KEY, by="Dr Ito")
        trust(tmp_path, "Another", OTHER, by="Dr Roy")
        found = trusted(tmp_path)
        assert {key: (one.name, one.by) for key, one in found.items()} == {
            KEY: ("Coordinating Hospital", "Dr Ito"),
            OTHER: ("Another", "Dr Roy"),
        }
        assert (tmp_path / "gate" / "coordinators").stat().st_mode & 0o777 == 0o700

    def test_the_chain_knows_it_by_its_digest(self, tmp_path):
        trust(tmp_path, "Coordinating Hospital", KEY, by="Dr Ito")
        (line,) = chain(tmp_path)
        data = (tmp_path / "gate" / "coordinators" / f"{KEY}.json").read_bytes()
        assert (line["kind"], line["sha256"]) == ("trust", hashlib.sha256(data).hexdigest())
        assert verify(tmp_path) == []

    def test_said_again_changes_nothing(self, tmp_path):
        first = trust(tmp_path, "Coordinating Hospital", KEY, by="Dr Ito")
        assert trust(tmp_path, "Coordinating Hospital", KEY, by="Dr Ito") == first
        assert len(chain(tmp_path)) == 1

    def test_one_that_is_withdrawn_while_they_are_read_is_none(self, tmp_path):
        trust(tmp_path, "Another", OTHER, by="Dr Ito")
        (tmp_path / "gate" / "coordinators" / f"{KEY}.json").symlink_to("gone")  # listed, and gone when it is opened
        assert set(trusted(tmp_path)) == {OTHER}

    def test_without_a_chain_there_is_none(self, tmp_path):
        trust(tmp_path, "Another", OTHER, by="Dr Ito")
        path = tmp_path / "gate" / "audit.jsonl"
        path.write_text(path.read_text().replace("trust", "trusd"))
        with pytest.raises(AuditDamaged):
            trust(tmp_path, "Coordinating Hospital", KEY, by="Dr Ito")
        assert set(trusted(tmp_path)) == {OTHER}

    @pytest.mark.parametrize(
        ("name", "key", "by"), [("", KEY, "x"), ("x", "ab", "x"), ("x", "../" + KEY[3:], "x"), ("x", KEY, "a\nb")]
    )
    def test_values_that_make_no_record_are_refused(self, tmp_path, name, key, by):
        with pytest.raises(CoordinatorsDamaged):
            trust(tmp_path, name, key, by=by)
        assert not (tmp_path / "gate" / "audit.jsonl").exists()

    def test_taken_back_it_is_gone_and_the_chain_says_so(self, tmp_path):
        trust(tmp_path, "Coordinating Hospital", KEY, by="Dr Ito")
        distrust(tmp_path, KEY, by="Dr Ito")
        assert trusted(tmp_path) == {}
        assert [line["kind"] for line in chain(tmp_path)] == ["trust", "distrust"]

    @pytest.mark.parametrize("key", [KEY, "", "../audit", "x" * 64])
    def test_what_is_not_there_cannot_be_taken_back(self, tmp_path, key):
        with pytest.raises(NothingOfThatName, match="FL-534"):
            distrust(tmp_path, key, by="Dr Ito")


class TestDamage:
    @pytest.fixture
    def record(self, tmp_path):
        trust(tmp_path, "Another", OTHER, by="Dr Ito")
        trust(tmp_path, "Coordinating Hospital", KEY, by="Dr Ito")
        return tmp_path / "gate" / "coordinators" / f"{KEY}.json"

    @pytest.mark.parametrize("text", ["", "{}", "null", '{"key": 1}', "[" * 5000, " " * 5000])
    def test_one_damaged_file_and_nobody_is_trusted(self, tmp_path, record, text):
        record.write_text(text)
        with pytest.raises(CoordinatorsDamaged, match="FL-540") as refused:
            trusted(tmp_path)
        assert isinstance(refused.value, GateRefused)

    def test_a_record_under_another_keys_name_is_damage(self, tmp_path, record):
        record.rename(record.with_name(f"{'0' * 64}.json"))
        with pytest.raises(CoordinatorsDamaged, match="another key"):
            trusted(tmp_path)

    @pytest.mark.parametrize("name", [f"{KEY}.json.bak", "notes.txt", "folder"])
    def test_anything_else_in_the_folder_is_damage(self, tmp_path, record, name):
        record.with_name(name).mkdir() if name == "folder" else record.with_name(name).write_bytes(record.read_bytes())
        with pytest.raises(CoordinatorsDamaged):
            trusted(tmp_path)

    def test_a_part_that_a_crash_left_is_none(self, tmp_path, record):
        record.with_name(f".{record.name}.123.part").write_text("{")
        assert set(trusted(tmp_path)) == {KEY, OTHER}

    def test_an_unknown_field_is_damage(self, tmp_path, record):
        record.write_text(json.dumps({**json.loads(record.read_text()), "also": "this"}))
        with pytest.raises(CoordinatorsDamaged):
            trusted(tmp_path)
