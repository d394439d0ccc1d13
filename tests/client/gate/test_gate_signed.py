"""One changed, removed or reordered byte of the record shows; the site's signatures show a rewrite of all of it."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from fedloupe.signing import Signer
from fedloupe_client.audit_cli import examined
from fedloupe_client.cli import app
from fedloupe_client.gate import Audit, AuditDamaged, Gate, signed
from fedloupe_client.gate.chain import START
from fedloupe_client.gate.signed import check_signed, kept_key, sign_daily, sign_head, signed_heads

SITE = """site: north
source: {format: table, root: ., clinical: {file: a.csv}, features: a.csv}
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "site.yaml").write_text(SITE)
    audit = Audit(tmp_path)
    for number in range(4):
        audit.append(direction="in", kind="train", run="demo", round=number, size=100, digest="d" * 64)
    return tmp_path


def day(number):
    return lambda: datetime(2026, 11, number, 8, tzinfo=UTC)


def rewrite(home, change):
    """The whole chain made anew with another content, every hash and the head right."""
    path, previous, lines = home / "gate" / "audit.jsonl", START, []
    for line in path.read_bytes().splitlines():
        entry = {**change(json.loads(line)), "previous": previous}
        lines.append(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode())
        previous = hashlib.sha256(lines[-1]).hexdigest()
    path.write_bytes(b"\n".join(lines) + b"\n")
    path.with_suffix(".head").write_text(json.dumps({"sequence": len(lines) - 1, "sha256": previous}))


class TestEveryByte:
    def test_each_changed_byte_shows(self, home):
        path = home / "gate" / "audit.jsonl"
        content = path.read_bytes()
        for place in range(len(content)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert Audit(home).problems(), f"byte {place}"

    def test_each_removed_byte_shows(self, home):
        path = home / "gate" / "audit.jsonl"
        content = path.read_bytes()
        for place in range(len(content)):
            path.write_bytes(content[:place] + content[place + 1 :])
            assert Audit(home).problems(), f"byte {place}"

    def test_each_two_bytes_in_another_order_show(self, home):
        path = home / "gate" / "audit.jsonl"
        content = path.read_bytes()
        for place in range(len(content) - 1):
            one, two = content[place : place + 1], content[place + 1 : place + 2]
            if one != two:
                path.write_bytes(content[:place] + two + one + content[place + 2 :])
                assert Audit(home).problems(), f"byte {place}"

    def test_each_changed_byte_of_a_signed_head_shows(self, home):
        sign_head(home)
        path = home / "gate" / "audit-signed.jsonl"
        content = path.read_bytes()
        for place in range(len(content)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert not sound(home, content), f"byte {place}"


def sound(home, content):
    """Whether all that was signed is still said to be; a newline that became another byte takes the line away."""
    try:
        return not check_signed(home) and len(signed_heads(home)) == content.count(b"\n")
    except AuditDamaged:
        return False


class TestSignedHeads:
    def test_the_first_passage_of_a_day_signs_what_was_before(self, home):
        assert sign_daily(home, day(27)).sequence == 3
        assert sign_daily(home, day(27)) is None
        Audit(home).append(direction="in", kind="hello")
        assert sign_daily(home, day(28)).sequence == 4
        assert [signed.time[:10] for signed in signed_heads(home)] == ["2026-11-27", "2026-11-28"]
        assert check_signed(home) == []

    def test_the_gate_does_it(self, home):
        with pytest.raises(Exception, match="FL-601"):
            Gate(home, "north").unseal(b"anything")
        assert [signed.sequence for signed in signed_heads(home)] == [3]

    def test_a_chain_rewritten_as_a_whole_shows(self, home):
        sign_head(home)
        rewrite(home, lambda entry: {**entry, "bytes": 1})
        assert Audit(home).problems() == []  # its hashes meet: without signatures nobody would know
        assert [problem.line for problem in check_signed(home)] == [4]

    def test_a_rewriting_that_changes_nothing_is_none(self, home):
        sign_head(home)
        rewrite(home, lambda entry: entry)
        assert check_signed(home) == []

    def test_a_head_signed_with_another_key_shows(self, home):
        sign_head(home)
        key = home / "gate" / "site.key"
        key.unlink()
        Signer.make(key)
        assert [problem.what for problem in check_signed(home)] == ["a head signed with another key than the site's"]

    def test_the_sites_earlier_keys_count(self, home):
        sign_head(home)
        key = home / "gate" / "site.key"
        for _ in range(2):
            kept_key(home).write_text(Signer.load(key).public + "\n")
            key.unlink()
            Signer.make(key)
            sign_head(home)
        assert sorted(path.name for path in key.parent.glob("*.pub")) == ["site.key.1.pub", "site.key.2.pub"]
        assert len({signed.public for signed in signed_heads(home)}) == 3
        assert check_signed(home) == []

    def test_new_keys_that_wait_for_their_kit_are_not_looked_at(self, home):
        sign_head(home)
        (home / "gate" / "site.key.new").touch()  # a crash left it empty
        assert check_signed(home) == []

    def test_a_head_that_is_signed_while_they_are_checked_is_no_problem(self, home, monkeypatch):
        sign_head(home)
        real = signed._own_keys

        def meanwhile(home):
            Audit(home).append(direction="in", kind="train", run="demo", round=4, size=100, digest="d" * 64)
            sign_head(home)
            return real(home)

        monkeypatch.setattr(signed, "_own_keys", meanwhile)
        assert (check_signed(home), len(signed_heads(home))) == ([], 2)

    def test_a_damaged_chain_is_not_signed(self, home):
        path = home / "gate" / "audit.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"bytes":100', b'"bytes":101', 1))
        with pytest.raises(AuditDamaged):
            sign_head(home)
        assert signed_heads(home) == []

    @pytest.mark.parametrize("how", ["rewritten", "cut", "removed"])
    def test_a_chain_that_lost_its_last_signed_head_is_not_signed(self, home, how):
        sign_daily(home, day(26))
        chain = home / "gate" / "audit.jsonl"
        if how == "cut":
            chain.write_bytes(b"".join(chain.read_bytes().splitlines(keepends=True)[:2]))
        rewrite(home, lambda entry: {**entry, "bytes": 1} if how == "rewritten" else entry)
        if how == "removed":
            chain.unlink()
            chain.with_suffix(".head").unlink()
        assert Audit(home).problems() == []
        for act in (lambda: sign_head(home), lambda: sign_daily(home), lambda: Gate(home, "north").unseal(b"anything")):
            with pytest.raises(AuditDamaged, match=r"FL-517.*not the one that was signed on 2026-11-26"):
                act()
        assert len(signed_heads(home)) == 1 and len(check_signed(home)) == 1

    def test_a_chain_that_grew_since_its_last_signed_head_is_signed(self, home):
        sign_head(home)
        Audit(home).append(direction="in", kind="hello")
        (home / "gate" / "audit.jsonl").open("ab").write(b'{"torn')
        assert sign_head(home).sequence == 4

    def test_a_signature_cut_off_by_a_crash_is_none(self, home):
        sign_head(home)
        path = home / "gate" / "audit-signed.jsonl"
        path.write_bytes(path.read_bytes() + b'{"time": "2026')
        assert len(signed_heads(home)) == 1 and check_signed(home) == []
        sign_head(home)
        assert len(signed_heads(home)) == 2 and check_signed(home) == []

    def test_nothing_is_signed_where_nothing_passed(self, tmp_path):
        assert sign_head(tmp_path) is None


class TestCommands:
    def run(self, *words):
        return CliRunner().invoke(app, ["audit", *map(str, words)])

    def test_verify_says_what_it_checked(self, home):
        sign_head(home)
        done = self.run("verify", home)
        assert done.exit_code == 0 and "4 lines, their hashes meet; 1 signed heads" in done.output

    def test_verify_names_the_line_and_exits_with_one(self, home):
        path = home / "gate" / "audit.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"round":1', b'"round":9', 1))
        done = self.run("verify", home)
        assert done.exit_code == 1 and "line 2" in done.output

    def test_verify_of_an_unreadable_signature_is_an_error_with_a_code(self, home):
        sign_head(home)
        (home / "gate" / "audit-signed.jsonl").write_text("[]\n")
        assert self.run("verify", home).exit_code == 1

    def test_a_copy_has_chain_and_signatures_and_names_no_person(self, home, tmp_path):
        target = tmp_path / "copy.json"
        assert self.run("export", home, target).exit_code == 0
        content = json.loads(target.read_text())
        assert len(content["chain"]) == 4 and len(content["signed_heads"]) == 1 and content["problems"] == []
        assert str(home) not in target.read_text()

    def test_a_copy_is_never_written_over_a_file(self, home, tmp_path):
        (tmp_path / "copy.json").write_text("mine")
        assert self.run("export", home, tmp_path / "copy.json").exit_code == 1
        assert (tmp_path / "copy.json").read_text() == "mine"

    def test_show_lists_the_latest(self, home):
        done = self.run("show", home, "--last", "2", "--json")
        assert [line["sequence"] for line in json.loads(done.output)] == [2, 3]

    def test_sign_signs_now(self, home):
        assert self.run("sign", home).exit_code == 0
        assert len(signed_heads(home)) == 1

    def test_what_is_examined_is_counted(self, home):
        assert examined(home)["lines"] == 4
