"""A healthy and a sick site: the verdict, five kinds of trouble with five remedies, and a page that stays at home."""

from __future__ import annotations

import json
import stat

import pytest

from fedloupe_client.ingest.identity.leaks import leaks
from fedloupe_client.preflight.findings import SEVERITIES
from fedloupe_client.preflight.page import duration
from fedloupe_client.preflight.terminal import say_result

# number of the case: code, kind, status
TROUBLE = {
    1: ("FL-231", "degenerate", "broken"),
    2: ("FL-203", "permission", "broken"),
    3: ("FL-204", "corruption", "broken"),
    4: ("FL-216", "absence", "excluded"),
    5: ("FL-214", "mislabelled", "broken"),
    9: ("FL-302", "degenerate", "broken"),
}


def local(number: int) -> str:
    return f"PAT-7700{number:02d}"


class TestAHealthySite:
    def test_is_ready_with_nothing_to_fix(self, healthy):
        result = healthy.seen.result
        assert result.ready
        assert "FL-641" not in {f.code for f in result.findings}
        assert [f.what for f in result.findings if f.severity == "fix"] == []
        assert result.statuses == {"ready": 30, "excluded": 0, "broken": 0}
        assert (sum(result.patients.values()), result.events) == (30, 15)

    def test_knows_what_a_round_will_take(self, healthy):
        rehearsal = healthy.seen.result.rehearsal
        assert rehearsal is not None and rehearsal.measured
        assert rehearsal.patients == healthy.seen.result.patients["train"]
        assert 0 < rehearsal.seconds < 60
        assert 50e6 < rehearsal.peak_bytes < 8e9

    def test_says_beside_a_round_what_the_whole_study_will_take(self, healthy, capsys):
        rehearsal = healthy.seen.result.rehearsal
        said = f"the whole study about {duration(rehearsal.study_seconds)}"
        assert said in healthy.page.read_text()
        say_result(healthy.seen.result, healthy.page)
        assert said in " ".join(capsys.readouterr().out.split())

    def test_finds_the_signal_that_was_put_in_and_says_how_unsure_it_is(self, healthy):
        baseline = healthy.seen.result.baseline
        assert baseline is not None
        assert baseline.low < baseline.auc <= baseline.high
        assert baseline.auc > 0.9  # the tumours' brightness was set by the outcome
        assert baseline.patients == 30 - healthy.seen.result.patients["test"]

    def test_says_plainly_that_no_connection_was_given(self, healthy):
        assert healthy.seen.result.connection.state == "not checked: no connection given"

    def test_writes_nothing_into_the_gate(self, healthy):
        assert not (healthy.hospital.home / "gate").exists()

    def test_shows_every_case_in_three_planes(self, healthy):
        text = healthy.page.read_text()
        assert text.count("<img ") == text.count('loading="lazy"') == 90


class TestASickSite:
    def test_is_not_ready(self, sick):
        assert not sick.seen.result.ready

    @pytest.mark.parametrize("number", TROUBLE)
    def test_names_each_trouble_by_code_and_kind(self, sick, number):
        entry = next(e for e in sick.seen.result.cases if e.case == sick.case(local(number)))
        assert (entry.code, entry.kind, entry.status) == TROUBLE[number]

    def test_has_a_remedy_of_its_own_for_each_kind(self, sick):
        by_kind = {}
        for entry in sick.seen.result.cases:
            if entry.kind:
                by_kind.setdefault(entry.kind, set()).add(entry.remedy)
        assert set(by_kind) == {"permission", "absence", "corruption", "degenerate", "mislabelled"}
        assert len(set.union(*by_kind.values())) == sum(map(len, by_kind.values()))
        assert "do not delete" in next(iter(by_kind["permission"]))

    def test_finds_the_same_pixels_in_two_cases(self, sick):
        twins = next(f for f in sick.seen.result.findings if f.code == "FL-630")
        assert twins.severity == "fix"
        assert set(twins.cases) == {sick.case(local(6)), sick.case(local(7))}

    def test_warns_of_the_case_with_thick_slices_only(self, sick):
        apart = [e for e in sick.seen.result.cases if any("slice spacing" in w for w in e.warnings)]
        assert [e.case for e in apart] == [sick.case(local(8))]
        assert "t2w slice spacing is 8 mm; the site's median is 3 mm" in apart[0].warnings

    def test_warns_of_the_case_with_letters_in_its_picture_only(self, sick):
        found = next(f for f in sick.seen.result.findings if f.code == "FL-641")
        assert (found.severity, found.scope, found.kind) == ("warning", "case", "mislabelled")
        assert found.cases == (sick.case(local(20)),)
        entry = next(e for e in sick.seen.result.cases if e.case == sick.case(local(20)))
        assert any("text may be burned into t2w" in w for w in entry.warnings)
        assert not any(e.sequences["adc"].burned_in for e in sick.seen.result.cases if e.sequences)

    def test_warns_of_a_clinical_value_that_is_often_missing(self, sick):
        assert any(f.code == "FL-638" and "`age`" in f.what for f in sick.seen.result.findings)

    def test_puts_what_stops_the_site_first_and_the_worst_cases_on_top(self, sick):
        findings, cases = sick.seen.result.findings, sick.seen.result.cases
        assert findings[0].code == "FL-203"  # permission: nobody may delete anything over it
        places = [SEVERITIES.index(f.severity) for f in findings]
        assert places == sorted(places)
        assert [e.status for e in cases] == sorted((e.status for e in cases), key=["broken", "excluded", "ready"].index)
        first_ready = next(e for e in cases if e.status == "ready")
        assert first_ready.case in {sick.case(local(6)), sick.case(local(7))}

    def test_gives_the_exact_file_and_command_on_the_page(self, sick):
        text, home = sick.page.read_text(), sick.hospital.home
        assert f"namei -l {sick.hospital.path(local(2), 't2w')}" in text
        assert f"gzip -t -v {sick.hospital.path(local(3), 't2w')}" in text
        assert f"grep -n -F -- {local(5)} {home / 'data' / 'clinical.csv'}" in text
        assert f"ls -ld {sick.hospital.path(local(6), 'adc')}" in text  # same pixels as another case
        assert f"fedloupe-site ingest {home} study.yaml" in text

    def test_shows_what_image_a_case_that_was_left_out_still_has(self, sick):
        looks = sick.seen.looks
        assert len(looks[sick.case(local(1))].planes) == 3  # an empty mask, an image that can be read
        assert len(looks[sick.case(local(4))].planes) == 3
        assert sick.page.read_text().count("<img ") == 3 * sum(bool(look.planes) for look in looks.values())

    def test_rehearses_with_the_cases_that_are_left(self, sick):
        assert sick.seen.result.rehearsal is not None


class TestWhatMayLeaveTheScreen:
    def test_the_json_holds_no_identifier(self, sick):
        identifiers = [local(number) for number in range(30)] + [str(sick.hospital.home)]
        assert leaks(sick.page.with_name("check.json"), identifiers) == []
        assert leaks(sick.page, identifiers) != []  # the page does hold them, and says so

    def test_the_page_says_that_it_stays_and_only_its_owner_may_read_it(self, sick):
        assert "Stays at this hospital: contains local names" in sick.page.read_text()
        for path in (sick.page, sick.page.with_name("check.json")):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(sick.page.parent.stat().st_mode) == 0o700

    def test_the_json_is_the_result(self, sick):
        assert json.loads(sick.page.with_name("check.json").read_text()) == sick.seen.result.model_dump(mode="json")

    def test_a_local_name_cannot_become_markup(self, healthy, tmp_path):
        from datetime import UTC, datetime

        from fedloupe_client.preflight.page import render

        names = (healthy.hospital.home / "ingest-local.csv").read_text().replace(local(0), "<script>x</script>")
        (tmp_path / "ingest-local.csv").write_text(names)
        text = render(healthy.seen, tmp_path, tmp_path / "study.yaml", datetime(2026, 1, 1, tzinfo=UTC))
        assert "<script" not in text and "&lt;script&gt;" in text
