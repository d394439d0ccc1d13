"""Generating a whole synthetic cohort: in parallel, resumable, and never over something else."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from dataclasses import replace

import pytest

from fedloupe_server.simulation.cohort import (
    CohortFolderTaken,
    CohortSpec,
    CohortUnwritable,
    SiteSpec,
    UnknownCohortSite,
    generate_cohort,
)

COARSE = {"t2_mm": (4.0, 8.0), "functional_mm": (4.0, 8.0)}
TINY = CohortSpec(
    seed=2,
    sites=(
        SiteSpec("alpha", "train", 6, 0.4, "nifti", **COARSE),
        SiteSpec("beta", "validate", 3, 0.4, "dicom-rtstruct", **COARSE),
    ),
)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole") / "cohort"
    generate_cohort(root, TINY, workers=1)
    return root


class TestWhole:
    def test_two_processes_write_the_same_bytes_as_one(self, whole, tmp_path):
        generate_cohort(tmp_path / "cohort", TINY, workers=2)
        assert digests(tmp_path / "cohort") == digests(whole)

    def test_the_truth_stands_beside_the_sites(self, whole):
        with (whole / "truth.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["site"] for row in rows] == ["alpha"] * 6 + ["beta"] * 3
        assert {row["synthetic"] for row in rows} == {"yes"}
        assert {row["polarity"] for row in rows} <= {"1.000000", "-1.000000"}

    def test_readme_and_manifest_say_synthetic(self, whole):
        assert (whole / "README.txt").read_text().startswith("SYNTHETIC")
        assert json.loads((whole / "cohort.json").read_text())["synthetic"] is True

    def test_progress_starts_at_none_and_ends_at_all_for_each_site(self, tmp_path):
        seen = []
        generate_cohort(tmp_path, TINY, workers=1, progress=lambda *step: seen.append(step))
        assert seen[:2] == [("alpha", 0, 6), ("beta", 0, 3)]
        assert ("alpha", 6, 6) in seen
        assert ("beta", 3, 3) in seen

    def test_one_site_alone_is_the_same_site(self, whole, tmp_path):
        generate_cohort(tmp_path, TINY, site="beta", workers=1)
        assert digests(tmp_path / "beta") == digests(whole / "beta")
        assert not (tmp_path / "alpha").exists()


class TestAgain:
    def test_a_finished_cohort_is_kept_untouched(self, tmp_path):
        generate_cohort(tmp_path, TINY, workers=1)
        path = tmp_path / "alpha" / "site.yaml"
        before = path.stat().st_mtime_ns
        seen = []
        generate_cohort(tmp_path, TINY, workers=1, progress=lambda *step: seen.append(step))
        assert path.stat().st_mtime_ns == before
        assert seen == [("alpha", 6, 6), ("beta", 3, 3)]

    def test_an_interrupted_one_is_finished_by_running_it_again(self, whole, tmp_path):
        class Killed(Exception):
            pass

        def kill(site, done, total):
            if done:
                raise Killed

        with pytest.raises(Killed):
            generate_cohort(tmp_path, TINY, workers=1, progress=kill)
        assert not (tmp_path / "cohort.json").exists()
        generate_cohort(tmp_path, TINY, workers=1)
        assert digests(tmp_path) == digests(whole)


class TestRefusals:
    def test_a_folder_with_other_files_is_left_alone(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("mine")
        with pytest.raises(CohortFolderTaken, match="not empty"):
            generate_cohort(tmp_path, TINY, workers=1)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_another_cohort_is_not_mixed_in(self, whole):
        before = digests(whole)
        with pytest.raises(CohortFolderTaken, match="another synthetic cohort"):
            generate_cohort(whole, replace(TINY, seed=3), workers=1)
        assert digests(whole) == before

    def test_an_unknown_site_is_refused_before_anything_is_written(self, tmp_path):
        with pytest.raises(UnknownCohortSite):
            generate_cohort(tmp_path / "new", TINY, site="gamma", workers=1)
        assert not (tmp_path / "new").exists()

    def test_a_path_that_cannot_be_a_folder_is_one_clear_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CohortUnwritable, match="choose a folder"):
            generate_cohort(tmp_path / "file" / "cohort", TINY, workers=1)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_without_permission_is_one_clear_error(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(CohortUnwritable, match="Permission denied"):
            generate_cohort(tmp_path / "cohort", TINY, workers=1)
        tmp_path.chmod(0o700)
