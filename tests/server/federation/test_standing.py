"""Whether a run is complete is read from its folder: hospitals that answered everything are not asked again."""

from __future__ import annotations

import pytest

from fedloupe_server.evidence.report import ReportUnwritable
from fedloupe_server.federation import run_study
from fedloupe_server.federation.journal import write_atomic
from fedloupe_server.hub import standing
from fedloupe_server.hub.app import Unforeseen
from fedloupe_server.hub.standing import is_complete, steps


@pytest.fixture
def finished(study, hospitals, run_dir):
    """A run whose process was killed before it wrote the report."""
    run_study(study, hospitals, run_dir)
    return run_dir


class TestComplete:
    def test_a_run_is_once_its_results_are_there(self, study, hospitals, stopped, run_dir):
        def kill(request):
            if request.kind == "evaluate":
                raise stopped
            return ...

        hospitals.hook = kill
        with pytest.raises(stopped):
            run_study(study, hospitals, run_dir)
        assert not is_complete(study, run_dir)
        hospitals.hook = lambda request: ...
        run_study(study, hospitals, run_dir)
        assert is_complete(study, run_dir)

    def test_what_another_study_left_says_nothing(self, finished, make_study):
        assert not is_complete(make_study(seed=7), finished)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"fingerprint": 1}'])
    def test_a_damaged_end_is_none(self, study, tmp_path, content):
        assert not is_complete(study, tmp_path)
        (tmp_path / "results.json").write_bytes(content)
        assert not is_complete(study, tmp_path)

    def test_a_drawing_study_is_once_its_card_is_there(self, make_study, run_dir):
        drawing = make_study(
            sequences=[{"name": "t2w"}],
            radiomics={"source": "none"},
            model={"image": True},
            segmentation={"field_mm": 16, "channels": [2, 4]},
            imaging={"spacing_mm": 1.0},
        )
        card = f'{{"fingerprint": "{drawing.fingerprint}"}}'.encode()
        write_atomic(run_dir / "results.json", card)
        assert not is_complete(drawing, run_dir)
        write_atomic(run_dir / "drawing" / "drawing.json", card)
        assert is_complete(drawing, run_dir)


class TestSteps:
    def test_a_start_alone_is_none_and_each_round_is_one(self, study, hospitals, stopped, run_dir):
        counted = []

        def look(request):
            counted.append((request.kind, steps(run_dir)))
            return ...

        hospitals.hook = look
        run_study(study, hospitals, run_dir)
        assert counted[0] == ("hello", 0)
        rounds = sorted({count for kind, count in counted if kind == "train"})
        assert len(rounds) >= study.training.rounds and rounds[0] > 0

    def test_a_start_that_goes_no_further_than_the_one_before_is_none(self, study, hospitals, stopped, run_dir):
        def kill(request):
            if request.kind == "train":
                raise stopped
            return ...

        hospitals.hook, counted = kill, []
        for _ in range(3):
            with pytest.raises(stopped):
                run_study(study, hospitals, run_dir)
            counted.append(steps(run_dir))
        assert len(set(counted)) == 1


class TestReport:
    def test_one_that_is_missing_is_written_and_one_that_is_there_stays(self, study, finished):
        report = finished / "pack" / "report.html"
        assert not report.exists()
        assert is_complete(study, finished) and "<html" in report.read_text()
        report.write_text("mine")
        assert is_complete(study, finished) and report.read_text() == "mine"

    def test_its_error_is_told(self, study, finished):
        (finished / "pack").write_text("in the way")
        with pytest.raises(ReportUnwritable):
            is_complete(study, finished)

    def test_a_fault_of_the_page_is_told_as_unforeseen(self, study, finished, monkeypatch):
        def broken(*_):
            raise ZeroDivisionError("by zero")

        monkeypatch.setattr(standing, "write_pack", broken)
        with pytest.raises(Unforeseen, match="by zero"):
            is_complete(study, finished)
